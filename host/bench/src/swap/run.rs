//! Keeps the load up and swaps, one after the other.

use std::time::Duration;

use super::deployer::{Deployed, Deployer, Reply};
use super::jitter::Jitter;
use super::load::SwapLoad;
use super::options::SwapOptions;
use super::report::{Outcome, SwapRecord, SwapReport};
use super::trend::{MemoryAt, is_due};
use crate::fleet::{Clock, Fleet};
use crate::limits::ensure_open_files;
use crate::loads::Load;
use crate::procs::Probe;
use crate::{Error, Result};

/// How long the first answers may take.
const START_MAX: Duration = Duration::from_secs(30);
/// What a swap leaves behind (instances dropped, memory given back) belongs to its window still.
const TAIL: Duration = Duration::from_millis(100);
/// How long the deploying thread may take to read the memory of the server's processes.
const WEIGH_MAX: Duration = Duration::from_secs(10);
/// How often the loop looks whether the deploying thread has answered.
const LOOK: Duration = Duration::from_millis(2);
/// How often the loop looks for messages to give up; that walks over all connections.
const SWEEP: Duration = Duration::from_millis(50);

/// Swaps the code of a server under load, and audits every message.
///
/// `deploy` is called on a thread of its own, once for each swap with its number from 1 (swaps to warm up included);
/// it makes the server run other code and returns when the platform says that it does. `on_swap` hears of each swap
/// when its calm window is over.
///
/// A swap lasts from the command until `deploy` has returned and every open connection has had an answer of the new
/// code, and 100 ms more. The calm window of the same length right after it says what the machine does by itself.
///
/// # Errors
/// Options out of range; a server that cannot be reached, or does not answer as [`SwapOptions::target`] says; process
/// ids that cannot be read. What happens after the first answers is no error but in the report: a swap that fails or
/// takes too long ends the run and is [`SwapReport::failure`]. A `deploy` that never returns is left behind on its
/// thread.
pub fn swap(
    options: &SwapOptions,
    deploy: impl FnMut(u32) -> Result<Deployed, String> + Send + 'static,
    mut on_swap: impl FnMut(&SwapRecord),
) -> Result<SwapReport> {
    let url = options.check()?;
    ensure_open_files(options.connections)?;
    let (clock, probe) = (Clock::start(), Probe::new(&options.target.pids));
    // A process id that cannot be read is told before anything is swapped.
    probe.memory()?;
    let (fleet, _) = Fleet::open(&url, options.connections, clock)?;
    let mut run = Run {
        options,
        clock,
        fleet,
        load: SwapLoad::new(options.connections, options.pace, options.payload),
        weighs: !probe.is_empty(),
        deployer: Deployer::start(deploy, probe, clock)?,
        jitter: Jitter::start()?,
        swept_at: 0,
        outcome: Outcome::default(),
    };
    run.start()?;
    let began = clock.now();
    let swapped = run.swaps(&mut on_swap);
    run.outcome.seconds = nanos_to_seconds(clock.now().saturating_sub(began));
    run.outcome.answered_in_time = run.load.tally().counted;
    // Also after a failure: what is under way is not lost yet.
    for ended in [swapped, run.drain()] {
        match ended {
            Ok(()) => {}
            Err(Halt::Failed(why)) => {
                run.outcome.failure.get_or_insert(why);
            }
            Err(Halt::Broken(error)) => return Err(error),
        }
    }
    run.load.give_up(u64::MAX);
    run.outcome.jitter = run.jitter.seen();
    Ok(SwapReport::new(options, run.outcome, &mut run.load))
}

/// Why a run ends early.
enum Halt {
    /// Something to report.
    Failed(String),
    /// The bench itself cannot go on.
    Broken(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        match error {
            // That the server closed connections is a finding.
            Error::Closed { .. } => Halt::Failed(error.to_string()),
            other => Halt::Broken(other),
        }
    }
}

