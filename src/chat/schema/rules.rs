//! The keywords that concern a whole value: its type, what it equals, its size, and other schemas that
//! it has to fit as a whole.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::numbers::{compare, is_multiple};
use super::pattern::Pattern;
use super::places::{Draft, Place, Rules};
use super::{Checked, DEEPEST, Fault, Fit, Schema};

/// A schema, and a value that is checked against it.
#[derive(Clone, Copy)]
pub struct Node<'c> {
    /// The place of the schema's rules.
    pub place: Place<'c>,
    /// The schema's rules.
    pub rules: &'c Rules,
    /// The value.
    pub value: &'c Value,
}

/// Returns the result of a rule, of which `result` says whether it holds; `None` if that is not known.
pub fn holds<'c>(result: Option<bool>, keyword: &'c str, rule: &'c Value) -> Checked<'c> {
    match result {
        Some(true) => Ok(Fit::Sure),
        Some(false) => Err(Fault::new(keyword, rule)),
        None => Ok(Fit::Open),
    }
}

/// Returns whether a value fits; `None` if that is not known.
pub fn known(checked: &Checked) -> Option<bool> {
    match checked {
        Ok(Fit::Sure) => Some(true),
        Ok(Fit::Open) => None,
        Err(_) => Some(false),
    }
}

/// Returns the result of a rule that may not apply: a fault counts for nothing then.
pub fn doubted(checked: Checked) -> Checked {
    Ok(checked.unwrap_or(Fit::Open))
}

/// Returns the worst of several results, and takes no further ones behind a fault.
pub fn all<'c>(checks: impl IntoIterator<Item = Checked<'c>>) -> Checked<'c> {
    checks.into_iter().try_fold(Fit::Sure, |fit, checked| Ok(fit.min(checked?)))
}

