//! Validates values by JSON Schema. A value that is called unfit breaks the schema by the rules of every draft
//! that it may be written in; what is not understood, or takes too long, is left open and never held against a
//! value.
//!
//! Enters: a schema as a client sent it, and a value. Leaves: whether the value fits, and where it does not.
//! All keywords of the drafts 4 to 2020-12 are followed, those of the draft alone that `$schema` names.
//! Left open are references out of the document and dynamic ones, patterns that look around or back,
//! and integers beyond 64 bits that a double cannot tell apart. `format` and the `content…` keywords
//! forbid nothing. `nullable` is OpenAPI's.
//!
//! - `rules`: keywords that concern the whole value; `parts`: those on its properties and items
//! - `coverage`: what `unevaluatedProperties` and `unevaluatedItems` are about
//! - `places`: references and drafts; `numbers`, `pattern`: what their names say

mod coverage;
mod numbers;
mod parts;
mod pattern;
mod places;
mod rules;

use std::cell::Cell;

use serde_json::Value;

use places::Place;

/// Deepest nesting of schemas, those referred to included, that is followed.
const DEEPEST: usize = 100;
/// Most steps of one check: a tenth of a second at most. References and combinations can multiply
/// without end, and lists can be compared with lists.
const MOST_STEPS: usize = 500_000;
/// The bytes of a text that are compared, or looked up by, in the time of a step.
const BYTES_OF_STEP: usize = 64;
/// Most bytes of a message that come from one rule, or one name, of the schema or the value.
const MOST_QUOTED: usize = 200;
/// Most steps of a path that a message names.
const MOST_PATH: usize = 20;

/// The result of a check of a value by a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The value fits.
    Fits,
    /// The value may fit: the schema says more than is understood, or takes too long to follow.
    Open,
    /// The value does not fit: the place and the rule, in words for people and models.
    Unfit(String),
}

/// A schema that values are checked against.
pub struct Schema<'a> {
    root: &'a Value,
    /// The steps that are left of this check.
    left: Cell<usize>,
}

/// How certain it is that a value fits, if it breaks no rule that is understood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Open,
    Sure,
}

type Checked<'c> = Result<Fit, Fault<'c>>;

/// The rule that a value breaks, and where. Only the fault that is reported is put into words, since most are
/// not.
struct Fault<'c> {
    /// The path to the value, innermost step first.
    path: Vec<Step<'c>>,
    keyword: &'c str,
    rule: &'c Value,
    /// The property that is missing, if the rule is about that.
    lacks: Option<&'c str>,
}

#[derive(Clone, Copy)]
enum Step<'c> {
    Name(&'c str),
    At(usize),
}

impl<'a> Schema<'a> {
    /// Creates a checker for this schema; parts of it that are not understood allow everything.
    pub fn new(root: &'a Value) -> Schema<'a> {
        Schema { root, left: Cell::new(MOST_STEPS) }
    }

    /// Checks a value.
    pub fn judge(&self, value: &Value) -> Judgement {
        self.left.set(MOST_STEPS);
        let checked = self.check(Place::root(self.root), self.root, value);
        match checked {
            _ if self.left.get() == 0 => Judgement::Open,
            Ok(Fit::Sure) => Judgement::Fits,
            Ok(Fit::Open) => Judgement::Open,
            Err(fault) => Judgement::Unfit(fault.words()),
        }
    }

    /// Checks a value, and returns the place and the rule if it does not fit, in words for people and models;
    /// `None` if it fits, or may fit.
    pub fn fault(&self, value: &Value) -> Option<String> {
        match self.judge(value) {
            Judgement::Unfit(fault) => Some(fault),
            Judgement::Fits | Judgement::Open => None,
        }
    }

    /// Counts steps; false once too many have been taken.
    fn step(&self, steps: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(steps));
        self.left.get() > 0
    }

    /// Returns the items as long as there are steps left: behind the last step nothing that is found counts.
    fn while_possible<I: IntoIterator>(&self, items: I) -> impl Iterator<Item = I::Item> {
        items.into_iter().take_while(|_| self.left.get() > 0)
    }

