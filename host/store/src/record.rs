//! What the history says of a version. These are also the values in the file: a change to one is a new format.

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Digest};

use crate::error::StoreError;

/// Most records of one app; the oldest goes first, never that of the current version.
pub const HISTORY_MAX: usize = 1000;
/// So many of an app's newest versions keep their report.
pub const REPORTS_MAX: u32 = 100;
/// Most apps.
pub const APPS_MAX: u32 = 10_000;
/// Longest [`NewVersion::by`], in bytes.
pub const BY_BYTES_MAX: usize = 255;
/// Longest [`NewVersion::note`], in bytes.
pub const NOTE_BYTES_MAX: usize = 4 << 10;
/// Longest reason of an [`Outcome`], in bytes; the rest is cut.
pub const REASON_BYTES_MAX: usize = 16 << 10;
/// Longest report, in bytes.
pub const REPORT_BYTES_MAX: usize = 1 << 20;
/// Longest [`NewVersion::progress`], in bytes.
pub const PROGRESS_BYTES_MAX: usize = 1 << 20;

/// A deployment that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion {
    /// The module, which is in the store.
    pub digest: Digest,
    /// When it begins, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who deploys: at most [`BY_BYTES_MAX`] bytes.
    pub by: String,
    /// What whoever deploys says about it: at most [`NOTE_BYTES_MAX`] bytes.
    pub note: String,
    /// The earlier version that this one runs again. It is in the history, with the same module.
    pub again: Option<u32>,
    /// Where it comes from. [`Origin::File`] notes the module as the one that the settings file names.
    pub origin: Origin,
    /// What the deployment's state machine wants to find after a crash: at most [`PROGRESS_BYTES_MAX`] bytes that
    /// nobody here looks into.
    pub progress: Vec<u8>,
}

impl NewVersion {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        within("the name of who deploys", self.by.len(), BY_BYTES_MAX)?;
        within("the note", self.note.len(), NOTE_BYTES_MAX)?;
        within("the progress of a deployment", self.progress.len(), PROGRESS_BYTES_MAX)
    }
}

/// One deployment of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// The version: the n-th deployment of its app has number n, from 1.
    pub number: u32,
    /// The module.
    pub digest: Digest,
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who deployed it.
    pub by: String,
    /// What they said about it.
    pub note: String,
    /// The earlier version that it ran again.
    pub again: Option<u32>,
    /// Where it came from.
    pub origin: Origin,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// The report of its end, JSON. `None` while it runs, if it has none, and once [`REPORTS_MAX`] newer versions
    /// have begun.
    pub report: Option<String>,
}

/// Where a version came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The plugin that the settings file names.
    File,
    /// Somebody deployed a module.
    Deploy,
    /// Somebody went back to an earlier version.
    Rollback,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every slot runs it.
    Committed,
    /// No slot runs it.
    RolledBack {
        /// Why: at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
    /// Some slots may run it, others do not, and going back failed.
    Mixed {
        /// Why, and what runs where: at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
}

impl Outcome {
    /// A reason that is too long is cut: the end of a deployment must not fail because of it.
    pub(crate) fn cut(mut self) -> Self {
        if let Self::RolledBack { reason } | Self::Mixed { reason } = &mut self {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        }
        self
    }
}

/// A deployment that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The app.
    pub app: AppName,
    /// The version.
    pub record: VersionRecord,
    /// What its state machine stored last.
    pub progress: Vec<u8>,
}

/// A version that a module belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionUse {
    /// The app.
    pub app: AppName,
    /// The version.
    pub number: u32,
}

/// What the store knows of an app besides its versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppEntry {
    /// The number of the newest version; 0 before the first.
    pub last: u32,
    /// The newest committed version.
    pub current: Option<u32>,
    /// The module that the settings file named.
    pub file: Option<Digest>,
}

/// The deployment of an app that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningEntry {
    pub number: u32,
    pub progress: Vec<u8>,
}

/// What the store knows of a module besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModuleEntry {
    /// Its size.
    pub bytes: u64,
    /// When it was stored last, in milliseconds since 1970.
    pub stored_ms: u64,
}

pub(crate) fn within(what: &'static str, bytes: usize, max: usize) -> Result<(), StoreError> {
    if bytes > max { Err(StoreError::TooLong { what, bytes, max }) } else { Ok(()) }
}
