//! Who may link to a gateway.

use std::net::SocketAddr;

use serde_json::Value;
use tidegate_base::{AppName, Exports, NodeName, Role};
use tidegate_harness::{Cluster, LinkKind, Process};
use tidegate_link::certs::{Authority, Identity};
use tidegate_link::{Endpoint, LaneClosed, Link, LinkError, LinkSettings};
use tidegate_wire::control::{Control, LaneHello};
use tidegate_wire::{PushLane, encode};

async fn dial(gateway: SocketAddr, identity: &Identity) -> Result<(Endpoint, Link), LinkError> {
    let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, &LinkSettings::default())?;
    let link = endpoint.connect(gateway, Role::Gateway).await?;
    Ok((endpoint, link))
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_even_with_the_names_of_ours() {
    let cluster = Cluster::of("callbacks").link(LinkKind::Quic).start().await;
    let impostor = Authority::create("test").unwrap().issue(Role::Worker, &name("worker-0"), 1).unwrap();
    let refused = dial(cluster.endpoint(0), &impostor).await.unwrap_err();
    assert!(refused.to_string().contains("tidegate cert node"), "{refused}");
    assert_eq!(cluster.load(0), [0]);
    cluster.client(0).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_worker_does_not_link_to_a_node_that_is_no_gateway() {
    let cluster = Cluster::of("callbacks").link(LinkKind::Quic).start().await;
    let authority = cluster.authority();
    let other = authority.issue(Role::Worker, &name("other"), 1).unwrap();
    let listening = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &other, &LinkSettings::default()).unwrap();
    let address = listening.local_addr().unwrap();
    let answering = tokio::spawn(async move { listening.accept().await.unwrap().accept().await.is_err() });
    let worker = authority.issue(Role::Worker, &name("w"), 1).unwrap();
    let dialing = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &worker, &LinkSettings::default()).unwrap();
    let refused = dialing.connect(address, Role::Gateway).await.unwrap_err();
    assert!(refused.to_string().contains("a gateway was dialed"), "{refused}");
    assert!(answering.await.unwrap());
    cluster.stop().await;
}

/// A running node's event `ready`.
fn ready(process: &Process) -> Value {
    process.line("that it is ready", |line| {
        serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == "ready")
    })
}

#[tokio::test]
async fn a_running_gateway_takes_links_from_workers_and_registers_only_and_gives_each_its_own_lanes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let authority = Authority::create("test").unwrap();
    for (role, node) in [(Role::Register, "register"), (Role::Gateway, "gateway")] {
        authority.issue(role, &name(node), 1).unwrap().save(&at.join(node)).unwrap();
    }
    let register = "[cluster]\nidentity = \"register\"\n[register]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = "[cluster]\nidentity = \"gateway\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n\
                   [[app]]\nname = \"test\"\nlisten = [\"ws://127.0.0.1:0\"]\n";
    for (node, text) in [("register", register), ("gateway", gateway)] {
        let settings = format!("[node]\ndata_dir = \"data-{node}\"\n{text}");
        std::fs::write(at.join(format!("{node}.toml")), settings).unwrap();
    }
    let register = Process::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = ready(&register)["register"].as_str().unwrap().to_owned();
    let gateway = Process::start(at, &["gateway", "-c", "gateway.toml", "--registers", &registers, "--json"]);
    let address = ready(&gateway)["gateway"].as_str().unwrap().parse().unwrap();

    for role in [Role::Gateway, Role::Operator] {
        // The handshake is well, so the dial may be over before the refusal comes.
        let refused = match dial(address, &authority.issue(role, &name("other"), 1).unwrap()).await {
            Ok((_endpoint, link)) => link.closed().await,
            Err(error) => error,
        };
        assert!(
            refused.to_string().contains("only workers and registers dial a gateway"),
            "{role}: {refused}"
        );
    }
    // A worker acts for its apps by its slots, a register has none.
    let app = AppName::new("test").unwrap();
    let commands: Vec<u8> = PushLane::<()>::new(&app).take_batch().unwrap().into();
    let mut slot = Vec::new();
    let exports = Exports::MESSAGE;
    let hello = LaneHello { app, slot: 0, generation: 1, exports, credit_events: 9, credit_bytes: 999 };
    encode::hello(&hello, &mut slot);
    for (role, wrong) in [(Role::Worker, commands), (Role::Register, slot)] {
        let (_endpoint, link) = dial(address, &authority.issue(role, &name("w"), 1).unwrap()).await.unwrap();
        let (control, mut from_gateway) = link.take_control().unwrap();
        assert!(from_gateway.recv().await.is_ok());
        if role == Role::Worker {
            control.send(Control::Slots(Vec::new()).to_bytes()).unwrap();
        }
        let (tx, mut rx) = link.open_lane().await.unwrap();
        tx.send(wrong.into()).unwrap();
        assert!(matches!(rx.recv().await, Err(LaneClosed::Lost(_))), "{role}");
        assert_eq!(link.close_error(), None, "{role}: the link itself stays");
    }
    for node in [gateway, register] {
        assert_eq!(node.terminate(), Some(0));
    }
}
