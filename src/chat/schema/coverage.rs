//! Which properties and items a schema is about, for `unevaluatedProperties` and `unevaluatedItems`:
//! those that its own keywords name, and those of all schemas that the value has to fit beside it, or
//! does fit.

use serde_json::Value;

use super::places::Place;
use super::rules::{Node, all, doubted, known};
use super::{Checked, DEEPEST, Fit, Schema, Step};

/// For each property or item whether it is covered, if that is known.
struct Covered(Vec<Option<bool>>);

impl Covered {
    /// Notes that one is covered, or, if that is not known, that it may be.
    fn add(&mut self, at: usize, is_covered: Option<bool>) {
        self.0[at] = match (self.0[at], is_covered) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (None, _) | (_, None) => None,
            _ => Some(false),
        };
    }

    fn add_all(&mut self, are_covered: Option<bool>) {
        (0..self.0.len()).for_each(|at| self.add(at, are_covered));
    }
}

impl<'a> Schema<'a> {
    /// Checks what is not covered against the schema for that.
    pub(super) fn check_unevaluated<'c>(
        &self,
        node: Node<'c>,
        keyword: &str,
        schema: &'c Value,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        let parts: Vec<(Step, &Value)> = match node.value {
            Value::Object(object) => {
                object.iter().map(|(name, value)| (Step::Name(name), value)).collect()
            }
            Value::Array(list) => {
                list.iter().enumerate().map(|(at, item)| (Step::At(at), item)).collect()
            }
            _ => return Ok(Fit::Sure),
        };
        if !self.step(parts.len()) {
            return Ok(Fit::Open);
        }
        let mut covered = Covered(vec![Some(false); parts.len()]);
        for (name, rule) in node.rules.iter().filter(|(name, _)| *name != keyword) {
            self.cover(node, name, rule, Some(true), &mut covered);
        }
        all(parts.iter().zip(covered.0).map(|((step, value), is_covered)| {
            let check = || self.check_part(node.place, schema, *step, value);
            match is_covered {
                Some(true) => Ok(Fit::Sure),
                Some(false) => check(),
                None => doubted(check()),
            }
        }))
    }

    /// Adds what a schema covers if the value fits it, which is `sure`, or not known.
    fn cover_by(
        &self,
        place: Place,
        schema: &Value,
        of: Node,
        sure: Option<bool>,
        to: &mut Covered,
    ) {
        // Each of many schemas may leave all of many parts open.
        if !self.step(1 + to.0.len()) {
            return;
        }
        let Value::Object(rules) = schema else { return };
        let place = place.enter(schema, rules);
        let Some(place) = place.filter(|place| place.depth <= DEEPEST) else {
            return to.add_all(None);
        };
        let node = Node { place, rules, value: of.value };
        for (name, rule) in rules {
            self.cover(node, name, rule, sure, to);
        }
    }

    /// Adds what one keyword of a schema covers.
    fn cover(&self, node: Node, keyword: &str, rule: &Value, sure: Option<bool>, to: &mut Covered) {
        if !self.step(to.0.len()) {
            return;
        }
        if !node.place.draft.knows(keyword) {
            return to.add_all(None);
        }
        match (keyword, node.value) {
            ("$dynamicRef" | "$recursiveRef", _) => to.add_all(None),
            ("$ref", _) => match rule.as_str().and_then(|target| self.find(node.place, target)) {
                Some((place, schema)) => {
                    self.cover_by(place, schema, node, sure, to);
                }
                None => to.add_all(None),
            },
            ("allOf", _) => self.cover_by_each(node, rule, sure, to),
            ("anyOf" | "oneOf", _) => {
                for schema in rule.as_array().into_iter().flatten() {
                    self.cover_if_fit(node, schema, sure, to);
                }
            }
            ("if", _) => self.cover_by_condition(node, rule, sure, to),
            ("dependentSchemas" | "dependencies", Value::Object(object)) => {
                for (name, schema) in rule.as_object().into_iter().flatten() {
                    if !self.step_through(name) || object.contains_key(name) {
                        self.cover_by(node.place, schema, node, sure, to);
                    }
                }
            }
            ("properties" | "patternProperties", Value::Object(object)) => {
                for (at, name) in object.keys().enumerate() {
                    let is_named = self.is_named(node, name);
                    to.add(at, if is_named == Some(true) { sure } else { is_named });
                }
            }
            ("additionalProperties" | "unevaluatedProperties", Value::Object(_))
            | ("unevaluatedItems", Value::Array(_)) => to.add_all(sure),
            ("additionalItems", Value::Array(_)) if node.has_tuple() => to.add_all(sure),
            ("prefixItems", Value::Array(_)) => {
                let first = node.first_items().min(to.0.len());
                (0..first).for_each(|at| to.add(at, sure));
            }
            ("items", Value::Array(_)) => {
                let first = rule.as_array().map_or(usize::MAX, Vec::len).min(to.0.len());
                (0..first).for_each(|at| to.add(at, sure));
            }
            ("contains", Value::Array(list)) => {
                // In 2019-09 only some validators have it so.
                let sure = sure.filter(|_| node.place.draft.contains_evaluates());
                for (at, item) in list.iter().enumerate() {
                    let fits = known(&self.check(node.place, rule, item));
                    to.add(at, if fits == Some(true) { sure } else { fits });
                }
            }
            _ => {}
        }
    }

    fn cover_by_each(&self, node: Node, list: &Value, sure: Option<bool>, to: &mut Covered) {
        for schema in list.as_array().into_iter().flatten() {
            self.cover_by(node.place, schema, node, sure, to);
        }
    }

    fn cover_if_fit(&self, node: Node, schema: &Value, sure: Option<bool>, to: &mut Covered) {
        match known(&self.check(node.place, schema, node.value)) {
            Some(true) => self.cover_by(node.place, schema, node, sure, to),
            Some(false) => {}
            None => self.cover_by(node.place, schema, node, None, to),
        }
    }

    fn cover_by_condition(
        &self,
        node: Node,
        condition: &Value,
        sure: Option<bool>,
        to: &mut Covered,
    ) {
        let fits = known(&self.check(node.place, condition, node.value));
        let mut cover = |schema: Option<&Value>, sure| {
            if let Some(schema) = schema {
                self.cover_by(node.place, schema, node, sure, to);
            }
        };
        let (then, otherwise) = (node.rules.get("then"), node.rules.get("else"));
        match fits {
            Some(true) => {
                [Some(condition), then].into_iter().for_each(|schema| cover(schema, sure))
            }
            Some(false) => cover(otherwise, sure),
            None => {
                [Some(condition), then, otherwise]
                    .into_iter()
                    .for_each(|schema| cover(schema, None));
            }
        }
    }
}
