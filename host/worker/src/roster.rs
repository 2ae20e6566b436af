//! The apps that come to a worker and go, as its conductor hears of them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::conducted::{Conducted, Reach};
use crate::settings::WorkerApp;

/// Names an app of the worker from when it comes to when it goes; none is ever used again.
pub(crate) type AppId = u64;

/// A change of the worker's apps.
pub(crate) enum Change {
    Add(AppId, Box<Conducted>),
    /// Other settings, and all slots that it has now.
    Configure(AppId, Arc<WorkerApp>, Vec<Reach>),
    Remove(AppId),
}

/// Changes that the conductor has not taken up, in order; from before there is one, too. Bounded by the worker's apps:
/// one that goes before it was taken up leaves nothing, and of its settings the last are kept.
#[derive(Default)]
pub(crate) struct Roster {
    changes: Mutex<Vec<Change>>,
    told: Notify,
}

impl Roster {
    /// Tells the conductor, if there is one.
    pub fn push(&self, change: Change) {
        let mut changes = self.changes.lock();
        if let Change::Configure(of, ..) | Change::Remove(of) = change {
            changes.retain(|known| !matches!(known, Change::Configure(id, ..) if *id == of));
        }
        if let Change::Remove(gone) = change {
            let before = changes.len();
            changes.retain(|known| !matches!(known, Change::Add(id, _) if *id == gone));
            if changes.len() < before {
                return;
            }
        }
        changes.push(change);
        drop(changes);
        self.told.notify_one();
    }

    /// What has changed since the last time.
    pub fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock())
    }

    /// Waits until something has changed. Cancel-safe.
    pub async fn changed(&self) {
        self.told.notified().await;
    }
}
