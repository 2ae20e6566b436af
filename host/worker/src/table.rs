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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_log::AppLog;
    use crate::edition::Edition;
    use crate::settings::WorkerApp;

    fn table(slots: &[(&str, u32)]) -> SlotTable {
        let table = SlotTable::default();
        for (name, slot) in slots {
            let app = AppName::new(name).unwrap();
            let edition = Edition::empty_of(&WorkerApp::empty(app.clone()));
            let shared =
                SlotShared::new(&edition, Arc::default(), Arc::new(AppLog::new(1, 0, Arc::default())));
            table.add(app, *slot, Arc::new(shared));
        }
        table
    }

    #[test]
    fn a_slot_that_leaves_is_not_found_but_reached_until_it_is_gone() {
        let table = table(&[("a", 0), ("b", 0), ("a", 1)]);
        let a = AppName::new("a").unwrap();
        table.leave(|entry| entry.app == a && entry.slot == 0);
        assert!(table.find(&a, 0).is_none() && table.find(&a, 1).is_some());
        let (_, entries) = table.changed(None).unwrap();
        assert_eq!(entries.values().map(|entry| entry.leaving).collect::<Vec<_>>(), [true, false, false]);
        table.remove(|entry| entry.leaving);
        assert_eq!(table.changed(None).unwrap().1.into_keys().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn who_has_seen_everything_is_told_nothing_and_places_are_never_used_again() {
        let table = table(&[("a", 0)]);
        let (seen, entries) = table.changed(None).unwrap();
        assert!(table.changed(Some(seen)).is_none());
        let again = entries.values().next().unwrap().clone();
        table.remove(|_| true);
        table.add(again.app, again.slot, again.shared);
        let (_, entries) = table.changed(Some(seen)).unwrap();
        assert_eq!(entries.into_keys().collect::<Vec<_>>(), [1]);
    }
}
