//! The fake gateway keeps the contract's semantics, and the whole API reaches it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::testing::{self, FakeGateway};
use tidegate::*;

type Step = Box<dyn FnOnce(Client) -> Result>;
type Tell = Box<dyn FnOnce(Client)>;

thread_local! {
    static STEP: RefCell<Option<Step>> = const { RefCell::new(None) };
}

/// Does what the test says, in a turn of the client that speaks; reports its other callbacks to the group "watch".
#[derive(Default)]
struct Puppet {
    turns: u32,
}

#[tidegate::plugin]
impl Plugin for Puppet {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        self.turns += 1;
        match STEP.take() {
            Some(step) => step(client),
            None => bail!("nothing to do for {message}"),
        }
    }

    fn on_close(&mut self, client: Client, gone: CloseInfo) -> Result {
        let session = gone.session.as_json().unwrap_or("none").to_owned();
        gateway::send_to_group(
            "watch",
            format!("{client} {} {:?} {:?} {session}", gone.reason.as_str(), gone.uid, gone.groups),
        );
        Ok(())
    }

    fn on_timer(&mut self, key: String) -> Result {
        if key == "bad" {
            Err("bad timer")?;
        }
        gateway::send_to_all(format!("timer {key}"));
        Ok(())
    }
}

fn start() -> FakeGateway<Puppet> {
    testing::start()
}

fn act(t: &mut FakeGateway<Puppet>, client: ClientId, step: impl FnOnce(Client) -> Result + 'static) {
    STEP.set(Some(Box::new(step)));
    t.text(client, "go");
}

fn tell(t: &mut FakeGateway<Puppet>, client: ClientId, what: impl FnOnce(Client) + 'static) {
    act(t, client, |client| {
        what(client);
        Ok(())
    });
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Default)]
struct Person {
    name: String,
    #[serde(default)]
    age: u32,
}

#[test]
fn an_audience_is_a_set_less_the_excepted_ones() {
    let mut t = start();
    let [a, b, c] = [t.connect(), t.connect_to(2), t.connect()];
    act(&mut t, a, move |_| {
        gateway::join_group([a, b], ["x", "y"]);
        gateway::send_to_group(["x", "y"], "once");
        gateway::all().except(b).except([c]).send("but two");
        gateway::client([a, a, b]).send("twice named");
        gateway::client(None::<ClientId>).send("nobody");
        gateway::group("none").send("nobody");
        Ok(())
    });
    assert_eq!(t.received(a), ["once", "but two", "twice named"]);
    assert_eq!(t.received(b), ["once", "twice named"]);
    assert_eq!(t.received(c), [""; 0]);
}

