//! A worker's process: its rollouts and slots.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::{AppName, Digest, NodeName};
use tidegate_wire::Grant;
use tidegate_wire::control::{AppReport, Control, DesiredApp, Failure, Stage, VersionRef, VersionTally};
use tidegate_wire::directory::Session;
use tidegate_wire::rollout::{Do, Rollout};

use crate::cluster::Event;
use crate::ids::SlotId;
use crate::kept::Keeper;
use crate::random::Random;
use crate::traffic::slot::{Notice, Slot, World};
use crate::truth::{SlotTruth, agrees, done};

/// How a module behaves, told by the first byte of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    Good,
    /// Half of its turns end with an error.
    Errs,
    /// It traps on every slot.
    Traps,
    /// It cannot take over state.
    Refuses,
    /// Every other time, it cannot hand over its state.
    Clings,
}

impl Manners {
    pub fn of(digest: Digest) -> Self {
        match digest.as_bytes()[0] {
            1 => Self::Errs,
            2 => Self::Traps,
            3 => Self::Refuses,
            4 => Self::Clings,
            _ => Self::Good,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub name: NodeName,
    /// Grows with every process.
    pub life: u64,
    /// The link to the register, as the worker sees it.
    pub session: Option<Session>,
    pub apps: BTreeMap<AppName, App>,
    /// The slots of each app, in the same order.
    pub serving: Vec<Vec<Slot>>,
    /// It stops in good order: slots hand on what they have not read.
    pub leaving: bool,
    /// And has nothing left to do.
    pub left: bool,
    number: usize,
    sizes: BTreeMap<AppName, u32>,
    grant: Grant,
}

#[derive(Debug)]
pub(crate) struct App {
    pub rollout: Rollout,
    pub slots: Vec<SlotTruth>,
    tallies: BTreeMap<u32, VersionTally>,
    /// Slots that had a trap of this version.
    trapped: BTreeMap<u32, Vec<usize>>,
    keeper: Keeper,
    /// To what each slot was told to switch last.
    orders: BTreeMap<u32, VersionRef>,
    /// What the numbers of events said at each slot's last switch: lost, repeated and reordered.
    audits: BTreeMap<u32, [u32; 3]>,
}

impl Worker {
    pub fn new(number: usize, name: NodeName, sizes: BTreeMap<AppName, u32>, grant: Grant) -> Self {
        let mut worker = Self {
            name,
            life: 0,
            session: None,
            apps: BTreeMap::new(),
            serving: Vec::new(),
            leaving: false,
            left: false,
            number,
            sizes,
            grant,
        };
        worker.start();
        worker
    }

    /// A new process with empty slots.
    pub fn start(&mut self) {
        self.life += 1;
        self.session = None;
        (self.leaving, self.left) = (false, false);
        self.apps = self.sizes.iter().map(|(name, slots)| (name.clone(), App::new(name, *slots))).collect();
        let (worker, life, grant) = (self.number, self.life, self.grant);
        let slots = |(app, (name, slots)): (usize, (&AppName, &u32))| {
            let slot = |slot| Slot::new(SlotId { worker, life, app, slot }, name.clone(), grant);
            (0..*slots).map(slot).collect()
        };
        self.serving = self.sizes.iter().enumerate().map(slots).collect();
    }

    /// The app with this number, and its slots.
    pub fn app(&mut self, number: usize) -> Option<(&mut App, &mut [Slot])> {
        Some((self.apps.values_mut().nth(number)?, self.serving.get_mut(number)?))
    }

    /// The register's word.
    pub fn told(&mut self, apps: &[DesiredApp]) {
        for (name, app) in &mut self.apps {
            match apps.iter().find(|desired| desired.app == *name) {
                Some(desired) => app.rollout.desired(desired),
                None => app.rollout.alone(),
            }
        }
    }

    pub fn reports(&self) -> Control {
        Control::AppReports(self.apps.values().map(App::report).collect())
    }

    /// What the rollouts want done, as events in the future. True: the register is to hear of something.
    pub fn pump(&mut self, at: usize, random: &mut Random, events: &mut Vec<(Duration, Event)>) -> bool {
        let mut reports = false;
        for ((name, app), slots) in self.apps.iter_mut().zip(&mut self.serving) {
            while let Some(what) = app.rollout.poll() {
                let usual = match what {
                    Do::Report => {
                        reports = true;
                        continue;
                    }
                    Do::Unload(_) => continue,
                    Do::Load(_) => Duration::from_millis(500),
                    Do::Start { .. } | Do::Prepare { .. } => Duration::from_millis(50),
                    Do::Switch { .. } => Duration::ZERO,
                    Do::Discard { .. } | Do::Empty { .. } => Duration::from_millis(1),
                };
                if let Some(slot) = slot_of(what).and_then(|slot| app.slots.get_mut(slot as usize)) {
                    slot.busy = true;
                }
                // Ends some time after the turn that goes on.
                if let Do::Switch { slot, version } = what {
                    app.orders.insert(slot, version);
                    let hand = app.keeper.hand(slot, version);
                    if let Some(slot) = slots.get_mut(slot as usize) {
                        slot.notice(Notice::Switch(hand));
                    }
                    continue;
                }
                let event = Event::Done { worker: at, life: self.life, app: name.clone(), what };
                events.push((random.delay(usual), event));
            }
        }
        reports
    }
}

impl App {
    fn new(name: &AppName, slots: u32) -> Self {
        let own = VersionRef { number: 0, digest: Digest::of(b"own") };
        Self {
            rollout: Rollout::new(name.clone(), own, slots),
            slots: vec![SlotTruth::default(); slots as usize],
            tallies: BTreeMap::new(),
            trapped: BTreeMap::new(),
            keeper: Keeper::default(),
            orders: BTreeMap::new(),
            audits: BTreeMap::new(),
        }
    }

    fn report(&self) -> AppReport {
        self.rollout.report(self.tallies.values().copied().collect())
    }

    /// To what a slot was told to switch last.
    pub fn ordered(&self, slot: u32) -> Option<VersionRef> {
        self.orders.get(&slot).copied()
    }

    /// Something that was to be done is done, or has failed.
    pub fn done(&mut self, what: Do, slots: &mut [Slot], world: &mut World<'_>) -> Result<(), String> {
        let failure = |slot, stage| Failure::new(slot, stage, format!("made up, while {what:?}"));
        let failed = self.fails(what, world);
        if let Do::Load(version) = what {
            match failed {
                Some(_) => self.rollout.module_failed(version.digest, failure(None, Stage::Fetch)),
                None => self.rollout.module_ready(version.digest),
            }
            return Ok(());
        }
        let Some(number) = slot_of(what) else { return Ok(()) };
        let truth = self.slots.get_mut(number as usize).ok_or("no such slot")?;
        let slot = slots.get_mut(number as usize).ok_or("no such slot")?;
        truth.busy = false;
        match failed {
            Some(traps) => {
                let mut again = false;
                if let Do::Switch { version, .. } = what {
                    truth.beside = None;
                    slot.not_switched(traps, world);
                    again =
                        self.rollout.is_stable(version) && self.keeper.not_switched(number, version, traps);
                }
                match again {
                    true => self.rollout.slot_again(number),
                    false => self.rollout.slot_failed(number, failure(Some(number), Stage::Restore)),
                }
            }
            None => {
                let before = truth.runs;
                done(truth, what)?;
                self.carried_out(what, before, slot, world)?;
            }
        }
        match agrees(&self.rollout, &self.slots) {
            true => Ok(()),
            false => Err(format!("{what:?} left {:?}", self.slots)),
        }
    }

    /// Whether it fails. True: and the instance traps that was to save its state.
    fn fails(&self, what: Do, world: &mut World<'_>) -> Option<bool> {
        let World { random, faults, .. } = world;
        let stable = self.slots.iter().filter_map(|slot| slot.runs).min_by_key(|version| version.number);
        let back = |version: VersionRef| stable.is_some_and(|stable| version.number <= stable.number);
        let fails = match what {
            Do::Load(_) => random.one_in(faults.load),
            Do::Start { .. } => random.one_in(faults.back),
            Do::Prepare { version, .. } => {
                random.one_in(if back(version) { faults.back } else { faults.prepare })
            }
            Do::Switch { slot, version } => {
                let runs = self.slots.get(slot as usize).and_then(|slot| slot.runs);
                let is = |version: Option<VersionRef>, manners| {
                    faults.manners && version.is_some_and(|version| Manners::of(version.digest) == manners)
                };
                let clings = is(runs, Manners::Clings) && random.one_in(2);
                let refuses = !back(version) && is(Some(version), Manners::Refuses);
                clings || refuses || random.one_in(if back(version) { faults.back } else { faults.switch })
            }
            Do::Discard { .. } | Do::Empty { .. } | Do::Unload(_) | Do::Report => false,
        };
        fails.then(|| random.one_in(3))
    }

    fn carried_out(
        &mut self,
        what: Do,
        before: Option<VersionRef>,
        slot: &mut Slot,
        world: &mut World<'_>,
    ) -> Result<(), String> {
        let number = slot.id().slot;
        match what {
            Do::Start { version, .. } => {
                slot.started(version.number, Manners::of(version.digest), world)?;
                self.rollout.slot_started(number);
            }
            Do::Prepare { .. } => self.rollout.slot_prepared(number),
            Do::Discard { .. } => self.rollout.slot_discarded(number),
            Do::Empty { .. } => return Err(format!("slot {number} is emptied, but its app has a plugin")),
            Do::Switch { version, .. } => {
                let (switch, state) = slot.switched(version.number, Manners::of(version.digest), world)?;
                self.keeper.switched(number, before, state, switch.state_lost);
                // What came after the switch before this one counts for this one.
                let audit = [switch.lost, switch.repeated, switch.reordered];
                if let Some(before) = self.audits.insert(number, audit) {
                    self.rollout.slot_audited(number, before);
                }
                self.rollout.slot_switched(switch);
            }
            Do::Load(_) | Do::Unload(_) | Do::Report => {}
        }
        Ok(())
    }

    /// An instance that is ready and not being switched to is gone.
    pub fn lose_beside(&mut self, random: &mut Random) {
        let at = random.below(self.slots.len() as u64) as usize;
        let Some(slot) = self.slots.get_mut(at) else { return };
        let Some(version) = slot.beside else { return };
        if !slot.busy {
            slot.beside = None;
            let failure = Failure::new(Some(at as u32), Stage::Worker, format!("lost {version}"));
            self.rollout.slot_failed(at as u32, failure);
        }
    }

    /// What a conductor does now and then; and in every slot some turns without events.
    pub fn work(&mut self, slots: &mut [Slot], world: &mut World<'_>) -> Result<(), String> {
        if !self.rollout.is_moving() {
            self.keeper.forget();
        }
        for (slot, at_switch) in &self.audits {
            let Some(it) = slots.get(*slot as usize) else { continue };
            let mut audit = it.audit().faults();
            audit.iter_mut().zip(at_switch).for_each(|(now, then)| *now += then);
            self.rollout.slot_audited(*slot, audit);
        }
        for slot in slots {
            let number = slot.id().slot;
            let Some(version) = self.slots.get(number as usize).and_then(|slot| slot.runs) else { continue };
            let manners = Manners::of(version.digest);
            let turns = 20 + world.random.below(100);
            let errors = if manners == Manners::Errs { turns / 2 } else { 0 };
            let traps = manners == Manners::Traps && world.faults.manners
                || world.random.one_in(world.faults.trap * 20);
            if slot.other_turns(turns, traps, world)? {
                self.turned(number, turns, errors, u64::from(traps));
            }
        }
        Ok(())
    }

    /// A slot had turns.
    pub fn turned(&mut self, slot: u32, turns: u64, errors: u64, traps: u64) {
        let Some(version) = self.slots.get(slot as usize).and_then(|slot| slot.runs) else { return };
        let tally = self.tallies.entry(version.number).or_default();
        tally.version = version.number;
        tally.turns += turns;
        tally.errors += errors;
        tally.traps += traps;
        if traps > 0 {
            let trapped = self.trapped.entry(version.number).or_default();
            if !trapped.contains(&(slot as usize)) {
                trapped.push(slot as usize);
            }
            tally.slots_trapped = trapped.len() as u32;
        }
    }
}

pub(crate) fn slot_of(what: Do) -> Option<u32> {
    match what {
        Do::Start { slot, .. }
        | Do::Prepare { slot, .. }
        | Do::Switch { slot, .. }
        | Do::Discard { slot }
        | Do::Empty { slot } => Some(slot),
        Do::Load(_) | Do::Unload(_) | Do::Report => None,
    }
}
