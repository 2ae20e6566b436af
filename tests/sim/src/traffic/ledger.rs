//! What has really happened to every message and in every slot, and whether that may happen. It knows nothing of lanes,
//! queues and instances: they tell it what they do.

use std::collections::BTreeMap;

use tidegate_base::ClientId;
use tidegate_wire::report::SwitchedAt;

use super::stamp::Stamp;
use crate::ids::SlotId;

type Counts = BTreeMap<ClientId, u64>;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    messages: BTreeMap<ClientId, Vec<Message>>,
    slots: BTreeMap<SlotId, SlotLog>,
    pub totals: Totals,
}

/// What became of everybody's messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Those that were answered.
    pub answered: u64,
    /// Those whose turns failed or trapped.
    pub failed: u64,
    /// Those that were counted as lost.
    pub lost: u64,
    /// Those that a slot that left had not read: another one got them.
    pub moved: u64,
    /// Switches of slots with messages that had had no turn.
    pub switched_under_load: u64,
    /// Switches back without what the slot knew.
    pub states_lost: u64,
}

impl Totals {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            failed: self.failed + other.failed,
            lost: self.lost + other.lost,
            moved: self.moved + other.moved,
            switched_under_load: self.switched_under_load + other.switched_under_load,
            states_lost: self.states_lost + other.states_lost,
        }
    }
}

/// What became of a message that a gateway took.
#[derive(Debug, Default)]
struct Message {
    had_turn: bool,
    answered: bool,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Failed,
    Lost,
}

/// What a fresh instance got to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// What the one before knew.
    Over,
    /// What the slot handed over when it left this version.
    Kept,
    Nothing,
}

#[derive(Debug, Default)]
struct SlotLog {
    /// None: it has had no instance, or began with a switch.
    began_with: Option<u32>,
    turns: u64,
    switches: Vec<Switched>,
    has_instance: bool,
    is_switching: bool,
    /// It has failed to switch since it did.
    has_failed: bool,
    /// The messages that the instance must know of.
    counts: Counts,
    /// What it handed over when it left these versions.
    left: BTreeMap<u32, Counts>,
}

#[derive(Debug)]
struct Switched {
    from: Option<u32>,
    to: u32,
    after_turn: u64,
    /// The instance before had something to hand over, and did.
    has_saved: bool,
}

impl Ledger {
    // === slots ===

    pub fn started(&mut self, slot: SlotId, version: u32) -> Result<(), String> {
        let log = self.log(slot);
        let is_empty = log.runs().is_none() && !log.has_instance;
        (log.began_with, log.has_instance) = (Some(version), true);
        match is_empty {
            true => Ok(()),
            false => Err(format!("{slot:?} starts twice")),
        }
    }

    /// The instance trapped, or is there again, without state.
    pub fn restarts(&mut self, slot: SlotId, is_there: bool) {
        let log = self.log(slot);
        log.has_instance = is_there;
        log.counts.clear();
    }

    /// Until [`switched`](Self::switched) or [`not_switched`](Self::not_switched).
    pub fn switches(&mut self, slot: SlotId) -> Result<(), String> {
        let log = self.log(slot);
        match std::mem::replace(&mut log.is_switching, true) {
            false => Ok(()),
            true => Err(format!("{slot:?} switches twice at once")),
        }
    }

    pub fn not_switched(&mut self, slot: SlotId) {
        let log = self.log(slot);
        (log.is_switching, log.has_failed) = (false, true);
    }

    pub fn switched(&mut self, slot: SlotId, to: u32, after_turn: u64, handed: Handed) -> Result<(), String> {
        let log = self.log(slot);
        let from = log.runs();
        log.may_be_handed(handed, to).map_err(|broken| format!("{slot:?} to {to}: {broken}"))?;
        match handed {
            Handed::Over => log.left.extend(from.map(|from| (from, log.counts.clone()))),
            Handed::Kept => log.counts = log.left.get(&to).cloned().unwrap_or_default(),
            Handed::Nothing => log.counts.clear(),
        }
        self.totals.states_lost += u64::from(handed != Handed::Over);
        let log = self.log(slot);
        let is_exact = log.is_switching && log.turns == after_turn;
        let turns = log.turns;
        let has_saved = handed == Handed::Over && log.has_instance;
        log.switches.push(Switched { from, to, after_turn, has_saved });
        (log.is_switching, log.has_instance, log.has_failed) = (false, true, false);
        match is_exact {
            true => Ok(()),
            false => Err(format!("{slot:?} switches after turn {after_turn} and has had {turns}")),
        }
    }

    /// Turns without events.
    pub fn other_turns(&mut self, slot: SlotId, turns: u64) -> Result<(), String> {
        let log = self.log(slot);
        log.turns += turns;
        log.may_run().map_err(|broken| format!("{slot:?}: {broken}"))
    }

    /// A slot begins the turn of a message.
    pub fn turn(&mut self, client: ClientId, stamp: &Stamp) -> Result<(), String> {
        let log = self.log(stamp.slot);
        log.may_run().map_err(|broken| format!("{stamp:?}: {broken}"))?;
        log.turns += 1;
        let count = log.counts.entry(client).or_default();
        *count += 1;
        let expected =
            Stamp { turn: log.turns, count: *count, version: log.runs().unwrap_or_default(), ..*stamp };
        if *stamp != expected {
            return Err(format!("{stamp:?} of {client} should be {expected:?}"));
        }
        match std::mem::replace(&mut self.message(client, stamp.message)?.had_turn, true) {
            false => Ok(()),
            true => Err(format!("{stamp:?} of {client} is not the first turn of this message")),
        }
    }

