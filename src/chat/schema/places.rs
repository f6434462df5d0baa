//! The place of a check in a schema: what references mean there, and which draft of JSON Schema applies.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::Schema;

/// The rules of a schema: its keywords and their values.
pub type Rules = Map<String, Value>;

/// A draft of JSON Schema. The earlier of two drafts is the lesser.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draft {
    /// 04.
    Four,
    /// 06.
    Six,
    /// 07.
    Seven,
    /// 2019-09.
    Nineteen,
    /// 2020-12.
    Twenty,
    /// None is named: each keyword means what the last draft that has it says, since whoever writes it means
    /// it.
    Any,
}

impl Draft {
    /// Returns the draft that `$schema` names; `None` if it is none of these.
    fn named(schema: &str) -> Option<Draft> {
        let name = schema.strip_prefix("https://").or(schema.strip_prefix("http://"))?;
        let name = name.strip_prefix("json-schema.org/")?;
        Some(match name.strip_suffix('#').unwrap_or(name) {
            "draft-04/schema" => Draft::Four,
            "draft-06/schema" => Draft::Six,
            "draft-07/schema" => Draft::Seven,
            "draft/2019-09/schema" => Draft::Nineteen,
            "draft/2020-12/schema" => Draft::Twenty,
            "schema" => Draft::Any,
            _ => return None,
        })
    }

    /// True if the keyword is one of this draft's, or no keyword of any draft.
    pub fn knows(self, keyword: &str) -> bool {
        match keyword {
            "const" | "contains" | "propertyNames" => self >= Draft::Six,
            "if" => self >= Draft::Seven,
            "dependentRequired"
            | "dependentSchemas"
            | "maxContains"
            | "minContains"
            | "unevaluatedItems"
            | "unevaluatedProperties" => self >= Draft::Nineteen,
            "prefixItems" => self >= Draft::Twenty,
            "dependencies" => self <= Draft::Seven || self == Draft::Any,
            "additionalItems" => self != Draft::Twenty,
            _ => true,
        }
    }

    /// True if nothing beside a `$ref` counts.
    pub fn has_lone_references(self) -> bool {
        self <= Draft::Seven
    }

    /// True if `contains` makes the items that fit evaluated ones.
    pub fn contains_evaluates(self) -> bool {
        self >= Draft::Twenty
    }

    fn id(self) -> &'static str {
        if self == Draft::Four { "id" } else { "$id" }
    }
}

/// A place in a schema.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The schema, of a name of its own, that references without a name are about; `None` if that is
    /// uncertain.
    resource: Option<&'a Value>,
    /// The draft that applies.
    pub draft: Draft,
    /// The number of schemas around it, those that led here by reference included.
    pub depth: usize,
}

impl<'a> Place<'a> {
    /// Returns the place of the whole schema.
    pub fn root(root: &'a Value) -> Place<'a> {
        Place { resource: Some(root), draft: Draft::Any, depth: 0 }
    }

    /// Returns the place within `schema`, which stands at this place; `None` if its draft is unknown.
    pub fn enter(mut self, schema: &'a Value, rules: &'a Rules) -> Option<Place<'a>> {
        self.depth += 1;
        if let Some(name) = rules.get("$schema") {
            self.draft = Draft::named(name.as_str()?)?;
        }
        let is_new = self.resource.is_none_or(|resource| !std::ptr::eq(resource, schema));
        if is_new && names_resource(self.draft, rules) {
            let beside = rules.contains_key("$ref");
            if self.draft == Draft::Any && (beside || !rules.contains_key("$id")) {
                self.resource = None;
            } else if !(self.draft.has_lone_references() && beside) {
                self.resource = Some(schema);
            }
        }
        Some(self)
    }
}

/// True if a schema has a name of its own, to which the references in it are relative.
fn names_resource(draft: Draft, rules: &Rules) -> bool {
    let names = |key: &str| {
        rules.get(key).and_then(Value::as_str).is_some_and(|name| !name.starts_with('#'))
    };
    names(draft.id()) || draft == Draft::Any && names("id")
}

