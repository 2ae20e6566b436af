use std::cell::Cell;
use std::time::Duration;

/// What a tick charges to whoever runs on this thread, which has used `cpu` so far, if the tick before was `interval`
/// ago.
pub(crate) fn sample(cpu: Duration, interval: Duration) -> Duration {
    thread_local! {
        static THREAD: Cell<Samples> = const { Cell::new(Samples::new()) };
    }
    let mut samples = THREAD.get();
    let charged = samples.take(cpu, interval);
    THREAD.set(samples);
    charged
}

/// What a thread has used and nobody was charged with. Samples take from it, so that on a busy machine nobody pays for
/// the time in which his thread did not run.
#[derive(Debug, Clone, Copy)]
struct Samples {
    seen: Duration,
    unclaimed: Duration,
}

/// More is not kept: what the thread used long ago says nothing about now.
const UNCLAIMED_MAX: Duration = Duration::from_millis(50);

impl Samples {
    const fn new() -> Self {
        Self { seen: Duration::ZERO, unclaimed: Duration::ZERO }
    }

    fn take(&mut self, cpu: Duration, interval: Duration) -> Duration {
        let unclaimed = self.unclaimed + cpu.saturating_sub(self.seen);
        let charged = unclaimed.min(interval);
        *self = Self { seen: cpu, unclaimed: (unclaimed - charged).min(UNCLAIMED_MAX) };
        charged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_thread_that_did_not_run_is_not_charged() {
        let mut samples = Samples::new();
        assert_eq!(samples.take(us(10_000), us(4_000)), us(4_000));
        assert_eq!(samples.take(us(10_000), us(4_000)), us(4_000));
        assert_eq!(samples.take(us(10_000), us(4_000)), us(2_000));
        assert_eq!(samples.take(us(10_000), us(4_000)), us(0));
        assert_eq!(samples.take(us(10_100), us(4_000)), us(100));
    }

    proptest! {
        #[test]
        fn nobody_is_charged_with_more_than_the_tick_and_all_together_with_what_the_thread_used(
            ticks in prop::collection::vec((0..5_000_u64, 1..5_000_u64), 1..200),
        ) {
            let (mut samples, mut cpu, mut charged) = (Samples::new(), Duration::ZERO, Duration::ZERO);
            for (used, interval) in ticks {
                cpu += us(used);
                let one = samples.take(cpu, us(interval));
                prop_assert!(one <= us(interval));
                charged += one;
                prop_assert!(charged <= cpu);
            }
        }

        #[test]
        fn in_the_long_run_an_app_is_charged_with_what_its_turns_use(
            turn_us in 1..900_u64,
            rest_us in 1..5_000_u64,
            seed in 0..u64::MAX,
        ) {
            // One app on one thread, which does something else between turns a fifth of that time.
            let (mut samples, mut charged, mut last) = (Samples::new(), Duration::ZERO, 0);
            let (cycle, mut random) = (turn_us + rest_us, fastrand::Rng::with_seed(seed));
            for _ in 0..20_000 {
                let now = last + random.u64(3_000..5_000);
                let (cycles, into) = (now / cycle, now % cycle);
                let cpu = cycles * (turn_us + rest_us / 5) + into.min(turn_us) + into.saturating_sub(turn_us) / 5;
                if into < turn_us {
                    charged += samples.take(us(cpu), us(now - last));
                }
                last = now;
            }
            let used = us(last / cycle * turn_us);
            let error = charged.abs_diff(used);
            prop_assert!(error <= used / 5 + us(100_000), "{charged:?} of {used:?}");
        }
    }
}
