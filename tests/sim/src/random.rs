//! Numbers from a seed.

use std::time::Duration;

/// SplitMix64: small, and good enough to shuffle a cluster.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, but not, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Once in so many times; never, if it is 0.
    pub fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// Mostly short, now and then long.
    pub fn delay(&mut self, usual: Duration) -> Duration {
        let micros = usual.as_micros() as u64;
        let long = if self.one_in(20) { 20 } else { 1 };
        Duration::from_micros(1 + self.below(micros * 2) * long)
    }
}