struct Run<'a> {
    options: &'a SwapOptions,
    clock: Clock,
    fleet: Fleet,
    load: SwapLoad,
    weighs: bool,
    deployer: Deployer,
    jitter: Jitter,
    /// When messages were last given up.
    swept_at: u64,
    outcome: Outcome,
}

impl Run<'_> {
    /// Begins the load and warms up, until every connection has had an answer.
    fn start(&mut self) -> Result<()> {
        let began = self.clock.now();
        let warm_at = began + nanos(self.options.warm_up);
        if let Some(first) = &self.options.first {
            self.fleet.greet(first);
        }
        self.fleet.kick(&mut self.load);
        while self.clock.now() < warm_at || !self.load.turnover.is_through() {
            if let Some(answer) = self.load.unversioned.take() {
                return Err(Error::Unversioned { answer });
            }
            if self.clock.now() > warm_at.max(began + nanos(START_MAX)) {
                return Err(Error::Stalled {
                    what: "waiting for an answer on every connection",
                    after: START_MAX,
                });
            }
            self.step()?;
        }
        self.load.tally().open_window();
        self.jitter.begin();
        Ok(())
    }

    fn swaps(&mut self, on_swap: &mut impl FnMut(&SwapRecord)) -> Result<(), Halt> {
        let SwapOptions { swaps, warm_up_swaps, .. } = *self.options;
        for number in 1..=warm_up_swaps + swaps {
            let measured = number.checked_sub(warm_up_swaps).filter(|measured| *measured > 0);
            if measured == Some(1) {
                self.load.gaps.forget_latencies();
            }
            let (mut record, ended) = self.swap_once(number, measured.is_none());
            let calm = ended.and_then(|end| self.calm(&mut record, end));
            on_swap(&record);
            self.outcome.swaps.push(record);
            calm?;
            if let Some(measured) = measured.filter(|measured| self.weighs && is_due(*measured, swaps)) {
                self.weigh(measured)?;
            }
        }
        Ok(())
    }

    /// One swap, and when it ended. The record holds what was seen even if it failed.
    fn swap_once(&mut self, number: u32, warm_up: bool) -> (SwapRecord, Result<u64, Halt>) {
        let began = self.clock.now();
        self.load.turnover.begin(began);
        self.load.gaps.begin_swap(began);
        self.deployer.deploy(number);
        let mut returned = None;
        let through = self.follow(number, began, &mut returned);
        let through = through.and_then(|()| self.run_until(self.clock.now() + nanos(TAIL)));
        let ended = self.clock.now();
        self.load.gaps.end_swap(ended, self.load.ledger.waiting());
        let (facts, (from, to)) = (self.load.turnover.facts(), self.load.turnover.words());
        let since = |at: u64| at.saturating_sub(began) as f64 / 1e3;
        let (returned_at, deployed) = returned.unzip();
        let record = SwapRecord {
            number,
            warm_up,
            from,
            to,
            first_new_us: facts.first_new_at.map(since),
            last_old_us: facts.last_old_at.map(since),
            everyone_us: facts.everyone_at.map(since),
            returned_us: returned_at.map(since),
            pause_us: deployed.as_ref().and_then(|deployed| deployed.pause_us).map(|us| us as f64),
            state_bytes: deployed.as_ref().map_or(0, |deployed| deployed.state_bytes),
            window_us: since(ended),
            longest_gap_us: self.load.gaps.longest().0 as f64 / 1e3,
            calm_gap_us: None,
            report: deployed.and_then(|deployed: Deployed| deployed.report),
        };
        (record, through.map(|()| ended))
    }

    /// Waits until the deployment has returned and the new code has answered everybody.
    fn follow(
        &mut self,
        number: u32,
        began: u64,
        returned: &mut Option<(u64, Deployed)>,
    ) -> Result<(), Halt> {
        let limit = self.options.swap_limit;
        loop {
            if returned.is_none()
                && let Some(reply) = self.deployer.reply()
            {
                let (at, deployed) = deployed(number, reply)?;
                let known = self.load.turnover.expect(&deployed.version);
                *returned = Some((at, deployed));
                known.map_err(|error| Halt::Failed(format!("swap {number}: {error}")))?;
            }
            if returned.is_some() && self.load.turnover.is_through() {
                return Ok(());
            }
            if self.clock.now() > began + nanos(limit) {
                let did = if returned.is_some() { "had returned" } else { "had not returned" };
                let (moved, open) = (self.load.turnover.moved(), self.load.ledger.open());
                return Err(Halt::Failed(format!(
                    "swap {number} was not through after {} s: the deployment {did}, the new code had answered on \
                     {moved} of {open} connections",
                    limit.as_secs_f64()
                )));
            }
            self.step()?;
        }
    }

    /// The calm window behind a swap that ended at `end`, and the pause.
    fn calm(&mut self, record: &mut SwapRecord, end: u64) -> Result<(), Halt> {
        let length = (record.window_us * 1e3) as u64;
        self.load.gaps.begin_calm(end);
        self.run_until(end + length)?;
        self.load.gaps.end_calm(end + length);
        self.run_until(end + nanos(self.options.pause))?;
        let (swap, calm) = self.load.gaps.longest();
        // A wait that began within the swap may have ended after it.
        record.longest_gap_us = swap as f64 / 1e3;
        record.calm_gap_us = calm.map(|calm| calm as f64 / 1e3);
        Ok(())
    }

    fn weigh(&mut self, swap: u32) -> Result<(), Halt> {
        self.deployer.weigh();
        let until = self.clock.now() + nanos(WEIGH_MAX);
        let sample = loop {
            match self.deployer.reply() {
                Some(Reply::Weighed(sample)) => break sample,
                Some(Reply::Gone) => return Err(Halt::Failed("the thread that deploys is gone".to_owned())),
                Some(Reply::Deployed { .. }) | None => {}
            }
            if self.clock.now() > until {
                return Err(Error::Stalled { what: "reading the server's memory", after: WEIGH_MAX }.into());
            }
            self.step()?;
        };
        // The processes were there at the start: that one is gone now is a finding.
        let sample = sample.map_err(|error| Halt::Failed(format!("after swap {swap}: {error}")))?;
        self.outcome.memory.extend(sample.map(|sample| MemoryAt::new(swap, sample)));
        Ok(())
    }

    /// Sends nothing more and waits for what is under way.
    fn drain(&mut self) -> Result<(), Halt> {
        self.load.stop();
        let until = self.clock.now() + nanos(self.options.give_up);
        while self.load.outstanding() > 0 && self.clock.now() < until {
            self.step()?;
        }
        Ok(())
    }

    fn run_until(&mut self, until: u64) -> Result<(), Halt> {
        while self.clock.now() < until {
            self.step()?;
        }
        Ok(())
    }

    /// One round of the fleet, and what is due besides.
    fn step(&mut self) -> Result<()> {
        let now = self.clock.now();
        if now.saturating_sub(self.swept_at) > nanos(SWEEP) {
            self.swept_at = now;
            self.load.give_up(now.saturating_sub(nanos(self.options.give_up)));
        }
        self.fleet.turn(&mut self.load, now + nanos(LOOK))
    }
}

fn deployed(number: u32, reply: Reply) -> Result<(u64, Deployed), Halt> {
    let failed = |why: String| Err(Halt::Failed(format!("swap {number}: {why}")));
    match reply {
        Reply::Deployed { at, result: Ok(deployed) } => Ok((at, deployed)),
        Reply::Deployed { result: Err(error), .. } => failed(format!("the deployment failed: {error}")),
        Reply::Gone => failed("the deployment panicked".to_owned()),
        Reply::Weighed(_) => failed("the thread that deploys answered another order".to_owned()),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn nanos_to_seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
