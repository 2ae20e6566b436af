use proptest::prelude::*;
use tidegate_base::{CloseCode, MessageKind};

use super::{Decoder, Opcode, encode, encode_close, encode_control, head_len};
use crate::protocol::{Decoded, Item, Limits, ProtocolError};

const LIMITS: Limits = Limits { payload_bytes_max: 1 << 20 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An item that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Nothing,
}

impl From<Item<'_>> for Got {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Message(kind, payload) => Self::Message(kind, payload.to_vec()),
            Item::Ping(payload) => Self::Ping(payload.to_vec()),
            Item::Pong(payload) => Self::Pong(payload.to_vec()),
            Item::Close { code, reason } => Self::Close(code.map(|code| code.0), reason.into()),
            Item::Nothing => Self::Nothing,
        }
    }
}

/// A client's frame.
fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    bytes
}

fn decode_all(bytes: &[u8], limits: &Limits) -> (Vec<Got>, Option<ProtocolError>) {
    let (mut decoder, mut bytes, mut at, mut items) = (Decoder::default(), bytes.to_vec(), 0, Vec::new());
    loop {
        match decoder.decode(&mut bytes[at..], limits) {
            Ok(Decoded::Item { consumed, item }) => {
                items.push(item.into());
                at += consumed;
                if matches!(items.last(), Some(Got::Close(..))) {
                    return (items, None);
                }
            }
            Ok(Decoded::Incomplete { .. }) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

fn error_of(bytes: &[u8]) -> Option<ProtocolError> {
    decode_all(bytes, &LIMITS).1
}

#[test]
fn the_examples_of_rfc_6455_decode() {
    // Section 5.7: a single-frame masked text message "Hello".
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode_all(&hello, &LIMITS), (vec![Got::Message(MessageKind::Text, b"Hello".to_vec())], None));
    // Section 5.7: a masked pong "Hello".
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode_all(&pong, &LIMITS), (vec![Got::Pong(b"Hello".to_vec())], None));
    assert_eq!(frame(0x81, MASK, b"Hello"), hello);
}

#[test]
fn the_bytes_of_a_servers_frames_are_those_of_rfc_6455() {
    let mut out = Vec::new();
    encode(Opcode::Text, b"Hello", &mut out);
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    encode_control(Opcode::Ping, b"Hello", &mut out);
    assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    encode(Opcode::Binary, &[7; 256], &mut out);
    assert_eq!((&out[..4], out.len()), (&[0x82, 0x7e, 0x01, 0x00][..], 260));
    out.clear();
    encode(Opcode::Binary, &[7; 65536], &mut out);
    assert_eq!((&out[..10], out.len()), (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0][..], 65546));
    out.clear();
    encode_close(CloseCode::NORMAL, "bye", &mut out);
    assert_eq!(out, [0x88, 0x05, 0x03, 0xe8, b'b', b'y', b'e']);
}

#[test]
fn heads_have_their_shortest_form() {
    for bytes in [0, 1, 125, 126, 127, 65535, 65536] {
        let mut out = Vec::new();
        encode(Opcode::Binary, &vec![0; bytes], &mut out);
        assert_eq!(out.len(), head_len(bytes) + bytes, "{bytes}");
        let head = (head_len(bytes), out[1]);
        let expected = match bytes {
            0..126 => (2, bytes as u8),
            126..65536 => (4, 126),
            _ => (10, 127),
        };
        assert_eq!(head, expected, "{bytes}");
    }
}

