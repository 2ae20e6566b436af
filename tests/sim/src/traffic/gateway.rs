//! A gateway: it drives the real [`EventLane`]s as a gateway's shard does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tidegate_base::{Addresses, ClientId, Command, Event, GatewayId, MessageKind, Protocol};
use tidegate_wire::directory::Session;
use tidegate_wire::{Carry, EventLane, RawFrame, ToGateway, Unfinished};

use super::client::Client;
use super::ledger::Ledger;
use super::stamp::{Stamp, message, number};
use crate::ids::LaneId;
use crate::random::Random;

/// The weight of the events of one client that may be under way.
const CLIENT_EVENTS_MAX: u32 = 4;

#[derive(Debug)]
pub(crate) struct Gateway {
    pub id: GatewayId,
    /// The link to the register, as the gateway sees it.
    pub session: Option<Session>,
    /// The connection of each has its place here as its number.
    pub clients: Vec<Client>,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes to which clients may be bound: the newest of each slot that is up.
    routes: BTreeSet<LaneId>,
    /// Workers, in one of their lives, that have said that they leave.
    leaving: BTreeSet<(usize, u64)>,
    /// By the app's number.
    pub counts: Vec<Counts>,
}

/// What a gateway has counted for an app since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Events that were accepted.
    pub events: u64,
    /// Events that were given up on.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Lane {
    carry: Carry,
    /// None: its first frame has not come, or it is gone.
    events: Option<EventLane>,
    /// The slot has left, or the lane is lost.
    closed: bool,
    paused: Vec<usize>,
    /// The messages under way on it, by the numbers of their events.
    messages: BTreeMap<u32, (ClientId, u32)>,
    /// The version that the slot has last said to run.
    version: Option<u32>,
}

impl Gateway {
    pub fn new(number: u64, clients: &[usize], apps: usize) -> Self {
        let id = GatewayId::new(1 + number);
        let client =
            |(at, app): (usize, &usize)| Client::new(ClientId { gateway: id, connection: at as u32 }, *app);
        Self {
            id,
            session: None,
            clients: clients.iter().enumerate().map(client).collect(),
            lanes: BTreeMap::new(),
            routes: BTreeSet::new(),
            leaving: BTreeSet::new(),
            counts: vec![Counts::default(); apps],
        }
    }

    // === from clients to slots ===

    /// Takes a client as far as it gets: whatever was in its way may be gone.
    pub fn pump(&mut self, at: usize, ledger: &mut Ledger, random: &mut Random) {
        let Some(client) = self.clients.get_mut(at) else { return };
        if client.paused || (client.stash.is_empty() && client.unread == 0) {
            return;
        }
        let routes = || self.routes.iter().filter(|lane| lane.slot.app == client.app);
        if client.lane.is_none() {
            let up = routes().count() as u64;
            client.lane = routes().nth(random.below(up) as usize).copied();
        }
        let Some(lane) = client.lane.and_then(|lane| self.lanes.get_mut(&lane)).filter(|lane| !lane.closed)
        else {
            return;
        };
        let Some(events) = &mut lane.events else { return };
        let mut sent = 0;
        while client.unread > 0 || !client.stash.is_empty() {
            if !events.can_send() {
                client.paused = true;
                lane.paused.push(at);
                break;
            }
            let (number, payload, attempt) = match client.stash.pop_front() {
                Some(owed) => match payload(&owed) {
                    Ok((number, payload)) => (number, payload, owed.attempt),
                    Err(_) => continue,
                },
                None if client.in_flight >= CLIENT_EVENTS_MAX => break,
                None => {
                    (client.unread, sent) = (client.unread - 1, sent + 1);
                    let number = ledger.sent(client.id);
                    (number, message(number, random.below(300) as usize), 1)
                }
            };
            if !std::mem::replace(&mut client.attached, true) {
                events.attach(client.id.connection, &addresses());
            }
            lane.messages.insert(events.next().0, (client.id, number));
            let event = Event::Message(MessageKind::Binary, &payload);
            client.in_flight += u32::from(events.event(client.id.connection, attempt, &event));
        }
        if let Some(counts) = self.counts.get_mut(client.app) {
            counts.events += sent;
        }
    }

