//! Memory over many swaps, and whether it grows.

use serde::Serialize;

use crate::procs::MemorySample;

/// How many times a run looks at the server's memory, besides after the first and the last swap.
const SAMPLES_WANTED: u32 = 200;

/// The server's memory after the n-th measured swap, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryAt {
    /// The measured swap, from 1.
    pub swap: u32,
    /// Private memory without a file: heap, stacks, wasm memories.
    pub anonymous: u64,
    /// Resident set size.
    pub rss: u64,
    /// Proportional set size: shared pages are split among their users.
    pub pss: u64,
}

/// The server's memory over the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryTrend {
    /// After the first measured swap, then at even distances, and after the last.
    pub samples: Vec<MemoryAt>,
    /// The slopes are fitted from this swap on: what caches and allocators take at first is no growth.
    pub fitted_from: u32,
    /// Bytes of private memory per swap.
    pub anonymous: Option<Slope>,
    /// Bytes of the resident set per swap.
    pub rss: Option<Slope>,
    /// Bytes of the proportional set per swap.
    pub pss: Option<Slope>,
}

/// A straight line through points, by least squares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// Bytes per swap.
    pub per_swap: f64,
    /// The standard error of it; a slope of less than twice that is none that can be told from noise.
    pub error: f64,
}

impl MemoryAt {
    pub(super) fn new(swap: u32, sample: MemorySample) -> MemoryAt {
        let MemorySample { anonymous, rss, pss } = sample;
        MemoryAt { swap, anonymous, rss, pss }
    }
}

/// Whether to weigh the server after measured swap `swap` of `swaps`.
pub(super) fn is_due(swap: u32, swaps: u32) -> bool {
    let step = (swaps / SAMPLES_WANTED).max(1);
    swap == 1 || swap == swaps || swap.is_multiple_of(step)
}

impl MemoryTrend {
    /// None without samples. The slopes leave out the first tenth of the `swaps`.
    pub(super) fn of(samples: Vec<MemoryAt>, swaps: u32) -> Option<MemoryTrend> {
        if samples.is_empty() {
            return None;
        }
        let fitted_from = swaps / 10 + 1;
        let slope = |value: fn(&MemoryAt) -> u64| {
            let settled = samples.iter().filter(|sample| sample.swap >= fitted_from);
            Slope::of(settled.map(|sample| (f64::from(sample.swap), value(sample) as f64)))
        };
        let (anonymous, rss, pss) = (slope(|s| s.anonymous), slope(|s| s.rss), slope(|s| s.pss));
        Some(MemoryTrend { samples, fitted_from, anonymous, rss, pss })
    }

    /// About a dozen of the samples, the first and the last among them: what a person wants to read.
    pub(super) fn excerpt(&self) -> impl Iterator<Item = &MemoryAt> {
        let last = self.samples.len().saturating_sub(1);
        let step = (self.samples.len() / 10).max(1);
        let wanted = move |at: usize| at == 0 || at == last || (at + 1).is_multiple_of(step);
        self.samples.iter().enumerate().filter(move |(at, _)| wanted(*at)).map(|(_, sample)| sample)
    }
}

impl Slope {
    /// None with less than three points, or if all have the same x.
    fn of(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Slope> {
        let count = points.clone().count() as f64;
        if count < 3.0 {
            return None;
        }
        let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|(x, _)| x), mean(|(_, y)| y));
        let sum = |of: &dyn Fn(f64, f64) -> f64| {
            points.clone().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>()
        };
        let spread = sum(&|x, _| x * x);
        if spread <= 0.0 {
            return None;
        }
        let per_swap = sum(&|x, y| x * y) / spread;
        let rest = sum(&|x, y| (y - per_swap * x).powi(2));
        Some(Slope { per_swap, error: (rest / (count - 2.0) / spread).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trend(swaps: u32, bytes: impl Fn(u32) -> u64) -> MemoryTrend {
        let due = (1..=swaps).filter(|swap| is_due(*swap, swaps));
        let sample = |swap| MemoryAt { swap, anonymous: bytes(swap), rss: 0, pss: 7 };
        MemoryTrend::of(due.map(sample).collect(), swaps).unwrap()
    }

    #[test]
    fn first_last_and_even_distances_between_are_weighed() {
        let due = |swaps| (1..=swaps).filter(|swap| is_due(*swap, swaps)).collect::<Vec<_>>();
        assert_eq!(due(3), [1, 2, 3]);
        assert_eq!(due(1000)[..4], [1, 5, 10, 15]);
        let many = due(99_999);
        assert_eq!((many.first(), many.last()), (Some(&1), Some(&99_999)));
        assert!((200..=204).contains(&many.len()), "{}", many.len());
    }

    #[test]
    fn the_first_tenth_is_left_out() {
        // A cache fills during the first 100 swaps, then 3 bytes a swap leak.
        let trend =
            trend(
                1000,
                |swap| if swap <= 100 { u64::from(swap) * 9_000 } else { 900_000 + u64::from(swap) * 3 },
            );
        assert_eq!(trend.fitted_from, 101);
        let slope = trend.anonymous.unwrap();
        assert!((slope.per_swap - 3.0).abs() < 1e-6 && slope.error < 1e-3, "{slope:?}");
        assert_eq!(trend.pss, Some(Slope { per_swap: 0.0, error: 0.0 }));
    }

    #[test]
    fn too_few_points_have_no_slope() {
        let trend = trend(2, u64::from);
        assert_eq!((trend.samples.len(), trend.anonymous), (2, None));
        assert_eq!(MemoryTrend::of(Vec::new(), 10), None);
    }

    #[test]
    fn a_person_reads_about_a_dozen_samples() {
        let trend = trend(1000, u64::from);
        let swaps: Vec<_> = trend.excerpt().map(|sample| sample.swap).collect();
        assert_eq!((swaps.first(), swaps.last()), (Some(&1), Some(&1000)));
        assert!((10..=13).contains(&swaps.len()), "{swaps:?}");
    }

    proptest! {
        #[test]
        fn a_straight_line_has_its_own_slope(a in -1e6f64..1e6, b in -1e3f64..1e3, points in 3u32..60) {
            let line = (0..points).map(|x| (f64::from(x), a + b * f64::from(x)));
            let slope = Slope::of(line).unwrap();
            prop_assert!((slope.per_swap - b).abs() < 1e-6 && slope.error < 1e-3);
        }
    }
}