    /// Counts the steps of hashing, comparing or reading a text; false once too many have been taken.
    fn step_through(&self, text: &str) -> bool {
        self.step(1 + text.len() / BYTES_OF_STEP)
    }
}

impl<'c> Fault<'c> {
    fn new(keyword: &'c str, rule: &'c Value) -> Fault<'c> {
        Fault { path: Vec::new(), keyword, rule, lacks: None }
    }

    fn within(mut self, step: Step<'c>) -> Fault<'c> {
        self.path.push(step);
        self
    }

    fn words(&self) -> String {
        let rule = || quoted(&self.rule.to_string());
        let why = match (self.lacks, self.keyword) {
            (Some(name), _) => format!("lacks the required property `{}`", quoted(name)),
            (_, "type") => format!("must be of type {}", rule()),
            (_, "enum") => format!("must be one of {}", rule()),
            (_, "const") => format!("must be {}", rule()),
            (_, "anyOf") => "fits none of the schemas in anyOf".to_owned(),
            (_, "oneOf") => "does not fit exactly one of the schemas in oneOf".to_owned(),
            _ if *self.rule == Value::Bool(false) => "is not allowed".to_owned(),
            (_, keyword) => format!("breaks the rule {}: {}", quoted(keyword), rule()),
        };
        format!("${} {why}", self.place())
    }

    fn place(&self) -> String {
        let hidden = self.path.len().saturating_sub(MOST_PATH);
        let shown = self.path.iter().rev().take(MOST_PATH);
        let mut place: String = shown.map(Step::words).collect();
        if hidden > 0 {
            place += "…";
        }
        place
    }
}

impl Step<'_> {
    fn words(&self) -> String {
        match self {
            Step::Name(name) => format!(".{}", quoted(name)),
            Step::At(index) => format!("[{index}]"),
        }
    }
}

