//! What a slot does between the steps of a deployment: turns, traps, switches of its instance, good-bye.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_base::{AppName, ClientId, Command, Event, GatewayId, Message, MessageKind};
use tidegate_wire::control::SlotSwitch;
use tidegate_wire::{EventNo, Grant, RawFrame, ToWorker};

use super::ledger::{Handed, Ledger};
use super::outbox::{Audit, Outbox};
use super::stamp::{Stamp, number};
use crate::faults::Faults;
use crate::ids::{LaneId, SlotId};
use crate::kept::Hand;
use crate::random::Random;
use crate::worker::Manners;

const TURN: Duration = Duration::from_millis(4);
const TURN_LONG: Duration = Duration::from_millis(200);

/// The state of an instance: how many messages of each client it has handled.
pub(crate) type State = BTreeMap<ClientId, u64>;

#[derive(Debug)]
pub(crate) struct Slot {
    id: SlotId,
    app: AppName,
    grant: Grant,
    /// None: there is none, or it has still to start anew.
    instance: Option<Instance>,
    version: u32,
    manners: Manners,
    turn: Option<Turn>,
    switching: Option<Handover>,
    /// What must be done between two turns.
    notices: VecDeque<Notice>,
    out: Outbox,
    turns: u64,
    is_first_event: bool,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Empty,
    Serves,
    Stops,
    Stopped,
}

#[derive(Debug)]
struct Instance {
    state: State,
}

#[derive(Debug)]
struct Turn {
    client: ClientId,
    stamp: Stamp,
    end: TurnEnd,
    /// Its answer has left already.
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TurnEnd {
    Well,
    Errs,
    Traps,
}

/// Of the instance before, to the one that takes over.
#[derive(Debug)]
struct Handover {
    state: Option<Vec<u8>>,
    handed: Handed,
}

#[derive(Debug)]
pub(crate) enum Notice {
    LaneUp(LaneId, GatewayId),
    LaneDown(LaneId),
    Ack(LaneId, u32),
    Switch(Hand),
    Stop,
}

/// What a slot wants of the world.
#[derive(Debug)]
pub(crate) enum Wish {
    /// The turn ends.
    TurnEnds(Duration),
    /// Another instance starts.
    Restart(Duration),
    /// The state is saved; the switch ends.
    SwitchEnds(Duration),
    Send(LaneId, Vec<u8>),
}

/// What a slot works with.
#[derive(Debug)]
pub(crate) struct World<'a> {
    pub random: &'a mut Random,
    pub faults: &'a Faults,
    pub ledger: &'a mut Ledger,
    /// Everybody to whom a turn can speak.
    pub clients: &'a [ClientId],
    /// Each of a slot.
    pub wishes: Vec<(u32, Wish)>,
}

impl World<'_> {
    fn wish(&mut self, slot: u32, wish: Wish) {
        self.wishes.push((slot, wish));
    }
}

impl Slot {
    pub fn new(id: SlotId, app: AppName, grant: Grant) -> Self {
        Self {
            id,
            app,
            grant,
            instance: None,
            version: 0,
            manners: Manners::Good,
            turn: None,
            switching: None,
            notices: VecDeque::new(),
            out: Outbox::default(),
            turns: 0,
            is_first_event: false,
            life: Life::Empty,
        }
    }

    /// Its first instance runs.
    pub fn started(&mut self, version: u32, manners: Manners, world: &mut World<'_>) -> Result<(), String> {
        self.seat(version, manners, State::new());
        world.ledger.started(self.id, version)
    }

    fn seat(&mut self, version: u32, manners: Manners, state: State) {
        (self.version, self.manners) = (version, manners);
        self.instance = Some(Instance { state });
        // A worker may leave before its slots have started.
        if self.life == Life::Empty {
            self.life = Life::Serves;
        }
    }

    pub fn id(&self) -> SlotId {
        self.id
    }

    pub fn is_serving(&self) -> bool {
        self.life == Life::Serves
    }

    /// Nothing is left to be done.
    pub fn is_stopped(&self) -> bool {
        matches!(self.life, Life::Empty | Life::Stopped)
    }

    pub fn audit(&self) -> Audit {
        self.out.audit()
    }

