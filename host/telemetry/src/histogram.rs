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
}
