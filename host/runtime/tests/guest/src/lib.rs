//! A plugin for the runtime's own tests: the first word of a message says what to do.

wit_bindgen::generate!({
    path: "../../../../sdk/wit",
    inline: "
        package tests:runtime;
        world guest {
            include tidegate:plugin/with-worker-start@0.1.0;
            include tidegate:plugin/with-connect@0.1.0;
            include tidegate:plugin/with-websocket-connect@0.1.0;
            include tidegate:plugin/with-message@0.1.0;
            include tidegate:plugin/with-close@0.1.0;
            include tidegate:plugin/with-timer@0.1.0;
            include tidegate:plugin/with-worker-stop@0.1.0;
            include tidegate:plugin/with-save@0.1.0;
            include tidegate:plugin/with-restore@0.1.0;
        }
    ",
    world: "tests:runtime/guest",
    generate_all,
});

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use exports::tidegate::plugin::{
    close, connect, message, restore, save, timer, websocket_connect, worker_start, worker_stop,
};
use tidegate::plugin::types::{
    Audience, ClientFields, ClientId, CloseInfo, LogLevel, Message, MessageKind, StartInfo, StopReason,
    UpgradeDecision, UpgradeRequest,
};
use tidegate::plugin::{gateway, log, query, settings, timers, turn};

struct Guest;

impl worker_start::Guest for Guest {
    fn on_worker_start(info: StartInfo) {
        let line = format!(
            "start {} of {} on {} v{} {:?}",
            info.slot, info.slots, info.worker, info.version, info.reason
        );
        log::write(LogLevel::Info, &line);
    }
}

impl connect::Guest for Guest {
    fn on_connect(gateway: u64, connection: u32) {
        gateway::bind(ClientId { gateway, connection }, "somebody");
    }
}

impl websocket_connect::Guest for Guest {
    fn on_websocket_connect(_gateway: u64, _connection: u32, request: UpgradeRequest) -> UpgradeDecision {
        if request.path == "/refuse" {
            return UpgradeDecision::Refuse((403, format!("{:?} {:?}", request.query, request.cookies)));
        }
        UpgradeDecision::Accept(request.protocols.into_iter().next())
    }
}

impl message::Guest for Guest {
    fn on_message(gateway: u64, connection: u32, kind: MessageKind, payload: Vec<u8>) {
        if kind == MessageKind::Binary {
            return gateway::send_to_client(gateway, connection, kind, &payload);
        }
        let text = String::from_utf8(payload).unwrap();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let client = ClientId { gateway, connection };
        let reply =
            |text: &str| gateway::send_to_client(gateway, connection, MessageKind::Text, text.as_bytes());
        match word {
            "echo" => reply(rest),
            "trap" => trap_here(rest),
            "spin" => spin_forever(),
            "reply-spin" => {
                reply(rest);
                spin_forever();
            }
            "fail-spin" => {
                turn::fail(rest);
                spin_forever();
            }
            "burn" => reply(&burn(rest.parse().unwrap()).to_string()),
            "grow" => reply(&grow(rest.parse().unwrap()).to_string()),
            "balloon" => balloon(),
            "count" => reply(&query::count_clients(&Audience::All).value.to_string()),
            "ask-burn" => {
                let (times, rounds) = rest.split_once(' ').unwrap();
                for _ in 0..times.parse::<u32>().unwrap() {
                    query::count_clients(&Audience::All);
                    burn(rounds.parse().unwrap());
                }
                reply("done");
            }
            "queries" => queries(client),
            "commands" => commands(client),
            "keep" => STATE.set(rest.into()),
            "keep-bytes" => STATE.set(vec![7; rest.parse().unwrap()]),
            "kept" => reply(&String::from_utf8(STATE.with_borrow(Clone::clone)).unwrap()),
            "print" => println!("{rest}"),
            "print-part" => print!("{rest}"),
            "shout" => eprintln!("{rest}"),
            "flood" => (0..10_000).for_each(|n| println!("line {n} {}", "x".repeat(100))),
            "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap())),
            "fail" => turn::fail(rest),
            "context" => reply(&format!("{:?} {:?}", turn::addresses(), turn::session())),
            "settings" => reply(&format!("{:?} {:?}", settings::get(rest), settings::all())),
            "timer" => timers::set(rest, 5, 0),
            "crowd" => gateway::send(&Audience::Clients(vec![client; 65_537]), &[], MessageKind::Text, b"x"),
            "environment" => reply(&format!(
                "{:?} {}",
                std::env::vars().collect::<Vec<_>>(),
                std::fs::read_dir("/").is_err()
            )),
            "exit" => std::process::exit(3),
            _ => turn::fail("what?"),
        }
    }
}

