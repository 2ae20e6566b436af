//! An app on this gateway: its hub, its slots, and the lanes to them.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_base::{AppName, Exports, GatewayId};
use tidegate_link::{ControlTx, LaneTx};
use tidegate_wire::EventLane;
use tidegate_wire::control::{AppClients, Control, SlotUp};

use crate::LaneLoad;
use crate::hub::Hub;
use crate::limits::LiveLimits;
use crate::pace::AppPace;
use crate::router::{Router, SlotKey};
use crate::settings::{AppLimits, AppSettings, AppState, SharedSettings};
use crate::web::Web;

/// A client in need of something, named by what its shard needs to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Waiter {
    pub shard: usize,
    pub client: u32,
}

/// What all shards share of an app. The locks are short and never held while encoding or writing.
#[derive(Debug)]
pub(crate) struct App {
    /// No other app of this gateway ever has it.
    pub number: u32,
    pub name: AppName,
    pub limits: LiveLimits,
    pub web: Option<Web>,
    life: AtomicU8,
    /// Counts the changes of its life, so that what an earlier one has set off is not taken for a later one's.
    epoch: AtomicU16,
    shared: RwLock<Arc<SharedSettings>>,
    pub hub: Mutex<Hub>,
    connections: AtomicUsize,
    /// One for each shard: what every message counts is not shared between threads.
    counts: Box<[Counts]>,
    pub pace: AppPace,
    refusals: Mutex<Refusals>,
    routing: Mutex<Routing>,
}

/// Where an app is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Active,
    Suspended,
    /// It has no version: it takes clients only if a slot is up all the same, since that hears of the first one before.
    Empty,
    /// It was removed: nothing new comes, what is there ends.
    Removed,
}

impl From<AppState> for Life {
    fn from(state: AppState) -> Self {
        match state {
            AppState::Active => Self::Active,
            AppState::Suspended => Self::Suspended,
            AppState::Empty => Self::Empty,
        }
    }
}

impl Life {
    const ALL: [Self; 4] = [Self::Active, Self::Suspended, Self::Empty, Self::Removed];

    /// What a client hears who cannot be served.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Active => "This app takes clients.",
            Self::Suspended => "This app is suspended: try again later.",
            Self::Empty => "Nothing was deployed to this app yet: try again later.",
            Self::Removed => "This app was removed.",
        }
    }
}

/// What one shard has counted for one app since the gateway started.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counts {
    /// Connections accepted.
    pub opened: AtomicU64,
    /// Connections ended.
    pub closed: AtomicU64,
    /// Events accepted from clients.
    pub events: AtomicU64,
    /// Events given up on.
    pub lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Routing {
    router: Router,
    /// The lane of each slot that is announced, and those that are open besides.
    lanes: FxHashMap<SlotKey, SlotLane>,
    /// Clients that wait for any slot; bounded by the app's connections.
    unbound: FxHashSet<Waiter>,
}

#[derive(Debug)]
struct SlotLane {
    generation: u64,
    state: LaneState,
}

#[derive(Debug)]
enum LaneState {
    /// Nobody needed it yet.
    Idle(ControlTx),
    /// The worker is asked to open it; these wait for it.
    Wanted(FxHashSet<Waiter>),
    Open(Arc<Lane>),
}

/// When a refusal was logged last.
#[derive(Debug, Default)]
struct Refusals {
    logged: Option<Instant>,
}

impl Refusals {
    const QUIET: Duration = Duration::from_secs(10);

    fn may_log(&mut self, now: Instant) -> bool {
        let quiet = self.logged.is_some_and(|at| now.saturating_duration_since(at) < Self::QUIET);
        if !quiet {
            self.logged = Some(now);
        }
        !quiet
    }
}

