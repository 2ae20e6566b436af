//! When a slot whose instance broke tries again.

use std::time::{Duration, Instant};

/// When to try again to start an instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    pub at: Instant,
    wait: Duration,
}

impl Restart {
    pub fn now() -> Self {
        Self { at: Instant::now(), wait: RESTART_WAIT_MIN }
    }

    /// It failed: later, and later each time, at times that differ from slot to slot.
    pub fn postpone(&mut self) -> Duration {
        let jittered = self.wait.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.at = Instant::now() + jittered;
        self.wait = (self.wait * 2).min(RESTART_WAIT_MAX);
        jittered
    }
}

const RESTART_WAIT_MIN: Duration = Duration::from_millis(50);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(30);
