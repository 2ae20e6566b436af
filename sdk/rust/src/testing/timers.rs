use std::collections::BTreeMap;
use std::time::Duration;

/// The timers of a slot, on a clock that a test moves.
#[derive(Default)]
pub(super) struct Timers {
    now: Duration,
    by_key: BTreeMap<String, Timer>,
}

struct Timer {
    due: Duration,
    every: Duration,
}

impl Timers {
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn keys(&self) -> Vec<&str> {
        self.by_key.keys().map(String::as_str).collect()
    }

    pub(super) fn set(&mut self, key: String, after: Duration, every: Duration) {
        self.by_key.insert(key, Timer { due: self.now.saturating_add(after), every });
    }

    pub(super) fn cancel(&mut self, key: &str) {
        self.by_key.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.by_key.clear();
    }

    /// Moves the clock to the next timer that falls due by `until`, and takes it; to `until` if none does.
    pub(super) fn next_due(&mut self, until: Duration) -> Option<String> {
        let next = self.by_key.iter().min_by_key(|(_, timer)| timer.due);
        let Some(key) = next.filter(|(_, timer)| timer.due <= until).map(|(key, _)| key.clone()) else {
            self.now = until;
            return None;
        };
        let timer = self.by_key.remove(&key)?;
        self.now = self.now.max(timer.due);
        if !timer.every.is_zero() {
            self.set(key.clone(), timer.every, timer.every);
        }
        Some(key)
    }
}
