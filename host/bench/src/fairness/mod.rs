//! What a greedy neighbour costs a quiet app on the same servers.
//!
//! ```text
//!  round: quiet app alone ──> neighbour at work, quiet app again ──> neighbour comes to rest
//!         Open loop             Provoked or Echo        Open loop
//!                               (a thread)
//! ```
//!
//! Each round is compared with its own calm half only, so that a slow minute of the machine falls on both.

mod neighbour;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::neighbour::Greed;
use self::neighbour::Provoked;
pub use self::report::{FairnessReport, FairnessRound};
use crate::conduct::once;
use crate::fleet::{Clock, Fleet};
use crate::limits::ensure_open_files;
use crate::loads::{Echo, Load};
use crate::options::{MessageKind, Options, Target, Work, within};
use crate::url::Url;
use crate::{Error, Result};

const REST_MAX: Duration = Duration::from_secs(3600);

/// A run of [`fairness`]. [`FairnessOptions::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct FairnessOptions {
    /// The quiet app: it must send each message back. Its processes are those that the neighbour runs in too.
    pub quiet: Target,
    /// Connections to it, 1 to 1,000,000; 100 usually.
    pub connections: u32,
    /// Messages a second over all of them, 1 to 10,000,000; 2,000 usually.
    pub rate: u32,
    /// Payload of a message in bytes, 16 to 1 MiB; 64 usually.
    pub payload: u32,
    /// `ws://host:port/path` of the neighbour: an app of another tenant on the same servers, that sends each text back
    /// which it does not understand.
    pub neighbour: String,
    /// Connections to it, 1 to 10,000; 16 usually. A few times its slots, so that each slot gets some.
    pub neighbour_connections: u32,
    /// What keeps the neighbour at work: that each of them says `loop` usually.
    pub greed: Greed,
    /// How often both halves are measured, 1 to 1000; 5 usually.
    pub rounds: u32,
    /// Load before each measurement, at most 1 hour; 2 s usually. The neighbour works all the while.
    pub warm_up: Duration,
    /// How long each half measures, 10 ms to 1 hour; 5 s usually.
    pub span: Duration,
    /// How long the neighbour may take to come to rest after a round, at most 1 hour; 2 minutes usually.
    pub rest: Duration,
}

impl FairnessOptions {
    /// 2,000 messages a second of 64 bytes over 100 connections, beside 16 connections that say `loop`.
    pub fn new(quiet: Target, neighbour: String) -> FairnessOptions {
        FairnessOptions {
            quiet,
            connections: 100,
            rate: 2_000,
            payload: 64,
            neighbour,
            neighbour_connections: 16,
            greed: Greed::default(),
            rounds: 5,
            warm_up: Duration::from_secs(2),
            span: Duration::from_secs(5),
            rest: Duration::from_secs(120),
        }
    }

    /// The quiet app's half of a round.
    fn half(&self) -> Options {
        let FairnessOptions { connections, rate, payload, .. } = *self;
        Options {
            work: Work::Open { connections, rate, payload, spin: false },
            target: self.quiet.clone(),
            yardstick: None,
            rounds: self.rounds,
            warm_up: self.warm_up,
            span: self.span,
            threads: 1,
            kind: MessageKind::Text,
        }
    }

    /// Checks every range and resolves both addresses: the quiet app's first.
    fn check(&self) -> Result<(Url, Url)> {
        let quiet = self.half().check()?;
        within("neighbour-connections", self.neighbour_connections, 1, 10_000)?;
        self.greed.check()?;
        if self.rest > REST_MAX {
            return Err(Error::option("rest", "must be at most 3600 seconds"));
        }
        Ok((quiet, Url::parse(&self.neighbour)?))
    }
}

/// Runs all rounds, and calls `progress` with each as it is done. Blocks for about 2 x rounds x (warm-up + span), and for
/// as long as the neighbour takes to come to rest after each.
///
/// # Errors
/// Options out of range; a server that cannot be reached, closes or stalls; a neighbour that does not come to rest.
pub fn fairness(
    options: &FairnessOptions,
    mut progress: impl FnMut(&FairnessRound),
) -> Result<FairnessReport> {
    let (quiet, neighbour) = options.check()?;
    ensure_open_files(options.connections + options.neighbour_connections)?;
    let half = options.half();
    let mut rounds = Vec::with_capacity(options.rounds as usize);
    for _ in 0..options.rounds {
        let calm = once(&half, &quiet, &options.quiet)?;
        let at_work = AtWork::start(&neighbour, options)?;
        let beside = once(&half, &quiet, &options.quiet);
        let provoked = at_work.stop()?;
        let round = FairnessRound { calm, beside: beside?, provoked };
        progress(&round);
        rounds.push(round);
    }
    Ok(FairnessReport::new(options, rounds))
}

