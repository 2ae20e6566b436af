//! Moves slots to the versions that should run: what [`Rollout`] decides, done.
//!
//! ```text
//!  register --> desired --> conductor --> load, prepare ---+
//!                              ^  |                        | answers
//!                              |  +--> switch --> slot ----+
//!                              +---------------------------+
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_base::{AppName, Digest};
use tidegate_runtime::{Engine, Module, SlowPool};
use tidegate_wire::Do;
use tidegate_wire::control::{AppReport, DesiredApp, Failure, Stage, Step, VersionRef};
use tokio::sync::{mpsc, oneshot, watch};

use crate::conducted::Conducted;
use crate::held::Asks;
use crate::inbox::SlotMsg;
use crate::prepare::{Place, Prepared, SwitchOrder, Switched, Unswitched, prepare};
use crate::roster::{AppId, Change, Roster};
use crate::settings::WorkerSettings;

/// Where a worker gets the modules of versions that it is told to run.
pub trait ModuleSource: Send + Sync + 'static {
    /// Gets the module, checks and compiles it. What takes long belongs on another thread: this is polled on the
    /// runtime that conducts all apps of the worker. A component of more than `bytes_max` bytes need not be compiled, since
    /// the worker refuses it then.
    fn load(&self, app: &AppName, version: VersionRef, bytes_max: u64) -> Loading;
}

/// A module that is on its way.
pub type Loading = Pin<Box<dyn Future<Output = Result<Module, Failure>> + Send>>;

/// How to tell a worker what to run, and to hear how far it is.
#[derive(Debug, Clone)]
pub struct Orders {
    inputs: mpsc::Sender<Input>,
    reports: watch::Receiver<Vec<AppReport>>,
}

impl Orders {
    /// What should run, as the register says; replaces what it said before. An app that is not in it keeps what it runs.
    pub async fn desired(&self, apps: Vec<DesiredApp>) {
        // A worker that stops takes no orders.
        let _ = self.inputs.send(Input::Desired(apps)).await;
    }

    /// Waits until all orders so far are followed. That may be never: bound it.
    pub async fn settled(&self) {
        let (reply, taken) = oneshot::channel();
        if self.inputs.send(Input::Ping(reply)).await.is_err() || taken.await.is_err() {
            return;
        }
        // A canary may go on for hours, and a worker that has its share of it is where it should be. What is stuck is
        // tried again.
        let there = |step| matches!(step, Step::Prepared | Step::Switched | Step::Back);
        let still = |report: &AppReport| report.rollout.as_ref().is_none_or(|rollout| there(rollout.step));
        // Its sender goes with the conductor: then nothing moves any more.
        let _ = self.reports().wait_for(|reports| reports.iter().all(still)).await;
    }

    /// How all apps do; changes with every change.
    pub fn reports(&self) -> watch::Receiver<Vec<AppReport>> {
        self.reports.clone()
    }
}

/// Answers that may wait; each slot has a few at most, and who finds it full waits.
const INPUTS_MAX: usize = 1024;
/// How often the tallies are told while something moves, and what failed is looked at again.
const TICK: Duration = Duration::from_secs(1);
/// How often they are told while nothing does: for people who look, so it need not be often.
const TELL: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Input {
    Desired(Vec<DesiredApp>),
    Ping(oneshot::Sender<()>),
    Loaded(AppId, Digest, Result<Module, Failure>),
    Prepared(AppId, u32, VersionRef, Result<Box<Prepared>, Failure>),
    Switched(AppId, u32, VersionRef, Result<Switched, Unswitched>),
    FirstEvent(AppId, u32, u64),
    Emptied(AppId, u32),
}

impl Input {
    /// The app that it is about. None: it may be about any.
    fn app(&self) -> Option<AppId> {
        match self {
            Self::Desired(_) | Self::Ping(_) => None,
            Self::Loaded(app, ..)
            | Self::Prepared(app, ..)
            | Self::Switched(app, ..)
            | Self::FirstEvent(app, ..)
            | Self::Emptied(app, ..) => Some(*app),
        }
    }
}

/// What all apps share.
pub(crate) struct Conductor {
    /// Answers for one that is gone meanwhile find nobody.
    apps: BTreeMap<AppId, Conducted>,
    /// What the register said last, for apps that come after it.
    desired: Vec<DesiredApp>,
    parts: Parts,
}

/// What a conductor is made of.
pub(crate) struct Parts {
    pub roster: Arc<Roster>,
    pub engine: Engine,
    pub slow: Arc<SlowPool>,
    pub settings: Arc<WorkerSettings>,
    pub source: Arc<dyn ModuleSource>,
}

impl Conductor {
    /// Starts on the current runtime; ends with the last of the orders' clones.
    pub fn start(parts: Parts) -> Orders {
        let mut it = Self { apps: BTreeMap::new(), desired: Vec::new(), parts };
        it.follow_roster();
        let (inputs, taken) = mpsc::channel(INPUTS_MAX);
        let (tell, reports) = watch::channel(it.reports());
        tokio::spawn(it.run(inputs.downgrade(), taken, tell));
        Orders { inputs, reports }
    }

