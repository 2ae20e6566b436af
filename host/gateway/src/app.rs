//! An app on this gateway: its hub, its slots, and the lanes to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tidegate_base::{Exports, GatewayId};
use tidegate_link::{ControlTx, LaneTx};
use tidegate_wire::EventLane;
use tidegate_wire::control::Control;

use crate::hub::Hub;
use crate::router::{Router, SlotKey};
use crate::settings::AppSettings;

/// A client in need of something, named by what its shard needs to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub shard: usize,
    pub client: u32,
}

/// What all shards share of an app. The locks are short and never held while encoding or writing.
#[derive(Debug)]
pub(crate) struct App {
    pub settings: AppSettings,
    pub hub: Mutex<Hub>,
    pub connections: AtomicUsize,
    routing: Mutex<Routing>,
}

#[derive(Debug, Default)]
struct Routing {
    router: Router,
    lanes: FxHashMap<SlotKey, LaneState>,
    /// Clients that wait for any slot; bounded by the app's connections.
    unbound: Vec<Waiter>,
}

#[derive(Debug)]
enum LaneState {
    /// Nobody needed it yet.
    Idle(ControlTx),
    /// The worker is asked to open it; these wait for it.
    Wanted(Vec<Waiter>),
    Open(Arc<Lane>),
}

/// A lane to a slot.
#[derive(Debug)]
pub(crate) struct Lane {
    pub key: SlotKey,
    pub exports: Exports,
    pub tx: LaneTx,
    pub state: Mutex<LaneEvents>,
    /// Some shard has put events into it that are not flushed.
    pub dirty: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct LaneEvents {
    pub events: EventLane,
    /// Clients whose sockets are not read until there is credit.
    pub paused: Vec<Waiter>,
    /// The slot leaves or is lost: nothing more is sent.
    pub closed: bool,
}

impl Lane {
    pub fn new(key: SlotKey, exports: Exports, tx: LaneTx, events: EventLane) -> Self {
        let state = Mutex::new(LaneEvents { events, paused: Vec::new(), closed: false });
        Self { key, exports, tx, state, dirty: AtomicBool::new(false) }
    }

    /// Hands what is in the arena to the link. The lock is held meanwhile, so that batches keep their order.
    pub fn flush(&self) {
        self.dirty.store(false, std::sync::atomic::Ordering::Relaxed);
        let mut state = self.state.lock();
        if let Some(batch) = state.events.take_batch() {
            // A closed lane is noticed by its reader, which takes back what was not done.
            let _ = self.tx.send(batch);
        }
    }
}

/// What binding a client came to.
#[derive(Debug)]
pub(crate) enum Binding {
    /// To this lane.
    Bound(Arc<Lane>),
    /// Not yet: no slot is up, or its lane has still to open.
    Later,
}

impl App {
    pub fn new(gateway: GatewayId, settings: AppSettings) -> Self {
        let limits = &settings.limits;
        Self {
            hub: Mutex::new(Hub::new(gateway, limits.session_bytes_max, limits.groups_per_client_max)),
            settings,
            connections: AtomicUsize::new(0),
            routing: Mutex::default(),
        }
    }

    /// Binds a client to a slot. Unless it is bound at once, its shard is told when to try again or what it got.
    pub fn bind(&self, waiter: Waiter, random: u64) -> Binding {
        let mut routing = self.routing.lock();
        let Some(key) = routing.router.bind(waiter.shard, random) else {
            routing.unbound.push(waiter);
            return Binding::Later;
        };
        let Some(state) = routing.lanes.get_mut(&key) else {
            routing.unbound.push(waiter);
            return Binding::Later;
        };
        match state {
            LaneState::Open(lane) => return Binding::Bound(lane.clone()),
            LaneState::Wanted(waiters) => waiters.push(waiter),
            LaneState::Idle(control) => {
                let wanted = Control::LaneWanted { app: self.settings.name.clone(), slot: key.slot };
                // A lost link removes its slots, and then those who wait here are told to bind anew.
                let _ = control.send(wanted.to_bytes());
                *state = LaneState::Wanted(vec![waiter]);
            }
        }
        Binding::Later
    }

    /// A client of a slot is gone.
    pub fn unbind(&self, key: SlotKey) {
        self.routing.lock().router.unbind(key);
    }

    /// What the plugin exports, if a worker ever said so.
    pub fn exports(&self) -> Option<Exports> {
        self.routing.lock().router.exports()
    }

    /// Each slot with its number of clients.
    pub fn load(&self) -> Vec<(SlotKey, usize)> {
        self.routing.lock().router.load()
    }

    /// A link has these slots of the app, and only these. Returns who may try to bind now.
    pub fn set_slots(
        &self,
        link: u64,
        shard: usize,
        up: &[u32],
        exports: Exports,
        control: &ControlTx,
    ) -> Vec<Waiter> {
        let mut routing = self.routing.lock();
        let mut freed = Vec::new();
        for key in routing.router.missing(link, up) {
            freed.extend(routing.remove(key));
        }
        for slot in up {
            let key = SlotKey { link, slot: *slot };
            routing.router.add(key, shard, exports);
            routing.lanes.entry(key).or_insert_with(|| LaneState::Idle(control.clone()));
        }
        if routing.router.is_up() {
            freed.append(&mut routing.unbound);
        }
        freed
    }

    /// A lane is open. Returns who waited for it, or nothing if the slot was never announced.
    pub fn lane_opened(&self, lane: &Arc<Lane>) -> Option<Vec<Waiter>> {
        let mut routing = self.routing.lock();
        let state = routing.lanes.get_mut(&lane.key)?;
        match std::mem::replace(state, LaneState::Open(lane.clone())) {
            LaneState::Wanted(waiters) => Some(waiters),
            LaneState::Idle(_) | LaneState::Open(_) => Some(Vec::new()),
        }
    }

    /// A slot is gone. Returns who must bind anew because its lane never opened.
    pub fn slot_gone(&self, key: SlotKey) -> Vec<Waiter> {
        self.routing.lock().remove(key)
    }
}

impl Routing {
    fn remove(&mut self, key: SlotKey) -> Vec<Waiter> {
        self.router.remove(key);
        match self.lanes.remove(&key) {
            Some(LaneState::Wanted(waiters)) => waiters,
            _ => Vec::new(),
        }
    }
}
