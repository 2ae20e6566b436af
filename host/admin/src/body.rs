//! The JSON that requests are made of: the SDK's audiences and verbs. What can be borrowed from the body is.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidegate_base::{Audience, ClientId, Message, MessageKind};

/// Who is meant: `"all"`, or an object with one of `clients`, `uids` and `groups`, each one name or a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum To<'a> {
    All,
    #[serde(alias = "client")]
    Clients(Many<Id>),
    #[serde(borrow, alias = "uid")]
    Uids(Many<Name<'a>>),
    #[serde(borrow, alias = "group")]
    Groups(Many<Name<'a>>),
}

/// `{"to": ..., "except": ..., "text": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Send<'a> {
    #[serde(borrow)]
    pub to: To<'a>,
    #[serde(default)]
    pub except: Many<Id>,
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(default)]
    pub base64: Option<Base64>,
    #[serde(default)]
    pub raw: Option<Base64>,
}

/// A last message: one of `text`, `base64`, `raw`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Farewell<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(default)]
    pub base64: Option<Base64>,
    #[serde(default)]
    pub raw: Option<Base64>,
}

/// `{"to": ..., "code": 4001, "reason": "kicked", "farewell": {"text": "bye"}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close<'a> {
    #[serde(borrow)]
    pub to: To<'a>,
    #[serde(default)]
    pub except: Many<Id>,
    #[serde(default)]
    pub code: Option<u16>,
    #[serde(borrow, default)]
    pub reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub farewell: Option<Farewell<'a>>,
}

/// `{"to": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Destroy<'a> {
    #[serde(borrow)]
    pub to: To<'a>,
    #[serde(default)]
    pub except: Many<Id>,
}

/// `{"client": ..., "uid": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bind<'a> {
    #[serde(alias = "clients")]
    pub client: Many<Id>,
    #[serde(borrow)]
    pub uid: Name<'a>,
}

/// `{"client": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unbind {
    #[serde(alias = "clients")]
    pub client: Many<Id>,
}

/// `{"client": ..., "group": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member<'a> {
    #[serde(alias = "clients")]
    pub client: Many<Id>,
    #[serde(borrow, alias = "groups")]
    pub group: Many<Name<'a>>,
}

/// `{"group": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfGroups<'a> {
    #[serde(borrow, alias = "groups")]
    pub group: Many<Name<'a>>,
}

/// `{"client": ..., "session": {...}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteSession<'a> {
    #[serde(alias = "clients")]
    pub client: Many<Id>,
    #[serde(borrow)]
    pub session: &'a RawValue,
}

/// One command of a batch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed<'a> {
    #[serde(borrow)]
    Send(Send<'a>),
    #[serde(borrow)]
    Close(Close<'a>),
    #[serde(borrow)]
    Destroy(Destroy<'a>),
    #[serde(borrow)]
    Bind(Bind<'a>),
    Unbind(Unbind),
    #[serde(borrow)]
    Join(Member<'a>),
    #[serde(borrow)]
    Leave(Member<'a>),
    #[serde(borrow)]
    Disband(OfGroups<'a>),
    #[serde(borrow)]
    SetSession(WriteSession<'a>),
    #[serde(borrow)]
    UpdateSession(WriteSession<'a>),
    ClearSession(Unbind),
}

/// `{"commands": [...]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch<'a> {
    #[serde(borrow)]
    pub commands: Vec<Deed<'a>>,
}

/// `{"of": ...}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Of<'a> {
    #[serde(borrow)]
    pub of: To<'a>,
}

/// `{"of": ..., "fields": ["uid", "groups", "session"]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Select<'a> {
    #[serde(borrow)]
    pub of: To<'a>,
    #[serde(default)]
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Field {
    Uid,
    Groups,
    Session,
}

/// `{"clients": ...}` or `{"uids": ...}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Online<'a> {
    #[serde(alias = "client")]
    Clients(Many<Id>),
    #[serde(borrow, alias = "uid")]
    Uids(Many<Name<'a>>),
}

/// One or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Many<T>(pub Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub Cow<'a, str>);

/// A uid or a group: a text or an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name<'a>(pub Cow<'a, str>);

/// A client's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id(pub ClientId);

/// Bytes in base64, with padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base64(pub Vec<u8>);

impl To<'_> {
    /// The same, borrowed: what the body owns stays there.
    pub fn audience(&self) -> Audience<'_> {
        match self {
            Self::All => Audience::All,
            Self::Clients(clients) => Audience::Clients(clients.iter().collect()),
            Self::Uids(names) => Audience::Uids(names.borrowed()),
            Self::Groups(names) => Audience::Groups(names.borrowed()),
        }
    }
}

impl Many<Id> {
    pub fn iter(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.0.iter().map(|id| id.0)
    }
}

impl Many<Name<'_>> {
    fn borrowed(&self) -> Vec<Cow<'_, str>> {
        self.0.iter().map(|name| Cow::Borrowed(&*name.0)).collect()
    }

    pub fn owned(self) -> Vec<String> {
        self.0.into_iter().map(|name| name.0.into_owned()).collect()
    }
}

/// The one message of three fields; None: there is none, or more than one.
pub(crate) fn message<'m>(
    text: Option<&'m Text<'_>>,
    base64: Option<&'m Base64>,
    raw: Option<&'m Base64>,
) -> Option<Message<'m>> {
    let message = |kind, payload| Some(Message { kind, payload });
    match (text, base64, raw) {
        (Some(text), None, None) => message(MessageKind::Text, text.0.as_bytes()),
        (None, Some(Base64(bytes)), None) => message(MessageKind::Binary, bytes),
        (None, None, Some(Base64(bytes))) => message(MessageKind::Raw, bytes),
        _ => None,
    }
}

