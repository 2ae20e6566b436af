//! A gateway that breaks the protocol of links: the lane is given up, and the worker offers another one.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_base::{Addresses, AppName, Command, Event, GatewayId, MessageKind, NodeName, Protocol, Role};
use tidegate_harness::{Cluster, DEADLINE};
use tidegate_link::{ControlRx, ControlTx, LaneRx, LaneTx, Link, Peer, memory_pair};
use tidegate_wire::control::{Control, LaneHello, SlotUp};
use tidegate_wire::{Carry, EventNo, FrameError, RawFrame, ToGateway, encode};

/// The gateway's end of a link to the first worker.
struct FakeGateway {
    id: GatewayId,
    link: Link,
    control: ControlTx,
    from_worker: ControlRx,
}

impl FakeGateway {
    fn link(cluster: &Cluster) -> Self {
        let id = GatewayId::new(0x00fa_cade_0001);
        let peer = |role, name: &str| Peer { role, name: NodeName::new(name).unwrap(), address: None };
        let (theirs, ours) = memory_pair(peer(Role::Gateway, "fake"), peer(Role::Worker, "worker-0"));
        cluster.workers[0].as_ref().unwrap().worker.add_link(theirs, 0);
        let (control, from_worker) = ours.take_control().unwrap();
        control.send(Control::Gateway { id }.to_bytes()).unwrap();
        Self { id, link: ours, control, from_worker }
    }

