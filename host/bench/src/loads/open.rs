//! The open loop: messages are due by the clock, whatever became of the ones before.

use super::echo::Book;
use super::{Due, Load, Outbox, Schedule, Tally};
use crate::options::MessageKind;

// Messages under way over all connections; beyond that they count as unsent. At 2,000/s that is nine minutes of
// silence, at 1,000,000/s one second. 24 bytes each.
const OUTSTANDING_MAX: u32 = 1 << 20;
/// Due messages sent in one go before receiving is looked at again, when the generator lags behind.
pub(crate) const CATCH_UP_MAX: usize = 4096;

/// Sends what a [`Schedule`] that starts at the first pump says.
#[derive(Debug)]
pub(crate) struct Open {
    book: Book,
    schedule: Schedule,
    stopped: bool,
}

impl Open {
    /// `first` is the number of this fleet's first client among all clients; `rate` is this fleet's share.
    pub(crate) fn new(first: u32, clients: u32, rate: u32, payload: u32, kind: MessageKind) -> Open {
        let window = open_window(clients);
        let book = Book::new(first, clients, window, payload, kind);
        Open { book, schedule: Schedule::new(clients, rate), stopped: false }
    }
}

/// How many messages one of `clients` may have under way in an open loop.
pub(crate) fn open_window(clients: u32) -> u32 {
    (OUTSTANDING_MAX / clients.max(1)).max(16)
}

impl Load for Open {
    #[inline]
    fn on_message(&mut self, client: usize, payload: &[u8], now: u64) {
        self.book.receive(client, payload, now);
    }

    fn pump(&mut self, now: u64, outbox: &mut impl Outbox) {
        self.schedule.start(now);
        for _ in 0..CATCH_UP_MAX {
            if self.stopped {
                return;
            }
            let Some(Due { client, at }) = self.schedule.take(now) else { return };
            self.book.tally.lateness.record(now - at);
            match outbox.buffer(client).filter(|_| self.book.has_room(client)) {
                Some(out) => self.book.send(client, at, out),
                None => self.book.tally.faults.unsent += 1,
            }
        }
    }

    fn next_due(&self) -> Option<u64> {
        (!self.stopped).then(|| self.schedule.next_due())
    }

    fn on_closed(&mut self, client: usize) {
        self.book.close(client);
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn outstanding(&self) -> u64 {
        self.book.outstanding
    }

    fn is_alive(&self) -> bool {
        self.book.open > 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.book.tally
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Buffers, payloads};
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn messages_are_due_by_the_clock_and_latency_counts_from_then() {
        let mut open = Open::new(0, 2, 1000, 64, MessageKind::Text);
        let mut outbox = Buffers::new(2);
        open.pump(5 * MS, &mut outbox);
        assert_eq!(open.next_due(), Some(6 * MS));
        open.pump(8 * MS + 1, &mut outbox);
        let (zero, one) = (payloads(&mut outbox.of[0]), payloads(&mut outbox.of[1]));
        assert_eq!((zero.len(), one.len(), open.outstanding()), (2, 2, 4));
        assert_eq!(open.next_due(), Some(9 * MS));
        // Due at 6 ms, sent at 8 ms because the generator slept, back at 10 ms: 4 ms, not 2.
        open.on_message(1, &one[0], 10 * MS);
        assert!((open.tally().latency.summary().unwrap().max_us - 4000.0).abs() < 5.0);
        assert!((open.tally().lateness.summary().unwrap().max_us - 2000.0).abs() < 5.0);
        open.stop();
        open.pump(100 * MS, &mut outbox);
        assert_eq!((open.next_due(), open.outstanding()), (None, 3));
    }

    #[test]
    fn what_cannot_be_sent_when_due_is_counted_and_not_queued() {
        let mut open = Open::new(0, 1, 1000, 64, MessageKind::Text);
        let mut outbox = Buffers::new(1);
        outbox.refuse = true;
        open.pump(0, &mut outbox);
        open.pump(3 * MS, &mut outbox);
        assert_eq!((open.tally().faults.unsent, open.outstanding()), (4, 0));
    }

    #[test]
    fn a_generator_far_behind_looks_at_its_input_in_between() {
        let mut open = Open::new(0, 1, 10_000_000, 16, MessageKind::Text);
        let mut outbox = Buffers::new(1);
        open.pump(0, &mut outbox);
        open.pump(1000 * MS, &mut outbox);
        assert_eq!(open.outstanding(), 1 + CATCH_UP_MAX as u64);
    }
}
