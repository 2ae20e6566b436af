//! A running worker, as its node sees it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tidegate_base::{AppName, GatewayId, KeyUsage, Label};
use tidegate_link::Link;
use tidegate_runtime::{CpuUse, Engine, PoolUse, SlowPool, TemplateError};
use tidegate_telemetry::Histogram;
use tidegate_wire::control::VersionTally;
use tidegate_wire::question::{LogFilter, LogPage};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::apps::{AddAppError, Apps, ConfigureAppError, Configured, Ending, Inner, Launch, Shard};
use crate::conductor::{Conductor, ModuleSource, Orders, Parts};
use crate::counters;
use crate::edition::Idle;
use crate::inbox::SlotMsg;
use crate::links::{self, ShardSlots};
use crate::places::Places;
use crate::settings::{WorkerApp, WorkerSettings};
use crate::slot::SlotStartError;
use crate::stored::StateRoom;

/// A running worker; a clone is a handle to the same. Dropping it does not stop it: call [`Worker::stop`].
#[derive(Clone)]
pub struct Worker {
    inner: Arc<Inner>,
}

/// How an app does on this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppStatus {
    /// The app.
    pub name: AppName,
    /// The version that its slots run; while a swap goes on, the newest of them. 0: that of the worker's own settings,
    /// or nothing yet.
    pub version: u32,
    /// Its slots here that have something to run: none before the first deployment.
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
    /// Slots that sleep, since nobody needs them.
    pub asleep: u32,
    /// Slots that woke up and wait for a place in the pool of plugin instances.
    pub without_place: u32,
    /// How long its turns took, without waiting for its CPU budget.
    pub turn_times: Histogram,
    /// How long events waited here for their turns.
    pub queue_times: Histogram,
    /// Linear memory of its instances, as of when their slots rested last.
    pub memory_bytes: usize,
    /// What its buckets of keys hold.
    pub keys: KeyUsage,
    /// What its turns have used of the processors, and how long they had to wait for them.
    pub cpu: CpuUse,
    /// It is over its share now: its turns wait.
    pub is_throttled: bool,
    /// Labels that the app requires and the worker does not have: it does not run here.
    pub missing_labels: Vec<Label>,
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
    /// Starts an instance in every slot that never sleeps, `on-worker-start` included; the others sleep, the slots of an app
    /// without a module stay empty, and an app that requires labels which the worker does not have is only listed in the status. Slot `n` of an app lives on shard `n` modulo their number; each is to be a current_thread runtime with a thread of its
    /// own.
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
        let shard = |runtime: &Handle| Shard { runtime: runtime.clone(), table: Arc::default() };
        let inner = Arc::new(Inner {
            states: StateRoom::new(settings.sleep_state_bytes_max),
            settings: Arc::new(settings),
            engine: engine.clone(),
            slow,
            shards: shards.iter().map(shard).collect(),
            news: Arc::new(watch::Sender::new(0)),
            apps: Mutex::default(),
            places: Places::new(engine.settings().instances),
            roster: Arc::default(),
            log_room: Arc::default(),
        });
        let (mut started, mut failed) = (0, Vec::new());
        for app in apps {
            for first in inner.launch_fixed(app)? {
                let has_started = first.start().await;
                started += usize::from(has_started.is_ok());
                failed.extend(has_started.err());
            }
        }
        // One app that does not start is no reason to keep others from it; if nothing starts, that is told at once.
        if started == 0
            && let Some(error) = failed.into_iter().next()
        {
            inner.apps.lock().slots().for_each(|slot| slot.shared.inbox.push(SlotMsg::Stop));
            return Err(error);
        }
        Ok(Self { inner })
    }

    /// Takes orders about versions from now on, on the current runtime, until the last clone of what it returns is gone.
    /// Call it once.
    pub fn conduct(&self, source: Arc<dyn ModuleSource>) -> Orders {
        Conductor::start(Parts {
            roster: Arc::clone(&self.inner.roster),
            engine: self.inner.engine.clone(),
            slow: Arc::clone(&self.inner.slow),
            settings: Arc::clone(&self.inner.settings),
            source,
        })
    }

    /// Adds an app while the worker runs, in the middle of deployments too, and waits until its first instances are up or
    /// could not start; what does not start is tried again as after a fault, and [`Worker::status`] tells. Without a
    /// module it waits for nothing: its slots stay empty until [`Orders`] give them a version, and gateways do not hear of
    /// them before that. What the register said of the app before it was here counts. Gateways learn of its slots on the
    /// links that are open.
    ///
    /// An app that is here already with these settings stays as it is, whatever version it runs. One that is being removed
    /// is waited for. Dropping the future changes nothing: the app is added.
    ///
    /// # Errors
    /// It cannot run here; nothing has changed then.
    pub async fn add_app(&self, app: WorkerApp) -> Result<(), AddAppError> {
        let first = loop {
            match self.inner.launch(&app)? {
                Launch::Here(first) => break first,
                Launch::Going(gone) => gone.wait().await,
            }
        };
        for first in first {
            // It is in the log, and in the status.
            let _ = first.start().await;
        }
        Ok(())
    }

    /// Takes an app away while the worker runs, in good order: gateways bind no new clients to its slots, running turns
    /// end, events that were not read go back to the gateways, `on-worker-stop` runs. Then its instances, its timers and
    /// what it kept are gone, and the place in the pool is free. Bounded by `stop_wait` and a second; what takes longer is
    /// ended. Other apps do not notice. Dropping the future changes nothing: the app goes.
    ///
    /// False: no such app was here. An app that goes already is waited for.
    pub async fn remove_app(&self, app: &AppName) -> bool {
        let gone = self.inner.begin_end(app, Ending::Removal);
        match gone {
            Some(gone) => {
                gone.wait().await;
                true
            }
            None => false,
        }
    }

    /// Gives an app other settings while it runs; the module and the version of `app` do not count.
    ///
    /// These hold at once, from each slot's next turn on: `slots`, `min_slots`, `slot_idle`, `turn_output_bytes_max`, `payload_bytes_max`,
    /// `session_bytes_max`, `timers_max` (what is there stays), `state_bytes_max`, `log_lines_per_s`, `on_failure`. Slots that
    /// come start what runs; those that go, the last ones, leave as in [`Worker::remove_app`], which is waited for. The
    /// number of slots that an instance was told as it started stays.
    ///
    /// A `budget` keeps whom it has: whoever made it changes its share, at once for all who share it.
    ///
    /// These hold with the next deployment: `limits`, which an instance is made with, and `settings`, which a plugin may
    /// have read when it started. True: some of them have changed.
    ///
    /// # Errors
    /// The app is not here, or does not fit; nothing has changed then.
    pub async fn configure_app(&self, app: &WorkerApp) -> Result<bool, ConfigureAppError> {
        let Configured { waits, gone } = self.inner.configure(app)?;
        if let Some(gone) = gone {
            gone.wait().await;
        }
        Ok(waits)
    }

    /// The labels that an app requires and this worker does not have. Empty: it may be added.
    pub fn missing_labels(&self, require: &[Label]) -> Vec<Label> {
        self.inner.settings.missing_labels(require)
    }

    /// How many shards it has.
    pub fn shards(&self) -> usize {
        self.inner.shards.len()
    }

    /// A link to a gateway, for the slots of one shard. One link per gateway and shard.
    pub fn add_link(&self, link: Link, shard: usize) {
        let inner = &self.inner;
        if let Some(Shard { runtime, table }) = inner.shards.get(shard % inner.shards.len().max(1)) {
            let slots = ShardSlots { table: Arc::clone(table), news: inner.news.subscribe() };
            runtime.spawn(links::serve(slots, link));
        }
    }

    /// The gateway is lost for good: its link is down and the cluster says that it is gone. Its clients' on-close runs.
    pub fn gateway_gone(&self, gateway: GatewayId) {
        self.inner.apps.lock().slots().for_each(|slot| slot.shared.inbox.push(SlotMsg::GatewayGone(gateway)));
    }

    /// Whether every slot runs, or waits for the first version of its app. False once it stops.
    pub fn is_ready(&self) -> bool {
        self.inner.apps.lock().is_ready()
    }

    /// The plugin instances of all apps here, and the room for them.
    pub fn pool(&self) -> PoolUse {
        self.inner.engine.pool()
    }

    /// How each app does; those that are being removed are left out.
    pub fn status(&self) -> Vec<AppStatus> {
        self.inner.apps.lock().status()
    }

    /// The last lines of an app's log here, in memory: what its plugin wrote into the worker's log, and what became of its
    /// instances. None: the app is not here.
    pub fn log(&self, of: &LogFilter) -> Option<LogPage> {
        let log = self.inner.apps.lock().log(&of.app)?;
        Some(log.page(of, of.after.of(&self.inner.settings.name)))
    }

    /// Stops: gateways bind no new clients, running turns end, what was not read goes to other slots, `on-worker-stop`
    /// runs. Bounded by `stop_wait`; what takes longer is ended. No app can be added from then on.
    pub async fn stop(&self) {
        let names = self.inner.apps.lock().begin_stop();
        let going: Vec<_> =
            names.iter().filter_map(|name| self.inner.begin_end(name, Ending::Stop)).collect();
        for gone in going {
            gone.wait().await;
        }
    }
}

