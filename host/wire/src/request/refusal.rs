//! Why a register does not do what was asked.

use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Digest, Label, NodeName};

use crate::control::VersionRef;

/// Why a register does not do what was asked: nothing has changed. Its text says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Nobody here has the app.
    #[error(
        "there is no app {app}; apps here: {}. Name one of them, or start a worker that has it",
        Known(known)
    )]
    UnknownApp {
        /// The app.
        app: AppName,
        /// Those that are here.
        known: Vec<AppName>,
    },
    /// No worker that has the app is there, and what was asked needs one.
    #[error("no worker has app {app} now: start one, or look at `tidegate nodes` why it is not there")]
    NoWorkers {
        /// The app.
        app: AppName,
    },
    /// Another deployment of the app goes on.
    #[error(
        "app {app} is being deployed already: {version} by {by}, for {since_s} s, {doing}; wait for it, or end it with \
         `tidegate deploy {app} --cancel`"
    )]
    Busy {
        /// The app.
        app: AppName,
        /// What is deployed.
        version: VersionRef,
        /// By whom.
        by: Box<str>,
        /// For how many seconds.
        since_s: u64,
        /// How far it is.
        doing: Box<str>,
    },
    /// The module is not one that a worker would run.
    #[error("the module is refused: {reason}")]
    BadModule {
        /// What is wrong with it and how to mend it.
        reason: String,
    },
    /// The module's bytes did not all come, or are not those that were announced.
    #[error("the module did not come over whole: {reason}; deploy it again")]
    Transfer {
        /// What was wrong.
        reason: String,
    },
    /// The wish itself breaks a limit: its canary, its note.
    #[error("{reason}")]
    Wish {
        /// Which one and how to mend it.
        reason: String,
    },
    /// Workers have no room for instances of two versions.
    #[error("there is no room beside the running instances: {reason}")]
    NoCapacity {
        /// Where, and how to mend it.
        reason: String,
    },
    /// The register's disk is full, or its store is at a limit.
    #[error("the register has no room: {reason}")]
    NoRoom {
        /// What is full and how to mend it.
        reason: String,
    },
    /// The register's store does not work.
    #[error("the register's store failed: {reason}")]
    Store {
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The history has no such version.
    #[error("app {app} has no version {number}: `tidegate history {app}` lists those that there are")]
    UnknownVersion {
        /// The app.
        app: AppName,
        /// The version.
        number: u32,
    },
    /// There is no version before the one that runs.
    #[error(
        "app {app} has no earlier version to return to: `tidegate history {app}` lists what was deployed, and --to \
         names one of them"
    )]
    NoEarlier {
        /// The app.
        app: AppName,
    },
    /// The register does not have the module.
    #[error("the register has no module sha256:{digest}: deploy its .wasm file, which uploads it")]
    UnknownModule {
        /// The module.
        digest: Digest,
    },
    /// Nothing of the app is being deployed.
    #[error("nothing of app {app} is being deployed: there is nothing to cancel")]
    NotRunning {
        /// The app.
        app: AppName,
    },
    /// The end of the deployment is decided.
    #[error(
        "the deployment of app {app} is {doing} already: to return to an earlier version, use `tidegate rollback`"
    )]
    Ending {
        /// The app.
        app: AppName,
        /// What it is at.
        doing: String,
    },
    /// This certificate's role may not ask it.
    #[error("{reason}")]
    NotAllowed {
        /// What was asked, who may, and how to become one.
        reason: String,
    },
    /// More is asked at once than is answered.
    #[error("{reason}; try again when some of it is done")]
    TooMuch {
        /// Which limit.
        reason: String,
    },
    /// What came is no question of this version.
    #[error("the question was not understood: {reason}")]
    Broken {
        /// What was wrong with it.
        reason: String,
    },
    /// Nothing is deployed here.
    #[error("{reason}")]
    Unavailable {
        /// Why, and where it is.
        reason: String,
    },
    /// It failed in a way that it must not.
    #[error("the register failed in a way that it must not: {reason}; please report it")]
    Internal {
        /// What is known of it.
        reason: String,
    },
    /// There is no such tenant.
    #[error(
        "there is no tenant {tenant}; tenants here: {}. Name one of them, or make it with `tidegate tenants create \
         {tenant}`",
        Known(known)
    )]
    UnknownTenant {
        /// The tenant.
        tenant: Label,
        /// Those that are here.
        known: Vec<Label>,
    },
    /// It is there already.
    #[error("{reason}")]
    Exists {
        /// What is, and how to change it.
        reason: String,
    },
    /// It stands in a settings file, which commands do not change.
    #[error("{reason}")]
    Fixed {
        /// In which, and what to edit.
        reason: String,
    },
    /// A quota of the tenant forbids it.
    #[error("{reason}")]
    Quota {
        /// Which, what it would come to, and how to mend it.
        reason: String,
    },
    /// The app or its tenant is suspended.
    #[error("{reason}")]
    Suspended {
        /// Which of them, and how to resume it.
        reason: String,
    },
    /// No such node is in the cluster, or it has nothing to say to what was asked.
    #[error(
        "no node {name} is here that can be asked this; nodes here: {}. Name one of them, or start it",
        Known(known)
    )]
    UnknownNode {
        /// The node.
        name: NodeName,
        /// Those that can be asked.
        known: Vec<NodeName>,
    },
}

/// The first apps of a list, so that a message stays one.
struct Known<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Known<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, app) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{app}", if at == 0 { "" } else { ", " })?;
        }
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}
