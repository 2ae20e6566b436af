use super::CONTROL_BYTES_MAX;
use crate::protocol::{Limits, ProtocolError};

pub(in crate::protocol) const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Length codes that say "the length follows in 2, in 8 bytes".
pub(super) const LENGTH_16: u8 = 126;
pub(super) const LENGTH_64: u8 = 127;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::protocol) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The head of a client's frame.
///
/// ```text
///   byte 0                 byte 1                     then 0, 2 or 8    4
///   +-----+-----+--------+ +------+-----------------+ +---------------+ +------+
///   | FIN | RSV | opcode | | MASK | length, 126, 127| | length        | | mask |
///   +-----+-----+--------+ +------+-----------------+ +---------------+ +------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) mask: [u8; 4],
    /// Where the payload begins.
    pub(super) payload_at: usize,
    /// Where the frame ends, the payload included.
    pub(super) frame_bytes: usize,
}

/// A head, or how many bytes are needed to get further.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Head(Head),
    Needs(usize),
}

/// Reads a head. `joined` is the length of the fragments that were absorbed, if a message is open.
///
/// Each byte is judged as soon as it is there and in order, so that an error is the same for every split into reads.
#[inline]
pub(super) fn parse(buf: &[u8], joined: Option<usize>, limits: &Limits) -> Result<Parsed, ProtocolError> {
    let Some(&first) = buf.first() else { return Ok(Parsed::Needs(2)) };
    let (opcode, fin) = parse_first(first, joined.is_some())?;
    let Some(&second) = buf.get(1) else { return Ok(Parsed::Needs(2)) };
    if second & MASKED == 0 {
        return Err(ProtocolError::Unmasked);
    }
    let code = second & !MASKED;
    if opcode.is_control() && usize::from(code) > CONTROL_BYTES_MAX {
        return Err(ProtocolError::LongControl { opcode: opcode as u8 });
    }
    let (length, mask_at): (u64, usize) = match code {
        LENGTH_16 => match buf.get(2..4).and_then(<[u8]>::as_array) {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4),
            None => return Ok(Parsed::Needs(4)),
        },
        LENGTH_64 => match buf.get(2..10).and_then(<[u8]>::as_array) {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10),
            None => return Ok(Parsed::Needs(10)),
        },
        short => (u64::from(short), 2),
    };
    let payload_bytes = match opcode.is_control() {
        // At most 125, checked above: an app's smaller limit is for messages.
        true => usize::from(code),
        false => check_length(code, length, joined.unwrap_or(0), limits)?,
    };
    let payload_at = mask_at + 4;
    let frame_bytes = payload_at.saturating_add(payload_bytes);
    Ok(match buf.get(mask_at..payload_at).and_then(<[u8]>::as_array) {
        Some(mask) => Parsed::Head(Head { opcode, fin, mask: *mask, payload_at, frame_bytes }),
        None => Parsed::Needs(frame_bytes),
    })
}

#[inline]
fn parse_first(first: u8, is_open: bool) -> Result<(Opcode, bool), ProtocolError> {
    if first & RESERVED != 0 {
        return Err(ProtocolError::ReservedBits { first });
    }
    let number = first & 0x0f;
    let Some(opcode) = Opcode::from_u8(number) else {
        return Err(ProtocolError::ReservedOpcode { opcode: number });
    };
    let fin = first & FIN != 0;
    match opcode {
        Opcode::Continuation if !is_open => Err(ProtocolError::NothingToContinue),
        Opcode::Text | Opcode::Binary if is_open => Err(ProtocolError::MessageInsideMessage),
        Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => {
            Err(ProtocolError::FragmentedControl { opcode: number })
        }
        _ => Ok((opcode, fin)),
    }
}

#[inline]
fn check_length(code: u8, length: u64, joined: usize, limits: &Limits) -> Result<usize, ProtocolError> {
    let is_wrong = match code {
        LENGTH_16 => length < u64::from(LENGTH_16),
        LENGTH_64 => length <= u64::from(u16::MAX) || length >> 63 != 0,
        _ => false,
    };
    if is_wrong {
        return Err(ProtocolError::InvalidLength { length });
    }
    let limit = limits.payload_bytes_max;
    let bytes = length.saturating_add(joined as u64);
    usize::try_from(length)
        .ok()
        .filter(|_| bytes <= limit as u64)
        .ok_or(ProtocolError::TooBig { bytes, limit })
}
