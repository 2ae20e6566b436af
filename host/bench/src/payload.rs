//! The messages of the bench: each says who sent it and which one it is, and is checked to the last byte.
//!
//! ```text
//!  0..4   marker "tgb~"          4..8   client, 24 bits       8..16  sequence, 48 bits
//!  16..   filling, the same in every message
//! ```
//!
//! Numbers are written six bits a byte, from `0` to `o`, so that a message is valid text.

use crate::codec::{Opcode, put_frame};
use crate::options::MessageKind;

/// The shortest payload: the numbers alone.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 16;

const MARKER: [u8; 4] = *b"tgb~";
// Constant, so that a frame is a copy and twelve patched bytes; not zero, so that a server must unmask.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x9e];

/// Every message of a run but for the numbers, framed and masked beforehand.
#[derive(Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    payload_at: usize,
    plain: Vec<u8>,
}

/// What a received message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// One of ours, intact.
    Ours { client: u32, sequence: u64 },
    /// One of ours, damaged.
    Wrong,
    /// Something the server says by itself, such as a greeting.
    Foreign,
}

impl Template {
    /// `payload_len` must be at least [`PAYLOAD_BYTES_MIN`]; a smaller one is raised to it.
    pub(crate) fn new(payload_len: usize, kind: MessageKind) -> Template {
        let payload_len = payload_len.max(PAYLOAD_BYTES_MIN);
        let mut plain: Vec<u8> = (b'a'..=b'z').cycle().take(payload_len).collect();
        plain[..4].copy_from_slice(&MARKER);
        let opcode = match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        };
        let mut frame = Vec::with_capacity(payload_len + 14);
        put_frame(&mut frame, opcode, Some(MASK), &plain);
        Template { payload_at: frame.len() - payload_len, frame, plain }
    }

    /// Appends message `sequence` of `client` as one masked frame.
    #[inline]
    pub(crate) fn put(&self, client: u32, sequence: u64, out: &mut Vec<u8>) {
        let at = out.len() + self.payload_at;
        out.extend_from_slice(&self.frame);
        let numbers = digits::<4>(u64::from(client)).into_iter().chain(digits::<8>(sequence));
        for ((byte, digit), key) in out[at + 4..at + 16].iter_mut().zip(numbers).zip(MASK.into_iter().cycle())
        {
            *byte = digit ^ key;
        }
    }

    /// Says what `payload` is.
    #[inline]
    pub(crate) fn check(&self, payload: &[u8]) -> Checked {
        if !payload.starts_with(&MARKER) {
            return Checked::Foreign;
        }
        if payload.len() != self.plain.len() || payload[16..] != self.plain[16..] {
            return Checked::Wrong;
        }
        match (number(&payload[4..8]), number(&payload[8..16])) {
            (Some(client), Some(sequence)) => Checked::Ours { client: client as u32, sequence },
            _ => Checked::Wrong,
        }
    }
}

/// A whole frame of a client, masked.
pub(crate) fn put_masked(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    put_frame(out, opcode, Some(MASK), payload);
}

#[inline]
fn digits<const N: usize>(value: u64) -> [u8; N] {
    std::array::from_fn(|i| b'0' + ((value >> (6 * (N - 1 - i))) & 63) as u8)
}

#[inline]
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 64).then_some(value << 6 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{Header, apply_mask};

    fn unframed(template: &Template, client: u32, sequence: u64) -> Vec<u8> {
        let mut out = vec![9; 3];
        template.put(client, sequence, &mut out);
        let header = Header::parse(&out[3..]).unwrap().unwrap();
        assert_eq!(out.len(), 3 + header.header_len + header.payload_len);
        let mut payload = out.split_off(3 + header.header_len);
        apply_mask(&mut payload, header.mask.unwrap());
        payload
    }

    proptest! {
        #[test]
        fn numbers_come_back_whatever_the_size(client in 0u32..1 << 24, sequence in 0u64..1 << 48, len in 16usize..400) {
            let template = Template::new(len, MessageKind::Text);
            let payload = unframed(&template, client, sequence);
            prop_assert_eq!(payload.len(), len);
            prop_assert!(std::str::from_utf8(&payload).is_ok());
            prop_assert_eq!(template.check(&payload), Checked::Ours { client, sequence });
        }

        #[test]
        fn a_changed_byte_never_passes_for_the_same_message(at in 0usize..64, flip in 1u8..) {
            let template = Template::new(64, MessageKind::Binary);
            let mut payload = unframed(&template, 5, 77);
            payload[at] ^= flip;
            prop_assert_ne!(template.check(&payload), Checked::Ours { client: 5, sequence: 77 });
        }
    }

    #[test]
    fn cut_messages_are_wrong_and_greetings_are_foreign() {
        let template = Template::new(64, MessageKind::Text);
        let payload = unframed(&template, 1, 2);
        assert_eq!(template.check(&payload[..63]), Checked::Wrong);
        assert_eq!(template.check(&payload[..5]), Checked::Wrong);
        assert_eq!(template.check(b"Hello 7f00000108fc00000001"), Checked::Foreign);
        assert_eq!(template.check(b""), Checked::Foreign);
    }
}
