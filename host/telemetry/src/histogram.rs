//! Times, counted by how long they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The buckets: a time falls into the first whose bound, in microseconds, it does not exceed, or else into one more for what
/// is longer than ten seconds.
pub const BOUNDS_US: [u64; 12] =
    [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10_000_000];

const BUCKETS: usize = BOUNDS_US.len() + 1;

/// How many times were how long: each bucket by itself, not added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// One count for each of [`BOUNDS_US`], and one for what is longer.
    pub counts: [u64; BUCKETS],
    /// All times together, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// `weight` times of this length.
    pub fn add(&mut self, time: Duration, weight: u64) {
        let (bucket, ns) = measured(time);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(weight);
        }
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(weight));
    }

    /// With those of another one.
    pub fn merge(&mut self, more: &Self) {
        for (count, more) in self.counts.iter_mut().zip(more.counts) {
            *count = count.saturating_add(more);
        }
        self.sum_ns = self.sum_ns.saturating_add(more.sum_ns);
    }

    /// What came since `before`, an earlier look at the same. If it has begun anew meanwhile, all of it came.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut new = *self;
        for (count, before) in new.counts.iter_mut().zip(before.counts) {
            match count.checked_sub(before) {
                Some(left) => *count = left,
                None => return *self,
            }
        }
        new.sum_ns = self.sum_ns.saturating_sub(before.sum_ns);
        new
    }

    /// A time that the share `of` (0 to 1) of them does not exceed: the bound of the bucket that it falls into. None: there are
    /// no times. What is longer than ten seconds counts as ten.
    pub fn quantile(&self, of: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // At least the first of them. Counts are far below 2^53.
        let rank = (count as f64 * of.clamp(0.0, 1.0)).ceil().max(1.0);
        let mut seen = 0_u64;
        for (counted, bound) in self.counts.iter().zip(BOUNDS_US) {
            seen = seen.saturating_add(*counted);
            if seen as f64 >= rank {
                return Some(Duration::from_micros(bound));
            }
        }
        BOUNDS_US.last().map(|longest| Duration::from_micros(*longest))
    }
}

/// A [`Histogram`] that one writes and others read meanwhile. Who writes pays for a few plain loads and stores: there must not be
/// two at a time, or counts get lost.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl SharedHistogram {
    /// `weight` times of this length. For its one writer.
    pub fn add(&self, time: Duration, weight: u64) {
        let (bucket, ns) = measured(time);
        if let Some(count) = self.counts.get(bucket) {
            grow(count, weight);
        }
        grow(&self.sum_ns, ns.saturating_mul(weight));
    }

    /// As it is now. A time that is added at the same moment may be in the counts and not yet in the sum.
    pub fn get(&self) -> Histogram {
        Histogram {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

/// Its bucket, and its nanoseconds.
fn measured(time: Duration) -> (usize, u64) {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (BOUNDS_US.iter().take_while(|bound| ns > **bound * 1_000).count(), ns)
}

fn grow(number: &AtomicU64, by: u64) {
    number.store(number.load(Ordering::Relaxed).saturating_add(by), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_time_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let shared = SharedHistogram::default();
        let mut all = Histogram::default();
        for (time, weight) in
            [(us(0), 1), (us(10), 2), (Duration::from_nanos(10_001), 3), (us(10_000_001), 4)]
        {
            shared.add(time, weight);
            all.add(time, weight);
        }
        assert_eq!(shared.get(), all);
        assert_eq!((all.counts[0], all.counts[1], all.counts[12], all.count()), (3, 3, 4, 10));
        assert_eq!(all.sum_ns, 20_000 + 30_003 + 40_000_004_000);
    }

    #[test]
    fn absurd_times_and_weights_end_at_the_largest_number() {
        let mut all = Histogram::default();
        all.add(Duration::MAX, u64::MAX);
        all.add(Duration::MAX, u64::MAX);
        let other = all;
        all.merge(&other);
        assert_eq!((all.count(), all.sum_ns), (u64::MAX, u64::MAX));
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut all = Histogram::default();
        assert_eq!(all.quantile(0.5), None);
        all.add(us(5), 98);
        all.add(us(200), 1);
        all.add(us(90_000_000), 1);
        let quantiles = [0.0, 0.5, 0.98, 0.99, 1.0].map(|of| all.quantile(of).unwrap());
        assert_eq!(quantiles, [us(10), us(10), us(10), us(300), us(10_000_000)]);
    }

    #[test]
    fn what_came_since_is_the_difference_unless_it_began_anew() {
        let mut before = Histogram::default();
        before.add(us(5), 3);
        let mut now = before;
        now.add(us(50), 2);
        let mut new = Histogram::default();
        new.add(us(50), 2);
        assert_eq!(now.since(&before), new);
        assert_eq!(new.since(&before), new);
    }
}
