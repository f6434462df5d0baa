//! Finds the properties and items that a schema covers, for `unevaluatedProperties` and `unevaluatedItems`:
//! those that its own keywords name, and those of the other schemas that the value has to fit beside it, or
//! does fit.

use serde_json::{Map, Value};

use super::rules::{Node, all, doubted, known};
use super::{Checked, DEEPEST, Fit, Schema, Step};

/// A keyword of a schema, and what it says.
type Rule<'c> = (&'c str, &'c Value);

/// Tells of each property or item whether it is covered; `None` if that is not known.
struct Covered(Vec<Option<bool>>);

impl Covered {
    /// Adds what another rule says of the property or item `at`: it is covered if any rule covers it.
    fn add(&mut self, at: usize, is_covered: Option<bool>) {
        self.0[at] = match (self.0[at], is_covered) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (None, _) | (_, None) => None,
            _ => Some(false),
        };
    }

    /// Adds what another rule says of the first `count`, or of all if there are fewer.
    fn add_first(&mut self, count: usize, are_covered: Option<bool>) {
        (0..count.min(self.0.len())).for_each(|at| self.add(at, are_covered));
    }

    fn add_all(&mut self, are_covered: Option<bool>) {
        self.add_first(usize::MAX, are_covered);
    }
}

impl<'a> Schema<'a> {
    /// Checks the properties or items that nothing else covers against `schema`, which `keyword` has for them.
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
            self.cover(node, (name, rule), Some(true), &mut covered);
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

    /// Adds what a schema covers that stands at the place of `around` and is for the same value. `sure` is true
    /// if the value fits it, and `None` if that is not known.
    fn cover_by(&self, around: Node, schema: &Value, sure: Option<bool>, to: &mut Covered) {
        // Each of many schemas may leave all of many parts open.
        if !self.step(1 + to.0.len()) {
            return;
        }
        let Value::Object(rules) = schema else { return };
        let place = around.place.enter(schema, rules);
        let Some(place) = place.filter(|place| place.depth <= DEEPEST) else {
            return to.add_all(None);
        };
        let node = Node { place, rules, value: around.value };
        for (name, rule) in rules {
            self.cover(node, (name, rule), sure, to);
        }
    }

    /// Adds what one keyword of a schema covers.
    fn cover(&self, node: Node, rule: Rule, sure: Option<bool>, to: &mut Covered) {
        if !self.step(to.0.len()) {
            return;
        }
        let (keyword, _) = rule;
        if !node.place.draft.knows(keyword) {
            return to.add_all(None);
        }
        match (keyword, node.value) {
            ("$dynamicRef" | "$recursiveRef", _) => to.add_all(None),
            ("$ref" | "allOf" | "anyOf" | "oneOf" | "if", _) => {
                self.cover_by_others(node, rule, sure, to);
            }
            (_, Value::Object(object)) => self.cover_properties(node, object, rule, sure, to),
            (_, Value::Array(list)) => self.cover_items(node, list, rule, sure, to),
            _ => {}
        }
    }

    /// Adds what other schemas for the same value cover.
    fn cover_by_others(&self, node: Node, rule: Rule, sure: Option<bool>, to: &mut Covered) {
        match rule {
            ("$ref", target) => {
                match target.as_str().and_then(|name| self.find(node.place, name)) {
                    Some((place, schema)) => {
                        self.cover_by(Node { place, ..node }, schema, sure, to)
                    }
                    None => to.add_all(None),
                }
            }
            ("if", condition) => self.cover_by_condition(node, condition, sure, to),
            (keyword, list) => {
                for schema in list.as_array().into_iter().flatten() {
                    match keyword {
                        "allOf" => self.cover_by(node, schema, sure, to),
                        _ => self.cover_if_fit(node, schema, sure, to),
                    }
                }
            }
        }
    }

    fn cover_if_fit(&self, node: Node, schema: &Value, sure: Option<bool>, to: &mut Covered) {
        match known(&self.check(node.place, schema, node.value)) {
            Some(true) => self.cover_by(node, schema, sure, to),
            Some(false) => {}
            None => self.cover_by(node, schema, None, to),
        }
    }

    fn cover_by_condition(
        &self,
        node: Node,
        condition: &Value,
        sure: Option<bool>,
        to: &mut Covered,
    ) {
        let (then, otherwise) = (node.rules.get("then"), node.rules.get("else"));
        let (schemas, sure) = match known(&self.check(node.place, condition, node.value)) {
            Some(true) => ([Some(condition), then, None], sure),
            Some(false) => ([None, None, otherwise], sure),
            None => ([Some(condition), then, otherwise], None),
        };
        for schema in schemas.into_iter().flatten() {
            self.cover_by(node, schema, sure, to);
        }
    }

    /// Adds the properties of an object that a keyword covers.
    fn cover_properties(
        &self,
        node: Node,
        object: &Map<String, Value>,
        rule: Rule,
        sure: Option<bool>,
        to: &mut Covered,
    ) {
        match rule {
            ("dependentSchemas" | "dependencies", schemas) => {
                for (name, schema) in schemas.as_object().into_iter().flatten() {
                    if !self.step_through(name) || object.contains_key(name) {
                        self.cover_by(node, schema, sure, to);
                    }
                }
            }
            ("properties" | "patternProperties", _) => {
                for (at, name) in object.keys().enumerate() {
                    let is_named = self.is_named(node, name);
                    to.add(at, if is_named == Some(true) { sure } else { is_named });
                }
            }
            ("additionalProperties" | "unevaluatedProperties", _) => to.add_all(sure),
            _ => {}
        }
    }

    /// Adds the items of a list that a keyword covers.
    fn cover_items(
        &self,
        node: Node,
        list: &[Value],
        rule: Rule,
        sure: Option<bool>,
        to: &mut Covered,
    ) {
        match rule {
            ("unevaluatedItems", _) => to.add_all(sure),
            ("additionalItems", _) if node.has_tuple() => to.add_all(sure),
            ("prefixItems", _) => to.add_first(node.first_items(), sure),
            ("items", Value::Array(schemas)) => to.add_first(schemas.len(), sure),
            ("items", _) => to.add_all(sure),
            ("contains", schema) => {
                // In 2019-09 only some validators have it so.
                let sure = sure.filter(|_| node.place.draft.contains_evaluates());
                for (at, item) in list.iter().enumerate() {
                    let fits = known(&self.check(node.place, schema, item));
                    to.add(at, if fits == Some(true) { sure } else { fits });
                }
            }
            _ => {}
        }
    }
}
