//! What clients speak, sans-io: bytes in, items out; messages in, bytes out.
//!
//! One codec per connection, made for connections by the thousand that share one read buffer:
//!
//! ```text
//!   shared read buffer  [ partial frame kept from before | bytes just read ]
//!                         |
//!                         v  Codec::decode, again and again, each time on what is left
//!   Item, Item, Item ...  then Incomplete: keep the rest (if any) until `needed` bytes are there
//! ```
//!
//! A codec holds no buffer of its own, except for the fragments of a WebSocket message that the client has begun and
//! not yet ended. Nothing is allocated per message: items borrow from the read buffer.
//!
//! Toward the client there is no state at all: [`encode`] appends to any buffer, so a broadcast is encoded once per
//! protocol.

mod encode;
mod error;
pub mod frame;
pub mod http;
#[cfg(test)]
mod tests;
pub mod text;
pub mod ws;

pub use encode::{encode, encode_close, encode_ping, encode_pong, encoded_len};
pub use error::ProtocolError;
use tidegate_base::{CloseCode, MessageKind, Protocol};

/// What a client may send at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of one message in bytes: of all its fragments together, of a line without its end, of a
    /// length-prefixed payload without its length. Raw TCP is cut into messages of this size.
    pub payload_bytes_max: usize,
}

/// One thing that a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole message. The payload is valid UTF-8 if the kind is text; the kind is never raw.
    Message(MessageKind, &'a [u8]),
    /// A WebSocket ping with at most 125 bytes; answer it with [`encode_pong`].
    Ping(&'a [u8]),
    /// A WebSocket pong with at most 125 bytes.
    Pong(&'a [u8]),
    /// A WebSocket close. It is the last item: answer with [`encode_close`] if not closing already, and decode no
    /// more.
    Close {
        /// The code, one that may be on the wire, if the client gave one.
        code: Option<CloseCode>,
        /// The reason, at most 123 bytes.
        reason: &'a str,
    },
    /// A fragment of a message that has not ended.
    Nothing,
}

/// What [`Codec::decode`] found at the front of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// An item.
    Item {
        /// The bytes that it took off the front, at least one.
        consumed: usize,
        /// The item.
        item: Item<'a>,
    },
    /// More bytes must be read.
    Incomplete {
        /// Bytes at the front that may be dropped now. No protocol has any today; a caller honours it all the same.
        consumed: usize,
        /// How many bytes the buffer must have at least, those there are included, for the next call to get further.
        /// Exact once a frame's length is there, so that room for a large frame is made once. At most
        /// [`Limits::payload_bytes_max`] (for WebSocket at least 125, a control frame) and a head of 14 bytes.
        /// The client has only announced it so far: a caller with many clients lets memory follow what came.
        needed: usize,
    },
}

/// The state of one connection toward its client's bytes: 16 bytes, and no buffer while nothing is half said.
///
/// # Contract
/// - `decode` is called on all bytes read and not yet consumed; after `Item` again on what is left, until `Incomplete`.
/// - Bytes that a call does not consume are not changed by it, so that a caller may stop at any item (backpressure) and
///   go on later with the same bytes, or with more behind them.
/// - After an error or [`Item::Close`] the stream has no meaning any more: close, with [`ProtocolError::close_code`].
#[derive(Debug)]
pub enum Codec {
    /// WebSocket, after the upgrade.
    Ws(ws::Decoder),
    /// Lines.
    Text(text::Decoder),
    /// Length-prefixed frames.
    Frame(frame::Decoder),
    /// Bytes as they come.
    Tcp,
}

impl Codec {
    /// The codec of a fresh connection.
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Ws => Self::Ws(ws::Decoder::default()),
            Protocol::Text => Self::Text(text::Decoder::default()),
            Protocol::Frame => Self::Frame(frame::Decoder),
            Protocol::Tcp => Self::Tcp,
        }
    }

    /// The protocol that it speaks.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Ws(_) => Protocol::Ws,
            Self::Text(_) => Protocol::Text,
            Self::Frame(_) => Protocol::Frame,
            Self::Tcp => Protocol::Tcp,
        }
    }

    /// Takes at most one item off the front of `buf`. WebSocket payloads are unmasked in place.
    ///
    /// # Errors
    /// The client broke the protocol or a limit. The same stream gives the same error however it was split into reads,
    /// after the same items.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        buf: &'a mut [u8],
        limits: &Limits,
    ) -> Result<Decoded<'a>, ProtocolError> {
        match self {
            Self::Ws(decoder) => decoder.decode(buf, limits),
            Self::Text(decoder) => decoder.decode(buf, limits),
            Self::Frame(decoder) => decoder.decode(buf, limits),
            Self::Tcp => Ok(take_all(buf, limits)),
        }
    }

    /// Lets go of the fragments of a message that was handed out already. Each `decode` does so first; call it when a
    /// buffer is used up and `decode` will not be called again soon.
    #[inline]
    pub fn release(&mut self) {
        if let Self::Ws(decoder) = self {
            decoder.release();
        }
    }

    /// The bytes of memory that this codec holds besides its own size: the fragments of a message that has not ended.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Ws(decoder) => decoder.held_bytes(),
            _ => 0,
        }
    }
}

fn take_all<'a>(buf: &'a [u8], limits: &Limits) -> Decoded<'a> {
    // A limit of 0 must not keep the caller in a loop that consumes nothing.
    let consumed = buf.len().min(limits.payload_bytes_max.max(1));
    match buf.get(..consumed) {
        Some(bytes) if consumed > 0 => {
            Decoded::Item { consumed, item: Item::Message(MessageKind::Binary, bytes) }
        }
        _ => Decoded::Incomplete { consumed: 0, needed: 1 },
    }
}
