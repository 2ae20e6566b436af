//! The two clocks of a turn. [`TurnClock`] decides, with the time given from outside; [`Meter`] is its thread-safe
//! shell between the engine's callback inside the store and the turn around it.
//!
//! A turn that ends within its first tick and never waits, which is nearly every one, is not measured at all: reading
//! a thread's CPU clock is a system call. From the first tick or the first wait on it is metered: each poll is charged
//! with the CPU time of the thread that polls, so neither waiting nor being descheduled costs a plugin anything. The
//! same figures are charged to the [budget](CpuBudget) of the app; there the first poll of a turn is sampled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::budget::{CpuBudget, sample};
use crate::limits::Limits;
use crate::place;
use crate::ticker::Pace;

/// How often the engine's epoch ticks while a guest runs on.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks until a fresh turn is looked at for the first time. Nothing happens to it then, so that it has one whole tick for
/// itself, whenever it starts; only its app's budget is charged.
pub(crate) const FIRST_TICKS: u64 = 1;
/// CPU time in one poll after which a turn lets others run. A little less than a tick, since a tick that comes a moment
/// early must not double it.
pub(crate) const SLICE: Duration = Duration::from_micros(900);
/// The same for the calls that hand state over: meanwhile the slot serves nobody, so clients wait for it, and there are
/// just two in a switch. A MiB of state takes about 1 ms of it in each.
pub(crate) const HANDOVER_SLICE: Duration = Duration::from_micros(3_900);

/// A turn that broke a rule has failed, and can only end. It does not know that, so it gets so much CPU time to do it;
/// then it is stopped, which costs it its instance.
const AFTER_RULE: Duration = Duration::from_millis(5);

/// Which clock ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overrun {
    /// `turn_cpu_ms`.
    Cpu,
    /// `turn_wall_ms`.
    Wall,
    /// None: the turn broke a rule and did not end.
    Rule,
}

/// A turn that was metered: it had a tick, or waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongTurn {
    /// When it began, to a tick or two, moved on by `waited`.
    pub began: std::time::Instant,
    /// How long it waited for its app's CPU budget.
    pub waited: Duration,
}

/// What a turn does at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Run on to the next tick.
    Continue,
    /// Run on, but let others run first.
    Yield,
    /// Run on when the app is within its budget again.
    Wait,
    /// Stop for good.
    Stop(Overrun),
}

/// The state of one turn's clocks. Call `begin` for each turn, `poll_started` and `poll_ended` around each poll of a
/// metered turn, `tick` at each tick within a poll, and `claim` after each of the last two.
#[derive(Debug)]
pub(crate) struct TurnClock {
    cpu_limit: Duration,
    wall_limit: Duration,
    /// CPU time in one poll after which it lets others run.
    slice: Duration,
    /// CPU time of the polls that have ended.
    used: Duration,
    /// The thread's CPU time when the poll that runs began.
    poll_began: Option<Duration>,
    /// The thread's CPU time up to which the poll that runs has been claimed. None in the first poll.
    claimed: Option<Duration>,
    /// When the turn began, to a tick or two: taken when it is first of interest. Moved on by what it waited for its
    /// app's budget.
    began: Option<Instant>,
    /// Since when it waits for that.
    waits: Option<Instant>,
    /// How long it has waited for that.
    waited: Duration,
    /// The CPU time that it had used when a tick found that it had broken a rule.
    broke_rule: Option<Duration>,
    overrun: Option<Overrun>,
}

