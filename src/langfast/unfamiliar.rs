//! Looks into events whose form is not known for what may be a run's id, text and end. It is asked only
//! where the known form has none of them, so that nothing of what is known costs more or reads otherwise.
//!
//! What is found is told from what only looks like it by names: text may be under a few names, in a few
//! wrappings, but not in what repeats a request, in a thought or in a log.

use serde_json::value::RawValue;

use super::outcome::{EndFields, bare, text};
use super::raw;
use super::texts::Place;

/// Names of a text, the likeliest first. Source: LangFast's own `content`; OpenAI's and other makers'
/// APIs for the rest.
const TEXTS: &[&str] = &["content", "text", "outputtext", "output", "delta", "completion"];
/// Names of what may hold a run's payload, and tells of the run itself.
const OF_THE_RUN: &[&str] =
    &["data", "payload", "body", "event", "execution", "job", "run", "response", "result"];
/// Names of what may hold a run's text.
const OF_ITS_TEXT: &[&str] =
    &["choices", "delta", "message", "output", "content", "chunk", "item", "part", "completion"];
/// Parts of names and types of what holds other text than the answer.
const NO_ANSWER: &[&str] =
    &["reason", "think", "tool", "function", "log", "debug", "trace", "input", "refusal", "audio"];
/// Names of ids, without case and separators.
pub const IDS: &[&str] = &["executionid", "jobid", "runid"];
/// Names of what may be an id.
const MAYBE_IDS: &[&str] = &["id", "uuid", "execution", "job", "run"];
/// Most levels, objects, and ids of an event that are looked at, and bytes of an id.
const MOST_LEVELS: usize = 5;
const MOST_OBJECTS: usize = 64;
const MOST_IDS: usize = 16;
const LONGEST_ID: usize = 128;

/// The parts of an event that were found by likely names.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// Words under a name that means a run's id.
    pub ids: Vec<String>,
    /// Words that may be a run's id, under a name that also means others.
    pub maybe_ids: Vec<String>,
    /// A text: raw JSON, quotes included.
    pub text: Option<(Place, &'a RawValue)>,
    /// Whether there is a field of a text that is empty or null.
    pub has_no_text: bool,
    /// The fields that tell whether and how the run has ended.
    pub end: EndFields<'a>,
}

/// An object to look into.
struct Level<'a> {
    value: &'a RawValue,
    depth: usize,
    /// Whether it tells of the run itself, whether it may hold its text, and whether that is called
    /// a delta.
    of_run: bool,
    of_answer: bool,
    is_delta: bool,
}

/// Looks into the arguments of the event `name`, level by level.
pub fn look<'a>(name: &str, arguments: &'a str) -> Found<'a> {
    let mut found = Found::default();
    let of_answer = !is_of_no_answer(name);
    let is_delta = bare(name).ends_with("delta");
    let mut levels = Vec::new();
    for value in raw::values(arguments).into_iter().take(MOST_OBJECTS) {
        found.note_id(MAYBE_IDS[0], value);
        levels.push(Level { value, depth: 0, of_run: true, of_answer, is_delta });
    }
    let mut next = 0;
    while next < levels.len() {
        let inner = found.take(&levels[next]);
        let room = MOST_OBJECTS.saturating_sub(levels.len());
        levels.extend(inner.into_iter().take(room));
        next += 1;
    }
    found
}

/// The objects in arguments that begin with a list: a batch of events.
pub fn batch(arguments: &str) -> Vec<&str> {
    let list = arguments.starts_with('[').then(|| raw::first(arguments)).flatten();
    let objects = list.into_iter().flat_map(raw::items).map(RawValue::get);
    objects.filter(|item| item.starts_with('{')).collect()
}

fn is_of_no_answer(name: &str) -> bool {
    let name = bare(name);
    NO_ANSWER.iter().any(|part| name.contains(part))
}

impl<'a> Found<'a> {
    /// Notes what an object says, and returns what may be looked into further.
    fn take(&mut self, level: &Level<'a>) -> Vec<Level<'a>> {
        let fields: Vec<(String, &'a RawValue)> = raw::fields(level.value)
            .into_iter()
            .map(|(name, value)| (bare(&name), value))
            .collect();
        let named = |wanted: &str| fields.iter().find(|(name, _)| name == wanted);
        let says = |field: &str, is: &dyn Fn(&str) -> bool| {
            named(field).and_then(|(_, value)| text(Some(value))).is_some_and(|word| is(&word))
        };
        let of_answer = level.of_answer
            && !says("role", &|role| role != "assistant")
            && !says("type", &is_of_no_answer);
        for (name, value) in &fields {
            self.note_id(name, value);
            self.note_end(name, value, level);
        }
        if of_answer && self.text.is_none() {
            self.take_text(level, &fields);
        }
        inner_levels(level, &fields, of_answer)
    }

    /// Takes the text of an object, under the likeliest name that it has.
    fn take_text(&mut self, level: &Level<'a>, fields: &[(String, &'a RawValue)]) {
        let named = |wanted: &str| fields.iter().find(|(name, _)| name == wanted);
        let is_none = |value: &RawValue| matches!(value.get(), "\"\"" | "null");
        let is_said = |name: &&str| named(name).is_some_and(|(_, value)| is_none(value));
        self.has_no_text |= TEXTS.iter().any(is_said);
        let is_text = |value: &&RawValue| value.get().starts_with('"') && value.get() != "\"\"";
        let named = |wanted: &&str| named(wanted).filter(|(_, value)| is_text(value));
        self.text = TEXTS.iter().find_map(named).map(|(name, value)| {
            let place = match name.as_str() {
                "content" if level.depth == 0 => Place::Content,
                name if name == "delta" || level.is_delta => Place::Delta,
                _ => Place::Other,
            };
            (place, *value)
        });
    }

