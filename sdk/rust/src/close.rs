//! How to close a connection.

use crate::Outgoing;

/// How to close: with which farewell, code and reason. Text and bytes convert into one with that farewell.
///
/// ```
/// use tidegate::Close;
/// let kicked = Close::new().code(4001).reason("kicked").farewell("Please be nice.");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Close<'a> {
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) farewell: Option<Outgoing<'a>>,
}

impl<'a> Close<'a> {
    /// Code 1000, no reason, no farewell.
    #[must_use]
    pub const fn new() -> Self {
        Self { code: 1000, reason: String::new(), farewell: None }
    }

    /// The WebSocket close code: 1000 or 3000 to 4999, another one fails the turn. Other protocols have none.
    #[must_use]
    pub fn code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    /// The WebSocket close reason, at most 123 bytes; a longer one fails the turn.
    #[must_use]
    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// A last message, after what is queued already.
    #[must_use]
    pub fn farewell(self, message: impl Into<Outgoing<'a>>) -> Self {
        Self { farewell: Some(message.into()), ..self }
    }
}

impl Default for Close<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, M: Into<Outgoing<'a>>> From<M> for Close<'a> {
    fn from(farewell: M) -> Self {
        Self::new().farewell(farewell)
    }
}
