//! What survives the restart of a node. Of a register, or of a node that runs everything: the modules that were deployed,
//! each app's versions, the tenants and apps that were made at run time, and the tokens of the HTTP API. One file,
//! `store.redb`, in the node's data folder: [`Store`]. Of a worker: the keys of its apps, in `keys.redb`: [`KeyFile`].
//!
//! Everything here blocks: on the disk, and on a write that another thread has begun. Call it from a thread that may
//! wait, never from one that runs an async runtime.
//!
//! - **Modules** are named by their digest, which is checked whenever one is read.
//! - **Versions** are numbered from 1 for each app: the n-th deployment is version n, and a rollback is a deployment too.
//!   At most one deployment of an app runs at a time.
//! - **Tenants and apps** are records that are changed together; an app that goes takes its versions along.
//! - **Tokens** of the HTTP API are known by the digests of their secrets; a tenant that goes takes its own along.
//! - **Every write is one transaction**: after an `Ok` it survives whatever happens to the process and, as far as the
//!   disk keeps its word, to the machine. After an error it is there as a whole or not at all; look before going on.
//! - Time comes in as an argument: milliseconds since 1970.

mod catalog;
mod collect;
mod engine;
mod error;
mod file;
mod keys;
mod modules;
mod record;
mod tables;
mod tokens;
mod versions;

use std::path::Path;

use crate::engine::Engine;

pub use catalog::{CATALOG_RECORD_BYTES_MAX, CatalogChange, CatalogRecords, TENANTS_MAX};
pub use collect::{Collected, Compaction, KEPT_COMMITTED, KEPT_FRESH_MS, RemovedModule};
pub use error::StoreError;
pub use keys::{Broken, KeyFile, KeyReading, KeyWriting, Page, SpaceId};
pub use modules::ModuleInfo;
pub use record::{
    APPS_MAX, BY_BYTES_MAX, HISTORY_MAX, NOTE_BYTES_MAX, NewVersion, Origin, Outcome, PROGRESS_BYTES_MAX,
    REASON_BYTES_MAX, REPORT_BYTES_MAX, REPORTS_MAX, Running, VersionRecord, VersionUse,
};
pub use tokens::TOKENS_MAX;

/// How much a store takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Largest module, in bytes. Default: 32 MiB, what a host takes as a component at most.
    pub module_bytes_max: u64,
    /// Most bytes of all modules together. Default: 4 GiB. The file is larger by some percent, and by the history: at
    /// most [`REPORTS_MAX`] reports of [`REPORT_BYTES_MAX`] per app.
    pub total_bytes_max: u64,
    /// Most modules. Default: 10,000.
    pub modules_max: u32,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { module_bytes_max: 32 << 20, total_bytes_max: 4 << 30, modules_max: 10_000 }
    }
}

/// The open store. It may be shared between threads; reads go on beside each other and beside one write.
///
/// After an error of the disk it closes its file and opens it again with the next call, so a disk that has room again
/// needs no restart.
#[derive(Debug)]
pub struct Store {
    engine: Engine,
    limits: StoreLimits,
}

impl Store {
    /// The name of the file in the data folder.
    pub const FILE_NAME: &str = "store.redb";

    /// Opens the store in this folder, which exists, or makes a new one there, readable for its user only. After a kill
    /// it needs no repair and is as quick.
    ///
    /// # Errors
    /// Another process has it open, others may read or write the file, it is damaged, a newer Tidegate has written it,
    /// or the disk refuses.
    pub fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        Ok(Self { engine: Engine::open(folder.join(Self::FILE_NAME), &tables::LAYOUT)?, limits })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.engine.path()
    }
}
