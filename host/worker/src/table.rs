//! The slots of one shard, as links know them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
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
    /// Shared with links: what does not change is not copied for each of them.
    entries: BTreeMap<Place, Arc<SlotEntry>>,
    by_app: FxHashMap<AppName, Vec<Place>>,
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
        inner.by_app.entry(app.clone()).or_default().push(place);
        inner.entries.insert(place, Arc::new(SlotEntry { app, slot, shared, leaving: false }));
    }

    /// The slots of an app from this number on begin to leave.
    pub fn leave(&self, app: &AppName, from: u32) {
        let inner = &mut *self.inner.lock();
        inner.revision += 1;
        for place in inner.by_app.get(app).into_iter().flatten() {
            if let Some(entry) = inner.entries.get_mut(place).filter(|entry| entry.slot >= from) {
                Arc::make_mut(entry).leaving = true;
            }
        }
    }

    /// The slots of an app from this number on that were leaving are gone.
    pub fn remove(&self, app: &AppName, from: u32) {
        let inner = &mut *self.inner.lock();
        inner.revision += 1;
        let Some(places) = inner.by_app.get_mut(app) else { return };
        let entries = &mut inner.entries;
        places.retain(|place| {
            let is_gone = entries.get(place).is_none_or(|entry| entry.leaving && entry.slot >= from);
            if is_gone {
                entries.remove(place);
            }
            !is_gone
        });
        if places.is_empty() {
            inner.by_app.remove(app);
        }
    }

    /// Every slot, if any has come or gone since `seen`, and how to ask the next time. At first, `seen` is none.
    pub fn changed(&self, seen: Option<u64>) -> Option<(u64, BTreeMap<Place, Arc<SlotEntry>>)> {
        let inner = self.inner.lock();
        (seen != Some(inner.revision)).then(|| (inner.revision, inner.entries.clone()))
    }

    /// A slot that takes clients.
    pub fn find(&self, app: &AppName, slot: u32) -> Option<Arc<SlotShared>> {
        let inner = self.inner.lock();
        let of_app = inner.by_app.get(app)?.iter().filter_map(|place| inner.entries.get(place));
        let mut staying = of_app.filter(|entry| !entry.leaving);
        staying.find(|entry| entry.slot == slot).map(|entry| Arc::clone(&entry.shared))
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
            let shared = SlotShared::new(&edition, Arc::default(), Arc::new(AppLog::new(1)));
            table.add(app, *slot, Arc::new(shared));
        }
        table
    }

    #[test]
    fn a_slot_that_leaves_is_not_found_but_reached_until_it_is_gone() {
        let table = table(&[("a", 0), ("b", 0), ("a", 1)]);
        let a = AppName::new("a").unwrap();
        table.leave(&a, 1);
        assert!(table.find(&a, 0).is_some() && table.find(&a, 1).is_none());
        let (_, entries) = table.changed(None).unwrap();
        assert_eq!(entries.values().map(|entry| entry.leaving).collect::<Vec<_>>(), [false, false, true]);
        table.remove(&a, 0);
        assert_eq!(table.changed(None).unwrap().1.into_keys().collect::<Vec<_>>(), [0, 1]);
        table.leave(&a, 0);
        table.remove(&a, 0);
        assert!(table.find(&a, 0).is_none() && table.inner.lock().by_app.len() == 1);
    }

    #[test]
    fn who_has_seen_everything_is_told_nothing_and_places_are_never_used_again() {
        let table = table(&[("a", 0)]);
        let (seen, entries) = table.changed(None).unwrap();
        assert!(table.changed(Some(seen)).is_none());
        let again = SlotEntry::clone(entries.values().next().unwrap());
        table.leave(&again.app, 0);
        table.remove(&again.app, 0);
        table.add(again.app, again.slot, again.shared);
        let (_, entries) = table.changed(Some(seen)).unwrap();
        assert_eq!(entries.into_keys().collect::<Vec<_>>(), [1]);
    }
}