impl TurnClock {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            cpu_limit: limits.cpu(),
            wall_limit: limits.wall(),
            slice: SLICE,
            used: Duration::ZERO,
            poll_began: None,
            claimed: None,
            began: None,
            waits: None,
            waited: Duration::ZERO,
            broke_rule: None,
            overrun: None,
        }
    }

    /// A new turn.
    pub(crate) fn begin(&mut self, slice: Duration) {
        self.slice = slice;
        self.used = Duration::ZERO;
        self.poll_began = None;
        self.claimed = None;
        self.began = None;
        self.waits = None;
        self.waited = Duration::ZERO;
        self.broke_rule = None;
        self.overrun = None;
    }

    /// A poll begins on a thread that has used `cpu`.
    pub(crate) fn poll_started(&mut self, cpu: Duration) {
        self.poll_began = Some(cpu);
        self.claimed = Some(cpu);
    }

    /// What the thread, which has used `cpu`, has used in this poll and was not claimed yet. None: it is the turn's
    /// first, and nobody knows.
    pub(crate) fn claim(&mut self, cpu: Duration) -> Option<Duration> {
        let before = self.claimed?;
        self.claimed = Some(cpu);
        Some(cpu.saturating_sub(before))
    }

    /// Whether the poll that runs is metered: it is not the first, or it has had a tick.
    pub(crate) fn is_metered(&self) -> bool {
        self.poll_began.is_some()
    }

    /// It waits for its app's budget from now on. That is no time of its own.
    pub(crate) fn wait_began(&mut self, now: Instant) {
        self.waits.get_or_insert(now);
    }

    /// It waits no more.
    pub(crate) fn wait_ended(&mut self, now: Instant) {
        if let (Some(since), Some(began)) = (self.waits.take(), self.began) {
            let waited = now.saturating_duration_since(since);
            self.began = Some(began + waited);
            self.waited += waited;
        }
    }

    /// A poll has ended, and the turn has not.
    pub(crate) fn poll_ended(&mut self, cpu: Duration, now: Instant) {
        if let Some(began) = self.poll_began.take() {
            self.used += cpu.saturating_sub(began);
        }
        self.began.get_or_insert(now);
    }

    /// The engine ticked while the guest ran. `cpu` is the CPU time of the thread.
    pub(crate) fn tick(&mut self, cpu: Duration, now: Instant, broke_rule: bool) -> Verdict {
        let began = *self.began.get_or_insert(now);
        let Some(poll_began) = self.poll_began else {
            // How long it has run already nobody knows, if it has: a thread may just have had no core.
            self.poll_began = Some(cpu);
            self.broke_rule = broke_rule.then_some(Duration::ZERO);
            return Verdict::Continue;
        };
        let slice = cpu.saturating_sub(poll_began);
        let go_on = if slice >= self.slice { Verdict::Yield } else { Verdict::Continue };
        self.stop_at_limits(self.used + slice, now - began, broke_rule).unwrap_or(go_on)
    }

    /// When it began, if that is known, and how long it waited for its app's budget.
    pub(crate) fn long(&self) -> Option<LongTurn> {
        self.began.map(|began| LongTurn { began: began.into_std(), waited: self.waited })
    }

    /// When the turn must be over; known from the first tick or wait on, unless it waits for its app's budget.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.waits.is_some() {
            return None;
        }
        // An absurdly large limit is no limit.
        self.began.and_then(|began| began.checked_add(self.wall_limit))
    }

    fn stop_at_limits(&mut self, used: Duration, elapsed: Duration, broke_rule: bool) -> Option<Verdict> {
        let broke_at = if broke_rule { *self.broke_rule.get_or_insert(used) } else { used };
        self.overrun = if used.saturating_sub(broke_at) >= AFTER_RULE {
            Some(Overrun::Rule)
        } else if used >= self.cpu_limit {
            Some(Overrun::Cpu)
        } else if elapsed >= self.wall_limit {
            Some(Overrun::Wall)
        } else {
            None
        };
        self.overrun.map(Verdict::Stop)
    }
}

/// The clock is as it is for every new turn.
const FRESH: u8 = 0;
/// The turn has a slice of another length, and was not looked at yet.
const LONG: u8 = 1;
/// The turn is metered.
const METERED: u8 = 2;

/// A [`TurnClock`] that the engine's callback and the turn share. They are always on the same thread or ordered by the
/// move of the future, so the lock is never contended and relaxed flags do.
pub(crate) struct Meter {
    clock: Mutex<TurnClock>,
    /// [`FRESH`], [`LONG`] or [`METERED`].
    state: AtomicU8,
    pace: Pace,
    budget: Option<Arc<CpuBudget>>,
}

