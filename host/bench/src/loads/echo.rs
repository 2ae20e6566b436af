//! The closed loop, and the book-keeping of returned messages that the open loop shares.

use super::{Load, Tally};
use crate::flight::{Arrival, Flight};
use crate::options::MessageKind;
use crate::payload::{Checked, Template};

/// Every client keeps its window full: a message that is back makes room for the next.
#[derive(Debug)]
pub(crate) struct Echo {
    book: Book,
    stopped: bool,
}

impl Echo {
    /// `first` is the number of this fleet's first client among all clients of the run.
    pub(crate) fn new(first: u32, clients: u32, in_flight: u32, payload: u32, kind: MessageKind) -> Echo {
        Echo { book: Book::new(first, clients, in_flight, payload, kind), stopped: false }
    }
}

impl Load for Echo {
    #[inline]
    fn on_message(&mut self, client: usize, payload: &[u8], now: u64) {
        self.book.receive(client, payload, now);
    }

    #[inline]
    fn refill(&mut self, client: usize, now: u64, out: &mut Vec<u8>) {
        while !self.stopped && self.book.has_room(client) {
            self.book.send(client, now, out);
        }
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

/// What every client has under way, checked message by message.
#[derive(Debug)]
pub(super) struct Book {
    first: u32,
    template: Template,
    flights: Vec<Flight>,
    pub(super) open: u32,
    pub(super) outstanding: u64,
    pub(super) tally: Tally,
}

impl Book {
    pub(super) fn new(first: u32, clients: u32, window: u32, payload: u32, kind: MessageKind) -> Book {
        Book {
            first,
            template: Template::new(payload as usize, kind),
            flights: (0..clients).map(|_| Flight::new(window)).collect(),
            open: clients,
            outstanding: 0,
            tally: Tally::new(),
        }
    }

    #[inline]
    pub(super) fn has_room(&self, client: usize) -> bool {
        self.flights[client].has_room()
    }

    /// Appends the client's next message, counted as sent at `at`.
    #[inline]
    pub(super) fn send(&mut self, client: usize, at: u64, out: &mut Vec<u8>) {
        let sequence = self.flights[client].send(at);
        self.outstanding += 1;
        self.template.put(self.first + client as u32, sequence, out);
    }

    #[inline]
    pub(super) fn receive(&mut self, client: usize, payload: &[u8], now: u64) {
        let faults = &mut self.tally.faults;
        let sequence = match self.template.check(payload) {
            Checked::Ours { client: sender, sequence } if sender == self.first + client as u32 => sequence,
            Checked::Ours { .. } => return faults.unexpected += 1,
            Checked::Wrong => return faults.wrong += 1,
            Checked::Foreign => return faults.foreign += 1,
        };
        let at = match self.flights[client].receive(sequence) {
            Arrival::InOrder(at) => at,
            Arrival::Reordered(at) => {
                faults.reordered += 1;
                at
            }
            Arrival::Unexpected => return faults.unexpected += 1,
        };
        self.outstanding -= 1;
        self.tally.count(now.saturating_sub(at));
    }

    pub(super) fn close(&mut self, client: usize) {
        let gone = u64::from(self.flights[client].outstanding());
        self.open -= 1;
        self.outstanding -= gone;
        self.tally.faults.lost += gone;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::payloads;
    use super::*;

    #[test]
    fn the_window_stays_full_and_latency_counts_from_the_send() {
        let mut echo = Echo::new(7, 1, 3, 64, MessageKind::Text);
        let mut out = Vec::new();
        echo.refill(0, 1_000, &mut out);
        let sent = payloads(&mut out);
        assert_eq!((sent.len(), echo.outstanding()), (3, 3));
        echo.on_message(0, &sent[0], 5_000);
        echo.refill(0, 5_000, &mut out);
        assert_eq!((payloads(&mut out).len(), echo.outstanding()), (1, 3));
        let max_us = echo.tally().latency.summary().unwrap().max_us;
        assert_eq!((echo.tally().counted, max_us.round()), (1, 4.0));
        assert!(echo.tally().faults.is_clean());
    }

    #[test]
    fn every_kind_of_fault_is_counted_as_such() {
        let mut echo = Echo::new(0, 2, 4, 64, MessageKind::Text);
        let (mut zero, mut one) = (Vec::new(), Vec::new());
        echo.refill(0, 0, &mut zero);
        echo.refill(1, 0, &mut one);
        let (zero, one) = (payloads(&mut zero), payloads(&mut one));
        echo.on_message(0, &zero[1], 1);
        echo.on_message(0, &zero[0], 1);
        echo.on_message(0, &zero[0], 1);
        echo.on_message(0, &one[0], 1);
        echo.on_message(0, &zero[2][..40], 1);
        echo.on_message(0, b"welcome", 1);
        echo.on_closed(1);
        let faults = echo.tally().faults.clone();
        assert_eq!((faults.reordered, faults.unexpected, faults.wrong, faults.foreign), (1, 2, 1, 1));
        assert_eq!((faults.lost, echo.outstanding(), echo.is_alive()), (4, 2, true));
    }

    #[test]
    fn a_stopped_loop_sends_nothing_more() {
        let mut echo = Echo::new(0, 1, 1, 16, MessageKind::Binary);
        let mut out = Vec::new();
        echo.stop();
        echo.refill(0, 0, &mut out);
        assert!(out.is_empty());
    }
}
