use tidegate_base::{CpuShare, Rate, RateMeter};

/// How much CPU time may be used, decided from numbers alone: a share of the cores, and a burst after a quiet time. All
/// times are in nanoseconds, of any clock that does not go back.
///
/// CPU time is charged after it was used, so an app goes over its budget by what its turns use between two ticks. Then
/// they wait until that is made up for.
#[derive(Debug, Clone)]
pub struct Budget {
    rate: Rate,
    meter: RateMeter,
    /// Turns wait until then.
    until: u64,
    throttled_ns: u64,
    throttles: u64,
}

/// The burst is what the share comes to in this time.
const BURST_NS: u64 = 500_000_000;
/// But it is never less CPU time than this: what is sampled comes in lumps of a tick, and must not throttle by chance.
const BURST_CPU_NS_MIN: u64 = 100_000_000;
/// Whoever is over the budget waits so much longer than to its edge. Else it went over it again at its very next tick, and
/// to stop and go on costs more than it is good for: the kernel does not take the core from a thread that has just begun
/// to run, so those beside it are held up by how often it begins, more than by how long it runs.
const PAUSE_NS: u64 = 50_000_000;
/// Nobody waits longer than this for what was used before; what is more is forgotten. It takes a host function that
/// runs for seconds, or very many threads, to get there.
const WAIT_NS_MAX: u64 = 2_000_000_000;

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(share: CpuShare) -> Self {
        Self { rate: rate(share), meter: RateMeter::default(), until: 0, throttled_ns: 0, throttles: 0 }
    }

    /// Another share from now on. What was used stays used.
    pub fn set_share(&mut self, share: CpuShare) {
        self.rate = rate(share);
    }

    /// So much CPU time was used until now. True: it is over the budget.
    pub fn charge(&mut self, cpu_ns: u64, now: u64) -> bool {
        let mut wait = self.meter.charge(self.rate, cpu_ns, now);
        if wait > WAIT_NS_MAX {
            self.meter = RateMeter::due_at(self.meter.due() - (wait - WAIT_NS_MAX));
            wait = WAIT_NS_MAX;
        }
        if wait > 0 {
            self.throttle(now, now.saturating_add(wait).saturating_add(PAUSE_NS));
        }
        self.until > now
    }

    /// Until when turns must wait. None: they need not.
    pub fn wait_until(&self, now: u64) -> Option<u64> {
        (self.until > now).then_some(self.until)
    }

    /// Time for which turns were told to wait.
    pub fn throttled_ns(&self) -> u64 {
        self.throttled_ns
    }

    /// How often it went over the budget.
    pub fn throttles(&self) -> u64 {
        self.throttles
    }

    fn throttle(&mut self, now: u64, until: u64) {
        if self.until <= now {
            self.throttles += 1;
        }
        if until > self.until {
            self.throttled_ns += until - self.until.max(now);
            self.until = until;
        }
    }
}

