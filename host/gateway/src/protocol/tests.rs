use proptest::prelude::*;

use super::*;

const PROTOCOLS: [Protocol; 4] = [Protocol::Ws, Protocol::Text, Protocol::Frame, Protocol::Tcp];

/// What came out, in a form that can be kept: the item's debug text says all of it.
type Outcome = (Vec<String>, Option<ProtocolError>);

/// Reads `bytes` in the given pieces as the gateway does: a kept rest, new bytes behind it, decode until incomplete.
/// With `pauses`, it stops after each item as if for backpressure and goes on when the next piece is there.
fn run(protocol: Protocol, bytes: &[u8], pieces: &[usize], limits: &Limits, pauses: bool) -> Outcome {
    let (mut codec, mut kept, mut items) = (Codec::new(protocol), Vec::new(), Vec::new());
    let (mut rest, mut pieces) = (bytes, pieces.iter());
    loop {
        let piece = pieces.next().copied().unwrap_or(rest.len()).min(rest.len());
        let (fresh, later) = rest.split_at(piece);
        (kept, rest) = ([kept, fresh.to_vec()].concat(), later);
        let mut at = 0;
        loop {
            let before = kept[at..].to_vec();
            match codec.decode(&mut kept[at..], limits) {
                Err(error) => return (items, Some(error)),
                Ok(Decoded::Incomplete { consumed, needed }) => {
                    assert_eq!((consumed, &kept[at..]), (0, &before[..]), "changed without consuming");
                    assert!(needed > before.len(), "{needed} bytes are there");
                    assert!(needed <= before.len() + 1 || needed <= limits.payload_bytes_max.max(125) + 14);
                    break;
                }
                Ok(Decoded::Item { consumed, item }) => {
                    let is_last = matches!(item, Item::Close { .. });
                    items.push(format!("{item:?}"));
                    assert!(consumed > 0 && consumed <= before.len());
                    at += consumed;
                    assert_eq!(kept[at..], before[consumed..], "changed what it did not consume");
                    if is_last {
                        return (items, None);
                    }
                    if pauses && !rest.is_empty() {
                        break;
                    }
                }
            }
        }
        kept.drain(..at);
        if rest.is_empty() {
            return (items, None);
        }
    }
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | payload.len() as u8, 1, 2, 3, 4];
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ (i % 4 + 1) as u8));
    bytes
}

/// A stream of mostly right bytes for each protocol.
fn stream(protocol: Protocol) -> BoxedStrategy<Vec<u8>> {
    let payload = prop_oneof![
        4 => "[a-zé😀]{0,20}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    let one = match protocol {
        Protocol::Ws => {
            let first = prop::sample::select(vec![0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x85]);
            (first, payload).prop_map(|(first, payload)| masked(first, &payload)).boxed()
        }
        Protocol::Text => {
            let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\r\r\n"]);
            (payload, end).prop_map(|(line, end)| [line, end.into()].concat()).boxed()
        }
        Protocol::Frame => prop_oneof![
            20 => payload.prop_map(|payload| {
                let mut out = Vec::new();
                encode(Protocol::Frame, MessageKind::Binary, &payload, &mut out);
                out
            }),
            1 => Just(vec![0, 0, 0, 3]),
            1 => Just(vec![0, 1, 0, 0]),
        ]
        .boxed(),
        Protocol::Tcp => payload.boxed(),
    };
    prop::collection::vec(one, 0..12).prop_map(|parts| parts.concat()).boxed()
}

fn protocol_and_stream() -> impl Strategy<Value = (Protocol, Vec<u8>)> {
    prop::sample::select(PROTOCOLS.to_vec())
        .prop_flat_map(|protocol| stream(protocol).prop_map(move |bytes| (protocol, bytes)))
}

fn joined(items: &[String]) -> Vec<u8> {
    let inner =
        |item: &String| item.trim_start_matches("Message(Binary, [").trim_end_matches("])").to_owned();
    items
        .iter()
        .map(inner)
        .flat_map(|list| list.split(", ").filter_map(|n| n.parse().ok()).collect::<Vec<u8>>())
        .collect()
}

#[test]
fn a_codec_is_two_words() {
    assert!(size_of::<Codec>() <= 16, "{}", size_of::<Codec>());
}

#[test]
fn a_codec_speaks_its_protocol() {
    for protocol in PROTOCOLS {
        let mut codec = Codec::new(protocol);
        codec.release();
        assert_eq!((codec.protocol(), codec.held_bytes()), (protocol, 0));
        assert!(matches!(
            codec.decode(&mut [], &Limits { payload_bytes_max: 10 }),
            Ok(Decoded::Incomplete { consumed: 0, .. })
        ));
    }
}

