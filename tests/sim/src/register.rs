//! The register's process and the disk under it.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::AppName;
use tidegate_register::deployment::{Deployments, Record, RecordState};
use tidegate_wire::control::{DesiredApp, RolloutPhase};
use tidegate_wire::directory::Session;
use tidegate_wire::report::Outcome;

/// A register and its store. The store outlives the process.
#[derive(Debug, Default)]
pub(crate) struct Register {
    /// None: it is dead.
    pub machine: Option<Deployments>,
    /// Grows with every process.
    pub life: u64,
    pub store: BTreeMap<(AppName, u32), Record>,
    /// When a worker's first reports came in, by its link.
    pub reported: BTreeMap<Session, Duration>,
}

impl Register {
    pub fn start(&mut self, now: Duration) {
        self.life += 1;
        self.reported.clear();
        let records = self.store.iter().map(|((app, _), record)| (app.clone(), record.clone()));
        self.machine = Some(Deployments::restore(records, now));
    }

    /// Whether workers may hear this: each phase is written down, and so is the commit of what is stable.
    pub fn may_tell(&self, apps: &[DesiredApp]) -> Result<(), String> {
        for desired in apps {
            let record = |number| self.store.get(&(desired.app.clone(), number));
            if let Some(stable) = desired.stable {
                let committed = record(stable.number).is_some_and(|record| {
                    record.version == stable && record.state == RecordState::Ended(Outcome::Committed)
                });
                if !committed {
                    return Err(format!("{stable} is told to be stable and is not known to be committed"));
                }
            }
            let Some(rollout) = desired.rollout else { continue };
            let written = record(rollout.version.number).map(|record| &record.state);
            let fits = match (rollout.phase, written) {
                (_, None) => false,
                // A disk may fail while it goes back.
                (RolloutPhase::Back, Some(_)) => true,
                (RolloutPhase::Prepare, Some(_)) => true,
                (RolloutPhase::Switch { .. }, Some(written)) => *written != RecordState::Prepare,
            };
            if !fits {
                return Err(format!("told {rollout:?}, written {written:?}"));
            }
        }
        Ok(())
    }
}
