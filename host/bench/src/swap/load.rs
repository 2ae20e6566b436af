//! The load under which code is swapped: numbered messages, each answered with `VERSION MESSAGE`.

use super::gaps::Gaps;
use super::ledger::{Ledger, Receipt};
use super::options::Pace;
use super::turnover::Turnover;
use crate::loads::{CATCH_UP_MAX, Due, Load, Outbox, Schedule, Tally, open_window};
use crate::options::MessageKind;
use crate::payload::{Checked, Template};

// How much of an answer without a version word is kept for the report, in characters.
const SAMPLE_CHARS_MAX: usize = 80;

/// Sends by [`Pace`], and keeps the books: the ledger, the turnover of versions, the gaps.
#[derive(Debug)]
pub(super) struct SwapLoad {
    template: Template,
    connections: usize,
    /// How many messages each connection keeps under way; none in an open loop.
    in_flight: Option<u32>,
    schedule: Schedule,
    stopped: bool,
    /// Connections of a closed loop may have room without having received anything.
    has_new_room: bool,
    tally: Tally,
    /// An answer of ours that had no version word.
    pub(super) unversioned: Option<String>,
    pub(super) ledger: Ledger,
    pub(super) turnover: Turnover,
    pub(super) gaps: Gaps,
}

impl SwapLoad {
    pub(super) fn new(connections: u32, pace: Pace, payload: u32) -> SwapLoad {
        let (window, in_flight, rate) = match pace {
            Pace::Closed { in_flight } => (in_flight, Some(in_flight), 1),
            Pace::Open { rate } => (open_window(connections), None, rate),
        };
        SwapLoad {
            template: Template::new(payload as usize, MessageKind::Text),
            connections: connections as usize,
            in_flight,
            schedule: Schedule::new(connections, rate),
            stopped: false,
            has_new_room: false,
            tally: Tally::new(),
            unversioned: None,
            ledger: Ledger::new(connections, window),
            turnover: Turnover::new(connections),
            gaps: Gaps::new(connections),
        }
    }

    /// Gives up what was sent at `before` or earlier: it is lost, and the connection goes on.
    pub(super) fn give_up(&mut self, before: u64) {
        let lost = self.ledger.counts().lost();
        self.ledger.give_up(before);
        self.has_new_room |= self.ledger.counts().lost() > lost;
    }

    #[inline]
    fn send(&mut self, client: usize, at: u64, out: &mut Vec<u8>) {
        let number = self.ledger.send(client, at);
        self.template.put(client as u32, number, out);
    }

    /// The number of one of this client's own messages; what is none is counted.
    #[inline]
    fn own(&mut self, client: usize, message: &[u8]) -> Option<u64> {
        let faults = &mut self.tally.faults;
        match self.template.check(message) {
            Checked::Ours { client: sender, sequence } if sender as usize == client => return Some(sequence),
            Checked::Ours { .. } => faults.unexpected += 1,
            Checked::Wrong => faults.wrong += 1,
            Checked::Foreign => faults.foreign += 1,
        }
        None
    }

    /// Fills the windows of all connections again, `in_flight` messages each.
    fn refill_all(&mut self, in_flight: u32, now: u64, outbox: &mut impl Outbox) {
        for client in 0..self.connections {
            for _ in 0..in_flight {
                let room = !self.stopped && self.ledger.has_room(client);
                let Some(out) = outbox.buffer(client).filter(|_| room) else { break };
                self.send(client, now, out);
            }
        }
    }

    /// An answer without a version word: one of ours came back bare, or the server says something by itself.
    fn bare(&mut self, client: usize, answer: &[u8]) {
        if self.own(client, answer).is_some() {
            self.tally.faults.wrong += 1;
            self.unversioned.get_or_insert_with(|| {
                String::from_utf8_lossy(answer).chars().take(SAMPLE_CHARS_MAX).collect()
            });
        }
    }
}

impl Load for SwapLoad {
    #[inline]
    fn on_message(&mut self, client: usize, answer: &[u8], now: u64) {
        let Some((word, message)) = Turnover::split(answer) else { return self.bare(client, answer) };
        let Some(number) = self.own(client, message) else { return };
        // A repeated or late answer says as well which code runs.
        self.turnover.answer(client, word, now);
        match self.ledger.receive(client, number) {
            Receipt::Answer { sent_at, waiting_since } => {
                self.gaps.answer(client, sent_at, waiting_since, now);
                self.tally.counted += 1;
            }
            Receipt::Late | Receipt::Repeated | Receipt::Unknown => {}
        }
    }

