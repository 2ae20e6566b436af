//! The description of the API, made of the tables that requests are answered by.

use std::sync::OnceLock;

use axum::body::Bytes;
use serde_json::{Map, Value, json};

use crate::operation::{Facts, Gives, Operation, QueryKey, QueryKind, Takes};
use crate::schemas::{self, reference};
use crate::verb::Verb;
use crate::{news, problem};

pub(crate) const VERB_PATH: &str = "/v1/apps/{tenant}/{app}/{verb}";
pub(crate) const SESSION_PATH: &str = "/v1/apps/{tenant}/{app}/sessions/{client}";
pub(crate) const DOCUMENT_PATH: &str = "/openapi.json";

/// The document, OpenAPI 3.1.
pub(crate) fn document() -> Bytes {
    static MADE: OnceLock<Bytes> = OnceLock::new();
    // Plain JSON into a vector: nothing that can fail.
    MADE.get_or_init(|| serde_json::to_vec(&make()).unwrap_or_default().into()).clone()
}

/// Whether there is something at this path of a request, with whatever method.
pub(crate) fn has_path(path: &str) -> bool {
    let fits = |known: &str| {
        let named = |part: &str| part.starts_with('{');
        let mut parts = path.split('/');
        known.split('/').all(|known| parts.next().is_some_and(|part| named(known) || part == known))
            && parts.next().is_none()
    };
    let (verbs, operations) = (Verb::ALL.into_iter(), Operation::ALL.into_iter());
    verbs.map(|verb| VERB_PATH.replace("{verb}", verb.path())).any(|known| fits(&known))
        || operations.map(|operation| operation.facts().path).any(fits)
        || fits(SESSION_PATH)
        || fits(DOCUMENT_PATH)
}

fn make() -> Value {
    let mut paths = Map::new();
    for verb in Verb::ALL {
        paths.insert(VERB_PATH.replace("{verb}", verb.path()), json!({ "post": of_verb(verb) }));
    }
    paths.insert(SESSION_PATH.to_owned(), sessions());
    for operation in Operation::ALL {
        let facts = operation.facts();
        let methods = paths.entry(facts.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(facts.method.name().to_owned(), of_operation(&facts));
        }
    }
    let this = json!({"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}});
    paths.insert(
        DOCUMENT_PATH.to_owned(),
        json!({"get": {
            "operationId": "openapi",
            "summary": "This document",
            "responses": {"200": this, "default": why_not()}
        }}),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Pushes to the clients of apps, questions about them, and deployments, from outside of plugins."
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas::all()
        }
    })
}

fn of_verb(verb: Verb) -> Value {
    let answer = match verb {
        _ if !verb.is_command() => "Answer",
        Verb::Batch => "Results",
        _ => "Reached",
    };
    let mut parameters = path_parameters(VERB_PATH);
    parameters.retain(|parameter| parameter["name"] != "verb");
    if verb.is_command() {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A repetition with the same key and body gets the first answer, and nothing is done twice",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
        }));
    }
    let example: Value = serde_json::from_str(verb.example()).unwrap_or_default();
    json!({
        "operationId": verb.path(),
        "summary": verb.summary(),
        "parameters": parameters,
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": reference(schemas::of_verb(verb)), "example": example}}
        },
        "responses": answered(answer)
    })
}

fn sessions() -> Value {
    let body = json!({"required": true, "content": {"application/json": {"schema": reference("Session")}}});
    let operation = |id: &str, summary: &str, body: Option<&Value>, answer: &str| {
        let mut operation = json!({"operationId": id, "summary": summary, "responses": answered(answer)});
        if let (Some(body), Some(fields)) = (body, operation.as_object_mut()) {
            fields.insert("requestBody".to_owned(), body.clone());
        }
        operation
    };
    json!({
        "parameters": path_parameters(SESSION_PATH),
        "get": operation("get-session", "A client's uid, groups and session", None, "Answer"),
        "put": operation("put-session", "Replace a client's session", Some(&body), "Reached"),
        "patch": operation("patch-session", "Merge into a client's session", Some(&body), "Reached"),
        "delete": operation("delete-session", "Remove a client's session", None, "Reached")
    })
}

