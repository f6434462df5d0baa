//! An image that is passed on, and its format and size by the first bytes of its data. No picture is decoded.

use std::fmt;
use std::sync::Arc;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};

/// Most characters of base64 that are read of an image's data: the size of a JPEG stands behind whatever
/// the camera has written, a preview included.
const MOST_READ: usize = 256 * 1024;

/// Decodes base64 that may be cut off anywhere.
const CUT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

/// An image that can be passed on. Copies share its data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Image {
    /// A data: URL with the image, or a link to it. (To make an `Arc<str>` of a text copies it.)
    pub url: Arc<String>,
    /// How closely the model has to look, if the client says so.
    pub detail: Option<Detail>,
    /// Width and height in pixels, as far as they are known.
    pub size: Option<(u32, u32)>,
}

/// Shows neither the data nor the link, since what is debugged may be logged.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.url.len();
        write!(f, "Image({bytes} bytes, {:?}, {:?})", self.detail, self.size)
    }
}

/// How closely a model has to look at an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// The model chooses.
    Auto,
    /// A glance.
    Low,
    /// All of it.
    High,
}

impl Detail {
    /// Returns OpenAI's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Detail::Auto => "auto",
            Detail::Low => "low",
            Detail::High => "high",
        }
    }

    /// Reads OpenAI's word; `None` for one that is not known. `original` is a word of responses alone,
    /// which chat completions refuse.
    pub fn parse(word: &str) -> Option<Detail> {
        match word {
            "auto" => Some(Detail::Auto),
            "low" => Some(Detail::Low),
            "high" | "original" => Some(Detail::High),
            _ => None,
        }
    }
}

/// Returns the format of an image by its data, and its width and height, if the data tells them; `None`
/// if it is of no format that OpenAI's models take (PNG, JPEG, GIF, WebP).
pub fn recognise(base64: &str) -> Option<(&'static str, Option<(u32, u32)>)> {
    let begin = base64.as_bytes();
    let begin = &begin[..begin.len().min(MOST_READ)];
    let mut begin: Vec<u8> =
        begin.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    while begin.last() == Some(&b'=') || begin.len() % 4 == 1 {
        begin.pop();
    }
    let bytes = CUT.decode(begin).ok()?;
    match &bytes[..] {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', rest @ ..] => {
            Some(("image/png", png(rest)))
        }
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', rest @ ..] => Some(("image/gif", gif(rest))),
        [0xff, 0xd8, 0xff, ..] => Some(("image/jpeg", jpeg(&bytes[2..]))),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', rest @ ..] => {
            Some(("image/webp", webp(rest)))
        }
        _ => None,
    }
}

/// Reads the size of a PNG, behind its first 8 bytes.
fn png(rest: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    Some((number(8)?, number(12)?))
}

/// Reads the size of a GIF, behind its first 6 bytes.
fn gif(rest: &[u8]) -> Option<(u32, u32)> {
    let [w0, w1, h0, h1, ..] = *rest else { return None };
    Some((u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into()))
}

/// Reads the size of a JPEG, behind its first 2 bytes: it stands in the frame's header, behind other segments.
fn jpeg(mut rest: &[u8]) -> Option<(u32, u32)> {
    loop {
        match *rest {
            // Markers may be padded.
            [0xff, 0xff, ..] => rest = &rest[1..],
            // A frame's header: C4, C8 and CC are other things.
            [
                0xff,
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf,
                _,
                _,
                _,
                h0,
                h1,
                w0,
                w1,
                ..,
            ] => {
                let side = |bytes| u32::from(u16::from_be_bytes(bytes));
                return Some((side([w0, w1]), side([h0, h1])));
            }
            [0xff, _, l0, l1, ..] => {
                let length = usize::from(u16::from_be_bytes([l0, l1]));
                rest = rest.get(2 + length.max(2)..)?;
            }
            _ => return None,
        }
    }
}

/// Reads the size of a WebP, behind its first 12 bytes: it stands in the first chunk, which is of one of three
/// kinds, lossy, lossless, or extended.
fn webp(rest: &[u8]) -> Option<(u32, u32)> {
    let (kind, data) = (rest.get(..4)?, rest.get(8..)?);
    match (kind, data) {
        (b"VP8 ", &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..]) => {
            let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
            Some((side([w0, w1]), side([h0, h1])))
        }
        (b"VP8L", &[0x2f, b0, b1, b2, b3, ..]) => {
            let bits = u32::from_le_bytes([b0, b1, b2, b3]);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        (b"VP8X", &[_, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => {
            let side = |low, middle, high| u32::from_le_bytes([low, middle, high, 0]) + 1;
            Some((side(w0, w1, w2), side(h0, h1, h2)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn seen(bytes: &[u8]) -> Option<(&'static str, Option<(u32, u32)>)> {
        recognise(&STANDARD.encode(bytes))
    }

    const SIZE: Option<(u32, u32)> = Some((640, 480));

    #[test]
    fn the_size_is_read_off_the_first_bytes_of_each_format() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x02";
        assert_eq!(seen(png), Some(("image/png", SIZE)));
        assert_eq!(seen(b"GIF89a\x80\x02\xe0\x01\xf7"), Some(("image/gif", SIZE)));
        let exif = [&b"\xff\xd8\xff\xe1\0\x06Exif"[..], b"\xff\xff\xc4\0\x02"].concat();
        let jpeg = [&exif[..], b"\xff\xc2\0\x11\x08\x01\xe0\x02\x80\x03"].concat();
        assert_eq!(seen(&jpeg), Some(("image/jpeg", SIZE)));
        let webp = |chunk: &[u8]| [b"RIFF\0\0\0\0WEBP", chunk].concat();
        for chunk in [
            &b"VP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01"[..],
            b"VP8L\0\0\0\0\x2f\x7f\xc2\x77\0",
            b"VP8X\0\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0",
        ] {
            assert_eq!(seen(&webp(chunk)), Some(("image/webp", SIZE)), "{chunk:?}");
        }
    }

    #[test]
    fn what_is_cut_off_has_no_size_and_what_is_no_image_is_none() {
        for cut in [&b"\x89PNG\r\n\x1a\n\0"[..], b"GIF87a\x80", b"\xff\xd8\xff\xe0\xff\xff"] {
            assert!(matches!(seen(cut), Some((_, None))), "{cut:?}");
        }
        for other in [&b""[..], b"<svg/>", b"%PDF-1.7", b"\x89PNG", b"RIFF\0\0\0\0WAVE"] {
            assert_eq!(seen(other), None, "{other:?}");
        }
        for base64 in ["!!!", "=", "====", "a", "iVBORw0KGgo\u{e9}"] {
            assert_eq!(recognise(base64), None, "{base64}");
        }
        assert!(recognise("iVBO\nRw0KGgoA\r\nAAAA").is_some(), "lines may be broken");
    }

    #[test]
    fn no_data_is_shown_where_values_are_debugged() {
        let image = Image {
            url: Arc::new("data:image/png;base64,SECRET".to_owned()),
            detail: None,
            size: None,
        };
        assert_eq!(format!("{image:?}"), "Image(28 bytes, None, None)");
    }
}