    /// Whether a slot of this worker, in one of its lives, has divided its turns so. Every turn is checked against
    /// this.
    pub fn has_divided(&self, worker: usize, app: usize, at: &SwitchedAt) -> bool {
        let of_slot = |id: &SlotId| id.worker == worker && id.app == app && id.slot == at.slot;
        let fits = |it: &Switched| it.from == at.from && it.to == at.to && it.after_turn == at.after_turn;
        self.slots.iter().any(|(id, log)| of_slot(id) && log.switches.iter().any(fits))
    }

    // === messages ===

    /// A gateway takes a message. Returns its number.
    pub fn sent(&mut self, client: ClientId) -> u32 {
        let messages = self.messages.entry(client).or_default();
        messages.push(Message::default());
        messages.len() as u32 - 1
    }

    /// An answer has come to its client.
    pub fn answered(&mut self, client: ClientId, stamp: &Stamp) -> Result<(), String> {
        let version = self.log(stamp.slot).version_at(stamp.turn);
        if version != Some(stamp.version) {
            return Err(format!("{stamp:?}: by the slot's switches, that turn was of version {version:?}"));
        }
        let earlier = self.messages.get(&client).and_then(|all| all.get(..stamp.message as usize));
        if !earlier.is_some_and(|all| all.iter().rev().take(64).all(|message| message.end.is_some())) {
            return Err(format!("{stamp:?} of {client} overtakes an earlier message"));
        }
        let message = self.message(client, stamp.message)?;
        if !message.had_turn || message.answered || message.end.is_some() {
            return Err(format!("{stamp:?} of {client} answers what is {message:?}"));
        }
        message.answered = true;
        Ok(())
    }

    /// A gateway knows that a message is done with.
    pub fn done(&mut self, client: ClientId, number: u32, is_failed: bool) -> Result<(), String> {
        let message = self.message(client, number)?;
        if !message.had_turn || message.end.is_some() || (!is_failed && !message.answered) {
            return Err(format!("message {number} of {client} is said to be done: {message:?}"));
        }
        message.end = Some(if is_failed { End::Failed } else { End::Well });
        *if is_failed { &mut self.totals.failed } else { &mut self.totals.answered } += 1;
        Ok(())
    }

    /// A gateway has counted a message as lost.
    pub fn lost(&mut self, client: ClientId, number: u32) -> Result<(), String> {
        let message = self.message(client, number)?;
        if message.end.is_some() {
            return Err(format!("message {number} of {client} is lost, after all: {message:?}"));
        }
        message.end = Some(End::Lost);
        self.totals.lost += 1;
        Ok(())
    }

    /// A gateway has got a message back.
    pub fn moved(&mut self, client: ClientId, number: u32) -> Result<(), String> {
        self.totals.moved += 1;
        let message = self.message(client, number)?;
        match message.had_turn || message.end.is_some() {
            false => Ok(()),
            true => Err(format!("message {number} of {client} is handed on: {message:?}")),
        }
    }

    /// The first message that nothing has become of.
    pub fn pending(&self) -> Option<(ClientId, usize)> {
        let open = |(client, all): (&ClientId, &Vec<Message>)| {
            Some((*client, all.iter().position(|message| message.end.is_none())?))
        };
        self.messages.iter().find_map(open)
    }

    fn message(&mut self, client: ClientId, number: u32) -> Result<&mut Message, String> {
        let of_client = self.messages.get_mut(&client);
        of_client
            .and_then(|all| all.get_mut(number as usize))
            .ok_or_else(|| format!("message {number} of {client} was never sent"))
    }

    fn log(&mut self, slot: SlotId) -> &mut SlotLog {
        self.slots.entry(slot).or_default()
    }
}

impl SlotLog {
    fn runs(&self) -> Option<u32> {
        self.switches.last().map(|switch| switch.to).or(self.began_with)
    }

    fn version_at(&self, turn: u64) -> Option<u32> {
        let before = self.switches.iter().rev().find(|switch| switch.after_turn < turn);
        before.map(|switch| switch.to).or(self.began_with)
    }

    /// What a slot knows is given up only if it cannot be handed over, and then for what is kept, if anything is.
    fn may_be_handed(&self, handed: Handed, to: u32) -> Result<(), &'static str> {
        let is_kept = self.switches.last().is_some_and(|last| last.from == Some(to) && last.has_saved);
        match handed {
            Handed::Kept | Handed::Nothing if !self.has_failed => Err("state is given up without need"),
            Handed::Nothing if is_kept => Err("what was kept of its state is not used"),
            _ => Ok(()),
        }
    }

    fn may_run(&self) -> Result<(), &'static str> {
        match (self.has_instance, self.is_switching) {
            (true, false) => Ok(()),
            (false, _) => Err("a turn without an instance"),
            (true, true) => Err("a turn during a switch"),
        }
    }
}
