//! A worker that breaks the protocol of links: its lane is given up, and the gateway and its clients live.

use serde_json::json;
use tidegate_base::Protocol::{Text, Ws};
use tidegate_base::{AppName, Exports, NodeName, Role};
use tidegate_harness::{Cluster, RawClient, eventually};
use tidegate_link::{ControlTx, LaneRx, LaneTx, Link, Peer, memory_pair};
use tidegate_wire::control::{AppSlots, Control, LaneHello, SlotUp};
use tidegate_wire::{EventNo, PartFlags, PartHead, RawFrame, encode};

use crate::support::counted;

/// The worker's end of a link to the first gateway.
struct FakeWorker {
    link: Link,
    control: ControlTx,
    from_gateway: tidegate_link::ControlRx,
}

impl FakeWorker {
    async fn link(cluster: &Cluster) -> Self {
        let peer = |role, name: &str| Peer { role, name: NodeName::new(name).unwrap(), address: None };
        let (ours, theirs) = memory_pair(peer(Role::Worker, "fake"), peer(Role::Gateway, "gateway-0"));
        cluster.gateways[0].gateway.lock().unwrap().add_link(theirs, 0);
        let (control, mut from_gateway) = ours.take_control().unwrap();
        let hello = Control::from_bytes(&from_gateway.recv().await.unwrap()).unwrap();
        assert_eq!(hello, Control::Gateway { id: cluster.gateway_id(0) });
        Self { link: ours, control, from_gateway }
    }

    fn announce(&self, slots: &[u32]) {
        self.announce_with(slots, 1);
    }

    /// Slots whose lanes are of this generation.
    fn announce_with(&self, slots: &[u32], generation: u64) {
        let app = AppName::new("test").unwrap();
        let slots = slots.iter().map(|slot| SlotUp { slot: *slot, generation }).collect();
        let slots = AppSlots { app, version: 1, exports: Exports::MESSAGE, slots };
        self.control.send(Control::Slots(vec![slots]).to_bytes()).unwrap();
    }

    /// Opens a lane and sends this as its first bytes.
    async fn lane(&self, first: Vec<u8>) -> (LaneTx, LaneRx) {
        let (tx, rx) = self.link.open_lane().await.unwrap();
        tx.send(first.into()).unwrap();
        (tx, rx)
    }

    /// The slot that the gateway wants a lane to.
    async fn wanted(&mut self) -> u32 {
        match Control::from_bytes(&self.from_gateway.recv().await.unwrap()).unwrap() {
            Control::LaneWanted { slot, .. } => slot,
            other => panic!("{other:?}"),
        }
    }
}

fn hello(app: &str, slot: u32) -> Vec<u8> {
    hello_of(app, slot, 1)
}

fn hello_of(app: &str, slot: u32, generation: u64) -> Vec<u8> {
    let hello = LaneHello {
        app: AppName::new(app).unwrap(),
        slot,
        generation,
        exports: Exports::MESSAGE,
        credit_events: 100,
        credit_bytes: 1_000_000,
    };
    let mut out = Vec::new();
    encode::hello(&hello, &mut out);
    out
}

/// A part with this head and these bytes as its commands.
fn part(flags: u8, event: u32, commands: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = encode::begin_part(&mut out);
    out.extend_from_slice(commands);
    encode::end_part(start, PartHead { flags: PartFlags(flags), index: 0, event: EventNo(event) }, &mut out);
    out
}

