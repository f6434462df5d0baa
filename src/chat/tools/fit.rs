//! Values by a tool's schema: which types a place allows, and the same value as another type where that is
//! plain: `"3"` for 3, `"[1]"` for a list, an object's JSON where a text is asked for.
//!
//! A place in a schema is a [`Slot`]. What is not understood allows everything.

use serde_json::{Map, Value};

use super::relaxed;

/// Most references that are followed from one place.
const MOST_REFERENCES: usize = 8;

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
    const NULL: Kinds = Kinds(1);
    const BOOLEAN: Kinds = Kinds(2);
    const INTEGER: Kinds = Kinds(4);
    const NUMBER: Kinds = Kinds(8);
    /// Texts.
    pub const STRING: Kinds = Kinds(16);
    /// Lists.
    pub const ARRAY: Kinds = Kinds(32);
    /// Objects.
    pub const OBJECT: Kinds = Kinds(64);
    /// Texts out of a list, whose case may be wrong: never in a set.
    pub const CHOICE: Kinds = Kinds(128);
    const ANY: Kinds = Kinds(127);

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

    fn of(value: &Value) -> Kinds {
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

/// The rules at a place, and where they stand, behind references.
fn rules<'a>(root: Option<&'a Value>, slot: &Slot) -> Option<(&'a Map<String, Value>, Slot)> {
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
    kinds_to(root, slot, MOST_REFERENCES)
}

fn kinds_to(root: Option<&Value>, slot: &Slot, depth: usize) -> Kinds {
    let Some((rules, slot)) = rules(root, slot).filter(|_| depth > 0) else { return Kinds::ANY };
    if rules.get("nullable") == Some(&Value::Bool(true)) {
        return Kinds(kinds_of(root, rules, &slot, depth).0 | Kinds::NULL.0);
    }
    kinds_of(root, rules, &slot, depth)
}

fn kinds_of(root: Option<&Value>, rules: &Map<String, Value>, slot: &Slot, depth: usize) -> Kinds {
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
    Kinds::joined(alternatives.iter().map(|slot| kinds_to(root, slot, depth - 1)))
}

fn alternatives(rules: &Map<String, Value>, slot: &Slot) -> Vec<Slot> {
    let list = |name: &str| rules.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let of =
        |name: &'static str| (0..list(name)).map(move |at| slot.within(&[name, &at.to_string()]));
    of("anyOf").chain(of("oneOf")).collect()
}

