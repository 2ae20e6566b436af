//! The timers of a slot.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timers by key. Pure: time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_key: HashMap<Arc<str>, (Instant, Option<Duration>)>,
    by_time: BTreeSet<(Instant, Arc<str>)>,
}

/// One change that a turn asked for; done when the turn ends well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimerOp {
    Set { key: Arc<str>, after: Duration, every: Option<Duration> },
    Cancel(Arc<str>),
}

impl TimerOp {
    /// The timer that it is about.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Set { key, .. } | Self::Cancel(key) => key,
        }
    }
}

impl Timers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether a key has one.
    pub fn has(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// Does what a turn asked for.
    pub fn apply(&mut self, op: TimerOp, now: Instant) {
        match op {
            TimerOp::Cancel(key) => {
                if let Some((at, _)) = self.by_key.remove(&key) {
                    self.by_time.remove(&(at, key));
                }
            }
            TimerOp::Set { key, after, every } => {
                let at = now + after;
                if let Some((old, _)) = self.by_key.insert(key.clone(), (at, every)) {
                    self.by_time.remove(&(old, key.clone()));
                }
                self.by_time.insert((at, key));
            }
        }
    }

    /// Takes a timer that is due. A repeating one is set again, counted from now, so that a slot that was busy for long
    /// does not get its missed turns all at once.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<str>> {
        if self.by_time.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        if let Some((_, Some(every))) = self.by_key.remove(&key) {
            self.apply(TimerOp::Set { key: key.clone(), after: every, every: Some(every) }, now);
        }
        Some(key)
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Forgets all: the instance that set them is gone.
    pub fn clear(&mut self) {
        self.by_key.clear();
        self.by_time.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, after_ms: u64, every_ms: u64) -> TimerOp {
        let every = (every_ms > 0).then(|| Duration::from_millis(every_ms));
        TimerOp::Set { key: key.into(), after: Duration::from_millis(after_ms), every }
    }

    #[test]
    fn timers_fire_in_order_and_repeat() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.apply(set("b", 20, 0), start);
        timers.apply(set("a", 10, 30), start);
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(25)).as_deref(), Some("a"));
        assert_eq!(timers.pop(at(25)).as_deref(), Some("b"));
        assert_eq!(timers.pop(at(25)), None);
        assert_eq!(timers.next(), Some(at(55)));
    }

    #[test]
    fn a_key_has_one_timer_and_can_be_cancelled() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.apply(set("a", 10, 0), start);
        timers.apply(set("a", 20, 0), start);
        assert_eq!((timers.len(), timers.next()), (1, Some(start + Duration::from_millis(20))));
        timers.apply(TimerOp::Cancel("a".into()), start);
        timers.apply(TimerOp::Cancel("unknown".into()), start);
        assert_eq!((timers.len(), timers.next(), timers.has("a")), (0, None, false));
    }
}
