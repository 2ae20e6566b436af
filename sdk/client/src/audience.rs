//! Who is meant, and what is said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A uid or a group. Numbers are names, too: `7` and `"7"` are the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl From<i64> for Name {
    fn from(number: i64) -> Self {
        Self(number.to_string())
    }
}

impl From<u64> for Name {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

/// Who is meant: a set, in which nobody is twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// All clients of the app.
    All,
    /// These clients; 20 hex digits each.
    Clients(Vec<String>),
    /// Every client that is bound to one of these uids.
    Uids(Vec<Name>),
    /// Everybody in one of these groups.
    Groups(Vec<Name>),
}

impl Audience {
    /// One client.
    pub fn client(id: impl Into<String>) -> Self {
        Self::Clients(vec![id.into()])
    }

    /// These clients.
    pub fn clients<I: Into<String>>(ids: impl IntoIterator<Item = I>) -> Self {
        Self::Clients(ids.into_iter().map(Into::into).collect())
    }

    /// The clients of a uid.
    pub fn uid(uid: impl Into<Name>) -> Self {
        Self::Uids(vec![uid.into()])
    }

    /// The clients of these uids.
    pub fn uids<N: Into<Name>>(uids: impl IntoIterator<Item = N>) -> Self {
        Self::Uids(uids.into_iter().map(Into::into).collect())
    }

    /// A group.
    pub fn group(group: impl Into<Name>) -> Self {
        Self::Groups(vec![group.into()])
    }

    /// These groups.
    pub fn groups<N: Into<Name>>(groups: impl IntoIterator<Item = N>) -> Self {
        Self::Groups(groups.into_iter().map(Into::into).collect())
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(String),
    /// Bytes, as a binary message.
    Binary(Vec<u8>),
    /// Bytes that go out as they are, without the listener's protocol around them.
    Raw(Vec<u8>),
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Text(text) => map.serialize_entry("text", text)?,
            Self::Binary(bytes) => map.serialize_entry("base64", &STANDARD.encode(bytes))?,
            Self::Raw(bytes) => map.serialize_entry("raw", &STANDARD.encode(bytes))?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn audiences_and_messages_have_the_form_of_the_api() {
        assert_eq!(to_value(Audience::All).unwrap(), json!("all"));
        assert_eq!(to_value(Audience::groups(["a", "b"])).unwrap(), json!({"groups": ["a", "b"]}));
        assert_eq!(to_value(Audience::uid(7_u64)).unwrap(), json!({"uids": ["7"]}));
        assert_eq!(to_value(Audience::client("x")).unwrap(), json!({"clients": ["x"]}));
        assert_eq!(to_value(Message::from("hi")).unwrap(), json!({"text": "hi"}));
        assert_eq!(to_value(Message::from(vec![0, 255])).unwrap(), json!({"base64": "AP8="}));
        assert_eq!(to_value(Message::Raw(vec![1])).unwrap(), json!({"raw": "AQ=="}));
    }
}
