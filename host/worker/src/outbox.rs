//! What a slot sends: the parts of its turns, per gateway.

use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tidegate_base::{Addresses, ClientId, Command, Exports, GatewayId, Query, UpgradeDecision};
use tidegate_wire::fanout::{self, Target};
use tidegate_wire::slot_lane::Releases;
use tidegate_wire::{EventNo, FrameError, Grant, PartFlags, PartHead, SessionView, SlotLane, encode};

use crate::counters;
use crate::lane::LazyLane;

/// The sending ends of a slot's lanes. Parts are encoded where they will leave from; several turns leave together.
///
/// Calling contract: `begin`, then `command`s, then `commit` (any number) and at last `commit` with `done`, or `abort`;
/// `flush` when nothing is left to do or a commit must leave.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lanes: Vec<LaneOut>,
    /// Gateways that were linked and may come back: their clients are there, but nobody can ask for them.
    absent: Vec<GatewayId>,
    releases: Releases,
    event: Option<(GatewayId, EventNo)>,
    index: u16,
    /// The turn spoke to other gateways than its event's.
    spoke: bool,
    audit: Audit,
}

/// What the numbers of events say of the lanes, since the slot's last switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Events that came up for a turn.
    pub events: u64,
    /// Numbers that were left out.
    pub lost: u32,
    /// Events that came a second time.
    pub repeated: u32,
    /// Numbers that came after later ones.
    pub reordered: u32,
}

impl Audit {
    /// Lost, repeated and reordered.
    pub fn faults(self) -> [u32; 3] {
        [self.lost, self.repeated, self.reordered]
    }

    fn on_event(&mut self, attempt: u8, checked: &Result<(), FrameError>) {
        match checked {
            Ok(()) => {
                self.events += 1;
                self.repeated += u32::from(attempt > 1);
            }
            Err(FrameError::Number { got, expected }) => {
                let ahead = got.wrapping_sub(*expected);
                match i32::try_from(ahead) {
                    Ok(_) => self.lost = self.lost.saturating_add(ahead),
                    Err(_) => self.reordered += 1,
                }
            }
            Err(_) => {}
        }
    }
}

#[derive(Debug)]
struct LaneOut {
    gateway: GatewayId,
    lane: Arc<LazyLane>,
    credit: SlotLane,
    staging: Vec<u8>,
    /// Where the part that is being written begins.
    part: Option<usize>,
    clients: FxHashMap<u32, Attached>,
}

/// Gateways that are remembered while they are away: far more than a cluster has, far less than memory.
const ABSENT_MAX: usize = 1024;

/// What a slot knows of a client that is bound to it.
#[derive(Debug)]
pub(crate) struct Attached {
    pub addresses: Addresses,
    pub session: SessionView,
}

impl Outbox {
    /// A gateway is linked.
    pub fn add(&mut self, gateway: GatewayId, lane: Arc<LazyLane>, grant: Grant) {
        self.remove(gateway);
        self.forget(gateway);
        self.releases.add_lane(gateway);
        self.lanes.push(LaneOut {
            gateway,
            lane,
            credit: SlotLane::new(grant),
            staging: Vec::new(),
            part: None,
            clients: FxHashMap::default(),
        });
    }

    /// A gateway's link is down. Returns its clients here. Until it is linked again or forgotten, queries name it as
    /// one that did not answer.
    pub fn lose(&mut self, gateway: GatewayId) -> Vec<u32> {
        if self.lanes.iter().any(|l| l.gateway == gateway) {
            if self.absent.len() == ABSENT_MAX {
                self.absent.remove(0);
            }
            self.absent.push(gateway);
        }
        self.remove(gateway)
    }

    /// A gateway that was lost will not come back.
    pub fn forget(&mut self, gateway: GatewayId) {
        self.absent.retain(|of| *of != gateway);
    }

    /// The gateways that are not linked, but were and may be again.
    pub fn absent(&self) -> &[GatewayId] {
        &self.absent
    }