#[tokio::test]
async fn a_lane_with_a_broken_frame_is_given_up_and_the_gateway_lives() {
    let cluster = Cluster::of("callbacks").shards(2).start().await;
    let mut healthy = cluster.client(0).await;
    let broken = counted("tidegate_gateway_lanes_broken_total");
    let mut detach = Vec::new();
    encode::detach(1, &mut detach);
    let mut credit = Vec::new();
    encode::credit(1, 1, &mut credit);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown kind", vec![0xff; 64]),
        ("a frame that is too large", [&[0xff, 0xff, 0xff, 0x7f, 0x41][..], &[0; 11]].concat()),
        ("a frame of a gateway", detach),
        ("another hello", hello("test", 0)),
        ("a part that answers nothing", part(PartFlags::EVENT | PartFlags::DONE, 7, &[])),
        ("a part with half a command", part(0, 0, &[1, 2, 3])),
        ("a part with something else than commands", part(0, 0, &credit)),
        ("a release of nothing", vec_of(|out| encode::release(EventNo(3), out))),
        ("a command outside of a part", bare_unbind()),
    ];
    for (what, bytes) in &cases {
        let fake = FakeWorker::link(&cluster).await;
        fake.announce(&[]);
        let (_tx, mut rx) = fake.lane([hello("test", 0), bytes.clone()].concat()).await;
        while let Ok(chunk) = rx.recv().await {
            assert!(!chunk.is_empty());
        }
        healthy.send(*what).await;
        assert_eq!(healthy.text().await, *what);
    }
    assert!(counted("tidegate_gateway_lanes_broken_total") >= broken + cases.len() as u64);
    cluster.stop().await;
}

fn vec_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A whole Unbind frame, which belongs into a part.
fn bare_unbind() -> Vec<u8> {
    let kind = tidegate_wire::frame::Kind::Unbind;
    vec_of(|out| RawFrame { kind, flags: 0, aux: 0, client: 1, number: 0, payload: &[] }.put(out))
}

#[tokio::test]
async fn a_lane_that_does_not_say_hello_or_is_of_an_unknown_app_is_refused() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut healthy = cluster.client(0).await;
    for first in [vec![0xff; 64], hello("another", 0), part(0, 0, &[])] {
        let fake = FakeWorker::link(&cluster).await;
        fake.announce(&[]);
        let (_tx, mut rx) = fake.lane(first).await;
        assert!(rx.recv().await.is_err());
        healthy.send("on").await;
        assert_eq!(healthy.text().await, "on");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_link_with_a_broken_control_message_is_closed() {
    let cluster = Cluster::of("callbacks").start().await;
    for message in [vec![0xff; 10], Control::ListNodes.to_bytes()] {
        let fake = FakeWorker::link(&cluster).await;
        fake.announce(&[0, 1, 2]);
        eventually("its slots are known", || (cluster.load(0).len() == 4).then_some(())).await;
        fake.control.send(message).unwrap();
        fake.link.closed().await;
        eventually("its slots are forgotten", || (cluster.load(0).len() == 1).then_some(())).await;
    }
    cluster.client(0).await.send("on").await;
    cluster.stop().await;
}

#[tokio::test]
async fn the_clients_of_a_slot_that_breaks_its_lane_are_served_elsewhere() {
    let mut cluster = Cluster::of("callbacks").workers(0).protocols(&[Ws, Text]).shards(2).start().await;
    let mut fake = FakeWorker::link(&cluster).await;
    fake.announce(&[5]);
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = RawClient::connect(cluster.address(0, Text)).await;
        client.send(format!("lost {n}\n").as_bytes()).await;
        clients.push(client);
    }
    assert_eq!(fake.wanted().await, 5);
    let (tx, mut rx) = fake.lane(hello("test", 5)).await;
    // All of them have come: each as an attachment and a message.
    let mut bytes = Vec::new();
    while clients.len() > count_messages(&bytes) {
        bytes.extend(rx.recv().await.unwrap());
    }
    let lost = counted("tidegate_gateway_events_lost_total");
    tx.send(vec![0xee; 32].into()).unwrap();
    while rx.recv().await.is_ok() {}
    eventually("the slot is forgotten", || cluster.load(0).is_empty().then_some(())).await;
    assert!(counted("tidegate_gateway_events_lost_total") >= lost + 6);
    cluster.add_worker().await;
    for client in &mut clients {
        client.send(b"found\n").await;
        let echo = client.until(b"\n").await;
        assert_eq!(String::from_utf8(echo).unwrap(), "found\n");
    }
    let mut ws = cluster.client(0).await;
    assert_eq!(ws.call("get_all_client_count", json!({})).await, 7);
    cluster.stop().await;
}

