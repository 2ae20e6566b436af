//! A worker's process: its rollouts and slots.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::{AppName, Digest, NodeName};
use tidegate_wire::control::{
    AppReport, Control, DesiredApp, Failure, SlotSwitch, Stage, VersionRef, VersionTally,
};
use tidegate_wire::directory::Session;
use tidegate_wire::rollout::{Do, Rollout};

use crate::cluster::Event;
use crate::faults::Faults;
use crate::random::Random;
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
}

impl Manners {
    pub fn of(digest: Digest) -> Self {
        match digest.as_bytes()[0] {
            1 => Self::Errs,
            2 => Self::Traps,
            3 => Self::Refuses,
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
    sizes: BTreeMap<AppName, u32>,
}

#[derive(Debug)]
pub(crate) struct App {
    pub rollout: Rollout,
    pub slots: Vec<SlotTruth>,
    tallies: BTreeMap<u32, VersionTally>,
    /// Slots that had a trap of this version.
    trapped: BTreeMap<u32, Vec<usize>>,
}

impl Worker {
    pub fn new(name: NodeName, sizes: BTreeMap<AppName, u32>) -> Self {
        let mut worker = Self { name, life: 0, session: None, apps: BTreeMap::new(), sizes };
        worker.start();
        worker
    }

    /// A new process with empty slots.
    pub fn start(&mut self) {
        self.life += 1;
        self.session = None;
        let own = VersionRef { number: 0, digest: Digest::of(b"own") };
        let app = |(name, slots): (&AppName, &u32)| {
            let rollout = Rollout::new(name.clone(), own, *slots);
            let slots = vec![SlotTruth::default(); *slots as usize];
            let (tallies, trapped) = (BTreeMap::new(), BTreeMap::new());
            (name.clone(), App { rollout, slots, tallies, trapped })
        };
        self.apps = self.sizes.iter().map(app).collect();
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
        for (name, app) in &mut self.apps {
            while let Some(what) = app.rollout.poll() {
                let usual = match what {
                    Do::Report => {
                        reports = true;
                        continue;
                    }
                    Do::Unload(_) => continue,
                    Do::Load(_) => Duration::from_millis(500),
                    Do::Start { .. } | Do::Prepare { .. } => Duration::from_millis(50),
                    Do::Switch { .. } => Duration::from_millis(5),
                    Do::Discard { .. } => Duration::from_millis(1),
                };
                if let Some(slot) = slot_of(what).and_then(|slot| app.slots.get_mut(slot as usize)) {
                    slot.busy = true;
                }
                let event = Event::Done { worker: at, life: self.life, app: name.clone(), what };
                events.push((random.delay(usual), event));
            }
        }
        reports
    }
}

impl App {
    fn report(&self) -> AppReport {
        self.rollout.report(self.tallies.values().copied().collect())
    }

    /// Something that was to be done is done, or has failed.
    pub fn done(&mut self, what: Do, random: &mut Random, faults: &Faults) -> Result<(), String> {
        let stable = self.slots.iter().filter_map(|slot| slot.runs).min_by_key(|version| version.number);
        let back = |version: VersionRef| stable.is_some_and(|stable| version.number <= stable.number);
        let failure = |slot, stage| Failure::new(slot, stage, format!("made up, while {what:?}"));
        let ok = match what {
            Do::Load(version) => {
                let fails = random.one_in(faults.load);
                match fails {
                    true => self.rollout.module_failed(version.digest, failure(None, Stage::Fetch)),
                    false => self.rollout.module_ready(version.digest),
                }
                return Ok(());
            }
            Do::Start { .. } => !random.one_in(faults.back),
            Do::Prepare { version, .. } => {
                !random.one_in(if back(version) { faults.back } else { faults.prepare })
            }
            Do::Switch { version, .. } if back(version) => !random.one_in(faults.back),
            Do::Switch { version, .. } => {
                let refuses = faults.manners && Manners::of(version.digest) == Manners::Refuses;
                !refuses && !random.one_in(faults.switch)
            }
            Do::Discard { .. } | Do::Unload(_) | Do::Report => true,
        };
        self.carry_out(what, ok, random, failure)?;
        if agrees(&self.rollout, &self.slots) {
            Ok(())
        } else {
            Err(format!("{what:?} left {:?}", self.slots))
        }
    }

    fn carry_out(
        &mut self,
        what: Do,
        ok: bool,
        random: &mut Random,
        failure: impl Fn(Option<u32>, Stage) -> Failure,
    ) -> Result<(), String> {
        let Some(slot) = slot_of(what) else { return Ok(()) };
        let truth = self.slots.get_mut(slot as usize).ok_or("no such slot")?;
        truth.busy = false;
        if !ok {
            if matches!(what, Do::Switch { .. }) {
                truth.beside = None;
            }
            self.rollout.slot_failed(slot, failure(Some(slot), Stage::Restore));
            return Ok(());
        }
        done(truth, what)?;
        match what {
            Do::Start { .. } => self.rollout.slot_started(slot),
            Do::Prepare { .. } => self.rollout.slot_prepared(slot),
            Do::Discard { .. } => self.rollout.slot_discarded(slot),
            _ => {
                let pause_us = 100 + random.below(1_000);
                self.rollout.slot_switched(SlotSwitch { slot, pause_us, ..SlotSwitch::default() });
                self.rollout.slot_first_event(slot, pause_us + random.below(1_000));
            }
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

    /// Some turns in every slot.
    pub fn work(&mut self, random: &mut Random, faults: &Faults) {
        for (at, slot) in self.slots.iter().enumerate() {
            let Some(version) = slot.runs else { continue };
            let tally = self.tallies.entry(version.number).or_default();
            tally.version = version.number;
            let turns = 20 + random.below(100);
            tally.turns += turns;
            let manners = Manners::of(version.digest);
            if manners == Manners::Errs {
                tally.errors += turns / 2;
            }
            if manners == Manners::Traps || random.one_in(faults.trap * 20) {
                tally.traps += 1;
                let trapped = self.trapped.entry(version.number).or_default();
                if !trapped.contains(&at) {
                    trapped.push(at);
                }
                tally.slots_trapped = trapped.len() as u32;
            }
        }
    }
}

fn slot_of(what: Do) -> Option<u32> {
    match what {
        Do::Start { slot, .. }
        | Do::Prepare { slot, .. }
        | Do::Switch { slot, .. }
        | Do::Discard { slot } => Some(slot),
        Do::Load(_) | Do::Unload(_) | Do::Report => None,
    }
}
