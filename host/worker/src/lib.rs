//! The worker role: it runs plugins. It holds no client socket; one tenant's plugin cannot see, starve or crash
//! another's.
//!
//! ```text
//!   lanes -> intake -> slot: one turn at a time -> outbox -> lanes
//!                        |  ^
//!                        v  | host functions
//!                      plugin instance (runtime)
//! ```

mod app_log;
mod conducted;
mod conductor;
mod core;
mod counters;
mod edition;
mod held;
mod host;
mod inbox;
mod intake;
mod lane;
mod links;
mod offers;
mod outbox;
mod prepare;
mod query;
mod rules;
mod settings;
mod slot;
mod timers;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::{AppName, GatewayId};
use tidegate_link::Link;
use tidegate_runtime::{Engine, SlowPool, TemplateError};
use tidegate_wire::control::VersionTally;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::app_log::AppLog;
use self::conducted::{Conducted, Reach};
use self::conductor::Conductor;
pub use self::conductor::{Loading, ModuleSource, Orders};
use self::edition::{Edition, Idle};
use self::inbox::SlotMsg;
pub use self::links::is_stopped;
use self::links::{ShardSlots, SlotEntry};
pub use self::settings::{OnFailure, WorkerApp, WorkerSettings};
pub use self::slot::SlotStartError;
use self::slot::{Announced, Slot, SlotParts, SlotShared};

/// A running worker. Dropping it does not stop it: call [`Worker::stop`].
pub struct Worker {
    settings: Arc<WorkerSettings>,
    shards: Vec<(Handle, ShardSlots)>,
    announce: Arc<watch::Sender<Announced>>,
    slots: Vec<RunningSlot>,
    engine: Engine,
    slow: Arc<SlowPool>,
    /// What the apps began with, until somebody conducts them.
    editions: Mutex<Vec<Arc<Edition>>>,
}

#[derive(Debug)]
struct RunningSlot {
    app: AppName,
    runtime: Handle,
    shared: Arc<SlotShared>,
    task: Option<JoinHandle<()>>,
}

/// How an app does on this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
    /// The app.
    pub name: AppName,
    /// The version that its slots run; while a swap goes on, the newest of them.
    pub version: u32,
    /// Its slots here.
    pub slots: u32,
    /// Instances started anew after a fault.
    pub restarts: u64,
    /// Turns run.
    pub turns: u64,
    /// Turns that failed, faults included.
    pub failed: u64,
    /// Slots that keep failing and wait before they start another instance.
    pub waiting: u32,
    /// Slots that kept failing and start no instance until another version is deployed.
    pub suspended: u32,
}

/// A worker that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The plugin does not fit the host.
    #[error("app {app}: {error}")]
    Template {
        /// The app.
        app: AppName,
        /// What is wrong.
        error: TemplateError,
    },
    /// A slot's first instance did not start.
    #[error("app {app}, slot {slot}: {error}")]
    Slot {
        /// The app.
        app: AppName,
        /// The slot.
        slot: u32,
        /// What is wrong.
        error: Box<SlotStartError>,
    },
    /// No thread to run on.
    #[error("a worker needs at least one shard")]
    NoShards,
}

impl AppStatus {
    /// Of an app that has done nothing.
    fn of(name: AppName) -> Self {
        Self { name, version: 0, slots: 0, restarts: 0, turns: 0, failed: 0, waiting: 0, suspended: 0 }
    }
}

