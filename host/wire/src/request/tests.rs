use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_base::{AppSpec, Label, NodeName, OnFailure, Quotas, Secret, Setting, Usage};

use super::*;
use crate::control::{Failure, Stage, Step, VersionRef, VersionTally};
use crate::question::{NoAnswer, NodeAnswer, NodeQuestion};
use crate::report::{Outcome, Tally};

fn app() -> AppName {
    AppName::new("chat").unwrap()
}

fn version(number: u32) -> VersionRef {
    VersionRef { number, digest: Digest::of(&number.to_le_bytes()) }
}

fn acme() -> Label {
    Label::new("acme").unwrap()
}

fn spec() -> AppSpec {
    let settings = [
        ("open".to_owned(), Setting::Plain("x".into())),
        ("key".to_owned(), Setting::Secret(Secret::new("y"))),
        ("other".to_owned(), Setting::Hidden),
    ];
    let routes = vec!["*.acme.example/chat".to_owned()];
    let on_failure = Some(OnFailure::Suspend);
    let (slots, require) = (Some(3), vec![acme()]);
    AppSpec { slots, routes, require, on_failure, settings: settings.into(), ..AppSpec::default() }
}

fn requests() -> Vec<Request> {
    let canary = Some(Canary { percent: 25, for_ms: 30_000, events_min: 100 });
    let (sent, note) = (Module::Sent { digest: Digest::of(b"x"), bytes: 1 }, "why".to_owned());
    vec![
        Request::Apps,
        Request::History { app: app(), limit: 20 },
        Request::Deploy { app: app(), module: sent, canary, note: note.clone() },
        Request::Deploy {
            app: app(),
            module: Module::Stored(Digest::of(b"")),
            canary: None,
            note: String::new(),
        },
        Request::Rollback { app: app(), to: Some(3), note },
        Request::Cancel { app: app() },
        Request::Fetch { digest: Digest::of(b"y") },
        Request::Tenants,
        Request::Manage(Order::Tenant { name: acme(), deed: TenantDeed::Create(Quotas::default()) }),
        Request::Manage(Order::App { name: app(), deed: AppDeed::Create(Box::new(spec())) }),
        Request::AskNodes { question: NodeQuestion::Status, of: NodeName::new("w").ok() },
    ]
}

fn replies() -> Vec<Reply> {
    let worker = NodeName::new("w").unwrap();
    let entry = HistoryEntry {
        version: version(2),
        again: Some(1),
        by: "ann".into(),
        note: "é".into(),
        at_ms: 7,
        canary: None,
        state: EntryState::Ended(Outcome::RolledBack { reason: "no".into() }),
        report: None,
    };
    let deploying = Deploying { version: version(3), by: "bob".into(), at_ms: 1, doing: "switching".into() };
    let slots = vec![Some(2), None];
    let failure = Some(Failure::new(Some(1), Stage::Restore, "no".into()));
    let tallies = vec![VersionTally { version: 2, turns: 9, ..VersionTally::default() }];
    let (name, step) = (worker.clone(), Some(Step::Stuck));
    let workers = vec![WorkerOverview { worker: name, slots, step, failure, tallies, asleep: 1 }];
    let overview = AppOverview {
        app: app(),
        stable: Some(version(2)),
        deploying: Some(deploying),
        workers,
        created: None,
    };
    let node = NodeRef { role: tidegate_base::Role::Worker, name: NodeName::new("w").unwrap() };
    let trouble = NodeTrouble { node: node.clone(), app: app(), reason: "full".into() };
    let effect =
        Effect { revision: 4, apps: vec![app()], behind: vec![node.clone()], troubles: vec![trouble] };
    let (quotas, usage) = (Quotas { slots_max: Some(2), ..Quotas::default() }, Usage::default());
    let tenant = TenantOverview { tenant: acme(), fixed: false, suspended: true, quotas, usage };
    vec![
        Reply::Waiting,
        Reply::News(Progress::Worker { worker, step: Step::Compiling, switched: 0, slots: 2 }),
        Reply::App(Box::new(overview)),
        Reply::Version(Box::new(entry)),
        Reply::Module { bytes: 5 },
        Reply::Done,
        Reply::Refused(Refusal::UnknownApp { app: app(), known: vec![app()] }),
        Reply::Tenant(Box::new(tenant)),
        Reply::Managed(Box::new(effect)),
        Reply::Answer(Box::new(NodeAnswer { node: node.clone(), answer: Ok("{}".into()) })),
        Reply::Answer(Box::new(NodeAnswer { node, answer: Err(NoAnswer::Late { wait_ms: 2000 }) })),
    ]
}

