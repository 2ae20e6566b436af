//! The worker's end of the lanes of one slot.

use std::collections::VecDeque;

use tidegate_base::GatewayId;

use crate::frame::{EventNo, FrameError};

/// The credit that a slot grants each gateway: how far events may run ahead of its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Events.
    pub events: u32,
    /// Bytes of their frames.
    pub bytes: u32,
}

/// Checks the order of one lane's events and renews its credit as they are consumed.
#[derive(Debug)]
pub struct SlotLane {
    grant: Grant,
    received: EventNo,
    consumed_events: u32,
    consumed_bytes: u32,
    granted_events: u32,
    granted_bytes: u32,
}

impl SlotLane {
    /// A lane whose first credit is `grant`.
    pub fn new(grant: Grant) -> Self {
        Self {
            grant,
            received: EventNo(0),
            consumed_events: 0,
            consumed_bytes: 0,
            granted_events: grant.events,
            granted_bytes: grant.bytes,
        }
    }

    /// An event came.
    ///
    /// # Errors
    /// Its number is not the next one.
    pub fn on_event(&mut self, number: EventNo) -> Result<(), FrameError> {
        if number != self.received {
            return Err(FrameError::Number { got: number.0, expected: self.received.0 });
        }
        self.received = number.next();
        Ok(())
    }

    /// The number after the last event that was consumed.
    pub fn first_unread(&self) -> EventNo {
        EventNo(self.consumed_events)
    }

    /// An event whose frame has `bytes` bytes is handed to a turn. Returns the new credit when it is worth a frame:
    /// when half of the grant is used up.
    pub fn on_consumed(&mut self, bytes: usize) -> Option<Grant> {
        self.consumed_events = self.consumed_events.wrapping_add(1);
        self.consumed_bytes = self.consumed_bytes.wrapping_add(bytes as u32);
        let left_events = self.granted_events.wrapping_sub(self.consumed_events) as i32;
        let left_bytes = self.granted_bytes.wrapping_sub(self.consumed_bytes) as i32;
        if left_events > (self.grant.events / 2) as i32 && left_bytes > (self.grant.bytes / 2) as i32 {
            return None;
        }
        self.granted_events = self.consumed_events.wrapping_add(self.grant.events);
        self.granted_bytes = self.consumed_bytes.wrapping_add(self.grant.bytes);
        Some(Grant { events: self.granted_events, bytes: self.granted_bytes })
    }
}

/// A client's session as its slot sees it. What the slot wrote and the gateway had not applied when it took the session
/// that it sends is not undone by that: the slot keeps its own view, and the gateway, which sees that the two have
/// crossed, sends the session again with a later event.
#[derive(Debug, Default)]
pub struct SessionView {
    session: Option<Box<str>>,
    /// The number of the lane's last part that writes it, unless the gateway has it for certain.
    written: Option<u32>,
}

impl SessionView {
    /// The session, JSON.
    pub fn get(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A turn wrote it; `part` is the count of the lane's parts with that of the turn.
    pub fn write(&mut self, part: u32, session: Option<Box<str>>) {
        self.session = session;
        self.written = Some(part);
    }

    /// The gateway sent it, taken when so many parts were applied. False: it is older than what the slot wrote.
    pub fn on_session(&mut self, applied: u32, session: Option<&str>) -> bool {
        if self.written.is_some_and(|part| (applied.wrapping_sub(part) as i32) < 0) {
            return false;
        }
        self.session = session.map(Into::into);
        self.written = None;
        true
    }
}

/// Decides when gateways may forget the events of one slot: when the turn is done and every *other* gateway that it
/// spoke to has acknowledged its parts.
///
/// Every part for another gateway gets a stamp from one clock of the slot. An event is releasable once no part with
/// its last stamp or an earlier one is unacknowledged anywhere; so waiting costs one number per event, whatever the
/// number of gateways.
#[derive(Debug, Default)]
pub struct Releases {
    stamp: u64,
    lanes: Vec<LaneReleases>,
}

#[derive(Debug)]
struct LaneReleases {
    gateway: GatewayId,
    /// Parts sent on this lane, and stamps of those that were for an event of another gateway and are not
    /// acknowledged yet, each with its number.
    parts: u32,
    unacknowledged: VecDeque<(u32, u64)>,
    /// Done events of this lane that wait, each with the stamp that it waits for.
    held: VecDeque<(EventNo, u64)>,
}

impl Releases {
    /// A lane to a gateway is open.
    pub fn add_lane(&mut self, gateway: GatewayId) {
        self.remove_lane(gateway);
        self.lanes.push(LaneReleases {
            gateway,
            parts: 0,
            unacknowledged: VecDeque::new(),
            held: VecDeque::new(),
        });
    }