fn of_operation(facts: &Facts) -> Value {
    let mut parameters = path_parameters(facts.path);
    parameters.extend(facts.query.iter().map(query_parameter));
    let mut operation = json!({
        "operationId": facts.id,
        "summary": facts.summary,
        "description": format!("Needs a token for {}{}", facts.role, if facts.operators { " of all tenants" } else { "" }),
        "parameters": parameters,
        "responses": given(facts.gives)
    });
    if let (Some(body), Some(fields)) = (taken(facts.takes), operation.as_object_mut()) {
        fields.insert("requestBody".to_owned(), body);
    }
    operation
}

fn taken(takes: Takes) -> Option<Value> {
    let json_of = |name| json!({"schema": reference(name)});
    let (required, content) = match takes {
        Takes::Nothing => return None,
        Takes::Json(name) => (true, json!({"application/json": json_of(name)})),
        Takes::PerhapsJson(name) => (false, json!({"application/json": json_of(name)})),
        Takes::Module(name) => (
            true,
            json!({
                "application/wasm": {"schema": {"type": "string", "format": "binary"}},
                "application/json": json_of(name)
            }),
        ),
    };
    Some(json!({"required": required, "content": content}))
}

fn given(gives: Gives) -> Value {
    let one = |name| json!({"application/json": {"schema": reference(name)}});
    match gives {
        Gives::Json(status, name) => with_problems(&status.to_string(), "It is done", &one(name)),
        Gives::Deployment => {
            let mut lines = one("News");
            if let Some(content) = lines.as_object_mut() {
                let what = "A line of News for each piece of news; the last one is `ended` or `refused`";
                let schema = json!({"type": "string", "description": what});
                content.insert(news::CONTENT_TYPE.to_owned(), json!({ "schema": schema }));
            }
            let mut responses = with_problems("200", "How it gets on, or how it ended", &lines);
            responses["202"] = json!({"description": "It has begun", "content": one("News")});
            responses
        }
    }
}

/// The parts of a path that have names.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let schema = |name| match name {
        "client" => reference("ClientId"),
        "number" => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        _ => json!({"type": "string", "pattern": "^[a-z][a-z0-9-]{0,62}$"}),
    };
    let parameter = |name| json!({"name": name, "in": "path", "required": true, "schema": schema(name)});
    names.map(parameter).collect()
}

fn query_parameter(key: &QueryKey) -> Value {
    let schema = match key.kind {
        QueryKind::Number(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        QueryKind::Word(words) => json!({ "enum": words }),
        QueryKind::Text(max) => json!({"type": "string", "maxLength": max}),
    };
    json!({"name": key.name, "in": "query", "required": false, "description": key.what, "schema": schema})
}

fn answered(answer: &str) -> Value {
    let content = json!({"application/json": {"schema": reference(answer)}});
    with_problems("200", "Every gateway has it that is not missing", &content)
}

fn with_problems(status: &str, what: &str, content: &Value) -> Value {
    let mut responses = Map::new();
    responses.insert(status.to_owned(), json!({"description": what, "content": content}));
    responses.insert("default".to_owned(), why_not());
    Value::Object(responses)
}

fn why_not() -> Value {
    let content = json!({problem::CONTENT_TYPE: {"schema": reference("Problem")}});
    json!({"description": "Why it is not done", "content": content})
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
    }

    #[test]
    fn the_document_has_every_operation_with_its_parameters() {
        let document: Value = serde_json::from_slice(&document()).unwrap();
        for operation in Operation::ALL {
            let facts = operation.facts();
            let told = &document["paths"][facts.path][facts.method.name()];
            assert_eq!(told["operationId"], facts.id);
            let parameters = told["parameters"].as_array().unwrap();
            assert_eq!(
                parameters.len(),
                facts.path.matches('{').count() + facts.query.len(),
                "{operation:?}"
            );
            assert!(told["responses"]["default"].is_object(), "{operation:?}");
        }
    }

    #[test]
    fn a_path_is_one_that_the_document_has() {
        for path in
            ["/openapi.json", "/v1/apps", "/v1/apps/a/b", "/v1/apps/a/b/send", "/v1/apps/a/b/sessions/c"]
        {
            assert!(has_path(path), "{path}");
        }
        for path in ["/", "/v1", "/v1/apps/a/b/sends", "/v1/apps/a/b/send/c", "/v1/apps/a/b/sessions"] {
            assert!(!has_path(path), "{path}");
        }
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