impl<'a> Schema<'a> {
    /// Checks a value against a schema, which stands at `place`.
    pub(super) fn check<'c>(
        &self,
        place: Place<'c>,
        schema: &'c Value,
        value: &'c Value,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        if !self.step(1) {
            return Ok(Fit::Open);
        }
        let rules = match schema {
            Value::Bool(true) => return Ok(Fit::Sure),
            Value::Bool(false) => return Err(Fault::new("", schema)),
            Value::Object(rules) => rules,
            _ => return Ok(Fit::Open),
        };
        let place = place.enter(schema, rules);
        let Some(place) = place.filter(|place| place.depth <= DEEPEST) else {
            return Ok(Fit::Open);
        };
        let checked = self.check_rules(Node { place, rules, value });
        if value.is_null() && is_nullable(rules) { doubted(checked) } else { checked }
    }

    fn check_rules<'c>(&self, node: Node<'c>) -> Checked<'c>
    where
        'a: 'c,
    {
        let reference = node.rules.get("$ref");
        let fit = reference.map_or(Ok(Fit::Sure), |target| self.check_reference(node, target))?;
        let draft = node.place.draft;
        if reference.is_some() && draft.has_lone_references() {
            return Ok(fit);
        }
        // By the older drafts nothing counts beside a reference.
        let is_doubtful = reference.is_some() && draft == Draft::Any;
        let rules = node.rules.iter().map(|(keyword, rule)| {
            let checked = self.check_rule(node, keyword, rule);
            if is_doubtful { doubted(checked) } else { checked }
        });
        Ok(fit.min(all(rules)?))
    }

    fn check_reference<'c>(&self, node: Node<'c>, target: &'c Value) -> Checked<'c>
    where
        'a: 'c,
    {
        let found = target.as_str().and_then(|target| self.find(node.place, target));
        let Some((place, schema)) = found else { return Ok(Fit::Open) };
        self.check(place, schema, node.value)
    }

    fn check_rule<'c>(&self, node: Node<'c>, keyword: &'c str, rule: &'c Value) -> Checked<'c>
    where
        'a: 'c,
    {
        // Long division takes as long as many a rule.
        let steps = if keyword == "multipleOf" { 20 } else { 1 };
        if !node.place.draft.knows(keyword) || !self.step(steps) {
            return Ok(Fit::Open);
        }
        match keyword {
            "$dynamicRef" | "$recursiveRef" => Ok(Fit::Open),
            "allOf" | "anyOf" | "oneOf" | "not" | "if" => self.check_whole(node, keyword, rule),
            "type" | "enum" | "const" => holds(self.is_allowed(node, keyword, rule), keyword, rule),
            _ => match node.value {
                Value::Object(object) => self.check_object(node, object, keyword, rule),
                Value::Array(list) => self.check_list(node, list, keyword, rule),
                Value::String(text) => {
                    holds(self.suits_text(node, text, keyword, rule), keyword, rule)
                }
                Value::Number(number) => {
                    holds(suits_number(node.rules, number, keyword, rule), keyword, rule)
                }
                Value::Null | Value::Bool(_) => Ok(Fit::Sure),
            },
        }
    }

    /// Checks a rule of other schemas for the same value.
    fn check_whole<'c>(&self, node: Node<'c>, keyword: &'c str, rule: &'c Value) -> Checked<'c>
    where
        'a: 'c,
    {
        let check = |schema: &'c Value| self.check(node.place, schema, node.value);
        match (keyword, rule) {
            ("allOf", Value::Array(list)) => all(list.iter().map(check)),
            ("anyOf" | "oneOf", Value::Array(list)) if !list.is_empty() => {
                let most = if keyword == "anyOf" { list.len() } else { 1 };
                let fitting = list.iter().map(|schema| known(&check(schema)));
                holds(count(fitting, 1, most), keyword, rule)
            }
            ("not", schema) => holds(known(&check(schema)).map(|fits| !fits), keyword, rule),
            ("if", condition) => {
                let branch = |name| node.rules.get(name).map_or(Ok(Fit::Sure), check);
                match known(&check(condition)) {
                    Some(true) => branch("then"),
                    Some(false) => branch("else"),
                    None => match (branch("then"), branch("else")) {
                        (Err(fault), Err(_)) => Err(fault),
                        (Ok(Fit::Sure), Ok(Fit::Sure)) => Ok(Fit::Sure),
                        _ => Ok(Fit::Open),
                    },
                }
            }
            _ => Ok(Fit::Open),
        }
    }

    fn is_allowed(&self, node: Node, keyword: &str, rule: &Value) -> Option<bool> {
        match (keyword, rule) {
            ("type", Value::String(kind)) => is_of_type(node, kind),
            ("type", Value::Array(kinds)) => any(kinds
                .iter()
                .map(|kind| is_of_type(node, kind.as_str().filter(|_| self.step(1))?))),
            ("enum", Value::Array(list)) => any(list.iter().map(|one| self.same(one, node.value))),
            ("const", constant) => self.same(constant, node.value),
            _ => None,
        }
    }

    fn suits_text(&self, node: Node, text: &str, keyword: &str, rule: &Value) -> Option<bool> {
        let length = || self.step_through(text).then(|| text.chars().count());
        match keyword {
            "minLength" => is_at_least(length()?, rule),
            "maxLength" => is_at_most(length()?, rule),
            "pattern" => self.has_pattern(rule.as_str()?, text),
            // An assertion in some validators of the older drafts.
            "format" | "contentEncoding" | "contentMediaType"
                if node.place.draft <= Draft::Seven =>
            {
                None
            }
            _ => Some(true),
        }
    }

    /// True if a pattern is found in a text; `None` if it is not understood, or would take too long.
    pub(super) fn has_pattern(&self, pattern: &str, text: &str) -> Option<bool> {
        if !self.step(1 + pattern.len()) {
            return None;
        }
        let pattern = Pattern::read(pattern)?;
        self.step(pattern.cost().saturating_mul(text.len() + 1)).then(|| pattern.is_in(text))
    }

    /// True if two values are equal, as JSON Schema has it: numbers by value, objects in any order.
    pub(super) fn same(&self, left: &Value, right: &Value) -> Option<bool> {
        if !self.step(1) {
            return None;
        }
        match (left, right) {
            (Value::Number(left), Value::Number(right)) => {
                compare(left, right).map(Ordering::is_eq)
            }
            (Value::String(left), Value::String(right)) if left.len() == right.len() => {
                self.step_through(left).then(|| left == right)
            }
            (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                every(left.iter().zip(right).map(|(left, right)| self.same(left, right)))
            }
            (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
                every(left.iter().map(|(name, left)| {
                    let right = self.step_through(name).then(|| right.get(name))?;
                    right.map_or(Some(false), |right| self.same(left, right))
                }))
            }
            (Value::Null | Value::Bool(_), _) => Some(left == right),
            _ => Some(false),
        }
    }
}