    /// What is to be sent now, on each lane one batch.
    pub fn flush(&mut self) -> Vec<(LaneId, Bytes)> {
        let open = self.lanes.iter_mut().filter(|(_, lane)| !lane.closed);
        open.filter_map(|(id, lane)| Some((*id, lane.events.as_mut()?.take_batch()?))).collect()
    }

    // === from slots to clients ===

    /// Bytes came in on a lane.
    pub fn read(
        &mut self,
        id: LaneId,
        bytes: &[u8],
        ledger: &mut Ledger,
        random: &mut Random,
    ) -> Result<(), String> {
        let lane = self.lanes.entry(id).or_default();
        if lane.closed {
            return Ok(());
        }
        let mut carry = std::mem::take(&mut lane.carry);
        let (mut frames, mut woken) = (Vec::new(), Vec::new());
        let read = carry.feed(bytes, |frame| {
            frame.put(&mut frames);
            Ok::<_, tidegate_wire::FrameError>(())
        });
        read.map_err(|error| error.to_string())?;
        lane.carry = carry;
        let mut rest = &frames[..];
        while let Ok(Some((frame, used))) = RawFrame::split(rest) {
            self.on_frame(id, &frame, ledger, &mut woken).map_err(|error| format!("{id:?}: {error}"))?;
            rest = rest.get(used..).unwrap_or_default();
        }
        if let Some(events) = self.lanes.get(&id).and_then(|lane| lane.events.as_ref()) {
            events.check_invariants()?;
        }
        woken.into_iter().for_each(|client| self.pump(client, ledger, random));
        Ok(())
    }

    /// Adds the clients that may get on to `woken`.
    fn on_frame(
        &mut self,
        id: LaneId,
        frame: &RawFrame<'_>,
        ledger: &mut Ledger,
        woken: &mut Vec<usize>,
    ) -> Result<(), String> {
        let decoded = ToGateway::decode(frame, self.id).map_err(|error| error.to_string())?;
        let lane = self.lanes.get_mut(&id).ok_or("it is not known")?;
        let Some(events) = &mut lane.events else {
            let ToGateway::Hello(hello) = decoded else { return Err("its first frame is no hello".into()) };
            lane.events = Some(EventLane::new(hello.credit_events, hello.credit_bytes));
            self.opened(id, woken);
            return Ok(());
        };
        match decoded {
            ToGateway::Part(head, commands) => {
                let effect = events.on_part(head).map_err(|error| error.to_string())?;
                if effect.apply {
                    self.apply(id, commands, ledger)?;
                }
                if let Some((client, weight)) = effect.finished {
                    self.finished(id, head.event.0, client, weight, effect.failed, ledger)?;
                    woken.push(client as usize);
                }
            }
            ToGateway::Credit(more, bytes) => {
                events.on_credit(more, bytes);
                for client in std::mem::take(&mut lane.paused) {
                    self.clients.get_mut(client).into_iter().for_each(|client| client.paused = false);
                    woken.push(client);
                }
            }
            ToGateway::Release(event) => events.on_release(event).map_err(|error| error.to_string())?,
            ToGateway::Exports(version, _) => lane.version = Some(version),
            ToGateway::Drain(first_unread) => {
                let unread = events.on_drain(first_unread);
                self.leave(id, unread, ledger, woken)?;
            }
            other => return Err(format!("a slot sent {other:?}")),
        }
        Ok(())
    }

    /// A lane is open. If its slot has left, or has a newer lane, it is not given to clients.
    fn opened(&mut self, id: LaneId, woken: &mut Vec<usize>) {
        let is_left = self.leaving.contains(&(id.slot.worker, id.slot.life));
        let known = self.routes.iter().find(|lane| lane.slot == id.slot).copied();
        if is_left || known.is_some_and(|known| known.generation > id.generation) {
            return;
        }
        self.routes.retain(|lane| Some(*lane) != known);
        self.routes.insert(id);
        woken.extend(0..self.clients.len());
    }

