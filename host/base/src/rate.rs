//! How much may come in a second, decided from numbers alone.

use crate::CpuShare;

/// So many units a second, and so many at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: u64,
    /// How long it takes for the burst to come in at the rate, in nanoseconds.
    burst_ns: u64,
}

impl Rate {
    /// None for 0 a second, which means no limit. The burst is what comes in a second.
    pub const fn per_second(units: u64) -> Option<Self> {
        match units {
            0 => None,
            per_second => Some(Self { per_second, burst_ns: SECOND_NS }),
        }
    }

    /// A share of the processors: its units are nanoseconds of CPU time. The burst is what it comes to in a second.
    pub const fn of_cpu(share: CpuShare) -> Self {
        Self { per_second: share.millis() as u64 * 1_000_000, burst_ns: SECOND_NS }
    }

    /// The same rate with what comes in so many seconds as the burst.
    #[must_use]
    pub const fn with_burst(self, seconds: u32) -> Self {
        Self { burst_ns: SECOND_NS.saturating_mul(seconds as u64), ..self }
    }

    /// The same rate with what comes in so many nanoseconds as the burst.
    #[must_use]
    pub const fn with_burst_ns(self, burst_ns: u64) -> Self {
        Self { burst_ns, ..self }
    }

    /// How many units a second.
    pub const fn units(self) -> u64 {
        self.per_second
    }

    /// In how many seconds the burst comes in.
    pub const fn burst_seconds(self) -> u32 {
        // It was made of so many.
        (self.burst_ns / SECOND_NS) as u32
    }

    /// How long so many units take.
    const fn time_of(self, units: u64) -> u64 {
        // Of more units than there are nanoseconds in half a year nobody is charged at once.
        let ns = units.saturating_mul(SECOND_NS) / self.per_second;
        if units > 0 && ns == 0 { 1 } else { ns }
    }
}

/// What has come in, as the time at which it all would have come at the rate (the generic cell rate algorithm): a single
/// number, however much came. `now` is in nanoseconds, of any clock that does not go back.
///
/// What is there already is [charged](RateMeter::charge), never refused: whoever reads in batches finds out afterwards how
/// much it was, and then waits until that is made up for. What can still be left out is [taken](RateMeter::take) or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateMeter(u64);

impl RateMeter {
    /// A meter whose units are all made up for at this time: what [`RateMeter::due`] said, for whoever keeps the number.
    pub const fn due_at(due: u64) -> Self {
        Self(due)
    }

    /// When everything is made up for.
    pub const fn due(&self) -> u64 {
        self.0
    }

    /// Charges so many units, and says for how many nanoseconds nothing more should be taken.
    #[must_use]
    pub const fn charge(&mut self, rate: Rate, units: u64, now: u64) -> u64 {
        let from = if self.0 > now { self.0 } else { now };
        self.0 = from.saturating_add(rate.time_of(units));
        self.wait(rate, now)
    }

    /// Charges so many units if they are within the burst and the rate. False: they are not, and nothing is charged.
    #[must_use]
    pub const fn take(&mut self, rate: Rate, units: u64, now: u64) -> bool {
        let mut charged = *self;
        let fits = charged.charge(rate, units, now) == 0;
        if fits {
            *self = charged;
        }
        fits
    }

    /// For how many nanoseconds nothing more should be taken; 0: it may be now.
    pub const fn wait(&self, rate: Rate, now: u64) -> u64 {
        self.0.saturating_sub(now.saturating_add(rate.burst_ns))
    }
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_goes_through_and_what_follows_comes_at_the_rate() {
        let (rate, mut meter) = (Rate::per_second(1_000).unwrap(), RateMeter::default());
        assert_eq!(meter.charge(rate, 1_000, 5), 0);
        let ms = 1_000_000;
        assert_eq!(meter.charge(rate, 1, 5), ms);
        assert_eq!(meter.wait(rate, 5 + ms), 0);
        assert_eq!(meter.charge(rate, 3, 5 + ms), 3 * ms);
    }

    #[test]
    fn what_does_not_fit_is_not_taken_and_costs_nothing() {
        let (rate, mut meter) = (Rate::per_second(10).unwrap().with_burst(2), RateMeter::default());
        assert_eq!((0..50).filter(|_| meter.take(rate, 1, 7)).count(), 20);
        let later = 7 + SECOND_NS / 10;
        assert!(!meter.take(rate, 1, later - 1) && meter.take(rate, 1, later) && !meter.take(rate, 1, later));
    }

    #[test]
    fn nothing_a_second_is_no_limit() {
        assert_eq!(Rate::per_second(0), None);
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_never_takes_more_than_the_burst_and_the_rate(
            per_second in 1..10_000_000_000_u64,
            steps in prop::collection::vec((0..100_000_u64, 0..1_000_000_u64), 1..200),
        ) {
            let (rate, mut meter) = (Rate::per_second(per_second).unwrap(), RateMeter::default());
            let (mut now, mut taken) = (0_u64, 0_u128);
            for (units, pause) in steps {
                now += pause;
                taken += u128::from(units);
                now += meter.charge(rate, units, now);
                let seconds_of_ns = u128::from(per_second) * u128::from(now) / 1_000_000_000;
                // Each charge may be rounded down by less than a nanosecond's worth.
                let rounding = 200 * (1 + u128::from(per_second) / 1_000_000_000);
                prop_assert!(taken <= seconds_of_ns + u128::from(per_second) + rounding + 1, "{taken} at {now}");
            }
        }

        #[test]
        fn numbers_out_of_this_world_wait_and_do_not_panic(per_second: u64, units: u64, now: u64) {
            if let Some(rate) = Rate::per_second(per_second) {
                let mut meter = RateMeter::default();
                let _ = meter.charge(rate, units, now);
                let _ = meter.charge(rate, units, now);
            }
        }
    }
}