impl AppStatus {
    /// Of an app that has done nothing.
    fn of(name: AppName) -> Self {
        Self {
            name,
            version: 0,
            slots: 0,
            restarts: 0,
            turns: 0,
            failed: 0,
            waiting: 0,
            suspended: 0,
            asleep: 0,
            without_place: 0,
            turn_times: Histogram::default(),
            queue_times: Histogram::default(),
            memory_bytes: 0,
            keys: KeyUsage::default(),
            cpu: CpuUse::default(),
            is_throttled: false,
            missing_labels: Vec::new(),
        }
    }
}

impl Apps {
    fn status(&self) -> Vec<AppStatus> {
        let of = |app: &crate::apps::RunningApp| {
            let mut status = AppStatus::of(app.settings.name.clone());
            status.cpu = app.settings.budget.usage();
            status.keys = app.keys.as_ref().map(|keys| keys.usage()).unwrap_or_default();
            status.is_throttled = app.settings.budget.wait_until(Instant::now()).is_some();
            for slot in &app.slots {
                let stats = &slot.shared.stats;
                let VersionTally { turns, errors, traps, overruns, .. } = stats.total();
                let current = slot.shared.current();
                status.version = status.version.max(current.map_or(0, |(version, _)| version));
                status.slots += u32::from(current.is_some());
                status.restarts += stats.restarts();
                status.turns += turns;
                status.failed += errors + traps + overruns;
                status.turn_times.merge(&stats.turn_times.get());
                status.queue_times.merge(&stats.queue_times.get());
                status.memory_bytes += stats.memory_bytes();
                let idle = stats.idle();
                status.waiting += u32::from(idle == Some(Idle::Waits));
                status.suspended += u32::from(idle == Some(Idle::Suspended));
                status.asleep += u32::from(idle == Some(Idle::Asleep));
                status.without_place += u32::from(idle == Some(Idle::NoPlace));
            }
            status
        };
        let elsewhere = self.elsewhere.iter().map(|(name, missing)| AppStatus {
            missing_labels: missing.clone(),
            ..AppStatus::of(name.clone())
        });
        self.running.iter().filter(|app| !app.is_being_removed()).map(of).chain(elsewhere).collect()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("settings", &self.inner.settings)
            .field("apps", &self.inner.apps)
            .finish_non_exhaustive()
    }
}
