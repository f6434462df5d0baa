//! Arguments that are no JSON: elements, lines of keys and values, a call as in a program, or plain text.

use serde_json::Value;

use super::super::cursor::Cursor;
use super::super::{names, relaxed, slots};
use super::tag;
use crate::chat::values;

/// Elements that hold all arguments.
const AROUND: [&str; 7] =
    ["arguments", "parameters", "args", "params", "input", "tool_input", "function_parameters"];
/// Words of elements that have the argument's name as an attribute.
const NAMED: [&str; 8] =
    ["parameter", "param", "arg", "argument", "field", "invoke", "function", "tool"];
/// Those of them that hold a call.
const CALLS: [&str; 3] = ["invoke", "function", "tool"];
/// Words of elements that hold an argument's name; its value is the next element.
const KEYS: [&str; 2] = ["arg_key", "key"];

/// Deepest nesting of elements.
const DEEPEST: usize = 30;

/// Reads what stands between the tags of a call whose schema is `root`, as JSON of its arguments. `None` if
/// nothing can be made of it.
pub fn arguments(raw: &str, root: Option<&Value>) -> Option<String> {
    arguments_within(raw, root, DEEPEST)
}

/// The same, with elements in it nested no deeper than `depth`.
fn arguments_within(raw: &str, root: Option<&Value>, depth: usize) -> Option<String> {
    let text = unfenced(raw.trim());
    if matches!(text, "" | "null" | "None" | "\"\"" | "''" | "()" | "\"{}\"" | "undefined") {
        return Some("{}".to_owned());
    }
    let slot = slots::Slot::root();
    if let Some(json) = unescaped(text).and_then(|text| relaxed::whole(&text, root, &slot)) {
        return Some(json);
    }
    if text.starts_with(['{', '"', '[']) {
        let json = relaxed::whole(text, root, &slot);
        if let Some(Value::String(text)) = json.as_ref().and_then(|json| values::of_text(json).ok())
        {
            return only_text(&text, root).or(json);
        }
        return json.or_else(|| pairs(text, root)).or_else(|| only_text(raw, root));
    }
    if text.starts_with('<') {
        if let Some(json) = elements(text, root, depth) {
            return relaxed::whole(&json, root, &slot);
        }
    }
    pairs(text, root).or_else(|| only_text(raw, root))
}

/// The character data that a text is; `None` if it is none.
fn data(text: &str) -> Option<&str> {
    text.trim().strip_prefix(tag::CDATA).and_then(|text| text.strip_suffix("]]>"))
}

/// A text without the fence, or the marks of character data, around it.
fn unfenced(text: &str) -> &str {
    let text = data(text).map_or(text, str::trim);
    let inside = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    let inside = inside.map(|text| text.trim_start_matches(|c: char| c.is_ascii_alphanumeric()));
    inside.map_or(text, str::trim)
}

/// An object whose quotes are all escaped, though it stands in no string, as it should be.
fn unescaped(text: &str) -> Option<String> {
    let inside = text.strip_prefix('{')?.trim_start();
    if !inside.starts_with("\\\"") {
        return None;
    }
    let string = format!("\"{}\"", text.replace('\n', "\\n").replace('\t', "\\t"));
    serde_json::from_str(&string).ok()
}

/// A text without a word such as `json` or `arguments:` before what it holds.
pub fn without_label(raw: &str) -> &str {
    let text = raw.trim_start();
    let labels = ["json", "JSON"].into_iter().chain(AROUND);
    let rest = labels
        .filter_map(|label| text.strip_prefix(label))
        .map(|rest| rest.trim_start().trim_start_matches([':', '=']).trim_start());
    rest.into_iter().find(|rest| rest.starts_with('{')).unwrap_or(raw)
}

/// The object that elements, or lines of keys and values, make up.
pub fn object_in(raw: &str) -> Option<String> {
    let text = unfenced(raw.trim());
    match text.starts_with('<') {
        true => elements(text, None, DEEPEST),
        false => relaxed::whole(&format!("{{{text}}}"), None, &slots::Slot::none()),
    }
}

/// The text as the only argument: of a tool that has one alone, or requires one alone, which is a text.
fn only_text(raw: &str, root: Option<&Value>) -> Option<String> {
    let required = root.and_then(|root| root.get("required")).and_then(Value::as_array);
    let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
    let all: Vec<&str> = slots::properties(root).map(String::as_str).collect();
    let name = match (&all[..], &required[..]) {
        ([one], _) | (_, [one]) => one.to_string(),
        _ => return None,
    };
    let name = &name;
    let (_, slot) = slots::property(root, &slots::Slot::root(), name);
    let is_text = slots::kinds(root, &slot) == slots::Kinds::STRING;
    let text = raw.strip_prefix('\n').unwrap_or(raw);
    let text = text.strip_suffix('\n').unwrap_or(text);
    is_text.then(|| object([(name.clone(), relaxed::quoted(text))]))
}