#[tokio::test]
async fn a_slot_that_lost_its_lane_serves_again_on_a_newer_one_and_a_stale_one_is_refused() {
    let cluster = Cluster::of("callbacks").workers(0).protocols(&[Text]).shards(2).start().await;
    let mut fake = FakeWorker::link(&cluster).await;
    let mut client = RawClient::connect(cluster.address(0, Text)).await;
    fake.announce(&[5]);
    client.send(b"1\n").await;
    assert_eq!(fake.wanted().await, 5);
    let (tx, mut rx) = fake.lane(hello("test", 5)).await;
    next_message(&mut rx).await;
    tx.send(vec![0xee; 32].into()).unwrap();
    while rx.recv().await.is_ok() {}
    eventually("the slot is forgotten", || cluster.load(0).is_empty().then_some(())).await;

    fake.announce_with(&[5], 2);
    client.send(b"2\n").await;
    assert_eq!(fake.wanted().await, 5);
    // An earlier lane whose first frame comes late, and a second one of the same generation.
    let (_stale, mut refused) = fake.lane(hello("test", 5)).await;
    assert!(refused.recv().await.is_err());
    let (tx, mut rx) = fake.lane(hello_of("test", 5, 2)).await;
    let (of, number) = next_message(&mut rx).await;
    let (_double, mut refused) = fake.lane(hello_of("test", 5, 2)).await;
    assert!(refused.recv().await.is_err());
    tx.send(answer(of, number, b"two").into()).unwrap();
    assert_eq!(client.until(b"\n").await, b"two\n");
    assert_eq!(cluster.load(0), [1]);

    // A newer lane is announced before the gateway has noticed that the one in use is lost.
    fake.announce_with(&[5], 3);
    eventually("the newer lane is known", || (cluster.load(0) == [0]).then_some(())).await;
    tx.reset();
    assert_eq!(fake.wanted().await, 5);
    // Not before: what the lost lane had taken would be lost with it.
    client.send(b"3\n").await;
    let (tx, mut rx) = fake.lane(hello_of("test", 5, 3)).await;
    let (of, number) = next_message(&mut rx).await;
    tx.send(answer(of, number, b"three").into()).unwrap();
    assert_eq!(client.until(b"\n").await, b"three\n");
    assert_eq!(cluster.load(0), [1]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_lane_that_overtakes_the_announcement_of_its_slot_gets_clients_with_it() {
    let cluster = Cluster::of("callbacks").workers(0).protocols(&[Text]).start().await;
    let fake = FakeWorker::link(&cluster).await;
    let mut client = RawClient::connect(cluster.address(0, Text)).await;
    fake.announce(&[]);
    let (tx, mut rx) = fake.lane([hello_of("test", 5, 2), query_count()].concat()).await;
    // The lane is known when it answers. What is announced now is older: not yet.
    rx.recv().await.unwrap();
    fake.announce(&[5]);
    client.send(b"hi\n").await;
    fake.announce_with(&[5], 2);
    let (of, number) = next_message(&mut rx).await;
    tx.send(answer(of, number, b"hi").into()).unwrap();
    assert_eq!(client.until(b"\n").await, b"hi\n");
    cluster.stop().await;
}

fn query_count() -> Vec<u8> {
    let query = tidegate_base::Query::CountClients(tidegate_base::Audience::All);
    vec_of(|out| encode::query(1, &query, out))
}

/// The client and the number of the first message that comes.
async fn next_message(rx: &mut LaneRx) -> (u32, u32) {
    let mut bytes = Vec::new();
    loop {
        bytes.extend(rx.recv().await.unwrap());
        let mut rest = &bytes[..];
        while let Some((frame, used)) = RawFrame::split(rest).unwrap() {
            if frame.kind == tidegate_wire::frame::Kind::Message {
                return (frame.client, frame.number);
            }
            rest = &rest[used..];
        }
    }
}

/// A whole turn: one message to a client.
fn answer(client: u32, event: u32, payload: &[u8]) -> Vec<u8> {
    let kind = tidegate_wire::frame::Kind::SendTo;
    let text = tidegate_base::MessageKind::Text as u8;
    let send = vec_of(|out| RawFrame { kind, flags: text, aux: 0, client, number: 0, payload }.put(out));
    part(PartFlags::EVENT | PartFlags::DONE | PartFlags::RELEASE, event, &send)
}

fn count_messages(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((frame, used)) = RawFrame::split(bytes).unwrap() {
        count += usize::from(frame.kind == tidegate_wire::frame::Kind::Message);
        bytes = &bytes[used..];
    }
    count
}