/// What a text, or an integer, of a body can be.
trait Item<'de>: Sized {
    const WHAT: &'static str;
    /// Whether a whole number will do.
    const NUMBERS: bool = false;

    fn from_text(text: Cow<'de, str>) -> Result<Self, String>;
}

impl<'de: 'a, 'a> Item<'de> for Text<'a> {
    const WHAT: &'static str = "a text";

    fn from_text(text: Cow<'de, str>) -> Result<Self, String> {
        Ok(Self(text))
    }
}

impl<'de: 'a, 'a> Item<'de> for Name<'a> {
    const WHAT: &'static str = "a name: a text or a whole number";
    const NUMBERS: bool = true;

    fn from_text(text: Cow<'de, str>) -> Result<Self, String> {
        Ok(Self(text))
    }
}

impl<'de> Item<'de> for Id {
    const WHAT: &'static str = "a client's id";

    fn from_text(text: Cow<'de, str>) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: tidegate_base::InvalidId| error.to_string())
    }
}

impl<'de> Item<'de> for Base64 {
    const WHAT: &'static str = "bytes in base64";

    fn from_text(text: Cow<'de, str>) -> Result<Self, String> {
        STANDARD.decode(&*text).map(Self).map_err(|error| format!("it is not base64: {error}"))
    }
}

struct OneVisitor<T>(PhantomData<T>);

impl<'de, T: Item<'de>> Visitor<'de> for OneVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<T, E> {
        T::from_text(Cow::Borrowed(text)).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(Cow::Owned(text.to_owned())).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        if !T::NUMBERS {
            return Err(E::invalid_type(Unexpected::Unsigned(number), &self));
        }
        T::from_text(Cow::Owned(number.to_string())).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        if !T::NUMBERS {
            return Err(E::invalid_type(Unexpected::Signed(number), &self));
        }
        T::from_text(Cow::Owned(number.to_string())).map_err(E::custom)
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Item<'de> + Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of such", T::WHAT)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Many<T>, E> {
        OneVisitor(PhantomData).visit_borrowed_str(text).map(|one| Many(vec![one]))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Many<T>, E> {
        OneVisitor(PhantomData).visit_str(text).map(|one| Many(vec![one]))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Many<T>, E> {
        OneVisitor(PhantomData).visit_u64(number).map(|one| Many(vec![one]))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Many<T>, E> {
        OneVisitor(PhantomData).visit_i64(number).map(|one| Many(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Many<T>, A::Error> {
        let mut many = Vec::new();
        while let Some(one) = list.next_element()? {
            many.push(one);
        }
        Ok(Many(many))
    }
}

impl<'de, T: Item<'de> + Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OneVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OneVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OneVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(json: &str) -> Audience<'static> {
        serde_json::from_str::<To<'_>>(json).unwrap().audience().into_owned()
    }

    #[test]
    fn an_audience_is_all_or_one_kind_of_names_each_one_or_several() {
        assert_eq!(to(r#""all""#), Audience::All);
        let id = "a1b2c3d4e5f600000007";
        let ids = vec![id.parse().unwrap()];
        assert_eq!(to(&format!(r#"{{"clients":["{id}"]}}"#)), Audience::Clients(ids.clone()));
        assert_eq!(to(&format!(r#"{{"client":"{id}"}}"#)), Audience::Clients(ids));
        assert_eq!(to(r#"{"uids":["a",7,-1]}"#), Audience::Uids(vec!["a".into(), "7".into(), "-1".into()]));
        assert_eq!(to(r#"{"uid":42}"#), Audience::Uids(vec!["42".into()]));
        assert_eq!(to(r#"{"group":"\u0061b"}"#), Audience::Groups(vec!["ab".into()]));
    }

    #[test]
    fn slips_of_the_pen_are_told_with_their_place() {
        let wrong = |json: &str| serde_json::from_str::<Send<'_>>(json).unwrap_err().to_string();
        for (json, words) in [
            (r#"{"to":"everybody","text":"x"}"#, "unknown variant `everybody`"),
            (r#"{"to":{"clients":["xyz"]},"text":"x"}"#, "20 lower-case hex digits at line 1"),
            (r#"{"to":"all","txt":"x"}"#, "unknown field `txt`"),
            (r#"{"to":"all","base64":"%%"}"#, "not base64"),
            (r#"{"text":"x"}"#, "missing field `to`"),
            (r#"{"to":{"uids":[1.5]},"text":"x"}"#, "a text or a whole number"),
        ] {
            assert!(wrong(json).contains(words), "{json}: {}", wrong(json));
        }
    }

    #[test]
    fn names_and_texts_are_borrowed_from_the_body() {
        let body = r#"{"to":{"uids":["ann"]},"text":"hello"}"#;
        let send: Send<'_> = serde_json::from_str(body).unwrap();
        assert!(matches!(send.text, Some(Text(Cow::Borrowed("hello")))));
        assert!(matches!(send.to, To::Uids(Many(names)) if matches!(names[0].0, Cow::Borrowed("ann"))));
    }
}
