//! A slot's end of its lanes. It drives the real [`SlotLane`] and [`Releases`] as a worker does.

use std::collections::{BTreeSet, VecDeque};

use tidegate_base::{AppName, ClientId, Command, Exports, GatewayId};
use tidegate_wire::control::LaneHello;
use tidegate_wire::frame::Kind;
use tidegate_wire::slot_lane::Releases;
use tidegate_wire::{Carry, EventNo, FrameError, Grant, PartFlags, PartHead, RawFrame, SlotLane, encode};

use crate::ids::LaneId;

/// What the plugins of this cluster export.
pub(crate) const EXPORTS: Exports = Exports::MESSAGE;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lanes: Vec<LaneOut>,
    /// Whole frames that came in, in order of arrival.
    frames: VecDeque<(LaneId, Vec<u8>)>,
    releases: Releases,
    event: Option<(LaneId, EventNo)>,
    index: u16,
    /// The turn spoke to other gateways than its event's.
    spoke: bool,
    audit: Audit,
}

/// What the numbers of events say, since the slot's last switch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Audit {
    pub events: u64,
    pub lost: u32,
    pub repeated: u32,
    pub reordered: u32,
}

#[derive(Debug)]
struct LaneOut {
    id: LaneId,
    gateway: GatewayId,
    grant: Grant,
    credit: SlotLane,
    carry: Carry,
    staging: Vec<u8>,
    part: Option<usize>,
    clients: BTreeSet<u32>,
}

impl Outbox {
    /// A lane opens.
    pub fn add(&mut self, id: LaneId, gateway: GatewayId, app: &AppName, grant: Grant) {
        let mut staging = Vec::new();
        let hello = LaneHello {
            app: app.clone(),
            slot: id.slot.slot,
            generation: id.generation,
            exports: EXPORTS,
            credit_events: grant.events,
            credit_bytes: grant.bytes,
        };
        encode::hello(&hello, &mut staging);
        self.releases.add_lane(gateway);
        self.lanes.push(LaneOut {
            id,
            gateway,
            grant,
            credit: SlotLane::new(grant),
            carry: Carry::default(),
            staging,
            part: None,
            clients: BTreeSet::new(),
        });
    }

    /// A lane is lost. False: it was not there.
    pub fn remove(&mut self, id: LaneId) -> bool {
        self.frames.retain(|(of, _)| *of != id);
        let Some(at) = self.lanes.iter().position(|lane| lane.id == id) else { return false };
        let lane = self.lanes.swap_remove(at);
        self.releases.remove_lane(lane.gateway);
        let lanes = &mut self.lanes;
        self.releases.release_due(|gateway, event| release(lanes, gateway, event));
        true
    }

