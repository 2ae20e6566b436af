//! What apps cost that nobody uses: memory of each, CPU of all, and how long the first message to each takes.
//!
//! ```text
//!  write: a folder with tidegate.toml and modules ──> a server runs it (somebody else starts it)
//!  density: hold, weigh ──> first message to each app, one after the other ──> weigh again
//! ```

mod first;
mod plan;
mod report;

use std::time::Duration;

use self::first::{Firsts, first_messages};
pub use self::plan::{DensityPlan, write_density};
pub use self::report::{DensityReport, Footprint};
use crate::fleet::Clock;
use crate::measure::Meter;
use crate::options::{Target, within};
use crate::procs::{MemorySample, Probe};
use crate::url::Url;
use crate::{Error, Result};

/// Apps of one run at most.
const APPS_MAX: u32 = 10_000;
const SPAN_MAX: Duration = Duration::from_secs(3600);
/// What the last message to an app has left to be done is done by then.
const SETTLE: Duration = Duration::from_millis(500);

/// A run of [`density`]. [`DensityOptions::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct DensityOptions {
    /// A server that runs what [`write_density`] wrote: one port for all apps, which each send a text back.
    pub target: Target,
    /// Its apps, 1 to 10,000.
    pub apps: u32,
    /// What a server without apps has, so that it is not charged to them; nothing usually.
    pub baseline: Option<Baseline>,
    /// How long the apps are left alone while the CPU is measured, at most 1 hour; 5 s usually.
    pub hold: Duration,
    /// How long one answer may take, 10 ms to 1 hour; 30 s usually.
    pub patience: Duration,
}

/// What a server without apps has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Private memory, in bytes.
    Bytes(u64),
    /// Processes of such a server, as it runs now.
    Pids(Vec<u32>),
}

impl DensityOptions {
    /// So many apps of a server, for 5 s.
    pub fn new(target: Target, apps: u32) -> DensityOptions {
        let (hold, patience) = (Duration::from_secs(5), Duration::from_secs(30));
        DensityOptions { target, apps, baseline: None, hold, patience }
    }

    fn check(&self) -> Result<Url> {
        within("apps", self.apps, 1, APPS_MAX)?;
        if self.hold > SPAN_MAX {
            return Err(Error::option("seconds", "must be at most 3600"));
        }
        if !(Duration::from_millis(10)..=SPAN_MAX).contains(&self.patience) {
            return Err(Error::option("patience", "must be 0.01 to 3600 seconds"));
        }
        if self.baseline.is_some() && self.target.pids.is_empty() {
            return Err(Error::option(
                "baseline",
                "has nothing to be compared with: name the server's --pid too",
            ));
        }
        Url::parse(&self.target.url)
    }
}

/// Weighs the apps of a server that are left alone, and then says the first word to each of them.
///
/// # Errors
/// An option is out of its range, a process cannot be looked at, or an app does not answer: which, and why.
pub fn density(options: &DensityOptions) -> Result<DensityReport> {
    let url = options.check()?;
    let (probe, clock) = (Probe::new(&options.target.pids), Clock::start());
    let base = baseline(options.baseline.as_ref())?;
    let meter = Meter::start(&probe, clock)?;
    std::thread::sleep(options.hold);
    let held = meter.stop()?;
    let idle = probe.memory()?;
    let meter = Meter::start(&probe, clock)?;
    let firsts = first_messages(&url, options.apps, options.patience, clock)?;
    let said = meter.stop()?;
    std::thread::sleep(SETTLE);
    let used = probe.memory()?;
    let weigh = |sample: Option<MemorySample>| Some(Footprint::new(sample?, base, options.apps));
    let Firsts { connect, message, both, again } = firsts;
    let cpu_us = |nanos: u64| nanos as f64 / 1e3 / f64::from(options.apps);
    Ok(DensityReport {
        machine: crate::machine::describe(),
        apps: options.apps,
        idle: weigh(idle),
        idle_cores: held
            .server_cpu_ns
            .map(|nanos| nanos as f64 / 1e9 / held.seconds)
            .filter(|c| c.is_finite()),
        connect: connect.summary(),
        message: message.summary(),
        first: both.summary(),
        again: again.summary(),
        first_cpu_us: said.server_cpu_ns.map(cpu_us),
        used: weigh(used),
    })
}

fn baseline(of: Option<&Baseline>) -> Result<Option<MemorySample>> {
    match of {
        None => Ok(None),
        // What is not known is not taken off.
        Some(Baseline::Bytes(bytes)) => Ok(Some(MemorySample { anonymous: *bytes, rss: 0, pss: 0 })),
        Some(Baseline::Pids(pids)) => Probe::new(pids).memory(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_out_of_range_is_named() {
        let usual = || {
            let target = Target { url: "ws://127.0.0.1:1/".to_owned(), pids: Vec::new() };
            DensityOptions::new(target, 10)
        };
        usual().check().unwrap();
        for (options, name) in [
            (DensityOptions { apps: 0, ..usual() }, "`apps`"),
            (DensityOptions { apps: 10_001, ..usual() }, "`apps`"),
            (DensityOptions { hold: Duration::MAX, ..usual() }, "`seconds`"),
            (DensityOptions { patience: Duration::ZERO, ..usual() }, "`patience`"),
            (DensityOptions { baseline: Some(Baseline::Bytes(1)), ..usual() }, "--pid"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