    fn reports(&self) -> Vec<AppReport> {
        self.apps.values().map(Conducted::report).collect()
    }

    /// Takes up the apps that have come, and lets go of those that have gone. True: there are any.
    fn follow_roster(&mut self) -> bool {
        let changes = self.parts.roster.take();
        let news = !changes.is_empty();
        for change in changes {
            match change {
                Change::Add(id, mut app) => {
                    // The register may have spoken of it before it was here.
                    if let Some(desired) = self.desired.iter().find(|wanted| wanted.app == *app.rollout.app())
                    {
                        app.rollout.desired(desired);
                    }
                    self.apps.insert(id, *app);
                }
                Change::Configure(id, settings, slots) => {
                    self.with(id, |app| app.configure(&settings, slots));
                }
                Change::Remove(id) => drop(self.apps.remove(&id)),
            }
        }
        news
    }

    async fn run(
        mut self,
        inputs: mpsc::WeakSender<Input>,
        mut taken: mpsc::Receiver<Input>,
        tell: watch::Sender<Vec<AppReport>>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tell_again = tokio::time::interval(TELL);
        tell_again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Who waits until what was ordered before is taken up.
        let mut pings = Vec::new();
        loop {
            let moving = self.apps.values().any(|app| app.rollout.is_moving());
            let mut news = false;
            let input = tokio::select! {
                input = taken.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
                () = self.parts.roster.changed() => None,
                _ = tick.tick(), if moving => {
                    self.apps.values_mut().for_each(Conducted::tick);
                    news = true;
                    None
                }
                _ = tell_again.tick() => {
                    news = true;
                    None
                }
            };
            // Whoever waits for an answer needs a way back.
            let Some(inputs) = inputs.upgrade() else { return };
            let has_changed = self.follow_roster();
            news |= has_changed;
            // What one app's instances answer concerns no other one: with thousands of apps, that counts.
            let only = input.as_ref().filter(|_| !has_changed).and_then(Input::app);
            match input {
                Some(Input::Ping(reply)) => pings.push(reply),
                Some(input) => self.on_input(input, &inputs),
                None => {}
            }
            let concerned = match only {
                Some(app) => vec![app],
                None => self.apps.keys().copied().collect(),
            };
            for id in concerned {
                self.with(id, Conducted::audit);
                news |= self.act(id, &inputs);
                self.with(id, Conducted::forget);
            }
            if news {
                let reports = self.reports();
                tell.send_if_modified(|told| {
                    let changed = *told != reports;
                    *told = reports;
                    changed
                });
            }
            for reply in pings.drain(..) {
                // Gone: nobody waits any more.
                let _ = reply.send(());
            }
        }
    }

    fn on_input(&mut self, input: Input, inputs: &mpsc::Sender<Input>) {
        match input {
            Input::Desired(desired) => {
                let by_name: HashMap<_, _> = desired.iter().map(|wanted| (&wanted.app, wanted)).collect();
                for app in self.apps.values_mut() {
                    if let Some(wanted) = by_name.get(app.rollout.app()) {
                        app.rollout.desired(wanted);
                    }
                }
                self.desired = desired;
            }
            Input::Loaded(app, digest, loaded) => self.with(app, |app| match loaded {
                Ok(module) => app.loaded(module),
                Err(failure) => app.rollout.module_failed(digest, failure),
            }),
            Input::Prepared(app, slot, version, prepared) => match prepared {
                Ok(prepared) => {
                    self.with(app, |app| {
                        app.keep_ready(slot, prepared);
                        app.rollout.slot_prepared(slot);
                    });
                    // What starts in an empty slot has nothing to wait for.
                    if self.apps.get_mut(&app).is_some_and(|app| app.starting.remove(&slot)) {
                        self.switch(app, slot, version, inputs);
                    }
                }
                Err(failure) => self.with(app, |app| {
                    app.starting.remove(&slot);
                    app.rollout.slot_failed(slot, failure);
                }),
            },
            Input::Switched(app, slot, to, switched) => self.with(app, |app| match switched {
                Ok(switched) => app.switched(switched),
                Err(unswitched) => app.not_switched(slot, to, unswitched),
            }),
            Input::Emptied(app, slot) => self.with(app, |app| app.rollout.slot_emptied(slot)),
            // Answered when everything before it is done.
            Input::Ping(_) => {}
            Input::FirstEvent(app, slot, after_us) => {
                self.with(app, |app| app.rollout.slot_first_event(slot, after_us));
            }
        }
    }

    fn with(&mut self, app: AppId, change: impl FnOnce(&mut Conducted)) {
        if let Some(app) = self.apps.get_mut(&app) {
            change(app);
        }
    }