fn rate(share: CpuShare) -> Rate {
    let burst_ns = BURST_CPU_NS_MIN * 1000 / u64::from(share.millis());
    Rate::of_cpu(share).with_burst_ns(burst_ns.max(BURST_NS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// The most CPU time that a share comes to in so long, and its burst.
    fn allowed(share: CpuShare, window: u64) -> u64 {
        let at = |time: u64| (u128::from(time) * u128::from(share.millis()) / 1000) as u64;
        at(window) + at(BURST_NS).max(BURST_CPU_NS_MIN)
    }

    #[test]
    fn a_burst_is_free_and_then_it_is_the_share() {
        let mut budget = Budget::new(CpuShare::from_millis(500));
        assert!(!budget.charge(250 * MS, 0));
        assert!(budget.charge(MS, 0));
        assert_eq!(budget.wait_until(0), Some(52 * MS));
        assert_eq!(budget.wait_until(52 * MS), None);
        // What it waited longer than to the edge is there to be used.
        assert!(!budget.charge(25 * MS, 52 * MS));
        assert!(budget.charge(MS, 52 * MS));
        assert_eq!((budget.throttles(), budget.throttled_ns()), (2, 104 * MS));
    }

    #[test]
    fn another_share_counts_from_now_on() {
        let mut budget = Budget::new(CpuShare::MIN);
        assert!(budget.charge(101 * MS, 0));
        assert!(budget.wait_until(0).unwrap() >= 100 * MS);
        let mut budget = Budget::new(CpuShare::MIN);
        budget.set_share(CpuShare::from_millis(4000));
        assert!(!budget.charge(101 * MS, 0));
    }

    #[test]
    fn a_charge_of_hours_costs_seconds_of_waiting() {
        let mut budget = Budget::new(CpuShare::MIN);
        assert!(budget.charge(u64::MAX, 7));
        assert_eq!(budget.wait_until(7), Some(7 + WAIT_NS_MAX + PAUSE_NS));
    }

    /// An app that runs whenever it may, on so many threads, for so many ticks of so many microseconds of CPU time.
    fn greedy(share: CpuShare, threads: u64, ticks: &[u64]) -> Vec<(u64, u64)> {
        let (mut budget, mut now, mut uses) = (Budget::new(share), 0, Vec::new());
        for micros in ticks {
            if let Some(until) = budget.wait_until(now) {
                now = until;
            }
            now += micros * 1000;
            for _ in 0..threads {
                let _ = budget.charge(micros * 1000, now);
            }
            uses.push((now, threads * micros * 1000));
        }
        uses
    }

    proptest! {
        #[test]
        fn over_any_window_a_greedy_app_gets_its_share_its_burst_and_a_tick_of_each_thread(
            millis in 50..4_000_u32,
            threads in 1..8_u64,
            ticks in prop::collection::vec(1..4_000_u64, 1..400),
            (from, to) in (0..400_usize, 0..400_usize),
        ) {
            let share = CpuShare::from_millis(millis);
            let uses = greedy(share, threads, &ticks);
            let (from, to) = (from.min(to).min(uses.len() - 1), from.max(to).min(uses.len() - 1));
            let used: u64 = uses[from..=to].iter().map(|(_, cpu)| cpu).sum();
            // The window begins with the tick that is charged first.
            let window = uses[to].0 - uses[from].0 + uses[from].1 / threads;
            let tick = threads * 4 * MS;
            prop_assert!(used <= allowed(share, window) + 2 * tick, "{used} in {window}");
        }

        #[test]
        fn a_greedy_app_gets_nearly_its_share(millis in 50..1_000_u32, tick in 100..2_000_u64) {
            let share = CpuShare::from_millis(millis);
            let uses = greedy(share, 1, &vec![tick; 3_000]);
            let used: u64 = uses.iter().map(|(_, cpu)| cpu).sum();
            let end = uses.last().unwrap().0;
            let least = u64::from(millis) * end / 1000;
            // It may have waited last.
            prop_assert!(used + PAUSE_NS >= least / 100 * 99, "{used} of {least}");
        }

        #[test]
        fn an_app_within_its_budget_never_waits(
            millis in 10..4_000_u32,
            steps in prop::collection::vec((0..5_000_u64, 0..100_u64), 1..400),
        ) {
            let (share, mut now) = (CpuShare::from_millis(millis), 0);
            let mut budget = Budget::new(share);
            for (micros, percent) in steps {
                let pause = micros * 1000;
                now += pause;
                let cpu = pause * u64::from(millis) / 1000 * percent / 100;
                prop_assert!(!budget.charge(cpu, now));
                prop_assert_eq!(budget.wait_until(now), None);
            }
        }

        #[test]
        fn waiting_is_bounded_and_always_ends(
            millis in 10..4_000_u32,
            steps in prop::collection::vec((0..u64::MAX, 0..1_000 * MS), 1..100),
        ) {
            let (mut budget, mut now) = (Budget::new(CpuShare::from_millis(millis)), 0);
            let mut throttled = 0;
            for (cpu, pause) in steps {
                now += pause;
                let over = budget.charge(cpu, now);
                let until = budget.wait_until(now);
                prop_assert_eq!(over, until.is_some());
                prop_assert!(budget.throttled_ns() >= throttled);
                throttled = budget.throttled_ns();
                if let Some(until) = until {
                    prop_assert!(until - now <= WAIT_NS_MAX + PAUSE_NS);
                    prop_assert_eq!(budget.wait_until(until), None);
                }
            }
            // In all no more than the time that there was, and the last wait.
            prop_assert!(throttled <= now + WAIT_NS_MAX + PAUSE_NS);
        }
    }
}
