//! What clients say and what they are told.

use std::borrow::Cow;
use std::fmt;

/// A message of a client: what one WebSocket message, line or frame carried.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Text. The host has checked that it is UTF-8.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// The text, or nothing if the message is binary.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of either kind.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Reads the payload of either kind as JSON.
    ///
    /// # Errors
    /// It is not the JSON of a `T`.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.as_bytes())
    }

    #[cfg(any(target_family = "wasm", test))]
    pub(crate) fn of_host(kind: MessageKind, payload: Vec<u8>) -> Self {
        match kind {
            #[expect(
                unsafe_code,
                reason = "a second UTF-8 check of each message would be the SDK's largest cost"
            )]
            // SAFETY: the contract's on-message promises that the payload of a text is UTF-8; the host checks it.
            MessageKind::Text => Self::Text(unsafe { String::from_utf8_unchecked(payload) }),
            MessageKind::Binary | MessageKind::Raw => Self::Binary(payload),
        }
    }
}

/// The text; binary bytes as UTF-8 with replacement characters.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Binary(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
        }
    }
}

impl PartialEq<str> for Message {
    fn eq(&self, other: &str) -> bool {
        self.as_text() == Some(other)
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for Message {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

/// What a payload is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
    /// Bytes that go to the socket as they are, without the listener's protocol around them.
    Raw,
}

/// A message to send. Text converts into it (`&str`, `String`), bytes do (`&[u8]`, `&[u8; N]`, `Vec<u8>`: binary), a
/// received [`Message`] does, and [`Raw`] bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing<'a> {
    pub(crate) kind: MessageKind,
    pub(crate) payload: Cow<'a, [u8]>,
}

impl<'a> Outgoing<'a> {
    fn new(kind: MessageKind, payload: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { kind, payload: payload.into() }
    }
}

/// Bytes that go to the socket as they are, without the listener's protocol around them: what `$raw` is in
/// GatewayWorker. Each client's own protocol must be known to make sense of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw<'a>(
    /// The bytes.
    pub &'a [u8],
);

impl<'a> From<&'a str> for Outgoing<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(MessageKind::Text, text.as_bytes())
    }
}

impl<'a> From<&'a String> for Outgoing<'a> {
    fn from(text: &'a String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<String> for Outgoing<'_> {
    fn from(text: String) -> Self {
        Self::new(MessageKind::Text, text.into_bytes())
    }
}

impl<'a> From<&'a [u8]> for Outgoing<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(MessageKind::Binary, bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Outgoing<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl<'a> From<&'a Vec<u8>> for Outgoing<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Outgoing<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(MessageKind::Binary, bytes)
    }
}

impl<'a> From<Raw<'a>> for Outgoing<'a> {
    fn from(Raw(bytes): Raw<'a>) -> Self {
        Self::new(MessageKind::Raw, bytes)
    }
}

impl<'a> From<&'a Message> for Outgoing<'a> {
    fn from(message: &'a Message) -> Self {
        match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes.into(),
        }
    }
}

impl From<Message> for Outgoing<'_> {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_the_host_becomes_a_message_of_its_kind() {
        assert_eq!(Message::of_host(MessageKind::Text, "hé".into()), Message::Text("hé".into()));
        assert_eq!(Message::of_host(MessageKind::Binary, vec![0xff]), Message::Binary(vec![0xff]));
    }

    #[test]
    fn a_message_echoes_as_what_it_was() {
        let text = Message::Text("a".into());
        assert_eq!(Outgoing::from(&text), Outgoing::from("a"));
        assert_eq!(Outgoing::from(text), Outgoing::from("a".to_owned()));
        assert_eq!(Outgoing::from(Message::Binary(vec![1])), Outgoing::from(&[1]));
        assert_eq!(Outgoing::from(Raw(b"x")).kind, MessageKind::Raw);
    }

    #[test]
    fn json_reads_text_and_bytes_alike() {
        assert_eq!(Message::Text("[1,2]".into()).json::<Vec<u8>>().unwrap(), [1, 2]);
        assert_eq!(Message::Binary(b"3".to_vec()).json::<u8>().unwrap(), 3);
        assert!(Message::Text("nope".into()).json::<u8>().is_err());
    }
}
