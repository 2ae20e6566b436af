//! Percentiles, medians, ratios and the count of what went wrong.

use hdrhistogram::Histogram;
use serde::Serialize;

// One minute: a latency beyond that is recorded as one minute.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;

/// A histogram of nanoseconds, three significant digits, fixed size: recording never allocates.
#[derive(Clone, Debug)]
pub(crate) struct Nanos {
    histogram: Histogram<u64>,
}

impl Nanos {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants that satisfy low >= 1, high >= 2 * low, digits <= 5"
    )]
    pub(crate) fn new() -> Nanos {
        Nanos {
            histogram: Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("valid constant bounds"),
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        self.histogram.saturating_record(nanos);
    }

    pub(crate) fn reset(&mut self) {
        self.histogram.reset();
    }

    pub(crate) fn merge(&mut self, other: &Nanos) {
        // Same bounds by construction, so nothing can be out of range.
        let _ = self.histogram.add(&other.histogram);
    }

    /// The percentiles, or `None` if nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Latency> {
        let histogram = Some(&self.histogram).filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Latency {
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        })
    }
}

/// A latency distribution, in microseconds; three significant digits, capped at one minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// The middle and the ends of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median; of an even number of rounds the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of the finite values among `values`, or `None` without any.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower = if sorted.len().is_multiple_of(2) { *sorted.get(middle - 1)? } else { upper };
        Some(Spread { median: lower.midpoint(upper), min, max })
    }

    /// The spread of `a / b` over the pairs where both are known: each round is compared with its own partner
    /// only, so that a slow minute of the machine falls on both sides.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (Option<f64>, Option<f64>)>) -> Option<Spread> {
        Spread::of(pairs.into_iter().filter_map(|(a, b)| Some(a? / b?)))
    }
}

/// What went wrong on the way. All zero in a good run. Counted over the warm-up too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Messages (deliveries, for a broadcast) that did not come within the grace period after the run.
    pub lost: u64,
    /// Messages that came after a later one.
    pub reordered: u64,
    /// Messages that came again, or were never sent.
    pub unexpected: u64,
    /// Messages that came back damaged.
    pub wrong: u64,
    /// Connections that the server closed, or refused in a connect storm.
    pub closed: u64,
    /// Messages of an open loop that were not sent when due, because too many were under way already.
    pub unsent: u64,
    /// Messages that the server sent by itself, such as a greeting. Not a fault, but good to know.
    pub foreign: u64,
    /// Why the first of the closed connections was closed.
    pub first_close: Option<String>,
}

impl Faults {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        let Faults { lost, reordered, unexpected, wrong, closed, unsent, foreign: _, first_close: _ } = self;
        [lost, reordered, unexpected, wrong, closed, unsent].into_iter().all(|count| *count == 0)
    }

    /// Adds the counts of `other`.
    pub(crate) fn merge(&mut self, other: &Faults) {
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.unexpected += other.unexpected;
        self.wrong += other.wrong;
        self.closed += other.closed;
        self.unsent += other.unsent;
        self.foreign += other.foreign;
        if self.first_close.is_none() {
            self.first_close.clone_from(&other.first_close);
        }
    }

    /// Counts a connection that ended.
    pub(crate) fn close(&mut self, reason: impl FnOnce() -> String) {
        self.closed += 1;
        self.first_close.get_or_insert_with(reason);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution_come_out() {
        let mut nanos = Nanos::new();
        assert_eq!(nanos.summary(), None);
        (1..=1000).for_each(|us| nanos.record(us * 1000));
        let latency = nanos.summary().unwrap();
        for (got, want) in [
            (latency.p50_us, 500.0),
            (latency.p90_us, 900.0),
            (latency.p99_us, 990.0),
            (latency.p999_us, 999.0),
            (latency.max_us, 1000.0),
            (latency.mean_us, 500.5),
        ] {
            assert!((got / want - 1.0).abs() < 0.002, "{got} instead of {want}");
        }
        nanos.reset();
        assert_eq!(nanos.summary(), None);
    }

    #[test]
    fn latencies_beyond_a_minute_count_as_a_minute() {
        let mut nanos = Nanos::new();
        nanos.record(u64::MAX);
        assert!((nanos.summary().unwrap().max_us / 60e6 - 1.0).abs() < 0.001);
    }

    #[test]
    fn the_median_of_even_and_odd_counts_is_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY, 7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_pair_each_round_with_its_partner() {
        let pairs =
            [(Some(2.0), Some(1.0)), (Some(30.0), Some(10.0)), (None, Some(1.0)), (Some(4.0), Some(1.0))];
        assert_eq!(Spread::of_ratios(pairs), Some(Spread { median: 3.0, min: 2.0, max: 4.0 }));
        assert_eq!(Spread::of_ratios([(Some(1.0), Some(0.0))]), None);
    }

    #[test]
    fn merging_faults_keeps_the_first_reason() {
        let mut faults = Faults::default();
        assert!(faults.is_clean());
        let mut other = Faults { lost: 2, foreign: 1, ..Faults::default() };
        other.close(|| "gone".to_owned());
        other.close(|| "again".to_owned());
        faults.merge(&other);
        faults.merge(&other);
        assert_eq!((faults.lost, faults.closed, faults.first_close.as_deref()), (4, 4, Some("gone")));
        assert!(!faults.is_clean());
    }

    proptest! {
        #[test]
        fn merged_histograms_equal_one_histogram(a in prop::collection::vec(1u64..1 << 35, 1..50), b in prop::collection::vec(1u64..1 << 35, 1..50)) {
            let (mut one, mut left, mut right) = (Nanos::new(), Nanos::new(), Nanos::new());
            a.iter().for_each(|v| { one.record(*v); left.record(*v); });
            b.iter().for_each(|v| { one.record(*v); right.record(*v); });
            left.merge(&right);
            let (one, merged) = (one.summary().unwrap(), left.summary().unwrap());
            prop_assert_eq!((one.p50_us, one.p999_us, one.max_us), (merged.p50_us, merged.p999_us, merged.max_us));
        }

        #[test]
        fn the_median_lies_between_the_ends(values in prop::collection::vec(-1e9f64..1e9, 1..40)) {
            let spread = Spread::of(values).unwrap();
            prop_assert!(spread.min <= spread.median && spread.median <= spread.max);
        }
    }
}