    #[inline]
    fn refill(&mut self, client: usize, now: u64, out: &mut Vec<u8>) {
        if self.in_flight.is_none() {
            return;
        }
        while !self.stopped && self.ledger.has_room(client) {
            self.send(client, now, out);
        }
    }

    fn pump(&mut self, now: u64, outbox: &mut impl Outbox) {
        if let Some(in_flight) = self.in_flight {
            if std::mem::take(&mut self.has_new_room) {
                self.refill_all(in_flight, now, outbox);
            }
            return;
        }
        self.schedule.start(now);
        for _ in 0..CATCH_UP_MAX {
            if self.stopped {
                return;
            }
            let Some(Due { client, at }) = self.schedule.take(now) else { return };
            if !self.ledger.is_open(client) {
                continue;
            }
            self.tally.lateness.record(now - at);
            match outbox.buffer(client).filter(|_| self.ledger.has_room(client)) {
                Some(out) => self.send(client, at, out),
                None => self.tally.faults.unsent += 1,
            }
        }
    }

    fn next_due(&self) -> Option<u64> {
        (self.in_flight.is_none() && !self.stopped).then(|| self.schedule.next_due())
    }

    fn on_closed(&mut self, client: usize) {
        self.ledger.close(client);
        self.turnover.close(client);
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn outstanding(&self) -> u64 {
        self.ledger.counts().under_way()
    }

    fn is_alive(&self) -> bool {
        self.ledger.open() > 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::testing::{Buffers, payloads};

    fn answer(word: &str, message: &[u8]) -> Vec<u8> {
        [word.as_bytes(), b" ", message].concat()
    }

    #[test]
    fn a_closed_loop_keeps_its_window_full() {
        let mut load = SwapLoad::new(1, Pace::Closed { in_flight: 2 }, 64);
        let mut out = Vec::new();
        load.refill(0, 0, &mut out);
        let sent = payloads(&mut out);
        assert_eq!((sent.len(), load.outstanding()), (2, 2));
        load.on_message(0, &answer("v1", &sent[0]), 5);
        load.refill(0, 5, &mut out);
        assert_eq!((payloads(&mut out).len(), load.ledger.counts().answered), (1, 1));
        assert!(load.turnover.is_through());
        load.pump(9, &mut Buffers::new(1));
        assert_eq!((load.outstanding(), load.next_due()), (2, None));
    }

    #[test]
    fn a_closed_loop_goes_on_after_a_loss() {
        let mut load = SwapLoad::new(2, Pace::Closed { in_flight: 1 }, 64);
        let mut outbox = Buffers::new(2);
        load.refill(0, 10, &mut outbox.of[0]);
        load.refill(1, 20, &mut outbox.of[1]);
        outbox.of.iter_mut().for_each(Vec::clear);
        load.give_up(10);
        load.pump(30, &mut outbox);
        assert_eq!((payloads(&mut outbox.of[0]).len(), payloads(&mut outbox.of[1]).len()), (1, 0));
        assert_eq!((load.ledger.counts().lost(), load.outstanding()), (1, 2));
    }

    #[test]
    fn an_open_loop_sends_by_the_clock_and_leaves_closed_connections_out() {
        let mut load = SwapLoad::new(2, Pace::Open { rate: 1000 }, 64);
        let mut outbox = Buffers::new(2);
        load.on_closed(1);
        load.pump(0, &mut outbox);
        load.pump(3_000_000, &mut outbox);
        assert_eq!((payloads(&mut outbox.of[0]).len(), payloads(&mut outbox.of[1]).len()), (2, 0));
        assert_eq!((load.tally().faults.unsent, load.next_due()), (0, Some(4_000_000)));
    }

    #[test]
    fn what_is_no_answer_is_counted_as_what_it_is() {
        let mut load = SwapLoad::new(2, Pace::Closed { in_flight: 3 }, 64);
        let mut out = Vec::new();
        load.refill(0, 0, &mut out);
        let sent = payloads(&mut out);
        load.on_message(0, b"Hello 17", 1);
        load.on_message(0, b"Welcome", 1);
        load.on_message(1, &answer("v1", &sent[0]), 1);
        load.on_message(0, &answer("v1", &sent[0][..60]), 1);
        load.on_message(0, &sent[0], 1);
        let faults = load.tally().faults.clone();
        assert_eq!((faults.foreign, faults.unexpected, faults.wrong), (2, 1, 2));
        assert!(load.unversioned.is_some_and(|sample| sample.starts_with("tgb~")));
        assert_eq!((load.ledger.counts().answered, load.turnover.moved()), (0, 0));
    }
}
