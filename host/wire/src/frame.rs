//! The layout of lane frames, and the one registry of their numbers.
//!
//! ```text
//!  0         4      5       6       8          12         16
//!  +---------+------+-------+-------+----------+----------+----------------+
//!  | len u32 | kind | flags | aux   | client   | number   | payload        |
//!  |         | u8   | u8    | u16   | u32      | u32      | `len` bytes    |
//!  +---------+------+-------+-------+----------+----------+----------------+
//! ```
//!
//! Little-endian. A field that a kind does not use is 0. A number is never used for another kind again; the meaning of
//! every field stands beside it.

use std::fmt;

use tidegate_base::limits::FRAME_BYTES_MAX;

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 16;

/// What a frame is. Below 0x40 it goes from the gateway to the worker or pusher, from 0x40 on the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client's message. flags: message kind; aux: attempt; number: event; payload: the message.
    Message = 0x01,
    /// A client is connected. aux: attempt; number: event.
    Connect = 0x02,
    /// A client asks to upgrade. aux: attempt; number: event; payload: `UpgradeRequest`.
    WebsocketConnect = 0x03,
    /// A client is gone. aux: attempt; number: event; payload: `CloseInfo`.
    Close = 0x04,
    /// A client is bound to this slot now. payload: `Addresses`.
    Attach = 0x05,
    /// A client is not bound to this slot any more.
    Detach = 0x06,
    /// A client's session, ahead of the event that needs it. flags 1: there is one; number: the count of parts of this lane
    /// up to the last applied one that writes a session; payload: JSON.
    Session = 0x07,
    /// Answer to a query. number: the query; payload: `Answer`.
    Answer = 0x08,
    /// All parts up to this one are applied. number: the count of parts.
    Ack = 0x09,
    /// A command of a command lane is applied, or refused. number: the command, counted from 0 with the queries of its
    /// lane; client: how many clients it reached; flags 1: it is refused; payload: why.
    Applied = 0x0a,
    /// To the hello of a command lane: the gateway has no such app, and the lane ends.
    NoApp = 0x0b,

    /// First frame of a lane. payload: `LaneHello`.
    Hello = 0x40,
    /// A part. flags: [`PartFlags`]; aux: index of the part in its turn; number: event on this lane, if it has one;
    /// payload: the frames of its commands, so that a part arrives whole or not at all.
    Part = 0x41,
    /// Credit, cumulative. client: events; number: bytes.
    Credit = 0x42,
    /// Events up to this one need not be kept any more. number: event.
    Release = 0x43,
    /// The slot leaves: events from this one on were not read. number: event.
    Drain = 0x44,
    /// Another version runs in the slot. number: the bits of what it exports; client: the version.
    Exports = 0x45,
    /// First frame of a command lane, whose commands and queries come bare. payload: `CommandHello`.
    CommandHello = 0x46,
    /// Send to one client. flags: message kind; payload: the message.
    SendTo = 0x50,
    /// Send to an audience. flags: message kind; number: bytes of audience; payload: audience, then the message.
    Send = 0x51,
    /// Close an audience. flags 1: farewell, 2..: its kind; aux: close code; number: bytes of audience; payload:
    /// audience, length of the reason (u8), reason, farewell.
    CloseClients = 0x52,
    /// Drop an audience. number: bytes of audience; payload: audience.
    Destroy = 0x53,
    /// payload: uid.
    Bind = 0x54,
    /// No payload.
    Unbind = 0x55,
    /// payload: group.
    Join = 0x56,
    /// payload: group.
    Leave = 0x57,
    /// payload: group.
    Disband = 0x58,
    /// flags 1: there is one; payload: JSON.
    SetSession = 0x59,
    /// payload: JSON.
    UpdateSession = 0x5a,
    /// number: the query; payload: `Query`.
    Query = 0x60,
    /// The answer to `WebsocketConnect`. payload: `UpgradeDecision`.
    Decision = 0x61,
}

impl Kind {
    const ALL: [Self; 31] = [
        Self::Message,
        Self::Connect,
        Self::WebsocketConnect,
        Self::Close,
        Self::Attach,
        Self::Detach,
        Self::Session,
        Self::Answer,
        Self::Ack,
        Self::Applied,
        Self::NoApp,
        Self::Hello,
        Self::Part,
        Self::Credit,
        Self::Release,
        Self::Drain,
        Self::Exports,
        Self::CommandHello,
        Self::SendTo,
        Self::Send,
        Self::CloseClients,
        Self::Destroy,
        Self::Bind,
        Self::Unbind,
        Self::Join,
        Self::Leave,
        Self::Disband,
        Self::SetSession,
        Self::UpdateSession,
        Self::Query,
        Self::Decision,
    ];

    const TABLE: [Option<Self>; 256] = {
        let mut table = [None; 256];
        let mut i = 0;
        while i < Self::ALL.len() {
            table[Self::ALL[i] as usize] = Some(Self::ALL[i]);
            i += 1;
        }
        table
    };

    /// The kind with this number.
    #[inline]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::TABLE.get(usize::from(number)).copied().flatten()
    }
}

/// The number of an event on its lane, counted from 0; wraps. Two numbers on one lane are never 2^31 apart, since
/// unreleased events are bounded by credit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EventNo(pub u32);

impl EventNo {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How far this number is ahead of `earlier`; negative if it is behind.
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

impl fmt::Debug for EventNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a part says of its turn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PartFlags(pub u8);

impl PartFlags {
    /// The turn has an event on this lane: `number` is valid.
    pub const EVENT: u8 = 1;
    /// The last part: the event is done.
    pub const DONE: u8 = 2;
    /// The turn failed; what had left stays done.
    pub const FAILED: u8 = 4;
    /// The gateway acknowledges the part.
    pub const ACK: u8 = 8;
    /// With `DONE`: this event and all before it need not be kept any more.
    pub const RELEASE: u8 = 16;