    fn apply(&mut self, id: LaneId, mut commands: &[u8], ledger: &mut Ledger) -> Result<(), String> {
        let version = &mut self.lanes.get_mut(&id).ok_or("it is not known")?.version;
        while let Ok(Some((frame, used))) = RawFrame::split(commands) {
            commands = commands.get(used..).unwrap_or_default();
            let decoded = ToGateway::decode(&frame, self.id).map_err(|error| error.to_string())?;
            let ToGateway::Command(Command::SendTo(to, sent)) = decoded else {
                return Err(format!("it asked for {decoded:?}"));
            };
            // Something that a turn said to others than its own client.
            let Some(stamp) = Stamp::from_bytes(sent.payload) else { continue };
            let client = self.clients.get_mut(to.connection as usize).ok_or("an answer to nobody")?;
            if stamp.slot != id.slot || *version.get_or_insert(stamp.version) != stamp.version {
                return Err(format!("{stamp:?}, and the slot has said that it runs {version:?}"));
            }
            ledger.answered(to, &stamp)?;
            client.on_answer(stamp)?;
        }
        Ok(())
    }

    fn finished(
        &mut self,
        id: LaneId,
        event: u32,
        client: u32,
        weight: u16,
        is_failed: bool,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let message = self.lanes.get_mut(&id).and_then(|lane| lane.messages.remove(&event));
        let (of, number) = message.ok_or("an event is done that was never sent")?;
        ledger.done(of, number, is_failed)?;
        let client = self.clients.get_mut(client as usize).filter(|client| client.id == of);
        let client = client.ok_or("an event of somebody else is done")?;
        if client.lane == Some(id) {
            client.in_flight = client.in_flight.saturating_sub(weight.into());
        }
        Ok(())
    }

    // === lanes that end ===

    /// A worker leaves: its slots are not given to clients any more.
    pub fn withdrawn(&mut self, worker: usize, life: u64) {
        self.leaving.insert((worker, life));
        self.routes.retain(|lane| (lane.slot.worker, lane.slot.life) != (worker, life));
    }

    /// A lane is lost. What was under way on it is counted.
    pub fn lost(&mut self, id: LaneId, ledger: &mut Ledger, random: &mut Random) -> Result<(), String> {
        let lane = self.lanes.entry(id).or_default();
        if std::mem::replace(&mut lane.closed, true) {
            return Ok(());
        }
        let lost = lane.events.as_mut().map(EventLane::on_lost).unwrap_or_default();
        for event in &lost {
            let (number, _) = payload(event)?;
            ledger.lost(ClientId { gateway: self.id, connection: event.client }, number)?;
        }
        if let Some(counts) = self.counts.get_mut(id.slot.app) {
            counts.lost += lost.len() as u64;
        }
        let mut woken = Vec::new();
        self.leave(id, Vec::new(), ledger, &mut woken)?;
        woken.into_iter().for_each(|client| self.pump(client, ledger, random));
        Ok(())
    }

    /// The clients of a lane need another slot, and what it has not read goes first.
    fn leave(
        &mut self,
        id: LaneId,
        unread: Vec<Unfinished>,
        ledger: &mut Ledger,
        woken: &mut Vec<usize>,
    ) -> Result<(), String> {
        self.routes.remove(&id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            *lane = Lane { closed: true, ..Lane::default() };
        }
        for (at, client) in self.clients.iter_mut().enumerate() {
            if client.lane == Some(id) {
                client.unbind();
                woken.push(at);
            }
        }
        for event in unread.into_iter().rev() {
            let client = self.clients.get_mut(event.client as usize).ok_or("an event of nobody is unread")?;
            ledger.moved(client.id, payload(&event)?.0)?;
            client.stash.push_front(event);
        }
        Ok(())
    }
}

fn payload(event: &Unfinished) -> Result<(u32, Vec<u8>), String> {
    match event.event() {
        Some(Event::Message(_, payload)) => Ok((number(payload)?, payload.to_vec())),
        other => Err(format!("{other:?} is unread")),
    }
}

fn addresses() -> Addresses {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Addresses { remote: nobody, local: nobody, protocol: Protocol::Tcp }
}
