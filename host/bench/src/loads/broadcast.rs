//! One sends, all receive.

use super::{Load, Outbox, Tally};
use crate::options::MessageKind;
use crate::payload::{Checked, Template};

/// Client 0 keeps `limit` broadcasts under way; each is done when every open client has it.
#[derive(Debug)]
pub(crate) struct Broadcast {
    template: Template,
    limit: u32,
    /// By sequence, a power of two of them.
    slots: Box<[Slot]>,
    receivers: Vec<Receiver>,
    /// By receiver and slot: the last sequence it got there, to tell a repetition.
    seen: Box<[u64]>,
    open: u32,
    next: u64,
    under_way: u32,
    stopped: bool,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    sequence: u64,
    at: u64,
    /// Deliveries to come.
    remaining: u32,
}

#[derive(Clone, Copy, Debug)]
struct Receiver {
    open: bool,
    highest: u64,
}

impl Broadcast {
    pub(crate) fn new(clients: u32, outstanding: u32, payload: u32, kind: MessageKind) -> Broadcast {
        let limit = outstanding.max(1);
        let slots = limit.next_power_of_two() as usize;
        Broadcast {
            template: Template::new(payload as usize, kind),
            limit,
            slots: vec![Slot::default(); slots].into_boxed_slice(),
            receivers: vec![Receiver { open: true, highest: 0 }; clients as usize],
            seen: vec![0; slots * clients as usize].into_boxed_slice(),
            open: clients,
            next: 1,
            under_way: 0,
            stopped: false,
            tally: Tally::new(),
        }
    }

    #[inline]
    fn place(&self, sequence: u64) -> usize {
        sequence as usize & (self.slots.len() - 1)
    }

    /// Notes a delivery; returns when it was sent, or `None` if it was not due.
    #[inline]
    fn deliver(&mut self, client: usize, sequence: u64) -> Option<u64> {
        let place = self.place(sequence);
        let seen = &mut self.seen[client * self.slots.len() + place];
        let slot = &mut self.slots[place];
        if slot.sequence != sequence || slot.remaining == 0 || *seen == sequence {
            return None;
        }
        *seen = sequence;
        slot.remaining -= 1;
        self.under_way -= u32::from(slot.remaining == 0);
        Some(slot.at)
    }
}

impl Load for Broadcast {
    #[inline]
    fn on_message(&mut self, client: usize, payload: &[u8], now: u64) {
        let sequence = match self.template.check(payload) {
            Checked::Ours { client: 0, sequence } => sequence,
            Checked::Ours { .. } => return self.tally.faults.unexpected += 1,
            Checked::Wrong => return self.tally.faults.wrong += 1,
            Checked::Foreign => return self.tally.faults.foreign += 1,
        };
        let Some(at) = self.deliver(client, sequence) else { return self.tally.faults.unexpected += 1 };
        let receiver = &mut self.receivers[client];
        if sequence < receiver.highest {
            self.tally.faults.reordered += 1;
        } else {
            receiver.highest = sequence;
        }
        self.tally.count(now.saturating_sub(at));
    }

    fn pump(&mut self, now: u64, outbox: &mut impl Outbox) {
        while !self.stopped && self.under_way < self.limit {
            let place = self.place(self.next);
            // Occupied while a straggler misses it; the window waits, as a closed loop must.
            if self.slots[place].remaining > 0 {
                return;
            }
            let Some(out) = outbox.buffer(0) else { return };
            self.template.put(0, self.next, out);
            self.slots[place] = Slot { sequence: self.next, at: now, remaining: self.open };
            self.next += 1;
            self.under_way += 1;
        }
    }

    fn on_closed(&mut self, client: usize) {
        self.receivers[client].open = false;
        self.open -= 1;
        let width = self.slots.len();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if slot.remaining > 0 && self.seen[client * width + place] != slot.sequence {
                slot.remaining -= 1;
                self.tally.faults.lost += 1;
                self.under_way -= u32::from(slot.remaining == 0);
            }
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn outstanding(&self) -> u64 {
        self.slots.iter().map(|slot| u64::from(slot.remaining)).sum()
    }

    fn is_alive(&self) -> bool {
        self.receivers.first().is_some_and(|sender| sender.open)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Buffers, payloads};
    use super::*;

    fn sent(load: &mut Broadcast, now: u64) -> Vec<Vec<u8>> {
        let mut outbox = Buffers::new(1);
        load.pump(now, &mut outbox);
        payloads(&mut outbox.of[0])
    }

    #[test]
    fn the_next_broadcast_waits_until_everyone_has_the_last() {
        let mut load = Broadcast::new(3, 1, 64, MessageKind::Text);
        let first = sent(&mut load, 0);
        assert_eq!((first.len(), load.outstanding()), (1, 3));
        load.on_message(0, &first[0], 1_000);
        load.on_message(2, &first[0], 1_000);
        assert!(sent(&mut load, 1_500).is_empty());
        load.on_message(1, &first[0], 2_000);
        assert_eq!(sent(&mut load, 2_000).len(), 1);
        assert_eq!(load.tally().counted, 3);
        assert!(load.tally().faults.is_clean());
    }

    #[test]
    fn repetitions_strangers_and_disorder_are_told_apart() {
        let mut load = Broadcast::new(2, 2, 64, MessageKind::Text);
        let both = sent(&mut load, 0);
        load.on_message(1, &both[1], 1);
        load.on_message(1, &both[1], 1);
        load.on_message(1, &both[0], 1);
        load.on_message(0, b"<guest> joined", 1);
        load.on_message(0, &both[0][..20], 1);
        let mut stranger = Vec::new();
        Template::new(64, MessageKind::Text).put(5, 1, &mut stranger);
        load.on_message(0, &payloads(&mut stranger)[0], 1);
        let faults = &load.tally().faults;
        assert_eq!((faults.reordered, faults.unexpected, faults.foreign, faults.wrong), (1, 2, 1, 1));
        assert_eq!(load.outstanding(), 2);
    }

    #[test]
    fn a_receiver_that_goes_is_a_loss_and_does_not_stall_the_rest() {
        let mut load = Broadcast::new(3, 1, 64, MessageKind::Text);
        let first = sent(&mut load, 0);
        load.on_message(0, &first[0], 1);
        load.on_message(1, &first[0], 1);
        load.on_closed(2);
        assert_eq!((load.tally().faults.lost, load.outstanding(), load.is_alive()), (1, 0, true));
        assert_eq!(sent(&mut load, 2).len(), 1);
        assert_eq!(load.outstanding(), 2);
        load.on_closed(0);
        assert!(!load.is_alive(), "nobody is left to send");
    }
}
