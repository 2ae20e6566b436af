//! What a register promises, over links in memory and over loopback UDP.

use std::net::SocketAddr;

use tidegate_base::{GatewayId, NodeName, Role};
use tidegate_link::certs::Authority;
use tidegate_link::{ControlRx, ControlTx, LinkError, LinkSettings, Peer, memory_pair};

use super::*;

fn peer(role: Role, name: &str) -> Peer {
    Peer { role, name: NodeName::new(name).unwrap(), address: None }
}

fn info(role: Role, name: &str) -> NodeInfo {
    let gateway = (role == Role::Gateway).then(|| GatewayId::new(7));
    NodeInfo { name: NodeName::new(name).unwrap(), role, address: None, gateway }
}

struct Client {
    link: Link,
    control: ControlTx,
    messages: ControlRx,
}

impl Client {
    fn new(register: &Register, role: Role, name: &str) -> Self {
        let (here, there) = memory_pair(peer(role, name), peer(Role::Register, "r"));
        register.add_link(there);
        Self::of(here)
    }

    fn of(link: Link) -> Self {
        let (control, messages) = link.take_control().unwrap();
        Self { link, control, messages }
    }

    fn send(&self, message: &Control) {
        self.control.send(message.to_bytes()).unwrap();
    }

    /// The names in the next list.
    async fn list(&mut self) -> Vec<String> {
        loop {
            match Control::from_bytes(&self.messages.recv().await.unwrap()).unwrap() {
                Control::Directory { nodes, .. } => {
                    return nodes.iter().map(|node| node.name.to_string()).collect();
                }
                // A worker also hears what its apps should run.
                Control::Apps { apps, .. } => assert!(apps.is_empty()),
                // And every node of the apps that were made at run time.
                Control::Catalog(part) => assert!(part.apps.is_empty()),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn refusal(&self) -> String {
        match self.link.closed().await {
            LinkError::ClosedByPeer { code: REFUSED, reason } => reason.to_string(),
            other => panic!("{other}"),
        }
    }
}

fn start() -> Register {
    Register::start(None, None, &Handle::current())
}

#[tokio::test]
async fn every_node_gets_the_whole_list_on_each_change() {
    let register = start();
    let mut gateway = Client::new(&register, Role::Gateway, "g");
    gateway.send(&Control::Announce(info(Role::Gateway, "g")));
    assert_eq!(gateway.list().await, ["g"]);
    let mut worker = Client::new(&register, Role::Worker, "w");
    worker.send(&Control::Announce(info(Role::Worker, "w")));
    assert_eq!(worker.list().await, ["g", "w"]);
    assert_eq!(gateway.list().await, ["g", "w"]);
    assert_eq!(register.nodes(), [info(Role::Gateway, "g"), info(Role::Worker, "w")]);

    worker.link.close(0, "done");
    assert_eq!(gateway.list().await, ["g"]);
    assert_eq!(register.nodes(), [info(Role::Gateway, "g")]);
}

#[tokio::test]
async fn a_node_that_comes_back_on_a_new_link_gets_the_list_and_stays_in_it() {
    let register = start();
    let mut first = Client::new(&register, Role::Worker, "w");
    first.send(&Control::Announce(info(Role::Worker, "w")));
    assert_eq!(first.list().await, ["w"]);
    let mut second = Client::new(&register, Role::Worker, "w");
    second.send(&Control::Announce(info(Role::Worker, "w")));
    assert_eq!(second.list().await, ["w"]);
    first.link.close(0, "done");
    second.send(&Control::Announce(info(Role::Worker, "w")));
    assert_eq!(second.list().await, ["w"]);
}

#[tokio::test]
async fn an_operator_gets_one_list_for_each_question() {
    let register = start();
    let mut worker = Client::new(&register, Role::Worker, "w");
    worker.send(&Control::Announce(info(Role::Worker, "w")));
    worker.list().await;
    let mut operator = Client::new(&register, Role::Operator, "ann");
    for _ in 0..2 {
        operator.send(&Control::ListNodes);
        assert_eq!(operator.list().await, ["w"]);
    }
}

#[tokio::test]
async fn who_pretends_to_be_another_is_refused_with_the_mend() {
    let register = start();
    let liar = Client::new(&register, Role::Worker, "w");
    liar.send(&Control::Announce(info(Role::Gateway, "w")));
    assert!(liar.refusal().await.contains("tidegate cert node gateway w"));
    let broken = Client::new(&register, Role::Worker, "w");
    broken.control.send(vec![250, 1, 2]).unwrap();
    assert!(broken.refusal().await.contains("upgrade"));
    assert!(register.nodes().is_empty());
}

#[tokio::test]
async fn who_says_nothing_for_ten_seconds_is_refused() {
    let register = start();
    let silent = Client::new(&register, Role::Worker, "w");
    assert!(silent.refusal().await.contains("within 10 s"));
}

#[tokio::test]
async fn dropping_the_register_closes_its_links() {
    let register = start();
    let mut worker = Client::new(&register, Role::Worker, "w");
    worker.send(&Control::Announce(info(Role::Worker, "w")));
    worker.list().await;
    drop(register);
    assert!(worker.link.closed().await.to_string().contains("the register is stopping"));
}

#[tokio::test]
async fn nodes_of_the_cluster_are_served_over_quic() {
    let authority = Authority::create("prod").unwrap();
    let bind = |role, name: &str| {
        let identity = authority.issue(role, &NodeName::new(name).unwrap(), 1).unwrap();
        Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &identity, &LinkSettings::default()).unwrap()
    };
    let at = bind(Role::Register, "r");
    let _register = Register::start(Some(at.clone()), None, &Handle::current());
    let from = bind(Role::Worker, "w");
    let link = from.connect(at.local_addr().unwrap(), Role::Register).await.unwrap();
    let mut worker = Client::of(link);
    worker.send(&Control::Announce(info(Role::Worker, "w")));
    assert_eq!(worker.list().await, ["w"]);
    worker.send(&Control::Announce(info(Role::Worker, "other")));
    assert!(worker.refusal().await.contains("its certificate is that of worker w"));
}
