//! Reads parts of messages that are no text, for every dialect, and notes what is left out.

use std::sync::Arc;

use serde_json::Value;

use crate::budget::{Body, Share};
use crate::chat::media::image::{Detail, Image, recognise};
use crate::chat::media::{Images, Media, MediaKind, Unfit};
use crate::chat::{LeftOut, Role, Standing, Turn};
use crate::error::Error;

/// Longest name of a format, such as `image/png`.
const LONGEST_FORMAT: usize = 40;

/// Most characters of a path that are kept. Blocks may be nested, and a path be many times longer than the
/// block.
const LONGEST_PLACE: usize = 200;

/// A type of part that is no text, as one dialect writes it.
#[derive(Clone, Copy)]
pub struct MediaType {
    /// The kind of its content.
    pub kind: MediaKind,
    /// See [`Media::refusal`].
    pub refusal: &'static str,
    /// Finds the data in the part.
    pub data: fn(&Value) -> Data<'_>,
}

/// Where the data of a part is.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// Behind a link, or in a data: URL.
    Url {
        /// The link.
        url: &'a str,
        /// OpenAI's word for how closely the model has to look at an image.
        detail: Option<&'a str>,
    },
    /// In the part itself.
    Base64 {
        /// The format as the client names it, such as `image/png`.
        format: Option<&'a str>,
        /// The encoded bytes.
        base64: &'a str,
        /// OpenAI's word for how closely the model has to look at an image.
        detail: Option<&'a str>,
    },
    /// It is not in the request.
    Elsewhere,
}

/// Reads the parts that are not text, and notes the places of those that are left out. Data is copied only
/// where images are passed on, and counts against the share of the body that holds it.
pub struct MediaReader<'a> {
    images: Images,
    share: &'a mut Share,
    left_out: Vec<LeftOut>,
    /// The number of entries of `left_out` that belong to messages which have been read completely.
    settled: usize,
}

impl MediaReader<'_> {
    /// Creates a reader for the messages of this body.
    pub fn new(images: Images, body: &mut Body) -> MediaReader<'_> {
        MediaReader { images, share: body.parts().1, left_out: Vec::new(), settled: 0 }
    }

    /// Notes that what is at `place` is left out.
    pub fn leave_out(&mut self, place: &str) {
        self.left_out.push(LeftOut { place: kept(place), standing: Standing::History });
    }

    /// True if something was left out of the message that is being read.
    pub fn has_left_out(&self) -> bool {
        self.left_out.len() > self.settled
    }

    /// Ends a message: what was left out of it belongs to the last of `turns`, if that is the user's, and else
    /// to the history.
    pub fn end_message(&mut self, turns: &[Turn]) {
        if turns.last().is_some_and(|turn| turn.is_of(Role::User)) {
            let standing = Standing::Turn(turns.len() - 1);
            self.left_out[self.settled..].iter_mut().for_each(|left| left.standing = standing);
        }
        self.settled = self.left_out.len();
    }

    /// Returns what was left out of `turns`, which the request's `field` holds.
    ///
    /// # Errors
    /// [`Error::Invalid`] if nothing else was there: there is nothing to answer.
    pub fn finish(self, field: &str, turns: &[Turn]) -> Result<Vec<LeftOut>, Error> {
        let is_instruction = |turn: &&Turn| turn.is_of(Role::System) || turn.is_of(Role::Developer);
        match self.left_out.first() {
            Some(first)
                if turns.iter().filter(|turn| !is_instruction(turn)).all(Turn::is_empty) =>
            {
                let first = &first.place;
                let message = format!(
                    "`{field}` holds nothing that can be answered here: `{first}` and whatever else \
                     it has cannot be read without a server of OpenAI's or Anthropic's. Send a text"
                );
                Err(Error::unsupported(first, message))
            }
            _ => Ok(self.left_out),
        }
    }

    /// Reads a part of the type `of`, which is at `place`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] or a 413 if there is no memory for its data.
    pub fn read(&mut self, of: &MediaType, place: &str, part: &Value) -> Result<Media, Error> {
        let data = split((of.data)(part));
        let (format, size) = match &data {
            Data::Url { .. } => (Some("a link".to_owned()), None),
            Data::Base64 { format, base64, .. } => {
                (format.and_then(format_name), Some(base64.len() / 4 * 3))
            }
            Data::Elsewhere => (None, None),
        };
        let image = match (of.kind, self.images) {
            (MediaKind::Audio | MediaKind::File, _) => Err(Unfit::NotAnImage),
            (MediaKind::Image, Images::Refuse) => Err(Unfit::Refused),
            (MediaKind::Image, Images::Pass) => self.image(&data)?,
        };
        let place = kept(place);
        Ok(Media { kind: of.kind, place, format, size, refusal: of.refusal, image })
    }

    /// Copies an image, so that it can be passed on, or returns why it cannot be.
    fn image(&mut self, data: &Data) -> Result<Result<Image, Unfit>, Error> {
        let (url, detail, size) = match *data {
            Data::Url { url, detail } => {
                self.share.grow(url.len(), None)?;
                (url.to_owned(), detail, None)
            }
            Data::Base64 { base64, detail, .. } => {
                let Some((format, size)) = recognise(base64) else {
                    return Ok(Err(Unfit::UnknownFormat));
                };
                self.share.grow(base64.len(), None)?;
                (format!("data:{format};base64,{base64}"), detail, size)
            }
            Data::Elsewhere => return Ok(Err(Unfit::Elsewhere)),
        };
        Ok(Ok(Image { url: Arc::new(url), detail: detail.and_then(Detail::parse), size }))
    }
}

/// Returns a path as it is kept: its beginning if it is longer than [`LONGEST_PLACE`].
fn kept(place: &str) -> String {
    match place.char_indices().nth(LONGEST_PLACE) {
        Some((end, _)) => format!("{}...", &place[..end]),
        None => place.to_owned(),
    }
}

/// Splits a data: URL. Anything else that is not a link of the web counts as data that is not in the request.
fn split(data: Data<'_>) -> Data<'_> {
    let Data::Url { url, detail } = data else { return data };
    let begins =
        |with: &str| url.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    if begins("https://") || begins("http://") {
        return data;
    }
    match url.split_once(',') {
        Some((head, base64)) if begins("data:") => {
            let format = head["data:".len()..].split(';').next();
            Data::Base64 { format, base64, detail }
        }
        _ => Data::Elsewhere,
    }
}

/// Returns the name of a format if it is well-formed, since it goes into the prompt.
fn format_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/.+-_".contains(c);
    let is_name = (1..=LONGEST_FORMAT).contains(&name.len()) && name.chars().all(allowed);
    is_name.then(|| name.to_ascii_lowercase())
}
