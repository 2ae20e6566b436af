//! The gateway's end of a lane.

use std::collections::VecDeque;

use bytes::Bytes;
use tidegate_base::{Addresses, Answer, Event};

use crate::codec::{ToWorker, encode};
use crate::frame::{EventNo, FrameError, PartFlags, PartHead, RawFrame};

/// Numbers the events of one lane, spends the slot's credit on them, and keeps each until the slot releases it.
///
/// Calling contract: `can_send` before every `event`; `take_batch` once per wake-up and hand what it returns to the
/// link; `on_*` for every frame that comes back. No call blocks. Unreleased events are bounded by the credit.
#[derive(Debug)]
pub struct EventLane {
    first: EventNo,
    next: EventNo,
    /// The events `first..next`.
    window: VecDeque<InFlight>,
    /// Of the events in the window, how many are not done.
    unfinished: usize,
    sent_bytes: u32,
    credit_events: u32,
    credit_bytes: u32,
    arena: Vec<u8>,
    arena_has_events: bool,
    /// Batches that hold unreleased events, each with the number after its last event.
    kept: VecDeque<(EventNo, Bytes)>,
    parts: u32,
    /// Of the parts that write sessions, the last one that is applied.
    session_part: u32,
    ack_due: bool,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    client: u32,
    weight: u16,
    parts: u16,
    done: bool,
}

/// What a part means to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartEffect {
    /// Whether its commands are to be applied: not if an earlier delivery of the event did so already.
    pub apply: bool,
    /// The client whose event is done with it, and the event's weight.
    pub finished: Option<(u32, u16)>,
    /// Whether the turn failed.
    pub failed: bool,
}

/// An event that a slot left unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Whose it is.
    pub client: u32,
    /// How often it was sent.
    pub attempt: u8,
    /// Its whole frame.
    frame: Bytes,
}

impl Unfinished {
    /// What happened.
    pub fn event(&self) -> Option<Event<'_>> {
        let (frame, _) = RawFrame::split(&self.frame).ok()??;
        match ToWorker::decode(&frame).ok()? {
            ToWorker::Event { event, .. } => Some(event),
            _ => None,
        }
    }

    /// The bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }
}

impl EventLane {
    /// A lane with its first credit.
    pub fn new(credit_events: u32, credit_bytes: u32) -> Self {
        Self {
            first: EventNo(0),
            next: EventNo(0),
            window: VecDeque::new(),
            unfinished: 0,
            sent_bytes: 0,
            credit_events,
            credit_bytes,
            arena: Vec::new(),
            arena_has_events: false,
            kept: VecDeque::new(),
            parts: 0,
            session_part: 0,
            ack_due: false,
        }
    }

    /// Whether there is credit for one more event. The last one may be larger than what is left in bytes.
    #[inline]
    pub fn can_send(&self) -> bool {
        self.credit_events.wrapping_sub(self.next.0) as i32 > 0
            && self.credit_bytes.wrapping_sub(self.sent_bytes) as i32 > 0
    }

    /// How many events are sent and not done.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The number of the next event.
    pub fn next(&self) -> EventNo {
        self.next
    }

    /// The number of the first event whose turn has not ended; the turns of a slot end in the order of its events.
    pub fn first_unfinished(&self) -> EventNo {
        EventNo(self.next.0.wrapping_sub(self.unfinished as u32))
    }

    /// Sends an event; it is kept until it is released. Returns its weight against the cap of one client: one, and
    /// one more for each [`WEIGHT_BYTES`] of it.
    #[inline]
    pub fn event(&mut self, client: u32, attempt: u8, event: &Event<'_>) -> u16 {
        let before = self.arena.len();
        encode::event(client, self.next, attempt, event, &mut self.arena);
        let bytes = self.arena.len() - before;
        let weight = u16::try_from(1 + bytes / WEIGHT_BYTES).unwrap_or(u16::MAX);
        self.sent_bytes = self.sent_bytes.wrapping_add(bytes as u32);
        self.window.push_back(InFlight { client, weight, parts: 0, done: false });
        self.unfinished += 1;
        self.next = self.next.next();
        self.arena_has_events = true;
        weight
    }

    /// Says that a client is bound to the slot.
    pub fn attach(&mut self, client: u32, addresses: &Addresses) {
        encode::attach(client, addresses, &mut self.arena);
    }

    /// Says that a client is not bound to the slot any more.
    pub fn detach(&mut self, client: u32) {
        encode::detach(client, &mut self.arena);
    }

    /// Sends a client's session, ahead of the event that needs it. It must have been taken after the last call of
    /// [`on_session_part`](Self::on_session_part).
    pub fn session(&mut self, client: u32, json: Option<&str>) {
        encode::session(client, self.session_part, json, &mut self.arena);
    }

    /// Answers a query.
    pub fn answer(&mut self, number: u32, answer: &Answer) {
        encode::answer(number, answer, &mut self.arena);
    }

