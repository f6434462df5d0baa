//! Looking into JSON of unknown form level by level, without decoding what is not asked for: a text may
//! be long, and may hold half a surrogate pair, which serde_json refuses to decode.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

/// Most fields of an object, and items of a list, that are looked at.
const MOST: usize = 256;

/// The value at the start of `json`, whatever follows it.
pub fn first(json: &str) -> Option<&RawValue> {
    serde::Deserialize::deserialize(&mut Deserializer::from_str(json)).ok()
}

/// The values of a JSON list without its brackets, up to the first that is broken.
pub fn values(mut list: &str) -> Vec<&RawValue> {
    let mut values = Vec::new();
    while let Some(value) = first(list).filter(|_| values.len() < MOST) {
        values.push(value);
        let Some(rest) = list.trim_start().strip_prefix(value.get()) else { break };
        let Some(rest) = rest.trim_start().strip_prefix(',') else { break };
        list = rest;
    }
    values
}

/// The fields of an object in their order; none if it is something else.
pub fn fields(value: &RawValue) -> Vec<(String, &RawValue)> {
    if !value.get().starts_with('{') {
        return Vec::new();
    }
    Deserializer::from_str(value.get()).deserialize_map(Fields).unwrap_or_default()
}

/// The items of a list; none if it is something else.
pub fn items(value: &RawValue) -> Vec<&RawValue> {
    if !value.get().starts_with('[') {
        return Vec::new();
    }
    Deserializer::from_str(value.get()).deserialize_seq(Items).unwrap_or_default()
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while fields.len() < MOST {
            let Some(field) = map.next_entry()? else { return Ok(fields) };
            fields.push(field);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(fields)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < MOST {
            let Some(item) = list.next_element()? else { return Ok(items) };
            items.push(item);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fields_and_items_are_found_unread_and_what_is_none_has_none() {
        let list = r#"{"a":"\ud83d", "b":[1,{"c":2}]} , "x",[]"#;
        let found = values(list);
        assert_eq!(found.iter().map(|value| value.get().len()).collect::<Vec<_>>(), [31, 3, 2]);
        let fields = fields(found[0]);
        assert_eq!((fields[0].0.as_str(), fields[0].1.get()), ("a", r#""\ud83d""#));
        assert_eq!(items(fields[1].1)[1].get(), r#"{"c":2}"#);
        assert!(super::fields(found[1]).is_empty() && items(found[1]).is_empty());
        assert!(values("").is_empty() && values("{").is_empty());
        assert_eq!(values("1,2,x").len(), 2);
    }

    #[test]
    fn of_very_many_fields_and_items_a_part_is_looked_at() {
        let many: Vec<String> = (0..2 * MOST).map(|n| format!("\"{n}\":{n}")).collect();
        let json = format!("{{{}}}", many.join(","));
        assert_eq!(fields(first(&json).unwrap()).len(), MOST);
        let json = format!("[{}]", vec!["1"; 2 * MOST].join(","));
        assert_eq!(items(first(&json).unwrap()).len(), MOST);
        assert_eq!(values(&vec!["1"; 2 * MOST].join(",")).len(), MOST);
    }
}
