use tidegate_base::CloseCode;
use tidegate_base::limits::CLOSE_REASON_BYTES_MAX;

use super::CONTROL_BYTES_MAX;
use super::head::{FIN, LENGTH_16, LENGTH_64, Opcode};

/// How many bytes come before a payload of this size.
#[inline]
pub(in crate::protocol) const fn head_len(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..=CONTROL_BYTES_MAX => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Appends one whole unmasked frame.
#[inline]
pub(in crate::protocol) fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let bytes = payload.len();
    out.reserve(head_len(bytes) + bytes);
    let first = FIN | opcode as u8;
    if bytes <= CONTROL_BYTES_MAX {
        out.extend_from_slice(&[first, bytes as u8]);
    } else if let Ok(short) = u16::try_from(bytes) {
        let [a, b] = short.to_be_bytes();
        out.extend_from_slice(&[first, LENGTH_16, a, b]);
    } else {
        out.extend_from_slice(&[first, LENGTH_64]);
        out.extend_from_slice(&(bytes as u64).to_be_bytes());
    }
    out.extend_from_slice(payload);
}

/// Appends a close frame; an unfit code makes an empty one, a long reason is cut between characters.
pub(in crate::protocol) fn encode_close(code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    if !code.is_valid_on_the_wire() {
        return encode(Opcode::Close, &[], out);
    }
    let (reason, _) = reason.split_at(reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX));
    out.extend_from_slice(&[FIN | Opcode::Close as u8, (2 + reason.len()) as u8]);
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a ping or pong, cut to what a control frame may hold.
pub(in crate::protocol) fn encode_control(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    encode(opcode, payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload), out);
}
