//! Values as PHP serializes them, without objects: what sessions and answers are made of.

mod read;
mod session;
mod write;

use std::borrow::Cow;

use read::BadValue;
pub(crate) use read::read;
pub(crate) use session::{BadSession, session_to_json, session_to_php};
pub(crate) use write::Writer;

/// A value of PHP. Texts are bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, [u8]>),
    /// In order; of two entries with one key the later one holds.
    Array(Vec<(Key<'a>, Value<'a>)>),
}

/// The key of an array's entry. A text that is a whole number in its plain form is always [`Key::Int`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Int(i64),
    Text(Cow<'a, [u8]>),
}

/// The number that a text is as a key: in its plain form, without a sign but `-`, and without zeros before it.
pub(crate) fn key_number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // `-9223372036854775808` stays a text in PHP.
    (number != i64::MIN && number.to_string().as_bytes() == text).then_some(number)
}