impl close::Guest for Guest {
    fn on_close(gateway: u64, connection: u32, info: CloseInfo) {
        let text = format!(
            "{gateway}/{connection} {:?} {:?} {:?} {:?}",
            info.reason, info.uid, info.groups, info.session
        );
        log::write(LogLevel::Debug, &text);
    }
}

impl timer::Guest for Guest {
    fn on_timer(key: String) {
        timers::cancel(&key);
        log::write(LogLevel::Warn, &format!("timer {key}"));
    }
}

impl worker_stop::Guest for Guest {
    fn on_worker_stop(reason: StopReason) {
        log::write(LogLevel::Trace, &format!("stop {reason:?}"));
    }
}

thread_local! {
    /// What `save` hands over. Some states say what it, or `restore` that gets them, does first.
    static STATE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl save::Guest for Guest {
    fn save() -> Vec<u8> {
        let state = STATE.with_borrow(Clone::clone);
        if let Some(word) = state.strip_prefix(b"save ") {
            hand_over(word);
        }
        state
    }
}

impl restore::Guest for Guest {
    fn restore(state: Vec<u8>) {
        if let Some(word) = state.strip_prefix(b"restore ") {
            hand_over(word);
        }
        STATE.set(state);
    }
}

fn hand_over(word: &[u8]) {
    let client = ClientId { gateway: 1, connection: 2 };
    match word {
        b"trap" => trap_here("with its state"),
        b"spin" => spin_forever(),
        b"fail" => turn::fail("it does not fit"),
        b"send" => gateway::send_to_client(1, 2, MessageKind::Text, b"hi"),
        b"join" => gateway::join(client, "red"),
        b"timer" => timers::set("tick", 5, 0),
        b"cancel" => timers::cancel("tick"),
        b"ask" => assert_eq!(query::count_clients(&Audience::All).value, 0),
        _ => turn::fail("what?"),
    }
}

#[inline(never)]
fn trap_here(reason: &str) {
    panic!("told to trap: {reason}");
}

#[inline(never)]
fn spin_forever() {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

#[inline(never)]
fn burn(rounds: u64) -> u64 {
    (0..rounds).fold(0, |sum, n| black_box(sum ^ n.wrapping_mul(31)))
}

fn grow(mebibytes: usize) -> bool {
    core::arch::wasm32::memory_grow(0, mebibytes * 16) != usize::MAX
}

fn balloon() {
    let mut all = Vec::new();
    loop {
        all.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn queries(client: ClientId) {
    let answer = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        query::count_clients(&Audience::All),
        query::count_uids(&Audience::Uids(vec!["a".into()])),
        query::list_clients(&Audience::Clients(vec![client])),
        query::list_uids(&Audience::Groups(vec!["g".into()])),
        query::list_groups(&Audience::All),
        query::select(&Audience::All, ClientFields::UID | ClientFields::SESSION),
        query::count_by_group(&["g".into(), "h".into()]),
    );
    gateway::send_to_client(client.gateway, client.connection, MessageKind::Text, answer.as_bytes());
}

fn commands(client: ClientId) {
    let groups = Audience::Groups(vec!["red".into(), "grün".into()]);
    gateway::send(&groups, &[client], MessageKind::Text, b"hello");
    gateway::send(&Audience::All, &[], MessageKind::Raw, &[0, 1, 2]);
    let farewell = Message { kind: MessageKind::Text, payload: b"bye".to_vec() };
    gateway::close(&Audience::Uids(vec!["u".into()]), &[client], 3000, "because", Some(&farewell));
    gateway::close(&Audience::All, &[], 1000, "", None);
    gateway::destroy(&Audience::Clients(vec![client, client]), &[]);
    gateway::bind(client, "me");
    gateway::unbind(client);
    gateway::join(client, "red");
    gateway::leave(client, "red");
    gateway::disband("red");
    gateway::set_session(client, Some("{}"));
    gateway::set_session(client, None);
    gateway::update_session(client, "{\"a\":1}");
    timers::set("tick", 1000, 20);
    timers::cancel("tick");
}

export!(Guest);
