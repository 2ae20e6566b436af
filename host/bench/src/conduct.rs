//! Runs a load in rounds, the target and the yardstick in turn.

use std::time::Duration;

use crate::fleet::{Clock, Fleet};
use crate::idle::idle;
use crate::limits::ensure_open_files;
use crate::loads::{Broadcast, Echo, Load, Open};
use crate::measure::{Raw, Window, measure};
use crate::options::{MessageKind, Options, Target, Work};
use crate::procs::Probe;
use crate::report::{Measured, Report, Round};
use crate::storm::storm;
use crate::url::Url;
use crate::yardstick::{Child, Kind};
use crate::{Error, Result};

/// Runs `options.work` and reports. Blocks for about rounds × (warm-up + span), twice that with a yardstick.
///
/// A round opens its connections, warms up, measures for the span, waits up to 2 s for what is still under way,
/// and closes. With a yardstick, its process lives as long as the run, and each round of the target is followed by
/// the same against the yardstick.
///
/// # Errors
/// Options out of range; a server that cannot be reached, closes or stalls; process ids that cannot be read. Lost,
/// damaged or reordered messages are no error: they are counted in [`Measured::faults`].
pub fn run(options: Options) -> Result<Report> {
    let target = options.check()?;
    ensure_open_files(options.work.connections())?;
    let start = |command| Child::start(command, Kind::for_work(&options.work));
    let yardstick = options.yardstick.as_ref().map(start).transpose()?;
    let bare = match &yardstick {
        Some(child) => Some((Url::parse(&child.target().url)?, child.target())),
        None => None,
    };
    let rounds = if matches!(options.work, Work::Idle { .. }) { 1 } else { options.rounds };
    let mut measured = Vec::with_capacity(rounds as usize);
    for _ in 0..rounds {
        let target = once(&options, &target, &options.target)?;
        let yardstick = bare.as_ref().map(|(url, target)| once(&options, url, target)).transpose()?;
        measured.push(Round { target, yardstick });
    }
    Ok(Report::new(&options, measured))
}

pub(crate) fn once(options: &Options, url: &Url, target: &Target) -> Result<Measured> {
    let probe = Probe::new(&target.pids);
    let (kind, timing) = (options.kind, Timing { warm_up: options.warm_up, span: options.span });
    let raw = match options.work {
        Work::Echo { connections, in_flight, payload } => {
            let load = |part: &Part| Echo::new(part.first, part.clients, in_flight, payload, kind);
            drive(&parts(connections, options.threads), url, timing, &probe, false, load)?
        }
        Work::Open { connections, rate, payload, spin } => {
            let parts = parts(connections, options.threads);
            let load = |part: &Part| open(part, connections, rate, payload, kind);
            drive(&parts, url, timing, &probe, spin, load)?
        }
        Work::Broadcast { connections, outstanding, payload } => {
            let load = |part: &Part| Broadcast::new(part.clients, outstanding, payload, kind);
            drive(&parts(connections, 1), url, timing, &probe, false, load)?
        }
        Work::Idle { connections } => {
            let (raw, memory) = idle(url, connections, options.span, &probe)?;
            return Ok(Measured::new(raw, memory));
        }
        Work::Connect { at_a_time } => storm(url, at_a_time, options.warm_up, options.span, &probe)?,
    };
    Ok(Measured::new(raw, None))
}

fn open(part: &Part, connections: u32, rate: u32, payload: u32, kind: MessageKind) -> Open {
    // This part's share; the shares of all parts add up to the rate but for rounding.
    let share = u64::from(rate) * u64::from(part.clients) / u64::from(connections.max(1));
    Open::new(part.first, part.clients, share as u32, payload, kind)
}

#[derive(Clone, Copy)]
struct Timing {
    warm_up: Duration,
    span: Duration,
}

/// One thread's share of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    first: u32,
    clients: u32,
}

/// Splits `connections` evenly; never into an empty part.
fn parts(connections: u32, threads: u32) -> Vec<Part> {
    let threads = threads.clamp(1, connections.max(1));
    let mut first = 0;
    (0..threads)
        .map(|index| {
            let clients = connections / threads + u32::from(index < connections % threads);
            let part = Part { first, clients };
            first += clients;
            part
        })
        .collect()
}

/// Opens the connections of every part, then runs a load on each in a thread of its own, over the same window.
fn drive<L: Load>(
    parts: &[Part],
    url: &Url,
    timing: Timing,
    probe: &Probe,
    spin: bool,
    load: impl Fn(&Part) -> L,
) -> Result<Raw> {
    let clock = Clock::start();
    let mut crews = Vec::with_capacity(parts.len());
    for part in parts {
        let (mut fleet, _) = Fleet::open(url, part.clients, clock)?;
        fleet.set_spin(spin);
        crews.push((fleet, load(part)));
    }
    let window = Window::after(clock, timing.warm_up, timing.span);
    let Some((mut fleet, mut load)) = crews.pop() else {
        return Err(Error::option("connections", "must be at least 1"));
    };
    // One thread looks at the server for all.
    let unseen = &Probe::default();
    std::thread::scope(|scope| {
        let others: Vec<_> = crews
            .into_iter()
            .map(|(mut fleet, mut load)| scope.spawn(move || measure(&mut fleet, &mut load, window, unseen)))
            .collect();
        let mut sum = measure(&mut fleet, &mut load, window, probe)?;
        for other in others {
            match other.join() {
                Ok(raw) => sum.merge(&raw?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_connections_and_none_is_empty() {
        for (connections, threads, want) in [(10, 3, &[4, 3, 3][..]), (2, 8, &[1, 1]), (7, 1, &[7])] {
            let parts = parts(connections, threads);
            assert_eq!(parts.iter().map(|part| part.clients).collect::<Vec<_>>(), want);
            let mut next = 0;
            for part in parts {
                assert_eq!(part.first, next);
                next += part.clients;
            }
        }
    }
}