    /// What is to be sent now.
    pub fn take_batch(&mut self) -> Option<Bytes> {
        if self.ack_due {
            self.ack_due = false;
            encode::ack(self.parts, &mut self.arena);
        }
        if self.arena.is_empty() {
            return None;
        }
        let batch = Bytes::from(std::mem::take(&mut self.arena));
        if self.arena_has_events {
            self.arena_has_events = false;
            if !self.window.is_empty() {
                self.kept.push_back((self.next, batch.clone()));
            }
        }
        Some(batch)
    }

    /// More credit; cumulative.
    pub fn on_credit(&mut self, events: u32, bytes: u32) {
        self.credit_events = events;
        self.credit_bytes = bytes;
    }

    /// A part came.
    ///
    /// # Errors
    /// It names an event that is not in flight.
    #[inline]
    pub fn on_part(&mut self, head: PartHead) -> Result<PartEffect, FrameError> {
        self.parts = self.parts.wrapping_add(1);
        self.ack_due |= head.flags.has(PartFlags::ACK);
        let mut effect =
            PartEffect { apply: true, finished: None, failed: head.flags.has(PartFlags::FAILED) };
        if !head.flags.has(PartFlags::EVENT) {
            return Ok(effect);
        }
        let behind = FrameError::Number { got: head.event.0, expected: self.first.0 };
        let index = usize::try_from(head.event.since(self.first)).map_err(|_| behind.clone())?;
        let in_flight = self.window.get_mut(index).ok_or(behind)?;
        effect.apply = head.index >= in_flight.parts;
        if effect.apply {
            in_flight.parts = head.index.saturating_add(1);
        }
        if head.flags.has(PartFlags::DONE) && !in_flight.done {
            in_flight.done = true;
            self.unfinished -= 1;
            effect.finished = Some((in_flight.client, in_flight.weight));
        }
        if head.flags.has(PartFlags::RELEASE) {
            self.on_release(head.event)?;
        }
        Ok(effect)
    }

    /// The part that came last writes sessions, and they are written. Call it before the next part comes.
    pub fn on_session_part(&mut self) {
        self.session_part = self.parts;
    }

    /// This event and all before it need not be kept.
    ///
    /// # Errors
    /// It was never sent, or is not done.
    #[inline]
    pub fn on_release(&mut self, event: EventNo) -> Result<(), FrameError> {
        if event.since(self.next) >= 0 {
            return Err(FrameError::Number { got: event.0, expected: self.first.0 });
        }
        while event.since(self.first) >= 0 {
            if !self.window.front().is_some_and(|e| e.done) {
                return Err(FrameError::Number { got: event.0, expected: self.first.0 });
            }
            self.window.pop_front();
            self.first = self.first.next();
        }
        while self.kept.front().is_some_and(|(end, _)| self.first.since(*end) >= 0) {
            self.kept.pop_front();
        }
        Ok(())
    }

    /// The slot leaves and read nothing from `first_unread` on. Returns those events in order; they count as never
    /// sent.
    pub fn on_drain(&mut self, first_unread: EventNo) -> Vec<Unfinished> {
        self.unread(|number, in_flight| number.since(first_unread) >= 0 && !in_flight.done)
    }

    /// The lane is lost. Returns the events that no finished turn answered, in order.
    pub fn on_lost(&mut self) -> Vec<Unfinished> {
        self.unread(|_, in_flight| !in_flight.done)
    }

    fn unread(&mut self, wanted: impl Fn(EventNo, &InFlight) -> bool) -> Vec<Unfinished> {
        let _unsent = self.take_batch();
        let mut unread = Vec::new();
        for (_, batch) in &self.kept {
            let mut rest = &batch[..];
            while let Ok(Some((frame, used))) = RawFrame::split(rest) {
                let whole = rest.get(..used).unwrap_or_default();
                rest = rest.get(used..).unwrap_or_default();
                let Ok(ToWorker::Event { client, number, attempt, .. }) = ToWorker::decode(&frame) else {
                    continue;
                };
                let in_flight =
                    usize::try_from(number.since(self.first)).ok().and_then(|i| self.window.get(i));
                if in_flight.is_some_and(|e| wanted(number, e)) {
                    unread.push(Unfinished { client, attempt, frame: batch.slice_ref(whole) });
                }
            }
        }
        unread
    }

    /// Checks what must always hold.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        let held = self.next.since(self.first);
        if usize::try_from(held) != Ok(self.window.len()) {
            return Err(format!("window holds {} events of {held}", self.window.len()));
        }
        let unfinished = self.window.iter().filter(|e| !e.done).count();
        if unfinished != self.unfinished {
            return Err(format!("{unfinished} events are not done, {} are counted", self.unfinished));
        }
        if self.window.is_empty() && !self.kept.is_empty() {
            return Err("batches are kept without events".into());
        }
        Ok(())
    }
}

