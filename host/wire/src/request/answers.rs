//! Apps and their histories, as a register tells them.

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, NodeName};

use super::manage::Created;
use crate::control::{Canary, Failure, Step, VersionRef, VersionTally};
use crate::report::{Outcome, SwapReport, Tally};

/// An app in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOverview {
    /// The app.
    pub app: AppName,
    /// What its slots run and start with. None: nothing was deployed, so what the workers' own settings name.
    pub stable: Option<VersionRef>,
    /// The deployment that goes on.
    pub deploying: Option<Deploying>,
    /// The workers that have it now, by name.
    pub workers: Vec<WorkerOverview>,
    /// What else is known of an app that was made at run time; None: it stands in settings files.
    pub created: Option<Created>,
}

/// A deployment that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploying {
    /// What is deployed.
    pub version: VersionRef,
    /// Who wanted it.
    pub by: String,
    /// Since when: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How far it is, in words: `preparing`.
    pub doing: String,
}

/// An app on one worker, as that worker said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOverview {
    /// The worker.
    pub worker: NodeName,
    /// The version that each slot runs. None: nothing yet. 0: what the worker's own settings name.
    pub slots: Vec<Option<u32>>,
    /// How far it is on its way to another version, if it is on one.
    pub step: Option<Step>,
    /// Why it does not get on, or goes back.
    pub failure: Option<Failure>,
    /// What its versions have done since it started; those of long ago may be left out.
    pub tallies: Vec<VersionTally>,
    /// Its slots that sleep, since nobody needs them; as of some seconds ago.
    pub asleep: u32,
}

impl AppOverview {
    /// What the version that the app runs has done on all workers. Before anything was deployed that is what the
    /// settings name, version 0.
    pub fn health(&self) -> Tally {
        let current = self.stable.map_or(0, |version| version.number);
        let tallies = self.workers.iter().flat_map(|worker| &worker.tallies);
        tallies.filter(|tally| tally.version == current).map(Tally::from).fold(Tally::default(), Tally::plus)
    }
}

/// One line of an app's history: a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// What was deployed.
    pub version: VersionRef,
    /// The earlier version that it deployed again: it was a rollback.
    pub again: Option<u32>,
    /// Who wanted it.
    pub by: String,
    /// What they wrote beside it.
    pub note: String,
    /// When it began: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The canary, if one was asked for.
    pub canary: Option<Canary>,
    /// How it ended, or how far it is.
    pub state: EntryState,
    /// Its report. None: it goes on, or is so old that only this line is left.
    pub report: Option<Box<SwapReport>>,
}

/// How a deployment ended, or how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// It goes on: how far it is, in words.
    Running(String),
    /// It is over.
    Ended(Outcome),
}

impl EntryState {
    /// What lists show: `committed`, `preparing`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running(doing) => doing,
            Self::Ended(outcome) => outcome.as_str(),
        }
    }
}