    /// A lane is lost: nothing of it is waited for any more.
    pub fn remove_lane(&mut self, gateway: GatewayId) {
        self.lanes.retain(|lane| lane.gateway != gateway);
    }

    /// A part leaves on a lane. `foreign`: the turn's event came from another gateway, so it waits for this part.
    pub fn on_part(&mut self, gateway: GatewayId, foreign: bool) {
        let stamp = self.stamp + 1;
        let Some(lane) = self.lane(gateway) else { return };
        lane.parts = lane.parts.wrapping_add(1);
        if foreign {
            let entry = (lane.parts, stamp);
            lane.unacknowledged.push_back(entry);
            self.stamp = stamp;
        }
    }

    /// How many parts have left on a lane.
    pub fn parts(&self, gateway: GatewayId) -> u32 {
        self.lanes.iter().find(|lane| lane.gateway == gateway).map_or(0, |lane| lane.parts)
    }

    /// The turn of an event is done; `waits` if it spoke to other gateways. True: it is released at once, together
    /// with everything before it.
    pub fn on_done(&mut self, gateway: GatewayId, event: EventNo, waits: bool) -> bool {
        let stamp = if waits { self.stamp } else { 0 };
        let Some(lane) = self.lane(gateway) else { return false };
        if !waits && lane.held.is_empty() {
            return true;
        }
        lane.held.push_back((event, stamp));
        false
    }

    /// A gateway applied so many parts of its lane. `release` is called with each lane that may forget events, up to
    /// the event named.
    pub fn on_ack(&mut self, gateway: GatewayId, parts: u32, release: impl FnMut(GatewayId, EventNo)) {
        if let Some(lane) = self.lane(gateway) {
            while lane.unacknowledged.front().is_some_and(|(n, _)| parts.wrapping_sub(*n) as i32 >= 0) {
                lane.unacknowledged.pop_front();
            }
        }
        self.release_due(release);
    }

    /// After a lane was removed: what that frees.
    pub fn release_due(&mut self, mut release: impl FnMut(GatewayId, EventNo)) {
        let oldest =
            self.lanes.iter().filter_map(|l| l.unacknowledged.front().map(|(_, stamp)| *stamp)).min();
        let horizon = oldest.unwrap_or(u64::MAX);
        for lane in &mut self.lanes {
            let mut last = None;
            while lane.held.front().is_some_and(|(_, stamp)| *stamp < horizon) {
                last = lane.held.pop_front();
            }
            if let Some((event, _)) = last {
                release(lane.gateway, event);
            }
        }
    }

    /// How many done events wait for other gateways.
    pub fn held(&self) -> usize {
        self.lanes.iter().map(|l| l.held.len()).sum()
    }

