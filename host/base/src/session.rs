//! Session arithmetic, the same on both ends of a lane: a worker that merges its own write gets byte for byte what
//! the gateway gets.

use serde_json::{Map, Value};

use crate::limits::SESSION_DEPTH_MAX;

/// A session text that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSession {
    /// Not a JSON object.
    #[error("a session is a JSON object: {0}")]
    NotAnObject(String),
    /// Nested too deeply.
    #[error("a session is at most 32 levels deep")]
    TooDeep,
    /// Larger than the app allows.
    #[error("the session has {bytes} bytes, the app allows {limit} (session_bytes_max)")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Checks a session and brings it into the one form in which both ends keep it.
///
/// # Errors
/// It is not a JSON object, too deep, or larger than `limit` bytes.
pub fn normalize(session: &str, limit: usize) -> Result<String, InvalidSession> {
    within(Value::Object(parse(session)?).to_string(), limit)
}

/// Merges `patch` into `session` as PHP's `array_replace_recursive` does: objects merge key by key, anything else
/// replaces.
///
/// # Errors
/// One of them is not a JSON object, too deep, or the result is larger than `limit` bytes.
pub fn merge(session: Option<&str>, patch: &str, limit: usize) -> Result<String, InvalidSession> {
    let mut merged = session.map_or_else(|| Ok(Map::new()), parse)?;
    merge_maps(&mut merged, parse(patch)?);
    within(Value::Object(merged).to_string(), limit)
}

fn parse(text: &str) -> Result<Map<String, Value>, InvalidSession> {
    let value = serde_json::from_str(text).map_err(|e| InvalidSession::NotAnObject(e.to_string()))?;
    if depth(&value) > SESSION_DEPTH_MAX {
        return Err(InvalidSession::TooDeep);
    }
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(InvalidSession::NotAnObject("it is another JSON value".into())),
    }
}

fn within(text: String, limit: usize) -> Result<String, InvalidSession> {
    if text.len() > limit { Err(InvalidSession::TooLarge { bytes: text.len(), limit }) } else { Ok(text) }
}

fn merge_maps(into: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, new) in patch {
        match (into.get_mut(&key), new) {
            (Some(Value::Object(old)), Value::Object(new)) => merge_maps(old, new),
            (_, new) => {
                into.insert(key, new);
            }
        }
    }
}

// serde_json refuses to parse more than 128 levels, so this recursion is bounded.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_merge_key_by_key_and_anything_else_replaces() {
        let merged = merge(Some(r#"{"a":{"x":1,"y":[1,2]},"b":2}"#), r#"{"a":{"y":[3]},"c":null}"#, 1000);
        assert_eq!(merged.unwrap(), r#"{"a":{"x":1,"y":[3]},"b":2,"c":null}"#);
        assert_eq!(merge(None, r#"{ "a" : 1 }"#, 1000).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn what_is_no_bounded_object_is_refused() {
        assert!(matches!(normalize("[1]", 100), Err(InvalidSession::NotAnObject(_))));
        assert!(matches!(normalize("{", 100), Err(InvalidSession::NotAnObject(_))));
        assert_eq!(
            normalize(r#"{"a":"123456"}"#, 10),
            Err(InvalidSession::TooLarge { bytes: 14, limit: 10 })
        );
        let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
        assert_eq!(normalize(&deep, 1000), Err(InvalidSession::TooDeep));
    }
}
