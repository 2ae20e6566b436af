//! A gateway that breaks the protocol of links: the lane is given up, and the worker offers another one.

use std::net::SocketAddr;

use tidegate_base::{Addresses, AppName, Event, GatewayId, MessageKind, NodeName, Protocol, Role};
use tidegate_harness::{Cluster, DEADLINE};
use tidegate_link::{ControlRx, ControlTx, LaneRx, LaneTx, Link, Peer, memory_pair};
use tidegate_wire::control::{Control, LaneHello, SlotUp};
use tidegate_wire::{EventNo, RawFrame, ToGateway, encode};

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

/// A client that is bound to the slot says something.
fn message(client: u32, number: u32, text: &str) -> Vec<u8> {
    let anywhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let addresses = Addresses { remote: anywhere, local: anywhere, protocol: Protocol::Ws };
    let mut out = Vec::new();
    encode::attach(client, &addresses, &mut out);
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
    let mut bytes = Vec::new();
    while !bytes.windows(8).any(|window| window == b"and now?") {
        bytes.extend(tokio::time::timeout(DEADLINE, rx.recv()).await.expect("an answer").unwrap());
    }
    drop((tx, rx));
    cluster.stop().await;
}
