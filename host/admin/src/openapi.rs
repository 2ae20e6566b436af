//! The description of the API, made of the table that requests are answered by.

use std::sync::OnceLock;

use axum::body::Bytes;
use serde_json::{Map, Value, json};

use crate::problem;
use crate::verb::Verb;

pub(crate) const VERB_PATH: &str = "/v1/apps/{tenant}/{app}/{verb}";
pub(crate) const SESSION_PATH: &str = "/v1/apps/{tenant}/{app}/sessions/{client}";
pub(crate) const DOCUMENT_PATH: &str = "/openapi.json";

/// The document, OpenAPI 3.1.
pub(crate) fn document() -> Bytes {
    static MADE: OnceLock<Bytes> = OnceLock::new();
    // Plain JSON into a vector: nothing that can fail.
    MADE.get_or_init(|| serde_json::to_vec(&make()).unwrap_or_default().into()).clone()
}

fn make() -> Value {
    let mut paths = Map::new();
    for verb in Verb::ALL {
        paths.insert(VERB_PATH.replace("{verb}", verb.path()), json!({ "post": operation(verb) }));
    }
    paths.insert(SESSION_PATH.to_owned(), sessions());
    paths.insert(
        DOCUMENT_PATH.to_owned(),
        json!({"get": {"operationId": "openapi", "summary": "This document", "responses": {"200": {"description": "OpenAPI 3.1"}}}}),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Pushes to the clients of apps, and questions about them, from outside of plugins."
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas()
        }
    })
}

fn operation(verb: Verb) -> Value {
    let answer = match verb {
        _ if !verb.is_command() => "Answer",
        Verb::Batch => "Results",
        _ => "Reached",
    };
    let mut parameters = app_parameters();
    if verb.is_command() {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A repetition with the same key and body gets the first answer, and nothing is done twice",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255}
        }));
    }
    let example: Value = serde_json::from_str(verb.example()).unwrap_or_default();
    json!({
        "operationId": verb.path(),
        "summary": verb.summary(),
        "parameters": parameters,
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {"type": "object"}, "example": example}}
        },
        "responses": responses(answer)
    })
}

fn sessions() -> Value {
    let mut parameters = app_parameters();
    parameters
        .push(json!({"name": "client", "in": "path", "required": true, "schema": schema_of("ClientId")}));
    let body = json!({"required": true, "content": {"application/json": {"schema": {"type": "object"}}}});
    let operation = |id: &str, summary: &str, body: Option<&Value>, answer: &str| {
        let mut operation = json!({"operationId": id, "summary": summary, "responses": responses(answer)});
        if let (Some(body), Some(fields)) = (body, operation.as_object_mut()) {
            fields.insert("requestBody".to_owned(), body.clone());
        }
        operation
    };
    json!({
        "parameters": parameters,
        "get": operation("get-session", "A client's uid, groups and session", None, "Answer"),
        "put": operation("put-session", "Replace a client's session", Some(&body), "Reached"),
        "patch": operation("patch-session", "Merge into a client's session", Some(&body), "Reached"),
        "delete": operation("delete-session", "Remove a client's session", None, "Reached")
    })
}

fn app_parameters() -> Vec<Value> {
    let parameter =
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    vec![parameter("tenant"), parameter("app")]
}

fn responses(answer: &str) -> Value {
    let mut responses = Map::new();
    let ok = json!({"application/json": {"schema": schema_of(answer)}});
    responses.insert(
        "200".to_owned(),
        json!({"description": "Every gateway has it that is not missing", "content": ok}),
    );
    let content = json!({problem::CONTENT_TYPE: {"schema": schema_of("Problem")}});
    responses.insert("default".to_owned(), json!({"description": "Why it is not done", "content": content}));
    Value::Object(responses)
}

fn schema_of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schemas() -> Value {
    let names = json!({"oneOf": [{"type": ["string", "integer"]}, {"type": "array", "items": {"type": ["string", "integer"]}}]});
    let kinds: Vec<_> =
        problem::Kind::ALL.iter().map(|kind| format!("urn:tidegate:problem:{}", kind.name())).collect();
    json!({
        "ClientId": {"type": "string", "pattern": "^[0-9a-f]{20}$"},
        "Audience": {"oneOf": [
            {"const": "all"},
            {"type": "object", "properties": {"clients": names}, "required": ["clients"]},
            {"type": "object", "properties": {"uids": names}, "required": ["uids"]},
            {"type": "object", "properties": {"groups": names}, "required": ["groups"]}
        ]},
        "Missing": {"type": "object", "required": ["gateway", "name", "why"], "properties": {
            "gateway": {"type": "string", "description": "The first 12 digits of its clients' ids"},
            "name": {"type": "string"},
            "why": {"enum": ["not-linked", "busy", "refused", "lost", "late"]}
        }},
        "Reached": {"type": "object", "required": ["reached", "missing"], "properties": {
            "reached": {"type": "integer", "description": "How many clients it is about"},
            "missing": {"type": "array", "items": schema_of("Missing")}
        }},
        "Results": {"type": "object", "required": ["results", "missing"], "properties": {
            "results": {"type": "array", "items": {"oneOf": [
                {"type": "object", "properties": {"reached": {"type": "integer"}}, "required": ["reached"]},
                {"type": "object", "properties": {"refused": {"type": "string"}}, "required": ["refused"]}
            ]}},
            "missing": {"type": "array", "items": schema_of("Missing")}
        }},
        "Answer": {"type": "object", "required": ["missing"], "properties": {
            "missing": {"type": "array", "items": schema_of("Missing")}
        }},
        "Problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {
            "type": {"enum": kinds},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"}
        }}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_verb_with_an_example_that_is_one() {
        let document: Value = serde_json::from_slice(&document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        for verb in Verb::ALL {
            let path = VERB_PATH.replace("{verb}", verb.path());
            let operation = &paths[&path]["post"];
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            assert!(example.is_object() && operation["summary"] == verb.summary(), "{path}");
        }
        for method in ["get", "put", "patch", "delete"] {
            assert!(paths[SESSION_PATH][method].is_object(), "{method}");
        }
        assert_eq!(paths.len(), Verb::ALL.len() + 2);
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let text = String::from_utf8(document().to_vec()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for named in text.split("#/components/schemas/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
