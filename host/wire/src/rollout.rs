//! The worker's side of a deployment: which instance of an app starts, switches and goes, and when.

mod slot;
mod steps;

use tidegate_base::{AppName, Digest};

use self::slot::{Doing, Slot};
use self::steps::Want;
use crate::control::{
    AppReport, DesiredApp, DesiredRollout, Failure, RolloutPhase, SlotSwitch, VersionRef, VersionTally,
};

/// Switches that a report tells of at most; a deployment needs two for each slot of the worker.
pub const SWITCHES_MAX: usize = 4096;

/// Moves the slots of one app on one worker to the version that they should run. A plain state machine: it knows what
/// is wanted and what is there, and says what to do next.
///
/// Calling contract. After every call of an input, drain [`poll`](Self::poll) until it is empty and do what it says;
/// each [`Do`] but the last two has exactly one answer, at any time later, and may be in progress for several slots at
/// once:
///
/// | [`Do`] | answers |
/// | --- | --- |
/// | `Load` | [`module_ready`](Self::module_ready) or [`module_failed`](Self::module_failed) |
/// | `Start` | [`slot_started`](Self::slot_started) or [`slot_failed`](Self::slot_failed) |
/// | `Prepare` | [`slot_prepared`](Self::slot_prepared) or `slot_failed`: then nothing is ready beside the slot's own |
/// | `Switch` | [`slot_switched`](Self::slot_switched), `slot_failed`: then the slot runs on as before, the fresh instance is gone, or [`slot_again`](Self::slot_again): the same, and it is asked once more |
/// | `Discard` | [`slot_discarded`](Self::slot_discarded) |
/// | `Empty` | [`slot_emptied`](Self::slot_emptied) |
/// | `Unload`, `Report` | none |
///
/// A slot that traps restarts by itself with what it runs; that changes nothing here. Asked to switch meanwhile, it
/// answers later, or that it failed. An answer that nothing asked for is ignored. Whoever drives this bounds the time of
/// each thing to do, and fails it when that is over.
///
/// What the rules are: a version is prepared in all slots before the first switches to it, slots switch one after the
/// other, and the first failure halts the rest where they are until the register says what now. Going back to the stable
/// version goes on past failures; what cannot return keeps what it runs and says so. Nothing is tried twice until
/// something else is wanted, or [`retry`](Self::retry) is called. While no version is stable (an app of whose nothing was
/// ever deployed) slots are empty, and going back empties them.
#[derive(Debug)]
pub struct Rollout {
    app: AppName,
    own: Option<VersionRef>,
    goal: Option<Goal>,
    slots: Vec<Slot>,
    modules: Vec<Module>,
    /// The first thing that went wrong with the deployment's version.
    failure: Option<Failure>,
    /// The first thing that went wrong with the stable version.
    stable_failure: Option<Failure>,
    switches: Vec<SlotSwitch>,
    report_due: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Get the module (number 0: from where the settings say), check and compile it.
    Load(VersionRef),
    /// Start the first instance of an empty slot.
    Start {
        /// The slot.
        slot: u32,
        /// Of this version; its module is ready.
        version: VersionRef,
    },
    /// Start a fresh instance beside the one that the slot runs, its effects held back.
    Prepare {
        /// The slot.
        slot: u32,
        /// Of this version; its module is ready.
        version: VersionRef,
    },
    /// Between two turns: hand state and timers over to the fresh instance, and run it from now on. An empty slot has
    /// nothing to hand over.
    Switch {
        /// The slot.
        slot: u32,
        /// The version that is ready beside it.
        version: VersionRef,
    },
    /// End the fresh instance beside the one that the slot runs; nobody ever saw an effect of it.
    Discard {
        /// The slot.
        slot: u32,
    },
    /// End the instance that the slot runs, in good order: there is no version to go back to.
    Empty {
        /// The slot.
        slot: u32,
    },
    /// No slot needs the module any more.
    Unload(Digest),
    /// [`Rollout::report`] has something new for the register. Without a register there is nobody to tell.
    Report,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Goal {
    /// None: nothing was deployed yet, and the settings name no plugin.
    stable: Option<VersionRef>,
    rollout: Option<DesiredRollout>,
}

#[derive(Debug)]
struct Module {
    digest: Digest,
    state: ModuleState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ModuleState {
    Fetching,
    Compiling,
    Ready,
    Failed,
}

impl Rollout {
    /// An app with so many empty slots, all numbered from 0. `own` is what the worker's settings name, if they name a
    /// plugin: number 0 and the module's digest. Nothing is done until [`desired`](Self::desired) or
    /// [`alone`](Self::alone).
    pub fn new(app: AppName, own: impl Into<Option<VersionRef>>, slots: u32) -> Self {
        Self {
            app,
            own: own.into(),
            goal: None,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            modules: Vec::new(),
            failure: None,
            stable_failure: None,
            switches: Vec::new(),
            report_due: true,
        }
    }