    /// Does what there is to do for an app. True: there is something to report.
    fn act(&mut self, app: AppId, inputs: &mpsc::Sender<Input>) -> bool {
        let mut news = false;
        while let Some(todo) = self.apps.get_mut(&app).and_then(|app| app.rollout.poll()) {
            match todo {
                Do::Load(version) => self.load(app, version, inputs),
                Do::Start { slot, version } => {
                    self.with(app, |app| {
                        app.starting.insert(slot);
                    });
                    self.prepare(app, slot, version, inputs);
                }
                Do::Prepare { slot, version } => self.prepare(app, slot, version, inputs),
                Do::Switch { slot, version } => self.switch(app, slot, version, inputs),
                Do::Discard { slot } => self.with(app, |app| {
                    app.prepared.remove(&slot);
                    app.rollout.slot_discarded(slot);
                }),
                Do::Empty { slot } => self.empty(app, slot, inputs),
                Do::Unload(digest) => self.with(app, |app| app.unload(digest)),
                Do::Report => news = true,
            }
        }
        news
    }

    fn load(&mut self, app: AppId, version: VersionRef, inputs: &mpsc::Sender<Input>) {
        let Some(it) = self.apps.get_mut(&app) else { return };
        let loading = tokio::spawn(self.parts.source.load(it.rollout.app(), version, it.module_bytes_max()));
        let inputs = inputs.clone();
        tokio::spawn(async move {
            let loaded = loading.await.unwrap_or_else(|error| {
                Err(Failure::new(None, Stage::Worker, format!("the worker failed: {error}")))
            });
            let _ = inputs.send(Input::Loaded(app, version.digest, loaded)).await;
        });
    }

    fn prepare(&mut self, app: AppId, slot: u32, version: VersionRef, inputs: &mpsc::Sender<Input>) {
        let Some(it) = self.apps.get_mut(&app) else { return };
        let Some(reach) = it.slots.get(slot as usize).cloned() else { return };
        let edition = it.find_room(slot).and_then(|()| it.edition(&self.parts.engine, version));
        let edition = match edition {
            Ok(edition) => edition,
            Err(failure) => {
                it.starting.remove(&slot);
                return it.rollout.slot_failed(slot, failure);
            }
        };
        let place = Place {
            slot,
            is_first: !it.is_taken(slot),
            worker: self.parts.settings.name.as_str().into(),
            log: Arc::clone(&reach.shared.log),
            asks: Asks { inbox: Arc::clone(&reach.shared.inbox), wait: self.parts.settings.query_wait },
            keys: self.parts.settings.keys.clone(),
        };
        // On the slot's own thread, so that two instances of one slot never use two cores.
        let budget = Arc::clone(&edition.app.budget);
        let preparing = reach.runtime.spawn(self.parts.slow.movable_of(&budget, prepare(edition, place)));
        let inputs = inputs.clone();
        tokio::spawn(async move {
            let prepared = preparing.await.unwrap_or_else(|error| {
                Err(Failure::new(Some(slot), Stage::Worker, format!("the worker failed: {error}")))
            });
            let _ = inputs.send(Input::Prepared(app, slot, version, prepared.map(Box::new))).await;
        });
    }

    fn empty(&mut self, app: AppId, slot: u32, inputs: &mpsc::Sender<Input>) {
        let Some(reach) = self.apps.get(&app).and_then(|it| it.slots.get(slot as usize)) else { return };
        let (done, emptied) = oneshot::channel();
        reach.shared.inbox.push(SlotMsg::Empty(done));
        let inputs = inputs.clone();
        tokio::spawn(async move {
            // A slot that has ended is empty as well.
            let _ = emptied.await;
            let _ = inputs.send(Input::Emptied(app, slot)).await;
        });
    }

    fn switch(&mut self, app: AppId, slot: u32, to: VersionRef, inputs: &mpsc::Sender<Input>) {
        let Some(it) = self.apps.get_mut(&app) else { return };
        let hand = it.hand(slot, to);
        let failed = |reason: &str| Failure::new(Some(slot), Stage::Worker, reason.into());
        let (Some(reach), Some(prepared)) = (it.slots.get(slot as usize), it.prepared.remove(&slot)) else {
            return it.rollout.slot_failed(slot, failed("nothing was prepared"));
        };
        let (done, switched) = oneshot::channel();
        let (first_event, came) = oneshot::channel();
        let order = SwitchOrder { prepared: *prepared, hand, done, first_event };
        reach.shared.inbox.push(SlotMsg::Switch(Box::new(order)));
        let (inputs, ended) = (inputs.clone(), failed("the slot has ended"));
        tokio::spawn(async move {
            let switched = switched.await.unwrap_or(Err(ended.into()));
            let is_well = switched.is_ok();
            if inputs.send(Input::Switched(app, slot, to, switched)).await.is_err() || !is_well {
                return;
            }
            // The sender is gone with the next switch, if no event came before it. Not held up by this, or it would
            // keep the conductor.
            let weak = inputs.downgrade();
            drop(inputs);
            if let Ok(after_us) = came.await
                && let Some(inputs) = weak.upgrade()
            {
                let _ = inputs.send(Input::FirstEvent(app, slot, after_us)).await;
            }
        });
    }
}

impl fmt::Debug for Conductor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conductor").field("apps", &self.apps.len()).finish_non_exhaustive()
    }
}
