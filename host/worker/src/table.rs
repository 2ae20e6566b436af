//! The slots of one shard, as links know them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::AppName;

use crate::slot::SlotShared;

/// Names a slot among those of its shard; none is ever used again.
pub(crate) type Place = u64;

/// The slots of one shard. They come and go with their apps.
#[derive(Debug, Default)]
pub(crate) struct SlotTable {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: Place,
    revision: u64,
    entries: BTreeMap<Place, SlotEntry>,
}

/// How a slot is reached.
#[derive(Debug, Clone)]
pub(crate) struct SlotEntry {
    pub app: AppName,
    pub slot: u32,
    pub shared: Arc<SlotShared>,
    /// It takes no clients any more, and needs no lane.
    pub leaving: bool,
}

impl SlotTable {
    /// A slot comes.
    pub fn add(&self, app: AppName, slot: u32, shared: Arc<SlotShared>) {
        let mut inner = self.inner.lock();
        let place = inner.next;
        inner.next += 1;
        inner.revision += 1;
        inner.entries.insert(place, SlotEntry { app, slot, shared, leaving: false });
    }

    /// Slots begin to leave.
    pub fn leave(&self, leaves: impl Fn(&SlotEntry) -> bool) {
        let mut inner = self.inner.lock();
        inner.revision += 1;
        inner.entries.values_mut().for_each(|entry| entry.leaving |= leaves(entry));
    }

    /// Slots are gone.
    pub fn remove(&self, gone: impl Fn(&SlotEntry) -> bool) {
        let mut inner = self.inner.lock();
        inner.revision += 1;
        inner.entries.retain(|_, entry| !gone(entry));
    }

    /// Every slot, if any has come or gone since `seen`, and how to ask the next time. At first, `seen` is none.
    pub fn changed(&self, seen: Option<u64>) -> Option<(u64, BTreeMap<Place, SlotEntry>)> {
        let inner = self.inner.lock();
        (seen != Some(inner.revision)).then(|| (inner.revision, inner.entries.clone()))
    }

    /// A slot that takes clients.
    pub fn find(&self, app: &AppName, slot: u32) -> Option<Arc<SlotShared>> {
        let inner = self.inner.lock();
        let is_it = |entry: &&SlotEntry| entry.slot == slot && entry.app == *app && !entry.leaving;
        inner.entries.values().find(is_it).map(|entry| Arc::clone(&entry.shared))
    }
}