#[test]
fn text_bytes_and_raw_bytes_arrive_as_what_they_are() {
    let mut t = start();
    let a = t.connect();
    act(&mut t, a, |client| {
        client.send("text");
        client.send(&[1, 2]);
        gateway::send_to_current_client(Raw(b"raw"));
        gateway::send_to_client(client, vec![3]);
        client.send_json(&json!({"n": 1}));
        gateway::all().send_json(&[1]);
        Ok(())
    });
    let expected = [
        Message::Text("text".into()),
        Message::Binary(vec![1, 2]),
        Message::Binary(b"raw".to_vec()),
        Message::Binary(vec![3]),
        Message::Text(r#"{"n":1}"#.into()),
        Message::Text("[1]".into()),
    ];
    assert_eq!(t.received(a), expected);
}

#[test]
fn a_failed_turn_leaves_nothing_behind_but_what_left_before_a_query() {
    let mut t = start();
    let a = t.connect();
    act(&mut t, a, |client| {
        client.send("before");
        assert!(client.is_online()?);
        client.send("after");
        client.bind_uid(7);
        timers::set("t", Duration::from_secs(1));
        Err("no")?
    });
    assert_eq!(t.received(a), ["before"]);
    assert_eq!(t.uid(a), None);
    assert!(t.timers().is_empty());
    assert_eq!(t.failures(), ["no"]);
}

#[test]
fn bad_arguments_fail_the_turn() {
    let long = "x".repeat(256);
    let steps: Vec<(Tell, &str)> = vec![
        (Box::new(|client| client.join_group("")), "1 to 255 bytes"),
        (Box::new(move |client| client.bind_uid(long)), "this one has 256"),
        (Box::new(|client| client.bind_uid(["a", "b"])), "exactly one uid"),
        (Box::new(|client| client.set_session(&[1, 2])), "a session is a JSON object"),
        (Box::new(|client| client.update_session(&"x".repeat(100))), "a session is a JSON object"),
        (Box::new(|client| client.set_session(&json!({"x": "y".repeat(70_000)}))), "at most 65536"),
        (Box::new(|client| client.close_with(Close::new().code(1001))), "reserved"),
        (Box::new(|client| client.close_with(Close::new().reason("x".repeat(124)))), "123 bytes"),
        (Box::new(|client| client.send(vec![0; 1 << 21])), "a payload has"),
        (Box::new(|_| (0..17).for_each(|_| gateway::send_to_all(vec![0; 1 << 20]))), "the turn's commands"),
        (Box::new(|_| timers::every("t", Duration::ZERO)), "every 1 ms"),
        (Box::new(|_| timers::set("", Duration::ZERO)), "1 to 255 bytes"),
        (Box::new(|client| gateway::client(vec![client; 65_537]).destroy()), "65537 entries"),
        (Box::new(|_| fail("by hand")), "by hand"),
    ];
    for (step, reason) in steps {
        let mut t = start();
        let a = t.connect();
        act(&mut t, a, move |client| {
            client.send("never");
            step(client);
            Ok(())
        });
        let failures = t.failures();
        assert!(failures.len() == 1 && failures[0].contains(reason), "{reason}: {failures:?}");
        assert_eq!(t.received(a), [""; 0], "{reason}");
        assert!(t.is_open(a), "{reason}");
    }
}

#[test]
fn a_group_too_many_is_refused_and_the_turn_goes_on() {
    let mut t = start();
    let a = t.connect();
    act(&mut t, a, |client| {
        client.join_group((0..1025).map(|n| n.to_string()).collect::<Vec<_>>());
        client.send("joined");
        Ok(())
    });
    assert_eq!(t.received(a), ["joined"]);
    let refused = t.failures();
    assert!(refused.len() == 1 && refused[0].contains("1024 groups"), "{refused:?}");
}

#[test]
fn the_current_client_is_wanted_where_there_is_one() {
    #[derive(Default)]
    struct Late;

    #[tidegate::plugin]
    impl Plugin for Late {
        fn on_message(&mut self, _: Client, _: Message) -> Result {
            timers::set("t", Duration::ZERO);
            Ok(())
        }

        fn on_timer(&mut self, _: String) -> Result {
            assert_eq!(current_client(), None);
            assert_eq!(session::<Person>()?, None);
            gateway::send_to_current_client("x");
            Ok(())
        }
    }

    let mut t = testing::start::<Late>();
    let a = t.connect();
    t.text(a, "");
    t.advance(Duration::ZERO);
    assert!(t.failures()[0].contains("no current client"));
}

#[test]
fn uids_and_groups_are_kept_and_asked_for() {
    let mut t = start();
    let [a, b, c] = [t.connect(), t.connect_to(2), t.connect()];
    act(&mut t, a, move |_| {
        gateway::bind_uid([a, b], "u");
        gateway::bind_uid(c, 0);
        gateway::join_group([a, c], "g");
        b.join_group(["g", "h"]);
        gateway::leave_group(c, "g");

        assert!(gateway::is_uid_online("0")?);
        assert!(!gateway::is_uid_online("gone")?);
        assert_eq!(gateway::is_uids_online(["u", "v"])?, map([("u", true), ("v", false)]));
        assert_eq!(gateway::get_client_id_by_uid("u")?, [a, b]);
        assert_eq!(gateway::batch_get_client_id_by_uid(["u", "v"])?, map([("u", vec![a, b]), ("v", vec![])]));
        assert_eq!(gateway::get_uid_by_client_id(c)?.as_deref(), Some("0"));
        assert_eq!(a.uid()?.as_deref(), Some("u"));
        assert_eq!(gateway::get_all_uid_list()?, ["0", "u"]);
        assert_eq!(gateway::get_all_uid_count()?, 2);
        assert_eq!(gateway::get_uid_list_by_group("g")?, ["u"]);
        assert_eq!(gateway::get_uid_count_by_group(["g", "h"])?, 1);
        assert_eq!(gateway::get_all_client_count()?, 3);
        assert_eq!(gateway::get_client_count_by_group("g")?, 2);
        assert_eq!(gateway::batch_get_client_id_count_by_group(["g", "no"])?, map([("g", 2), ("no", 0)]));
        assert_eq!(gateway::get_all_client_id_list()?, [a, c, b]);
        assert_eq!(gateway::get_client_id_list_by_group("h")?, [b]);
        assert_eq!(gateway::get_all_group_id_list()?, ["g", "h"]);
        let u = BTreeSet::from(["u".to_owned()]);
        assert_eq!(gateway::get_all_group_uid_list()?, map([("g", u.clone()), ("h", u)]));
        assert_eq!(gateway::get_all_group_uid_count()?, map([("g", 1), ("h", 1)]));
        assert_eq!(gateway::get_all_group_client_id_list()?, map([("g", vec![a, b]), ("h", vec![b])]));
        assert_eq!(gateway::get_all_group_client_id_count()?, map([("g", 2), ("h", 1)]));
        assert_eq!(gateway::get_online_client_ids([a, ClientId::new(9, 9).unwrap()])?, [a]);

        gateway::ungroup("g");
        gateway::unbind_uid(a);
        assert_eq!(gateway::all().groups()?, ["h"]);
        assert_eq!(gateway::uid("u").client_ids()?, [b]);
        Ok(())
    });
    assert_eq!((t.uid(a), t.groups(b)), (None, vec!["h"]));
}

#[test]
fn sessions_are_typed_merge_and_are_read_back_in_the_turn() {
    let mut t = start();
    let [a, b] = [t.connect(), t.connect()];
    act(&mut t, a, move |client| {
        assert_eq!(client.session::<Person>()?, None);
        client.set_session(&Person { name: "Ann".into(), age: 3 });
        client.update_session(&json!({"age": 4, "more": {"x": 1}}));
        assert_eq!(session::<Person>()?, Some(Person { name: "Ann".into(), age: 4 }));
        gateway::update_session(b, &json!({"name": "Bob"}));
        assert_eq!(gateway::get_session::<Person>(b)?, Some(Person { name: "Bob".into(), age: 0 }));
        let all = gateway::get_all_client_sessions()?;
        assert_eq!(all[&b].read::<Person>()?.unwrap().name, "Bob");
        b.join_group("g");
        assert_eq!(gateway::get_client_sessions_by_group("g")?.len(), 1);
        gateway::clear_session(b);
        assert_eq!(gateway::get_session::<Person>(b)?, None);
        Ok(())
    });
    assert_eq!(t.session(a), json!({"name": "Ann", "age": 4, "more": {"x": 1}}));
    act(&mut t, a, |client| {
        client.update_session(&json!({"more": {"y": 2}}));
        assert!(client.session::<Vec<u8>>().is_err());
        Ok(())
    });
    assert_eq!(t.session(a)["more"], json!({"x": 1, "y": 2}));
}

#[test]
fn a_client_kept_from_another_turn_says_so_instead_of_reading_the_wrong_session() {
    thread_local!(static KEPT: RefCell<Option<Client>> = const { RefCell::new(None) });
    let mut t = start();
    let [a, b] = [t.connect(), t.connect()];
    act(&mut t, a, |client| {
        KEPT.set(Some(client));
        assert!(client.addresses().is_some());
        Ok(())
    });
    act(&mut t, b, |_| {
        let kept = KEPT.take().unwrap();
        assert_eq!(kept.addresses(), None);
        assert!(kept.session::<Person>().unwrap_err().to_string().contains("gateway::get_session"));
        kept.send("still reaches it");
        Ok(())
    });
    assert_eq!(t.received(a), ["still reaches it"]);
}

#[test]
fn select_reads_only_what_is_asked_for() {
    let mut t = start();
    let a = t.connect();
    act(&mut t, a, |client| {
        client.bind_uid("u");
        client.join_group("g");
        client.set_session(&json!({"name": "Ann"}));
        let info = |fields| gateway::client(client).select(fields).map(|mut found| found.remove(0));
        assert_eq!(info(Fields::UID)?.uid.as_deref(), Some("u"));
        assert!(info(Fields::UID)?.groups.is_empty());
        assert_eq!(info(Fields::GROUPS | Fields::SESSION)?.groups, ["g"]);
        assert!(info(Fields::NONE)?.session.is_empty());
        assert_eq!(info(Fields::ALL)?.session.as_json(), Some(r#"{"name":"Ann"}"#));
        Ok(())
    });
}

#[test]
fn a_silent_gateway_is_named_and_never_guessed() {
    let mut t = start();
    let [a, b] = [t.connect(), t.connect_to(2)];
    t.silence(2);
    act(&mut t, a, move |_| {
        let partial = gateway::all().count().unwrap_err();
        assert_eq!((partial.value, partial.missing.as_slice()), (1, [2].as_slice()));
        assert_eq!(gateway::get_all_client_id_list().whatever_answered(), [a]);
        assert!(gateway::is_online(a)?);
        assert_eq!(gateway::get_all_group_client_id_count().unwrap_err().missing, [2]);
        b.send("commands still go there");
        gateway::is_online(b)?;
        Ok(())
    });
    assert!(t.failures()[0].contains("000000000002"));
    assert_eq!(t.received(b), ["commands still go there"]);
    t.unsilence(2);
    act(&mut t, a, |_| {
        gateway::all().count()?;
        Ok(())
    });
}

#[test]
fn closing_says_farewell_and_reports_what_was_left() {
    let mut t = start();
    let [a, b, c, d, e] = [(); 5].map(|()| t.connect());
    act(&mut t, e, move |client| {
        client.join_group("watch");
        b.bind_uid("u");
        b.join_group(["g", "h"]);
        b.set_session(&json!({"n": 1}));
        gateway::close_client_with(a, "bye");
        b.close_with(Close::new().code(4001).reason("kicked").farewell(&[1]));
        gateway::destroy_client(c);
        gateway::close_client(d);
        Ok(())
    });
    assert_eq!(t.received(a), ["bye"]);
    assert_eq!(t.received(b), [Message::Binary(vec![1])]);
    let closed = t.closed(b).unwrap();
    assert_eq!((closed.why, closed.code, closed.reason.as_str()), (CloseReason::Plugin, 4001, "kicked"));
    assert!([a, b, c, d].iter().all(|id| !t.is_open(*id)));
    let expected = [
        format!("{a} plugin None [] none"),
        format!(r#"{b} plugin Some("u") ["g", "h"] {{"n":1}}"#),
        format!("{c} plugin None [] none"),
        format!("{d} plugin None [] none"),
    ];
    assert_eq!(t.received(e), expected);

    tell(&mut t, e, |_| gateway::close_current_client());
    assert!(!t.is_open(e));
    let f = t.connect();
    tell(&mut t, f, |_| gateway::close_current_client_with("so long"));
    assert_eq!(t.received(f), ["so long"]);
    let g = t.connect();
    tell(&mut t, g, |_| gateway::destroy_current_client());
    t.lose(g, CloseReason::Network);
    t.text(g, "not there any more");
    assert_eq!(t.plugin().turns, 4);
}

#[test]
fn timers_run_in_order_repeat_and_are_cancelled() {
    let mut t = start();
    let a = t.connect();
    let second = Duration::from_secs(1);
    act(&mut t, a, move |_| {
        timers::set("late", second * 3);
        timers::every("tick", second * 2);
        timers::set_every("soon", Duration::ZERO, second * 4);
        timers::set("never", second);
        timers::cancel("never");
        timers::cancel("unknown");
        Ok(())
    });
    assert_eq!(t.timers(), ["late", "soon", "tick"]);
    t.advance(second * 5);
    let ran: Vec<_> = t.received(a).iter().map(ToString::to_string).collect();
    assert_eq!(ran, ["timer soon", "timer tick", "timer late", "timer soon", "timer tick"]);
    tell(&mut t, a, |_| timers::set("bad", Duration::ZERO));
    t.advance(Duration::ZERO);
    assert_eq!(t.failures(), ["bad timer"]);
    assert!(t.stop(StopReason::Shutdown).timers().is_empty());
}

#[test]
fn a_timer_without_on_timer_fails_the_turn() {
    #[derive(Default)]
    struct Deaf;

    #[tidegate::plugin]
    impl Plugin for Deaf {
        fn on_message(&mut self, _: Client, _: Message) -> Result {
            timers::set("t", Duration::ZERO);
            Ok(())
        }
    }

    let mut t = testing::start::<Deaf>();
    let a = t.connect();
    t.text(a, "");
    assert!(t.failures()[0].contains("no on_timer"));
}

#[test]
fn starting_and_stopping_learn_their_reasons_and_settings() {
    #[derive(Default)]
    struct Slot {
        greeting: String,
    }

    #[tidegate::plugin]
    impl Plugin for Slot {
        fn on_worker_start(&mut self, start: StartInfo) -> Result {
            self.greeting = settings::get("greeting").ok_or("set `greeting` in [app.settings]")?;
            info!("slot {} of {} on {}: {}", start.slot, start.slots, start.worker, start.reason.as_str());
            Ok(())
        }

        fn on_message(&mut self, client: Client, _: Message) -> Result {
            client.send(format!("{} {:?}", self.greeting, settings::all()));
            Ok(())
        }

        fn on_worker_stop(&mut self, reason: StopReason) -> Result {
            warn!("{}", reason.as_str());
            Ok(())
        }
    }

    let refused = testing::Setup::new().try_start::<Slot>().err().unwrap();
    assert!(refused.contains("greeting"));
    let start = StartInfo { slot: 1, slots: 2, worker: "w".into(), version: 3, reason: StartReason::Restart };
    let mut t = testing::Setup::new().setting("greeting", "hi").start_info(start).start::<Slot>();
    let a = t.connect();
    t.binary(a, [1]);
    assert_eq!(t.received(a), [r#"hi [("greeting", "hi")]"#]);
    let t = t.stop(StopReason::Swap);
    let lines: Vec<_> = t.log().iter().map(|(level, line)| (*level, line.as_str())).collect();
    assert_eq!(lines, [(log::Level::Info, "slot 1 of 2 on w: restart"), (log::Level::Warn, "swap")]);
}

#[test]
fn an_upgrade_is_refused_or_let_in_with_a_subprotocol_and_a_session() {
    #[derive(Default)]
    struct Door;

    #[tidegate::plugin]
    impl Plugin for Door {
        fn on_websocket_connect(&mut self, client: Client, request: UpgradeRequest) -> Result<Upgrade> {
            client.send("too early");
            client.set_session(
                &json!({"token": request.query("token"), "agent": request.header("User-Agent")}),
            );
            Ok(match request.path.as_str() {
                "/chat" if request.offers("chat") => Upgrade::accept_with("chat"),
                "/odd" => Upgrade::accept_with("not offered"),
                "/status" => Upgrade::refuse(200, ""),
                "/fail" => bail!("no"),
                _ => Upgrade::refuse(403, format!("no {}", request.cookie("who").unwrap_or("one"))),
            })
        }

        fn on_connect(&mut self, client: Client) -> Result {
            let addresses = client.addresses().ok_or("no addresses")?;
            client.send(format!("welcome by {}", addresses.protocol));
            Ok(())
        }

        fn on_message(&mut self, _: Client, _: Message) -> Result {
            Ok(())
        }
    }

    let request = |path: &str| UpgradeRequest {
        path: path.into(),
        query: vec![("token".into(), "t".into())],
        headers: vec![("user-agent".into(), "test".into())],
        cookies: vec![("who".into(), "Ann".into())],
        protocols: vec!["x".into(), "chat".into()],
    };
    let mut t = testing::start::<Door>();
    let a = t.connect_websocket(request("/chat")).unwrap();
    assert_eq!(t.received(a), ["welcome by ws"]);
    assert_eq!(t.subprotocol(a), Some("chat"));
    assert_eq!(t.session(a), json!({"token": "t", "agent": "test"}));
    let refused = t.connect_websocket(request("/else")).unwrap_err();
    assert_eq!((refused.status, refused.text.as_str()), (403, "no Ann"));
    assert_eq!(t.failures(), [""; 0]);
    for path in ["/odd", "/status", "/fail"] {
        assert_eq!(t.connect_websocket(request(path)).unwrap_err().status, 500);
    }
    assert_eq!(t.failures().len(), 3);
}

#[test]
#[should_panic(expected = "turns failed that the test did not ask for")]
fn a_failure_that_nobody_looks_at_fails_the_test() {
    let mut t = start();
    let a = t.connect();
    t.text(a, "nothing to do");
}

fn map<V>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> BTreeMap<String, V> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