    fn remove(&mut self, gateway: GatewayId) -> Vec<u32> {
        self.releases.remove_lane(gateway);
        let Some(at) = self.lanes.iter().position(|l| l.gateway == gateway) else { return Vec::new() };
        let lane = self.lanes.swap_remove(at);
        self.release_due();
        lane.clients.into_keys().collect()
    }

    /// The gateways that are linked.
    pub fn gateways(&self) -> impl Iterator<Item = GatewayId> {
        self.lanes.iter().map(|l| l.gateway)
    }

    /// A turn begins, with its event if it has one.
    pub fn begin(&mut self, event: Option<(GatewayId, EventNo)>) {
        self.event = event;
        self.index = 0;
        self.spoke = false;
    }

    /// Adds a command to the part.
    pub fn command(&mut self, command: &Command<'_>) {
        match fanout::target(command) {
            Target::Client(client) => match self.lanes.iter_mut().find(|l| l.gateway == client.gateway) {
                Some(lane) => lane.command(command),
                None => counters::COMMANDS_UNROUTED.inc(),
            },
            Target::Audience(audience) => {
                let concerned = self.lanes.iter_mut().filter(|l| fanout::concerns(audience, l.gateway));
                concerned.for_each(|lane| lane.command(command));
            }
            Target::All => self.lanes.iter_mut().for_each(|lane| lane.command(command)),
        }
    }

    /// Adds the answer to an upgrade request to the part.
    pub fn decision(&mut self, client: ClientId, decision: &UpgradeDecision) {
        if let Some(lane) = self.lanes.iter_mut().find(|l| l.gateway == client.gateway) {
            lane.begin_part();
            encode::decision(client.connection, decision, &mut lane.staging);
        }
    }

    /// Ends the part. `done`: the turn is over, `failed`: and it failed.
    pub fn commit(&mut self, done: bool, failed: bool) {
        let own = self.event.map(|(gateway, _)| gateway);
        for lane in self.lanes.iter_mut().filter(|l| l.part.is_some() && Some(l.gateway) != own) {
            // An event waits for the parts that its turn sent elsewhere; a turn without an event is not repeated.
            let foreign = own.is_some();
            let flags = if foreign { PartFlags::ACK } else { 0 };
            self.releases.on_part(lane.gateway, foreign);
            self.spoke |= foreign;
            lane.end_part(PartHead { flags: PartFlags(flags), index: 0, event: EventNo(0) });
        }
        let Some((gateway, event)) = self.event else { return };
        let Some(lane) = self.lanes.iter_mut().find(|l| l.gateway == gateway) else { return };
        if !done && lane.part.is_none() {
            return;
        }
        lane.begin_part();
        let mut flags = PartFlags::EVENT;
        self.releases.on_part(gateway, false);
        if done {
            flags |= PartFlags::DONE;
            if self.releases.on_done(gateway, event, self.spoke) {
                flags |= PartFlags::RELEASE;
            }
        }
        if failed {
            flags |= PartFlags::FAILED;
        }
        lane.end_part(PartHead { flags: PartFlags(flags), index: self.index, event });
        self.index = self.index.saturating_add(1);
    }

    /// Drops what has not left of the turn.
    pub fn abort(&mut self) {
        for lane in &mut self.lanes {
            if let Some(start) = lane.part.take() {
                lane.staging.truncate(start);
            }
        }
    }

    /// Asks a gateway.
    pub fn query(&mut self, gateway: GatewayId, number: u32, query: &Query) {
        if let Some(lane) = self.lanes.iter_mut().find(|l| l.gateway == gateway) {
            encode::query(number, query, &mut lane.staging);
        }
    }

    /// An event's frame came up for its turn.
    ///
    /// # Errors
    /// Its number is not the next one.
    pub fn on_event(
        &mut self,
        gateway: GatewayId,
        number: EventNo,
        attempt: u8,
        bytes: usize,
    ) -> Result<(), FrameError> {
        let Some(lane) = self.lanes.iter_mut().find(|l| l.gateway == gateway) else { return Ok(()) };
        let checked = lane.credit.on_event(number);
        self.audit.on_event(attempt, &checked);
        checked?;
        if let Some(credit) = lane.credit.on_consumed(bytes) {
            encode::credit(credit.events, credit.bytes, &mut lane.staging);
        }
        Ok(())
    }

