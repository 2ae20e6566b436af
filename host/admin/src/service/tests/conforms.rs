//! Whether JSON is what a schema of the description says: as much of JSON Schema as the description uses.

use serde_json::Value;

/// Panics if it is not.
pub(super) fn conforms(schema_name: &str, value: &Value) {
    let document: Value = serde_json::from_slice(&crate::openapi::document()).unwrap();
    let schema = &document["components"]["schemas"][schema_name];
    assert!(schema.is_object(), "there is no schema {schema_name}");
    if let Err(why) = check(&document, schema, value) {
        panic!("{schema_name}: {why}\n{value}");
    }
}

fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        let named = &document["components"]["schemas"][name];
        return check(document, named, value).map_err(|why| format!("{name}: {why}"));
    }
    let fits = |schema: &Value| check(document, schema, value).is_ok();
    for (key, fine) in [("anyOf", 1..=usize::MAX), ("oneOf", 1..=1)] {
        if let Some(choices) = schema[key].as_array() {
            let fitting = choices.iter().filter(|choice| fits(choice)).count();
            if !fine.contains(&fitting) {
                return Err(format!("{fitting} of {key} fit {value}"));
            }
        }
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value))
        || schema.get("const").is_some_and(|only| only != value)
    {
        return Err(format!("{value} is not {schema}"));
    }
    if let Some(kind) = schema["type"].as_str() {
        let is = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("no such type: {other}"),
        };
        if !is {
            return Err(format!("{value} is no {kind}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item)?;
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing in {value}"));
        }
    }
    for (name, field) in fields {
        let known = &schema["properties"][name];
        let known = if known.is_null() { &schema["additionalProperties"] } else { known };
        // What an answer has besides is to be told too, where its fields are told at all.
        if known == &Value::Bool(false) || (known.is_null() && schema["properties"].is_object()) {
            return Err(format!("{name} is not told"));
        }
        check(document, known, field).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}
