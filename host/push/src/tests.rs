//! A pusher and gateways that tests play, joined in memory.

use std::time::Duration;

use tidegate_base::{Answer, Audience, ClientId, Message, MessageKind, Role};
use tidegate_link::{LaneRx, LaneTx, Peer, memory_pair};
use tidegate_wire::command_lane::{Asked, CommandHello};
use tidegate_wire::{CommandLane, FrameError, RawFrame};

use super::*;

const A: GatewayId = GatewayId::new(1);
const B: GatewayId = GatewayId::new(2);

fn app() -> AppName {
    AppName::new("chat").unwrap()
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn pusher(settings: PushSettings) -> Pusher {
    Pusher::start(settings, &Handle::current())
}

fn quick() -> PushSettings {
    PushSettings { wait: Duration::from_millis(50), ..PushSettings::default() }
}

/// What a played gateway does with a frame.
type Says = fn(&mut CommandLane, Asked<'_>);

fn counts(lane: &mut CommandLane, asked: Asked<'_>) {
    match asked {
        Asked::Command(Command::Disband(_)) => lane.refused("not that"),
        Asked::Command(_) => lane.reached(2),
        Asked::Query(_) => lane.answer(&Answer::Count(5)),
    }
}

fn says_nothing(_: &mut CommandLane, _: Asked<'_>) {}

/// Links a gateway of this id, which lives as long as what this returns.
async fn gateway(pusher: &Pusher, id: GatewayId, says: Says) -> Link {
    let peer = |role, text: &str| Peer { role, name: name(text), address: None };
    let (ours, theirs) =
        memory_pair(peer(Role::Register, "r"), peer(Role::Gateway, &format!("gateway-{}", id.get())));
    let (control, _) = theirs.take_control().unwrap();
    control.send(Control::Gateway { id }.to_bytes()).unwrap();
    let before = pusher.linked().0;
    pusher.add_link(ours);
    while pusher.linked().0 == before {
        tokio::task::yield_now().await;
    }
    let link = theirs.clone();
    tokio::spawn(async move {
        while let Ok((tx, rx)) = theirs.accept_lane().await {
            tokio::spawn(play(id, says, tx, rx));
        }
    });
    link
}

async fn play(id: GatewayId, says: Says, tx: LaneTx, mut rx: LaneRx) {
    let (mut lane, mut bytes, mut hello) = (CommandLane::default(), Vec::new(), None);
    while let Ok(chunk) = rx.recv().await {
        bytes.extend_from_slice(&chunk);
        let mut rest = &bytes[..];
        while let Some((frame, used)) = RawFrame::split(rest).unwrap() {
            rest = &rest[used..];
            match &hello {
                None => hello = Some(CommandHello::decode(&frame).unwrap()),
                // Who says nothing does not count what it hears either.
                Some(_) => match lane.read(&frame, id) {
                    Ok(asked) => says(&mut lane, asked),
                    Err(error) => assert!(matches!(error, FrameError::Number { .. }), "{error}"),
                },
            }
        }
        bytes = rest.to_vec();
        match &hello {
            Some(hello) if hello.app != app() => drop(tx.send(CommandLane::no_app())),
            _ => drop(lane.take_batch().map(|batch| tx.send(batch))),
        }
    }
}

fn hi(to: Audience<'_>) -> Command<'_> {
    Command::Send { to, except: vec![], message: Message { kind: MessageKind::Text, payload: b"hi" } }
}

fn whys(missing: &[Missing]) -> Vec<(GatewayId, Why)> {
    let mut whys: Vec<_> = missing.iter().map(|missing| (missing.gateway, missing.why)).collect();
    whys.sort_unstable();
    whys
}

#[tokio::test]
async fn commands_reach_the_gateways_that_they_concern_and_their_clients_are_counted() {
    let pusher = pusher(PushSettings::default());
    let _links = (gateway(&pusher, A, counts).await, gateway(&pusher, B, counts).await);
    let one = ClientId { gateway: B, connection: 1 };
    let gone = ClientId { gateway: GatewayId::new(9), connection: 1 };
    let commands = [
        hi(Audience::All),
        Command::Join(one, "g".into()),
        Command::Unbind(gone),
        Command::Disband("g".into()),
        hi(Audience::Clients(vec![one, gone])),
    ];
    let pushed = pusher.push(&app(), &commands).await.unwrap();
    let expected = [
        Outcome::Reached(4),
        Outcome::Reached(2),
        Outcome::Reached(0),
        Outcome::Refused("not that".into()),
        Outcome::Reached(2),
    ];
    assert_eq!((pushed.outcomes, pushed.missing), (expected.to_vec(), vec![]));
    let answered = pusher.ask(&app(), &Query::CountClients(Audience::All)).await.unwrap();
    assert_eq!((answered.answer, answered.missing), (Answer::Count(10), vec![]));
}

#[tokio::test]
async fn who_does_not_answer_in_time_or_is_not_linked_is_named_and_the_others_count() {
    let pusher = pusher(quick());
    let _links = (gateway(&pusher, A, counts).await, gateway(&pusher, B, says_nothing).await);
    let away = GatewayId::new(3);
    pusher.list(&[(A, name("a")), (B, name("b")), (away, name("c"))]);
    let pushed = pusher.push(&app(), &[hi(Audience::All)]).await.unwrap();
    assert_eq!(pushed.outcomes, [Outcome::Reached(2)]);
    assert_eq!(whys(&pushed.missing), [(B, Why::Late), (away, Why::NotLinked)]);
    let answered = pusher.ask(&app(), &Query::CountClients(Audience::All)).await.unwrap();
    assert_eq!(answered.answer, Answer::Count(5));
    assert_eq!(whys(&answered.missing), [(B, Why::Late), (away, Why::NotLinked)]);
    // It has left the cluster: nobody misses it.
    pusher.list(&[(A, name("a"))]);
    let pushed = pusher.push(&app(), &[hi(Audience::All)]).await.unwrap();
    assert_eq!(whys(&pushed.missing), [(B, Why::Late)]);
}

#[tokio::test]
async fn a_gateway_that_hangs_costs_one_whole_wait_until_it_says_something() {
    let wait = Duration::from_millis(600);
    let pusher = pusher(PushSettings { wait, ..PushSettings::default() });
    let (app, other, commands) = (app(), AppName::new("other").unwrap(), [hi(Audience::All)]);
    let _counts = gateway(&pusher, A, counts).await;
    let link = gateway(&pusher, B, says_nothing).await;
    let pushed = async || {
        let asked = Instant::now();
        let pushed = pusher.push(&app, &commands).await.unwrap();
        assert_eq!(pushed.outcomes, [Outcome::Reached(2)], "the other one has it");
        assert_eq!(whys(&pushed.missing), [(B, Why::Late)]);
        asked.elapsed()
    };
    assert!(pushed().await >= wait);
    for _ in 0..3 {
        let took = pushed().await;
        assert!(took >= wait / SILENT_SHARE && took < wait, "{took:?}");
    }
    // It says something, if only that it has no such app: it is waited for again.
    assert_eq!(pusher.push(&other, &commands).await, Err(PushError::NoSuchApp(other)));
    assert!(pushed().await >= wait);
    assert!(pushed().await < wait);
    // So it is when it has another link.
    link.close(0, "it is cut");
    while pusher.linked().0 > 1 {
        tokio::task::yield_now().await;
    }
    let _link = gateway(&pusher, B, says_nothing).await;
    assert!(pushed().await >= wait);
}

#[tokio::test]
async fn a_link_that_is_lost_ends_the_wait_at_once_and_a_new_one_is_used() {
    let pusher = pusher(PushSettings { wait: Duration::from_secs(3600), ..PushSettings::default() });
    let link = gateway(&pusher, A, says_nothing).await;
    pusher.list(&[(A, name("a"))]);
    let (app, commands) = (app(), [hi(Audience::All)]);
    let (pushed, ()) = tokio::join!(pusher.push(&app, &commands), async {
        tokio::task::yield_now().await;
        link.close(0, "it is cut");
    });
    assert_eq!(whys(&pushed.unwrap().missing), [(A, Why::Lost)]);
    while pusher.linked().0 > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(whys(&pusher.push(&app, &commands).await.unwrap().missing), [(A, Why::NotLinked)]);
    let _link = gateway(&pusher, A, counts).await;
    assert_eq!(pusher.push(&app, &commands).await.unwrap().outcomes, [Outcome::Reached(2)]);
}

#[tokio::test]
async fn a_gateway_that_owes_too_many_answers_gets_nothing_more() {
    let pusher = pusher(PushSettings { in_flight_max: 3, ..quick() });
    let _link = gateway(&pusher, A, says_nothing).await;
    let two = [hi(Audience::All), hi(Audience::All)];
    assert_eq!(whys(&pusher.push(&app(), &two).await.unwrap().missing), [(A, Why::Late)]);
    assert_eq!(whys(&pusher.push(&app(), &two).await.unwrap().missing), [(A, Why::Busy)]);
    assert_eq!(whys(&pusher.push(&app(), &two[..1]).await.unwrap().missing), [(A, Why::Late)]);
}

#[tokio::test]
async fn lanes_that_nobody_needs_make_room_and_those_in_use_do_not() {
    let pusher = pusher(PushSettings { lanes_max: 1, ..quick() });
    let _link = gateway(&pusher, A, counts).await;
    let other = AppName::new("other").unwrap();
    for _ in 0..3 {
        assert_eq!(pusher.push(&app(), &[hi(Audience::All)]).await.unwrap().outcomes, [Outcome::Reached(2)]);
        let nobody = pusher.push(&other, &[hi(Audience::All)]).await;
        assert_eq!(nobody, Err(PushError::NoSuchApp(other.clone())));
    }
    pusher.shared.table.lock().sweep(Instant::now() + Duration::from_secs(100), Duration::from_secs(60));
    assert_eq!(pusher.push(&app(), &[hi(Audience::All)]).await.unwrap().missing, []);
}

#[tokio::test]
async fn what_is_no_command_is_refused_with_its_number_and_nothing_is_sent() {
    let pusher = pusher(PushSettings::default());
    let nobody = pusher.push(&app(), &[hi(Audience::All)]).await;
    assert_eq!(nobody, Err(PushError::NoGateway));
    let _link = gateway(&pusher, A, says_nothing).await;
    let long = "x".repeat(256);
    let commands = [hi(Audience::All), Command::Disband(long.as_str().into())];
    let error = InvalidCommand::Name(256);
    assert_eq!(pusher.push(&app(), &commands).await, Err(PushError::Command { index: 1, error }));
    let payload = vec![0; PAYLOAD_BYTES_MAX + 1];
    let message = Message { kind: MessageKind::Binary, payload: &payload };
    let huge = [Command::Send { to: Audience::All, except: vec![], message }];
    assert!(matches!(pusher.push(&app(), &huge).await, Err(PushError::TooLarge { index: 0, .. })));
}

#[tokio::test]
async fn what_is_for_one_gateway_is_given_to_no_other() {
    let pusher = pusher(PushSettings::default());
    let (_a, _b) = (gateway(&pusher, A, counts).await, gateway(&pusher, B, counts).await);
    let message = Message { kind: MessageKind::Text, payload: b"hello" };
    let all = [Command::Send { to: Audience::All, except: vec![], message }];
    assert_eq!(pusher.push(&app(), &all).await.unwrap().outcomes, [Outcome::Reached(4)]);
    assert_eq!(pusher.push_to(B, &app(), &all).await.unwrap().outcomes, [Outcome::Reached(2)]);
    let query = Query::CountClients(Audience::All);
    assert_eq!(pusher.ask_at(A, &app(), &query).await.unwrap().answer, Answer::Count(5));
    let gone = GatewayId::new(77);
    assert_eq!(pusher.push_to(gone, &app(), &all).await, Err(PushError::NoGateway));
    assert_eq!(pusher.ask_at(gone, &app(), &query).await, Err(PushError::NoGateway));
}
