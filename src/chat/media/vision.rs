//! Which models take images, and what an image costs them in tokens.
//!
//! Sources: the modalities on OpenAI's page of each model, and "Calculating costs" in its guide to images
//! and vision (both as of late 2025); Anthropic's and Google's overviews of their models. LangFast's
//! records say nothing of images.

use super::image::{Detail, Image};

/// The price of an image, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// A base price, and the price of each tile of 512 × 512 pixels, both in tokens.
    Tiles(u64, u64),
    /// The price of each patch of 32 × 32 pixels, in hundredths of a token.
    Patches(u64),
    /// The model takes images, and its maker does not say, or not in this form, what they cost.
    NotKnown,
    /// The model takes none.
    Blind,
}

/// The families of models by the beginnings of their names, of which the longest counts. A model of none of
/// these is taken for blind: an image that a model cannot take would fail the conversation for good, one that
/// is left out does not.
const FAMILIES: &[(&str, Cost)] = &[
    ("chatgpt-4o", Cost::Tiles(85, 170)),
    ("claude-", Cost::NotKnown),
    ("claude-1", Cost::Blind),
    ("claude-2", Cost::Blind),
    ("claude-instant", Cost::Blind),
    ("gemini-", Cost::NotKnown),
    // Whatever follows the models that are named below.
    ("gpt-", Cost::NotKnown),
    ("gpt-3", Cost::Blind),
    ("gpt-4", Cost::Blind),
    ("gpt-4-turbo", Cost::Tiles(85, 170)),
    ("gpt-4-vision", Cost::Tiles(85, 170)),
    ("gpt-4.", Cost::Tiles(85, 170)),
    ("gpt-4.1-mini", Cost::Patches(162)),
    ("gpt-4.1-nano", Cost::Patches(246)),
    ("gpt-4o", Cost::Tiles(85, 170)),
    ("gpt-4o-audio", Cost::Blind),
    ("gpt-4o-mini", Cost::Tiles(2833, 5667)),
    ("gpt-4o-mini-audio", Cost::Blind),
    ("gpt-4o-mini-search", Cost::Blind),
    ("gpt-4o-search", Cost::Blind),
    ("gpt-5", Cost::Tiles(70, 140)),
    ("gpt-5-mini", Cost::Patches(162)),
    ("gpt-5-nano", Cost::Patches(246)),
    ("gpt-5.", Cost::NotKnown),
    ("gpt-audio", Cost::Blind),
    ("gpt-oss", Cost::Blind),
    ("o1", Cost::Tiles(75, 150)),
    ("o1-mini", Cost::Blind),
    ("o1-preview", Cost::Blind),
    ("o3", Cost::Tiles(75, 150)),
    ("o3-mini", Cost::Blind),
    ("o4", Cost::NotKnown),
    ("o4-mini", Cost::Patches(172)),
];

/// Most patches of an image; a larger image is scaled down.
const MOST_PATCHES: f64 = 1536.0;

/// True if the model with this name takes images. The maker's name and a slash may stand before it.
pub fn sees(slug: &str) -> bool {
    cost(slug) != Cost::Blind
}

/// Estimates the tokens that an image takes in a prompt; 0 if that cannot be told: the size of the picture
/// behind a link is not known, nor how another maker's model counts it.
pub fn tokens(image: &Image, slug: &str) -> u64 {
    let size = image.size.map(|(width, height)| (f64::from(width), f64::from(height)));
    match (cost(slug), image.detail, size) {
        (Cost::Tiles(base, _), Some(Detail::Low), _) => base,
        (Cost::Tiles(base, tile), _, Some(size)) => base + tile * tiles(size),
        (Cost::Patches(hundredths), _, Some(size)) => (patches(size) * hundredths).div_ceil(100),
        _ => 0,
    }
}

/// Returns the price of an image for a model, by its family.
fn cost(slug: &str) -> Cost {
    let name = slug.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let families = FAMILIES.iter().filter(|(begin, _)| name.starts_with(begin));
    families.max_by_key(|(begin, _)| begin.len()).map_or(Cost::Blind, |(_, cost)| *cost)
}

/// Returns the number of tiles of an image, which is scaled down to fit into 2048 × 2048 pixels, and then to a
/// shorter side of 768.
fn tiles((width, height): (f64, f64)) -> u64 {
    let into_square = (2048.0 / width.max(height)).min(1.0);
    let scale = into_square * (768.0 / (width.min(height) * into_square)).min(1.0);
    let tiles = |side: f64| (side * scale / 512.0).ceil().max(1.0) as u64;
    tiles(width) * tiles(height)
}

/// Returns the number of patches of an image, which is scaled down until it has at most [`MOST_PATCHES`].
fn patches((width, height): (f64, f64)) -> u64 {
    let all = (width / 32.0).ceil() * (height / 32.0).ceil();
    if all <= MOST_PATCHES {
        return all.max(1.0) as u64;
    }
    let scale = (32.0 * 32.0 * MOST_PATCHES / (width * height)).sqrt();
    let whole = |side: f64| (side * scale / 32.0).floor() / (side * scale / 32.0);
    let scale = scale * whole(width).min(whole(height));
    let patches = (width * scale / 32.0).ceil() * (height * scale / 32.0).ceil();
    patches.clamp(1.0, MOST_PATCHES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::models::{BUILT_IN, Models, Unknown};

    #[test]
    fn the_models_that_see_are_told_by_the_beginnings_of_their_names() {
        let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).unwrap();
        let blind: Vec<&str> =
            models.iter().map(|model| model.slug.as_str()).filter(|slug| !sees(slug)).collect();
        assert_eq!(blind, ["o1-mini", "gpt-3.5-turbo", "o3-mini", "gpt-4"]);
        for seeing in ["gpt-5.6-sol", "gpt-6-mini", "o3-pro", "openai/gpt-4o", "Claude-Opus-4-8"] {
            assert!(sees(seeing), "{seeing}");
        }
        for blind in ["gpt-4-0613", "gpt-oss-120b", "claude-2.1", "deepseek-chat", "o", ""] {
            assert!(!sees(blind), "{blind}");
        }
    }

    #[test]
    fn an_images_tokens_are_those_of_openais_examples() {
        let tokens = |slug: &str, detail: Option<Detail>, size: Option<(u32, u32)>| {
            super::tokens(&Image { url: Default::default(), detail, size }, slug)
        };
        // "Calculating costs" has these.
        assert_eq!(tokens("gpt-4o", Some(Detail::High), Some((1024, 1024))), 765);
        assert_eq!(tokens("gpt-4o", None, Some((2048, 4096))), 1105);
        assert_eq!(tokens("gpt-4o", Some(Detail::Low), Some((4096, 8192))), 85);
        assert_eq!(tokens("gpt-5-mini", None, Some((1024, 1024))), 1659);
        assert_eq!(tokens("o4-mini", None, Some((1800, 2400))), 1452 * 172 / 100 + 1);
        // A small one is not enlarged.
        assert_eq!(tokens("o1", None, Some((1, 1))), 75 + 150);
        // What is not known is not guessed.
        assert_eq!(tokens("gpt-4o", None, None), 0);
        assert_eq!(tokens("gpt-6", None, Some((10, 10))), 0);
        for slug in ["gpt-4o", "gpt-5-nano"] {
            for size in [(0, 0), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
                assert!(tokens(slug, None, Some(size)) < 100_000, "{slug} {size:?}");
            }
        }
    }
}