    fn note_id(&mut self, name: &str, value: &RawValue) {
        let is_id = IDS.contains(&name);
        let full = self.ids.len() + self.maybe_ids.len() >= MOST_IDS;
        if full || value.get().len() > LONGEST_ID || !is_id && !MAYBE_IDS.contains(&name) {
            return;
        }
        let ids = if is_id { &mut self.ids } else { &mut self.maybe_ids };
        ids.extend(text(Some(value)));
    }

    fn note_end(&mut self, name: &str, value: &'a RawValue, level: &Level<'a>) {
        let end = &mut self.end;
        let field = match name {
            "status" | "state" if level.of_run => &mut end.status,
            "error" if level.of_run => &mut end.error,
            "message" if level.of_run => &mut end.message,
            "finishreason" | "stopreason" => &mut end.finish_reason,
            _ => return,
        };
        field.get_or_insert(value);
    }
}

/// The objects in an object in which the same event may go on, one level deeper.
fn inner_levels<'a>(
    level: &Level<'a>,
    fields: &[(String, &'a RawValue)],
    of_answer: bool,
) -> Vec<Level<'a>> {
    let depth = level.depth + 1;
    let mut inner = Vec::new();
    for (name, value) in fields.iter().filter(|_| depth < MOST_LEVELS) {
        let of_run = OF_THE_RUN.contains(&name.as_str());
        if !of_run && !OF_ITS_TEXT.contains(&name.as_str()) {
            continue;
        }
        let (of_run, is_delta) = (of_run && level.of_run, level.is_delta || name == "delta");
        let one = |value| Level { value, depth, of_run, of_answer, is_delta };
        inner.push(one(value));
        inner.extend(raw::items(value).into_iter().map(one));
    }
    inner.retain(|level| level.value.get().starts_with('{'));
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, arguments: &str) -> Option<(Place, String)> {
        let text = look(name, arguments).text?;
        Some((text.0, text.1.get().to_owned()))
    }

    #[test]
    fn a_text_is_found_by_name_from_the_outside_to_the_inside_and_what_is_empty_is_none() {
        for (arguments, place) in [
            (r#"{"content":"a"}"#, Place::Content),
            (r#"{"data":{"content":"a"}}"#, Place::Other),
            (r#"{"text":"a","data":{"content":"b"}}"#, Place::Other),
            (r#"{"content":"","delta":"a"}"#, Place::Delta),
            (r#"{"content":null,"Output_Text":"a"}"#, Place::Other),
            (r#"{"choices":[{"delta":{"content":"a"}}]}"#, Place::Delta),
            (r#"{"choices":[{"message":{"role":"assistant","content":"a"}}]}"#, Place::Other),
            (r#"{"delta":{"type":"text_delta","text":"a"}}"#, Place::Delta),
            (
                r#"{"response":{"output":[{"type":"reasoning","content":[{"text":"no"}]},{"type":"message","content":[{"type":"output_text","text":"a"}]}]}}"#,
                Place::Other,
            ),
            (r#""an id",7,{"output":"a"}"#, Place::Other),
        ] {
            assert_eq!(found("x", arguments), Some((place, "\"a\"".to_owned())), "{arguments}");
        }
        assert_eq!(found("output_text.delta", r#"{"text":"a"}"#).unwrap().0, Place::Delta);
    }

    #[test]
    fn what_repeats_a_request_a_thought_or_a_log_is_no_text() {
        for (name, arguments) in [
            ("x", r#"{"prompt_meta":{"messages":[{"content":"a"}]}}"#),
            ("x", r#"{"messages":[{"content":"a"}],"input":"a","prompt":{"text":"a"}}"#),
            ("x", r#"{"message":{"role":"user","content":"a"}}"#),
            ("x", r#"{"item":{"type":"function_call","output":"a"}}"#),
            ("x", r#"{"type":"response.reasoning_text.delta","delta":"a"}"#),
            ("job:log", r#"{"text":"a"}"#),
            ("response.function_call_arguments.delta", r#"{"delta":"a"}"#),
            ("x", r#"{"text":7,"delta":[],"output":null}"#),
            ("x", ""),
            ("x", "{"),
        ] {
            assert_eq!(found(name, arguments), None, "{name} {arguments}");
        }
    }

    #[test]
    fn ids_and_ends_are_found_and_a_part_is_not_taken_for_the_run() {
        let found = look(
            "x",
            r#""first",{"id":"second","job":{"uuid":"third","jobId":"ours"},"run":"fourth"}"#,
        );
        assert_eq!(found.ids, ["ours"]);
        assert_eq!(found.maybe_ids, ["first", "second", "fourth", "third"]);
        let status = |arguments| look("x", arguments).end.status.map(RawValue::get);
        assert_eq!(status(r#"{"data":{"job":{"status":"done"}}}"#), Some("\"done\""));
        for part in ["item", "output", "message", "step"] {
            let arguments = format!(r#"{{"{part}":{{"status":"done"}}}}"#);
            assert!(look("x", &arguments).end.status.is_none(), "{part}");
        }
    }

    #[test]
    fn deep_wide_and_long_events_are_looked_at_in_part() {
        let deep = format!("{}\"a\"{}", "{\"data\":".repeat(100), "}".repeat(100));
        assert!(look("x", &deep).text.is_none());
        let wide = format!("[{}]", vec![r#"{"id":"a","data":{}}"#; 5_000].join(","));
        assert!(batch(&wide).len() < 1_000);
        let wide = format!(r#"{{"choices":{wide}}}"#);
        assert!(look("x", &wide).maybe_ids.len() <= MOST_IDS);
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(1_000));
        assert!(look("x", &long).maybe_ids.is_empty());
    }
}
