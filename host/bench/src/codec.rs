//! RFC 6455 frames, both directions, as pure functions on bytes.
//!
//! ```text
//!  byte 0        byte 1          then                  then        then
//!  FIN RSV opcode | MASK len7 | u16 or u64 length if | 4-byte key | payload
//!   1   3    4        1   7     len7 is 126 or 127      if MASK
//! ```

/// The largest frame or assembled message accepted, in bytes. Both ends of the bench send less.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The largest payload of a control frame (RFC 6455, 5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// A frame's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(crate) fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    pub(crate) fn is_control(self) -> bool {
        self.bits() >= 8
    }
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("reserved bits set in a frame header")]
    Reserved,
    #[error("unknown opcode {0}")]
    Opcode(u8),
    #[error("a frame or message of {0} bytes, more than the bench ever sends")]
    TooLarge(u64),
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    Control,
    #[error("a frame masked by the server, or not masked by the client")]
    Mask,
    #[error("a continuation without a start, or a new message inside a fragmented one")]
    Fragment,
}

/// One parsed frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) header_len: usize,
    pub(crate) payload_len: usize,
}

impl Header {
    /// Parses the header at the front of `bytes`; `None` while it is incomplete.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let (&[first, second], rest) = match bytes.split_first_chunk::<2>() {
            Some(split) => split,
            None => return Ok(None),
        };
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        let opcode = Opcode::from_bits(first & 15).ok_or(FrameError::Opcode(first & 15))?;
        let fin = first & 0x80 != 0;
        let (length, rest) = match second & 127 {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        if opcode.is_control() && (!fin || length > CONTROL_BYTES_MAX as u64) {
            return Err(FrameError::Control);
        }
        if length > MESSAGE_BYTES_MAX as u64 {
            return Err(FrameError::TooLarge(length));
        }
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            match rest.split_first_chunk::<4>() {
                Some((key, rest)) => (Some(*key), rest),
                None => return Ok(None),
            }
        };
        let header_len = bytes.len() - rest.len();
        Ok(Some(Header { fin, opcode, mask, header_len, payload_len: length as usize }))
    }

    /// Appends this header in its shortest form; `header_len` is ignored.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        out.push(if self.fin { 0x80 } else { 0 } | self.opcode.bits());
        match self.payload_len {
            short @ 0..=125 => out.push(mask_bit | short as u8),
            medium @ 126..=0xffff => {
                out.push(mask_bit | 126);
                out.extend_from_slice(&(medium as u16).to_be_bytes());
            }
            long => {
                out.push(mask_bit | 127);
                out.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        if let Some(key) = self.mask {
            out.extend_from_slice(&key);
        }
    }
}

/// Appends one whole frame, masked when `mask` is given.
pub(crate) fn put_frame(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) {
    Header { fin: true, opcode, mask, header_len: 0, payload_len: payload.len() }.put(out);
    let at = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[at..], key);
    }
}

/// Masks or unmasks `bytes` in place; `bytes` must start where the payload starts.
#[inline]
pub(crate) fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// What a client gets from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// A whole message, text or binary.
    Message(&'a [u8]),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// The server closes, with its code if it gave one.
    Close(Option<u16>),
}

/// Turns a server's byte stream, cut anywhere, into messages.
///
/// Call [`Inbound::feed`] with each read. Only a partial frame is kept between calls; a whole one is handed on
/// straight from the read buffer.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    carry: Vec<u8>,
    fragments: Fragments,
}

impl Inbound {
    /// Hands every message and control frame completed by `bytes` to `sink`, in order.
    #[inline]
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(Incoming<'_>),
    ) -> Result<(), FrameError> {
        if self.carry.is_empty() {
            let used = self.fragments.consume(bytes, &mut sink)?;
            self.carry.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.carry.extend_from_slice(bytes);
        let used = self.fragments.consume(&self.carry, &mut sink)?;
        self.carry.drain(..used);
        Ok(())
    }
}

/// The start of a fragmented message, if one is open.
#[derive(Debug, Default)]
struct Fragments {
    open: bool,
    message: Vec<u8>,
}

impl Fragments {
    fn consume(&mut self, bytes: &[u8], sink: &mut impl FnMut(Incoming<'_>)) -> Result<usize, FrameError> {
        let mut at = 0;
        while let Some(header) = Header::parse(&bytes[at..])? {
            if header.mask.is_some() {
                return Err(FrameError::Mask);
            }
            let start = at + header.header_len;
            let Some(payload) = bytes.get(start..start + header.payload_len) else { break };
            self.frame(&header, payload, sink)?;
            at = start + header.payload_len;
        }
        Ok(at)
    }

    #[inline]
    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        sink: &mut impl FnMut(Incoming<'_>),
    ) -> Result<(), FrameError> {
        match header.opcode {
            Opcode::Pong => {}
            Opcode::Ping => sink(Incoming::Ping(payload)),
            Opcode::Close => {
                sink(Incoming::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))))
            }
            Opcode::Text | Opcode::Binary if self.open => return Err(FrameError::Fragment),
            Opcode::Text | Opcode::Binary if header.fin => sink(Incoming::Message(payload)),
            Opcode::Continuation if !self.open => return Err(FrameError::Fragment),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let length = self.message.len() + payload.len();
                if length > MESSAGE_BYTES_MAX {
                    return Err(FrameError::TooLarge(length as u64));
                }
                self.message.extend_from_slice(payload);
                self.open = !header.fin;
                if header.fin {
                    sink(Incoming::Message(&self.message));
                    self.message.clear();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn server_frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Header { fin, opcode, mask: None, header_len: 0, payload_len: payload.len() }.put(&mut out);
        out.extend_from_slice(payload);
        out
    }

