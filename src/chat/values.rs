//! Builds JSON values within a budget of memory. A value takes many times the bytes of its text: for
//! `[0,0,…]` of one megabyte, 36 of them.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Map, Number, Value};

use crate::budget::{Full, Share};

/// Memory of a value besides its text, in bytes. Lists and maps double when they grow, and the old half
/// is still there while the new one is filled.
const VALUE: usize = 2 * size_of::<Value>();
/// Memory of an entry of a map besides its value and the text of its name, in bytes.
const ENTRY: usize = 2 * (size_of::<String>() + 2 * size_of::<usize>());
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