/// A lane to a slot.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The app, which knows its lanes.
    pub app: Weak<App>,
    pub key: SlotKey,
    /// Of the lanes of this slot on this link, the newest is in use.
    pub generation: u64,
    /// The bits of what the plugin in the slot exports.
    exports: AtomicU16,
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
    pub fn new(
        app: &Arc<App>,
        key: SlotKey,
        generation: u64,
        exports: Exports,
        tx: LaneTx,
        events: EventLane,
    ) -> Self {
        let state = Mutex::new(LaneEvents { events, paused: Vec::new(), closed: false });
        let exports = AtomicU16::new(exports.bits());
        let app = Arc::downgrade(app);
        Self { app, key, generation, exports, tx, state, dirty: AtomicBool::new(false) }
    }

    /// What the plugin in the slot exports, as of the slot's last word on this lane.
    pub fn exports(&self) -> Exports {
        Exports::from_bits(self.exports.load(Ordering::Relaxed))
    }

    /// Another version runs in the slot. Returns what the one before exported.
    pub fn set_exports(&self, exports: Exports) -> Exports {
        Exports::from_bits(self.exports.swap(exports.bits(), Ordering::Relaxed))
    }

    /// Hands what is in the arena to the link. The lock is held meanwhile, so that batches keep their order.
    pub fn flush(&self) {
        self.dirty.store(false, Ordering::Relaxed);
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
    pub fn new(gateway: GatewayId, number: u32, settings: &AppSettings, shards: usize) -> Self {
        let limits = &settings.limits;
        Self {
            number,
            name: settings.name.clone(),
            limits: LiveLimits::new(limits),
            web: settings.web.clone().map(|folder| Web::new(folder, shards)),
            life: AtomicU8::new(Life::from(settings.state) as u8),
            epoch: AtomicU16::new(0),
            shared: RwLock::new(Arc::new(settings.shared.clone())),
            hub: Mutex::new(Hub::new(gateway, limits.session_bytes_max, limits.groups_per_client_max)),
            connections: AtomicUsize::new(0),
            counts: (0..shards).map(|_| Counts::default()).collect(),
            pace: AppPace::default(),
            refusals: Mutex::default(),
            routing: Mutex::default(),
        }
    }

    /// Other limits and another way to it from now on.
    pub fn configure(&self, limits: &AppLimits, shared: SharedSettings) {
        self.limits.set(limits);
        self.hub.lock().set_limits(limits.session_bytes_max, limits.groups_per_client_max);
        *self.shared.write() = Arc::new(shared);
    }

    /// How it is reached on shared ports.
    pub fn shared(&self) -> Arc<SharedSettings> {
        self.shared.read().clone()
    }

    pub fn life(&self) -> Life {
        let number = self.life.load(Ordering::SeqCst);
        Life::ALL.get(usize::from(number)).copied().unwrap_or(Life::Removed)
    }

    /// Why it takes no clients now, if it takes none.
    pub fn refuses(&self) -> Option<Life> {
        match self.life() {
            Life::Active => None,
            Life::Empty if self.is_up() => None,
            life => Some(life),
        }
    }

    /// Begins another part of its life. None: it was in it already; else the epoch of the new one.
    pub fn set_life(&self, life: Life) -> Option<u16> {
        if self.life.swap(life as u8, Ordering::SeqCst) == life as u8 {
            return None;
        }
        Some(self.epoch.fetch_add(1, Ordering::SeqCst).wrapping_add(1))
    }

    /// Counts the changes of its life.
    pub fn epoch(&self) -> u16 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Counts a connection, if there may be one more.
    fn enter(&self) -> bool {
        let is_full = self.connections.fetch_add(1, Ordering::SeqCst) >= self.limits.connections_max();
        if is_full {
            self.connections.fetch_sub(1, Ordering::SeqCst);
        }
        !is_full
    }

    /// Counts a connection out. True: it was the last one.
    pub fn exit(&self) -> bool {
        self.connections.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// How many connections it has, also such as are not open yet or not over yet.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// It is removed and nobody is left.
    pub fn is_over(&self) -> bool {
        self.life() == Life::Removed && self.connections.load(Ordering::SeqCst) == 0
    }

    /// A shard counts something.
    pub fn count(&self, shard: usize, of: fn(&Counts) -> &AtomicU64, more: u64) {
        if let Some(counts) = self.counts.get(shard) {
            of(counts).fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What all shards have counted.
    pub fn census(&self) -> AppClients {
        let sum = |of: fn(&Counts) -> &AtomicU64| {
            self.counts.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
        };
        AppClients {
            app: self.name.clone(),
            clients: self.connections() as u64,
            opened: sum(|counts| &counts.opened),
            closed: sum(|counts| &counts.closed),
            events: sum(|counts| &counts.events),
            lost: sum(|counts| &counts.lost),
        }
    }

    /// Counts a connection, as [`enter`](Self::enter) does, and says now and then that there are too many.
    pub fn admit(&self) -> bool {
        let is_admitted = self.enter();
        if !is_admitted && self.may_log_refusal(Instant::now()) {
            tracing::warn!(app = %self.name, "connections_max is reached: clients are refused");
        }
        is_admitted
    }

    /// Whether a refusal may be logged: one in a while, however many there are.
    pub fn may_log_refusal(&self, now: Instant) -> bool {
        self.refusals.lock().may_log(now)
    }

    /// Binds a client to a slot. Unless it is bound at once, its shard is told when to try again or what it got.
    pub fn bind(&self, waiter: Waiter, random: u64) -> Binding {
        let mut routing = self.routing.lock();
        let Some(key) = routing.router.bind(waiter.shard, random) else {
            routing.unbound.insert(waiter);
            return Binding::Later;
        };
        let Some(SlotLane { state, .. }) = routing.lanes.get_mut(&key) else {
            routing.unbound.insert(waiter);
            return Binding::Later;
        };
        match state {
            LaneState::Open(lane) => return Binding::Bound(lane.clone()),
            LaneState::Wanted(waiters) => {
                waiters.insert(waiter);
            }
            LaneState::Idle(control) => {
                let wanted = Control::LaneWanted { app: self.name.clone(), slot: key.slot };
                // A lost link removes its slots, and then those who wait here are told to bind anew.
                let _ = control.send(wanted.to_bytes());
                *state = LaneState::Wanted(FxHashSet::from_iter([waiter]));
            }
        }
        Binding::Later
    }

    /// A client that was bound to a lane is gone.
    pub fn unbind(&self, lane: &Arc<Lane>) {
        let mut routing = self.routing.lock();
        // The clients of a lane that was lost are not counted on its slot any more.
        if routing.is_open(lane) {
            routing.router.unbind(lane.key);
        }
    }

    /// A client is gone that waited to be bound. If its shard has been told meanwhile, that message finds nobody.
    pub fn cancel(&self, waiter: Waiter) {
        let routing = &mut *self.routing.lock();
        if routing.unbound.remove(&waiter) {
            return;
        }
        for (key, lane) in &mut routing.lanes {
            if let LaneState::Wanted(waiters) = &mut lane.state
                && waiters.remove(&waiter)
            {
                return routing.router.unbind(*key);
            }
        }
    }

    /// Whether a slot is up.
    pub fn is_up(&self) -> bool {
        self.routing.lock().router.is_up()
    }

    /// What the plugin exports as far as a worker said last, if one ever did.
    pub fn exports(&self) -> Option<Exports> {
        self.routing.lock().router.exports()
    }

    /// Each slot with its number of clients.
    pub fn load(&self) -> Vec<(SlotKey, usize)> {
        self.routing.lock().router.load()
    }

    /// How its lanes do. Each is locked for a moment.
    pub fn lane_load(&self) -> LaneLoad {
        let is_open = |lane: &SlotLane| match &lane.state {
            LaneState::Open(lane) => Some(Arc::clone(lane)),
            LaneState::Idle(_) | LaneState::Wanted(_) => None,
        };
        let open: Vec<_> = self.routing.lock().lanes.values().filter_map(is_open).collect();
        let mut load = LaneLoad::default();
        for lane in open {
            let state = lane.state.lock();
            load.open += 1;
            load.without_credit += usize::from(!state.closed && !state.events.can_send());
            load.events_under_way += state.events.unfinished();
            load.clients_paused += state.paused.len();
        }
        load
    }

    /// A link has these slots of the app, and only these. Returns who may try to bind now.
    pub fn set_slots(
        &self,
        link: u64,
        shard: usize,
        up: &[(SlotUp, Exports)],
        control: &ControlTx,
    ) -> Vec<Waiter> {
        let mut routing = self.routing.lock();
        let mut freed = Vec::new();
        for key in routing.router.missing(link, |slot| up.iter().any(|(up, _)| up.slot == slot)) {
            freed.extend(routing.withdraw(key));
        }
        for (SlotUp { slot, generation }, exports) in up.iter().copied() {
            let key = SlotKey { link, slot };
            match routing.lanes.get(&key).map(|lane| lane.generation) {
                // That lane is lost, also if this was not noticed here yet.
                Some(known) if known < generation => freed.extend(routing.remove(key)),
                // Its next announcement is on its way.
                Some(known) if known > generation => continue,
                _ => {}
            }
            routing.router.add(key, shard, exports);
            let idle = || SlotLane { generation, state: LaneState::Idle(control.clone()) };
            routing.lanes.entry(key).or_insert_with(idle);
        }
        if routing.router.is_up() {
            freed.extend(routing.unbound.drain());
        }
        freed
    }

    /// A lane is open. Returns who waited for it, or nothing if it is stale: the slot has this one or a newer one
    /// already, or has announced a newer one.
    pub fn lane_opened(&self, lane: &Arc<Lane>) -> Option<Vec<Waiter>> {
        let mut routing = self.routing.lock();
        if let Some(SlotLane { generation, state }) = routing.lanes.get(&lane.key) {
            let is_there = *generation == lane.generation && matches!(state, LaneState::Open(_));
            if lane.generation < *generation || is_there {
                return None;
            }
        }
        // Of a slot that is not announced, it is not given to clients. It may have overtaken the announcement.
        let open = SlotLane { generation: lane.generation, state: LaneState::Open(lane.clone()) };
        match routing.lanes.insert(lane.key, open).map(|before| before.state) {
            Some(LaneState::Wanted(waiters)) => Some(waiters.into_iter().collect()),
            Some(LaneState::Idle(_) | LaneState::Open(_)) | None => Some(Vec::new()),
        }
    }

    /// A lane is gone, and its slot with it until it is announced again, unless the slot has another lane by now.
    pub fn lane_gone(&self, lane: &Arc<Lane>) {
        let mut routing = self.routing.lock();
        if routing.is_open(lane) {
            routing.remove(lane.key);
        }
    }
}

impl Routing {
    fn is_open(&self, lane: &Arc<Lane>) -> bool {
        let of_slot = self.lanes.get(&lane.key).map(|lane| &lane.state);
        matches!(of_slot, Some(LaneState::Open(open)) if Arc::ptr_eq(open, lane))
    }

    /// The slot is not announced any more. A lane that is open stays for what the slot still says.
    fn withdraw(&mut self, key: SlotKey) -> Vec<Waiter> {
        match self.lanes.get(&key) {
            Some(SlotLane { state: LaneState::Open(_), .. }) => {
                self.router.remove(key);
                Vec::new()
            }
            _ => self.remove(key),
        }
    }

    fn remove(&mut self, key: SlotKey) -> Vec<Waiter> {
        self.router.remove(key);
        match self.lanes.remove(&key).map(|lane| lane.state) {
            Some(LaneState::Wanted(waiters)) => waiters.into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_refusals_one_in_a_while_is_logged() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.may_log(now));
        assert!(!refusals.may_log(now + Refusals::QUIET / 2));
        assert!(refusals.may_log(now + Refusals::QUIET));
        assert!(!refusals.may_log(now + Refusals::QUIET));
    }
}