impl Meter {
    pub(crate) fn new(limits: &Limits, pace: Pace, budget: Option<Arc<CpuBudget>>) -> Self {
        Self { clock: Mutex::new(TurnClock::new(limits)), state: AtomicU8::new(FRESH), pace, budget }
    }

    /// A new turn. Costs one load if the turn before was not metered.
    pub(crate) fn begin(&self) {
        if self.state.load(Ordering::Relaxed) != FRESH {
            self.state.store(FRESH, Ordering::Relaxed);
            self.clock.lock().begin(SLICE);
        }
    }

    /// As [`begin`](Self::begin), for a call that hands state over.
    pub(crate) fn begin_handover(&self) {
        self.state.store(LONG, Ordering::Relaxed);
        self.clock.lock().begin(HANDOVER_SLICE);
    }

    /// A poll begins. Costs one load if the turn is not metered.
    pub(crate) fn poll_started(&self) {
        if self.is_metered() {
            self.clock.lock().poll_started(thread_cpu());
        }
    }

    /// A poll has ended, and the turn has not: from here on it is metered. Returns when the turn must be over.
    pub(crate) fn poll_ended(&self) -> Option<Instant> {
        self.state.store(METERED, Ordering::Relaxed);
        let (cpu, now) = (thread_cpu(), Instant::now());
        let mut clock = self.clock.lock();
        self.charge(clock.claim(cpu), now);
        clock.poll_ended(cpu, now);
        clock.deadline()
    }

    /// A poll has ended, and the turn too. Costs one load if it is not metered.
    pub(crate) fn turn_ended(&self) {
        if self.is_metered() && self.budget.is_some() {
            let used = self.clock.lock().claim(thread_cpu());
            self.charge(used, Instant::now());
        }
    }

    /// The engine ticked while the guest ran, which has broken a rule or not.
    pub(crate) fn tick(&self, broke_rule: bool) -> Verdict {
        self.state.store(METERED, Ordering::Relaxed);
        let (cpu, now) = (thread_cpu(), Instant::now());
        let mut clock = self.clock.lock();
        // At its first tick a turn may be a microsecond old.
        let is_first = !clock.is_metered();
        let verdict = clock.tick(cpu, now, broke_rule);
        let used = clock.claim(cpu).unwrap_or_else(|| sample(cpu, self.pace.interval()));
        self.charge(Some(used), now);
        let may_wait = matches!(verdict, Verdict::Continue | Verdict::Yield) && !is_first;
        let is_over = self.budget.as_ref().is_some_and(|budget| budget.is_over());
        if may_wait && is_over { Verdict::Wait } else { verdict }
    }

    /// The turn waits until its app is within its budget again, and goes on in the slow pool.
    pub(crate) async fn wait_for_budget(self: Arc<Self>) {
        let Some(budget) = &self.budget else { return place::go_away().await };
        self.clock.lock().wait_began(Instant::now());
        for late in 0..=LATE_MAX {
            if let Some(until) = budget.wait_until(Instant::now().into_std()) {
                tokio::time::sleep_until(Instant::from_std(until) + LATER * late).await;
            }
            place::go_away().await;
            // Others of the app that came sooner may have used it up again.
            if budget.wait_until(Instant::now().into_std()).is_none() {
                break;
            }
        }
        self.clock.lock().wait_ended(Instant::now());
    }

    /// How many times the engine has ticked.
    pub(crate) fn ticks(&self) -> u64 {
        self.pace.ticks()
    }

    /// What is known of the times of the turn that runs or ran last, if it was metered. Costs one load if it was not.
    pub(crate) fn long(&self) -> Option<LongTurn> {
        if self.is_metered() { self.clock.lock().long() } else { None }
    }

    /// Why `tick` stopped the turn, if it did.
    pub(crate) fn overrun(&self) -> Option<Overrun> {
        if self.is_metered() { self.clock.lock().overrun } else { None }
    }

