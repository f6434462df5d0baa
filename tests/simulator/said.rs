//! The content of a message: a text, or OpenAI's list of parts. Whether LangFast takes such a list is not
//! known; here OpenAI's models do, and refuse what OpenAI refuses.

use serde::Deserialize;

/// Models that take no images.
const BLIND: [&str; 4] = ["gpt-3.5-turbo", "gpt-4", "o1-mini", "o3-mini"];

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Said {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageUrl {
    url: String,
    /// Read so that another word is an error.
    #[serde(rename = "detail")]
    _detail: Option<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Detail {
    Auto,
    Low,
    High,
}

impl Said {
    /// The texts, joined.
    pub fn text(&self) -> String {
        match self {
            Said::Text(text) => text.clone(),
            Said::Parts(parts) => parts.iter().map(Part::text).collect(),
        }
    }

    /// What OpenAI says if the message's images cannot be taken.
    pub fn refusal(&self, model: &str, is_user: bool) -> Option<&'static str> {
        let Said::Parts(parts) = self else { return None };
        let images: Vec<&ImageUrl> = parts.iter().filter_map(Part::image).collect();
        match &images[..] {
            [] => None,
            _ if !is_user => Some("Image URLs are only allowed for messages with role 'user'."),
            _ if BLIND.contains(&model) => {
                Some("Invalid content type. image_url is only supported by certain models.")
            }
            _ if images.iter().any(|image| !image.is_valid()) => Some("Invalid image data."),
            _ => None,
        }
    }
}

impl Part {
    fn text(&self) -> &str {
        match self {
            Part::Text { text } => text,
            Part::ImageUrl { .. } => "",
        }
    }

    fn image(&self) -> Option<&ImageUrl> {
        match self {
            Part::Text { .. } => None,
            Part::ImageUrl { image_url } => Some(image_url),
        }
    }
}

impl ImageUrl {
    fn is_valid(&self) -> bool {
        let formats = ["png", "jpeg", "gif", "webp"];
        let data = |format: &&str| format!("data:image/{format};base64,");
        self.url.starts_with("https://")
            || formats.iter().any(|format| self.url.starts_with(&data(format)))
    }
}
