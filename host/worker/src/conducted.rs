//! One app of the worker and what there is of its versions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidegate_base::Digest;
use tidegate_runtime::{Engine, Module};
use tidegate_wire::control::{AppReport, Failure, Stage, VersionRef};
use tidegate_wire::{Do, Rollout};
use tokio::runtime::Handle;

use crate::edition::{Edition, Idle};
use crate::fits::DoesNotFit;
use crate::inbox::SlotMsg;
use crate::places::Places;
use crate::prepare::{Hand, Prepared, Switched, Unswitched};
use crate::settings::WorkerApp;
use crate::slot::SlotShared;

/// How long what failed with the version that should run is left alone at most; at first for one tick of the conductor, and twice as long
/// each time.
const RETRY_TICKS_MAX: u32 = 30;

/// A slot, as the conductor reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub runtime: Handle,
    pub shared: Arc<SlotShared>,
}

/// One app of the worker.
pub(crate) struct Conducted {
    pub rollout: Rollout,
    pub slots: Vec<Reach>,
    pub modules: HashMap<Digest, Module>,
    pub prepared: HashMap<u32, Box<Prepared>>,
    /// Empty slots whose first instance is on its way: it serves as soon as it is ready.
    pub starting: HashSet<u32>,
    /// What each slot handed over when it left a version, to go back to it, as long as slots move.
    kept: HashMap<u32, Kept>,
    /// What the numbers of events said at each slot's last switch: lost, repeated and reordered.
    audits: HashMap<u32, [u32; 3]>,
    /// The app's settings, for versions to come.
    settings: Arc<WorkerApp>,
    /// Those that slots run or have ready, and maybe others.
    editions: Vec<(VersionRef, Arc<Edition>)>,
    places: Arc<Places>,
    /// Its share of the pool for instances beside those of the slots, which may all be awake while it has one.
    room: Option<u32>,
    /// Since something was stuck.
    ticks: u32,
    /// How many of them until it is tried again.
    retry_ticks: u32,
}

/// What a slot handed over when it left a version.
#[derive(Debug)]
struct Kept {
    of: VersionRef,
    state: Option<Vec<u8>>,
    /// It could not go back with what it knows now.
    is_wanted: bool,
}

impl Kept {
    fn new(of: VersionRef, state: Option<Vec<u8>>) -> Self {
        Self { of, state, is_wanted: false }
    }
}

impl Conducted {
    /// An app whose slots all run `edition`, or are empty if it has no code.
    pub fn new(edition: &Arc<Edition>, slots: Vec<Reach>, places: Arc<Places>) -> Self {
        let app = &edition.app;
        let own = app.module.as_ref().map(|module| {
            let version = VersionRef { number: app.version, digest: module.digest() };
            (version, module.clone())
        });
        let mut rollout = Rollout::new(app.name.clone(), own.as_ref().map(|(own, _)| *own), app.slots);
        rollout.alone();
        let mut it = Self {
            rollout,
            editions: own.iter().map(|(own, _)| (*own, Arc::clone(edition))).collect(),
            modules: own.into_iter().map(|(own, module)| (own.digest, module)).collect(),
            settings: Arc::new(app.without_module()),
            places,
            room: None,
            slots,
            prepared: HashMap::new(),
            starting: HashSet::new(),
            kept: HashMap::new(),
            audits: HashMap::new(),
            ticks: 0,
            retry_ticks: 1,
        };
        // They are up: it is only told so.
        while let Some(todo) = it.rollout.poll() {
            match todo {
                Do::Load(version) => it.rollout.module_ready(version.digest),
                Do::Start { slot, .. } => it.rollout.slot_started(slot),
                _ => {}
            }
        }
        it
    }

    pub fn report(&self) -> AppReport {
        let mut judged = Vec::new();
        self.slots.iter().for_each(|slot| slot.shared.stats.add_to(&mut judged));
        let sleeps = |slot: &&Reach| slot.shared.stats.idle() == Some(Idle::Asleep);
        let asleep = u32::try_from(self.slots.iter().filter(sleeps).count()).unwrap_or(u32::MAX);
        AppReport { asleep, ..self.rollout.report(judged) }
    }

    /// Other settings, and all slots that there are now. What holds at once does so from the slots' next turns on, and in
    /// what takes them over later; the rest holds in versions to come.
    pub fn configure(&mut self, settings: &Arc<WorkerApp>, slots: Vec<Reach>) {
        let count = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        if slots.len() != self.slots.len() {
            self.rollout.resize(count);
            self.prepared.retain(|slot, _| *slot < count);
            self.starting.retain(|slot| *slot < count);
            self.kept.retain(|slot, _| *slot < count);
            self.audits.retain(|slot, _| *slot < count);
        }
        self.slots = slots;
        for (_, edition) in &mut self.editions {
            *edition = Arc::new(edition.with_live(settings));
        }
        for prepared in self.prepared.values_mut() {
            prepared.edition = Arc::new(prepared.edition.with_live(settings));
        }
        self.settings = Arc::clone(settings);
        // Behind whatever they were asked before.
        self.slots.iter().for_each(|reach| reach.shared.inbox.push(SlotMsg::Configure(Arc::clone(settings))));
    }

    /// How large the components of versions to come may be.
    pub fn module_bytes_max(&self) -> u64 {
        self.settings.module_bytes_max
    }

    /// A module is here that was asked for.
    pub fn loaded(&mut self, module: Module) {
        let digest = module.digest();
        match DoesNotFit::check_module(&self.settings, &module) {
            Ok(()) => {
                self.modules.insert(digest, module);
                self.rollout.module_ready(digest);
            }
            Err(error) => {
                let failure = Failure::new(None, Stage::Verify, error.to_string());
                self.rollout.module_failed(digest, failure);
            }
        }
    }