/// Sends the messages in pieces, with raw bytes behind each, and takes them out as they come.
fn survive<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(messages: &[T], cut: usize) {
    let mut whole = Vec::new();
    for message in messages {
        whole.extend_from_slice(&encode(message, REPLY_BYTES_MAX).unwrap());
        whole.extend_from_slice(b"raw");
    }
    let (mut decoder, mut got, mut raw) = (Decoder::new(REPLY_BYTES_MAX), Vec::<T>::new(), 0);
    for piece in whole.chunks(cut) {
        decoder.push(piece);
        loop {
            if raw < got.len() * 3 {
                let taken = decoder.raw(got.len() * 3 - raw);
                raw += taken.len();
                if taken.is_empty() {
                    break;
                }
            } else if let Some(message) = decoder.message().unwrap() {
                got.push(message);
            } else {
                break;
            }
        }
    }
    assert_eq!(got, messages);
    assert!(decoder.is_empty() && raw == messages.len() * 3);
}

proptest! {
    #[test]
    fn messages_and_raw_bytes_survive_any_cut(cut in 1_usize..200) {
        survive(&requests(), cut);
        survive(&replies(), cut);
    }

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        for framed in [framed, bytes] {
            let mut decoder = Decoder::new(REQUEST_BYTES_MAX);
            decoder.push(&framed);
            if let Ok(Some(request)) = decoder.message::<Request>() {
                prop_assert!(encode(&request, REQUEST_BYTES_MAX).is_ok());
            }
        }
    }

    #[test]
    fn a_module_comes_in_whole_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1_usize..50) {
        let mut incoming = Incoming::new(Digest::of(&bytes), bytes.len() as u64, 1000).unwrap();
        let count = bytes.len().div_ceil(cut);
        for (at, piece) in bytes.chunks(cut).enumerate() {
            prop_assert!(at < count && incoming.missing() > 0);
            incoming.push(piece);
        }
        prop_assert_eq!(incoming.missing(), 0);
        incoming.push(b"what comes behind is not taken");
        let came = incoming.finish().unwrap();
        prop_assert_eq!(&came[..], &bytes[..]);
    }
}

#[test]
fn messages_have_a_limit_in_both_directions_and_no_tail() {
    let long = "x".repeat(101);
    assert_eq!(encode(&long, 100), Err(BadMessage::TooLong { bytes: 102, max: 100 }));
    let mut decoder = Decoder::new(100);
    decoder.push(&101_u32.to_le_bytes());
    let announced = decoder.message::<String>();
    assert_eq!(announced, Err(BadMessage::TooLong { bytes: 101, max: 100 }));
    let mut decoder = Decoder::new(100);
    decoder.push(&[2, 0, 0, 0, 0, 0]);
    assert_eq!(decoder.message::<Request>(), Err(BadMessage::Broken), "one byte would do");
}

#[test]
fn a_module_that_is_too_large_cut_short_or_another_is_refused() {
    let digest = Digest::of(b"module");
    let error = Incoming::new(digest, 11, 10).unwrap_err().to_string();
    assert!(error.contains("11 bytes, the limit is 10") && error.contains("tidegate build"), "{error}");
    let mut short = Incoming::new(digest, 6, 10).unwrap();
    short.push(b"modu");
    assert_eq!(short.finish(), Err(BadModule::Truncated { got: 4, expected: 6 }));
    let mut other = Incoming::new(digest, 6, 10).unwrap();
    other.push(b"Module");
    assert!(matches!(other.finish(), Err(BadModule::WrongDigest { .. })));
}

#[test]
fn an_unknown_app_comes_with_those_that_are_known() {
    let known = |count: usize| (0..count).map(|n| AppName::new(&format!("a{n}")).unwrap()).collect();
    let text = |known| Refusal::UnknownApp { app: app(), known }.to_string();
    assert!(text(known(0)).contains("no app default/chat; apps here: none."));
    assert!(text(known(2)).contains("apps here: default/a0, default/a1."));
    assert!(text(known(23)).contains("default/a19 and 3 more."));
}

#[test]
fn the_health_of_an_app_is_what_its_current_version_did_on_all_workers() {
    let tally = |version, turns, traps| VersionTally { version, turns, traps, ..VersionTally::default() };
    let worker = |tallies| WorkerOverview {
        worker: NodeName::new("w").unwrap(),
        slots: vec![Some(2)],
        step: None,
        failure: None,
        tallies,
        asleep: 0,
    };
    let workers =
        vec![worker(vec![tally(1, 5, 5), tally(2, 7, 1)]), worker(vec![]), worker(vec![tally(2, 1, 0)])];
    let overview =
        AppOverview { app: app(), stable: Some(version(2)), deploying: None, workers, created: None };
    assert_eq!(overview.health(), Tally { turns: 8, traps: 1, ..Tally::default() });
    let fresh = AppOverview { stable: None, workers: vec![worker(vec![tally(0, 3, 0)])], ..overview };
    assert_eq!(fresh.health().turns, 3);
}

#[test]
fn numbers_of_the_protocol_stay_as_they_are() {
    let first = |request: &Request| encode(request, REQUEST_BYTES_MAX).unwrap()[4];
    assert_eq!(requests().iter().map(first).collect::<Vec<_>>(), [0, 1, 2, 2, 3, 4, 5, 6, 7, 7, 11]);
    let first = |reply: &Reply| encode(reply, REPLY_BYTES_MAX).unwrap()[4];
    assert_eq!(replies().iter().map(first).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 12]);
}
