//! The shapes of bodies and answers, for the description of the API. What is answered is held against them by the tests of
//! `service`, and what is taken by whoever checks a running server by its description.

mod answers;
mod bodies;
mod watching;

use serde_json::{Map, Value, json};

pub(crate) use self::bodies::of_verb;
use crate::problem;

/// Every schema, by name.
pub(crate) fn all() -> Value {
    let mut schemas = Map::new();
    schemas.insert("Problem".to_owned(), problem_document());
    for (name, schema) in bodies::all().into_iter().chain(answers::all()).chain(watching::all()) {
        schemas.insert(name.to_owned(), schema);
    }
    Value::Object(schemas)
}

/// The schema of this name.
pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn problem_document() -> Value {
    let kinds: Vec<_> =
        problem::Kind::ALL.iter().map(|kind| format!("urn:tidegate:problem:{}", kind.name())).collect();
    object(
        &[("type", json!({ "enum": kinds })), ("title", text()), ("status", number()), ("detail", text())],
        &[],
    )
}

/// A schema and its name.
type Named = (&'static str, Value);

/// An object with these fields, and these besides that may be missing.
fn object(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let names: Vec<_> = required.iter().map(|(name, _)| *name).collect();
    let fields = required.iter().chain(optional).map(|(name, schema)| ((*name).to_owned(), schema.clone()));
    let mut schema = json!({"type": "object", "properties": fields.collect::<Map<_, _>>()});
    if let Some(parts) = schema.as_object_mut().filter(|_| !names.is_empty()) {
        parts.insert("required".to_owned(), json!(names));
    }
    schema
}

/// The same, and nothing else.
fn strict(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let mut schema = object(required, optional);
    if let Some(parts) = schema.as_object_mut() {
        parts.insert("additionalProperties".to_owned(), false.into());
    }
    schema
}

fn text() -> Value {
    json!({"type": "string"})
}

/// A whole number that is not negative.
fn number() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}

fn words(words: &[&str]) -> Value {
    json!({ "enum": words })
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn or_null(schema: Value) -> Value {
    json!({"anyOf": [schema, {"type": "null"}]})
}