    fn lane(&mut self, gateway: GatewayId) -> Option<&mut LaneReleases> {
        self.lanes.iter_mut().find(|lane| lane.gateway == gateway)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::ToWorker;
    use crate::event_lane::EventLane;
    use crate::frame::{PartFlags, PartHead, RawFrame};

    const A: GatewayId = GatewayId::new(1);
    const B: GatewayId = GatewayId::new(2);

    #[test]
    fn a_session_that_was_taken_before_the_slots_own_write_is_ignored() {
        let mut view = SessionView::default();
        assert!(view.on_session(0, Some("old")));
        view.write(3, Some("own".into()));
        assert!(!view.on_session(2, Some("others")));
        assert_eq!(view.get(), Some("own"));
        assert!(view.on_session(3, Some("merged")));
        assert_eq!(view.get(), Some("merged"));
        // The count wraps.
        view.write(1, None);
        assert!(!view.on_session(u32::MAX, Some("old")));
        assert!(view.on_session(1, Some("new")));
    }

    /// Both ends of a lane, and what is on its way between them. A session is `own,others`: two keys of one object.
    struct Crossing {
        hub: (u32, u32),
        events: EventLane,
        down: Vec<u8>,
        releases: Releases,
        view: SessionView,
        own: u32,
        /// Parts on their way, each with what it writes.
        up: VecDeque<u32>,
    }

    impl Crossing {
        fn parse(&self) -> (u32, u32) {
            let (own, others) = self.view.get().and_then(|s| s.split_once(',')).unwrap_or(("0", "0"));
            (own.parse().unwrap(), others.parse().unwrap())
        }

        fn own_write(&mut self) {
            self.own += 1;
            let (_, others) = self.parse();
            self.releases.on_part(A, false);
            self.view.write(self.releases.parts(A), Some(format!("{},{others}", self.own).into()));
            self.up.push_back(self.own);
        }

        fn send_session(&mut self) {
            self.events.session(7, Some(&format!("{},{}", self.hub.0, self.hub.1)));
            self.down.extend(self.events.take_batch().unwrap());
        }

        fn apply_part(&mut self, noted_before: bool) {
            let Some(own) = self.up.pop_front() else { return };
            self.events.on_part(PartHead { flags: PartFlags(0), index: 0, event: EventNo(0) }).unwrap();
            self.hub.0 = own;
            if noted_before {
                // A session that is taken between the write and its note counts as older than it is.
                self.send_session();
            }
            self.events.on_session_part();
        }

        fn receive(&mut self) {
            let Some((frame, used)) = RawFrame::split(&self.down).unwrap() else { return };
            let ToWorker::Session(7, applied, session) = ToWorker::decode(&frame).unwrap() else { panic!() };
            self.view.on_session(applied, session);
            self.down.drain(..used);
        }
    }

    proptest! {
        #[test]
        fn a_slot_never_loses_sight_of_what_it_wrote(ops in proptest::collection::vec(0..6u8, 0..200)) {
            let mut releases = Releases::default();
            releases.add_lane(A);
            let (events, view) = (EventLane::new(0, 0), SessionView::default());
            let mut x =
                Crossing { hub: (0, 0), events, down: Vec::new(), releases, view, own: 0, up: VecDeque::new() };
            for op in ops {
                match op {
                    0 => x.own_write(),
                    1 => x.hub.1 += 1,
                    2 => x.send_session(),
                    3 => x.apply_part(false),
                    4 => x.apply_part(true),
                    _ => x.receive(),
                }
                prop_assert_eq!(x.parse().0, x.own);
            }
            while !x.up.is_empty() {
                x.apply_part(false);
            }
            x.send_session();
            while !x.down.is_empty() {
                x.receive();
            }
            prop_assert_eq!(x.parse(), x.hub);
        }
    }

    #[test]
    fn credit_is_renewed_when_half_of_it_is_used() {
        let mut lane = SlotLane::new(Grant { events: 4, bytes: 1000 });
        assert_eq!(lane.on_consumed(10), None);
        assert_eq!(lane.on_consumed(10), Some(Grant { events: 6, bytes: 1020 }));
        assert_eq!(lane.on_consumed(10), None);
        assert_eq!(lane.on_consumed(600), Some(Grant { events: 8, bytes: 1630 }));
    }

    #[test]
    fn events_out_of_order_are_refused() {
        let mut lane = SlotLane::new(Grant { events: 4, bytes: 1000 });
        assert_eq!(lane.on_event(EventNo(0)), Ok(()));
        assert_eq!(lane.on_event(EventNo(2)), Err(FrameError::Number { got: 2, expected: 1 }));
    }

    #[test]
    fn an_event_that_spoke_to_nobody_else_is_released_at_once() {
        let mut releases = Releases::default();
        releases.add_lane(A);
        releases.on_part(A, false);
        assert!(releases.on_done(A, EventNo(0), false));
    }

    #[test]
    fn an_event_waits_for_the_other_gateway_and_the_next_one_waits_behind_it() {
        let mut releases = Releases::default();
        releases.add_lane(A);
        releases.add_lane(B);
        releases.on_part(B, true);
        assert!(!releases.on_done(A, EventNo(0), true));
        assert!(!releases.on_done(A, EventNo(1), false));
        let mut out = Vec::new();
        releases.on_ack(B, 0, |g, e| out.push((g, e)));
        assert_eq!(out, []);
        releases.on_ack(B, 1, |g, e| out.push((g, e)));
        assert_eq!(out, [(A, EventNo(1))]);
        assert_eq!(releases.held(), 0);
    }

    #[test]
    fn a_lost_gateway_is_not_waited_for() {
        let mut releases = Releases::default();
        releases.add_lane(A);
        releases.add_lane(B);
        releases.on_part(B, true);
        assert!(!releases.on_done(A, EventNo(7), true));
        releases.remove_lane(B);
        let mut out = Vec::new();
        releases.release_due(|g, e| out.push((g, e)));
        assert_eq!(out, [(A, EventNo(7))]);
    }
}
