//! A version of an app on this worker, and what it has done in one slot.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidegate_base::Exports;
use tidegate_runtime::{Engine, Fault, Template, TemplateError};
use tidegate_telemetry::SharedHistogram;
use tidegate_wire::control::VersionTally;

use crate::host::SlotHost;
use crate::settings::WorkerApp;

/// One version of an app, ready for instances.
pub(crate) struct Edition {
    /// The app's settings, with this version's module and number.
    pub app: Arc<WorkerApp>,
    /// None: nothing was deployed yet.
    pub template: Option<Template<SlotHost>>,
}

impl Edition {
    pub fn new(engine: &Engine, app: WorkerApp) -> Result<Self, TemplateError> {
        let template = app.module.as_ref().map(|module| Template::new(engine, module)).transpose()?;
        Ok(Self { app: Arc::new(app), template })
    }

    pub fn exports(&self) -> Exports {
        self.app.exports()
    }

    /// Whether there is something to run.
    pub fn has_code(&self) -> bool {
        self.template.is_some()
    }

    /// What gateways get to know of a slot that runs it. None: it does not serve.
    pub fn serves(&self) -> Option<(u32, Exports)> {
        self.has_code().then(|| (self.app.version, self.exports()))
    }

    /// The same version with those of the settings `now` that hold at once.
    pub fn with_live(&self, now: &WorkerApp) -> Self {
        Self { app: Arc::new(self.app.with_live(now)), template: self.template.clone() }
    }

    /// The app without anything to run.
    pub fn empty_of(app: &WorkerApp) -> Self {
        Self { app: Arc::new(app.without_module()), template: None }
    }
}

impl fmt::Debug for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edition")
            .field("app", &self.app.name)
            .field("version", &self.app.version)
            .finish_non_exhaustive()
    }
}

/// What one version has done in one slot. Only the slot writes; others read.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    version: u32,
    turns: AtomicU64,
    errors: AtomicU64,
    traps: AtomicU64,
    overruns: AtomicU64,
}

impl Tally {
    pub fn turn(&self) {
        // There is no other writer: a load and a store do, which cost less than an addition that others could see halfway.
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fault(&self, fault: &Fault) {
        let kind = match fault {
            Fault::CpuLimit { .. } | Fault::WallLimit { .. } => &self.overruns,
            Fault::Trap { .. } | Fault::Rule { .. } | Fault::Host(_) | Fault::Unusable => &self.traps,
        };
        kind.fetch_add(1, Ordering::Relaxed);
    }
}

/// Versions whose tallies a slot remembers.
const TALLIES_MAX: usize = 8;

/// Why a slot has no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It keeps failing, and waits before it starts another.
    Waits = 1,
    /// It kept failing, and starts none until another version comes.
    Suspended = 2,
    /// Nobody needs it.
    Asleep = 3,
    /// It woke, and waits for a place in the pool.
    NoPlace = 4,
}

/// What a slot has done since the worker started.
#[derive(Debug, Default)]
pub(crate) struct SlotStats {
    restarts: AtomicU64,
    /// An [`Idle`], or 0.
    idle: AtomicU8,
    /// Events' numbers that were lost, repeated and reordered since the slot's last switch.
    audit: [AtomicU32; 3],
    /// How long turns took. Only the slot writes.
    pub turn_times: SharedHistogram,
    /// How long events waited for their turns. Only the slot writes.
    pub queue_times: SharedHistogram,
    memory_bytes: AtomicUsize,
    /// Of versions before those that are remembered.
    earlier: Mutex<VersionTally>,
    tallies: Mutex<Vec<Arc<Tally>>>,
}

impl SlotStats {
    /// Another version runs in the slot.
    pub fn begin(&self, version: u32) -> Arc<Tally> {
        let mut tallies = self.tallies.lock();
        if let Some(again) = tallies.iter().position(|tally| tally.version == version) {
            let tally = tallies.remove(again);
            tallies.push(Arc::clone(&tally));
            return tally;
        }
        if tallies.len() == TALLIES_MAX {
            tallies.remove(0).add_to(&mut self.earlier.lock());
        }
        let tally = Arc::new(Tally { version, ..Tally::default() });
        tallies.push(Arc::clone(&tally));
        tally
    }

