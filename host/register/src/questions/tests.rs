use tidegate_base::GatewayId;
use tidegate_link::{ControlRx, ControlTx, Peer, memory_pair};
use tidegate_wire::control::{Control, NodeInfo};
use tidegate_wire::request::{Reply, Request};
use tokio::runtime::Handle;

use super::*;
use crate::Register;
use crate::lane::STEP_MAX;

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn peer(role: Role, of: &str) -> Peer {
    Peer { role, name: name(of), address: None }
}

/// A node that the register has in its list.
struct Node {
    link: Link,
    /// Open as long as the node is there.
    _control: (ControlTx, ControlRx),
}

async fn node(register: &Register, role: Role, of: &str) -> Node {
    let (here, there) = memory_pair(peer(role, of), peer(Role::Register, "r"));
    register.add_link(there);
    let (control, mut messages) = here.take_control().unwrap();
    let gateway = (role == Role::Gateway).then(|| GatewayId::new(7));
    let info = NodeInfo { name: name(of), role, address: None, gateway };
    control.send(Control::Announce(info).to_bytes()).unwrap();
    messages.recv().await.unwrap();
    Node { link: here, _control: (control, messages) }
}

/// Answers the questions of a link with this.
fn answers(node: &Node, reply: impl Fn(NodeQuestion) -> NodeReply + Send + 'static) {
    let link = node.link.clone();
    tokio::spawn(async move {
        while let Ok(lane) = link.accept_lane().await {
            let mut lane = RequestLane::answering(lane, STEP_MAX);
            let question: NodeQuestion = lane.receive().await.unwrap();
            lane.send(&reply(question)).unwrap();
        }
    });
}

struct Echo;

impl Respondent for Echo {
    fn answer(&self, question: NodeQuestion) -> Said<'_> {
        Box::pin(async move { Ok(format!("own {}", question.name())) })
    }
}

fn start() -> Register {
    Register::start(None, None, &Handle::current())
}

fn said(answers: &[NodeAnswer]) -> Vec<(String, Result<String, String>)> {
    let said = |it: &NodeAnswer| {
        let node = format!("{} {}", it.node.role, it.node.name);
        (node, it.answer.clone().map_err(|why| why.to_string()))
    };
    answers.iter().map(said).collect()
}

#[tokio::test]
async fn all_nodes_answer_but_those_that_hang_refuse_or_are_gone() {
    let register = start();
    let (well, refuses) =
        (node(&register, Role::Gateway, "g").await, node(&register, Role::Worker, "no").await);
    answers(&well, |question| NodeReply::Answer(question.name().to_owned()));
    answers(&refuses, |_| NodeReply::Refused("not today".into()));
    let _hangs = node(&register, Role::Worker, "w").await;
    register.answer_as(Own { name: name("r"), roles: vec![Role::Register], respondent: Arc::new(Echo) });
    let began = Instant::now();
    let all = register.asker().ask(NodeQuestion::Status, None).await.unwrap();
    assert!(began.elapsed() >= NODE_WAIT);
    let said = said(&all);
    assert_eq!(said[0], ("register r".into(), Ok("own status".into())));
    assert_eq!(said[1], ("gateway g".into(), Ok("status".into())));
    assert_eq!(said[2], ("worker no".into(), Err("it does not answer: not today".into())));
    assert_eq!(all[3].answer, Err(late()));
    assert_eq!((said.len(), said[3].0.as_str()), (4, "worker w"));
}

#[tokio::test]
async fn one_node_is_asked_by_its_name_and_a_node_with_a_register_once() {
    let register = start();
    let links = (node(&register, Role::Gateway, "all").await, node(&register, Role::Worker, "all").await);
    let other = node(&register, Role::Worker, "w").await;
    answers(&other, |_| NodeReply::Answer("w".into()));
    let roles = vec![Role::Register, Role::Gateway, Role::Worker];
    register.answer_as(Own { name: name("all"), roles, respondent: Arc::new(Echo) });
    let ask = async |of: Option<&str>| register.asker().ask(NodeQuestion::Status, of.map(name)).await;
    let names =
        |answers: Vec<NodeAnswer>| answers.iter().map(|it| it.node.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(ask(None).await.unwrap()), ["all", "w"]);
    assert_eq!(names(ask(Some("w")).await.unwrap()), ["w"]);
    let refusal = ask(Some("x")).await.unwrap_err();
    assert_eq!(refusal, Refusal::UnknownNode { name: name("x"), known: vec![name("all"), name("w")] });
    drop(links);
    let asker = register.asker();
    drop(register);
    assert!(matches!(asker.ask(NodeQuestion::Status, None).await, Err(Refusal::Unavailable { .. })));
}

#[tokio::test]
async fn only_operators_have_nodes_asked() {
    let register = start();
    let worker = node(&register, Role::Worker, "w").await;
    answers(&worker, |_| NodeReply::Answer("fine".into()));
    let (operator, there) = memory_pair(peer(Role::Operator, "ann"), peer(Role::Register, "r"));
    register.add_link(there);
    let request = Request::AskNodes { question: NodeQuestion::Status, of: None };
    for (link, may) in [(&operator, true), (&worker.link, false), (&operator, true)] {
        let mut lane = RequestLane::asking(link.open_lane().await.unwrap(), STEP_MAX);
        lane.send(&request).unwrap();
        match lane.receive().await.unwrap() {
            Reply::Answer(answer) => {
                assert!(may && answer.answer == Ok("fine".into()), "{answer:?}");
                assert_eq!(lane.receive::<Reply>().await.unwrap(), Reply::Done);
            }
            Reply::Refused(Refusal::NotAllowed { reason }) => {
                assert!(!may && reason.contains("operator"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_register_has_a_bounded_number_of_rounds_under_way() {
    let register = start();
    let _hangs = node(&register, Role::Worker, "w").await;
    let asker = register.asker();
    let rounds: Vec<_> = (0..=ROUNDS_MAX)
        .map(|_| {
            let asker = asker.clone();
            tokio::spawn(async move { asker.ask(NodeQuestion::Status, None).await })
        })
        .collect();
    let mut late = 0;
    for round in rounds {
        match round.await.unwrap() {
            Ok(answers) => late += usize::from(answers[0].answer.is_err()),
            Err(refusal) => assert!(matches!(refusal, Refusal::TooMuch { .. }), "{refusal}"),
        }
    }
    assert!(late >= ROUNDS_MAX);
}