#[test]
fn close_reasons_are_cut_between_characters_and_unfit_codes_left_out() {
    let mut out = Vec::new();
    encode_close(CloseCode(4000), &"é".repeat(100), &mut out);
    assert_eq!(out[1], 2 + 122);
    assert_eq!(std::str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    for code in [0, 1004, 1005, 1006, 1015, 2000, 5000] {
        out.clear();
        encode_close(CloseCode(code), "reason", &mut out);
        assert_eq!(out, [0x88, 0], "{code}");
    }
    out.clear();
    encode_control(Opcode::Pong, &[1; 200], &mut out);
    assert_eq!((out[1], out.len()), (125, 127));
}

#[test]
fn fragments_are_joined_and_control_frames_may_come_between() {
    let mut bytes = frame(0x01, MASK, b"Hel");
    bytes.extend(frame(0x89, MASK, b"you there?"));
    bytes.extend(frame(0x00, [0; 4], b""));
    bytes.extend(frame(0x8a, MASK, b""));
    bytes.extend(frame(0x80, MASK, b"lo"));
    bytes.extend(frame(0x82, MASK, b"next"));
    let (items, error) = decode_all(&bytes, &LIMITS);
    assert_eq!(error, None);
    assert_eq!(
        items,
        [
            Got::Nothing,
            Got::Ping(b"you there?".to_vec()),
            Got::Nothing,
            Got::Pong(vec![]),
            Got::Message(MessageKind::Text, b"Hello".to_vec()),
            Got::Message(MessageKind::Binary, b"next".to_vec()),
        ]
    );
}

#[test]
fn every_breach_of_rfc_6455_has_its_error_and_code() {
    let masked = |first, payload: &[u8]| frame(first, MASK, payload);
    let cases = [
        (masked(0xc1, b""), ProtocolError::ReservedBits { first: 0xc1 }),
        (masked(0xa1, b""), ProtocolError::ReservedBits { first: 0xa1 }),
        (masked(0x91, b""), ProtocolError::ReservedBits { first: 0x91 }),
        (masked(0x83, b""), ProtocolError::ReservedOpcode { opcode: 3 }),
        (masked(0x8b, b""), ProtocolError::ReservedOpcode { opcode: 11 }),
        (masked(0x8f, b""), ProtocolError::ReservedOpcode { opcode: 15 }),
        (masked(0x09, b""), ProtocolError::FragmentedControl { opcode: 9 }),
        (masked(0x08, b""), ProtocolError::FragmentedControl { opcode: 8 }),
        (masked(0x8a, &[0; 126]), ProtocolError::LongControl { opcode: 10 }),
        (masked(0x80, b""), ProtocolError::NothingToContinue),
        (masked(0x00, b""), ProtocolError::NothingToContinue),
        ([masked(0x01, b""), masked(0x81, b"")].concat(), ProtocolError::MessageInsideMessage),
        ([masked(0x02, b""), masked(0x02, b"")].concat(), ProtocolError::MessageInsideMessage),
        (
            [masked(0x01, b""), masked(0x80, b""), masked(0x80, b"")].concat(),
            ProtocolError::NothingToContinue,
        ),
        (vec![0x81, 0x05], ProtocolError::Unmasked),
        (vec![0x82, 0xfe, 0, 125], ProtocolError::InvalidLength { length: 125 }),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::InvalidLength { length: 65535 }),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], ProtocolError::InvalidLength { length: 1 << 63 }),
        (masked(0x88, &[3]), ProtocolError::ShortClose),
        (masked(0x88, &999u16.to_be_bytes()), ProtocolError::InvalidCloseCode { code: 999 }),
        (masked(0x88, &1005u16.to_be_bytes()), ProtocolError::InvalidCloseCode { code: 1005 }),
        (masked(0x88, &1006u16.to_be_bytes()), ProtocolError::InvalidCloseCode { code: 1006 }),
        (masked(0x88, &2999u16.to_be_bytes()), ProtocolError::InvalidCloseCode { code: 2999 }),
        (masked(0x88, &65535u16.to_be_bytes()), ProtocolError::InvalidCloseCode { code: 65535 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(error_of(&bytes), Some(error), "{bytes:02x?}");
        assert_eq!(error.close_code(), CloseCode::PROTOCOL);
    }
    let reason = masked(0x88, b"\x03\xe8ok\xff");
    assert_eq!(error_of(&reason), Some(ProtocolError::InvalidUtf8 { at: 2 }));
    assert_eq!(ProtocolError::InvalidUtf8 { at: 2 }.close_code(), CloseCode::INVALID_UTF8);
    assert_eq!(ProtocolError::TooBig { bytes: 2, limit: 1 }.close_code(), CloseCode::TOO_BIG);
}