    pub fn notice(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// Bytes came in on a lane. They are read also while a turn runs.
    pub fn read(&mut self, lane: LaneId, bytes: &[u8]) -> Result<(), String> {
        let acks = self.out.read(lane, bytes)?;
        self.notices.extend(acks.into_iter().map(|parts| Notice::Ack(lane, parts)));
        Ok(())
    }

    /// Goes on until a turn, a switch or nothing is left to be done.
    pub fn go_on(&mut self, world: &mut World<'_>) -> Result<(), String> {
        while self.turn.is_none() && self.switching.is_none() && self.life != Life::Stopped {
            if let Some(notice) = self.notices.pop_front() {
                self.on_notice(notice, world)?;
                continue;
            }
            if self.life == Life::Stops {
                self.out.drain();
                self.life = Life::Stopped;
                break;
            }
            let frame = self.instance.is_some().then(|| self.out.next_frame()).flatten();
            let Some((lane, bytes)) = frame else { break };
            self.on_frame(lane, &bytes, world)?;
        }
        // Several turns leave together.
        if self.turn.is_none() || world.random.one_in(4) {
            self.flush(world);
        }
        Ok(())
    }

    fn flush(&mut self, world: &mut World<'_>) {
        for (lane, bytes) in self.out.flush() {
            world.wish(self.id.slot, Wish::Send(lane, bytes));
        }
    }

    fn on_notice(&mut self, notice: Notice, world: &mut World<'_>) -> Result<(), String> {
        match notice {
            Notice::LaneUp(lane, gateway) => self.out.add(lane, gateway, &self.app, self.grant),
            Notice::LaneDown(lane) => drop(self.out.remove(lane)),
            Notice::Ack(lane, parts) => self.out.on_ack(lane, parts),
            Notice::Stop => self.life = Life::Stops,
            Notice::Switch(hand) => {
                world.ledger.switches(self.id)?;
                let save = |instance: &Instance| save(&instance.state);
                self.switching = Some(match hand {
                    Hand::Over => Handover { state: self.instance.as_ref().map(save), handed: Handed::Over },
                    Hand::Kept(Some(state)) => Handover { state: Some(state), handed: Handed::Kept },
                    Hand::Kept(None) => Handover { state: None, handed: Handed::Nothing },
                });
                let pause = world.random.delay(Duration::from_millis(5));
                world.wish(self.id.slot, Wish::SwitchEnds(pause));
            }
        }
        Ok(())
    }

    // === turns ===

    fn on_frame(&mut self, lane: LaneId, bytes: &[u8], world: &mut World<'_>) -> Result<(), String> {
        let broken = |error: tidegate_wire::FrameError| error.to_string();
        let Some((frame, used)) = RawFrame::split(bytes).map_err(broken)? else { return Ok(()) };
        match ToWorker::decode(&frame).map_err(broken)? {
            ToWorker::Attach(client, _) => self.out.attach(lane, client),
            ToWorker::Event { client, number: event, event: Event::Message(_, payload), .. } => {
                self.out.on_event(lane, client, event, used)?;
                let gateway = GatewayId::new(1 + lane.gateway as u64);
                let client = ClientId { gateway, connection: client };
                self.begin_turn((lane, event), client, number(payload)?, world)?;
            }
            other => return Err(format!("a gateway sent {other:?}")),
        }
        Ok(())
    }

    fn begin_turn(
        &mut self,
        event: (LaneId, EventNo),
        client: ClientId,
        message: u32,
        world: &mut World<'_>,
    ) -> Result<(), String> {
        self.turns += 1;
        let mut count = 1;
        if let Some(instance) = &mut self.instance {
            let counted = instance.state.entry(client).or_default();
            *counted += 1;
            count = *counted;
        }
        let stamp = Stamp { message, slot: self.id, version: self.version, turn: self.turns, count };
        world.ledger.turn(client, &stamp)?;
        self.out.begin(event);
        let end = self.ends(world);
        let answered = world.random.one_in(4);
        self.turn = Some(Turn { client, stamp, end, answered });
        if answered {
            self.answer(client, stamp);
            self.out.commit(false, false);
            self.flush(world);
        }
        // Some wait for something else, and others behind them.
        let usual = if world.random.one_in(40) { TURN_LONG } else { TURN };
        let takes = world.random.delay(usual);
        world.wish(self.id.slot, Wish::TurnEnds(takes));
        Ok(())
    }

    fn ends(&self, world: &mut World<'_>) -> TurnEnd {
        let has = |manners| world.faults.manners && self.manners == manners;
        match () {
            () if has(Manners::Traps) && world.random.one_in(8) => TurnEnd::Traps,
            () if world.random.one_in(world.faults.trap * 20) => TurnEnd::Traps,
            () if has(Manners::Errs) && world.random.one_in(2) => TurnEnd::Errs,
            () => TurnEnd::Well,
        }
    }

    fn answer(&mut self, client: ClientId, stamp: Stamp) {
        let payload = stamp.to_bytes();
        let message = Message { kind: MessageKind::Binary, payload: &payload };
        self.out.command(client, &Command::SendTo(client, message));
    }

    /// The turn ends. Returns what it has been: turns that erred and trapped, and whether it was the first one after a
    /// switch.
    pub fn turn_ends(&mut self, world: &mut World<'_>) -> Result<Ended, String> {
        let Turn { client, stamp, end, answered } = self.turn.take().ok_or("no turn ends")?;
        match end {
            TurnEnd::Well => {
                if !answered {
                    self.answer(client, stamp);
                }
                if world.random.one_in(4) {
                    self.tell_somebody(world);
                }
                self.out.commit(true, false);
            }
            TurnEnd::Errs => {
                self.out.abort();
                self.out.commit(true, true);
            }
            TurnEnd::Traps => {
                self.out.abort();
                self.out.commit(true, true);
                self.flush(world);
                self.breaks(world);
            }
        }
        let is_first_event = std::mem::take(&mut self.is_first_event);
        Ok(Ended { errs: end == TurnEnd::Errs, traps: end == TurnEnd::Traps, is_first_event })
    }

    /// Somebody who may be on another gateway: the event is then released when that has answered.
    fn tell_somebody(&mut self, world: &mut World<'_>) {
        let at = world.random.below(world.clients.len() as u64) as usize;
        if let Some(client) = world.clients.get(at) {
            let message = Message { kind: MessageKind::Binary, payload: b"hi" };
            self.out.command(*client, &Command::SendTo(*client, message));
        }
    }

    /// Turns without events. False: there is no time for them now.
    pub fn other_turns(&mut self, turns: u64, traps: bool, world: &mut World<'_>) -> Result<bool, String> {
        let is_free = self.instance.is_some() && self.turn.is_none() && self.switching.is_none();
        if !is_free || self.life != Life::Serves {
            return Ok(false);
        }
        self.turns += turns;
        world.ledger.other_turns(self.id, turns)?;
        if traps {
            self.breaks(world);
        }
        Ok(true)
    }

    /// A trap: the instance is gone, and its state with it.
    fn breaks(&mut self, world: &mut World<'_>) {
        self.instance = None;
        let pause = world.random.delay(Duration::from_millis(10));
        world.wish(self.id.slot, Wish::Restart(pause));
        world.ledger.restarts(self.id, false);
    }

    /// After a trap. A switch may have brought another instance meanwhile.
    pub fn restarts(&mut self, world: &mut World<'_>) {
        if self.instance.is_some() || self.life == Life::Stopped {
            return;
        }
        if self.switching.is_some() {
            return world.wish(self.id.slot, Wish::Restart(Duration::from_millis(1)));
        }
        self.instance = Some(Instance { state: State::new() });
        world.ledger.restarts(self.id, true);
    }

    // === switches ===

    /// The fresh instance serves from now on. Returns the facts, and the state that was handed over.
    pub fn switched(
        &mut self,
        version: u32,
        manners: Manners,
        world: &mut World<'_>,
    ) -> Result<(SlotSwitch, Option<Vec<u8>>), String> {
        let Handover { state, handed } = self.switching.take().ok_or("no switch ends")?;
        let restored = state.as_deref().map(restore).transpose()?.unwrap_or_default();
        self.seat(version, manners, restored);
        self.is_first_event = true;
        let after_turn = self.turns;
        world.ledger.switched(self.id, version, after_turn, handed)?;
        self.out.exports(version);
        self.flush(world);
        let audit = self.out.take_audit();
        let waiting_events = self.out.waiting_events();
        world.ledger.totals.switched_under_load += u64::from(waiting_events > 0);
        let switch = SlotSwitch {
            slot: self.id.slot,
            pause_us: 100 + world.random.below(1_000),
            waiting_events,
            after_turn,
            state_bytes: state.as_ref().map_or(0, |state| state.len() as u64),
            state_lost: handed != Handed::Over,
            lane_events_before: audit.events,
            lost: audit.lost,
            repeated: audit.repeated,
            reordered: audit.reordered,
            ..SlotSwitch::default()
        };
        Ok((switch, state))
    }

    /// The slot runs on as before. `traps`: saving has broken the instance.
    pub fn not_switched(&mut self, traps: bool, world: &mut World<'_>) {
        self.switching = None;
        world.ledger.not_switched(self.id);
        if traps && self.instance.is_some() {
            self.breaks(world);
        }
    }
}

/// What a turn was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub errs: bool,
    pub traps: bool,
    pub is_first_event: bool,
}

fn save(state: &State) -> Vec<u8> {
    let line = |(client, count): (&ClientId, &u64)| {
        [client.gateway.get(), client.connection.into(), *count].map(u64::to_le_bytes).concat()
    };
    state.iter().flat_map(line).collect()
}

fn restore(bytes: &[u8]) -> Result<State, String> {
    let (fields, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || fields.len() % 3 != 0 {
        return Err(format!("{} bytes are no state", bytes.len()));
    }
    let line = |line: &[[u8; 8]]| match line
        .iter()
        .map(|field| u64::from_le_bytes(*field))
        .collect::<Vec<_>>()[..]
    {
        [gateway, connection, count] => {
            Some((ClientId { gateway: GatewayId::new(gateway), connection: connection as u32 }, count))
        }
        _ => None,
    };
    Ok(fields.chunks(3).filter_map(line).collect())
}