    // === what is there ===

    /// The app.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// What each slot runs, or runs again as soon as it has restarted.
    pub fn slots(&self) -> impl Iterator<Item = Option<VersionRef>> {
        self.slots.iter().map(|slot| slot.runs)
    }

    /// Whether a deployment goes on or slots catch up: report once a second, since the tallies matter.
    pub fn is_moving(&self) -> bool {
        self.rollout_report().is_some()
    }

    /// Whether slots are not where they should be and nothing more is tried: [`retry`](Self::retry) after a while.
    pub fn is_stuck(&self) -> bool {
        self.stable_failure.is_some() && self.is_moving()
    }

    /// What to tell the register, with the tallies of the versions that run here or ran since the deployment began. Of
    /// slots that sleep it knows nothing.
    pub fn report(&self, judged: Vec<VersionTally>) -> AppReport {
        AppReport {
            app: self.app.clone(),
            slots: self.slots.iter().map(|slot| slot.runs.map(|version| version.number)).collect(),
            rollout: self.rollout_report(),
            judged,
            asleep: 0,
        }
    }

    // === what is wanted ===

    /// The register says what should run; replaces what it said before.
    pub fn desired(&mut self, desired: &DesiredApp) {
        let stable = desired.stable.or(self.own);
        let rollout = desired.rollout.filter(|rollout| Some(rollout.version) != stable);
        let goal = Goal { stable, rollout };
        let Some(before) = self.goal.replace(goal) else {
            self.report_due = true;
            return;
        };
        if before == goal {
            return;
        }
        let version = |goal: Goal| goal.rollout.map(|rollout| rollout.version);
        let another = version(goal).is_some() && version(goal) != version(before);
        if another || before.stable != stable {
            self.failure = None;
            self.stable_failure = None;
            self.switches.clear();
            self.slots.iter_mut().for_each(|slot| slot.refused.clear());
            self.modules.retain(|module| module.state != ModuleState::Failed);
        }
        self.report_due = true;
    }

    /// No register says what should run: start what the settings name. Changes nothing once a register has spoken.
    pub fn alone(&mut self) {
        if self.goal.is_none() {
            self.goal = Some(Goal { stable: self.own, rollout: None });
            self.report_due = true;
        }
    }

    /// The app has so many slots from now on: those that come are empty, and of those that go nothing is asked any more.
    pub fn resize(&mut self, slots: u32) {
        self.slots.resize_with(slots as usize, Slot::default);
        self.report_due = true;
    }

    /// Whether this is the version that every slot goes back to.
    pub fn is_stable(&self, version: VersionRef) -> bool {
        self.goal.is_some_and(|goal| goal.stable == Some(version))
    }

    /// Tries again what failed with the stable version. Whoever drives this calls it now and then while
    /// [`is_stuck`](Self::is_stuck).
    pub fn retry(&mut self) {
        let Some(goal) = self.goal.filter(|_| self.stable_failure.is_some()) else { return };
        let Some(stable) = goal.stable else { return };
        self.stable_failure = None;
        self.slots.iter_mut().for_each(|slot| slot.refused.retain(|version| *version != stable));
        self.modules.retain(|module| module.digest != stable.digest || module.state != ModuleState::Failed);
        self.report_due = true;
    }

    // === facts about modules ===

    /// The module's bytes are here; they are checked and compiled now. Need not be told.
    pub fn module_compiling(&mut self, digest: Digest) {
        self.set_module(digest, ModuleState::Compiling);
    }

    /// The module can be instantiated.
    pub fn module_ready(&mut self, digest: Digest) {
        self.set_module(digest, ModuleState::Ready);
    }

    /// The module cannot run here.
    pub fn module_failed(&mut self, digest: Digest, failure: Failure) {
        if !self.set_module(digest, ModuleState::Failed) {
            return;
        }
        let Some(goal) = self.goal else { return };
        if goal.rollout.is_some_and(|rollout| rollout.version.digest == digest) {
            self.failure.get_or_insert_with(|| failure.clone());
        }
        if goal.stable.is_some_and(|stable| stable.digest == digest) {
            self.stable_failure.get_or_insert(failure);
        }
    }

