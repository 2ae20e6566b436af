//! The times at which a shard looks at a client again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    /// A heartbeat of this listener.
    Heartbeat(usize),
}

/// Deadlines of constant lengths: per length a queue in order of time, so setting and expiring cost O(1), however many
/// clients there are. An entry whose client has moved on comes up all the same: its stamp tells the owner so.
#[derive(Debug)]
pub(crate) struct Deadlines {
    queues: Vec<Queue>,
}

type Queue = (Due, Duration, VecDeque<(Instant, u32, u16)>);

impl Deadlines {
    pub fn new(lengths: impl IntoIterator<Item = (Due, Duration)>) -> Self {
        Self { queues: lengths.into_iter().map(|(due, length)| (due, length, VecDeque::new())).collect() }
    }

    /// Looks at `client` again when the time of `due` has passed. `stamp` comes back with it.
    pub fn set(&mut self, due: Due, client: u32, stamp: u16, now: Instant) {
        if let Some((_, length, queue)) = self.queues.iter_mut().find(|(d, ..)| *d == due) {
            queue.push_back((now + *length, client, stamp));
        }
    }

    /// The next deadline that has passed, with its client and stamp.
    pub fn pop(&mut self, now: Instant) -> Option<(Due, u32, u16)> {
        let (due, _, queue) =
            self.queues.iter_mut().find(|(.., q)| q.front().is_some_and(|(at, ..)| *at <= now))?;
        queue.pop_front().map(|(_, client, stamp)| (*due, client, stamp))
    }

    /// When to call `pop` again.
    pub fn next(&self) -> Option<Instant> {
        self.queues.iter().filter_map(|(.., queue)| queue.front().map(|(at, ..)| *at)).min()
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
}