impl<'a> Schema<'a> {
    /// Returns the schema that a reference is about, and the place around it; `None` if it is not
    /// within the document, or not certain.
    pub(super) fn find<'c>(&self, place: Place<'c>, target: &str) -> Option<(Place<'c>, &'c Value)>
    where
        'a: 'c,
    {
        if !self.step_through(target) {
            return None;
        }
        let (name, fragment) = target.split_once('#').unwrap_or((target, ""));
        let place = if name.is_empty() { place } else { self.named(place, name)? };
        let resource = place.resource?;
        let fragment = percent_decode_str(fragment).decode_utf8().ok()?;
        let found = match fragment.strip_prefix('/') {
            _ if fragment.is_empty() => resource,
            Some(steps) => follow(place.draft, resource, steps)?,
            None => self.anchor(place.draft, resource, &fragment)?,
        };
        Some((place, found))
    }

    /// Returns the place of the one schema that has this whole URI as its name.
    fn named<'c>(&self, place: Place<'c>, name: &str) -> Option<Place<'c>>
    where
        'a: 'c,
    {
        if !name.contains(':') {
            return None;
        }
        let id = place.draft.id();
        let is = |rules: &Rules| {
            let own = rules.get(id).and_then(Value::as_str);
            own.is_some_and(|own| own.strip_suffix('#').unwrap_or(own) == name)
        };
        let resource = self.only(self.root, |_| true, is)?;
        let draft = resource.get("$schema").or(self.root.get("$schema"));
        let draft = draft.map_or(Some(Draft::Any), |name| Draft::named(name.as_str()?))?;
        Some(Place { resource: Some(resource), draft, depth: place.depth })
    }

    fn anchor<'c>(&self, draft: Draft, resource: &'c Value, name: &str) -> Option<&'c Value> {
        let is = |rules: &Rules| {
            let named = |key: &str| rules.get(key).and_then(Value::as_str);
            let old = named(draft.id()).and_then(|id| id.strip_prefix('#'));
            [named("$anchor"), named("$dynamicAnchor"), old].contains(&Some(name))
        };
        self.only(resource, |rules| !names_resource(draft, rules), is)
    }

    /// Returns the only schema for which `is` holds, among the first and all in it, without those that
    /// are not for `enter`.
    fn only<'c>(
        &self,
        first: &'c Value,
        enter: impl Fn(&Rules) -> bool,
        is: impl Fn(&Rules) -> bool,
    ) -> Option<&'c Value> {
        let (mut open, mut found) = (vec![first], None);
        while let Some(schema) = open.pop() {
            if !self.step(1) {
                return None;
            }
            let Value::Object(rules) = schema else { continue };
            if is(rules) && found.replace(schema).is_some() {
                return None;
            }
            if std::ptr::eq(schema, first) || enter(rules) {
                rules.iter().for_each(|(name, rule)| push_schemas(name, rule, &mut open));
            }
        }
        found
    }
}

/// Follows a JSON pointer; `None` if it leads nowhere, or into a schema with a name of its own.
fn follow<'c>(draft: Draft, resource: &'c Value, steps: &str) -> Option<&'c Value> {
    let mut at = resource;
    for step in steps.split('/') {
        let inside = at.as_object().is_some_and(|rules| names_resource(draft, rules));
        if inside && !std::ptr::eq(at, resource) {
            return None;
        }
        at = at.pointer(&format!("/{step}"))?;
    }
    Some(at)
}

/// Adds the schemas in the value of a keyword.
fn push_schemas<'c>(keyword: &str, rule: &'c Value, to: &mut Vec<&'c Value>) {
    match (keyword, rule) {
        (
            "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties"
            | "properties",
            Value::Object(named),
        ) => to.extend(named.values()),
        ("allOf" | "anyOf" | "items" | "oneOf" | "prefixItems", Value::Array(list)) => {
            to.extend(list)
        }
        (
            "additionalItems"
            | "additionalProperties"
            | "contains"
            | "contentSchema"
            | "else"
            | "if"
            | "items"
            | "not"
            | "propertyNames"
            | "then"
            | "unevaluatedItems"
            | "unevaluatedProperties",
            rule,
        ) => to.push(rule),
        _ => {}
    }
}
