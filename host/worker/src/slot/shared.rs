//! What others see of a slot, and what it is made of.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::Exports;
use tidegate_runtime::SlowPool;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::app_log::AppLog;
use crate::edition::{Edition, SlotStats};
use crate::inbox::Inbox;
use crate::query::Queries;
use crate::settings::WorkerSettings;

/// What a slot is made of.
pub(crate) struct SlotParts {
    /// The version that it starts with.
    pub edition: Arc<Edition>,
    pub slot: u32,
    pub shared: Arc<SlotShared>,
    pub settings: Arc<WorkerSettings>,
    pub runtime: Handle,
    /// Where an instance that the slot lets go runs its `on-worker-stop`.
    pub slow: Arc<SlowPool>,
}

/// What others see of a slot, and how they reach it.
#[derive(Debug)]
pub(crate) struct SlotShared {
    pub inbox: Arc<Inbox>,
    pub queries: Arc<Queries>,
    pub stats: SlotStats,
    /// That of the app on this worker.
    pub log: Arc<AppLog>,
    /// The version that it runs, or runs again as soon as it has restarted, and what that exports.
    current: Mutex<(u32, Exports)>,
    /// Told when the gateways must hear of another version.
    news: Arc<watch::Sender<Announced>>,
}

/// What the links announce: all slots, unless the worker leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    pub leaving: bool,
    /// Counts changes of slots' versions.
    pub changes: u64,
}

impl SlotShared {
    pub fn new(edition: &Edition, news: Arc<watch::Sender<Announced>>, log: Arc<AppLog>) -> Self {
        Self {
            inbox: Arc::default(),
            queries: Arc::default(),
            stats: SlotStats::default(),
            log,
            current: Mutex::new((edition.app.version, edition.exports())),
            news,
        }
    }

    /// The version that it runs, and what that exports.
    pub fn current(&self) -> (u32, Exports) {
        *self.current.lock()
    }

    pub(super) fn set_current(&self, edition: &Edition) {
        *self.current.lock() = (edition.app.version, edition.exports());
        self.news.send_modify(|announced| announced.changes = announced.changes.wrapping_add(1));
    }
}
