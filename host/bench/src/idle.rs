//! Connections that are opened and held.

use std::time::Duration;

use crate::fleet::{Clock, Fleet};
use crate::loads::{Load, Quiet};
use crate::measure::{Meter, Metered, Raw};
use crate::procs::{MemorySample, Probe};
use crate::report::Memory;
use crate::url::Url;
use crate::{Error, Result};

// A server may finish a connect (timers, joins) just after the handshake; its memory is read this much later.
const SETTLE: Duration = Duration::from_millis(300);

/// Opens `connections`, holds them for `span`, and says what they cost.
///
/// # Errors
/// A connection refused while opening; all connections closed while holding; the probe's.
pub(crate) fn idle(
    url: &Url,
    connections: u32,
    span: Duration,
    probe: &Probe,
) -> Result<(Raw, Option<Memory>)> {
    let clock = Clock::start();
    warm(url, clock)?;
    let before = probe.memory()?;
    let meter = Meter::start(probe, clock)?;
    let (mut fleet, latency) = Fleet::open(url, connections, clock)?;
    let opening = meter.stop()?;

    let mut quiet = Quiet::new(connections);
    hold(&mut fleet, &mut quiet, SETTLE)?;
    let opened = probe.memory()?;
    let meter = Meter::start(probe, clock)?;
    hold(&mut fleet, &mut quiet, span)?;
    let holding = meter.stop()?;
    let held = probe.memory()?;

    let memory = before
        .zip(opened)
        .zip(held)
        .map(|((before, opened), held)| memory(before, opened, held, &holding, connections));
    let Metered { seconds, server_cpu_ns, own_cpu_ns } = opening;
    let (tally, counted) = (quiet.tally(), u64::from(connections));
    let (lateness, faults) = (tally.lateness.clone(), tally.faults.clone());
    Ok((Raw { counted, seconds, latency, lateness, faults, server_cpu_ns, own_cpu_ns }, memory))
}

// The first connection ever pays for lazily set up things; one, so that no room for many is left behind.
fn warm(url: &Url, clock: Clock) -> Result<()> {
    Fleet::open(url, 1, clock).map(drop)
}

fn hold(fleet: &mut Fleet, quiet: &mut Quiet, span: Duration) -> Result<()> {
    let until = fleet.clock().now() + span.as_nanos() as u64;
    while fleet.clock().now() < until {
        fleet.turn(quiet, until)?;
    }
    Ok(())
}

fn memory(
    before: MemorySample,
    opened: MemorySample,
    held: MemorySample,
    holding: &Metered,
    connections: u32,
) -> Memory {
    let connections = f64::from(connections.max(1));
    let each = |after: u64, before: u64| (after as f64 - before as f64) / connections;
    let held_cpu = holding.server_cpu_ns.map(|nanos| nanos as f64 / 1e3 / connections / holding.seconds);
    Memory {
        anonymous_bytes: each(opened.anonymous, before.anonymous),
        pss_bytes: each(opened.pss, before.pss),
        anonymous_held_bytes: each(held.anonymous, before.anonymous),
        held_cpu_us_per_second: held_cpu.filter(|value| value.is_finite()),
    }
}

/// The most connections that an idle run can hold here, up to `wanted`: both ends are limited by their open files,
/// and this process's limit is taken for the server's, too.
pub(crate) fn affordable(wanted: u32) -> Result<u32> {
    const SERVER_SPARE: u64 = 192;
    let limit = crate::limits::raise_open_files();
    let room = limit.saturating_sub(crate::limits::SPARE_FILES + SERVER_SPARE);
    match u32::try_from(room).unwrap_or(u32::MAX).min(wanted) {
        0 => Err(Error::OpenFiles { needed: 1 + crate::limits::SPARE_FILES + SERVER_SPARE, limit }),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_by_the_connections_and_may_shrink() {
        let sample = |anonymous, pss| MemorySample { anonymous, rss: pss, pss };
        let holding = Metered { seconds: 2.0, server_cpu_ns: Some(40_000), own_cpu_ns: 0 };
        let memory = memory(sample(1000, 5000), sample(17_000, 25_000), sample(500, 0), &holding, 10);
        assert_eq!((memory.anonymous_bytes, memory.pss_bytes), (1600.0, 2000.0));
        assert_eq!((memory.anonymous_held_bytes, memory.held_cpu_us_per_second), (-50.0, Some(2.0)));
    }

    #[test]
    fn an_affordable_number_never_exceeds_the_wish() {
        assert_eq!(affordable(1).unwrap(), 1);
        assert!(affordable(u32::MAX).unwrap() > 1);
    }
}
