//! Reads clients' JSON into values, within a budget of memory: of an object, only the fields that are known.

use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Error, Map, Value};

use crate::budget::{Full, Share};
use crate::chat::nesting;
use crate::chat::values::{self, Build, Cost, NotBuilt};

/// The reason that no object could be read.
#[derive(Debug)]
pub enum Unread {
    /// The text is valid JSON, but not an object.
    NoObject,
    /// The text is not JSON.
    Invalid(Error),
    /// A field that is known is nested deeper than [`nesting::DEEPEST`], with the object around it.
    TooDeep(Error),
    /// The budget has no memory for the object.
    NoMemory(Full),
}

/// Reads an object and builds only the fields that `known` names. Their memory is taken from `share`
/// and stays taken.
///
/// # Errors
/// See [`Unread`].
pub fn read_object(
    json: &[u8],
    known: &[&str],
    share: &mut Share,
) -> Result<Map<String, Value>, Unread> {
    let mut cost = Cost::of(share);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = deserializer.deserialize_any(Object { known, cost: &mut cost });
    let read = read.and_then(|object| deserializer.end().map(|()| object));
    match (read, cost.full()) {
        (Ok(Some(map)), _) => Ok(map),
        (Ok(None), _) => Err(Unread::NoObject),
        (Err(_), Some(full)) => Err(Unread::NoMemory(full)),
        (Err(error), None) if nesting::is_too_deep(&error) => Err(Unread::TooDeep(error)),
        (Err(error), None) => Err(Unread::Invalid(error)),
    }
}

/// Reads a value that this program has written; null if it is not JSON after all. Its memory is taken from
/// `share` and stays taken.
///
/// # Errors
/// The budget has no memory for it.
pub fn read_own(json: &str, share: &mut Share) -> Result<Value, Full> {
    match values::read(json, share) {
        Ok(value) => Ok(value),
        Err(NotBuilt::NoMemory(full)) => Err(full),
        Err(NotBuilt::Invalid(_)) => Ok(Value::Null),
    }
}

/// Builds the outermost value: an object, or `None` for anything else.
struct Object<'a, 'b> {
    known: &'a [&'a str],
    cost: &'a mut Cost<'b>,
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = Option<Map<String, Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if self.known.contains(&name.as_str()) {
                self.cost.take_entry(&name)?;
                let value = fields.next_value_seed(Build(self.cost))?;
                map.insert(name, value);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Some(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::chat::values::PIECE;
    use proptest::prelude::*;

    fn read(json: &str, known: &[&str], limit: usize) -> Result<Value, Unread> {
        let budget = Budget::new(limit);
        read_object(json.as_bytes(), known, &mut Share::of(&budget)).map(Value::Object)
    }

    #[test]
    fn fields_that_are_not_known_are_not_built() {
        let junk = format!(r#"{{"a":[1,"x"],"junk":[{}0]}}"#, "0,".repeat(100_000));
        assert!(read(&junk, &["a"], PIECE).is_ok_and(|v| v == serde_json::json!({"a": [1, "x"]})));
        assert!(matches!(read(&junk, &["a", "junk"], 1 << 20), Err(Unread::NoMemory(_))));
    }

    #[test]
    fn what_is_no_object_is_told_apart_from_what_is_no_json() {
        for json in ["[]", "7", "-7", "1.5", "\"x\"", "null", "true", "[1,{}]"] {
            assert!(matches!(read(json, &[], PIECE), Err(Unread::NoObject)), "{json}");
        }
        for json in ["{", "{} x", "[1", "nonsense", "{\"a\":}", "{\"junk\":[1,}"] {
            assert!(matches!(read(json, &["a"], 1 << 20), Err(Unread::Invalid(_))), "{json}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_told_apart_and_no_matter_in_fields_that_are_not_known() {
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"a":{open}{close}}}"#)
        };
        assert!(read(&nested(nesting::DEEPEST - 1), &["a"], 1 << 20).is_ok());
        let deeper = nested(nesting::DEEPEST);
        assert!(matches!(read(&deeper, &["a"], 1 << 20), Err(Unread::TooDeep(_))));
        assert!(read(&deeper, &[], PIECE).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_what_serde_json_builds(value in any_json()) {
            let json = serde_json::json!({"a": value, "b": 1}).to_string();
            let expected: Value = serde_json::from_str(&json).unwrap();
            let ours = read(&json, &["a", "b"], 1 << 30);
            prop_assert!(ours.is_ok_and(|ours| ours == expected));
        }
    }
}