#[test]
fn a_close_may_have_a_code_and_a_reason() {
    let close = |payload: &[u8]| decode_all(&frame(0x88, MASK, payload), &LIMITS).0;
    assert_eq!(close(b""), [Got::Close(None, String::new())]);
    assert_eq!(close(b"\x03\xe9"), [Got::Close(Some(1001), String::new())]);
    assert_eq!(close("\u{f}\u{a0}käse".as_bytes()).len(), 0, "0x0fc2 is 4034, then a lone 0xa0");
    assert_eq!(
        close(&[&4000u16.to_be_bytes(), "käse".as_bytes()].concat()),
        [Got::Close(Some(4000), "käse".into())]
    );
    assert_eq!(close(&[&[3, 0xe8], &[b'x'; 123][..]].concat()), [Got::Close(Some(1000), "x".repeat(123))]);
}

#[test]
fn text_must_be_utf8_and_fails_with_the_frame_that_breaks_it() {
    let euro = "a€".as_bytes();
    assert_eq!(error_of(&frame(0x81, MASK, b"ab\xc0\xaf")), Some(ProtocolError::InvalidUtf8 { at: 2 }));
    assert_eq!(error_of(&frame(0x81, MASK, &euro[..3])), Some(ProtocolError::InvalidUtf8 { at: 1 }));
    // Cut by a fragment's end: fine, if it goes on.
    let cut = |end: &[u8]| {
        [frame(0x01, MASK, &euro[..2]), frame(0x00, MASK, &euro[2..3]), frame(0x80, MASK, end)].concat()
    };
    assert_eq!(decode_all(&cut(&euro[3..]), &LIMITS).0[2], Got::Message(MessageKind::Text, euro.to_vec()));
    assert_eq!(error_of(&cut(b"")), Some(ProtocolError::InvalidUtf8 { at: 1 }));
    assert_eq!(error_of(&cut(b"x")), Some(ProtocolError::InvalidUtf8 { at: 1 }));
    // Wrong in the first fragment: refused before the second is there. So are surrogates, whose second byte tells.
    assert_eq!(error_of(&frame(0x01, MASK, b"a\xff")), Some(ProtocolError::InvalidUtf8 { at: 1 }));
    assert_eq!(error_of(&frame(0x01, MASK, b"a\xed\xa0")), Some(ProtocolError::InvalidUtf8 { at: 1 }));
    assert_eq!(error_of(&frame(0x01, MASK, b"a\xf4\x90")), Some(ProtocolError::InvalidUtf8 { at: 1 }));
    // Binary is not text.
    assert_eq!(error_of(&[frame(0x02, MASK, b"\xff"), frame(0x80, MASK, b"\xff")].concat()), None);
}

#[test]
fn the_size_limit_is_for_all_fragments_and_known_from_the_head() {
    let limits = Limits { payload_bytes_max: 10 };
    let too_big = |bytes| Some(ProtocolError::TooBig { bytes, limit: 10 });
    assert_eq!(decode_all(&frame(0x82, MASK, &[0; 10]), &limits).1, None);
    assert_eq!(decode_all(&[0x82, 0x80 | 11], &limits).1, too_big(11));
    assert_eq!(
        decode_all(&[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255], &limits).1,
        too_big((1 << 63) - 1)
    );
    let fragments = [frame(0x02, MASK, &[0; 6]), frame(0x00, MASK, &[0; 4])].concat();
    assert_eq!(decode_all(&fragments, &limits), (vec![Got::Nothing, Got::Nothing], None));
    assert_eq!(decode_all(&[fragments, vec![0x80, 0x81]].concat(), &limits).1, too_big(11));
    // Control frames are not the app's messages.
    assert_eq!(decode_all(&frame(0x89, MASK, &[0; 125]), &limits), (vec![Got::Ping(vec![0; 125])], None));
}