    /// Bytes came in on a lane. Returns the acknowledgements among them, which do not wait for their turn.
    pub fn read(&mut self, id: LaneId, bytes: &[u8]) -> Result<Vec<u32>, String> {
        let (frames, mut acks) = (&mut self.frames, Vec::new());
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) else { return Ok(acks) };
        let read = lane.carry.feed(bytes, |frame| -> Result<(), FrameError> {
            if frame.kind == Kind::Ack {
                acks.push(frame.number);
                return Ok(());
            }
            let mut whole = Vec::new();
            frame.put(&mut whole);
            frames.push_back((id, whole));
            Ok(())
        });
        read.map_err(|error| error.to_string())?;
        self.bounded(id)?;
        Ok(acks)
    }

    /// Credit bounds what waits; the last event may be larger than what was left in bytes.
    fn bounded(&self, id: LaneId) -> Result<(), String> {
        let Some(grant) = self.lanes.iter().find(|lane| lane.id == id).map(|lane| lane.grant) else {
            return Ok(());
        };
        let events = || self.frames.iter().filter(|(of, bytes)| *of == id && is_event(bytes));
        let (count, last) = (events().count(), events().next_back().map_or(0, |(_, bytes)| bytes.len()));
        let bytes: usize = events().map(|(_, bytes)| bytes.len()).sum();
        match count <= grant.events as usize && bytes < grant.bytes as usize + last.max(1) {
            true => Ok(()),
            false => Err(format!("{count} events of {bytes} bytes wait, {grant:?} were granted")),
        }
    }

    /// What comes next.
    pub fn next_frame(&mut self) -> Option<(LaneId, Vec<u8>)> {
        self.frames.pop_front()
    }

    /// Events that had no turn yet.
    pub fn waiting_events(&self) -> u32 {
        self.frames.iter().filter(|(_, bytes)| is_event(bytes)).count() as u32
    }

    pub fn attach(&mut self, id: LaneId, client: u32) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == id) {
            lane.clients.insert(client);
        }
    }

    /// An event comes up for its turn.
    pub fn on_event(&mut self, id: LaneId, client: u32, number: EventNo, bytes: usize) -> Result<(), String> {
        let lane =
            self.lanes.iter_mut().find(|lane| lane.id == id).ok_or("an event of a lane that is lost")?;
        if !lane.clients.contains(&client) {
            return Err(format!("{client} of {id:?} was not announced to the slot"));
        }
        let checked = lane.credit.on_event(number);
        self.audit.on_event(&checked);
        checked.map_err(|error| format!("{id:?}: {error}"))?;
        if let Some(credit) = lane.credit.on_consumed(bytes) {
            encode::credit(credit.events, credit.bytes, &mut lane.staging);
        }
        Ok(())
    }

    pub fn begin(&mut self, event: (LaneId, EventNo)) {
        (self.event, self.index, self.spoke) = (Some(event), 0, false);
    }

    /// Adds a command to the part of its client's gateway.
    pub fn command(&mut self, client: ClientId, command: &Command<'_>) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.gateway == client.gateway) {
            lane.begin_part();
            encode::command(command, lane.gateway, &mut lane.staging);
        }
    }

    /// Ends the part. `done`: the turn is over, `failed`: and it failed.
    pub fn commit(&mut self, done: bool, failed: bool) {
        let Some((own, event)) = self.event else { return };
        for lane in self.lanes.iter_mut().filter(|lane| lane.part.is_some() && lane.id != own) {
            self.releases.on_part(lane.gateway, true);
            self.spoke = true;
            lane.end_part(PartHead { flags: PartFlags(PartFlags::ACK), index: 0, event: EventNo(0) });
        }
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == own) else { return };
        if !done && lane.part.is_none() {
            return;
        }
        lane.begin_part();
        self.releases.on_part(lane.gateway, false);
        let mut flags = PartFlags::EVENT;
        if done {
            flags |= PartFlags::DONE;
            if self.releases.on_done(lane.gateway, event, self.spoke) {
                flags |= PartFlags::RELEASE;
            }
        }
        if failed {
            flags |= PartFlags::FAILED;
        }
        lane.end_part(PartHead { flags: PartFlags(flags), index: self.index, event });
        self.index += 1;
    }

    /// Drops what has not left of the turn.
    pub fn abort(&mut self) {
        for lane in &mut self.lanes {
            if let Some(start) = lane.part.take() {
                lane.staging.truncate(start);
            }
        }
    }

    /// A gateway applied so many parts.
    pub fn on_ack(&mut self, id: LaneId, parts: u32) {
        let Some(lane) = self.lanes.iter().find(|lane| lane.id == id) else { return };
        let (gateway, lanes) = (lane.gateway, &mut self.lanes);
        self.releases.on_ack(gateway, parts, |gateway, event| release(lanes, gateway, event));
    }

    /// Another version runs in the slot.
    pub fn exports(&mut self, version: u32) {
        self.lanes.iter_mut().for_each(|lane| encode::exports(version, EXPORTS, &mut lane.staging));
    }

    /// The slot leaves: events that came up for no turn go to other slots.
    pub fn drain(&mut self) {
        self.lanes.iter_mut().for_each(|lane| encode::drain(lane.credit.first_unread(), &mut lane.staging));
    }

    /// What is to be sent.
    pub fn flush(&mut self) -> Vec<(LaneId, Vec<u8>)> {
        let full = self.lanes.iter_mut().filter(|lane| !lane.staging.is_empty());
        full.map(|lane| (lane.id, std::mem::take(&mut lane.staging))).collect()
    }

    pub fn audit(&self) -> Audit {
        self.audit
    }

    /// For the report of a switch.
    pub fn take_audit(&mut self) -> Audit {
        std::mem::take(&mut self.audit)
    }
}

impl Audit {
    /// Lost, repeated and reordered.
    pub fn faults(self) -> [u32; 3] {
        [self.lost, self.repeated, self.reordered]
    }

    fn on_event(&mut self, checked: &Result<(), FrameError>) {
        match checked {
            Err(FrameError::Number { got, expected }) => match i32::try_from(got.wrapping_sub(*expected)) {
                Ok(ahead) => self.lost += ahead.unsigned_abs(),
                Err(_) => self.reordered += 1,
            },
            _ => self.events += 1,
        }
    }
}

impl LaneOut {
    fn begin_part(&mut self) {
        if self.part.is_none() {
            self.part = Some(encode::begin_part(&mut self.staging));
        }
    }

    fn end_part(&mut self, head: PartHead) {
        if let Some(start) = self.part.take() {
            encode::end_part(start, head, &mut self.staging);
        }
    }
}

fn is_event(bytes: &[u8]) -> bool {
    RawFrame::split(bytes).ok().flatten().is_some_and(|(frame, _)| frame.kind == Kind::Message)
}

fn release(lanes: &mut [LaneOut], gateway: GatewayId, event: EventNo) {
    if let Some(lane) = lanes.iter_mut().find(|lane| lane.gateway == gateway) {
        encode::release(event, &mut lane.staging);
    }
}
