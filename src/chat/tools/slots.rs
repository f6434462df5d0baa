//! Places in a tool's schema: the rules that hold there, the types that they allow, and the places of parts.
//!
//! A place is a [`Slot`]. What is not understood allows everything.

use serde_json::{Map, Value};

use super::names::plain;

/// Most references that are followed from one place.
const MOST_REFERENCES: usize = 8;
/// Most places that are looked at for the types of one: alternatives of alternatives can multiply without end.
const MOST_PLACES: usize = 200;

/// A place in a schema, as a JSON pointer; none if nothing is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot(Option<String>);

impl Slot {
    /// The schema as a whole.
    pub fn root() -> Slot {
        Slot(Some(String::new()))
    }

    /// A place without rules.
    pub fn none() -> Slot {
        Slot(None)
    }

    fn within(&self, steps: &[&str]) -> Slot {
        let escaped = |step: &&str| format!("/{}", step.replace('~', "~0").replace('/', "~1"));
        Slot(self.0.as_ref().map(|at| at.clone() + &steps.iter().map(escaped).collect::<String>()))
    }
}

/// A set of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Null.
    pub const NULL: Kinds = Kinds(1);
    /// True and false.
    pub const BOOLEAN: Kinds = Kinds(2);
    /// Whole numbers.
    pub const INTEGER: Kinds = Kinds(4);
    /// Other numbers.
    pub const NUMBER: Kinds = Kinds(8);
    /// Texts.
    pub const STRING: Kinds = Kinds(16);
    /// Lists.
    pub const ARRAY: Kinds = Kinds(32);
    /// Objects.
    pub const OBJECT: Kinds = Kinds(64);
    /// Texts out of a list, whose case may be wrong: never in a set.
    pub const CHOICE: Kinds = Kinds(128);
    /// All types.
    pub const ANY: Kinds = Kinds(127);

    /// True if the set has this type.
    pub fn contains(self, kind: Kinds) -> bool {
        self.0 & kind.0 != 0
    }

    fn named(name: &str) -> Kinds {
        match name {
            "null" => Kinds::NULL,
            "boolean" => Kinds::BOOLEAN,
            "integer" => Kinds::INTEGER,
            "number" => Kinds(Kinds::NUMBER.0 | Kinds::INTEGER.0),
            "string" => Kinds::STRING,
            "array" => Kinds::ARRAY,
            "object" => Kinds::OBJECT,
            _ => Kinds::ANY,
        }
    }

    /// The type of a value.
    pub fn of(value: &Value) -> Kinds {
        match value {
            Value::Null => Kinds::NULL,
            Value::Bool(_) => Kinds::BOOLEAN,
            Value::Number(number) if number.is_f64() => Kinds::NUMBER,
            Value::Number(_) => Kinds::INTEGER,
            Value::String(_) => Kinds::STRING,
            Value::Array(_) => Kinds::ARRAY,
            Value::Object(_) => Kinds::OBJECT,
        }
    }

    fn joined(kinds: impl Iterator<Item = Kinds>) -> Kinds {
        Kinds(kinds.fold(0, |all, kinds| all | kinds.0))
    }
}

/// The rules at a place, and where they stand, behind references; `None` if there are none.
pub fn rules<'a>(root: Option<&'a Value>, slot: &Slot) -> Option<(&'a Map<String, Value>, Slot)> {
    let (root, mut at) = (root?, slot.0.clone()?);
    for _ in 0..MOST_REFERENCES {
        let rules = root.pointer(&at)?.as_object()?;
        match rules.get("$ref").and_then(Value::as_str) {
            Some(target) => at = target.strip_prefix('#')?.to_owned(),
            None => return Some((rules, Slot(Some(at)))),
        }
    }
    None
}

/// The types that a place allows.
pub fn kinds(root: Option<&Value>, slot: &Slot) -> Kinds {
    kinds_within(root, slot, &mut MOST_PLACES.clone())
}

/// The same, looking at no more than `left` places.
fn kinds_within(root: Option<&Value>, slot: &Slot, left: &mut usize) -> Kinds {
    let Some(fewer) = left.checked_sub(1) else { return Kinds::ANY };
    *left = fewer;
    let Some((rules, slot)) = rules(root, slot) else { return Kinds::ANY };
    if rules.get("nullable") == Some(&Value::Bool(true)) {
        return Kinds(kinds_of(root, rules, &slot, left).0 | Kinds::NULL.0);
    }
    kinds_of(root, rules, &slot, left)
}

fn kinds_of(
    root: Option<&Value>,
    rules: &Map<String, Value>,
    slot: &Slot,
    left: &mut usize,
) -> Kinds {
    let listed = rules.get("enum").and_then(Value::as_array).map(|values| values.iter());
    let listed = listed.or_else(|| rules.get("const").map(|one| std::slice::from_ref(one).iter()));
    let listed = listed.map(|values| Kinds::joined(values.map(Kinds::of)));
    let typed = match rules.get("type") {
        Some(Value::String(name)) => Some(Kinds::named(name)),
        Some(Value::Array(names)) => {
            Some(Kinds::joined(names.iter().filter_map(Value::as_str).map(Kinds::named)))
        }
        _ => None,
    };
    match (typed, listed) {
        // A whole number may be listed as a fraction.
        (Some(typed), Some(listed)) if typed.contains(listed) => return Kinds(typed.0 & listed.0),
        (Some(kinds), _) | (None, Some(kinds)) => return kinds,
        (None, None) => {}
    }
    let alternatives = alternatives(rules, slot);
    if alternatives.is_empty() {
        return Kinds::ANY;
    }
    Kinds::joined(alternatives.iter().map(|slot| kinds_within(root, slot, left)))
}