/// The thread that keeps the neighbour at work.
struct AtWork {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl AtWork {
    fn start(url: &Url, options: &FairnessOptions) -> Result<AtWork> {
        let clock = Clock::start();
        let (mut fleet, _) = Fleet::open(url, options.neighbour_connections, clock)?;
        let (clients, greed) = (options.neighbour_connections, options.greed.clone());
        let (stop, rest) = (Arc::new(AtomicBool::new(false)), options.rest);
        let stopped = Arc::clone(&stop);
        let work = move || match greed {
            Greed::Loop { say } => {
                let mut load = Provoked::new(clients, &say);
                work(&mut fleet, &mut load, clock, &stopped, rest)?;
                Ok(load.provoked())
            }
            Greed::Flood { payload, in_flight } => {
                let mut load = Echo::new(0, clients, in_flight, payload, MessageKind::Text);
                work(&mut fleet, &mut load, clock, &stopped, rest)?;
                Ok(load.tally().counted)
            }
        };
        let thread = std::thread::Builder::new().name("bench-neighbour".to_owned());
        let thread = thread.spawn(work).map_err(Error::io("starting the neighbour's thread"))?;
        Ok(AtWork { stop, thread })
    }

    /// Waits until it has come to rest. Returns how often it was set to work.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(provoked) => provoked,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Keeps the neighbour at work until it is to stop, and waits until it has done all that it was told.
fn work(
    fleet: &mut Fleet,
    load: &mut impl Load,
    clock: Clock,
    stopped: &AtomicBool,
    rest: Duration,
) -> Result<()> {
    fleet.kick(load);
    while !stopped.load(Ordering::Relaxed) {
        fleet.turn(load, clock.now() + LOOK_NS)?;
    }
    load.stop();
    let until = clock.now() + rest.as_nanos() as u64;
    while load.outstanding() > 0 && clock.now() < until {
        fleet.turn(load, (clock.now() + LOOK_NS).min(until))?;
    }
    match load.outstanding() {
        0 => Ok(()),
        _ => Err(Error::Stalled { what: "waiting for the neighbour to come to rest", after: rest }),
    }
}

/// So often the thread looks whether it is to stop.
const LOOK_NS: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> FairnessOptions {
        let quiet = Target { url: "ws://127.0.0.1:1/".to_owned(), pids: Vec::new() };
        FairnessOptions::new(quiet, "ws://127.0.0.1:2/".to_owned())
    }

    #[test]
    fn the_usual_values_are_within_their_ranges() {
        usual().check().unwrap();
    }

    #[test]
    fn each_option_out_of_range_is_named() {
        for (options, name) in [
            (FairnessOptions { connections: 0, ..usual() }, "`connections`"),
            (FairnessOptions { rate: 0, ..usual() }, "`rate`"),
            (FairnessOptions { payload: 1, ..usual() }, "`payload`"),
            (FairnessOptions { neighbour_connections: 0, ..usual() }, "`neighbour-connections`"),
            (FairnessOptions { greed: Greed::Loop { say: String::new() }, ..usual() }, "`say`"),
            (
                FairnessOptions { greed: Greed::Flood { payload: 15, in_flight: 1 }, ..usual() },
                "`flood-payload`",
            ),
            (FairnessOptions { greed: Greed::Flood { payload: 16, in_flight: 0 }, ..usual() }, "`in-flight`"),
            (FairnessOptions { rounds: 0, ..usual() }, "`rounds`"),
            (FairnessOptions { warm_up: Duration::MAX, ..usual() }, "`warm-up`"),
            (FairnessOptions { span: Duration::ZERO, ..usual() }, "`seconds`"),
            (FairnessOptions { rest: Duration::MAX, ..usual() }, "`rest`"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let nowhere = FairnessOptions { neighbour: "http://x".to_owned(), ..usual() };
        assert!(nowhere.check().is_err());
    }
}
