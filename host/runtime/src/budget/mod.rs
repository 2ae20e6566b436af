//! How much CPU time the turns of an app may use on this worker.
//!
//! ```text
//!   turn, at a tick or a wait          Budget (pure)                slot, before a turn
//!     charge(cpu, now)  ------------>  share, burst, debt  <------  over? until when?
//!     over: its turn waits                                          over: its next turn begins later
//! ```
//!
//! Nothing is counted turn by turn. Most turns are over within microseconds, and reading a thread's CPU clock before and
//! after each would cost more than some of them. The first poll of a turn is *sampled* instead: whoever runs when the
//! engine ticks is charged with the time since the tick before, so that in the long run an app is charged with what it
//! uses, however short its turns are. From the first tick or wait on a turn is metered anyway, and charged exactly.
//!
//! The apps of a tenant have a budget together as well. What is charged to an app is charged to its tenant too, and whoever
//! is over either waits.

mod machine;
mod sample;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_base::CpuShare;

use crate::counters;

pub use self::machine::Budget;
pub(crate) use self::sample::sample;

/// The CPU budget of one app on this worker: all of its slots, instances and versions share it. Or that of a tenant: all of
/// its apps do.
#[derive(Debug)]
pub struct CpuBudget {
    /// Tells apps from each other in the slow pool.
    id: u64,
    since: Instant,
    budget: Mutex<Budget>,
    /// Read before each turn. True a little longer than it is so: whoever reads it asks for the time then.
    over: AtomicBool,
    used_ns: AtomicU64,
    /// What it is a part of: charged as well, and whoever is over that waits too.
    within: Option<Arc<CpuBudget>>,
}

/// The very same one.
impl PartialEq for CpuBudget {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for CpuBudget {}

/// What the turns of an app have used, and how long they were kept waiting. All of it only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuUse {
    /// CPU time that turns were charged with.
    pub used: Duration,
    /// Time in which the app was over its budget.
    pub throttled: Duration,
    /// How often it went over its budget.
    pub throttles: u64,
}

impl CpuBudget {
    /// A budget of which nothing is used.
    pub fn new(share: CpuShare) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            since: Instant::now(),
            budget: Mutex::new(Budget::new(share)),
            over: AtomicBool::new(false),
            used_ns: AtomicU64::new(0),
            within: None,
        }
    }

    /// A budget of an app whose tenant has one too.
    pub fn within(share: CpuShare, tenant: Arc<Self>) -> Self {
        Self { within: Some(tenant), ..Self::new(share) }
    }

    /// That of its tenant, if it is a part of one.
    pub fn tenant(&self) -> Option<&Arc<Self>> {
        self.within.as_ref()
    }

    /// Another share from now on. What was used stays used.
    pub fn set_share(&self, share: CpuShare) {
        self.budget.lock().set_share(share);
    }

    /// Whether the app, or its tenant, may be over its budget: [`wait_until`](Self::wait_until) says for how long. Two
    /// relaxed loads, no clock.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.within.as_ref().is_some_and(|within| within.is_over())
    }

    /// Until when turns of the app must wait; none if they need not.
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let tenants = self.within.as_ref().and_then(|within| within.wait_until(now));
        self.own_wait_until(now).max(tenants)
    }

    fn own_wait_until(&self, now: Instant) -> Option<Instant> {
        if !self.over.load(Ordering::Relaxed) {
            return None;
        }
        // Under the lock, so that a charge that comes meanwhile is not forgotten.
        let budget = self.budget.lock();
        let until = budget.wait_until(self.at(now));
        self.over.store(until.is_some(), Ordering::Relaxed);
        until.map(|until| self.since + Duration::from_nanos(until))
    }

    /// What was used so far.
    pub fn usage(&self) -> CpuUse {
        let budget = self.budget.lock();
        CpuUse {
            used: Duration::from_nanos(self.used_ns.load(Ordering::Relaxed)),
            throttled: Duration::from_nanos(budget.throttled_ns()),
            throttles: budget.throttles(),
        }
    }

    /// Turns of the app have used so much CPU time.
    pub(crate) fn charge(&self, cpu: Duration, now: Instant) {
        let cpu = nanos(cpu);
        if cpu == 0 {
            return;
        }
        if let Some(within) = &self.within {
            within.charge(Duration::from_nanos(cpu), now);
        }
        self.used_ns.fetch_add(cpu, Ordering::Relaxed);
        let mut budget = self.budget.lock();
        let (throttles, throttled_ns) = (budget.throttles(), budget.throttled_ns());
        if budget.charge(cpu, self.at(now)) {
            self.over.store(true, Ordering::Relaxed);
            counters::CPU_THROTTLES.add(budget.throttles() - throttles);
            counters::CPU_THROTTLED_MS.add(budget.throttled_ns() / MS_NS - throttled_ns / MS_NS);
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn at(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.since))
    }
}

const MS_NS: u64 = 1_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_until_the_wait_that_it_told_has_passed() {
        let budget = CpuBudget::new(CpuShare::default());
        let now = Instant::now();
        budget.charge(Duration::from_millis(100), now);
        assert!(!budget.is_over() && budget.wait_until(now).is_none());
        budget.charge(Duration::from_millis(200), now);
        let until = budget.wait_until(now).unwrap();
        // 50 ms too much at half a core.
        assert!(until - now >= Duration::from_millis(100) && until - now < Duration::from_millis(200));
        assert!(budget.is_over());
        assert_eq!(budget.wait_until(until), None);
        assert!(!budget.is_over());
        let CpuUse { used, throttled, throttles } = budget.usage();
        assert_eq!((used, throttles), (Duration::from_millis(300), 1));
        assert!(throttled >= Duration::from_millis(100), "{throttled:?}");
    }

    #[test]
    fn the_apps_of_a_tenant_share_its_budget_and_those_of_others_do_not() {
        let tenant = Arc::new(CpuBudget::new(CpuShare::default()));
        let app = |tenant: &Arc<CpuBudget>| CpuBudget::within(CpuShare::MAX, Arc::clone(tenant));
        let (one, other) = (app(&tenant), app(&tenant));
        let stranger = app(&Arc::new(CpuBudget::new(CpuShare::MAX)));
        let now = Instant::now();
        one.charge(Duration::from_millis(200), now);
        assert!(!one.is_over() && !other.is_over());
        other.charge(Duration::from_millis(100), now);
        let until = one.wait_until(now).unwrap();
        assert_eq!((other.wait_until(now), stranger.wait_until(now)), (Some(until), None));
        assert_eq!(one.usage().used + other.usage().used, tenant.usage().used);
        tenant.set_share(CpuShare::MAX);
        assert_eq!(one.wait_until(until), None);
        assert!(!one.is_over() && !tenant.is_over());
    }

    #[test]
    fn whoever_is_over_both_waits_for_the_longer_of_them() {
        let tenant = Arc::new(CpuBudget::new(CpuShare::from_millis(1000)));
        let app = CpuBudget::within(CpuShare::MIN, Arc::clone(&tenant));
        let now = Instant::now();
        app.charge(Duration::from_millis(600), now);
        let tenants = tenant.wait_until(now).unwrap();
        assert!(app.wait_until(now).unwrap() > tenants);
    }

    #[test]
    fn budgets_are_told_apart() {
        assert_ne!(CpuBudget::new(CpuShare::MIN).id(), CpuBudget::new(CpuShare::MIN).id());
    }
}
