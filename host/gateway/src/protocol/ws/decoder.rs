use tidegate_base::{CloseCode, MessageKind};

use super::head::{Head, Opcode, Parsed, parse};
use super::mask::unmask;
use crate::protocol::{Decoded, Item, Limits, ProtocolError};

/// Takes frames off a client's stream and puts fragments together.
///
/// One pointer, null unless the client is within a fragmented message.
#[derive(Debug, Default)]
pub struct Decoder {
    fragments: Option<Box<Fragments>>,
}

/// A message in fragments. The box goes when the message was handed out.
#[derive(Debug)]
struct Fragments {
    kind: MessageKind,
    /// The last one is here and the message was handed out: nothing is open any more.
    is_done: bool,
    /// How many bytes at the front are known to be UTF-8, if the kind is text.
    valid: usize,
    joined: Vec<u8>,
}

impl Decoder {
    /// Takes one frame off the front of `buf`. See [`Codec::decode`](crate::protocol::Codec::decode).
    ///
    /// A frame is unmasked when it is all there, never before. The bytes of a fragment are copied once, into a buffer
    /// that lives until the call after the one that returned the message, or until [`release`](Self::release).
    ///
    /// # Errors
    /// Anything that RFC 6455 forbids, as soon as the byte that does it is there; text that is not UTF-8, with the
    /// frame in which it goes wrong; a message above the limit, with the head of the frame that exceeds it.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        buf: &'a mut [u8],
        limits: &Limits,
    ) -> Result<Decoded<'a>, ProtocolError> {
        self.release();
        let joined = self.fragments.as_ref().map(|fragments| fragments.joined.len());
        let head = match parse(buf, joined, limits)? {
            Parsed::Head(head) => head,
            Parsed::Needs(needed) => return Ok(Decoded::Incomplete { consumed: 0, needed }),
        };
        let Some(payload) = buf.get_mut(head.payload_at..head.frame_bytes) else {
            return Ok(Decoded::Incomplete { consumed: 0, needed: head.frame_bytes });
        };
        unmask(payload, head.mask);
        let item = match (head.opcode, head.fin) {
            (Opcode::Text, true) => {
                // The plain check is the faster one; where it went wrong is only asked when it did.
                if simdutf8::basic::from_utf8(payload).is_err() {
                    return Err(ProtocolError::InvalidUtf8 { at: valid_prefix(payload).0 });
                }
                Item::Message(MessageKind::Text, payload)
            }
            (Opcode::Binary, true) => Item::Message(MessageKind::Binary, payload),
            (Opcode::Text | Opcode::Binary | Opcode::Continuation, _) => {
                self.absorb(head, payload, limits)?
            }
            (Opcode::Ping, _) => Item::Ping(payload),
            (Opcode::Pong, _) => Item::Pong(payload),
            (Opcode::Close, _) => close(payload)?,
        };
        Ok(Decoded::Item { consumed: head.frame_bytes, item })
    }

    /// Lets go of the fragments of a message that was handed out.
    #[inline]
    pub fn release(&mut self) {
        if self.fragments.as_ref().is_some_and(|fragments| fragments.is_done) {
            self.fragments = None;
        }
    }

    /// The memory that fragments take, in bytes; 0 if no message is open.
    pub fn held_bytes(&self) -> usize {
        self.fragments.as_ref().map_or(0, |held| size_of::<Fragments>() + held.joined.capacity())
    }

    #[cold]
    fn absorb(&mut self, head: Head, payload: &[u8], limits: &Limits) -> Result<Item<'_>, ProtocolError> {
        let kind = if head.opcode == Opcode::Text { MessageKind::Text } else { MessageKind::Binary };
        // `parse` let a continuation through only if a message is open, and a new message only if none is.
        let fragments = self.fragments.get_or_insert_with(|| {
            Box::new(Fragments { kind, is_done: false, valid: 0, joined: Vec::new() })
        });
        fragments.append(payload, limits);
        if fragments.kind == MessageKind::Text {
            fragments.validate(head.fin)?;
        }
        if !head.fin {
            return Ok(Item::Nothing);
        }
        fragments.is_done = true;
        Ok(Item::Message(fragments.kind, &fragments.joined))
    }
}

impl Fragments {
    /// Grows by doubling as a vector does, but never beyond the limit: that is what a client can make the gateway hold.
    fn append(&mut self, payload: &[u8], limits: &Limits) {
        let needed = self.joined.len() + payload.len();
        if needed > self.joined.capacity() {
            let target = (self.joined.capacity() * 2).min(limits.payload_bytes_max).max(needed);
            self.joined.reserve_exact(target - self.joined.len());
        }
        self.joined.extend_from_slice(payload);
    }

    /// Checks what is new. A character may be cut by the end of a fragment, but not by the end of the message.
    fn validate(&mut self, is_last: bool) -> Result<(), ProtocolError> {
        let fresh = self.joined.get(self.valid..).unwrap_or_default();
        let (valid, rest_may_follow) = valid_prefix(fresh);
        self.valid += valid;
        let is_whole = self.valid == self.joined.len();
        if is_whole || (rest_may_follow && !is_last) {
            return Ok(());
        }
        Err(ProtocolError::InvalidUtf8 { at: self.valid })
    }
}

/// How many bytes at the front are UTF-8, and whether the rest is the beginning of a character.
fn valid_prefix(bytes: &[u8]) -> (usize, bool) {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(_) => (bytes.len(), true),
        Err(error) => (error.valid_up_to(), error.error_len().is_none()),
    }
}

#[cold]
fn close(payload: &[u8]) -> Result<Item<'_>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Item::Close { code: None, reason: "" }),
            _ => Err(ProtocolError::ShortClose),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode(code).is_valid_on_the_wire() {
        return Err(ProtocolError::InvalidCloseCode { code });
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Item::Close { code: Some(CloseCode(code)), reason }),
        Err(error) => Err(ProtocolError::InvalidUtf8 { at: error.valid_up_to() }),
    }
}