impl Worker {
    /// Starts an instance in every slot, `on-worker-start` included. Slot `n` of an app lives on shard `n` modulo their
    /// number; each is to be a current_thread runtime with a thread of its own.
    ///
    /// # Errors
    /// A plugin does not fit, or no slot of any app could start: there is no room, or `on-worker-start` fails. A slot that does
    /// not start beside others that do is logged, and tried again as after a fault.
    pub async fn start(
        mut settings: WorkerSettings,
        engine: &Engine,
        slow: Arc<SlowPool>,
        shards: &[Handle],
    ) -> Result<Self, WorkerError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        if shards.is_empty() {
            return Err(WorkerError::NoShards);
        }
        // Not to be held on to: the modules are unloaded when no slot runs them any more.
        let apps = std::mem::take(&mut settings.apps);
        let settings = Arc::new(settings);
        let mut entries: Vec<Vec<SlotEntry>> = shards.iter().map(|_| Vec::new()).collect();
        let mut slots = Vec::new();
        let announce = Arc::new(watch::Sender::new(Announced::default()));
        let (mut editions, mut failed) = (Vec::new(), Vec::new());
        for app in apps {
            let name = app.name.clone();
            let edition =
                Edition::new(engine, app).map_err(|error| WorkerError::Template { app: name, error })?;
            let edition = Arc::new(edition);
            let app = &edition.app;
            let log = Arc::new(AppLog::new(app.log_lines_per_s));
            for slot in 0..app.slots {
                let at = slot as usize % shards.len();
                let (Some(runtime), Some(entries)) = (shards.get(at), entries.get_mut(at)) else { continue };
                let shared = Arc::new(SlotShared::new(&edition, Arc::clone(&announce), Arc::clone(&log)));
                let parts = SlotParts {
                    edition: Arc::clone(&edition),
                    slot,
                    shared: Arc::clone(&shared),
                    settings: settings.clone(),
                    runtime: runtime.clone(),
                    slow: Arc::clone(&slow),
                };
                let (task, started) = start_slot(parts).await;
                failed.extend(started.err());
                let task = Some(task);
                entries.push(SlotEntry { app: app.name.clone(), slot, shared: Arc::clone(&shared) });
                slots.push(RunningSlot { app: app.name.clone(), runtime: runtime.clone(), shared, task });
            }
            editions.push(edition);
        }
        // One app that does not start is no reason to keep others from it; if nothing starts, that is told at once.
        if failed.len() == slots.len()
            && let Some(error) = failed.into_iter().next()
        {
            slots.iter().for_each(|slot| slot.shared.inbox.push(SlotMsg::Stop));
            return Err(error);
        }
        let with_slots = |(handle, slots): (&Handle, Vec<SlotEntry>)| {
            (handle.clone(), ShardSlots { slots: slots.into(), announced: announce.subscribe() })
        };
        let shards = shards.iter().zip(entries).map(with_slots).collect();
        Ok(Self {
            settings,
            shards,
            announce,
            slots,
            engine: engine.clone(),
            slow,
            editions: Mutex::new(editions),
        })
    }

    /// Takes orders about versions from now on, on the current runtime, until the last clone of what it returns is gone.
    /// Call it once.
    pub fn conduct(&self, source: Arc<dyn ModuleSource>) -> Orders {
        let of = |edition: &Arc<Edition>| {
            let slots = self.slots.iter().filter(|slot| slot.app == edition.app.name);
            let reach = |slot: &RunningSlot| Reach {
                runtime: slot.runtime.clone(),
                shared: Arc::clone(&slot.shared),
            };
            Conducted::new(edition, slots.map(reach).collect())
        };
        let conductor = Conductor {
            apps: std::mem::take(&mut *self.editions.lock()).iter().map(of).collect(),
            engine: self.engine.clone(),
            slow: Arc::clone(&self.slow),
            settings: Arc::clone(&self.settings),
            source,
        };
        conductor.start()
    }

    /// How many shards it has.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A link to a gateway, for the slots of one shard. One link per gateway and shard.
    pub fn add_link(&self, link: Link, shard: usize) {
        if let Some((handle, slots)) = self.shards.get(shard % self.shards.len().max(1)) {
            handle.spawn(links::serve(slots.clone(), link));
        }
    }

    /// The gateway is lost for good: its link is down and the cluster says that it is gone. Its clients' on-close runs.
    pub fn gateway_gone(&self, gateway: GatewayId) {
        self.slots.iter().for_each(|slot| slot.shared.inbox.push(SlotMsg::GatewayGone(gateway)));
    }

    /// Whether every slot runs.
    pub fn is_ready(&self) -> bool {
        self.slots.iter().all(|slot| slot.task.as_ref().is_some_and(|task| !task.is_finished()))
    }

    /// How each app does.
    pub fn status(&self) -> Vec<AppStatus> {
        let mut apps: Vec<AppStatus> = Vec::new();
        for slot in &self.slots {
            if apps.last().is_none_or(|app| app.name != slot.app) {
                let name = slot.app.clone();
                apps.push(AppStatus::of(name));
            }
            let VersionTally { turns, errors, traps, overruns, .. } = slot.shared.stats.total();
            if let Some(app) = apps.last_mut() {
                app.version = app.version.max(slot.shared.current().0);
                app.slots += 1;
                app.restarts += slot.shared.stats.restarts();
                app.turns += turns;
                app.failed += errors + traps + overruns;
                let idle = slot.shared.stats.idle();
                app.waiting += u32::from(idle == Some(Idle::Waits));
                app.suspended += u32::from(idle == Some(Idle::Suspended));
            }
        }
        apps
    }

    /// Stops: gateways bind no new clients, running turns end, what was not read goes to other slots, `on-worker-stop`
    /// runs. Bounded by `stop_wait`; what takes longer is ended.
    pub async fn stop(&mut self) {
        self.announce.send_modify(|announced| announced.leaving = true);
        self.slots.iter().for_each(|slot| slot.shared.inbox.push(SlotMsg::Stop));
        let until = tokio::time::Instant::now() + self.settings.stop_wait;
        for slot in &mut self.slots {
            let Some(mut task) = slot.task.take() else { continue };
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                tracing::warn!(app = %slot.app, "a slot did not stop in time: it is ended");
                task.abort();
            }
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("settings", &self.settings)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// Starts a slot on its shard and waits until its first instance is up, or did not start: then it is tried again later.
async fn start_slot(parts: SlotParts) -> (JoinHandle<()>, Result<(), WorkerError>) {
    let (app, slot, runtime) = (parts.edition.app.name.clone(), parts.slot, parts.runtime.clone());
    let (slow, budget) = (Arc::clone(&parts.slow), Arc::clone(&parts.edition.app.budget));
    let (up, is_up) = tokio::sync::oneshot::channel();
    let run = async move {
        let mut slot = Slot::new(parts);
        let _ = up.send(slot.start().await);
        slot.run().await;
    };
    let task = runtime.spawn(slow.movable_of(&budget, run));
    let started = is_up.await.unwrap_or(Err(SlotStartError::Busy));
    (task, started.map_err(|error| WorkerError::Slot { app, slot, error: Box::new(error) }))
}
