//! Reads the content of messages, for chat completions and responses: a string, or a list of parts.

use serde_json::Value;

use super::kinds::{PARTS, PartReading};
use crate::chat::{Content, Part};
use crate::dialects::fields::wrong_type;
use crate::dialects::kinds::find;
use crate::dialects::media::MediaReader;
use crate::error::Error;

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
    match find(PARTS, kind).map(|(_, how)| how) {
        Some(PartReading::Text(field)) => {
            let text = part.get(field).and_then(Value::as_str);
            let wrong = || wrong_type(&format!("{path}.{field}"), "a string");
            content.push_text(text.ok_or_else(wrong)?);
        }
        Some(PartReading::Media(of)) => content.push(Part::Media(media.read(of, path, part)?)),
        None => media.leave_out(path),
    }
    Ok(())
}
