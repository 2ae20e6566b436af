//! What is written down of a deployment, and what is asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Digest};
use tidegate_wire::control::{Canary, VersionRef};
use tidegate_wire::report::{Outcome, SwapReport};

/// Bytes of a note at most.
pub const NOTE_BYTES_MAX: usize = 1024;

/// Bytes of the name of whoever deploys, at most.
pub const BY_BYTES_MAX: usize = 255;

/// The shortest time that a canary compares versions.
pub const CANARY_MIN: Duration = Duration::from_secs(1);

/// The longest one.
pub const CANARY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A wish to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRequest {
    /// The app.
    pub app: AppName,
    /// The module, which is in the register's store.
    pub digest: Digest,
    /// A rollback: the earlier version whose module this is.
    pub again: Option<u32>,
    /// Judge the version on a share of the slots first.
    pub canary: Option<Canary>,
    /// Who wants it, at most [`BY_BYTES_MAX`] bytes.
    pub by: String,
    /// Why, at most [`NOTE_BYTES_MAX`] bytes.
    pub note: String,
    /// How long ago they asked: the module had to come, be checked and be stored. The deployment's times count from
    /// then.
    pub waited: Duration,
}

/// One line of an app's history: all that is durable of a deployment. Named by app and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was deployed.
    pub version: VersionRef,
    /// The earlier version that it deployed again.
    pub again: Option<u32>,
    /// Who wanted it.
    pub by: String,
    /// Why.
    pub note: String,
    /// When: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The canary, if one was asked for.
    pub canary: Option<Canary>,
    /// How far it is.
    pub state: RecordState,
    /// Its report, once it has ended.
    pub report: Option<SwapReport>,
}

/// How far a deployment is. Written down before a worker hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordState {
    /// Workers prepare.
    Prepare,
    /// A share of the slots runs it and is judged.
    Canary,
    /// All slots switch.
    Switch,
    /// All slots return to what they ran.
    Back {
        /// Why.
        reason: String,
    },
    /// It is over.
    Ended(Outcome),
}

impl RecordState {
    /// What people read.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Prepare => "preparing",
            Self::Canary => "judging its canary",
            Self::Switch => "switching",
            Self::Back { .. } => "going back",
            Self::Ended(_) => "ending",
        }
    }
}

/// A wish that is refused; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployError {
    /// Another deployment of the app goes on.
    #[error(
        "app {app} is being deployed already: {version} by {by}, for {since_s} s, {doing}; wait for it, or cancel it"
    )]
    Busy {
        /// The app.
        app: AppName,
        /// What is deployed.
        version: VersionRef,
        /// By whom.
        by: String,
        /// For how many seconds.
        since_s: u64,
        /// How far it is.
        doing: &'static str,
    },
    /// A canary needs a slot that switches and one that does not.
    #[error(
        "a canary of app {app} needs 2 slots at least, the workers have {slots}: deploy it without a canary"
    )]
    CanarySlots {
        /// The app.
        app: AppName,
        /// The slots that there are.
        slots: u64,
    },
    /// A canary's share.
    #[error("a canary's share is 1 to 99 percent, not {0}")]
    CanaryPercent(u8),
    /// A canary's time.
    #[error("a canary takes 1 s to 24 h, not {0} ms")]
    CanaryTime(u64),
    /// A canary's least number of turns.
    #[error("a canary is judged by at least 1 turn of each version, not 0")]
    CanaryTurns,
    /// The note is too long.
    #[error("a note has at most {NOTE_BYTES_MAX} bytes, this one has {0}")]
    Note(usize),
    /// The name of who deploys is too long.
    #[error("the name of who deploys has at most {BY_BYTES_MAX} bytes, this one has {0}")]
    By(usize),
    /// Every number is used.
    #[error("app {0} has been deployed 4294967295 times, there is no number left: deploy under another name")]
    Numbers(AppName),
}

/// A deployment that cannot be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is none.
    #[error("nothing of app {0} is being deployed")]
    NotRunning(AppName),
    /// Its end is decided.
    #[error("the deployment of app {0} is {1} already: to return to an earlier version, roll back")]
    Ending(AppName, &'static str),
}

impl DeployRequest {
    /// Checks what does not depend on the cluster.
    ///
    /// # Errors
    /// The first limit that the wish breaks.
    pub fn check(&self) -> Result<(), DeployError> {
        if self.note.len() > NOTE_BYTES_MAX {
            return Err(DeployError::Note(self.note.len()));
        }
        if self.by.len() > BY_BYTES_MAX {
            return Err(DeployError::By(self.by.len()));
        }
        let Some(canary) = self.canary else { return Ok(()) };
        if !(1..=99).contains(&canary.percent) {
            return Err(DeployError::CanaryPercent(canary.percent));
        }
        if !(CANARY_MIN..=CANARY_MAX).contains(&canary.window()) {
            return Err(DeployError::CanaryTime(canary.for_ms));
        }
        if canary.events_min == 0 { Err(DeployError::CanaryTurns) } else { Ok(()) }
    }
}
