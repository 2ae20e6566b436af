//! Length-prefixed frames.
//!
//! ```text
//!   0        4
//!   +--------+---------------- - -
//!   | length | payload
//!   +--------+---------------- - -
//!   big-endian u32, counts its own 4 bytes
//! ```

use tidegate_base::MessageKind;

use super::{Decoded, Item, Limits, ProtocolError};

/// The length's own bytes.
pub(super) const HEAD_BYTES: usize = 4;

/// Takes frames off a stream. It has no state: a frame is complete in the buffer or not.
#[derive(Debug, Default)]
pub struct Decoder;

impl Decoder {
    /// Takes one frame off the front of `buf`. See [`Codec::decode`](super::Codec::decode).
    ///
    /// # Errors
    /// A length below 4, or a payload above the limit, as soon as the length is there.
    #[inline]
    pub fn decode<'a>(&self, buf: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let Some((head, _)) = buf.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(Decoded::Incomplete { consumed: 0, needed: HEAD_BYTES });
        };
        let length = u32::from_be_bytes(*head);
        let total = length as usize;
        let Some(bytes) = total.checked_sub(HEAD_BYTES) else {
            return Err(ProtocolError::ShortFrame { length });
        };
        if bytes > limits.payload_bytes_max {
            return Err(ProtocolError::TooBig { bytes: bytes as u64, limit: limits.payload_bytes_max });
        }
        Ok(match buf.get(HEAD_BYTES..total) {
            Some(payload) => {
                Decoded::Item { consumed: total, item: Item::Message(MessageKind::Binary, payload) }
            }
            None => Decoded::Incomplete { consumed: 0, needed: total },
        })
    }
}

/// Appends the length and `payload`. A payload that 32 bits cannot count never gets here, settings allow at most 64 MiB
/// ([`FRAME_BYTES_MAX`](tidegate_base::limits::FRAME_BYTES_MAX)); its frame would be cut to what they can.
pub(super) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len().saturating_add(HEAD_BYTES)).unwrap_or(u32::MAX);
    let bytes = payload.len().min(length as usize - HEAD_BYTES);
    out.reserve(HEAD_BYTES + bytes);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(payload.get(..bytes).unwrap_or(payload));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { payload_bytes_max: 8 };

    #[test]
    fn the_length_counts_itself() {
        let mut out = Vec::new();
        encode(b"hi", &mut out);
        assert_eq!(out, b"\0\0\0\x06hi");
        assert_eq!(
            Decoder.decode(b"\0\0\0\x06hi\0", &LIMITS),
            Ok(Decoded::Item { consumed: 6, item: Item::Message(MessageKind::Binary, b"hi") })
        );
        assert_eq!(
            Decoder.decode(b"\0\0\0\x04", &LIMITS),
            Ok(Decoded::Item { consumed: 4, item: Item::Message(MessageKind::Binary, b"") })
        );
    }

    #[test]
    fn what_is_needed_is_exact_once_the_length_is_there() {
        for (bytes, needed) in
            [(&b""[..], 4), (b"\0\0\0", 4), (b"\0\0\0\x0c", 12), (b"\0\0\0\x0c1234567", 12)]
        {
            assert_eq!(
                Decoder.decode(bytes, &LIMITS),
                Ok(Decoded::Incomplete { consumed: 0, needed }),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_at_once() {
        assert_eq!(Decoder.decode(b"\0\0\0\x03", &LIMITS), Err(ProtocolError::ShortFrame { length: 3 }));
        assert_eq!(Decoder.decode(b"\0\0\0\x0d", &LIMITS), Err(ProtocolError::TooBig { bytes: 9, limit: 8 }));
        // What an HTTP client sends to this port reads as a length of 1.2 GB.
        assert!(Decoder.decode(b"GET / HTTP/1.1", &LIMITS).is_err());
    }
}