    /// What the numbers of events say since the slot's last switch. Only the slot calls this, when that changes.
    pub fn set_audit(&self, audit: [u32; 3]) {
        for (count, now) in self.audit.iter().zip(audit) {
            count.store(now, Ordering::Relaxed);
        }
    }

    /// Lost, repeated and reordered since the slot's last switch.
    pub fn audit(&self) -> [u32; 3] {
        self.audit.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The linear memory of its instance; 0: it has none.
    pub fn set_memory_bytes(&self, bytes: usize) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// As it was when the slot rested last.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub fn restarted(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// The slot has no instance, or has one again.
    pub fn set_idle(&self, idle: Option<Idle>) {
        self.idle.store(idle.map_or(0, |idle| idle as u8), Ordering::Relaxed);
    }

    /// Why it has no instance, if it has none.
    pub fn idle(&self) -> Option<Idle> {
        let idle = self.idle.load(Ordering::Relaxed);
        [Idle::Waits, Idle::Suspended, Idle::Asleep, Idle::NoPlace].into_iter().find(|of| *of as u8 == idle)
    }

    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// All versions together.
    pub fn total(&self) -> VersionTally {
        let mut total = *self.earlier.lock();
        self.tallies.lock().iter().for_each(|tally| tally.add_to(&mut total));
        total
    }

    /// Adds what is known of each version to the tallies of all slots. Those that are not remembered one by one count for
    /// number 0: the sum over all versions never falls, which is how a register tells a worker that has restarted.
    pub fn add_to(&self, all: &mut Vec<VersionTally>) {
        let earlier = *self.earlier.lock();
        if earlier.turns > 0 {
            add(entry(all, 0), &earlier);
        }
        for tally in self.tallies.lock().iter() {
            tally.add_to(entry(all, tally.version));
        }
    }
}

fn entry(all: &mut Vec<VersionTally>, version: u32) -> &mut VersionTally {
    let at = all.iter().position(|of| of.version == version).unwrap_or(all.len());
    if at == all.len() {
        all.push(VersionTally { version, ..VersionTally::default() });
    }
    &mut all[at]
}

fn add(sum: &mut VersionTally, more: &VersionTally) {
    sum.turns += more.turns;
    sum.errors += more.errors;
    sum.traps += more.traps;
    sum.overruns += more.overruns;
    sum.slots_trapped += more.slots_trapped;
}

impl Tally {
    fn add_to(&self, sum: &mut VersionTally) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (traps, overruns) = (load(&self.traps), load(&self.overruns));
        sum.turns += load(&self.turns);
        sum.errors += load(&self.errors);
        sum.traps += traps;
        sum.overruns += overruns;
        sum.slots_trapped += u32::from(traps + overruns > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_all_versions_together_never_falls() {
        let stats = SlotStats::default();
        let mut told = 0;
        for version in 1..=3 * TALLIES_MAX as u32 {
            stats.begin(version).turn();
            let mut all = Vec::new();
            stats.add_to(&mut all);
            let turns = all.iter().map(|tally| tally.turns).sum::<u64>();
            assert_eq!(turns, told + 1, "at version {version}");
            told = turns;
        }
    }

    #[test]
    fn a_slot_adds_up_its_versions_and_forgets_none_of_the_sum() {
        let stats = SlotStats::default();
        for version in 1..=20 {
            let tally = stats.begin(version);
            tally.turn();
            tally.turn();
            tally.error();
        }
        stats.begin(20).fault(&Fault::WallLimit { limit_ms: 1 });
        let total = stats.total();
        assert_eq!((total.turns, total.errors, total.traps, total.overruns), (40, 20, 0, 1));
        let mut all = Vec::new();
        stats.add_to(&mut all);
        stats.add_to(&mut all);
        assert_eq!(all.len(), TALLIES_MAX + 1);
        assert_eq!(all.iter().map(|tally| tally.turns).sum::<u64>(), 80, "{all:?}");
        let last = all.iter().find(|tally| tally.version == 20).unwrap();
        assert_eq!((last.turns, last.overruns, last.slots_trapped), (4, 2, 2));
    }
}