/// The place whose rules hold for a value of this type: of alternatives the only one that allows it.
pub fn of_kind(root: Option<&Value>, slot: Slot, name: &str) -> Slot {
    let Some((rules, at)) = rules(root, &slot) else { return Slot::none() };
    let alternatives = alternatives(rules, &at);
    if alternatives.is_empty() {
        return at;
    }
    let kind = Kinds::named(name);
    let mut fitting = alternatives.into_iter().filter(|slot| kinds(root, slot).contains(kind));
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

/// A name without case, hyphens and underscores.
pub fn plain(name: &str) -> String {
    let kept = name.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    kept.flat_map(char::to_lowercase).collect()
}

/// The JSON of a value as a type that its place allows; `None` if it has one, or cannot be one.
pub fn fitting(root: Option<&Value>, slot: &Slot, json: &str) -> Option<String> {
    let wanted = kinds(root, slot);
    let value: Value = serde_json::from_str(json).ok()?;
    if let (Value::String(text), true) = (&value, wanted.contains(Kinds::STRING)) {
        return choice(root, slot, text);
    }
    if wanted.contains(Kinds::of(&value)) {
        return None;
    }
    match &value {
        Value::String(text) => of_text(root, slot, text.trim(), wanted),
        Value::Number(number) if wanted.contains(Kinds::INTEGER) => whole_number(number.as_f64()?),
        Value::Number(_) | Value::Bool(_) if wanted.contains(Kinds::STRING) => {
            Some(Value::from(json).to_string())
        }
        Value::Object(_) | Value::Array(_) if wanted.contains(Kinds::STRING) => {
            Some(Value::from(json).to_string())
        }
        Value::Object(_) | Value::Number(_) if wanted.contains(Kinds::ARRAY) => {
            in_list(root, slot, json)
        }
        _ => None,
    }
}

/// The listed text that differs from this one in its case alone.
fn choice(root: Option<&Value>, slot: &Slot, text: &str) -> Option<String> {
    let (rules, _) = rules(root, slot)?;
    let choices = rules.get("enum")?.as_array()?;
    let mut choices = choices.iter().filter_map(Value::as_str);
    if choices.clone().any(|choice| choice == text) {
        return None;
    }
    choices.find(|choice| plain(choice) == plain(text)).map(relaxed::quoted)
}

fn of_text(root: Option<&Value>, slot: &Slot, text: &str, wanted: Kinds) -> Option<String> {
    let number = || {
        let number = serde_json::from_str::<serde_json::Number>(text).ok()?;
        match wanted.contains(Kinds::NUMBER) || !number.is_f64() {
            true => Some(text.to_owned()),
            false => whole_number(number.as_f64()?),
        }
    };
    let lower = text.to_ascii_lowercase();
    if wanted.contains(Kinds::BOOLEAN) && matches!(lower.as_str(), "true" | "false") {
        return Some(lower);
    }
    if wanted.contains(Kinds::INTEGER) && number().is_some() {
        return number();
    }
    if wanted.contains(Kinds::NULL) && matches!(lower.as_str(), "null" | "none") {
        return Some("null".to_owned());
    }
    let (object, array) = (wanted.contains(Kinds::OBJECT), wanted.contains(Kinds::ARRAY));
    match text.chars().next() {
        Some('{') if object => relaxed::whole(text, root, slot),
        Some('[') if array => relaxed::whole(text, root, slot),
        Some(_) if array => in_list(root, slot, &relaxed::quoted(text)),
        _ => None,
    }
}

/// A list of one value, if the list's items may be such.
fn in_list(root: Option<&Value>, slot: &Slot, json: &str) -> Option<String> {
    let list = of_kind(root, slot.clone(), "array");
    let items = items(root, &list);
    let item = relaxed::whole(json, root, &items)?;
    let value: Value = serde_json::from_str(&item).ok()?;
    let known = kinds(root, &items);
    (known != Kinds::ANY && known.contains(Kinds::of(&value))).then(|| format!("[{item}]"))
}

fn whole_number(number: f64) -> Option<String> {
    // Up to here each whole number has a float of its own.
    let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
    is_whole.then(|| (number as i64).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_take_the_type_that_their_place_asks_for_where_that_is_plain() {
        let schema = json!({
            "properties": {
                "i": {"type": "integer"}, "n": {"type": ["number", "null"]}, "b": {"type": "boolean"},
                "s": {"type": "string"}, "l": {"anyOf": [{"$ref": "#/$defs/l"}, {"type": "null"}]},
                "o": {"type": "object", "properties": {"i": {"type": "integer"}}},
                "e": {"enum": ["red", "blue"]}
            },
            "$defs": {"l": {"type": "array", "items": {"type": "string"}}}
        });
        let fit = |key: &str, json: &str| {
            let (_, slot) = property(Some(&schema), &Slot::root(), key);
            fitting(Some(&schema), &slot, json)
        };
        for (key, json, expected) in [
            ("i", "\"3\"", Some("3")),
            ("i", "3.0", Some("3")),
            ("i", "\"3.5\"", None),
            ("i", "\"three\"", None),
            ("n", "\"2.5\"", Some("2.5")),
            ("n", "\"null\"", Some("null")),
            ("b", "\"True\"", Some("true")),
            ("b", "1", None),
            ("s", "1.50", Some("\"1.50\"")),
            ("s", "null", None),
            ("s", "{\"a\": 1}", Some(r#""{\"a\": 1}""#)),
            ("l", "\"a\"", Some("[\"a\"]")),
            ("l", "\"['a', 1]\"", Some("['a', 1]")),
            ("l", "null", None),
            ("o", r#""{\"i\": \"7\"}""#, Some("{\"i\": 7}")),
            ("e", "\"Red\"", Some("\"red\"")),
            ("e", "\"green\"", None),
            ("x", "\"3\"", None),
        ] {
            let expected = expected.map(|text| text.replace("['a', 1]", "[\"a\", \"1\"]"));
            assert_eq!(fit(key, json), expected, "{key} {json}");
        }
        assert_eq!(property(Some(&schema), &Slot::root(), "E").0, "e");
    }

    #[test]
    fn a_schema_that_refers_to_itself_allows_everything() {
        let schema = json!({"$ref": "#"});
        assert_eq!(kinds(Some(&schema), &Slot::root()), Kinds::ANY);
        let schema = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert_eq!(kinds(Some(&schema), &Slot::root()), Kinds::ANY);
    }
}
