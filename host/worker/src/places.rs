//! The pool's places, as slots and whoever changes apps reach them: what [`Capacity`] decides is told here.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tidegate_base::AppName;

use crate::app_log::Sparse;
use crate::capacity::{Capacity, NoCapacity, Told};
use crate::inbox::{Inbox, SlotMsg};
use crate::queue::SlotKey;

/// The pool's places. Its lock is taken when slots wake, fall asleep, or have lost their last client; never for a message.
#[derive(Debug)]
pub(crate) struct Places {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    capacity: Capacity,
    /// Of slots that waited or could sleep at some time, until they end.
    inboxes: FxHashMap<SlotKey, Arc<Inbox>>,
    /// Lines about slots that wait.
    lines: Sparse,
}

impl Places {
    /// A pool of so many places.
    pub fn new(instances: u32) -> Arc<Self> {
        let (capacity, inboxes, lines) = (Capacity::new(instances), FxHashMap::default(), Sparse::default());
        Arc::new(Self { inner: Mutex::new(Inner { capacity, inboxes, lines }) })
    }

    /// As [`Capacity::admit`].
    pub fn admit(&self, app: &AppName, slots: u32, min: u32) -> Result<(), NoCapacity> {
        self.with(|inner| inner.capacity.admit(app, slots, min))
    }

    /// As [`Capacity::take`].
    pub fn take(&self, app: &AppName, slots: u32, min: u32) {
        self.with(|inner| inner.capacity.take(app, slots, min));
    }

    /// As [`Capacity::free`].
    pub fn free(&self, app: &AppName) {
        self.with(|inner| inner.capacity.free(app));
    }

    /// As [`Capacity::begin_swap`].
    pub fn begin_swap(&self, app: &AppName, wanted: u32) -> Result<(), NoCapacity> {
        self.with(|inner| inner.capacity.begin_swap(app, wanted))
    }

    /// As [`Capacity::end_swap`].
    pub fn end_swap(&self, app: &AppName) {
        self.with(|inner| inner.capacity.end_swap(app));
    }

    /// As [`Capacity::wake`]; a slot that waits is told by its inbox.
    pub fn wake(&self, app: &AppName, slot: u32, inbox: &Arc<Inbox>) -> Result<(), NoCapacity> {
        let (woken, omitted) = self.with(|inner| {
            let woken = inner.capacity.wake(app, slot);
            if woken.is_ok() {
                return (woken, None);
            }
            inner.know(app, slot, inbox);
            (woken, inner.lines.one_more(Instant::now()))
        });
        if let (Err(error), Some(omitted)) = (&woken, omitted) {
            tracing::warn!(%app, slot, omitted, "a slot waits for a place, and its clients with it: {error}");
        }
        woken
    }

    /// As [`Capacity::is_awake`].
    pub fn is_awake(&self, app: &AppName, slot: u32) {
        self.with(|inner| inner.capacity.is_awake(app, slot));
    }

    /// As [`Capacity::sleeps`].
    pub fn sleeps(&self, app: &AppName, slot: u32) {
        self.with(|inner| inner.capacity.sleeps(app, slot));
    }

    /// As [`Capacity::idles`]; a slot that is to sleep is told by its inbox.
    pub fn idles(&self, app: &AppName, slot: u32, since: Option<Instant>, inbox: &Arc<Inbox>) {
        self.with(|inner| {
            inner.know(app, slot, inbox);
            inner.capacity.idles(app, slot, since);
        });
    }

    /// The slot with this inbox has ended. Another of its number, which came before it was gone, stays.
    pub fn leaves(&self, app: &AppName, slot: u32, inbox: &Arc<Inbox>) {
        self.with(|inner| {
            let key = SlotKey { app: app.clone(), slot };
            if inner.inboxes.get(&key).is_some_and(|known| Arc::ptr_eq(known, inbox)) {
                inner.inboxes.remove(&key);
                inner.capacity.leaves(app, slot);
            }
        });
    }

    /// Changes something, and tells the slots that it concerns, outside the lock.
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let (changed, told) = {
            let mut inner = self.inner.lock();
            let changed = change(&mut inner);
            let told = inner.capacity.take_told();
            let reach = |(key, what)| inner.inboxes.get(&key).map(|inbox| (Arc::clone(inbox), what));
            (changed, told.into_iter().filter_map(reach).collect::<Vec<_>>())
        };
        for (inbox, what) in told {
            inbox.push(match what {
                Told::HasPlace => SlotMsg::HasPlace,
                Told::SleepSoon => SlotMsg::SleepSoon,
            });
        }
        changed
    }
}

impl Inner {
    fn know(&mut self, app: &AppName, slot: u32, inbox: &Arc<Inbox>) {
        self.inboxes.insert(SlotKey { app: app.clone(), slot }, Arc::clone(inbox));
    }
}
