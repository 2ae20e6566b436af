//! The times at which a shard looks at a client again.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The HTTP head is not there.
    Handshake,
    /// The plugin has not decided the upgrade, or its slot had no credit to ask it.
    Decision,
    /// No slot took the client.
    Slot,
    /// The client has not closed.
    Linger,
    /// A listener that could not accept.
    Accept,
    /// A client that spoke too fast may speak again.
    Pace,
    /// A client that got too much may get more.
    OutPace,
    /// The clients of an app that takes none any more should be gone; its number instead of a client's.
    AppEnd,
    /// A heartbeat.
    Heartbeat,
}

/// Deadlines of constant lengths: per length a queue in order of time, so setting and expiring cost O(1), however many
/// clients there are. An entry whose client has moved on comes up all the same: its stamp tells the owner so.
///
/// Heartbeats have as many lengths as apps choose. Looking for the next deadline costs the same all the same: the heads of
/// their queues are in order, and a queue that is empty is forgotten.
#[derive(Debug)]
pub(crate) struct Deadlines {
    queues: Vec<Queue>,
    heartbeats: FxHashMap<Duration, VecDeque<(Instant, u32)>>,
    /// When the first of each of those is due.
    heads: BTreeSet<(Instant, Duration)>,
}

type Queue = (Due, Duration, VecDeque<(Instant, u32, u16)>);

impl Deadlines {
    pub fn new(lengths: impl IntoIterator<Item = (Due, Duration)>) -> Self {
        Self {
            queues: lengths.into_iter().map(|(due, length)| (due, length, VecDeque::new())).collect(),
            heartbeats: FxHashMap::default(),
            heads: BTreeSet::new(),
        }
    }

    /// Looks at `client` again when the time of `due` has passed. `stamp` comes back with it.
    pub fn set(&mut self, due: Due, client: u32, stamp: u16, now: Instant) {
        if let Some((_, length, queue)) = self.queues.iter_mut().find(|(d, ..)| *d == due) {
            queue.push_back((now + *length, client, stamp));
        }
    }

    /// Looks at `client` again for its heartbeat.
    pub fn set_heartbeat(&mut self, interval: Duration, client: u32, now: Instant) {
        let queue = self.heartbeats.entry(interval).or_default();
        let at = now + interval;
        if queue.is_empty() {
            self.heads.insert((at, interval));
        }
        queue.push_back((at, client));
    }

    /// The next deadline that has passed, with its client and stamp.
    pub fn pop(&mut self, now: Instant) -> Option<(Due, u32, u16)> {
        let mut queues = self.queues.iter_mut();
        let Some((due, _, queue)) = queues.find(|(.., q)| q.front().is_some_and(|(at, ..)| *at <= now))
        else {
            return self.pop_heartbeat(now).map(|client| (Due::Heartbeat, client, 0));
        };
        queue.pop_front().map(|(_, client, stamp)| (*due, client, stamp))
    }

    /// When to call `pop` again.
    pub fn next(&self) -> Option<Instant> {
        let heartbeat = self.heads.first().map(|(at, _)| *at);
        self.queues.iter().filter_map(|(.., queue)| queue.front().map(|(at, ..)| *at)).chain(heartbeat).min()
    }

    fn pop_heartbeat(&mut self, now: Instant) -> Option<u32> {
        let (_, interval) = self.heads.first().filter(|(at, _)| *at <= now).copied()?;
        self.heads.pop_first();
        let queue = self.heartbeats.get_mut(&interval)?;
        let (_, client) = queue.pop_front()?;
        match queue.front() {
            Some((at, _)) => {
                self.heads.insert((*at, interval));
            }
            None => {
                self.heartbeats.remove(&interval);
            }
        }
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_up_in_order_of_time_within_and_across_lengths() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let lengths = [(Due::Linger, Duration::from_millis(10)), (Due::Slot, Duration::from_millis(100))];
        let mut deadlines = Deadlines::new(lengths);
        deadlines.set(Due::Slot, 1, 7, at(0));
        deadlines.set(Due::Linger, 2, 0, at(5));
        deadlines.set(Due::Linger, 3, 0, at(6));
        assert_eq!(deadlines.next(), Some(at(15)));
        assert_eq!(deadlines.pop(at(14)), None);
        assert_eq!(deadlines.pop(at(15)), Some((Due::Linger, 2, 0)));
        assert_eq!(deadlines.pop(at(15)), None);
        assert_eq!(deadlines.pop(at(200)), Some((Due::Linger, 3, 0)));
        assert_eq!(deadlines.pop(at(200)), Some((Due::Slot, 1, 7)));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn heartbeats_of_any_length_come_up_in_order_of_time_and_leave_nothing_behind() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::new([(Due::Linger, Duration::from_millis(10))]);
        for (interval, client, now) in [(30, 1, 0), (10, 2, 0), (10, 3, 5), (30, 4, 5)] {
            deadlines.set_heartbeat(Duration::from_millis(interval), client, at(now));
        }
        assert_eq!((deadlines.next(), deadlines.pop(at(9))), (Some(at(10)), None));
        deadlines.set(Due::Linger, 9, 1, at(1));
        let due: Vec<_> = std::iter::from_fn(|| deadlines.pop(at(30))).map(|(_, client, _)| client).collect();
        assert_eq!(due, [9, 2, 3, 1]);
        assert_eq!(deadlines.next(), Some(at(35)));
        assert_eq!(deadlines.pop(at(35)), Some((Due::Heartbeat, 4, 0)));
        assert!(deadlines.heartbeats.is_empty() && deadlines.heads.is_empty());
    }
}
