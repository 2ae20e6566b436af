//! Timers of this slot.
//!
//! A timer has a key and calls `on_timer` with it, in the slot that set it; no other slot sees it, and it ends with the
//! slot. Setting and cancelling take effect when the turn ends well. At most 1,024 by default. A plugin without
//! `on_timer` that sets one fails its turn.

use std::time::Duration;

use crate::host;

/// Calls `on_timer` with `key` once, after `after`. Setting a key again replaces its timer. Keys have 1 to 255 bytes.
pub fn set(key: &str, after: Duration) {
    host::set_timer(key, milliseconds(after), 0);
}

/// Calls `on_timer` with `key` again and again, every `period`; the first time after one period. 10 ms at least.
pub fn every(key: &str, period: Duration) {
    set_every(key, period, period);
}

/// Calls `on_timer` with `key` after `after` and then every `period`, 10 ms at least.
pub fn set_every(key: &str, after: Duration, period: Duration) {
    // A period of 0 would mean "once" to the host: too short is too short, and the host says so.
    host::set_timer(key, milliseconds(after), milliseconds(period).max(1));
}

/// Cancels a key's timer. Unknown keys are ignored.
pub fn cancel(key: &str) {
    host::cancel_timer(key);
}

// Rounded up: a timer never runs early.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_to_milliseconds_and_saturate() {
        assert_eq!(milliseconds(Duration::from_micros(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(7)), 7);
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::MAX), u64::MAX);
    }
}