#[test]
fn raw_tcp_is_cut_at_the_limit() {
    let limits = Limits { payload_bytes_max: 4 };
    let (items, error) = run(Protocol::Tcp, b"abcdefghij", &[], &limits, false);
    assert_eq!((items.len(), joined(&items), error), (3, b"abcdefghij".to_vec(), None));
    assert_eq!(run(Protocol::Tcp, b"ab", &[], &Limits { payload_bytes_max: 0 }, false).0.len(), 2);
}

#[test]
fn each_protocol_frames_a_message_its_way() {
    let cases: [(Protocol, MessageKind, &[u8]); 9] = [
        (Protocol::Ws, MessageKind::Text, b"\x81\x02hi"),
        (Protocol::Ws, MessageKind::Binary, b"\x82\x02hi"),
        (Protocol::Ws, MessageKind::Raw, b"hi"),
        (Protocol::Text, MessageKind::Text, b"hi\n"),
        (Protocol::Text, MessageKind::Raw, b"hi"),
        (Protocol::Frame, MessageKind::Text, b"\0\0\0\x06hi"),
        (Protocol::Frame, MessageKind::Raw, b"hi"),
        (Protocol::Tcp, MessageKind::Text, b"hi"),
        (Protocol::Tcp, MessageKind::Raw, b"hi"),
    ];
    for (protocol, kind, expected) in cases {
        let mut out = b"before".to_vec();
        encode(protocol, kind, b"hi", &mut out);
        assert_eq!(out, [b"before", expected].concat(), "{protocol:?} {kind:?}");
    }
    let mut out = Vec::new();
    encode(Protocol::Text, MessageKind::Text, b"a\nb", &mut out);
    assert_eq!(out, b"a\nb\n", "newlines inside are not touched");
}

#[test]
fn only_websocket_has_control_frames() {
    for protocol in [Protocol::Text, Protocol::Frame, Protocol::Tcp] {
        let mut out = Vec::new();
        encode_close(protocol, CloseCode::NORMAL, "bye", &mut out);
        assert_eq!(out, b"");
    }
    let mut out = Vec::new();
    encode_close(Protocol::Ws, CloseCode::NORMAL, "", &mut out);
    encode_ping(b"a", &mut out);
    encode_pong(b"b", &mut out);
    assert_eq!(out, b"\x88\x02\x03\xe8\x89\x01a\x8a\x01b");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_split_into_reads_gives_the_same_items_and_the_same_error(
        (protocol, bytes) in protocol_and_stream(),
        pieces in prop::collection::vec(0usize..9, 0..80),
        max in 8usize..30,
        pauses: bool,
    ) {
        let limits = Limits { payload_bytes_max: max };
        let (whole, error) = run(protocol, &bytes, &[], &limits, false);
        let (split, split_error) = run(protocol, &bytes, &pieces, &limits, pauses);
        if protocol == Protocol::Tcp {
            prop_assert_eq!(joined(&split), joined(&whole));
        } else {
            prop_assert_eq!(split, whole);
            prop_assert_eq!(split_error, error);
        }
    }

    #[test]
    fn noise_never_panics(
        bytes: Vec<u8>,
        pieces in prop::collection::vec(0usize..9, 0..30),
        max in 0usize..200,
    ) {
        for protocol in PROTOCOLS {
            run(protocol, &bytes, &pieces, &Limits { payload_bytes_max: max }, false);
        }
    }

    #[test]
    fn the_encoded_length_is_known_beforehand(bytes in prop_oneof![0usize..300, 65_000usize..66_000]) {
        let payload = vec![b'x'; bytes];
        for protocol in PROTOCOLS {
            for kind in [MessageKind::Text, MessageKind::Binary, MessageKind::Raw] {
                let mut out = Vec::new();
                encode(protocol, kind, &payload, &mut out);
                prop_assert_eq!(out.len(), encoded_len(protocol, kind, bytes));
            }
        }
    }

    #[test]
    fn lines_and_frames_survive_encoding(payload in "[^\r\n]{0,50}") {
        for protocol in [Protocol::Text, Protocol::Frame] {
            let mut out = Vec::new();
            encode(protocol, MessageKind::Text, payload.as_bytes(), &mut out);
            let (whole, mut codec) = (out.len(), Codec::new(protocol));
            let kind = if protocol == Protocol::Text { MessageKind::Text } else { MessageKind::Binary };
            prop_assert_eq!(
                codec.decode(&mut out, &Limits { payload_bytes_max: 1000 }),
                Ok(Decoded::Item { consumed: whole, item: Item::Message(kind, payload.as_bytes()) })
            );
        }
    }
}