/// How many bytes of an event weigh as much as one small event.
pub const WEIGHT_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_base::MessageKind;

    use super::*;

    fn part(flags: u8, index: u16, event: u32) -> PartHead {
        PartHead { flags: PartFlags(flags), index, event: EventNo(event) }
    }

    const DONE: u8 = PartFlags::EVENT | PartFlags::DONE;

    #[test]
    fn credit_bounds_the_events_in_flight() {
        let mut lane = EventLane::new(2, 1000);
        assert!(lane.can_send());
        lane.event(1, 1, &Event::Connect);
        lane.event(1, 1, &Event::Connect);
        assert!(!lane.can_send());
        lane.on_credit(3, 1000);
        assert!(lane.can_send());
        lane.event(1, 1, &Event::Message(MessageKind::Text, &[b'x'; 2000]));
        lane.on_credit(10, 1000);
        assert!(!lane.can_send(), "bytes are credit too");
    }

    #[test]
    fn a_part_that_was_applied_is_skipped_and_a_new_one_is_not() {
        let mut lane = EventLane::new(9, 1000);
        lane.event(7, 1, &Event::Connect);
        assert!(lane.on_part(part(PartFlags::EVENT, 0, 0)).unwrap().apply);
        assert!(!lane.on_part(part(PartFlags::EVENT, 0, 0)).unwrap().apply);
        let done = lane.on_part(part(DONE, 1, 0)).unwrap();
        assert_eq!(done, PartEffect { apply: true, finished: Some((7, 1)), failed: false });
        assert_eq!(lane.on_part(part(DONE, 1, 0)).unwrap().finished, None);
    }

    #[test]
    fn the_first_unfinished_event_is_the_one_after_those_whose_turns_have_ended() {
        let mut lane = EventLane::new(9, 1000);
        let event = lane.next();
        lane.event(7, 1, &Event::Connect);
        lane.event(8, 1, &Event::Connect);
        let part = |flags| PartHead { flags: PartFlags(flags), index: 0, event };
        lane.on_part(part(PartFlags::EVENT)).unwrap();
        assert_eq!(lane.first_unfinished(), event);
        lane.on_part(part(PartFlags::EVENT | PartFlags::DONE)).unwrap();
        assert_eq!(lane.first_unfinished(), event.next());
        lane.on_release(event).unwrap();
        assert_eq!(lane.first_unfinished(), event.next());
    }

    #[test]
    fn a_drained_slot_gives_back_what_it_did_not_read() {
        let mut lane = EventLane::new(9, 1000);
        for client in 1..=2 {
            lane.event(client, 1, &Event::Connect);
        }
        lane.take_batch().unwrap();
        lane.detach(9);
        lane.event(3, 1, &Event::Message(MessageKind::Text, b"hi"));
        lane.on_part(part(DONE | PartFlags::RELEASE, 0, 0)).unwrap();
        let unread = lane.on_drain(EventNo(1));
        let seen: Vec<_> = unread.iter().map(|u| (u.client, u.event().unwrap())).collect();
        assert_eq!(seen, [(2, Event::Connect), (3, Event::Message(MessageKind::Text, b"hi"))]);
    }

    #[test]
    fn answers_about_events_that_were_never_sent_are_refused() {
        let mut lane = EventLane::new(9, 1000);
        lane.event(1, 1, &Event::Connect);
        assert!(lane.on_part(part(DONE, 0, 1)).is_err());
        assert!(lane.on_release(EventNo(0)).is_err(), "it is not done");
        assert!(lane.on_release(EventNo(5)).is_err());
    }

    proptest! {
        #[test]
        fn invariants_hold_and_events_survive_until_released(
            start in prop_oneof![Just(0u32), Just(u32::MAX - 3)],
            ops in proptest::collection::vec(0..5u8, 0..200),
        ) {
            let mut lane = EventLane::new(start.wrapping_add(1000), 1 << 30);
            (lane.first, lane.next) = (EventNo(start), EventNo(start));
            let (mut sent, mut done) = (start, start);
            for op in ops {
                match op {
                    0 | 1 => { lane.event(sent, 1, &Event::Connect); sent = sent.wrapping_add(1); }
                    2 => { lane.take_batch(); }
                    3 if done != sent => { lane.on_part(part(DONE, 0, done)).unwrap(); done = done.wrapping_add(1); }
                    4 if done != start => { lane.on_release(EventNo(done.wrapping_sub(1))).unwrap(); }
                    _ => {}
                }
                lane.check_invariants().map_err(TestCaseError::fail)?;
            }
            let left: Vec<u32> = lane.on_lost().iter().map(|u| u.client).collect();
            let expected: Vec<u32> = (0..sent.wrapping_sub(done)).map(|i| done.wrapping_add(i)).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
