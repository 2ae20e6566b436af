//! One measurement: warm-up, a measured window, and a drain that finds out what was lost.

use std::time::Duration;

use crate::Result;
use crate::fleet::{Clock, Fleet};
use crate::loads::Load;
use crate::procs::{Probe, own_thread_cpu_ns};
use crate::stats::{Faults, Nanos};

// How long after the window messages may still come before they count as lost.
const GRACE: Duration = Duration::from_secs(2);

/// When to measure: `begin` on the fleet's clock in nanoseconds, and for how long from the moment it really begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    begin: u64,
    span_ns: u64,
}

impl Window {
    /// Starts after `warm_up` from now and lasts `span`.
    pub(crate) fn after(clock: Clock, warm_up: Duration, span: Duration) -> Window {
        Window { begin: clock.now() + warm_up.as_nanos() as u64, span_ns: span.as_nanos() as u64 }
    }
}

/// What one measurement found, before any division.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) counted: u64,
    pub(crate) seconds: f64,
    pub(crate) latency: Nanos,
    pub(crate) lateness: Nanos,
    pub(crate) faults: Faults,
    /// `None` without processes to look at.
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) own_cpu_ns: u64,
}

impl Raw {
    /// Adds what another thread measured over the same window.
    pub(crate) fn merge(&mut self, other: &Raw) {
        self.counted += other.counted;
        self.seconds = self.seconds.max(other.seconds);
        self.latency.merge(&other.latency);
        self.lateness.merge(&other.lateness);
        self.faults.merge(&other.faults);
        self.server_cpu_ns = self.server_cpu_ns.or(other.server_cpu_ns);
        self.own_cpu_ns += other.own_cpu_ns;
    }
}

/// CPU and wall time from one moment to another.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    probe: &'a Probe,
    clock: Clock,
    server: Option<crate::procs::CpuSample>,
    own_ns: u64,
    at: u64,
}

/// What a [`Meter`] read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metered {
    pub(crate) seconds: f64,
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) own_cpu_ns: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(probe: &'a Probe, clock: Clock) -> Result<Meter<'a>> {
        let server = probe.cpu()?;
        Ok(Meter { probe, clock, server, own_ns: own_thread_cpu_ns(), at: clock.now() })
    }

    pub(crate) fn stop(self) -> Result<Metered> {
        let seconds = self.clock.now().saturating_sub(self.at) as f64 / 1e9;
        let own_cpu_ns = own_thread_cpu_ns().saturating_sub(self.own_ns);
        let after = self.probe.cpu()?;
        let server_cpu_ns = after.zip(self.server).map(|(after, before)| after.since(&before));
        Ok(Metered { seconds, server_cpu_ns, own_cpu_ns })
    }
}

/// Runs `load` on `fleet` and measures it over `window`.
///
/// # Errors
/// Those of [`Fleet::turn`] and of the probe.
pub(crate) fn measure<L: Load>(
    fleet: &mut Fleet,
    load: &mut L,
    window: Window,
    probe: &Probe,
) -> Result<Raw> {
    let clock = fleet.clock();
    fleet.kick(load);
    while clock.now() < window.begin {
        fleet.turn(load, window.begin)?;
    }
    load.tally().open_window();
    let meter = Meter::start(probe, clock)?;
    let end = clock.now() + window.span_ns;
    loop {
        fleet.turn(load, end)?;
        if clock.now() >= end {
            break;
        }
    }
    let metered = meter.stop()?;
    let tally = load.tally();
    let (counted, latency, lateness) = (tally.counted, tally.latency.clone(), tally.lateness.clone());

    load.stop();
    let grace_ends = clock.now() + GRACE.as_nanos() as u64;
    while load.outstanding() > 0 && clock.now() < grace_ends {
        fleet.turn(load, grace_ends)?;
    }
    let mut faults = load.tally().faults.clone();
    faults.lost += load.outstanding();
    let Metered { seconds, server_cpu_ns, own_cpu_ns } = metered;
    Ok(Raw { counted, seconds, latency, lateness, faults, server_cpu_ns, own_cpu_ns })
}