    /// An instance is ready beside what a slot runs. The settings may have changed since it was asked for.
    pub fn keep_ready(&mut self, slot: u32, mut prepared: Box<Prepared>) {
        if slot as usize >= self.slots.len() {
            return;
        }
        prepared.edition = Arc::new(prepared.edition.with_live(&self.settings));
        self.prepared.insert(slot, prepared);
    }

    /// The slot runs something.
    pub fn is_taken(&self, slot: u32) -> bool {
        self.rollout.slots().nth(slot as usize).flatten().is_some()
    }

    /// Makes sure that there is room for an instance beside that of every slot that runs one. An empty slot's first
    /// instance takes the slot's own place, which it has only if it never sleeps.
    pub fn find_room(&mut self, slot: u32) -> Result<(), Failure> {
        let taken = self.rollout.slots().flatten().count();
        let wanted = u32::try_from(taken).unwrap_or(u32::MAX);
        let has = self.room.or((!self.settings.has_sleepers()).then_some(0));
        if has.is_some_and(|room| wanted <= room) {
            return Ok(());
        }
        let found = self.places.begin_swap(self.rollout.app(), wanted);
        found.map_err(|error| Failure::new(Some(slot), Stage::Capacity, error.to_string()))?;
        self.room = Some(wanted);
        Ok(())
    }

    pub fn switched(&mut self, Switched { switch, state }: Switched) {
        let slot = switch.slot;
        let from = self.rollout.slots().nth(slot as usize).flatten();
        match from {
            Some(from) if !switch.state_lost => drop(self.kept.insert(slot, Kept::new(from, state))),
            _ => drop(self.kept.remove(&slot)),
        }
        // What came after the switch before this one counts for this one.
        if let Some(before) = self.audits.insert(slot, [switch.lost, switch.repeated, switch.reordered]) {
            self.rollout.slot_audited(slot, before);
        }
        // One of the two is what was asked for.
        self.rollout.slot_started(slot);
        self.rollout.slot_switched(switch);
    }

    /// A slot runs on what it ran. It may go back to the stable version once more with what is kept of it: what it knew
    /// since cannot be handed over by the version that it leaves, or not be taken by the one to which it returns.
    pub fn not_switched(
        &mut self,
        slot: u32,
        to: VersionRef,
        Unswitched { failure, state_is_gone }: Unswitched,
    ) {
        let kept = self.kept.get_mut(&slot).filter(|kept| kept.of == to);
        let again = self.rollout.is_stable(to)
            && match kept {
                Some(kept) => !std::mem::replace(&mut kept.is_wanted, true),
                None if state_is_gone => {
                    self.kept.insert(slot, Kept { is_wanted: true, ..Kept::new(to, None) });
                    true
                }
                None => false,
            };
        if !again {
            return self.rollout.slot_failed(slot, failure);
        }
        let app = self.rollout.app();
        tracing::warn!(%app, version = %to, slot, "going back without what the slot knew since its switch: {failure}");
        self.rollout.slot_again(slot);
    }

    /// What is stuck is tried again, after a while that doubles.
    pub fn tick(&mut self) {
        if !self.rollout.is_stuck() {
            return;
        }
        self.ticks += 1;
        if self.ticks >= self.retry_ticks {
            self.ticks = 0;
            self.retry_ticks = (self.retry_ticks * 2).min(RETRY_TICKS_MAX);
            self.rollout.retry();
        }
    }

    /// Where nothing moves, nothing goes back and nothing is stuck.
    pub fn forget(&mut self) {
        if !self.rollout.is_moving() {
            self.kept = HashMap::new();
            if self.room.take().is_some() {
                self.places.end_swap(self.rollout.app());
            }
            (self.ticks, self.retry_ticks) = (0, 1);
        }
    }

    /// What the slot is given to go to this version.
    pub fn hand(&self, slot: u32, to: VersionRef) -> Hand {
        match self.kept.get(&slot).filter(|kept| kept.is_wanted && kept.of == to) {
            // A copy: if this fails too, it is tried again later.
            Some(kept) => Hand::Kept(kept.state.clone()),
            None => Hand::Over,
        }
    }

    /// What the numbers of events have said since the last switches.
    pub fn audit(&mut self) {
        for (slot, at_switch) in &self.audits {
            let Some(reach) = self.slots.get(*slot as usize) else { continue };
            let mut audit = reach.shared.stats.audit();
            audit.iter_mut().zip(at_switch).for_each(|(now, then)| *now = now.saturating_add(*then));
            self.rollout.slot_audited(*slot, audit);
        }
    }

    pub fn edition(&mut self, engine: &Engine, version: VersionRef) -> Result<Arc<Edition>, Failure> {
        if let Some((_, edition)) = self.editions.iter().find(|(of, _)| *of == version) {
            return Ok(Arc::clone(edition));
        }
        // Those that no slot runs and none has ready are of no more use.
        self.editions.retain(|(_, edition)| Arc::strong_count(edition) > 1);
        let failed = |reason| Failure::new(None, Stage::Verify, reason);
        let Some(module) = self.modules.get(&version.digest).cloned() else {
            return Err(failed("its module is not loaded".into()));
        };
        let module = Some(module);
        let app = WorkerApp { module, version: version.number, ..WorkerApp::clone(&self.settings) };
        let edition = Arc::new(Edition::new(engine, app).map_err(|error| failed(error.to_string()))?);
        self.editions.push((version, Arc::clone(&edition)));
        Ok(edition)
    }

    pub fn unload(&mut self, digest: Digest) {
        self.modules.remove(&digest);
        self.editions.retain(|(version, _)| version.digest != digest);
    }
}
