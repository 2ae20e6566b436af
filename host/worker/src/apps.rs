//! How apps come to a worker and leave it while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{AppName, Label};
use tidegate_keys::Space;
use tidegate_runtime::{Engine, SlowPool, TemplateError};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::app_log::AppLog;
use crate::buckets;
use crate::conducted::{Conducted, Reach};
use crate::edition::Edition;
use crate::fits::{DoesNotFit, MissingLabels};
use crate::inbox::SlotMsg;
use crate::log_ring::LogRoom;
use crate::places::Places;
use crate::roster::{AppId, Change, Roster};
use crate::settings::{WorkerApp, WorkerSettings};
use crate::slot::{News, Slot, SlotParts, SlotShared, SlotStartError, tell};
use crate::stored::StateRoom;
use crate::table::{SlotEntry, SlotTable};
use crate::worker::WorkerError;

/// How long an instance that was ended may take to go.
const END_WAIT: Duration = Duration::from_secs(1);

/// What all handles of a worker share.
pub(crate) struct Inner {
    pub settings: Arc<WorkerSettings>,
    pub engine: Engine,
    pub slow: Arc<SlowPool>,
    pub shards: Vec<Shard>,
    pub news: News,
    pub apps: Mutex<Apps>,
    pub places: Arc<Places>,
    pub states: Arc<StateRoom>,
    pub roster: Arc<Roster>,
    pub log_room: Arc<LogRoom>,
}

/// One thread and its slots.
#[derive(Debug)]
pub(crate) struct Shard {
    pub runtime: Handle,
    pub table: Arc<SlotTable>,
}

/// The apps of a worker.
#[derive(Debug, Default)]
pub(crate) struct Apps {
    pub running: Vec<RunningApp>,
    /// Apps that the worker was started with and does not run, since it lacks these labels.
    pub elsewhere: Vec<(AppName, Vec<Label>)>,
    next: AppId,
    stopping: bool,
}

/// An app that is here, from when it is added until it is gone.
#[derive(Debug)]
pub(crate) struct RunningApp {
    id: AppId,
    /// As it was added, without its module.
    pub settings: WorkerApp,
    pub slots: Vec<RunningSlot>,
    /// Its keys, if it is granted any.
    pub keys: Option<Arc<Space>>,
    log: Arc<AppLog>,
    /// How it is told that it is gone, once it leaves.
    leaving: Option<(Ending, watch::Receiver<bool>)>,
}

#[derive(Debug)]
pub(crate) struct RunningSlot {
    pub shared: Arc<SlotShared>,
    runtime: Handle,
    /// None: whoever ends the slot has it.
    task: Option<JoinHandle<()>>,
}

/// Why an app leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It alone.
    Removal,
    /// The worker stops.
    Stop,
}

/// What becomes of an app that is to be added.
#[derive(Debug)]
pub(crate) enum Launch {
    /// It is here, with slots whose first instances are to be started; none if it was here already.
    Here(Vec<First>),
    /// One of this name is going: try again when it is gone.
    Going(Gone),
}

/// Tells when an app is gone.
#[derive(Debug)]
pub(crate) struct Gone(watch::Receiver<bool>);

/// An app that cannot be added to a worker.
#[derive(Debug, thiserror::Error)]
pub enum AddAppError {
    /// The plugin does not fit the host.
    #[error("app {app}: {error}")]
    Template {
        /// The app.
        app: AppName,
        /// What is wrong.
        error: TemplateError,
    },
    /// It does not fit.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    /// Another app of this name is here.
    #[error("app {app} is on this worker with other settings: configure it, or remove it first")]
    Different {
        /// The app.
        app: AppName,
    },
    /// The worker leaves.
    #[error("the worker is stopping: add the app when it runs again")]
    Stopping,
}

/// Settings that an app of a worker cannot get.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureAppError {
    /// There is no such app, or it is being removed.
    #[error("app {app} is not on this worker: add it first")]
    NotHere {
        /// The app.
        app: AppName,
    },
    /// With them it does not fit.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}

/// What other settings of an app come to.
#[derive(Debug)]
pub(crate) struct Configured {
    /// Some of them hold with the next deployment.
    pub waits: bool,
    /// Slots leave.
    pub gone: Option<Gone>,
}

