//! The worker role: it runs plugins. It holds no client socket; one tenant's plugin cannot see, starve or crash
//! another's.
//!
//! ```text
//!   lanes -> intake -> slot: one turn at a time -> outbox -> lanes
//!                        |  ^
//!                        v  | host functions
//!                      plugin instance (runtime)
//! ```

mod counters;
mod host;
mod inbox;
mod intake;
mod lane;
mod links;
mod offers;
mod outbox;
mod query;
mod settings;
mod slot;
mod timers;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_base::{AppName, GatewayId};
use tidegate_link::Link;
use tidegate_runtime::{Engine, SlowPool, Template, TemplateError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::inbox::{Inbox, SlotMsg};
pub use self::links::is_stopped;
use self::links::{ShardSlots, SlotEntry};
pub use self::settings::{WorkerApp, WorkerSettings};
pub use self::slot::SlotStartError;
use self::slot::{Slot, SlotParts, SlotStats};

/// A running worker. Dropping it does not stop it: call [`Worker::stop`].
#[derive(Debug)]
pub struct Worker {
    settings: Arc<WorkerSettings>,
    shards: Vec<(Handle, ShardSlots)>,
    leaving: watch::Sender<bool>,
    slots: Vec<RunningSlot>,
}

#[derive(Debug)]
struct RunningSlot {
    app: Arc<WorkerApp>,
    inbox: Arc<Inbox>,
    stats: Arc<SlotStats>,
    task: Option<JoinHandle<()>>,
}

/// How an app does on this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
    /// The app.
    pub name: AppName,
    /// Its version.
    pub version: u32,
    /// Its slots here.
    pub slots: u32,
    /// Instances started anew after a fault.
    pub restarts: u64,
    /// Turns run.
    pub turns: u64,
    /// Turns that failed, faults included.
    pub failed: u64,
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

impl Worker {
    /// Starts an instance in every slot, `on-worker-start` included. Slot `n` of an app lives on shard `n` modulo their
    /// number; each is to be a current_thread runtime with a thread of its own.
    ///
    /// # Errors
    /// A plugin does not fit, there is no room for its instances, or its `on-worker-start` fails.
    pub async fn start(
        settings: WorkerSettings,
        engine: &Engine,
        slow: Arc<SlowPool>,
        shards: &[Handle],
    ) -> Result<Self, WorkerError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        if shards.is_empty() {
            return Err(WorkerError::NoShards);
        }
        let settings = Arc::new(settings);
        let mut entries: Vec<Vec<SlotEntry>> = shards.iter().map(|_| Vec::new()).collect();
        let mut slots = Vec::new();
        for app in &settings.apps {
            let app = Arc::new(app.clone());
            let template = Template::new(engine, &app.module)
                .map_err(|error| WorkerError::Template { app: app.name.clone(), error })?;
            let template = Arc::new(template);
            for slot in 0..app.slots {
                let at = slot as usize % shards.len();
                let (Some(runtime), Some(entries)) = (shards.get(at), entries.get_mut(at)) else { continue };
                let inbox = Arc::new(Inbox::default());
                let stats = Arc::new(SlotStats::default());
                let parts = SlotParts {
                    app: app.clone(),
                    slot,
                    template: template.clone(),
                    inbox: inbox.clone(),
                    settings: settings.clone(),
                    runtime: runtime.clone(),
                    stats: stats.clone(),
                };
                let task = start_slot(parts, &slow).await?;
                entries.push(SlotEntry { app: app.clone(), slot, inbox: inbox.clone() });
                slots.push(RunningSlot { app: app.clone(), inbox, stats, task: Some(task) });
            }
        }
        let (leaving, is_leaving) = watch::channel(false);
        let with_slots = |(handle, slots): (&Handle, Vec<SlotEntry>)| {
            (handle.clone(), ShardSlots { slots: slots.into(), leaving: is_leaving.clone() })
        };
        let shards = shards.iter().zip(entries).map(with_slots).collect();
        Ok(Self { settings, shards, leaving, slots })
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
        self.slots.iter().for_each(|slot| slot.inbox.push(SlotMsg::GatewayGone(gateway)));
    }

    /// Whether every slot runs.
    pub fn is_ready(&self) -> bool {
        self.slots.iter().all(|slot| slot.task.as_ref().is_some_and(|task| !task.is_finished()))
    }

    /// How each app does.
    pub fn status(&self) -> Vec<AppStatus> {
        let mut apps: Vec<AppStatus> = Vec::new();
        for slot in &self.slots {
            if apps.last().is_none_or(|a| a.name != slot.app.name) {
                let (name, version) = (slot.app.name.clone(), slot.app.version);
                apps.push(AppStatus { name, version, slots: 0, restarts: 0, turns: 0, failed: 0 });
            }
            if let Some(app) = apps.last_mut() {
                app.slots += 1;
                app.restarts += slot.stats.restarts.load(Ordering::Relaxed);
                app.turns += slot.stats.turns.load(Ordering::Relaxed);
                app.failed += slot.stats.failed.load(Ordering::Relaxed);
            }
        }
        apps
    }

    /// Stops: gateways bind no new clients, running turns end, what was not read goes to other slots, `on-worker-stop`
    /// runs. Bounded by `stop_wait`; what takes longer is ended.
    pub async fn stop(&mut self) {
        self.leaving.send_replace(true);
        self.slots.iter().for_each(|slot| slot.inbox.push(SlotMsg::Stop));
        let until = tokio::time::Instant::now() + self.settings.stop_wait;
        for slot in &mut self.slots {
            let Some(mut task) = slot.task.take() else { continue };
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                tracing::warn!(app = %slot.app.name, "a slot did not stop in time: it is ended");
                task.abort();
            }
        }
    }
}

/// Starts a slot on its shard and waits until its first instance is up.
async fn start_slot(parts: SlotParts, slow: &SlowPool) -> Result<JoinHandle<()>, WorkerError> {
    let (app, slot, runtime) = (parts.app.name.clone(), parts.slot, parts.runtime.clone());
    let (up, is_up) = tokio::sync::oneshot::channel();
    let run = async move {
        match Slot::start(parts).await {
            Ok(slot) => {
                let _ = up.send(Ok(()));
                slot.run().await;
            }
            Err(error) => {
                let _ = up.send(Err(error));
            }
        }
    };
    let task = runtime.spawn(slow.movable(run));
    match is_up.await {
        Ok(Ok(())) => Ok(task),
        Ok(Err(error)) => Err(WorkerError::Slot { app, slot, error: Box::new(error) }),
        Err(_) => Err(WorkerError::Slot { app, slot, error: Box::new(SlotStartError::Busy) }),
    }
}