/// Returns a text, or its beginning if it is longer than [`MOST_QUOTED`].
fn quoted(text: &str) -> String {
    match (0..=MOST_QUOTED).rev().find(|end| text.is_char_boundary(*end)) {
        Some(end) if text.len() > MOST_QUOTED => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(schema: Value, value: Value) -> Judgement {
        Schema::new(&schema).judge(&value)
    }

    fn fits(schema: Value, value: Value) -> Option<bool> {
        match judged(schema, value) {
            Judgement::Fits => Some(true),
            Judgement::Open => None,
            Judgement::Unfit(_) => Some(false),
        }
    }

    #[test]
    fn faults_name_the_place_and_the_rule() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
                "age": {"type": ["integer", "null"], "minimum": 0},
                "kind": {"enum": ["a", "b"]},
                "tree": {"$ref": "#/$defs/tree"},
                "either": {"anyOf": [{"type": "string"}, {"type": "number"}]}
            },
            "required": ["name"],
            "additionalProperties": false,
            "$defs": {"tree": {
                "type": "object",
                "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "additionalProperties": false
            }}
        });
        let schema = Schema::new(&schema);
        for good in [
            json!({"name": "x"}),
            json!({"name": "x", "age": null, "kind": "b", "either": 2}),
            json!({"name": "x", "age": 1.0, "tree": {"children": [{"children": []}]}}),
        ] {
            assert_eq!(schema.judge(&good), Judgement::Fits, "{good}");
        }
        for (bad, fault) in [
            (json!({}), "$ lacks the required property `name`"),
            (json!([]), "$ must be of type \"object\""),
            (json!({"name": ""}), "$.name breaks the rule minLength: 1"),
            (json!({"name": "X"}), "$.name breaks the rule pattern: \"^[a-z]+$\""),
            (json!({"name": "x", "age": 1.5}), "$.age must be of type [\"integer\",\"null\"]"),
            (json!({"name": "x", "age": -1}), "$.age breaks the rule minimum: 0"),
            (json!({"name": "x", "kind": "c"}), "$.kind must be one of [\"a\",\"b\"]"),
            (json!({"name": "x", "other": 1}), "$.other is not allowed"),
            (json!({"name": "x", "either": null}), "$.either fits none of the schemas in anyOf"),
            (
                json!({"name": "x", "tree": {"children": [{"x": []}]}}),
                "$.tree.children[0].x is not allowed",
            ),
        ] {
            assert_eq!(schema.fault(&bad).as_deref(), Some(fault), "{bad}");
        }
    }

    #[test]
    fn long_rules_names_and_paths_are_cut_in_a_fault() {
        let name = "é".repeat(1_000);
        let schema = json!({"additionalProperties": {"enum": ["x".repeat(1_000_000)]}});
        let fault = Schema::new(&schema).fault(&json!({name: 1})).unwrap();
        assert!(fault.len() < 3 * MOST_QUOTED && fault.ends_with('…'), "{fault}");
        let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
        let schema = json!({"type": "array", "items": {"$ref": "#"}});
        let fault = format!("${}… must be of type \"array\"", "[0]".repeat(MOST_PATH));
        assert_eq!(judged(schema, deep), Judgement::Unfit(fault));
    }

    #[test]
    fn what_is_not_understood_is_left_open_also_where_its_opposite_is_asked_for() {
        for unknown in [
            json!({"type": "text"}),
            json!({"required": true}),
            json!({"minimum": "1"}),
            json!({"properties": []}),
            json!({"pattern": "(?=a)"}),
            json!({"$ref": "https://example.com/schema"}),
            json!({"$ref": "#/nowhere"}),
            json!({"$dynamicRef": "#node"}),
            json!({"$schema": "https://example.com/own", "type": "string"}),
            json!("string"),
        ] {
            let value = match unknown.as_object().and_then(|rules| rules.keys().next()) {
                Some(keyword) if keyword == "pattern" => json!("b"),
                Some(keyword) if ["properties", "required"].contains(&keyword.as_str()) => {
                    json!({})
                }
                _ => json!(1),
            };
            assert_eq!(fits(unknown.clone(), value.clone()), None, "{unknown}");
            for (schema, expected) in [
                (json!({"not": unknown}), None),
                (json!({"anyOf": [false, unknown]}), None),
                (json!({"anyOf": [true, unknown]}), Some(true)),
                (json!({"oneOf": [true, unknown]}), None),
                (json!({"allOf": [false, unknown]}), Some(false)),
                (json!({"if": unknown, "then": false}), None),
                (json!({"if": unknown, "then": false, "else": false}), Some(false)),
            ] {
                assert_eq!(fits(schema.clone(), value.clone()), expected, "{schema}");
            }
        }
    }

    #[test]
    fn keywords_that_only_describe_forbid_nothing() {
        let schema = json!({
            "title": "T", "description": "d", "default": 1, "examples": [1], "deprecated": true,
            "format": "email", "contentEncoding": "base64", "x-order": 1, "example": 2
        });
        assert_eq!(fits(schema, json!("no address")), Some(true));
        let old = json!({"$schema": "http://json-schema.org/draft-07/schema#", "format": "email"});
        assert_eq!(fits(old, json!("no address")), None);
    }

    #[test]
    fn null_is_allowed_by_openapis_keyword() {
        let nullable = json!({"type": "string", "nullable": true});
        assert_eq!(fits(nullable.clone(), json!(null)), Some(true));
        assert_eq!(fits(nullable, json!(1)), Some(false));
        assert_eq!(fits(json!({"enum": ["a"], "nullable": true}), json!(null)), None);
        let pointing = json!({"nullable": true, "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "string"}}});
        assert_eq!(fits(pointing, json!(null)), None);
    }

    #[test]
    fn where_the_drafts_differ_and_none_is_named_nothing_is_forbidden() {
        let beside = |schema: Option<&str>| {
            let mut rules = json!({"$ref": "#/$defs/a", "maxLength": 1, "$defs": {"a": {}}});
            if let Some(schema) = schema {
                rules["$schema"] = json!(schema);
            }
            fits(rules, json!("ab"))
        };
        assert_eq!(beside(None), None);
        assert_eq!(beside(Some("https://json-schema.org/draft/2020-12/schema")), Some(false));
        assert_eq!(beside(Some("http://json-schema.org/draft-07/schema#")), Some(true));
    }

    #[test]
    fn a_check_that_would_take_too_long_ends_without_a_word() {
        let twice = |to: &str| json!([{"$ref": to}, {"$ref": to}]);
        let mut doubling = serde_json::Map::new();
        for at in 0..40 {
            let next = twice(&format!("#/$defs/{}", at + 1));
            doubling.insert(at.to_string(), json!({"anyOf": next}));
        }
        doubling.insert("40".to_owned(), json!({"type": "string"}));
        let list: Vec<String> = (0..3_000).map(|at| at.to_string()).collect();
        for (schema, value) in [
            (json!({"$ref": "#"}), json!({})),
            (json!({"allOf": twice("#")}), json!({})),
            (json!({"not": {"$ref": "#"}}), json!(1)),
            (json!({"$ref": "#/$defs/0", "$defs": doubling}), json!(1)),
            (json!({"uniqueItems": true}), json!(list)),
            (json!({"items": {"enum": list}}), json!(vec!["none"; 1_000])),
            (json!({"pattern": "^(a+)+$"}), json!("a".repeat(1_000_000))),
            (json!({"pattern": "a".repeat(1_000_000)}), json!("b")),
            (json!({"unevaluatedProperties": false, "anyOf": twice("#")}), json!({"a": 1})),
        ] {
            let schema_text: String = schema.to_string().chars().take(80).collect();
            let judgement = Schema::new(&schema).judge(&value);
            assert!(!matches!(judgement, Judgement::Fits), "{schema_text}");
            let is_said = schema.pointer("/items/enum").is_some();
            assert_eq!(matches!(judgement, Judgement::Unfit(_)), is_said, "{schema_text}");
        }
    }

    /// Each of these would go on for minutes or hours behind the last step, or without taking any.
    #[test]
    fn what_is_large_in_a_schema_and_a_value_at_once_is_left_open_too() {
        let (many, some) = (300_000, 30_000);
        let long = "x".repeat(1_000_000);
        let named = |prefix: &str, count: usize, value: Value| -> Value {
            (0..count).map(|at| (format!("{prefix}{at}"), value.clone())).collect()
        };
        let nearly_none: Vec<bool> = (1..=many).map(|at| at == many).collect();
        let nothing = json!({"allOf": vec![json!(1); many]});
        for (schema, value) in [
            (json!({"uniqueItems": true}), (0..many).collect()),
            (json!({"items": {"allOf": vec![true; many]}}), json!(vec![1; some])),
            (json!({"items": {"oneOf": nearly_none}}), json!(vec![1; some])),
            (
                json!({"patternProperties": named("^a", some, json!({}))}),
                named("b", some, json!(1)),
            ),
            (json!({"items": {"$ref": "#x"}, "$defs": {"a": nothing}}), json!(vec![1; some])),
            (
                json!({"unevaluatedProperties": false, "allOf": vec![json!({"a": 1}); many]}),
                named("b", some, json!(1)),
            ),
            (
                json!({
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "unevaluatedProperties": false,
                    "allOf": vec![json!({"dependencies": {}}); many],
                }),
                named("b", some, json!(1)),
            ),
            (
                json!({"items": {"enum": [{"a": 1, &long: 1}, {"a": 1, "b": 1}]}}),
                json!(vec![json!({"a": 1, "b": 1}); some]),
            ),
            (
                json!({
                    "allOf": vec![json!({"$ref": "#/$defs/a"}); some],
                    "$defs": {"a": {"properties": {&long: {}, "b": {}}}},
                }),
                json!({&long: 1, "b": 1}),
            ),
        ] {
            let schema_text: String = schema.to_string().chars().take(80).collect();
            let judgement = Schema::new(&schema).judge(&value);
            assert_eq!(judgement, Judgement::Open, "{schema_text}");
        }
    }
}
