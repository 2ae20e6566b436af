//! Nodes as the command line starts them, without apps: alone, and in a cluster over loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tidegate_base::{AppName, Digest, NodeName, Role};
use tidegate_link::certs::Authority;
use tidegate_link::{Endpoint, LinkSettings};
use tidegate_wire::control::{Control, NodeInfo};
use tidegate_wire::request::Refusal;

use crate::config::Place;
use crate::control::{Request, Response, ask};
use crate::inquiry::{Inquiry, Told};
use crate::operator::Operator;
use crate::requests::{self, RequestError};
use crate::status::Status;
use crate::steer::{Cluster as Steered, SteerError, Wish};
use crate::testing::Folder;
use crate::{Config, ModuleRef, Node, NodeError, operator};

const DEADLINE: Duration = Duration::from_secs(30);

fn config(folder: &Folder, name: &str) -> Config {
    let mut config = Config::all_in_one(folder.path().join(name));
    config.shards = 2;
    config.worker.engine.instances = 4;
    config.worker.engine.memory_mib = 1;
    config
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn asked(data_dir: &Path, request: Request) -> Response {
    let data_dir = data_dir.to_owned();
    tokio::task::spawn_blocking(move || ask(&data_dir, request)).await.unwrap().unwrap()
}

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let step = tokio::time::timeout(DEADLINE, async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(step.await.is_ok(), "it never happened: {what}");
}

#[tokio::test]
async fn an_all_in_one_knows_its_three_roles_and_answers_on_its_socket() {
    let folder = Folder::new();
    let config = config(&folder, "data");
    let data_dir = config.data_dir.clone();
    let node = Node::start(config.clone()).await.unwrap();
    assert!(node.wait_started(DEADLINE).await);
    eventually("both announce themselves", || node.nodes().len() == 2).await;
    let roles: Vec<_> = node.nodes().iter().map(|node| node.role).collect();
    assert_eq!(roles, [Role::Gateway, Role::Worker]);

    assert_eq!(asked(&data_dir, Request::Nodes).await, Response::Nodes(node.nodes()));
    let Response::Status(status) = asked(&data_dir, Request::Status).await else { panic!("no status") };
    assert!(status.ready && status.apps.is_empty() && status.roles.len() == 3, "{status:?}");
    assert!(status.counters.keys().any(|name| name.starts_with("tidegate_gateway_")));
    // Its three roles are one node, which is asked once.
    let all = statuses(Steered::Node { data_dir: data_dir.clone(), by: None }, &[None]).await;
    let [one] = &all[0][..] else { panic!("{all:?}") };
    assert_eq!(one.role, Role::Register);
    assert_eq!(
        one.answer.as_ref().map(|status| (status.pid, status.ready)),
        Some((std::process::id(), true))
    );

    let second = Node::start(config).await.unwrap_err();
    assert!(matches!(second, NodeError::DataDir(_)), "{second}");
    node.stop().await;
    assert!(ask(&data_dir, Request::Status).is_err());
}

/// A cluster's authority and the nodes that it makes.
struct Cluster {
    authority: Authority,
    folder: Folder,
}

impl Cluster {
    fn new() -> Self {
        Self { authority: Authority::create("prod").unwrap(), folder: Folder::new() }
    }

    fn config(&self, role: Role, name: &str, registers: Vec<SocketAddr>) -> Config {
        let identity = self.authority.issue(role, &NodeName::new(name).unwrap(), 1).unwrap();
        let mut config = config(&self.folder, name);
        config.name = identity.uri().name().clone();
        config.place = Place::Member { identity, registers };
        config.register_listen = loopback();
        config
    }

    async fn start(&self, role: Role, name: &str, registers: Vec<SocketAddr>) -> Node {
        Node::start(self.config(role, name, registers)).await.unwrap()
    }

    async fn names(&self, register: SocketAddr) -> Vec<String> {
        let operator = self.authority.issue(Role::Operator, &NodeName::new("ann").unwrap(), 1).unwrap();
        let nodes = operator::nodes(register, operator).await.unwrap();
        nodes.iter().map(|node| node.name.clone()).collect()
    }
}

#[tokio::test]
async fn nodes_of_a_cluster_find_each_other_and_outlive_their_register() {
    let cluster = Cluster::new();
    let register = cluster.start(Role::Register, "r", Vec::new()).await;
    let at = register.addresses().register.unwrap();
    let gateway = cluster.start(Role::Gateway, "g", vec![at]).await;
    let worker = cluster.start(Role::Worker, "w", vec![at]).await;
    assert!(gateway.wait_started(DEADLINE).await);
    assert!(worker.wait_started(DEADLINE).await);
    eventually("the worker sees the gateway", || worker.nodes().len() == 2).await;
    assert!(worker.wait_started(DEADLINE).await, "its links are up");
    assert_eq!(cluster.names(at).await, ["g", "w"]);

    register.stop().await;
    assert!(worker.is_ready(), "traffic goes on");
    let mut config = cluster.config(Role::Register, "r", Vec::new());
    config.register_listen = at;
    let register = Node::start(config).await.unwrap();
    eventually("both are back", || register.nodes().len() == 2).await;

    let late = cluster.start(Role::Worker, "late", vec![at]).await;
    assert!(late.wait_started(DEADLINE).await);
    eventually("the late one is listed", || gateway.nodes().len() == 3).await;
    gateway.stop().await;
    eventually("the gateway has left", || late.nodes().iter().all(|node| node.role == Role::Worker)).await;
    for node in [late, worker, register] {
        node.stop().await;
    }
}

/// What nodes say of how they do, each question after the other over one link.
async fn statuses(cluster: Steered, of: &[Option<&str>]) -> Vec<Vec<Told<Status>>> {
    let of: Vec<_> = of.iter().map(|name| name.map(|name| NodeName::new(name).unwrap())).collect();
    let ask = move || {
        let mut inquiry = Inquiry::new(cluster);
        let told = of.iter().map(|of| inquiry.statuses(of.as_ref()).unwrap()).collect();
        inquiry.close();
        told
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn every_node_of_a_cluster_says_how_it_does_and_one_that_hangs_is_named() {
    let cluster = Cluster::new();
    let register = cluster.start(Role::Register, "r", Vec::new()).await;
    let at = register.addresses().register.unwrap();
    let gateway = cluster.start(Role::Gateway, "g", vec![at]).await;
    let worker = cluster.start(Role::Worker, "w", vec![at]).await;
    assert!(gateway.wait_started(DEADLINE).await && worker.wait_started(DEADLINE).await);
    let identity = cluster.authority.issue(Role::Operator, &NodeName::new("ann").unwrap(), 1).unwrap();
    let from_outside = || Steered::Register { address: at, identity: identity.clone() };
    let data_dir = |name: &str| cluster.folder.path().join(name);
    let on_the_machine = Steered::Node { data_dir: data_dir("r"), by: None };
    let told = |all: &[Told<Status>]| -> Vec<_> {
        all.iter()
            .map(|it| (it.role, it.node.to_string(), it.answer.as_ref().map(|it| it.roles.clone())))
            .collect()
    };
    let every = [(Role::Register, "r"), (Role::Gateway, "g"), (Role::Worker, "w")]
        .map(|(role, name)| (role, name.to_owned(), Some(vec![role])));
    for way in [from_outside(), on_the_machine] {
        let asked = statuses(way, &[None, Some("w"), None]).await;
        assert_eq!(told(&asked[0]), every);
        assert_eq!(told(&asked[1]), every[2..]);
        assert_eq!(told(&asked[2]), every);
    }

    // Somebody with the certificate of a worker who takes no question.
    let identity = cluster.authority.issue(Role::Worker, &NodeName::new("x").unwrap(), 1).unwrap();
    let endpoint = Endpoint::bind(loopback(), &identity, &LinkSettings::default()).unwrap();
    let hangs = endpoint.connect(at, Role::Register).await.unwrap();
    let (control, _messages) = hangs.take_control().unwrap();
    let name = NodeName::new("x").unwrap();
    let info = NodeInfo { name, role: Role::Worker, address: None, gateway: None };
    control.send(Control::Announce(info).to_bytes()).unwrap();
    eventually("it is listed", || register.nodes().len() == 3).await;
    let asked = statuses(from_outside(), &[None]).await;
    assert_eq!(told(&asked[0][..3]), every);
    let missing = asked[0][3].missing.as_deref().unwrap();
    assert!(asked[0][3].node.as_str() == "x" && missing.contains("did not answer within"), "{missing}");

    let of_gateway = Steered::Node { data_dir: data_dir("g"), by: None };
    let nobody = move |cluster, of: Option<NodeName>| {
        Inquiry::new(cluster).statuses(of.as_ref()).unwrap_err().to_string()
    };
    let refused = tokio::task::spawn_blocking(move || nobody(of_gateway, None)).await.unwrap();
    assert!(refused.contains("--register IP:PORT"), "{refused}");
    let (way, stranger) = (from_outside(), NodeName::new("nobody").unwrap());
    let refused = tokio::task::spawn_blocking(move || nobody(way, Some(stranger))).await.unwrap();
    assert!(refused.contains("no node nobody") && refused.contains("r, g, w, x"), "{refused}");
    for node in [gateway, worker, register] {
        node.stop().await;
    }
}

#[tokio::test]
async fn the_register_of_a_cluster_keeps_modules_and_answers_operators() {
    let cluster = Cluster::new();
    let register = cluster.start(Role::Register, "r", Vec::new()).await;
    let at = register.addresses().register.unwrap();
    let identity = cluster.authority.issue(Role::Operator, &NodeName::new("ann").unwrap(), 1).unwrap();
    let operator = Operator::connect(at, identity.clone()).await.unwrap();
    // Only one with a store knows what it does not have.
    let error = requests::fetch_module(operator.link(), Digest::of(b"none")).await.unwrap_err();
    assert!(matches!(error, RequestError::Refused(Refusal::UnknownModule { .. })), "{error}");
    operator.close().await;

    let from_outside = Steered::Register { address: at, identity };
    let data_dir = cluster.folder.path().join("r");
    let on_the_machine = Steered::Node { data_dir, by: Some("bob".into()) };
    let app = AppName::new("chat").unwrap();
    let steer = move || {
        for steered in [from_outside, on_the_machine] {
            assert!(steered.apps().unwrap().is_empty());
            let module = ModuleRef::Bytes(vec![0; 1 << 20].into());
            let wish = Wish { app: app.clone(), module, canary: None, note: String::new() };
            for error in [
                steered.history(&app, 1).unwrap_err(),
                steered.deploy(wish, &mut |_| {}).unwrap_err(),
                steered.rollback(&app, None, String::new(), &mut |_| {}).unwrap_err(),
                steered.cancel(&app).unwrap_err(),
            ] {
                assert!(
                    matches!(&error, SteerError::Refused(_)) && error.to_string().contains("chat"),
                    "{error}"
                );
            }
        }
    };
    tokio::task::spawn_blocking(steer).await.unwrap();
    register.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_cluster_or_role_is_refused() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let register = cluster.start(Role::Register, "r", Vec::new()).await;
    let at = register.addresses().register.unwrap();
    let stranger = other.start(Role::Worker, "w", vec![at]).await;
    let worker = cluster.start(Role::Worker, "w", vec![at]).await;
    assert!(worker.wait_started(DEADLINE).await);
    assert!(!stranger.wait_started(Duration::ZERO).await);
    assert_eq!(register.nodes().len(), 1);

    let identity = cluster.authority.issue(Role::Worker, &NodeName::new("w").unwrap(), 1).unwrap();
    let error = operator::nodes(at, identity).await.unwrap_err().to_string();
    assert!(error.contains("tidegate cert operator"), "{error}");
    for node in [stranger, worker, register] {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_plugin_that_cannot_be_used_is_named_with_its_app() {
    let folder = Folder::new();
    let path = folder.path().join("t.toml");
    let text = |plugin: &str| {
        format!(
            "[[app]]\nname = \"chat\"\nplugin = \"{plugin}\"\nlisten = [\"ws://127.0.0.1:0\"]\n[worker]\ninstances = 1\n"
        )
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    for (plugin, says) in
        [("none.wasm", "none.wasm"), ("none", "does not exist"), (&*digest, "not in the store")]
    {
        let config = Config::parse(&text(plugin), &path, [], &crate::Overrides::default()).unwrap();
        let mut config = config;
        config.worker.engine.memory_mib = 64;
        let error = Node::start(config).await.unwrap_err().to_string();
        assert!(error.contains("app default/chat") && error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_before_anything_is_built() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!("[[app]]\nname = \"chat\"\nplugin = \"none\"\nlisten = [\"ws://{address}\"]\n");
    let path = folder.path().join("t.toml");
    let config = Config::parse(&text, &path, [], &crate::Overrides::default()).unwrap();
    let error = Node::start(config).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("`listen`"), "{error}");
}
