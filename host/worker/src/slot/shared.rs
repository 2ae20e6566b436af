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
use crate::places::Places;
use crate::query::Queries;
use crate::settings::WorkerSettings;
use crate::stored::StateRoom;

/// What a slot is made of.
pub(crate) struct SlotParts {
    /// The version that it starts with, or nothing to run.
    pub edition: Arc<Edition>,
    pub slot: u32,
    pub shared: Arc<SlotShared>,
    pub settings: Arc<WorkerSettings>,
    pub runtime: Handle,
    /// Which of the engine's pool it may take as it wakes.
    pub places: Arc<Places>,
    /// Where what it knows is kept while it sleeps.
    pub states: Arc<StateRoom>,
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
    standing: Mutex<Standing>,
    /// Told when the gateways must hear of it.
    news: News,
}

/// Counts what gateways must hear of: slots that come, change their version, or leave.
pub(crate) type News = Arc<watch::Sender<u64>>;

/// Tells the gateways.
pub(crate) fn tell(news: &watch::Sender<u64>) {
    news.send_modify(|count| *count = count.wrapping_add(1));
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    /// The version that it runs, or runs again as soon as it has restarted, and what that exports.
    runs: Option<(u32, Exports)>,
    /// Its first instance was started, or was to be.
    is_up: bool,
}

impl SlotShared {
    /// Of a slot that is not up yet.
    pub fn new(edition: &Edition, news: News, log: Arc<AppLog>) -> Self {
        Self {
            inbox: Arc::default(),
            queries: Arc::default(),
            stats: SlotStats::default(),
            log,
            standing: Mutex::new(Standing { runs: edition.serves(), is_up: false }),
            news,
        }
    }

    /// The version that it runs, and what that exports. None: it is empty.
    pub fn current(&self) -> Option<(u32, Exports)> {
        self.standing.lock().runs
    }

    /// What gateways are to know of it. None: it takes no clients.
    pub fn announced(&self) -> Option<(u32, Exports)> {
        let standing = *self.standing.lock();
        standing.runs.filter(|_| standing.is_up)
    }

    /// From now on it takes clients, if it has something to run.
    pub fn come_up(&self) {
        self.standing.lock().is_up = true;
        tell(&self.news);
    }

    pub(super) fn set_current(&self, edition: &Edition) {
        self.standing.lock().runs = edition.serves();
        tell(&self.news);
    }
}
