//! What a message says: mostly one text.

use std::borrow::Cow;

use super::media::Media;

/// The parts of a message, in the client's order. Two texts never stand side by side: they are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    parts: Vec<Part>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text, never empty.
    Text(String),
    /// An image, a recording or a file.
    Media(Media),
}

impl Content {
    /// Returns the parts; none if the message is empty.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Removes and returns the parts.
    pub fn take_parts(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    /// Returns the texts, joined.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.parts[..] {
            [] => Cow::Borrowed(""),
            [Part::Text(text)] => Cow::Borrowed(text),
            _ => self.texts().collect::<String>().into(),
        }
    }

    /// Returns the texts, joined, and drops all else.
    pub fn into_text(mut self) -> String {
        match &mut self.parts[..] {
            [Part::Text(text)] => std::mem::take(text),
            _ => self.texts().collect(),
        }
    }

    /// Returns each text.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Media(_) => None,
        })
    }

    /// Returns whatever is no text.
    pub fn media(&self) -> impl Iterator<Item = &Media> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Media(media) => Some(media),
        })
    }

    /// True if there is neither text nor anything else.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes of memory that its texts and images take.
    pub fn bytes(&self) -> usize {
        let images = self.media().filter_map(|media| media.image.as_ref().ok());
        let texts = self.texts().map(str::len).sum::<usize>();
        texts + images.map(|image| image.url.len()).sum::<usize>()
    }

    /// Appends a text.
    pub fn push_text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// Appends a part.
    pub fn push(&mut self, part: Part) {
        match part {
            Part::Text(text) if self.parts.is_empty() && !text.is_empty() => {
                self.parts.push(Part::Text(text));
            }
            Part::Text(text) => self.push_text(&text),
            Part::Media(media) => self.parts.push(Part::Media(media)),
        }
    }

    /// Appends another content.
    pub fn append(&mut self, other: Content) {
        other.parts.into_iter().for_each(|part| self.push(part));
    }

    /// Puts a text before everything else.
    pub fn prepend(&mut self, text: String) {
        let mut whole = Content::from(text);
        whole.append(std::mem::take(self));
        *self = whole;
    }

    /// Puts a line of text in the place of each part for which `line` writes one.
    pub fn replace(&mut self, mut line: impl FnMut(&Media) -> Option<String>) {
        let mut is_behind_line = false;
        for part in self.take_parts() {
            let written = match &part {
                Part::Media(media) => line(media),
                Part::Text(_) => None,
            };
            match (written, part) {
                (Some(line), _) => {
                    self.push_line_break();
                    self.push_text(&line);
                    is_behind_line = true;
                    continue;
                }
                (None, Part::Text(text)) => {
                    if is_behind_line && !text.starts_with('\n') {
                        self.push_text("\n");
                    }
                    self.push(Part::Text(text));
                }
                (None, media) => self.push(media),
            }
            is_behind_line = false;
        }
    }

    /// Ends a line that has begun.
    fn push_line_break(&mut self) {
        if let Some(Part::Text(text)) = self.parts.last_mut() {
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] };
        Content { parts }
    }
}

impl From<Part> for Content {
    fn from(part: Part) -> Content {
        let mut content = Content::default();
        content.push(part);
        content
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        text.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::media::{MediaKind, Unfit};

    fn image(place: &str) -> Part {
        Part::Media(Media {
            kind: MediaKind::Image,
            place: place.to_owned(),
            format: None,
            size: None,
            refusal: "",
            image: Err(Unfit::Refused),
        })
    }

    fn content(parts: &[Part]) -> Content {
        let mut content = Content::default();
        parts.iter().cloned().for_each(|part| content.push(part));
        content
    }

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn texts_side_by_side_are_one_and_empty_ones_none() {
        let mixed = content(&[text(""), text("a"), text("b"), image("i"), text(""), text("c")]);
        assert_eq!(mixed.parts(), [text("ab"), image("i"), text("c")]);
        assert_eq!((mixed.text().as_ref(), mixed.clone().into_text()), ("abc", "abc".to_owned()));
        assert_eq!((Content::from("").text().as_ref(), Content::from("").is_empty()), ("", true));
        let mut behind = mixed;
        behind.prepend("0".to_owned());
        assert_eq!(behind.parts()[0], text("0ab"));
    }

    #[test]
    fn what_is_replaced_stands_on_a_line_of_its_own() {
        for (parts, expected) in [
            (vec![image("i")], "[i]"),
            (vec![text("a"), image("i"), text("b")], "a\n[i]\nb"),
            (vec![text("a\n"), image("i"), text("\nb")], "a\n[i]\nb"),
            (vec![image("i"), image("j"), text("b")], "[i]\n[j]\nb"),
        ] {
            let mut content = content(&parts);
            content.replace(|media| Some(format!("[{}]", media.place)));
            assert_eq!(content, expected.into(), "{parts:?}");
        }
        let mut kept = content(&[text("a"), image("i"), image("j"), text("b"), image("i")]);
        kept.replace(|media| (media.place == "i").then(|| "[i]".to_owned()));
        assert_eq!(kept.parts(), [text("a\n[i]"), image("j"), text("b\n[i]")]);
    }
}
