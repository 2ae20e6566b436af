//! Who may link to a gateway.

use std::net::SocketAddr;

use serde_json::Value;
use tidegate_base::{NodeName, Role};
use tidegate_harness::{Cluster, LinkKind, Process};
use tidegate_link::certs::{Authority, Identity};
use tidegate_link::{Endpoint, Link, LinkError, LinkSettings};

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
async fn a_running_gateway_takes_links_from_workers_only() {
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

    for role in [Role::Gateway, Role::Register, Role::Operator] {
        // The handshake is well, so the dial may be over before the refusal comes.
        let refused = match dial(address, &authority.issue(role, &name("other"), 1).unwrap()).await {
            Ok((_endpoint, link)) => link.closed().await,
            Err(error) => error,
        };
        assert!(refused.to_string().contains("only workers dial a gateway"), "{role}: {refused}");
    }
    let (_endpoint, link) =
        dial(address, &authority.issue(Role::Worker, &name("w"), 1).unwrap()).await.unwrap();
    let (_control, mut from_gateway) = link.take_control().unwrap();
    assert!(from_gateway.recv().await.is_ok());
    for node in [gateway, register] {
        assert_eq!(node.terminate(), Some(0));
    }
}