    /// A gateway applied so many parts.
    pub fn on_ack(&mut self, gateway: GatewayId, parts: u32) {
        let lanes = &mut self.lanes;
        self.releases.on_ack(gateway, parts, |gateway, event| release(lanes, gateway, event));
    }

    fn release_due(&mut self) {
        let lanes = &mut self.lanes;
        self.releases.release_due(|gateway, event| release(lanes, gateway, event));
    }

    /// What the numbers of events say since the last switch.
    pub fn audit(&self) -> Audit {
        self.audit
    }

    /// Another version takes the slot over: what the numbers of events say since the switch before.
    pub fn take_audit(&mut self) -> Audit {
        std::mem::take(&mut self.audit)
    }

    /// Another version runs in the slot.
    pub fn exports(&mut self, version: u32, exports: Exports) {
        for lane in &mut self.lanes {
            if lane.lane.set_exports(exports) {
                encode::exports(version, exports, &mut lane.staging);
            }
        }
    }

    /// The slot leaves: events that came up for no turn go to other slots.
    pub fn drain(&mut self) {
        for lane in &mut self.lanes {
            encode::drain(lane.credit.first_unread(), &mut lane.staging);
        }
    }

    /// The bytes that wait to be flushed on the fullest lane.
    pub fn staged(&self) -> usize {
        self.lanes.iter().map(|l| l.staging.len()).max().unwrap_or(0)
    }

    /// Hands everything to the links.
    pub fn flush(&mut self) {
        for lane in self.lanes.iter_mut().filter(|l| !l.staging.is_empty()) {
            lane.lane.send(Bytes::from(std::mem::take(&mut lane.staging)));
        }
    }

    /// The lanes, to wait for.
    pub fn lanes(&self) -> impl Iterator<Item = &Arc<LazyLane>> {
        self.lanes.iter().map(|l| &l.lane)
    }

    /// A client is bound to this slot.
    pub fn attach(&mut self, gateway: GatewayId, client: u32, addresses: Addresses) {
        if let Some(clients) = self.clients(gateway) {
            clients.insert(client, Attached { addresses, session: SessionView::default() });
        }
    }

    /// The part that was committed last wrote a client's session. Of a client that is not bound to this slot, it keeps
    /// none.
    pub fn wrote_session(&mut self, client: ClientId, session: Option<Box<str>>) {
        let part = self.releases.parts(client.gateway);
        if let Some(attached) = self.clients(client.gateway).and_then(|c| c.get_mut(&client.connection)) {
            attached.session.write(part, session);
        }
    }

    /// A client's session came, taken when so many parts were applied.
    pub fn on_session(&mut self, gateway: GatewayId, client: u32, applied: u32, session: Option<&str>) {
        if let Some(attached) = self.clients(gateway).and_then(|clients| clients.get_mut(&client)) {
            attached.session.on_session(applied, session);
        }
    }

    /// The clients of a gateway that are bound to this slot.
    pub fn clients(&mut self, gateway: GatewayId) -> Option<&mut FxHashMap<u32, Attached>> {
        self.lanes.iter_mut().find(|l| l.gateway == gateway).map(|l| &mut l.clients)
    }

    /// Whether any client is bound to this slot.
    pub fn has_clients(&self) -> bool {
        self.lanes.iter().any(|l| !l.clients.is_empty())
    }

    /// What is known of a client.
    pub fn client(&self, client: ClientId) -> Option<&Attached> {
        self.lanes.iter().find(|l| l.gateway == client.gateway)?.clients.get(&client.connection)
    }
}

impl LaneOut {
    fn command(&mut self, command: &Command<'_>) {
        self.begin_part();
        encode::command(command, self.gateway, &mut self.staging);
    }

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

fn release(lanes: &mut [LaneOut], gateway: GatewayId, event: EventNo) {
    if let Some(lane) = lanes.iter_mut().find(|l| l.gateway == gateway) {
        encode::release(event, &mut lane.staging);
    }
}
