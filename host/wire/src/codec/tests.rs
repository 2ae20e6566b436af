use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_base::{AppName, ClientFields, ClientInfo, CloseInfo, CloseReason, Protocol, UpgradeRequest};

use super::*;

const GATEWAY: GatewayId = GatewayId::new(0xa1b2_c3d4_e5f6);

fn clients() -> impl Strategy<Value = Vec<ClientId>> {
    vec(any::<u32>().prop_map(|connection| ClientId { gateway: GATEWAY, connection }), 0..5)
}

fn names() -> impl Strategy<Value = Vec<Cow<'static, str>>> {
    vec("[a-zé0]{1,20}".prop_map(Cow::Owned), 0..4)
}

fn audience() -> impl Strategy<Value = Audience<'static>> {
    prop_oneof![
        Just(Audience::All),
        clients().prop_map(Audience::Clients),
        names().prop_map(Audience::Uids),
        names().prop_map(Audience::Groups),
    ]
}

fn message() -> impl Strategy<Value = Message<'static>> {
    (0..3u8, vec(any::<u8>(), 0..300)).prop_map(|(kind, payload)| Message {
        kind: MessageKind::from_u8(kind).unwrap(),
        payload: payload.leak(),
    })
}

fn command() -> impl Strategy<Value = Command<'static>> {
    let client = || any::<u32>().prop_map(|connection| ClientId { gateway: GATEWAY, connection });
    let name = || "[a-z]{1,20}".prop_map(Cow::<'static, str>::Owned);
    prop_oneof![
        (client(), message()).prop_map(|(c, m)| Command::SendTo(c, m)),
        (audience(), clients(), message()).prop_map(|(to, except, message)| Command::Send {
            to,
            except,
            message
        }),
        (audience(), clients(), any::<u16>(), name(), proptest::option::of(message())).prop_map(
            |(to, except, code, reason, farewell)| Command::Close { to, except, code, reason, farewell }
        ),
        (audience(), clients()).prop_map(|(to, except)| Command::Destroy { to, except }),
        (client(), name()).prop_map(|(c, n)| Command::Bind(c, n)),
        client().prop_map(Command::Unbind),
        (client(), name()).prop_map(|(c, n)| Command::Join(c, n)),
        (client(), name()).prop_map(|(c, n)| Command::Leave(c, n)),
        name().prop_map(Command::Disband),
        (client(), proptest::option::of(name())).prop_map(|(c, n)| Command::SetSession(c, n)),
        (client(), name()).prop_map(|(c, n)| Command::UpdateSession(c, n)),
    ]
}

fn frames(bytes: &[u8]) -> Vec<RawFrame<'_>> {
    let mut rest = bytes;
    let mut all = Vec::new();
    while let Some((frame, used)) = RawFrame::split(rest).unwrap() {
        all.push(frame);
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    all
}

proptest! {
    #[test]
    fn every_command_survives_the_wire(command in command()) {
        let mut out = Vec::new();
        encode::command(&command, GATEWAY, &mut out);
        let frames = frames(&out);
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(ToGateway::decode(&frames[0], GATEWAY), Ok(ToGateway::Command(command)));
    }

    #[test]
    fn clients_of_other_gateways_stay_off_the_wire(mine in clients(), others in clients()) {
        let other = GatewayId::new(1);
        let both = mine.iter().copied().chain(others.iter().map(|c| ClientId { gateway: other, ..*c })).collect();
        let mut out = Vec::new();
        encode::command(&Command::Destroy { to: Audience::Clients(both), except: vec![] }, GATEWAY, &mut out);
        let expected = Command::Destroy { to: Audience::Clients(mine), except: vec![] };
        prop_assert_eq!(ToGateway::decode(&frames(&out)[0], GATEWAY), Ok(ToGateway::Command(expected)));
    }

    #[test]
    fn a_stream_is_read_alike_however_it_is_cut(
        commands in vec(command(), 1..8),
        cuts in vec(1usize..40, 0..40),
    ) {
        let mut stream = Vec::new();
        commands.iter().for_each(|c| encode::command(c, GATEWAY, &mut stream));
        let whole: Vec<Vec<u8>> = frames(&stream).iter().map(|f| f.payload.to_vec()).collect();
        let (mut carry, mut rest, mut seen) = (Carry::default(), &stream[..], Vec::new());
        for cut in cuts.into_iter().chain([stream.len()]) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            carry.feed(now, |f| { seen.push(f.payload.to_vec()); Ok::<_, FrameError>(()) }).unwrap();
        }
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(kind: u8, flags: u8, aux: u16, number: u32, payload in vec(any::<u8>(), 0..80)) {
        if let Some(kind) = Kind::from_u8(kind) {
            let frame = RawFrame { kind, flags, aux, client: 1, number, payload: &payload };
            let _ = ToGateway::decode(&frame, GATEWAY);
            let _ = ToWorker::decode(&frame);
        }
    }

    #[test]
    fn a_message_event_survives_the_wire(client: u32, number: u32, attempt: u8, payload in vec(any::<u8>(), 0..300)) {
        let event = Event::Message(MessageKind::Binary, &payload);
        let mut out = Vec::new();
        encode::event(client, EventNo(number), attempt, &event, &mut out);
        let expected = ToWorker::Event { client, number: EventNo(number), attempt, event };
        prop_assert_eq!(ToWorker::decode(&frames(&out)[0]), Ok(expected));
    }
}