/// A slot whose first instance has not started. Dropping it starts that as well.
#[derive(Debug)]
pub(crate) struct First {
    app: AppName,
    slot: u32,
    go: oneshot::Sender<()>,
    up: oneshot::Receiver<Result<(), SlotStartError>>,
}

impl Gone {
    /// Waits until it is.
    pub async fn wait(mut self) {
        // Its sender is gone with the thread that ended the app: then there is nothing left either.
        let _ = self.0.wait_for(|gone| *gone).await;
    }
}

impl First {
    /// Starts it, and waits until it is up or did not start: then it is tried again later.
    pub async fn start(self) -> Result<(), WorkerError> {
        let Self { app, slot, go, up } = self;
        let _ = go.send(());
        let started = up.await.unwrap_or(Err(SlotStartError::Busy));
        started.map_err(|error| WorkerError::Slot { app, slot, error: Box::new(error) })
    }
}

impl RunningApp {
    pub fn is_being_removed(&self) -> bool {
        matches!(self.leaving, Some((Ending::Removal, _)))
    }
}

impl Apps {
    /// Every slot, of apps that leave too.
    pub fn slots(&self) -> impl Iterator<Item = &RunningSlot> {
        self.running.iter().flat_map(|app| &app.slots)
    }

    pub fn is_ready(&self) -> bool {
        let runs = |slot: &RunningSlot| slot.task.as_ref().is_some_and(|task| !task.is_finished());
        let mut staying = self.running.iter().filter(|app| !app.is_being_removed());
        !self.stopping && staying.all(|app| app.slots.iter().all(runs))
    }

    /// No app comes any more. Returns those that are here.
    pub fn begin_stop(&mut self) -> Vec<AppName> {
        self.stopping = true;
        self.running.iter().map(|app| app.settings.name.clone()).collect()
    }

    /// The log of an app that is here.
    pub fn log(&self, name: &AppName) -> Option<Arc<AppLog>> {
        self.find(name).map(|app| Arc::clone(&app.log))
    }

    fn find(&self, name: &AppName) -> Option<&RunningApp> {
        self.running.iter().find(|app| app.settings.name == *name)
    }
}

impl Inner {
    /// An app that was here from the start on. There may be too little room for it; without the labels that it requires it
    /// is only remembered.
    pub fn launch_fixed(&self, app: WorkerApp) -> Result<Vec<First>, WorkerError> {
        let name = app.name.clone();
        if let Err(error) = MissingLabels::check(&self.settings, &app) {
            tracing::warn!(app = %name, "the app is not started here: {error}");
            self.apps.lock().elsewhere.push((name, error.missing));
            return Ok(Vec::new());
        }
        let edition =
            Edition::new(&self.engine, app).map_err(|error| WorkerError::Template { app: name, error })?;
        self.places.take(&edition.app.name, edition.app.slots, edition.app.slots_awake());
        Ok(self.take_in(&mut self.apps.lock(), &Arc::new(edition)))
    }

    /// Adds an app, unless it is here already.
    pub fn launch(&self, app: &WorkerApp) -> Result<Launch, AddAppError> {
        let name = || app.name.clone();
        DoesNotFit::check(&self.engine, &self.settings, app)?;
        let edition = Edition::new(&self.engine, app.clone());
        let edition = edition.map_err(|error| AddAppError::Template { app: name(), error })?;
        let mut apps = self.apps.lock();
        if apps.stopping {
            return Err(AddAppError::Stopping);
        }
        match apps.find(&app.name) {
            Some(RunningApp { leaving: Some((_, gone)), .. }) => {
                return Ok(Launch::Going(Gone(gone.clone())));
            }
            Some(known) if known.settings.is_like(app) => return Ok(Launch::Here(Vec::new())),
            Some(_) => return Err(AddAppError::Different { app: name() }),
            None => {}
        }
        let places = self.places.admit(&app.name, app.slots, app.slots_awake());
        places.map_err(DoesNotFit::from)?;
        tracing::info!(app = %app.name, slots = app.slots, "an app is added");
        Ok(Launch::Here(self.take_in(&mut apps, &Arc::new(edition))))
    }