fn object(pairs: impl IntoIterator<Item = (String, String)>) -> String {
    let pairs = pairs.into_iter().map(|(key, value)| format!("{}:{value}", relaxed::quoted(&key)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// Keys and values without braces, `key: value` or `key=value`, each of which the tool has to have.
fn pairs(text: &str, root: Option<&Value>) -> Option<String> {
    let text = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let json = relaxed::whole(&format!("{{{text}}}"), root, &slots::Slot::root())?;
    let read = values::of_text(&json).ok()?;
    let keys = read.as_object()?;
    let is_own = |key: &String| slots::properties(root).any(|own| own == key);
    (!keys.is_empty() && keys.keys().all(is_own)).then_some(json)
}

/// Arguments as elements: `<parameter name="a">1</parameter>`, `<parameter=a>1</parameter>` or `<a>1</a>`.
/// `None` if they are nested deeper than `depth`: more could exhaust the thread's stack.
fn elements(text: &str, root: Option<&Value>, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let mut pairs = Vec::new();
    let mut cursor = Cursor::new(text);
    loop {
        cursor.blanks();
        if cursor.rest.is_empty() {
            return (!pairs.is_empty()).then(|| object(pairs));
        }
        let (mut name, mut word, mut inside) = element(&mut cursor)?;
        if KEYS.contains(&word.as_str()) {
            // The value stands in an element of its own.
            name = inside.trim().to_owned();
            cursor.blanks();
            (_, word, inside) = element(&mut cursor)?;
        }
        if root.is_none() && CALLS.contains(&word.as_str()) && name != word {
            let arguments =
                arguments_within(inside, None, depth).unwrap_or_else(|| "{}".to_owned());
            let named = object([
                ("name".to_owned(), relaxed::quoted(&name)),
                ("arguments".to_owned(), arguments),
            ]);
            return cursor.rest.trim().is_empty().then_some(named);
        }
        let is_own = slots::properties(root).any(|own| names::plain(own) == names::plain(&name));
        if pairs.is_empty() && AROUND.contains(&word.as_str()) && !is_own {
            let inside = inside.trim();
            return match inside.starts_with('<') {
                true => elements(inside, root, depth),
                false => relaxed::whole(inside, root, &slots::Slot::root()),
            };
        }
        let (name, slot) = slots::property(root, &slots::Slot::root(), &name);
        pairs.push((name, value(inside, root, &slot, depth)));
    }
}

/// The JSON of an element's text: as it stands where a text is asked for.
fn value(inside: &str, root: Option<&Value>, slot: &slots::Slot, depth: usize) -> String {
    // Only what stands on lines of its own has line breaks around it that are not its own.
    let own = inside.strip_prefix('\n').map(|text| text.strip_suffix('\n').unwrap_or(text));
    let text = data(inside).or(own).unwrap_or(inside);
    if slots::kinds(root, slot).contains(slots::Kinds::OBJECT) && text.trim_start().starts_with('<')
    {
        if let Some(inner) = elements(text.trim(), None, depth) {
            return inner;
        }
    }
    let is_json = || values::is_value(text.trim());
    match slots::kinds(root, slot).contains(slots::Kinds::STRING) || !is_json() {
        true => relaxed::quoted(text),
        false => text.trim().to_owned(),
    }
}

/// Reads an element: the argument's name, the element's word, and its text.
fn element<'a>(cursor: &mut Cursor<'a>) -> Option<(String, String, &'a str)> {
    let tag = cursor.rest.strip_prefix('<')?;
    let (inside, behind) = tag.split_once('>')?;
    let end = inside.find(|c: char| !(c.is_alphanumeric() || "_-".contains(c)));
    let (word, attributes) = inside.split_at(end.unwrap_or(inside.len()));
    let attributes = attributes.trim();
    let named = match attributes.strip_prefix('=') {
        Some(name) => Some(name),
        None => attributes.split_once('=').map(|(_, name)| name),
    };
    let name = named.map(|name| name.trim_matches(|c: char| " \"'“”".contains(c)));
    let name = name.filter(|_| NAMED.contains(&word)).unwrap_or(word);
    let close = format!("</{word}>");
    let at = behind.find(&close)?;
    cursor.rest = &behind[at + close.len()..];
    (!word.is_empty()).then(|| (name.to_owned(), word.to_owned(), &behind[..at]))
}

/// Arguments that stand as attributes in the begin tag, as JSON.
pub fn of_attributes(begin: &tag::Begin, root: Option<&Value>) -> Option<String> {
    let value_of = |name: &str| {
        let found = begin.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| tag::decoded(value).0)
    };
    let own = slots::properties(root);
    if let Some(json) =
        AROUND.iter().filter(|name| !own_has(root, name)).find_map(|name| value_of(name))
    {
        return relaxed::whole(json.trim(), root, &slots::Slot::root());
    }
    let pairs: Vec<(String, String)> = own
        .filter(|own| own.as_str() != "name")
        .filter_map(|own| Some((own.clone(), relaxed::quoted(&value_of(own)?))))
        .collect();
    (!pairs.is_empty()).then(|| relaxed::whole(&object(pairs), root, &slots::Slot::root()))?
}

fn own_has(root: Option<&Value>, name: &str) -> bool {
    slots::properties(root).any(|own| own == name)
}

/// Splits a tool's name before its arguments, `weather {…}` or `weather(…)`, from them.
pub fn name_before(raw: &str) -> Option<(&str, &str)> {
    let text = raw.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.:/".contains(c)))?;
    let (name, rest) = text.split_at(end);
    let is_name = !name.is_empty() && rest.trim_start().starts_with(['{', '(', '<', '"']);
    is_name.then_some((name.trim_end_matches(':'), rest))
}
