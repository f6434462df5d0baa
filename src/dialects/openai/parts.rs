//! Reads the content of messages, for chat completions and responses: a string, or a list of parts.

use serde_json::Value;

use crate::chat::media::MediaKind;
use crate::chat::{Content, Part};
use crate::dialects::fields::wrong_type;
use crate::dialects::media::{Data, MediaReader, MediaType};
use crate::error::Error;

/// The types of parts that are no text. Source: the SDKs' types.
const MEDIA: &[MediaType] = &[
    MediaType { name: "image_url", kind: MediaKind::Image, refusal: "", data: image },
    MediaType { name: "input_image", kind: MediaKind::Image, refusal: "", data: image },
    MediaType { name: "input_audio", kind: MediaKind::Audio, refusal: "", data: audio },
    MediaType { name: "file", kind: MediaKind::File, refusal: "", data: file },
    MediaType { name: "input_file", kind: MediaKind::File, refusal: "", data: file },
];

/// An image: a URL, or an object with one.
fn image(part: &Value) -> Data<'_> {
    let image = &part["image_url"];
    match image.as_str().or_else(|| image["url"].as_str()) {
        Some(url) => {
            Data::Url { url, detail: image["detail"].as_str().or(part["detail"].as_str()) }
        }
        None => Data::Elsewhere,
    }
}

fn audio(part: &Value) -> Data<'_> {
    let audio = &part["input_audio"];
    match audio["data"].as_str() {
        Some(base64) => Data::Base64 { format: audio["format"].as_str(), base64, detail: None },
        None => Data::Elsewhere,
    }
}

/// A file, whose fields are in the part of a response, and in an object of a chat completion.
fn file(part: &Value) -> Data<'_> {
    let file = part.get("file").unwrap_or(part);
    match file["file_data"].as_str().or(file["file_url"].as_str()) {
        Some(url) => Data::Url { url, detail: None },
        None => Data::Elsewhere,
    }
}

/// Reads a message's content, which is at `path`; `None` if there is none.
///
/// # Errors
/// [`Error::Invalid`] with the path of what is wrong; see also [`MediaReader::read`].
pub fn content(
    path: &str,
    value: Option<&Value>,
    media: &mut MediaReader,
) -> Result<Option<Content>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str().into())),
        Some(Value::Array(parts)) => {
            let mut content = Content::default();
            for (at, part) in parts.iter().enumerate() {
                add_part(&mut content, &format!("{path}[{at}]"), part, media)?;
            }
            Ok(Some(content))
        }
        Some(_) => Err(wrong_type(path, "a string or a list of parts")),
    }
}

fn add_part(
    content: &mut Content,
    path: &str,
    part: &Value,
    media: &mut MediaReader,
) -> Result<(), Error> {
    let kind = part.get("type").and_then(Value::as_str);
    let kind = kind.ok_or_else(|| wrong_type(path, "an object with a `type`"))?;
    if let Some(of) = MEDIA.iter().find(|of| of.name == kind) {
        content.push(Part::Media(media.read(of, path, part)?));
        return Ok(());
    }
    let field = match kind {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        _ => {
            let path = format!("{path}.type");
            let message = format!("Invalid value for `{path}`: it must be text");
            return Err(Error::invalid(path, message));
        }
    };
    let text = part.get(field).and_then(Value::as_str);
    content.push_text(text.ok_or_else(|| wrong_type(&format!("{path}.{field}"), "a string"))?);
    Ok(())
}