#[test]
fn what_is_needed_grows_to_the_exact_size_of_the_frame() {
    let cases: [(&[u8], usize); 9] = [
        (&[], 2),
        (&[0x81], 2),
        (&[0x81, 0x80], 6),
        (&[0x81, 0x85], 11),
        (&[0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8], 11),
        (&[0x81, 0xfe], 4),
        (&[0x81, 0xfe, 0x01, 0x00], 264),
        (&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0], 10),
        (&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], 65550),
    ];
    for (bytes, needed) in cases {
        let mut copy = bytes.to_vec();
        assert_eq!(
            Decoder::default().decode(&mut copy, &LIMITS),
            Ok(Decoded::Incomplete { consumed: 0, needed }),
            "{bytes:02x?}"
        );
        assert_eq!(copy, bytes, "bytes that are not consumed are not changed");
    }
}

#[test]
fn nothing_is_held_but_the_fragments_of_an_open_message_within_the_limit() {
    let limits = Limits { payload_bytes_max: 1000 };
    let mut decoder = Decoder::default();
    let mut feed = |first, payload: &[u8], expected: usize| {
        let mut bytes = frame(first, MASK, payload);
        let got = match decoder.decode(&mut bytes, &limits) {
            Ok(Decoded::Item { item, .. }) => Got::from(item),
            other => panic!("{other:?}"),
        };
        let held = decoder.held_bytes();
        assert!(held <= expected, "{held} above {expected}");
        (got, held)
    };
    assert_eq!(feed(0x82, &[1; 900], 0).1, 0);
    feed(0x02, &[1; 600], 1000 + 64);
    let (_, held) = feed(0x00, &[1; 100], 1000 + 64);
    assert!(held >= 1000, "doubling would be 1200, the limit is 1000: {held}");
    assert_eq!(feed(0x89, &[1; 100], 1000 + 64).1, held);
    feed(0x80, &[1; 300], 1000 + 64);
    assert_eq!(feed(0x89, b"", 0), (Got::Ping(vec![]), 0));
    feed(0x02, b"a", 1000);
    feed(0x80, b"b", 1000);
    decoder.release();
    assert_eq!(decoder.held_bytes(), 0);
}

/// One frame after another as RFC 6455 is written, byte by byte, without a thought of speed.
mod naive {
    use super::*;

    pub fn decode(bytes: &[u8], max: usize) -> (Vec<Got>, Option<u16>) {
        let (mut at, mut items) = (0, Vec::new());
        let mut open: Option<(u8, Vec<u8>)> = None;
        loop {
            match one(bytes, &mut at, &mut open, max) {
                None => return (items, None),
                Some(Err(code)) => return (items, Some(code)),
                Some(Ok(item)) => items.push(item),
            }
            if matches!(items.last(), Some(Got::Close(..))) {
                return (items, None);
            }
        }
    }

    fn one(
        bytes: &[u8],
        at: &mut usize,
        open: &mut Option<(u8, Vec<u8>)>,
        max: usize,
    ) -> Option<Result<Got, u16>> {
        let mut next = || {
            let byte = bytes.get(*at).copied();
            *at += 1;
            byte
        };
        let first = next()?;
        let (fin, opcode) = (first >= 128, first & 15);
        let is_sequence_wrong = match opcode {
            0 => open.is_none(),
            1 | 2 => open.is_some(),
            8..=10 => !fin,
            _ => true,
        };
        if first & 0x70 != 0 || is_sequence_wrong {
            return Some(Err(1002));
        }
        let second = next()?;
        let code = second & 127;
        if second < 128 || (opcode >= 8 && code > 125) {
            return Some(Err(1002));
        }
        let more = [0, 2, 8][usize::from(code > 125) + usize::from(code > 126)];
        let mut length = if code > 125 { 0u128 } else { u128::from(code) };
        for _ in 0..more {
            length = length * 256 + u128::from(next()?);
        }
        if (more == 2 && length < 126) || (more == 8 && !(65536..1 << 63).contains(&length)) {
            return Some(Err(1002));
        }
        let before = open.as_ref().map_or(0, |(_, joined)| joined.len() as u128);
        if opcode < 8 && before + length > max as u128 {
            return Some(Err(1009));
        }
        let mask = [next()?, next()?, next()?, next()?];
        let mut payload = Vec::new();
        for i in 0..length {
            payload.push(next()? ^ mask[(i % 4) as usize]);
        }
        Some(finish(opcode, fin, payload, open))
    }

