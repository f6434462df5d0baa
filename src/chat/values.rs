//! Builds JSON values within a budget of memory. A value takes many times the bytes of its text: for
//! `[0,0,…]` of one megabyte, 36 of them.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Map, Number, Value};

use crate::budget::{Budget, Full, Share};

/// Memory of a value besides its text, in bytes. Lists and maps double when they grow, and the old half
/// is still there while the new one is filled.
const VALUE: usize = 2 * size_of::<Value>();
/// Memory of an entry of a map besides its value and the text of its name, in bytes.
const ENTRY: usize = 2 * (size_of::<String>() + 2 * size_of::<usize>());
/// Most memory of a value that a model's text is made into, in bytes as this module counts them. A megabyte of
/// objects with short fields takes it; the longest answers of the models that are listed, of 128,000 tokens,
/// have about half of that.
const MOST_OF_A_TEXT: usize = 32 << 20;
/// Bytes taken from the budget at a time.
pub const PIECE: usize = 16 * 1024;

/// The reason that a text was not made into a value.
#[derive(Debug)]
pub enum NotBuilt {
    /// The budget has no memory for it. Whether the text is JSON is not known.
    NoMemory(Full),
    /// It is not JSON, or cannot be held as a value: nested too deep, with a number beyond all doubles, or
    /// with half a surrogate pair.
    Invalid(Error),
}

/// Builds the value of a JSON text. Its memory is taken from `share` and stays taken.
///
/// # Errors
/// See [`NotBuilt`].
pub fn read(json: &str, share: &mut Share) -> Result<Value, NotBuilt> {
    let mut cost = Cost::of(share);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Build(&mut cost).deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    match cost.full {
        Some(full) => Err(NotBuilt::NoMemory(full)),
        None => read.map_err(NotBuilt::Invalid),
    }
}

/// Builds the value of a JSON text that a model wrote, if it takes at most 32 MiB of memory.
///
/// # Errors
/// See [`NotBuilt`].
pub fn of_text(json: &str) -> Result<Value, NotBuilt> {
    read(json, &mut Share::of(&Budget::new(MOST_OF_A_TEXT)))
}

/// Returns whether a text is JSON that a value can hold, however much memory that would take. Builds none.
pub fn is_value(json: &str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Check.deserialize(&mut deserializer).and_then(|()| deserializer.end()).is_ok()
}

/// Takes the memory of values from a share of a budget while they are built.
pub struct Cost<'a> {
    share: &'a mut Share,
    /// Bytes that have been taken from the budget and are not used yet.
    left: usize,
    full: Option<Full>,
}

impl Cost<'_> {
    /// Creates a counter that has taken nothing yet.
    pub fn of(share: &mut Share) -> Cost<'_> {
        Cost { share, left: 0, full: None }
    }

    /// Returns why memory was refused; `None` if it never was. An error of the deserializer then means this.
    pub fn full(&self) -> Option<Full> {
        self.full
    }

    /// Takes the memory of an entry of a map, except that of its value.
    ///
    /// # Errors
    /// The budget has no memory left; [`Cost::full`] says why.
    pub fn take_entry<E: serde::de::Error>(&mut self, name: &str) -> Result<(), E> {
        self.take(ENTRY + name.len())
    }

    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        if self.left < bytes {
            let more = bytes.max(PIECE);
            self.share.grow(more, None).map_err(|full| {
                self.full = Some(full);
                E::custom("no memory")
            })?;
            self.left += more;
        }
        self.left -= bytes;
        Ok(())
    }
}

/// Builds any value, and takes its memory.
pub struct Build<'a, 'b>(pub &'a mut Cost<'b>);

impl<'de> DeserializeSeed<'de> for Build<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take(VALUE)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Build(self.0))? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.0.take_entry(&name)?;
            let value = fields.next_value_seed(Build(self.0))?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// Reads any value and keeps nothing of it. [`serde::de::IgnoredAny`] reads numbers beyond all doubles and
/// half surrogate pairs, too, which no value can hold.
struct Check;

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Check)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while fields.next_entry_seed(Check, Check)?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::nesting::DEEPEST;

    #[test]
    fn what_is_said_to_be_a_value_is_what_can_be_built() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let texts = [
            r#"{"a":[1,-1,1.5,true,null,"é\u00e9\ud83d\ude00"],"b":{}} "#,
            "18446744073709551616",
            "1e999",
            r#""\ud83d""#,
            r#"{"\ud83d":1}"#,
            "[1,]",
            "{1:2}",
            "[] []",
            "",
            &nested(DEEPEST),
            &nested(DEEPEST + 1),
        ];
        for text in texts {
            let built = serde_json::from_str::<Value>(text);
            assert_eq!(is_value(text), built.is_ok(), "{text}");
            assert_eq!(of_text(text).ok(), built.ok(), "{text}");
        }
    }

    #[test]
    fn a_value_that_would_take_too_much_memory_is_not_built_and_is_one() {
        let large = format!("[{}0]", "0,".repeat(1 << 20));
        assert!(matches!(of_text(&large), Err(NotBuilt::NoMemory(_))));
        assert!(is_value(&large));
        assert!(of_text(&format!("[{}0]", "0,".repeat(1 << 17))).is_ok());
    }
}