/// The places of the alternatives, one more than are looked at if there are too many.
fn alternatives(rules: &Map<String, Value>, slot: &Slot) -> Vec<Slot> {
    let list = |name: &str| rules.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let of =
        |name: &'static str| (0..list(name)).map(move |at| slot.within(&[name, &at.to_string()]));
    of("anyOf").chain(of("oneOf")).take(MOST_PLACES + 1).collect()
}

/// The place whose rules hold for a value of this type: of alternatives the only one that allows it.
pub fn of_kind(root: Option<&Value>, slot: Slot, name: &str) -> Slot {
    let Some((rules, at)) = rules(root, &slot) else { return Slot::none() };
    let alternatives = alternatives(rules, &at);
    if alternatives.is_empty() {
        return at;
    }
    let (kind, mut left) = (Kinds::named(name), MOST_PLACES);
    let mut fitting =
        alternatives.into_iter().filter(|slot| kinds_within(root, slot, &mut left).contains(kind));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => one,
        _ => Slot::none(),
    }
}

/// True if a place lists the texts that it takes.
pub fn has_choices(root: Option<&Value>, slot: &Slot) -> bool {
    rules(root, slot).is_some_and(|(rules, _)| rules.contains_key("enum"))
}

/// The place of a list's items.
pub fn items(root: Option<&Value>, slot: &Slot) -> Slot {
    match rules(root, slot) {
        Some((rules, at)) if rules.get("items").is_some_and(Value::is_object) => {
            at.within(&["items"])
        }
        _ => Slot::none(),
    }
}

/// The names of an object's properties.
pub fn properties(root: Option<&Value>) -> impl Iterator<Item = &String> {
    let properties = root.and_then(|root| root.get("properties")).and_then(Value::as_object);
    properties.into_iter().flat_map(Map::keys)
}

/// The property that a key means, and its place: of a key that is not known, the only one that differs from
/// it in case, hyphens and underscores alone.
pub fn property(root: Option<&Value>, slot: &Slot, key: &str) -> (String, Slot) {
    let found = rules(root, slot).and_then(|(rules, at)| {
        let known = rules.get("properties")?.as_object()?;
        if known.contains_key(key) {
            return Some((key, at));
        }
        let mut alike = known.keys().filter(|name| plain(name) == plain(key));
        let name = alike.next().filter(|_| alike.next().is_none())?;
        Some((name, at))
    });
    match found {
        Some((name, at)) => (name.to_owned(), at.within(&["properties", name])),
        None => (key.to_owned(), Slot::none()),
    }
}

/// True if an object at this place may do without a property, which may not be null.
pub fn may_lack(root: Option<&Value>, slot: &Slot, key: &str) -> bool {
    let Some((rules, at)) = rules(root, slot) else { return false };
    let required = rules.get("required").and_then(Value::as_array);
    knows(root, slot, key)
        && !required.is_some_and(|names| names.iter().any(|name| name == key))
        && !allows_null(root, &at.within(&["properties", key]))
}

/// True if a place allows null.
pub fn allows_null(root: Option<&Value>, slot: &Slot) -> bool {
    kinds(root, slot).contains(Kinds::NULL)
}

/// True if an object at this place has a property of this name.
pub fn knows(root: Option<&Value>, slot: &Slot, key: &str) -> bool {
    rules(root, slot).is_some_and(|(rules, _)| {
        rules.get("properties").is_some_and(|known| known.get(key).is_some())
    })
}

/// True if an object at this place has named properties only, and none of this name.
pub fn rules_out(root: Option<&Value>, slot: &Slot, key: &str) -> bool {
    rules(root, slot).is_some_and(|(rules, _)| {
        let others = rules.get("additionalProperties");
        let known = rules.get("properties").and_then(Value::as_object);
        others.is_none_or(|others| *others == Value::Bool(false))
            && known.is_some_and(|known| !known.keys().any(|name| plain(name) == plain(key)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_that_refers_to_itself_allows_everything() {
        let schema = json!({"$ref": "#"});
        assert_eq!(kinds(Some(&schema), &Slot::root()), Kinds::ANY);
        for alternatives in [1, 2, 1_000] {
            let schema = json!({"anyOf": vec![json!({"$ref": "#"}); alternatives]});
            assert_eq!(kinds(Some(&schema), &Slot::root()), Kinds::ANY);
            let place = of_kind(Some(&schema), Slot::root(), "array");
            assert_eq!(place == Slot::none(), alternatives > 1, "one of several");
        }
    }
}
