//! The keywords that concern a value's parts: an object's properties, a list's items.

use serde_json::{Map, Value};

use super::places::Place;
use super::rules::{Node, all, any, count, doubted, every, holds, is_at_least, is_at_most, known};
use super::{Checked, Fault, Fit, Schema, Step};

type Object = Map<String, Value>;

impl<'a> Schema<'a> {
    /// Checks an object against one keyword of a schema.
    pub(super) fn check_object<'c>(
        &self,
        node: Node<'c>,
        object: &'c Object,
        keyword: &'c str,
        rule: &'c Value,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        match (keyword, rule) {
            ("minProperties", limit) => holds(is_at_least(object.len(), limit), keyword, rule),
            ("maxProperties", limit) => holds(is_at_most(object.len(), limit), keyword, rule),
            ("required", names) => self.check_required(object, keyword, names),
            ("properties", Value::Object(schemas)) => self.check_named(node.place, object, schemas),
            ("patternProperties", Value::Object(schemas)) => {
                all(self.while_possible(schemas).map(|(pattern, schema)| {
                    self.check_named_like(node.place, object, pattern, schema)
                }))
            }
            ("additionalProperties", schema) => self.check_others(node, object, schema),
            ("propertyNames", schema) => {
                holds(self.are_names_fit(node.place, object, schema), keyword, rule)
            }
            ("dependencies" | "dependentRequired" | "dependentSchemas", Value::Object(rules)) => {
                self.check_dependencies(node, object, keyword, rules)
            }
            ("unevaluatedProperties", schema) => self.check_unevaluated(node, keyword, schema),
            (
                "properties" | "patternProperties" | "dependencies" | "dependentRequired"
                | "dependentSchemas",
                _,
            ) => Ok(Fit::Open),
            _ => Ok(Fit::Sure),
        }
    }

    /// Checks a property or an item, and names it in a fault.
    pub(super) fn check_part<'c>(
        &self,
        place: Place<'c>,
        schema: &'c Value,
        step: Step<'c>,
        value: &'c Value,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        self.check(place, schema, value).map_err(|fault| fault.within(step))
    }

    /// Checks that an object has all properties of a list.
    fn check_required<'c>(
        &self,
        object: &'c Object,
        keyword: &'c str,
        rule: &'c Value,
    ) -> Checked<'c> {
        let Value::Array(names) = rule else { return Ok(Fit::Open) };
        all(names.iter().map(|name| match name.as_str() {
            Some(name) if self.step_through(name) => match object.contains_key(name) {
                true => Ok(Fit::Sure),
                false => Err(Fault { lacks: Some(name), ..Fault::new(keyword, rule) }),
            },
            _ => Ok(Fit::Open),
        }))
    }

    /// Checks the properties that `schemas` names.
    fn check_named<'c>(
        &self,
        place: Place<'c>,
        object: &'c Object,
        schemas: &'c Object,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        all(schemas.iter().map(|(name, schema)| {
            if !self.step_through(name) {
                return Ok(Fit::Open);
            }
            let Some((name, value)) = object.get_key_value(name) else { return Ok(Fit::Sure) };
            self.check_part(place, schema, Step::Name(name), value)
        }))
    }

    /// Checks the rules for objects that have certain properties.
    fn check_dependencies<'c>(
        &self,
        node: Node<'c>,
        object: &'c Object,
        keyword: &'c str,
        rules: &'c Object,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        all(rules.iter().map(|(name, rule)| match rule {
            _ if !self.step_through(name) => Ok(Fit::Open),
            _ if !object.contains_key(name) => Ok(Fit::Sure),
            Value::Array(_) => self.check_required(object, keyword, rule),
            schema => self.check(node.place, schema, node.value),
        }))
    }

    /// Checks the properties whose names fit a pattern.
    fn check_named_like<'c>(
        &self,
        place: Place<'c>,
        object: &'c Object,
        pattern: &'c str,
        schema: &'c Value,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        all(object.iter().map(|(name, value)| {
            let check = || self.check_part(place, schema, Step::Name(name), value);
            match self.has_pattern(pattern, name) {
                Some(true) => check(),
                Some(false) => Ok(Fit::Sure),
                None => doubted(check()),
            }
        }))
    }

    /// Checks the properties that no other keyword names.
    fn check_others<'c>(&self, node: Node<'c>, object: &'c Object, schema: &'c Value) -> Checked<'c>
    where
        'a: 'c,
    {
        all(object.iter().map(|(name, value)| {
            let check = || self.check_part(node.place, schema, Step::Name(name), value);
            match self.is_named(node, name) {
                Some(true) => Ok(Fit::Sure),
                Some(false) => check(),
                None => doubted(check()),
            }
        }))
    }

    /// True if `properties` or `patternProperties` are about a property of this name; `None` if that is not
    /// known.
    pub(super) fn is_named(&self, node: Node, name: &str) -> Option<bool> {
        if !self.step_through(name) {
            return None;
        }
        let has = |rule: &Value| Some(rule.as_object()?.contains_key(name));
        let has_like = |rule: &Value| {
            any(rule.as_object()?.keys().map(|pattern| self.has_pattern(pattern, name)))
        };
        let listed = node.rules.get("properties").map_or(Some(false), has);
        let alike = || node.rules.get("patternProperties").map_or(Some(false), has_like);
        if listed == Some(false) { alike() } else { listed }
    }

    fn are_names_fit(&self, place: Place, object: &Object, schema: &Value) -> Option<bool> {
        every(object.keys().map(|name| {
            let name = self.step_through(name).then(|| Value::String(name.clone()))?;
            known(&self.check(place, schema, &name))
        }))
    }

    /// Checks a list against one keyword of a schema.
    pub(super) fn check_list<'c>(
        &self,
        node: Node<'c>,
        list: &'c [Value],
        keyword: &'c str,
        rule: &'c Value,
    ) -> Checked<'c>
    where
        'a: 'c,
    {
        let check = |at: usize, schema: &'c Value| {
            self.check_part(node.place, schema, Step::At(at), &list[at])
        };
        let rest = |from: usize| all((from..list.len()).map(|at| check(at, rule)));
        let first = |schemas: &'c [Value]| {
            all(schemas.iter().take(list.len()).enumerate().map(|(at, schema)| check(at, schema)))
        };
        match (keyword, rule) {
            ("minItems", limit) => holds(is_at_least(list.len(), limit), keyword, rule),
            ("maxItems", limit) => holds(is_at_most(list.len(), limit), keyword, rule),
            ("uniqueItems", Value::Bool(false)) => Ok(Fit::Sure),
            ("uniqueItems", Value::Bool(true)) => holds(self.are_different(list), keyword, rule),
            ("prefixItems", Value::Array(schemas)) => first(schemas),
            ("items", Value::Array(schemas)) if node.place.draft.knows("additionalItems") => {
                first(schemas)
            }
            ("items", Value::Object(_) | Value::Bool(_)) => rest(node.first_items()),
            ("additionalItems", _) => match node.rules.get("items") {
                Some(Value::Array(schemas)) => rest(schemas.len()),
                _ => Ok(Fit::Sure),
            },
            ("contains", schema) => holds(self.contains(node, list, schema), keyword, rule),
            ("unevaluatedItems", schema) => self.check_unevaluated(node, keyword, schema),
            ("uniqueItems" | "prefixItems" | "items", _) => Ok(Fit::Open),
            _ => Ok(Fit::Sure),
        }
    }

    fn are_different(&self, list: &[Value]) -> Option<bool> {
        every(self.while_possible(list.iter().enumerate()).map(|(at, item)| {
            every(list[..at].iter().map(|other| self.same(item, other).map(|same| !same)))
        }))
    }

    fn contains(&self, node: Node, list: &[Value], schema: &Value) -> Option<bool> {
        let limit = |keyword: &str, default| match node.rules.get(keyword) {
            Some(limit) if node.place.draft.knows(keyword) => whole(limit),
            _ => Some(default),
        };
        let (least, most) = (limit("minContains", 1)?, limit("maxContains", usize::MAX)?);
        let fitting = list.iter().map(|item| known(&self.check(node.place, schema, item)));
        count(fitting, least, most)
    }
}

impl Node<'_> {
    /// Returns the number of first items that have schemas of their own, behind which `items` applies.
    pub fn first_items(&self) -> usize {
        let first = self.rules.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
        if self.place.draft.knows("prefixItems") { first } else { 0 }
    }

    /// True if `items` is a list of schemas for the first items, as the drafts before 2020-12 have it.
    pub fn has_tuple(&self) -> bool {
        self.rules.get("items").is_some_and(Value::is_array)
    }
}

/// Reads a limit that is a whole number, which may be written as `5.0`.
fn whole(limit: &Value) -> Option<usize> {
    let number = limit.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0)?;
    Some(number as usize)
}