    /// The slots that the worker announces next.
    async fn slots(&mut self) -> Vec<SlotUp> {
        let message = tokio::time::timeout(DEADLINE, self.from_worker.recv()).await.expect("an announcement");
        match Control::from_bytes(&message.unwrap()).unwrap() {
            Control::Slots(apps) => apps.into_iter().flat_map(|app| app.slots).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a lane.
    async fn lane(&self, slot: u32) -> (LaneHello, LaneTx, LaneRx) {
        let wanted = Control::LaneWanted { app: AppName::new("test").unwrap(), slot };
        self.control.send(wanted.to_bytes()).unwrap();
        let (tx, mut rx) =
            tokio::time::timeout(DEADLINE, self.link.accept_lane()).await.expect("a lane").unwrap();
        let first = rx.recv().await.unwrap();
        let (frame, _) = RawFrame::split(&first).unwrap().unwrap();
        match ToGateway::decode(&frame, self.id).unwrap() {
            ToGateway::Hello(hello) => (hello, tx, rx),
            other => panic!("{other:?}"),
        }
    }
}

impl FakeGateway {
    /// The link is gone, and the worker has noticed.
    async fn end(self) {
        self.link.close(tidegate_link::code::FIRST_FREE, "cut");
        drop(self.control);
        let mut from_worker = self.from_worker;
        while from_worker.recv().await.is_ok() {}
    }
}

/// A client is bound to the slot and says something.
fn message(client: u32, number: u32, text: &str) -> Vec<u8> {
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let addresses = Addresses { remote: anywhere, local: anywhere, protocol: Protocol::Ws };
    let mut out = Vec::new();
    encode::attach(client, &addresses, &mut out);
    out.extend(said(client, number, text));
    out
}

/// A client that is bound to the slot says something.
fn said(client: u32, number: u32, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let event = Event::Message(MessageKind::Text, text.as_bytes());
    encode::event(client, EventNo(number), 1, &event, &mut out);
    out
}

#[tokio::test]
async fn a_slot_offers_a_newer_lane_after_every_kind_of_loss_and_serves_on_it() {
    let cluster = Cluster::of("callbacks").slots(2).start().await;
    let mut healthy = cluster.client(0).await;
    let mut fake = FakeGateway::link(&cluster);
    let mut offered = fake.slots().await;
    offered.sort_by_key(|up| up.slot);
    assert_eq!(offered.len(), 2);
    let (kept, mut lost) = (offered[0], offered[1]);
    let cases: [(&str, Option<Vec<u8>>); 4] = [
        ("an unknown kind", Some(vec![0xff; 64])),
        ("an event out of order", Some(message(1, 7, "too early"))),
        ("a reset", None),
        ("a payload that is broken", Some([&[1, 0, 0, 0, 0x05][..], &[0; 11], &[0xff]].concat())),
    ];
    for (what, bytes) in cases {
        let (hello, tx, mut rx) = fake.lane(lost.slot).await;
        assert_eq!((hello.slot, hello.generation), (lost.slot, lost.generation), "{what}");
        match bytes {
            Some(bytes) => tx.send(bytes.into()).unwrap(),
            None => tx.reset(),
        }
        while rx.recv().await.is_ok() {}
        assert_eq!(fake.slots().await, [kept], "{what}: clients go elsewhere meanwhile");
        let mut again = fake.slots().await;
        again.sort_by_key(|up| up.slot);
        assert_eq!((again[0], again[1].slot), (kept, lost.slot), "{what}");
        assert!(again[1].generation > lost.generation, "{what}");
        lost = again[1];
        healthy.send(what).await;
        assert_eq!(healthy.text().await, what);
    }
    let (_, tx, mut rx) = fake.lane(lost.slot).await;
    tx.send(message(1, 0, "and now?").into()).unwrap();
    answers(&mut rx, b"and now?").await;
    drop((tx, rx));
    cluster.stop().await;
}

/// The answer to what was sent on a lane.
async fn answers(rx: &mut LaneRx, text: &[u8]) {
    let mut bytes = Vec::new();
    while !bytes.windows(text.len()).any(|window| window == text) {
        bytes.extend(tokio::time::timeout(DEADLINE, rx.recv()).await.expect("an answer").unwrap());
    }
}

/// Two links of one gateway, of which the first is lost when the second is there already: the slot goes on on the second.
async fn overtaken(ends_in_a_turn: bool) {
    let cluster = Cluster::of("callbacks").start().await;
    let mut first = FakeGateway::link(&cluster);
    let slot = first.slots().await[0].slot;
    let (_, tx, mut rx) = first.lane(slot).await;
    tx.send(message(1, 0, "before").into()).unwrap();
    answers(&mut rx, b"before").await;
    if ends_in_a_turn {
        // The turn waits for what it asks: all that follows waits for its end.
        let asks = r#"{"call": "get_client_id_by_uid", "uids": ["whoever"]}"#;
        tx.send(said(1, 1, asks).into()).unwrap();
        answers(&mut rx, b"whoever").await;
    }
    let mut second = FakeGateway::link(&cluster);
    let offered = second.slots().await[0];
    let (hello, next_tx, mut next_rx) = if ends_in_a_turn {
        drop((tx, rx));
        first.end().await;
        second.lane(slot).await
    } else {
        let lane = second.lane(slot).await;
        drop((tx, rx));
        first.end().await;
        lane
    };
    assert_eq!(hello.generation, offered.generation);
    next_tx.send(message(1, 0, "after 0").into()).unwrap();
    answers(&mut next_rx, b"after 0").await;
    // Often enough that the slot has heard of the first one's end meanwhile.
    for number in 1..100 {
        let text = format!("after {number}");
        next_tx.send(said(1, number, &text).into()).unwrap();
        answers(&mut next_rx, text.as_bytes()).await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_link_that_ends_while_the_next_one_serves_already_takes_none_of_its_lanes_along() {
    overtaken(false).await;
}

#[tokio::test]
async fn a_link_that_ends_in_a_turn_in_which_the_next_one_comes_takes_none_of_its_lanes_along() {
    overtaken(true).await;
}

/// Calls the plugin with this as event `number`, and returns the session that it then sees. Counts the parts that come.
async fn session(tx: &LaneTx, rx: &mut Reader, number: u32) -> Value {
    tx.send(said(1, number, r#"{"call": "session", "tag": "session"}"#).into()).unwrap();
    loop {
        for text in rx.next().await {
            if let Ok(Value::Object(answer)) = serde_json::from_slice(&text)
                && answer.get("tag") == Some(&json!("session"))
            {
                return answer["value"].clone();
            }
        }
    }
}

/// What a slot says on its lane.
struct Reader {
    rx: LaneRx,
    id: GatewayId,
    carry: Carry,
    /// The parts that came.
    parts: u32,
    /// The count of parts with the last one that writes a session.
    session_part: u32,
}

impl Reader {
    /// The messages to clients of what comes next.
    async fn next(&mut self) -> Vec<Vec<u8>> {
        let chunk = tokio::time::timeout(DEADLINE, self.rx.recv()).await.expect("an answer").unwrap();
        let (mut texts, id) = (Vec::new(), self.id);
        let (parts, session_part) = (&mut self.parts, &mut self.session_part);
        let read = self.carry.feed(&chunk, |frame| {
            if let ToGateway::Part(_, mut commands) = ToGateway::decode(frame, id)? {
                *parts += 1;
                while let Some((command, used)) = RawFrame::split(commands)? {
                    commands = &commands[used..];
                    match ToGateway::decode(&command, id)? {
                        ToGateway::Command(Command::SendTo(_, message)) => {
                            texts.push(message.payload.to_vec())
                        }
                        ToGateway::Command(Command::SetSession(..) | Command::UpdateSession(..)) => {
                            *session_part = *parts;
                        }
                        _ => {}
                    }
                }
            }
            Ok::<_, FrameError>(())
        });
        read.unwrap();
        texts
    }

    /// Waits for a part that writes a session.
    async fn wrote_session(&mut self) -> u32 {
        let before = self.session_part;
        while self.session_part == before {
            self.next().await;
        }
        self.session_part
    }
}

#[tokio::test]
async fn a_session_that_was_taken_before_the_slots_own_write_does_not_undo_it() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut fake = FakeGateway::link(&cluster);
    let slot = fake.slots().await[0].slot;
    let (_, tx, rx) = fake.lane(slot).await;
    let mut rx = Reader { rx, id: fake.id, carry: Carry::default(), parts: 0, session_part: 0 };
    let write = |n: u32| format!(r#"{{"call": "update_session", "patch": {{"own": {n}}}, "quiet": true}}"#);
    let sent = |applied: u32, session: &Value| {
        let mut out = Vec::new();
        encode::session(1, applied, Some(&session.to_string()), &mut out);
        tx.send(out.into()).unwrap();
    };
    tx.send(message(1, 0, &write(1)).into()).unwrap();
    let first = rx.wrote_session().await;
    tx.send(said(1, 1, &write(2)).into()).unwrap();
    let second = rx.wrote_session().await;
    // Another slot wrote when the gateway had applied the first write only.
    sent(first, &json!({"own": 1, "other": 1}));
    assert_eq!(session(&tx, &mut rx, 2).await, json!({"own": 2}));
    // Then it has both.
    sent(second, &json!({"own": 2, "other": 1}));
    assert_eq!(session(&tx, &mut rx, 3).await, json!({"own": 2, "other": 1}));
    // What others write after that is taken as it is.
    sent(second, &json!({"other": 2}));
    assert_eq!(session(&tx, &mut rx, 4).await, json!({"other": 2}));
    cluster.stop().await;
}
