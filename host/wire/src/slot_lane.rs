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
    use super::*;

    const A: GatewayId = GatewayId::new(1);
    const B: GatewayId = GatewayId::new(2);

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