    // === facts about slots ===

    /// An empty slot has its first instance.
    pub fn slot_started(&mut self, slot: u32) {
        let Some(it) = self.slot_mut(slot) else { return };
        if let Some(Doing::Start(version)) = it.doing {
            it.doing = None;
            it.runs = Some(version);
            self.report_due = true;
        }
    }

    /// A fresh instance is ready beside the one that the slot runs.
    pub fn slot_prepared(&mut self, slot: u32) {
        let Some(it) = self.slot_mut(slot) else { return };
        if let Some(Doing::Prepare(version)) = it.doing {
            it.doing = None;
            it.prepared = Some(version);
            self.report_due = true;
        }
    }

    /// The slot runs the fresh instance. Its versions need not be filled in.
    pub fn slot_switched(&mut self, switch: SlotSwitch) {
        let Some(it) = self.slot_mut(switch.slot) else { return };
        if let Some(Doing::Switch(version)) = it.doing {
            let from = it.runs.map(|version| version.number);
            *it = Slot { runs: Some(version), refused: std::mem::take(&mut it.refused), ..Slot::default() };
            if self.switches.len() < SWITCHES_MAX {
                self.switches.push(SlotSwitch { from, to: version.number, ..switch });
            }
            self.report_due = true;
        }
    }

    /// The first turn on new code has ended, so long after the slot's last switch.
    pub fn slot_first_event(&mut self, slot: u32, after_us: u64) {
        let last = self.switches.iter_mut().rev().find(|switch| switch.slot == slot);
        if let Some(first @ None) = last.map(|switch| &mut switch.first_event_us) {
            *first = Some(after_us);
            self.report_due = true;
        }
    }

    /// What the numbers of events say of the slot's last switch: those that were lost, repeated and reordered since the
    /// switch before it, up to now.
    pub fn slot_audited(&mut self, slot: u32, [lost, repeated, reordered]: [u32; 3]) {
        let last = self.switches.iter_mut().rev().find(|switch| switch.slot == slot);
        let Some(last) = last else { return };
        let news = SlotSwitch { lost, repeated, reordered, ..*last };
        self.report_due |= news != *last;
        *last = news;
    }

    /// The fresh instance is gone.
    pub fn slot_discarded(&mut self, slot: u32) {
        let Some(it) = self.slot_mut(slot) else { return };
        if it.doing == Some(Doing::Discard) {
            it.doing = None;
            it.prepared = None;
            self.report_due = true;
        }
    }

    /// The slot runs nothing any more.
    pub fn slot_emptied(&mut self, slot: u32) {
        let Some(it) = self.slot_mut(slot) else { return };
        if it.doing == Some(Doing::Empty) {
            it.doing = None;
            it.runs = None;
            self.report_due = true;
        }
    }

    /// The slot did not switch, but may in another way: it is asked once more. The fresh instance is gone.
    pub fn slot_again(&mut self, slot: u32) {
        if let Some(it) = self.slot_mut(slot) {
            it.fail();
            self.report_due = true;
        }
    }

    /// What the slot was asked to do failed, or the fresh instance that it had ready is gone.
    pub fn slot_failed(&mut self, slot: u32, failure: Failure) {
        let goal = self.goal;
        let Some(it) = self.slot_mut(slot) else { return };
        let Some(version) = it.fail() else { return };
        let of =
            |goal: Goal| (goal.stable == Some(version), goal.rollout.is_some_and(|r| r.version == version));
        let (is_stable, is_new) = goal.map(of).unwrap_or_default();
        if is_stable || is_new {
            it.refused.push(version);
        }
        if is_stable {
            self.stable_failure.get_or_insert(failure);
        } else if is_new {
            self.failure.get_or_insert(failure);
        }
        self.report_due = true;
    }

    // === what to do ===

    /// The next thing to do, if there is one now.
    pub fn poll(&mut self) -> Option<Do> {
        if let Some(goal) = self.goal {
            let next =
                self.next_load(goal).or_else(|| self.next_of_slots(goal)).or_else(|| self.next_unload(goal));
            if next.is_some() {
                return next;
            }
        }
        std::mem::take(&mut self.report_due).then_some(Do::Report)
    }

