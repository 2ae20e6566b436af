//! Whole runs against a small server that can be made to break each promise.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::codec::{Header, Opcode, apply_mask, put_frame};
use crate::handshake::{head_end, response};
use crate::options::Target;
use crate::{Error, Result};

const CONNECTIONS: u32 = 3;
/// The message of the first connection that a fault hits: well within the load before the first swap.
const HIT: u64 = 20;

/// How the server breaks its word, once, on its first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lose,
    Repeat,
    /// Answers the message after the next one.
    Reorder,
    /// Answers with the word of the version before, right after the new one.
    Backward,
    Damage,
    Close,
    /// Never says a version.
    Bare,
}

/// Answers every message with the version that runs, on a thread per connection.
struct Fake {
    addr: SocketAddr,
    version: Arc<AtomicU32>,
}

impl Fake {
    fn start(fault: Fault) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Fake { addr: listener.local_addr().unwrap(), version: Arc::new(AtomicU32::new(0)) };
        let version = Arc::clone(&fake.version);
        std::thread::spawn(move || {
            for index in 0..CONNECTIONS {
                let (stream, _) = listener.accept().unwrap();
                let fault = if index == 0 || fault == Fault::Bare { fault } else { Fault::None };
                let version = Arc::clone(&version);
                // Ends when the client goes away.
                std::thread::spawn(move || drop(serve(stream, &version, fault)));
            }
        });
        fake
    }

    fn options(&self, pace: Pace) -> SwapOptions {
        SwapOptions {
            connections: CONNECTIONS,
            pace,
            swaps: 3,
            warm_up: Duration::from_millis(20),
            pause: Duration::ZERO,
            give_up: Duration::from_millis(500),
            ..SwapOptions::new(Target { url: format!("ws://{}/", self.addr), pids: vec![std::process::id()] })
        }
    }

    /// Takes the next version into use.
    fn deploy(&self) -> impl FnMut(u32) -> Result<Deployed, String> + Send + use<> {
        let version = Arc::clone(&self.version);
        move |number| {
            let now = version.fetch_add(1, Ordering::SeqCst) + 1;
            let report = Some(serde_json::json!({ "number": number }));
            Ok(Deployed { version: word(now), pause_us: Some(70), state_bytes: 9, report })
        }
    }
}

/// Two words in turn, as two modules that are deployed in turn have.
fn word(version: u32) -> String {
    format!("v{}", version % 2 + 1)
}

fn serve(mut stream: TcpStream, version: &AtomicU32, fault: Fault) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while head_end(&head).is_none() {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    stream.write_all(&response(&head).unwrap())?;
    let (mut bytes, mut chunk, mut held) = (Vec::new(), [0; 4096], Vec::new());
    let (mut count, mut last, mut faulty) = (0, version.load(Ordering::SeqCst), fault != Fault::None);
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..read]);
        while let Some(message) = take_message(&mut bytes) {
            count += 1;
            let now = version.load(Ordering::SeqCst);
            let frame = |version, message: &[u8]| {
                let mut frame = Vec::new();
                let answer = [word(version).as_bytes(), b" ", message].concat();
                put_frame(&mut frame, Opcode::Text, None, &answer);
                frame
            };
            let mut out = frame(now, &message);
            let hit = faulty && if fault == Fault::Backward { now != last } else { count == HIT };
            match fault {
                Fault::Bare => out.drain(2..5).for_each(drop),
                _ if !hit => {}
                Fault::Lose => out.clear(),
                Fault::Repeat => out.extend(frame(now, &message)),
                Fault::Reorder => held = std::mem::take(&mut out),
                Fault::Backward => out.extend(frame(last, &message)),
                Fault::Damage => *out.last_mut().unwrap() ^= 1,
                Fault::Close => return Ok(()),
                Fault::None => {}
            }
            if fault == Fault::Bare {
                out[1] -= 3;
            }
            faulty &= !hit;
            last = now;
            stream.write_all(&out)?;
            if !out.is_empty() {
                stream.write_all(&std::mem::take(&mut held))?;
            }
        }
    }
}