    fn take_in(&self, apps: &mut Apps, edition: &Arc<Edition>) -> Vec<First> {
        let id = apps.next;
        apps.next += 1;
        let WorkerApp { log_lines_per_s, version, .. } = *edition.app;
        let log = Arc::new(AppLog::new(log_lines_per_s, version, Arc::clone(&self.log_room)));
        let (mut slots, mut first) = (Vec::new(), Vec::new());
        for slot in 0..edition.app.slots {
            let Some((running, start)) = self.launch_slot(edition, slot, &log) else { continue };
            slots.push(running);
            first.push(start);
        }
        let conducted = Conducted::new(edition, reaches(&slots), Arc::clone(&self.places));
        self.roster.push(Change::Add(id, Box::new(conducted)));
        let settings = edition.app.without_module();
        let keys = buckets::space(&self.settings.keys, &settings);
        apps.running.push(RunningApp { id, settings, slots, keys, log, leaving: None });
        first
    }

    /// A slot on its shard. It waits for the word to start its first instance. None: there is no shard.
    fn launch_slot(
        &self,
        edition: &Arc<Edition>,
        slot: u32,
        log: &Arc<AppLog>,
    ) -> Option<(RunningSlot, First)> {
        let shard = self.shards.get(slot as usize % self.shards.len().max(1))?;
        let shared = Arc::new(SlotShared::new(edition, Arc::clone(&self.news), Arc::clone(log)));
        let app = edition.app.name.clone();
        shard.table.add(app.clone(), slot, Arc::clone(&shared));
        let parts = SlotParts {
            edition: Arc::clone(edition),
            slot,
            shared: Arc::clone(&shared),
            settings: Arc::clone(&self.settings),
            runtime: shard.runtime.clone(),
            places: Arc::clone(&self.places),
            states: Arc::clone(&self.states),
            slow: Arc::clone(&self.slow),
        };
        let (go, may_go) = oneshot::channel();
        let (up, is_up) = oneshot::channel();
        let own = Arc::clone(&shared);
        let run = async move {
            let mut slot = Slot::new(parts);
            // Gone: nobody waits for it.
            let _ = may_go.await;
            let started = slot.start().await;
            // Its clients wait for it even if it did not start: it is tried again.
            own.come_up();
            let _ = up.send(started);
            slot.run().await;
        };
        let runtime = shard.runtime.clone();
        let task = Some(runtime.spawn(self.slow.movable_of(&edition.app.budget, run)));
        Some((RunningSlot { shared, runtime, task }, First { app, slot, go, up: is_up }))
    }

    /// Gives an app other settings.
    pub fn configure(self: &Arc<Self>, now: &WorkerApp) -> Result<Configured, ConfigureAppError> {
        DoesNotFit::check(&self.engine, &self.settings, now)?;
        let mut apps = self.apps.lock();
        let app = apps.running.iter_mut().find(|app| app.settings.name == now.name && app.leaving.is_none());
        let Some(app) = app else { return Err(ConfigureAppError::NotHere { app: now.name.clone() }) };
        // Who made the budget changes it; instances keep the one that they were started with.
        let budget = Arc::clone(&app.settings.budget);
        let settings = Arc::new(WorkerApp { budget, ..now.without_module() });
        let waits = app.settings.waits_for(&settings);
        let mut gone = None;
        let (before, count) = (app.settings.slots, settings.slots);
        let awake = settings.slots_awake();
        if count > before || awake > app.settings.slots_awake() {
            self.places.admit(&now.name, count.max(before), awake).map_err(DoesNotFit::from)?;
        } else if count == before {
            self.places.take(&now.name, count, awake);
        }
        if count > before {
            let nothing = Arc::new(Edition::empty_of(&settings));
            // Without code there is nothing to wait for: what runs comes by the conductor.
            let come = (before..count).filter_map(|slot| self.launch_slot(&nothing, slot, &app.log));
            app.slots.extend(come.map(|(slot, _)| slot));
        } else if count < before {
            let leaving = app.slots.split_off((count as usize).min(app.slots.len()));
            gone = self.begin_shrink(&now.name, count, leaving);
        }
        app.log.set_pace(settings.log_lines_per_s);
        app.keys = buckets::space(&self.settings.keys, &settings);
        app.settings = WorkerApp::clone(&settings);
        self.roster.push(Change::Configure(app.id, settings, reaches(&app.slots)));
        tracing::info!(app = %now.name, slots = count, waits, "an app has other settings");
        Ok(Configured { waits, gone })
    }