#[test]
fn every_other_frame_survives_the_wire() {
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let addresses = Addresses { remote: address, local: address, protocol: Protocol::Ws };
    let info = CloseInfo {
        reason: CloseReason::Slow,
        uid: Some("u".into()),
        groups: vec!["g".into()],
        session: Some("{}".into()),
    };
    let request = UpgradeRequest {
        path: "/".into(),
        query: vec![("a".into(), "b".into())],
        headers: vec![],
        cookies: vec![],
        protocols: vec!["chat".into()],
    };
    let client = ClientId { gateway: GATEWAY, connection: 7 };
    let infos = Answer::Infos(vec![ClientInfo { client, uid: None, groups: vec![], session: None }]);
    let mut out = Vec::new();
    for (n, event) in [Event::Connect, Event::Close(info.clone()), Event::WebsocketConnect(request.clone())]
        .iter()
        .enumerate()
    {
        encode::event(7, EventNo(n as u32), 2, event, &mut out);
    }
    encode::attach(7, &addresses, &mut out);
    encode::detach(7, &mut out);
    encode::session(7, 3, Some("{}"), &mut out);
    encode::session(7, 4, None, &mut out);
    encode::answer(9, &infos, &mut out);
    encode::ack(11, &mut out);
    let read: Vec<_> = frames(&out).iter().map(|f| ToWorker::decode(f).unwrap()).collect();
    let event = |n, event| ToWorker::Event { client: 7, number: EventNo(n), attempt: 2, event };
    assert_eq!(
        read,
        [
            event(0, Event::Connect),
            event(1, Event::Close(info)),
            event(2, Event::WebsocketConnect(request)),
            ToWorker::Attach(7, addresses),
            ToWorker::Detach(7),
            ToWorker::Session(7, 3, Some("{}")),
            ToWorker::Session(7, 4, None),
            ToWorker::Answer(9, infos),
            ToWorker::Ack(11),
        ]
    );
}

#[test]
fn a_part_holds_its_commands() {
    let hello = LaneHello {
        app: AppName::new("chat").unwrap(),
        slot: 3,
        generation: 9,
        exports: Exports::MESSAGE.with(Exports::RESTORE),
        credit_events: 1024,
        credit_bytes: 1 << 20,
    };
    let query = Query::Select(Audience::All, ClientFields { uid: true, groups: false, session: true });
    let decision = UpgradeDecision::Refuse(403, "no".into());
    let head = PartHead { flags: PartFlags(PartFlags::EVENT | PartFlags::DONE), index: 1, event: EventNo(5) };
    let mut out = Vec::new();
    encode::hello(&hello, &mut out);
    let start = encode::begin_part(&mut out);
    encode::command(&Command::Disband("g".into()), GATEWAY, &mut out);
    encode::decision(7, &decision, &mut out);
    encode::end_part(start, head, &mut out);
    encode::credit(1, 2, &mut out);
    encode::release(EventNo(5), &mut out);
    encode::drain(EventNo(6), &mut out);
    encode::query(8, &query, &mut out);
    encode::exports(3, Exports::MESSAGE.with(Exports::SAVE), &mut out);
    let raw = frames(&out);
    let read: Vec<_> = raw.iter().map(|f| ToGateway::decode(f, GATEWAY).unwrap()).collect();
    let ToGateway::Part(got, commands) = &read[1] else { panic!("{read:?}") };
    assert_eq!(*got, head);
    let inner: Vec<_> = frames(commands).iter().map(|f| ToGateway::decode(f, GATEWAY).unwrap()).collect();
    assert_eq!(inner, [ToGateway::Command(Command::Disband("g".into())), ToGateway::Decision(7, decision)]);
    assert_eq!(read[0], ToGateway::Hello(hello));
    assert_eq!(
        read[2..],
        [
            ToGateway::Credit(1, 2),
            ToGateway::Release(EventNo(5)),
            ToGateway::Drain(EventNo(6)),
            ToGateway::Query(8, query),
            ToGateway::Exports(3, Exports::MESSAGE.with(Exports::SAVE))
        ]
    );
}