    fn messages(inbound: &mut Inbound, bytes: &[u8]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut got = Vec::new();
        inbound.feed(bytes, |incoming| match incoming {
            Incoming::Message(payload) => got.push(payload.to_vec()),
            Incoming::Ping(payload) => got.push([b"ping ", payload].concat()),
            Incoming::Close(code) => got.push(format!("close {code:?}").into_bytes()),
        })?;
        Ok(got)
    }

    #[test]
    fn the_masked_hello_of_the_rfc_comes_out_byte_for_byte() {
        let mut out = Vec::new();
        put_frame(&mut out, Opcode::Text, Some([0x37, 0xfa, 0x21, 0x3d]), b"Hello");
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn header_lengths_change_at_126_and_at_65536_bytes() {
        for (length, header_len) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let bytes = server_frame(true, Opcode::Binary, &vec![7; length]);
            let header = Header::parse(&bytes).unwrap().unwrap();
            assert_eq!((header.header_len, header.payload_len), (header_len, length));
        }
    }

    #[test]
    fn a_ping_between_two_fragments_is_seen_and_the_message_stays_whole() {
        let stream = [
            server_frame(false, Opcode::Text, b"one "),
            server_frame(true, Opcode::Ping, b"?"),
            server_frame(false, Opcode::Continuation, b"two "),
            server_frame(true, Opcode::Continuation, b"three"),
            server_frame(true, Opcode::Close, &[0x03, 0xe8]),
        ]
        .concat();
        let got = messages(&mut Inbound::default(), &stream).unwrap();
        assert_eq!(got, [&b"ping ?"[..], b"one two three", b"close Some(1000)"]);
    }

    #[test]
    fn what_the_protocol_forbids_is_refused_with_its_reason() {
        let mut masked = Vec::new();
        put_frame(&mut masked, Opcode::Text, Some([1, 2, 3, 4]), b"x");
        let twice =
            [server_frame(false, Opcode::Text, b"a"), server_frame(true, Opcode::Text, b"b")].concat();
        for (bytes, why) in [
            (vec![0xc1, 0], FrameError::Reserved),
            (vec![0x83, 0], FrameError::Opcode(3)),
            (vec![0x09, 0], FrameError::Control),
            (vec![0x89, 126, 0, 126], FrameError::Control),
            ([&[0x82u8, 127][..], &(1u64 << 40).to_be_bytes()].concat(), FrameError::TooLarge(1 << 40)),
            (masked, FrameError::Mask),
            (server_frame(true, Opcode::Continuation, b"x"), FrameError::Fragment),
            (twice, FrameError::Fragment),
        ] {
            assert_eq!(messages(&mut Inbound::default(), &bytes), Err(why));
        }
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_messages(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(1usize..200, 1..40),
        ) {
            let stream: Vec<u8> = sent.iter().flat_map(|m| server_frame(true, Opcode::Binary, m)).collect();
            let (mut inbound, mut got, mut rest) = (Inbound::default(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                got.extend(messages(&mut inbound, now).unwrap());
                rest = later;
            }
            prop_assert_eq!(got, sent);
            prop_assert!(inbound.carry.is_empty());
        }

        #[test]
        fn masking_twice_gives_the_payload_back(payload in prop::collection::vec(any::<u8>(), 0..70), key: [u8; 4]) {
            let mut bytes = payload.clone();
            apply_mask(&mut bytes, key);
            for (i, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(*byte, payload[i] ^ key[i & 3]);
            }
            apply_mask(&mut bytes, key);
            prop_assert_eq!(bytes, payload);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = messages(&mut Inbound::default(), &bytes);
        }
    }
}
