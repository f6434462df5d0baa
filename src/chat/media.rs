//! Decides what becomes of what is not text in a conversation: images, audio, files.
//!
//! - An image is passed on if the setting allows it, the model sees ([`vision`]) and it stands where
//!   OpenAI's API takes images: in a user's message or a tool's result.
//! - What is not passed on is an error in the newest question ([`newest_question`]),
//!   where whoever asks can still take it back. Anywhere else one line of text stands in its place:
//!   clients send old messages again with every request, and an error there would end the
//!   conversation for good.
//!
//! Logs and errors hold places and sizes, never data. A link is passed on as it is and never fetched.

pub mod image;
pub mod vision;

use clap::ValueEnum;

use crate::chat::{Role, Turn};
use crate::error::Error;
use image::Image;

/// The setting for images in messages. The documentation of its values is their help on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Images {
    /// One in the newest message is an error; older ones, and those that tools bring, become a line of
    /// text.
    #[default]
    Refuse,
    /// They are sent to models that are known to take images.
    Pass,
}

/// A kind of content that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A recording.
    Audio,
    /// A document of any format.
    File,
}

impl MediaKind {
    /// Returns the kind's name, for people and models to read.
    pub fn name(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Audio => "audio",
            MediaKind::File => "file",
        }
    }
}

/// A part of a message that is not text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Media {
    /// Its kind.
    pub kind: MediaKind,
    /// Its path in the request, such as `messages[2].content[1]`.
    pub place: String,
    /// Its format as the client names it, such as `image/png`; short, and not trusted.
    pub format: Option<String>,
    /// The size of its decoded data, in bytes; `None` if the request holds none.
    pub size: Option<usize>,
    /// Words by which the dialect's clients know why they are refused; may be empty.
    pub refusal: &'static str,
    /// The image to pass on, or the reason that it cannot be.
    pub image: Result<Image, Unfit>,
}

/// The reason that something cannot be passed on, whatever the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// The setting is [`Images::Refuse`].
    Refused,
    /// It is no image.
    NotAnImage,
    /// Its data is kept on a server of OpenAI's or Anthropic's, or is not there at all.
    Elsewhere,
    /// Its data is of no format that OpenAI's models take.
    UnknownFormat,
}

impl Media {
    /// Returns the line of text that stands in its place, with what is known of it.
    fn line(&self) -> String {
        let size = self.size.map(size_class);
        let known: Vec<String> = self.format.iter().cloned().chain(size).collect();
        let colon = if known.is_empty() { "" } else { ": " };
        format!("[{} left out{colon}{}]", self.kind.name(), known.join(", "))
    }

    /// Returns the error for it in the newest question to the model `slug`.
    fn refused(&self, slug: &str) -> Error {
        let (place, kind) = (&self.place, self.kind.name());
        let is_image = self.kind == MediaKind::Image;
        let why = match &self.image {
            _ if is_image && !vision::sees(slug) => {
                format!("the model `{slug}` is not known to take images")
            }
            Ok(_) | Err(Unfit::NotAnImage) => "LangFast is sent text only".to_owned(),
            Err(Unfit::Refused) => "LangFast is sent text only. To have images passed on, start \
                                    langfast2api with `--images pass`"
                .to_owned(),
            Err(Unfit::Elsewhere) => {
                "its data is not in the request: send it as a data: URL in base64, or a link"
                    .to_owned()
            }
            Err(Unfit::UnknownFormat) => {
                "it is no PNG, JPEG, GIF or WebP, the formats that OpenAI's models take".to_owned()
            }
        };
        let colon = if self.refusal.is_empty() { "" } else { ": " };
        let words = format!("`{place}`: {}{colon}this is of type {kind}, and {why}", self.refusal);
        Error::unsupported(place, words)
    }
}

/// Returns a size in words, roughly: enough to tell a screenshot from an icon.
fn size_class(bytes: usize) -> String {
    match bytes {
        0..1_000 => "under 1 KB".to_owned(),
        1_000..1_000_000 => format!("{} KB", bytes / 1_000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Returns the index of the newest question: the last message of the conversation, if it is the user's;
/// instructions and the beginning of an answer (prefill) may follow it. `None` if there is no question.
///
/// Only this one message counts: where a client keeps a refused message in the conversation, the next
/// one makes it an older one. And it is no question if tools were at work just before it: there agents
/// put what their tools have seen, and nobody can take it back. Codex did so in 2025 (`view_image`),
/// and some of Anthropic's clients do, beside the `tool_result` block.
pub fn newest_question(turns: &[Turn]) -> Option<usize> {
    let role = |turn: &Turn| match turn {
        Turn::Message(message) => Some(message.role),
        Turn::Calls { .. } | Turn::Result(_) => None,
    };
    let is_instruction = |turn: &Turn| matches!(role(turn), Some(Role::System | Role::Developer));
    let mut said = (0..turns.len()).rev().filter(|at| !is_instruction(&turns[*at])).peekable();
    said.next_if(|at| role(&turns[*at]) == Some(Role::Assistant));
    let newest = said.next().filter(|at| role(&turns[*at]) == Some(Role::User))?;
    let before = said.map(|at| role(&turns[at])).find(|role| *role != Some(Role::User));
    (before != Some(None)).then_some(newest)
}

/// Replaces what is not passed on to the model `slug` by lines of text, so that of what is not text only images
/// for the model stay in `turns`. Returns the places of what was left out.
///
/// # Errors
/// [`Error::Invalid`] for what cannot be passed on in the turn `question`, if there is one.
pub fn settle(
    turns: &mut [Turn],
    slug: &str,
    question: Option<usize>,
) -> Result<Vec<String>, Error> {
    let sees = vision::sees(slug);
    let mut left_out = Vec::new();
    for (at, turn) in turns.iter_mut().enumerate() {
        let (content, takes_images) = turn.content_mut();
        let is_passed = |media: &Media| sees && takes_images && media.image.is_ok();
        if question == Some(at) {
            if let Some(media) = content.media().find(|media| !is_passed(media)) {
                return Err(media.refused(slug));
            }
        }
        content.replace(|media| {
            (!is_passed(media)).then(|| {
                left_out.push(media.place.clone());
                media.line()
            })
        });
    }
    Ok(left_out)
}