/// The first whole message in `bytes`, unmasked.
fn take_message(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let header = Header::parse(bytes).unwrap()?;
    let end = header.header_len + header.payload_len;
    let mut message = bytes.get(header.header_len..end)?.to_vec();
    apply_mask(&mut message, header.mask.unwrap());
    bytes.drain(..end);
    Some(message)
}

const CLOSED: Pace = Pace::Closed { in_flight: 4 };

fn run(fault: Fault, pace: Pace) -> SwapReport {
    let fake = Fake::start(fault);
    swap(&fake.options(pace), fake.deploy(), |_| ()).unwrap()
}

#[test]
fn swaps_of_a_faithful_server_hold_and_are_timed() {
    for pace in [CLOSED, Pace::Open { rate: 3000 }] {
        let report = run(Fault::None, pace);
        assert!(report.held, "{report}");
        assert_eq!((report.swaps.len(), report.audit.sent), (3, report.audit.answered));
        assert!(report.audit.sent > 100 && report.rate > 0.0, "{report}");
        for (record, (from, to)) in report.swaps.iter().zip([("v1", "v2"), ("v2", "v1"), ("v1", "v2")]) {
            assert_eq!((record.from.as_deref(), record.to.as_deref()), (Some(from), Some(to)));
            let (first, everyone) = (record.first_new_us.unwrap(), record.everyone_us.unwrap());
            assert!(0.0 < first && first <= everyone && everyone < record.window_us, "{record}");
            assert!(
                record.returned_us.unwrap() < record.window_us && record.calm_gap_us.is_some(),
                "{record}"
            );
            assert_eq!(record.report.as_ref().unwrap()["number"], record.number);
        }
        let memory = report.memory.as_ref().unwrap();
        assert_eq!(memory.samples.iter().map(|sample| sample.swap).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(memory.samples.iter().all(|sample| sample.rss >= sample.pss && sample.anonymous > 0));
        assert_eq!(report.swaps[0].state_bytes, 9);
        assert_eq!(report.times.pause.map(|pause| pause.max_us.round()), Some(70.0));
        assert!(report.times.gap.is_some() && report.times.calm_latency.is_some());
        assert!(report.to_string().ends_with("held: yes"), "{report}");
    }
}

#[test]
fn each_fault_of_a_server_is_noticed_as_what_it_is() {
    let clean = Audit::default();
    for (fault, want) in [
        (Fault::Lose, Audit { lost: 1, ..clean.clone() }),
        (Fault::Repeat, Audit { repeated: 1, ..clean.clone() }),
        (Fault::Reorder, Audit { reordered: 1, ..clean.clone() }),
        // The old word comes with a message that has its answer already.
        (Fault::Backward, Audit { backward: 1, repeated: 1, ..clean.clone() }),
        // What it was meant to be is missing, too.
        (Fault::Damage, Audit { wrong: 1, lost: 1, ..clean }),
    ] {
        let report = run(fault, CLOSED);
        let Audit { lost, repeated, reordered, backward, wrong, closed, strange, unknown, .. } =
            &report.audit;
        let got = (lost, repeated, reordered, backward, wrong, closed, strange, unknown);
        let Audit { lost, repeated, reordered, backward, wrong, closed, strange, unknown, .. } = &want;
        assert_eq!(
            got,
            (lost, repeated, reordered, backward, wrong, closed, strange, unknown),
            "{fault:?}\n{report}"
        );
        assert!(!report.held && report.failure.is_none() && report.swaps.len() == 3, "{fault:?}\n{report}");
        assert!(report.to_string().ends_with("held: NO"), "{report}");
    }
}

#[test]
fn a_closed_connection_is_counted_and_the_others_go_on() {
    let report = run(Fault::Close, CLOSED);
    assert_eq!((report.audit.closed, report.swaps.len(), report.held), (1, 3, false));
    assert!((1..=4).contains(&report.audit.lost), "{report}");
    assert!(report.audit.first_close.is_some() && report.failure.is_none());
}

#[test]
fn warm_up_swaps_are_audited_but_not_measured() {
    let fake = Fake::start(Fault::Repeat);
    let options = SwapOptions { warm_up_swaps: 2, swaps: 1, ..fake.options(CLOSED) };
    let mut seen = Vec::new();
    let report = swap(&options, fake.deploy(), |swap| seen.push((swap.number, swap.warm_up))).unwrap();
    assert_eq!(seen, [(1, true), (2, true), (3, false)]);
    assert_eq!((report.swaps.len(), report.audit.repeated, report.held), (3, 1, false));
    assert_eq!(report.memory.as_ref().unwrap().samples.len(), 1);
    assert!(report.to_string().contains("1 of 1 swaps after 2 to warm up"), "{report}");
}

#[test]
fn a_deployment_that_fails_ends_the_run_and_says_so() {
    let fake = Fake::start(Fault::None);
    let mut deploy = fake.deploy();
    let fails = move |number| if number == 2 { Err("no such module".to_owned()) } else { deploy(number) };
    let report = swap(&fake.options(CLOSED), fails, |_| ()).unwrap();
    assert_eq!((report.held, report.swaps.len(), report.audit.is_clean()), (false, 2, true));
    assert_eq!(report.failure.as_deref(), Some("swap 2: the deployment failed: no such module"));
    assert_eq!(report.swaps[1].first_new_us, None);
    assert!(report.to_string().contains("FAILED: swap 2"), "{report}");
}

#[test]
fn a_swap_that_nobody_sees_ends_at_its_limit() {
    let fake = Fake::start(Fault::None);
    let options = SwapOptions { swap_limit: Duration::from_millis(100), ..fake.options(CLOSED) };
    let pretends = |_| Ok(Deployed { version: "v2".to_owned(), ..Deployed::default() });
    let failure = swap(&options, pretends, |_| ()).unwrap().failure.unwrap();
    assert!(failure.contains("not through after 0.1 s: the deployment had returned"), "{failure}");
    assert!(failure.contains("on 0 of 3 connections"), "{failure}");
}

#[test]
fn a_deployment_that_names_the_wrong_version_or_panics_is_a_failure() {
    let fake = Fake::start(Fault::None);
    let again = |_| Ok(Deployed { version: "v1".to_owned(), ..Deployed::default() });
    let failure = swap(&fake.options(CLOSED), again, |_| ()).unwrap().failure.unwrap();
    assert!(failure.contains("swap 1: version \"v1\" answered before"), "{failure}");
    let fake = Fake::start(Fault::None);
    let panics = |number| if number > 0 { panic!("a test's panic") } else { Err(String::new()) };
    let failure = swap(&fake.options(CLOSED), panics, |_| ()).unwrap().failure.unwrap();
    assert_eq!(failure, "swap 1: the deployment panicked");
}

#[test]
fn a_server_that_tells_no_version_is_refused_at_once() {
    let fake = Fake::start(Fault::Bare);
    let error = swap(&fake.options(CLOSED), fake.deploy(), |_| ()).unwrap_err();
    assert!(matches!(error, Error::Unversioned { .. }), "{error}");
}

#[test]
fn the_json_has_the_documented_names() {
    let report = run(Fault::None, Pace::Open { rate: 1000 });
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!((&json["held"], &json["audit"]["lost"]), (&true.into(), &0.into()));
    assert_eq!((&json["pace"]["name"], &json["pace"]["rate"]), (&"open".into(), &1000.into()));
    assert!(
        json["times"]["first_new"]["p50_us"].is_number() && json["swaps"][2]["longest_gap_us"].is_number()
    );
    assert!(json["memory"]["anonymous"]["per_swap"].is_number());
}