/// True if null is allowed by OpenAPI's keyword, which JSON Schema does not know.
fn is_nullable(rules: &Rules) -> bool {
    rules.get("nullable") == Some(&Value::Bool(true))
}

fn is_of_type(node: Node, kind: &str) -> Option<bool> {
    let value = node.value;
    if value.is_null() && node.place.draft == Draft::Any && is_nullable(node.rules) {
        return Some(true);
    }
    Some(match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // By draft 4 `1.0` may be none.
        "integer" if node.place.draft == Draft::Four && value.is_f64() => return None,
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => return None,
    })
}

fn suits_number(rules: &Rules, number: &Number, keyword: &str, rule: &Value) -> Option<bool> {
    let limit = match (keyword, rule) {
        ("minimum" | "maximum" | "multipleOf", Value::Number(limit)) => limit,
        ("exclusiveMinimum" | "exclusiveMaximum", Value::Number(limit)) => limit,
        // Draft 4's form: whether the limit beside it is excluded.
        ("exclusiveMinimum" | "exclusiveMaximum", Value::Bool(false)) => return Some(true),
        ("exclusiveMinimum", Value::Bool(true)) => rules.get("minimum")?.as_number()?,
        ("exclusiveMaximum", Value::Bool(true)) => rules.get("maximum")?.as_number()?,
        ("minimum" | "maximum" | "multipleOf" | "exclusiveMinimum" | "exclusiveMaximum", _) => {
            return None;
        }
        _ => return Some(true),
    };
    match keyword {
        "minimum" => compare(number, limit).map(Ordering::is_ge),
        "maximum" => compare(number, limit).map(Ordering::is_le),
        "exclusiveMinimum" => compare(number, limit).map(Ordering::is_gt),
        "exclusiveMaximum" => compare(number, limit).map(Ordering::is_lt),
        _ => is_multiple(number, limit),
    }
}

/// True if a size is not below a limit; `None` if the limit is no number.
pub fn is_at_least(size: usize, limit: &Value) -> Option<bool> {
    compare(&size.into(), limit.as_number()?).map(Ordering::is_ge)
}

/// True if a size is not above a limit; `None` if the limit is no number.
pub fn is_at_most(size: usize, limit: &Value) -> Option<bool> {
    compare(&size.into(), limit.as_number()?).map(Ordering::is_le)
}

/// True if the number of results that are true is from `least` to `most`; `None` if that is not known.
pub fn count(
    results: impl Iterator<Item = Option<bool>>,
    least: usize,
    most: usize,
) -> Option<bool> {
    let (mut sure, mut open) = (0, 0);
    for result in results {
        match result {
            Some(true) => sure += 1,
            None => open += 1,
            Some(false) => {}
        }
    }
    match (sure, sure + open) {
        (fewest, highest) if highest < least || fewest > most => Some(false),
        (fewest, highest) if fewest >= least && highest <= most => Some(true),
        _ => None,
    }
}

/// True if a result is true, and takes no further ones behind that; `None` if none is true and some are not
/// known.
pub fn any(mut results: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut is_open = false;
    let found = results.any(|result| {
        is_open |= result.is_none();
        result == Some(true)
    });
    if found {
        Some(true)
    } else if is_open {
        None
    } else {
        Some(false)
    }
}

/// True if no result is false; false at the first that is, and `None` if that is not known.
pub fn every(results: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    any(results.map(|result| result.map(|holds| !holds))).map(|fails| !fails)
}
