//! Every load against the yardsticks, for a moment each: counts and faults, never times.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers are part of it")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_bench::yardstick::{Kind, Server, Stop};
use tidegate_bench::{
    Error, MessageKind, Options, Report, Result, Target, Unit, Work, YardstickCommand, run,
};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A yardstick on a thread of this process; ends when dropped.
struct Running {
    addr: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    fn start(kind: Kind) -> Running {
        let server = Server::bind(kind, SocketAddr::from(LOOPBACK)).unwrap();
        let (addr, stop) = (server.addr(), server.stop_handle());
        Running { addr, stop, thread: Some(std::thread::spawn(move || server.run())) }
    }

    fn options(&self, work: Work) -> Options {
        Options {
            work,
            target: Target { url: format!("ws://{}/", self.addr), pids: vec![std::process::id()] },
            yardstick: None,
            rounds: 1,
            warm_up: Duration::from_millis(50),
            span: Duration::from_millis(200),
            threads: 1,
            kind: MessageKind::Text,
        }
    }

    fn run(&self, work: Work) -> Report {
        run(self.options(work)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn assert_clean(report: &Report) {
    for round in &report.rounds {
        for one in [Some(&round.target), round.yardstick.as_ref()].into_iter().flatten() {
            assert!(one.faults.is_clean(), "{report}");
            assert!(one.count > 0 && one.rate > 0.0, "{report}");
            assert!(one.server_cpu_us.is_some_and(|us| us >= 0.0), "{report}");
        }
    }
}

#[test]
fn an_echo_loses_nothing_whatever_the_window_size_and_kind() {
    let server = Running::start(Kind::Echo);
    for (connections, in_flight, payload, kind) in [
        (20, 1, 64, MessageKind::Text),
        (5, 32, 64, MessageKind::Binary),
        (3, 3, 70_000, MessageKind::Binary),
        (1, 8, 1024 * 1024, MessageKind::Text),
        (2, 65_536, 16, MessageKind::Text),
    ] {
        let options = server.options(Work::Echo { connections, in_flight, payload });
        let report = run(Options { kind, ..options }).unwrap();
        assert_clean(&report);
        assert_eq!(report.unit, Unit::Message);
        let latency = report.rounds[0].target.latency.unwrap();
        assert!(latency.p50_us <= latency.p999_us && latency.p999_us <= latency.max_us);
    }
}

#[test]
fn several_threads_share_the_connections() {
    let server = Running::start(Kind::Echo);
    for work in [
        Work::Echo { connections: 7, in_flight: 2, payload: 64 },
        Work::Open { connections: 7, rate: 900, payload: 64, spin: false },
    ] {
        assert_clean(&run(Options { threads: 3, ..server.options(work) }).unwrap());
    }
}

#[test]
fn an_open_loop_sends_by_the_clock_and_gets_all_back() {
    let server = Running::start(Kind::Echo);
    for spin in [false, true] {
        let report = server.run(Work::Open { connections: 10, rate: 2000, payload: 1024, spin });
        assert_clean(&report);
        assert!(report.rounds[0].target.lateness.is_some());
    }
}

#[test]
fn a_broadcast_reaches_everyone() {
    let server = Running::start(Kind::Broadcast);
    for (connections, outstanding) in [(1, 1), (30, 1), (50, 8), (3, 1000)] {
        let report = server.run(Work::Broadcast { connections, outstanding, payload: 64 });
        assert_clean(&report);
        assert_eq!(report.unit, Unit::Delivery);
    }
}

#[test]
fn idle_connections_are_all_opened_held_and_weighed() {
    let server = Running::start(Kind::Idle);
    let report = server.run(Work::Idle { connections: 300 });
    assert_clean(&report);
    let target = &report.rounds[0].target;
    assert_eq!(target.count, 300);
    assert!(target.memory.is_some());
}

#[test]
fn a_connect_storm_counts_whole_lives() {
    let server = Running::start(Kind::Echo);
    let report = server.run(Work::Connect { at_a_time: 16 });
    assert_clean(&report);
    assert_eq!(report.unit, Unit::Connect);
}

#[test]
fn rounds_alternate_with_a_yardstick_in_its_own_process() {
    let server = Running::start(Kind::Echo);
    let options = server.options(Work::Echo { connections: 4, in_flight: 4, payload: 64 });
    let yardstick = Some(YardstickCommand { program: yardstick_program(), args: Vec::new() });
    let report = run(Options { yardstick, rounds: 3, ..options }).unwrap();
    assert_clean(&report);
    assert_eq!(report.rounds.len(), 3);
    let ratios = report.ratios.unwrap();
    let (cpu, rate) = (ratios.server_cpu.unwrap(), ratios.rate.unwrap());
    assert!(cpu.min <= cpu.median && cpu.median <= cpu.max && rate.min > 0.0);
}

#[test]
fn messages_that_never_come_back_are_counted_as_lost() {
    let server = Running::start(Kind::Idle);
    let report = server.run(Work::Echo { connections: 2, in_flight: 3, payload: 64 });
    let target = &report.rounds[0].target;
    assert_eq!((target.count, target.faults.lost, target.latency), (0, 6, None));
    assert!(report.to_string().contains("FAULTS: lost 6"), "{report}");
}

#[test]
fn messages_of_others_are_told_from_ones_own() {
    // A broadcaster is no echo: every client sees everyone's messages, its own among them.
    let server = Running::start(Kind::Broadcast);
    let report = server.run(Work::Echo { connections: 2, in_flight: 1, payload: 64 });
    let faults = &report.rounds[0].target.faults;
    assert!(faults.unexpected > 0 && faults.lost == 0, "{report}");
}

#[test]
fn a_port_without_a_server_or_without_websocket_says_so() {
    let listener = TcpListener::bind(SocketAddr::from(LOOPBACK)).unwrap();
    let addr = listener.local_addr().unwrap();
    let work = Work::Echo { connections: 1, in_flight: 1, payload: 64 };
    let options = |pids| Options {
        work: work.clone(),
        target: Target { url: format!("ws://{addr}/"), pids },
        yardstick: None,
        rounds: 1,
        warm_up: Duration::ZERO,
        span: Duration::from_millis(10),
        threads: 1,
        kind: MessageKind::Text,
    };
    let refuses = std::thread::spawn(move || drop(listener.accept()));
    let error = run(options(Vec::new())).unwrap_err();
    assert!(matches!(error, Error::Handshake { .. }), "{error}");
    refuses.join().unwrap();
    let error = run(options(Vec::new())).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

/// The example of this crate, which cargo builds beside its tests.
fn yardstick_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/yardstick")
}
