//! Packets of GatewayProtocol: a head of 28 bytes, an extension and a body, big-endian, without a version or a checksum.
//!
//! ```text
//!  0        4     5          9            11          15            17              21     22             24        28
//!  | length | cmd | local_ip | local_port | client_ip | client_port | connection_id | flag | gateway_port | ext_len | ext, body
//! ```
//!
//! An answer is its length (4 bytes, itself excluded) and a value as PHP serializes it. It names no question: answers come in
//! the order of the questions.

/// Bytes of a head.
pub(crate) const HEAD_BYTES: usize = 28;
/// The body is the text itself; else it is a serialized value.
const FLAG_SCALAR: u8 = 1;
/// The body goes to the socket as it is.
const FLAG_RAW: u8 = 2;

/// A packet, borrowed from where it was read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub command: u8,
    /// The connection that it is about, if it is about one.
    pub connection: u32,
    pub is_scalar: bool,
    pub is_raw: bool,
    pub ext: &'a [u8],
    pub body: &'a [u8],
}

/// What no packet may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPacket {
    #[error(
        "a packet has {0} bytes, at most {1} are taken here: send less at once, or raise `frame_bytes_max` in [[bridge]]"
    )]
    TooLong(usize, usize),
    #[error(
        "a packet says that it has {0} bytes, which its own parts do not fit in: this is no GatewayProtocol"
    )]
    Lengths(usize),
}

impl<'a> Packet<'a> {
    /// The first packet of these bytes and its length; none if it is not all there.
    ///
    /// # Errors
    /// It is longer than `bytes_max`, or its lengths contradict each other. Seen as soon as its head is there.
    pub fn split(bytes: &'a [u8], bytes_max: usize) -> Result<Option<(Self, usize)>, BadPacket> {
        let Some((length, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > bytes_max {
            return Err(BadPacket::TooLong(length, bytes_max));
        }
        if length < HEAD_BYTES {
            return Err(BadPacket::Lengths(length));
        }
        let Some((head, _)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [
            _,
            _,
            _,
            _,
            command,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            c0,
            c1,
            c2,
            c3,
            flag,
            _,
            _,
            e0,
            e1,
            e2,
            e3,
        ] = *head;
        let ext_len = u32::from_be_bytes([e0, e1, e2, e3]) as usize;
        if ext_len > length - HEAD_BYTES {
            return Err(BadPacket::Lengths(length));
        }
        let Some((ext, body)) = bytes.get(HEAD_BYTES..length).map(|rest| rest.split_at(ext_len)) else {
            return Ok(None);
        };
        let packet = Self {
            command,
            connection: u32::from_be_bytes([c0, c1, c2, c3]),
            is_scalar: flag & FLAG_SCALAR != 0,
            is_raw: flag & FLAG_RAW != 0,
            ext,
            body,
        };
        Ok(Some((packet, length)))
    }
}

/// An answer around a serialized value. None: it is longer than a length can say.
pub(crate) fn answer(serialized: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(serialized.len()).ok()?;
    Some([&length.to_be_bytes(), serialized].concat())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet as GatewayClient packs it.
    pub fn packed(command: u8, connection: u32, flag: u8, ext: &[u8], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEAD_BYTES + ext.len() + body.len()).unwrap();
        let ext_len = u32::try_from(ext.len()).unwrap();
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.push(command);
        bytes.extend([0; 12]);
        bytes.extend(connection.to_be_bytes());
        bytes.push(flag);
        bytes.extend([0; 2]);
        bytes.extend(ext_len.to_be_bytes());
        bytes.extend(ext);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_head_is_what_php_packs() {
        // pack("NCNnNnNCnN", 28 + 3 + 2, 5, 1, 2, 3, 4, 5, 1, 7, 3) . "ext" . "hi"
        let bytes = [
            0, 0, 0, 33, 5, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3, 0, 4, 0, 0, 0, 5, 1, 0, 7, 0, 0, 0, 3, b'e', b'x',
            b't', b'h', b'i',
        ];
        let (packet, length) = Packet::split(&bytes, 100).unwrap().unwrap();
        let expected =
            Packet { command: 5, connection: 5, is_scalar: true, is_raw: false, ext: b"ext", body: b"hi" };
        assert_eq!((packet, length), (expected, 33));
        for cut in 0..bytes.len() {
            assert_eq!(Packet::split(&bytes[..cut], 100), Ok(None));
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_at_once() {
        assert_eq!(Packet::split(&[0, 0, 1, 0], 255), Err(BadPacket::TooLong(256, 255)));
        assert_eq!(Packet::split(&[0, 0, 0, 27], 255), Err(BadPacket::Lengths(27)));
        let mut bytes = packed(6, 0, 0, b"ab", b"");
        bytes[27] = 3;
        assert_eq!(Packet::split(&bytes, 255), Err(BadPacket::Lengths(30)));
    }

    #[test]
    fn an_answer_has_its_length_before_it() {
        assert_eq!(answer(b"i:1;").unwrap(), b"\0\0\0\x04i:1;");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, max in 0..10_000_usize) {
            let _ = Packet::split(&bytes, max);
        }

        #[test]
        fn what_is_packed_is_read(command: u8, connection: u32, flag: u8, ext: Vec<u8>, body: Vec<u8>) {
            let mut bytes = packed(command, connection, flag, &ext, &body);
            let whole = bytes.len();
            bytes.push(0);
            let (packet, length) = Packet::split(&bytes, 1 << 20).unwrap().unwrap();
            prop_assert_eq!(length, whole);
            prop_assert_eq!((packet.command, packet.connection), (command, connection));
            prop_assert_eq!((packet.ext, packet.body), (&ext[..], &body[..]));
        }
    }
}