    /// Whether all of `bits` are set.
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

/// The head of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartHead {
    /// What it says of its turn.
    pub flags: PartFlags,
    /// Its index in the turn, from 0.
    pub index: u16,
    /// The event of the turn, valid with [`PartFlags::EVENT`].
    pub event: EventNo,
}

/// A frame whose payload is not looked into yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// What it is.
    pub kind: Kind,
    /// See [`Kind`].
    pub flags: u8,
    /// See [`Kind`].
    pub aux: u16,
    /// The connection number of a client, unless [`Kind`] says otherwise.
    pub client: u32,
    /// See [`Kind`].
    pub number: u32,
    /// See [`Kind`].
    pub payload: &'a [u8],
}

impl<'a> RawFrame<'a> {
    /// The first frame of `buf` and its length, or nothing if it is not whole yet.
    ///
    /// # Errors
    /// An unknown kind or a payload that no peer may send.
    #[inline]
    pub fn split(buf: &'a [u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((head, rest)) = buf.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, kind, flags, a0, a1, c0, c1, c2, c3, n0, n1, n2, n3] = *head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let kind = Kind::from_u8(kind).ok_or(FrameError::UnknownKind(kind))?;
        if len > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(len));
        }
        let Some(payload) = rest.get(..len) else { return Ok(None) };
        let frame = Self {
            kind,
            flags,
            aux: u16::from_le_bytes([a0, a1]),
            client: u32::from_le_bytes([c0, c1, c2, c3]),
            number: u32::from_le_bytes([n0, n1, n2, n3]),
            payload,
        };
        Ok(Some((frame, HEAD_BYTES + len)))
    }

    /// Appends the frame to `out`.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES + self.payload.len());
        self.put_head(self.payload.len(), out);
        out.extend_from_slice(self.payload);
    }

    /// Appends a head for a payload of `len` bytes that the caller appends.
    #[inline]
    pub fn put_head(&self, len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head(len));
    }

    /// The head for a payload of `len` bytes.
    #[inline]
    pub fn head(&self, len: usize) -> [u8; HEAD_BYTES] {
        // Payloads are bounded far below u32::MAX before they get here (FRAME_BYTES_MAX).
        let [l0, l1, l2, l3] = (len as u32).to_le_bytes();
        let [a0, a1] = self.aux.to_le_bytes();
        let [c0, c1, c2, c3] = self.client.to_le_bytes();
        let [n0, n1, n2, n3] = self.number.to_le_bytes();
        [l0, l1, l2, l3, self.kind as u8, self.flags, a0, a1, c0, c1, c2, c3, n0, n1, n2, n3]
    }

    /// A frame of this kind with every other field 0.
    pub const fn bare(kind: Kind) -> RawFrame<'static> {
        RawFrame { kind, flags: 0, aux: 0, client: 0, number: 0, payload: &[] }
    }
}

/// The peer sent what this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame number that this version does not know.
    #[error("frame kind {0:#04x} is unknown: the peer speaks another version of the protocol")]
    UnknownKind(u8),
    /// A payload larger than any that is sent.
    #[error("a frame announces {0} bytes, at most {max} are allowed", max = FRAME_BYTES_MAX)]
    TooLarge(usize),
    /// A frame that belongs to the other direction, or out of its order.
    #[error("frame {0:?} does not belong here")]
    Unexpected(Kind),
    /// A payload that does not fit its kind.
    #[error("the payload of frame {0:?} is broken")]
    Payload(Kind),
    /// An event number that is not the next one.
    #[error("event number {got} came, {expected} was next")]
    Number {
        /// The number in the frame.
        got: u32,
        /// The number that was next.
        expected: u32,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_of_a_frame_are_stable() {
        let mut out = Vec::new();
        let frame = RawFrame {
            kind: Kind::SendTo,
            flags: 1,
            aux: 0x0203,
            client: 0x0405_0607,
            number: 0x0809_0a0b,
            payload: b"hi",
        };
        frame.put(&mut out);
        assert_eq!(out, b"\x02\0\0\0\x50\x01\x03\x02\x07\x06\x05\x04\x0b\x0a\x09\x08hi");
    }

    #[test]
    fn the_bytes_of_a_session_are_stable() {
        let mut out = Vec::new();
        crate::codec::encode::session(7, 0x0102_0304, Some("{}"), &mut out);
        crate::codec::encode::session(7, 5, None, &mut out);
        let some = b"\x02\0\0\0\x07\x01\0\0\x07\0\0\0\x04\x03\x02\x01{}";
        let none = b"\0\0\0\0\x07\0\0\0\x07\0\0\0\x05\0\0\0";
        assert_eq!(out, [&some[..], &none[..]].concat());
    }

    #[test]
    fn the_numbers_of_frames_are_stable() {
        let numbers: Vec<u8> = Kind::ALL.iter().map(|k| *k as u8).collect();
        let up = 0x01..=0x0b;
        let down = (0x40..=0x46).chain(0x50..=0x5a).chain(0x60..=0x61);
        assert_eq!(numbers, up.chain(down).collect::<Vec<u8>>());
    }

    proptest! {
        #[test]
        fn any_bytes_split_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((frame, used))) = RawFrame::split(&bytes) {
                prop_assert_eq!(used, HEAD_BYTES + frame.payload.len());
                let mut again = Vec::new();
                frame.put(&mut again);
                prop_assert_eq!(&again[..], &bytes[..used]);
            }
        }
    }
}
