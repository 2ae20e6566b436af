//! Which turns are measured, and for how many they stand.
//!
//! Reading a clock before and after each turn would cost every message of every app. So of the short turns one is measured for
//! each tick of the engine, by chance among those that come, and stands for all since the one before: an app with few turns has
//! each of them measured, one with very many a few hundred a second. A turn that has had a tick or waited was metered anyway, and
//! is counted by itself, so that none that is slow is missed. Events that come in are picked in the same way, and the wait of each
//! picked one stands for those since the one before (`intake.rs`).

use std::time::{Duration, Instant};

use tidegate_runtime::LongTurn;

/// Picks the turns of one slot that are measured.
#[derive(Debug)]
pub(super) struct Times {
    tick: u64,
    /// Short turns, and the one that runs.
    turns: u64,
    /// How many there were at the tick.
    at_tick: u64,
    /// How many the measured ones stand for.
    counted: u64,
    /// The one to be measured, or the first after it.
    due: u64,
    random: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self { tick: 0, turns: 0, at_tick: 0, counted: 0, due: NONE, random: 0 }
    }
}

/// What becomes of a turn that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Begins {
    /// It is to be measured.
    pub is_due: bool,
    /// The engine has ticked: one more of the events that come is to be looked at, by this number.
    pub ticked: Option<u32>,
}

/// How long a turn took, and how many turns it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    pub time: Duration,
    pub stands_for: u64,
}

/// No turn.
const NONE: u64 = u64::MAX;

impl Times {
    /// A turn begins; the engine has ticked so many times.
    pub fn begin(&mut self, ticks: u64) -> Begins {
        self.turns += 1;
        let ticked = (ticks != self.tick).then(|| self.ticked(ticks));
        Begins { is_due: self.turns >= self.due, ticked }
    }

    /// A turn has ended. `began`: it was to be measured. None: nobody knows how long it was, but that it was short.
    pub fn ended(
        &mut self,
        began: Option<Instant>,
        long: Option<LongTurn>,
        now: impl Fn() -> Instant,
    ) -> Option<Measured> {
        if let Some(LongTurn { began: at, waited }) = long {
            // The short ones before it still wait for one that stands for them: if it was due, so is the next one.
            self.turns -= 1;
            let whole = began.map(|began| now().saturating_duration_since(began).saturating_sub(waited));
            let time = whole.unwrap_or_else(|| now().saturating_duration_since(at));
            return Some(Measured { time, stands_for: 1 });
        }
        let time = now().saturating_duration_since(began?);
        let stands_for = self.turns - self.counted;
        self.counted = self.turns;
        self.due = NONE;
        Some(Measured { time, stands_for })
    }

    #[cold]
    fn ticked(&mut self, ticks: u64) -> u32 {
        // Xorshift; what it starts with differs from slot to slot by when they have their first turns.
        let mut x = if self.random == 0 { (ticks as u32) | 1 } else { self.random };
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.random = x;
        self.tick = ticks;
        // As many may come as in the interval before. Which one it is must not depend on where in a batch it stands.
        let before = u32::try_from(self.turns - 1 - self.at_tick).unwrap_or(u32::MAX);
        self.at_tick = self.turns - 1;
        self.due = self.turns + below(before, x);
        x
    }
}

/// A number below `end`, or 0 if that is, out of a random one.
pub(crate) fn below(end: u32, random: u32) -> u64 {
    (u64::from(random) * u64::from(end)) >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    fn run(times: &mut Times, ticks: u64, took: Duration) -> Option<Measured> {
        let start = Instant::now();
        let began = times.begin(ticks).is_due.then_some(start);
        times.ended(began, None, || start + took)
    }

    #[test]
    fn an_app_with_few_turns_has_each_of_them_measured() {
        let mut times = Times::default();
        for tick in 1..100 {
            let measured = run(&mut times, tick * 7, us(tick));
            assert_eq!(measured, Some(Measured { time: us(tick), stands_for: 1 }));
        }
    }

    #[test]
    fn a_long_turn_counts_by_itself_and_the_short_ones_before_it_are_not_forgotten() {
        let mut times = Times::default();
        assert!(run(&mut times, 1, us(5)).is_some());
        assert_eq!(run(&mut times, 1, us(5)), None);
        let start = Instant::now();
        let long = Some(LongTurn { began: start + us(900), waited: us(300) });
        times.begin(1);
        let measured = times.ended(Some(start), long, || start + us(10_000));
        assert_eq!(measured, Some(Measured { time: us(9_700), stands_for: 1 }));
        times.begin(1);
        let measured = times.ended(Some(start), None, || start + us(20));
        assert_eq!(measured, Some(Measured { time: us(20), stands_for: 2 }));
        // One that was not picked is known from its first tick on.
        let long = Some(LongTurn { began: start + us(901), waited: us(0) });
        assert!(!times.begin(1).is_due);
        let measured = times.ended(None, long, || start + us(10_000));
        assert_eq!(measured, Some(Measured { time: us(9_099), stands_for: 1 }));
    }

    proptest! {
        #[test]
        fn measured_turns_stand_for_all_but_those_since_the_last(
            per_tick in prop::collection::vec(0_u64..300, 1..200),
        ) {
            let (mut times, mut turns, mut counted) = (Times::default(), 0, 0);
            for (tick, count) in per_tick.into_iter().enumerate() {
                let mut picked = 0;
                for _ in 0..count {
                    turns += 1;
                    if let Some(measured) = run(&mut times, tick as u64 + 1, us(1)) {
                        counted += measured.stands_for;
                        picked += 1;
                        prop_assert_eq!(counted, turns);
                    }
                }
                prop_assert!(picked <= 1);
            }
        }

        #[test]
        fn in_the_long_run_each_place_in_a_batch_is_measured_as_often(batch in 2_u32..40, seed in 1_u32..) {
            let mut times = Times { random: seed, ..Times::default() };
            let mut first = 0;
            const TICKS: u32 = 4_000;
            for tick in 1..=TICKS {
                for place in 0..batch {
                    let picked = run(&mut times, tick.into(), us(1)).is_some();
                    first += u32::from(picked && place == 0);
                }
            }
            let expected = TICKS / batch;
            prop_assert!(first.abs_diff(expected) < expected / 3 + 60, "{first} of {TICKS} in batches of {batch}");
        }
    }
}