    /// The slots of an app from `from` on leave.
    fn begin_shrink(self: &Arc<Self>, name: &AppName, from: u32, slots: Vec<RunningSlot>) -> Option<Gone> {
        let leaves = move |entry: &SlotEntry, name: &AppName| entry.app == *name && entry.slot >= from;
        self.shards.iter().for_each(|shard| shard.table.leave(|entry| leaves(entry, name)));
        tell(&self.news);
        slots.iter().for_each(|slot| slot.shared.inbox.push(SlotMsg::Stop));
        let tasks = slots.into_iter().filter_map(|slot| slot.task).collect();
        let (tell_gone, gone) = watch::channel(false);
        let (inner, name) = (Arc::clone(self), name.clone());
        self.shards.first()?.runtime.spawn(async move {
            inner.end(&name, tasks).await;
            let is_gone = |entry: &SlotEntry| entry.leaving && leaves(entry, &name);
            inner.shards.iter().for_each(|shard| shard.table.remove(is_gone));
            if let Some(app) = inner.apps.lock().find(&name) {
                inner.places.take(&name, app.settings.slots, app.settings.slots_awake());
            }
            let _ = tell_gone.send(true);
        });
        Some(Gone(gone))
    }

    /// An app begins to leave, on its own thread's time: it goes on if nobody waits. None: it is not here.
    pub fn begin_end(self: &Arc<Self>, name: &AppName, ending: Ending) -> Option<Gone> {
        let mut apps = self.apps.lock();
        let app = apps.running.iter_mut().find(|app| app.settings.name == *name)?;
        if let Some((_, gone)) = &app.leaving {
            return Some(Gone(gone.clone()));
        }
        let (tell_gone, gone) = watch::channel(false);
        app.leaving = Some((ending, gone.clone()));
        let tasks: Vec<_> = app.slots.iter_mut().filter_map(|slot| slot.task.take()).collect();
        for shard in &self.shards {
            shard.table.leave(|entry| entry.app == *name);
        }
        tell(&self.news);
        app.slots.iter().for_each(|slot| slot.shared.inbox.push(SlotMsg::Stop));
        if ending == Ending::Removal {
            self.roster.push(Change::Remove(app.id));
        }
        let (inner, name) = (Arc::clone(self), name.clone());
        let runtime = self.shards.first().map(|shard| shard.runtime.clone())?;
        runtime.spawn(async move {
            inner.end(&name, tasks).await;
            if ending == Ending::Removal {
                inner.forget(&name);
            }
            let _ = tell_gone.send(true);
        });
        Some(Gone(gone))
    }

    /// Waits until the slots have left; what takes too long is ended.
    async fn end(&self, name: &AppName, tasks: Vec<JoinHandle<()>>) {
        let until = tokio::time::Instant::now() + self.settings.stop_wait;
        let mut late = Vec::new();
        for mut task in tasks {
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                tracing::warn!(app = %name, "a slot did not stop in time: it is ended");
                task.abort();
                late.push(task);
            }
        }
        let until = tokio::time::Instant::now() + END_WAIT;
        for task in late {
            // A turn that keeps its thread busy is ended at its limit.
            let _ = tokio::time::timeout_at(until, task).await;
        }
    }

    /// Nothing of an app is left.
    fn forget(&self, name: &AppName) {
        for shard in &self.shards {
            shard.table.remove(|entry| entry.app == *name);
        }
        self.places.free(name);
        self.apps.lock().running.retain(|app| app.settings.name != *name);
        tell(&self.news);
        tracing::info!(app = %name, "an app is removed");
    }
}

fn reaches(slots: &[RunningSlot]) -> Vec<Reach> {
    let reach =
        |slot: &RunningSlot| Reach { runtime: slot.runtime.clone(), shared: Arc::clone(&slot.shared) };
    slots.iter().map(reach).collect()
}