    fn finish(opcode: u8, fin: bool, payload: Vec<u8>, open: &mut Option<(u8, Vec<u8>)>) -> Result<Got, u16> {
        match opcode {
            8 if payload.is_empty() => return Ok(Got::Close(None, String::new())),
            8 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code)).ok_or(1002u16)?;
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(1002);
                }
                let reason = String::from_utf8(payload[2..].to_vec()).map_err(|_| 1007u16)?;
                return Ok(Got::Close(Some(code), reason));
            }
            9 => return Ok(Got::Ping(payload)),
            10 => return Ok(Got::Pong(payload)),
            _ => {}
        }
        let (kind, mut joined) = open.take().unwrap_or((opcode, Vec::new()));
        joined.extend(payload);
        if kind == 1 {
            match std::str::from_utf8(&joined) {
                Ok(_) => {}
                Err(error) if !fin && error.error_len().is_none() => {}
                Err(_) => return Err(1007),
            }
        }
        if !fin {
            *open = Some((kind, joined));
            return Ok(Got::Nothing);
        }
        Ok(Got::Message(if kind == 1 { MessageKind::Text } else { MessageKind::Binary }, joined))
    }
}

/// Frames that are mostly right: opcodes that follow each other at random, odd payloads, now and then a wrong byte.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        20 => prop::sample::select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x00, 0x80, 0x80, 0x89, 0x8a]),
        1 => prop::sample::select(vec![0x88, 0x83, 0x09, 0xc1]),
    ];
    let payload = prop_oneof![
        8 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => "[é€😀]{1,4}".prop_map(|text| text.as_bytes()[..text.len() - 1].to_vec()),
        1 => (120usize..140).prop_map(|bytes| vec![b'x'; bytes]),
        1 => "[a-z]{0,5}".prop_map(|reason| [&4000u16.to_be_bytes(), reason.as_bytes()].concat()),
    ];
    let one =
        (first, any::<[u8; 4]>(), payload).prop_map(|(first, mask, payload)| frame(first, mask, &payload));
    prop::collection::vec(one, 0..12).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn the_decoder_agrees_with_the_naive_one(bytes in frames(), max in prop_oneof![Just(150usize), Just(1 << 20)]) {
        let (items, error) = decode_all(&bytes, &Limits { payload_bytes_max: max });
        let (expected, code) = naive::decode(&bytes, max);
        prop_assert_eq!(items, expected);
        prop_assert_eq!(error.map(|error| error.close_code().0), code);
    }

    #[test]
    fn the_decoder_agrees_with_the_naive_one_on_noise(bytes: Vec<u8>, first in 0u8..=255) {
        let bytes = [vec![first, 0x84], bytes].concat();
        let (items, error) = decode_all(&bytes, &LIMITS);
        let (expected, code) = naive::decode(&bytes, LIMITS.payload_bytes_max);
        prop_assert_eq!(items, expected);
        prop_assert_eq!(error.map(|error| error.close_code().0), code);
    }

    #[test]
    fn messages_of_any_size_and_mask_come_through(bytes in 0usize..70_000, mask: [u8; 4]) {
        let payload: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let (items, error) = decode_all(&frame(0x82, mask, &payload), &LIMITS);
        prop_assert_eq!(error, None);
        prop_assert_eq!(items, [Got::Message(MessageKind::Binary, payload)]);
    }
}