    fn is_metered(&self) -> bool {
        self.state.load(Ordering::Relaxed) == METERED
    }

    fn charge(&self, used: Option<Duration>, now: Instant) {
        if let (Some(budget), Some(used)) = (&self.budget, used) {
            budget.charge(used, now.into_std());
        }
    }
}

/// So often a turn finds its app's budget used up again when it has waited for it; then it runs for a tick in any case.
const LATE_MAX: u32 = 8;
/// So much longer it waits each time: many turns of one app must not keep coming for nothing.
const LATER: Duration = Duration::from_millis(10);

/// CPU time that the calling thread has used.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Both parts are never negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn clock(cpu: u64, wall: u64) -> TurnClock {
        let mut clock = TurnClock::new(&Limits { turn_cpu_ms: cpu, turn_wall_ms: wall, ..Limits::default() });
        clock.begin(SLICE);
        clock
    }

    #[test]
    fn a_turn_leaves_after_a_whole_tick_and_is_stopped_at_its_cpu_limit() {
        let (mut clock, now) = (clock(3, 1000), Instant::now());
        assert_eq!(clock.tick(ms(699), now, false), Verdict::Continue);
        assert_eq!(clock.tick(ms(700), now, false), Verdict::Yield);
        clock.poll_ended(ms(700), now);
        // In the pool, on a thread with another clock.
        clock.poll_started(ms(5));
        assert_eq!(clock.tick(ms(6), now, false), Verdict::Yield);
        assert_eq!(clock.tick(ms(7), now, false), Verdict::Stop(Overrun::Cpu));
    }

    #[test]
    fn neither_waiting_nor_being_descheduled_is_charged() {
        let (mut clock, now) = (clock(5, 1_000_000), Instant::now());
        clock.poll_ended(ms(0), now);
        for n in 1..500 {
            clock.poll_started(ms(n * 10));
            // The tick that is due right after a wait.
            assert_eq!(clock.tick(ms(n * 10), now + ms(n * 1000), false), Verdict::Continue);
            clock.poll_ended(ms(n * 10), now + ms(n * 1000));
        }
    }

    #[test]
    fn a_turn_whose_thread_had_no_core_stays() {
        let (mut clock, now) = (clock(100, 1000), Instant::now());
        let cpu = (0..50).map(|n| Duration::from_micros(17) * n);
        for cpu in cpu {
            assert_eq!(clock.tick(cpu, now, false), Verdict::Continue, "{cpu:?}");
        }
        assert_eq!(clock.tick(ms(1), now, false), Verdict::Yield);
    }

    #[test]
    fn a_handover_stays_for_longer() {
        let (mut clock, now) = (clock(100, 1000), Instant::now());
        clock.begin(HANDOVER_SLICE);
        for cpu in 0..4 {
            assert_eq!(clock.tick(ms(cpu), now, false), Verdict::Continue);
        }
        assert_eq!(clock.tick(ms(4), now, false), Verdict::Yield);
        clock.begin(SLICE);
        assert_eq!(clock.tick(ms(5), now, false), Verdict::Continue);
        assert_eq!(clock.tick(ms(6), now, false), Verdict::Yield);
    }

    #[test]
    fn short_bursts_between_waits_add_up() {
        let (mut clock, now) = (clock(5, 1_000_000), Instant::now());
        clock.poll_ended(ms(0), now);
        let stopped_at = (1_u32..).find(|n| {
            let cpu = Duration::from_micros(500) * *n;
            clock.poll_started(cpu - Duration::from_micros(500));
            let verdict = clock.tick(cpu, now, false);
            clock.poll_ended(cpu, now);
            verdict == Verdict::Stop(Overrun::Cpu)
        });
        assert_eq!(stopped_at, Some(10));
    }

    #[test]
    fn the_wall_clock_runs_while_waiting() {
        let (mut clock, now) = (clock(1000, 50), Instant::now());
        assert_eq!(clock.deadline(), None);
        clock.poll_ended(ms(0), now);
        assert_eq!(clock.deadline(), Some(now + ms(50)));
        clock.poll_started(ms(0));
        assert_eq!(clock.tick(ms(0), now + ms(49), false), Verdict::Continue);
        assert_eq!(clock.tick(ms(0), now + ms(50), false), Verdict::Stop(Overrun::Wall));
        clock.begin(SLICE);
        assert_eq!(clock.deadline(), None);
        assert_eq!(clock.tick(ms(0), now + ms(5000), false), Verdict::Continue);
        assert_eq!(clock.tick(ms(1), now + ms(5000), false), Verdict::Yield);
    }

    #[test]
    fn waiting_for_the_budget_is_no_time_of_the_turn() {
        let (mut clock, now) = (clock(1000, 50), Instant::now());
        clock.poll_ended(ms(0), now);
        clock.wait_began(now + ms(10));
        assert_eq!(clock.deadline(), None);
        clock.wait_ended(now + ms(900));
        assert_eq!(clock.deadline(), Some(now + ms(940)));
        clock.poll_started(ms(0));
        assert_eq!(clock.tick(ms(0), now + ms(939), false), Verdict::Continue);
        assert_eq!(clock.tick(ms(0), now + ms(940), false), Verdict::Stop(Overrun::Wall));
    }

    #[test]
    fn a_turn_that_broke_a_rule_has_a_little_time_to_end() {
        let (mut clock, now) = (clock(1000, 1000), Instant::now());
        assert_eq!(clock.tick(ms(0), now, true), Verdict::Continue);
        let stopped_at = (1..).find(|n| clock.tick(ms(*n), now, true) == Verdict::Stop(Overrun::Rule));
        assert_eq!(stopped_at, Some(5));
        assert_eq!(clock.overrun, Some(Overrun::Rule));
        clock.begin(SLICE);
        (0..100).for_each(|_| assert_ne!(clock.tick(ms(50), now, false), Verdict::Stop(Overrun::Rule)));
        assert_eq!(clock.tick(ms(60), now, true), Verdict::Yield);
        assert_eq!(clock.tick(ms(64), now, true), Verdict::Yield);
        assert_eq!(clock.tick(ms(65), now, true), Verdict::Stop(Overrun::Rule));
    }

    #[test]
    fn every_poll_but_the_first_is_claimed_to_its_end() {
        let (mut clock, now) = (clock(1000, 1000), Instant::now());
        assert_eq!(clock.claim(ms(100)), None);
        clock.tick(ms(101), now, false);
        clock.tick(ms(102), now, false);
        assert_eq!(clock.claim(ms(102)), None);
        clock.poll_ended(ms(102), now);
        clock.poll_started(ms(7));
        clock.tick(ms(8), now, false);
        assert_eq!((clock.claim(ms(8)), clock.claim(ms(8))), (Some(ms(1)), Some(ms(0))));
        assert_eq!(clock.claim(ms(11)), Some(ms(3)));
        clock.begin(SLICE);
        assert_eq!(clock.claim(ms(12)), None);
    }

    proptest! {
        #[test]
        fn a_turn_never_runs_longer_than_its_limit_and_one_tick(
            polls in prop::collection::vec((0_u64..2_000, prop::bool::ANY), 1..200),
        ) {
            let (mut clock, now) = (clock(20, 1_000_000), Instant::now());
            let (mut thread, mut used, mut polled) = (Duration::ZERO, Duration::ZERO, false);
            for (micros, wait) in polls {
                // A tick each millisecond of CPU.
                let step = Duration::from_micros(micros.min(1000));
                thread += step;
                used += step;
                match clock.tick(thread, now, false) {
                    Verdict::Stop(overrun) => {
                        prop_assert_eq!(overrun, Overrun::Cpu);
                        prop_assert!(used <= ms(23), "{used:?}");
                        return Ok(());
                    }
                    _ if wait => {
                        clock.poll_ended(thread, now);
                        clock.poll_started(thread);
                        polled = true;
                    }
                    _ => {}
                }
                // What it used before its first tick is not charged.
                prop_assert!(used < ms(22), "{used:?} {polled}");
            }
        }
    }
}
