//! How apps come to a worker and leave it while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::AppName;
use tidegate_runtime::{Engine, SlowPool, TemplateError};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::app_log::AppLog;
use crate::capacity::{Capacity, NoCapacity};
use crate::conducted::{Conducted, Reach};
use crate::edition::Edition;
use crate::inbox::SlotMsg;
use crate::roster::{AppId, Change, Roster};
use crate::settings::{WorkerApp, WorkerSettings};
use crate::slot::{News, Slot, SlotParts, SlotShared, SlotStartError, tell};
use crate::table::SlotTable;
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
    pub capacity: Arc<Mutex<Capacity>>,
    pub roster: Arc<Roster>,
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
    /// How it is told that it is gone, once it leaves.
    leaving: Option<(Ending, watch::Receiver<bool>)>,
}

#[derive(Debug)]
pub(crate) struct RunningSlot {
    pub shared: Arc<SlotShared>,
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
    /// Too few places for plugin instances are left.
    #[error(transparent)]
    NoCapacity(#[from] NoCapacity),
    /// Its instances may be larger than the places for them.
    #[error(
        "app {app}: `memory_mib` is {memory_mib}, but this worker's instances have {allowed_mib} at most: lower it, or \
         raise `memory_mib` of [worker]"
    )]
    Memory {
        /// The app.
        app: AppName,
        /// What the app may use.
        memory_mib: u32,
        /// What an instance of this worker may have.
        allowed_mib: u32,
    },
    /// Another app of this name is here.
    #[error("app {app} is on this worker with other settings: remove it first")]
    Different {
        /// The app.
        app: AppName,
    },
    /// The worker leaves.
    #[error("the worker is stopping: add the app when it runs again")]
    Stopping,
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

    fn find(&self, name: &AppName) -> Option<&RunningApp> {
        self.running.iter().find(|app| app.settings.name == *name)
    }
}

impl Inner {
    /// An app that was here from the start on. There may be too little room for it.
    pub fn launch_fixed(&self, app: WorkerApp) -> Result<Vec<First>, WorkerError> {
        let name = app.name.clone();
        let edition =
            Edition::new(&self.engine, app).map_err(|error| WorkerError::Template { app: name, error })?;
        self.capacity.lock().take(&edition.app.name, edition.app.slots);
        Ok(self.take_in(&mut self.apps.lock(), &Arc::new(edition)))
    }

    /// Adds an app, unless it is here already.
    pub fn launch(&self, app: &WorkerApp) -> Result<Launch, AddAppError> {
        let name = || app.name.clone();
        let allowed_mib = self.engine.settings().memory_mib;
        let memory_mib = app.limits.memory_mib;
        if memory_mib > allowed_mib {
            return Err(AddAppError::Memory { app: name(), memory_mib, allowed_mib });
        }
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
        self.capacity.lock().admit(&app.name, app.slots)?;
        tracing::info!(app = %app.name, slots = app.slots, "an app is added");
        Ok(Launch::Here(self.take_in(&mut apps, &Arc::new(edition))))
    }

    fn take_in(&self, apps: &mut Apps, edition: &Arc<Edition>) -> Vec<First> {
        let id = apps.next;
        apps.next += 1;
        let log = Arc::new(AppLog::new(edition.app.log_lines_per_s));
        let (mut slots, mut reaches, mut first) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, shard) in (0..edition.app.slots).zip(self.shards.iter().cycle()) {
            let shared = Arc::new(SlotShared::new(edition, Arc::clone(&self.news), Arc::clone(&log)));
            shard.table.add(edition.app.name.clone(), slot, Arc::clone(&shared));
            let runtime = shard.runtime.clone();
            reaches.push(Reach { runtime: runtime.clone(), shared: Arc::clone(&shared) });
            let (task, start) = launch_slot(SlotParts {
                edition: Arc::clone(edition),
                slot,
                shared: Arc::clone(&shared),
                settings: Arc::clone(&self.settings),
                runtime,
                slow: Arc::clone(&self.slow),
            });
            slots.push(RunningSlot { shared, task: Some(task) });
            first.push(start);
        }
        let conducted = Conducted::new(edition, reaches, Arc::clone(&self.capacity));
        self.roster.push(Change::Add(id, Box::new(conducted)));
        apps.running.push(RunningApp { id, settings: edition.app.without_module(), slots, leaving: None });
        first
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
        self.capacity.lock().free(name);
        self.apps.lock().running.retain(|app| app.settings.name != *name);
        tell(&self.news);
        tracing::info!(app = %name, "an app is removed");
    }
}

/// A slot on its shard. It waits for the word to start its first instance.
fn launch_slot(parts: SlotParts) -> (JoinHandle<()>, First) {
    let (app, slot, runtime) = (parts.edition.app.name.clone(), parts.slot, parts.runtime.clone());
    let (shared, slow) = (Arc::clone(&parts.shared), Arc::clone(&parts.slow));
    let budget = Arc::clone(&parts.edition.app.budget);
    let (go, may_go) = oneshot::channel();
    let (up, is_up) = oneshot::channel();
    let run = async move {
        let mut slot = Slot::new(parts);
        // Gone: nobody waits for it.
        let _ = may_go.await;
        let started = slot.start().await;
        // Its clients wait for it even if it did not start: it is tried again.
        shared.come_up();
        let _ = up.send(started);
        slot.run().await;
    };
    (runtime.spawn(slow.movable_of(&budget, run)), First { app, slot, go, up: is_up })
}
