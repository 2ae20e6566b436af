//! The messages of one connection that are under way.

/// A sliding window of sequence numbers: what was sent when, and what is back.
///
/// Call [`Flight::send`] only when [`Flight::has_room`]; call [`Flight::receive`] for every message that is back.
/// Sequences start at 1. A lost message keeps its place, so that the window stalls instead of hiding it.
#[derive(Debug)]
pub(crate) struct Flight {
    slots: Box<[Slot]>,
    limit: u32,
    outstanding: u32,
    next: u64,
    highest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    sequence: u64,
    at: u64,
    free: bool,
}

/// What a returned sequence number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one, sent at this time.
    InOrder(u64),
    /// One that a later one overtook, sent at this time.
    Reordered(u64),
    /// Seen before, or never sent.
    Unexpected,
}

impl Flight {
    /// A window of at most `limit` messages.
    pub(crate) fn new(limit: u32) -> Flight {
        let limit = limit.max(1);
        let size = limit.next_power_of_two() as usize;
        let slots = vec![Slot { sequence: 0, at: 0, free: true }; size].into_boxed_slice();
        Flight { slots, limit, outstanding: 0, next: 1, highest: 0 }
    }

    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.outstanding < self.limit && self.slots[self.place(self.next)].free
    }

    /// Notes a message sent at `at` and returns its sequence number.
    #[inline]
    pub(crate) fn send(&mut self, at: u64) -> u64 {
        let sequence = self.next;
        self.slots[self.place(sequence)] = Slot { sequence, at, free: false };
        self.outstanding += 1;
        self.next += 1;
        sequence
    }

    /// Notes that `sequence` is back.
    #[inline]
    pub(crate) fn receive(&mut self, sequence: u64) -> Arrival {
        let place = self.place(sequence);
        let slot = &mut self.slots[place];
        if slot.free || slot.sequence != sequence {
            return Arrival::Unexpected;
        }
        slot.free = true;
        self.outstanding -= 1;
        if sequence < self.highest {
            return Arrival::Reordered(slot.at);
        }
        self.highest = sequence;
        Arrival::InOrder(slot.at)
    }

    #[inline]
    fn place(&self, sequence: u64) -> usize {
        // The size is a power of two.
        sequence as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_fills_stalls_on_a_loss_and_tells_order_apart() {
        let mut flight = Flight::new(2);
        assert_eq!((flight.send(10), flight.send(11)), (1, 2));
        assert!(!flight.has_room());
        assert_eq!(flight.receive(2), Arrival::InOrder(11));
        assert!(!flight.has_room(), "1 is still missing and 3 needs its place");
        assert_eq!(flight.receive(2), Arrival::Unexpected);
        assert_eq!(flight.receive(9), Arrival::Unexpected);
        assert_eq!(flight.receive(1), Arrival::Reordered(10));
        assert!(flight.has_room());
        assert_eq!(flight.outstanding(), 0);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_plain_map(limit in 1u32..9, steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..200)) {
            let (mut flight, mut sent, mut highest) = (Flight::new(limit), BTreeMap::new(), 0);
            for (at, (send, sequence)) in steps.into_iter().enumerate() {
                if send {
                    if flight.has_room() {
                        sent.insert(flight.send(at as u64), at as u64);
                    }
                } else {
                    let want = match sent.remove(&sequence) {
                        None => Arrival::Unexpected,
                        Some(at) if sequence < highest => Arrival::Reordered(at),
                        Some(at) => { highest = sequence; Arrival::InOrder(at) }
                    };
                    prop_assert_eq!(flight.receive(sequence), want);
                }
                prop_assert_eq!(flight.outstanding() as usize, sent.len());
                prop_assert!(sent.len() <= limit as usize);
            }
        }
    }
}
