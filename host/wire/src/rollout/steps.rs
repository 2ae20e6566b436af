//! From what is wanted and what is there to what each slot should have, and to what the register is told.

use super::slot::{Doing, Slot};
use super::{Goal, ModuleState, Rollout};
use crate::control::{DesiredRollout, RolloutPhase, RolloutReport, Step, VersionRef};

/// What a slot should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// What it runs, and nothing beside it.
    Keep,
    /// This version ready beside what it runs.
    Beside(VersionRef),
    /// It should run this version.
    Run(VersionRef),
    /// It should be empty.
    Nothing,
}

impl Rollout {
    pub(super) fn want(&self, goal: Goal, at: usize, slot: &Slot) -> Want {
        let Some(rollout) = goal.rollout.filter(|rollout| rollout.phase != RolloutPhase::Back) else {
            return match goal.stable {
                Some(stable) if slot.runs == Some(stable) || self.refuses(slot, stable) => Want::Keep,
                Some(stable) => Want::Run(stable),
                None if slot.runs.is_some() => Want::Nothing,
                None => Want::Keep,
            };
        };
        let version = rollout.version;
        // An empty slot serves nobody: the version that is known to be good comes first.
        if let Some(stable) = goal.stable
            && slot.runs.is_none()
            && !self.refuses(slot, stable)
            && slot.prepared.is_none()
        {
            return Want::Run(stable);
        }
        // A slot that runs neither version (it could not go back from an earlier one) goes straight to the new one: a
        // deployment is how it is repaired.
        if slot.runs == Some(version) || self.refuses(slot, version) {
            return Want::Keep;
        }
        let halted = self.failure.is_some();
        if at < wanted(rollout) && !halted { Want::Run(version) } else { Want::Beside(version) }
    }

    /// Whether a slot may switch to the version that it has ready.
    pub(super) fn may_switch(&self, goal: Goal, version: VersionRef) -> bool {
        let quiet = !self.slots.iter().any(|slot| matches!(slot.doing, Some(Doing::Switch(_))));
        let ready = |slot: &Slot| slot.runs == Some(version) || slot.prepared == Some(version);
        quiet && (Some(version) == goal.stable || self.slots.iter().all(ready))
    }

    pub(super) fn rollout_report(&self) -> Option<RolloutReport> {
        let goal = self.goal?;
        let (version, step, failure) = match goal.rollout {
            None => {
                let stable = goal.stable.map_or(0, |stable| stable.number);
                (stable, self.catching_up(goal)?, &self.stable_failure)
            }
            Some(rollout) if rollout.phase == RolloutPhase::Back => {
                let step = self.going_back(goal);
                let failure = if step == Step::Stuck { &self.stable_failure } else { &self.failure };
                (rollout.version.number, step, failure)
            }
            Some(rollout) => (rollout.version.number, self.going_on(rollout), &self.failure),
        };
        let switches = self.switches.clone();
        Some(RolloutReport { version, step, failure: failure.clone(), switches })
    }

    fn refuses(&self, slot: &Slot, version: VersionRef) -> bool {
        slot.refused.contains(&version) || self.module(version.digest) == Some(ModuleState::Failed)
    }

    /// Something is to be done yet, or being done.
    fn is_busy(&self, goal: Goal) -> bool {
        self.slots.iter().enumerate().any(|(at, slot)| {
            slot.doing.is_some() || slot.prepared.is_some() || self.want(goal, at, slot) != Want::Keep
        })
    }

    fn loading(&self, version: VersionRef) -> Option<Step> {
        match self.module(version.digest) {
            Some(ModuleState::Ready) => None,
            Some(ModuleState::Compiling) => Some(Step::Compiling),
            Some(ModuleState::Fetching | ModuleState::Failed) | None => Some(Step::Fetching),
        }
    }

    /// None: there is nothing to catch up with.
    fn catching_up(&self, goal: Goal) -> Option<Step> {
        let is_busy = self.is_busy(goal);
        let Some(stable) = goal.stable else { return is_busy.then_some(Step::GoingBack) };
        if !is_busy {
            let there = self.slots.iter().all(|slot| slot.runs == Some(stable));
            return (!there).then_some(Step::Stuck);
        }
        let ready = |slot: &Slot| slot.runs == Some(stable) || slot.prepared == Some(stable);
        let starting = if self.slots.iter().all(ready) { Step::Switching } else { Step::Starting };
        Some(self.loading(stable).unwrap_or(starting))
    }

    fn going_back(&self, goal: Goal) -> Step {
        let elsewhere = |slot: &Slot| slot.runs.is_some_and(|version| Some(version) != goal.stable);
        match self.is_busy(goal) {
            true => Step::GoingBack,
            false if self.slots.iter().any(elsewhere) => Step::Stuck,
            false => Step::Back,
        }
    }

    fn going_on(&self, rollout: DesiredRollout) -> Step {
        let version = rollout.version;
        if let Some(loading) = self.loading(version) {
            return loading;
        }
        let runs = |slot: &Slot| slot.runs == Some(version);
        if !self.slots.iter().all(|slot| runs(slot) || slot.prepared == Some(version)) {
            return Step::Starting;
        }
        match rollout.phase {
            RolloutPhase::Switch { .. } if self.slots.iter().take(wanted(rollout)).all(runs) => {
                Step::Switched
            }
            RolloutPhase::Switch { .. } => Step::Switching,
            RolloutPhase::Prepare | RolloutPhase::Back => Step::Prepared,
        }
    }
}

/// How many of the first slots are to run the new version.
fn wanted(rollout: DesiredRollout) -> usize {
    match rollout.phase {
        RolloutPhase::Switch { slots } => slots as usize,
        RolloutPhase::Prepare | RolloutPhase::Back => 0,
    }
}
