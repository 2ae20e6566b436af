//! Sessions: PHP arrays at one side, JSON objects at the other.

use serde_json::{Map, Number, Value as Json};

use super::{BadValue, Key, Value, Writer, read};

/// Why an array is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSession {
    #[error("the session is no serialized array: {0}")]
    Value(#[from] BadValue),
    #[error("a session is an array")]
    NoArray,
    #[error(
        "the session has a text that is not UTF-8, which JSON cannot carry: encode it, such as with base64"
    )]
    Utf8,
    #[error("the session has a float that is no number (INF or NAN), which JSON cannot carry")]
    Float,
}

/// The JSON object of a serialized array.
pub(crate) fn session_to_json(serialized: &[u8]) -> Result<String, BadSession> {
    match read(serialized)? {
        Value::Array(entries) => object(entries).map(|object| Json::Object(object).to_string()),
        _ => Err(BadSession::NoArray),
    }
}

/// The serialized array of a session. None: it is no JSON object, which no gateway tells.
pub(crate) fn session_to_php(json: &str) -> Option<Vec<u8>> {
    let object: Map<String, Json> = serde_json::from_str(json).ok()?;
    let mut writer = Writer::default();
    write(&mut writer, &Json::Object(object));
    Some(writer.into_bytes())
}

fn object(entries: Vec<(Key<'_>, Value<'_>)>) -> Result<Map<String, Json>, BadSession> {
    let mut object = Map::new();
    for (key, value) in entries {
        let key = match key {
            Key::Int(number) => number.to_string(),
            Key::Text(text) => utf8(&text)?,
        };
        object.insert(key, json(value)?);
    }
    Ok(object)
}

fn json(value: Value<'_>) -> Result<Json, BadSession> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(truth),
        Value::Int(number) => Json::Number(number.into()),
        Value::Float(number) => Json::Number(Number::from_f64(number).ok_or(BadSession::Float)?),
        Value::Text(text) => Json::String(utf8(&text)?),
        Value::Array(entries) if is_list(&entries) => {
            Json::Array(entries.into_iter().map(|(_, value)| json(value)).collect::<Result<_, _>>()?)
        }
        Value::Array(entries) => Json::Object(object(entries)?),
    })
}

/// What PHP's `array_is_list` says.
fn is_list(entries: &[(Key<'_>, Value<'_>)]) -> bool {
    (0..).zip(entries).all(|(at, (key, _))| *key == Key::Int(at))
}

fn utf8(text: &[u8]) -> Result<String, BadSession> {
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| BadSession::Utf8)
}

// What comes in is at most 128 levels deep, which serde_json sees to.
fn write(writer: &mut Writer, json: &Json) {
    match json {
        Json::Null => writer.null(),
        Json::Bool(truth) => writer.bool(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(number) => writer.int(number),
            None => writer.float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => writer.text(text.as_bytes()),
        Json::Array(items) => writer.list(items, write),
        Json::Object(object) => writer.array(object.len(), |writer| {
            for (key, value) in object {
                writer.key(key);
                write(writer, value);
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nested_arrays_go_there_and_back() {
        let php = b"a:6:{s:4:\"name\";s:3:\"\xc3\xa9!\";s:4:\"list\";a:2:{i:0;i:1;i:1;a:1:{s:1:\"x\";b:0;}}i:5;d:1.5;\
                    s:4:\"none\";N;s:5:\"float\";d:1;s:5:\"holes\";a:2:{i:0;i:1;i:2;i:3;}}";
        let json = session_to_json(php).unwrap();
        let told =
            r#"{"name":"é!","list":[1,{"x":false}],"5":1.5,"none":null,"float":1.0,"holes":{"0":1,"2":3}}"#;
        assert_eq!(json, told);
        assert_eq!(session_to_php(&json).unwrap().escape_ascii().to_string(), php.escape_ascii().to_string());
    }

    #[test]
    fn the_top_is_an_object_even_if_php_has_a_list_there() {
        assert_eq!(session_to_json(b"a:1:{i:0;s:1:\"a\";}").unwrap(), r#"{"0":"a"}"#);
        assert_eq!(session_to_json(b"a:0:{}").unwrap(), "{}");
        assert_eq!(session_to_php("{}").unwrap(), b"a:0:{}");
        assert_eq!(session_to_php("[]"), None);
    }

    #[test]
    fn what_json_cannot_carry_is_refused() {
        assert_eq!(session_to_json(b"i:1;"), Err(BadSession::NoArray));
        assert_eq!(session_to_json(b"a:1:{i:0;d:NAN;}"), Err(BadSession::Float));
        assert_eq!(session_to_json(b"a:1:{i:0;s:1:\"\xff\";}"), Err(BadSession::Utf8));
        assert!(matches!(session_to_json(b"a:1:{"), Err(BadSession::Value(_))));
    }

    fn json_value() -> impl Strategy<Value = Json> {
        let plain = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            // Of longer fractions serde_json may read another last digit, here as on gateways.
            any::<i32>().prop_map(|n| Json::from(f64::from(n) / 4.0)),
            ".*".prop_map(Json::from),
        ];
        plain.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                // An empty object, and one whose keys are 0, 1, ..., comes back as a list.
                prop::collection::btree_map("[a-z]{1,4}", inner, 1..5)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_session_survives_php(values in prop::collection::btree_map("[a-z]{1,4}", json_value(), 0..5)) {
            let json = Json::Object(values.into_iter().collect()).to_string();
            let php = session_to_php(&json).unwrap();
            prop_assert_eq!(session_to_json(&php).unwrap(), json);
        }
    }
}