    /// Checks what holds at all times.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        let switching = self.slots.iter().filter(|slot| matches!(slot.doing, Some(Doing::Switch(_)))).count();
        if switching > 1 {
            return Err(format!("{switching} slots switch at once"));
        }
        for (number, slot) in self.slots.iter().enumerate() {
            slot.check().map_err(|broken| format!("slot {number}: {broken}"))?;
            let loaded = slot.versions().all(|version| self.is_ready(version.digest));
            if !loaded {
                return Err(format!(
                    "slot {number} has an instance of a module that is not loaded: {slot:?}"
                ));
            }
        }
        for (at, module) in self.modules.iter().enumerate() {
            if self.modules.iter().skip(at + 1).any(|other| other.digest == module.digest) {
                return Err(format!("module {} is there twice", module.digest));
            }
        }
        Ok(())
    }

    fn next_load(&mut self, goal: Goal) -> Option<Do> {
        let wanted = [goal.stable, goal.rollout.filter(|r| r.phase != RolloutPhase::Back).map(|r| r.version)];
        let version = wanted.into_iter().flatten().find(|version| self.module(version.digest).is_none())?;
        self.modules.push(Module { digest: version.digest, state: ModuleState::Fetching });
        self.report_due = true;
        Some(Do::Load(version))
    }

    fn next_of_slots(&mut self, goal: Goal) -> Option<Do> {
        let (at, doing) = self.slots.iter().enumerate().find_map(|(at, slot)| {
            let doing = self.next_of_slot(goal, at, slot)?;
            Some((at, doing))
        })?;
        self.slots.get_mut(at)?.doing = Some(doing);
        let slot = u32::try_from(at).ok()?;
        Some(match doing {
            Doing::Start(version) => Do::Start { slot, version },
            Doing::Prepare(version) => Do::Prepare { slot, version },
            Doing::Switch(version) => Do::Switch { slot, version },
            Doing::Discard => Do::Discard { slot },
            Doing::Empty => Do::Empty { slot },
        })
    }

    fn next_of_slot(&self, goal: Goal, at: usize, slot: &Slot) -> Option<Doing> {
        if slot.doing.is_some() {
            return None;
        }
        let want = self.want(goal, at, slot);
        let version = match want {
            Want::Run(version) | Want::Beside(version) => version,
            Want::Keep | Want::Nothing if slot.prepared.is_some() => return Some(Doing::Discard),
            Want::Keep => return None,
            Want::Nothing => return Some(Doing::Empty),
        };
        if slot.prepared == Some(version) {
            let now = matches!(want, Want::Run(_)) && self.may_switch(goal, version);
            return now.then_some(Doing::Switch(version));
        }
        if slot.prepared.is_some() {
            return Some(Doing::Discard);
        }
        if !self.is_ready(version.digest) {
            return None;
        }
        // A stable version that starts in an empty slot has nothing to take over and nothing to wait for.
        let first = slot.runs.is_none() && Some(version) == goal.stable;
        Some(if first { Doing::Start(version) } else { Doing::Prepare(version) })
    }

    fn next_unload(&mut self, goal: Goal) -> Option<Do> {
        let needed = |digest: Digest| {
            let new = goal.rollout.filter(|r| r.phase != RolloutPhase::Back);
            goal.stable.is_some_and(|stable| stable.digest == digest)
                || new.is_some_and(|r| r.version.digest == digest)
                || self.slots.iter().any(|slot| slot.versions().any(|version| version.digest == digest))
        };
        // What failed was never there to be unloaded, and one that is being loaded has an answer to come.
        self.modules.retain(|module| module.state != ModuleState::Failed || needed(module.digest));
        let idle = |module: &Module| module.state == ModuleState::Ready && !needed(module.digest);
        let at = self.modules.iter().position(idle)?;
        Some(Do::Unload(self.modules.swap_remove(at).digest))
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)
    }

    fn module(&self, digest: Digest) -> Option<ModuleState> {
        self.modules.iter().find(|module| module.digest == digest).map(|module| module.state)
    }

    fn is_ready(&self, digest: Digest) -> bool {
        self.module(digest) == Some(ModuleState::Ready)
    }

    /// False: nobody waits for this module.
    fn set_module(&mut self, digest: Digest, state: ModuleState) -> bool {
        let loading = |state| matches!(state, ModuleState::Fetching | ModuleState::Compiling);
        let found = self.modules.iter_mut().find(|module| module.digest == digest && loading(module.state));
        if let Some(module) = found {
            module.state = state;
            self.report_due = true;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
