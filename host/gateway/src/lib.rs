//! The gateway role: it holds client connections and moves bytes between them and slots. It runs no business logic,
//! and no connection ends because a worker or a plugin did.
//!
//! ```text
//!  listeners -> shard: sockets, codec, heartbeat          one thread each
//!                 |  events              ^ commands
//!                 v                      |
//!               lanes (links) <-> slots on workers
//!                 app: hub (who is there), router (which slot)
//! ```

mod app;
mod connections;
mod counters;
mod hub;
mod limits;
mod links;
mod listen;
mod pace;
pub mod protocol;
mod registry;
mod router;
pub mod routes;
pub mod settings;
mod shard;
mod web;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use tidegate_base::{AppName, GatewayId, Protocol};
use tidegate_link::Link;
use tidegate_wire::control::AppClients;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use self::app::App;
pub use self::connections::Lookout;
use self::links::{LinkContext, OpenLinks};
pub use self::registry::AppError;
use self::registry::{Added, Registry};
use self::settings::{AppLimits, AppSettings, AppState, GatewaySettings, SharedSettings};
use self::shard::inbox::{Inbox, ShardMsg};
use self::shard::{Serves, Shard, ShardParts};

/// A running gateway. Dropping it does not stop it: call [`Gateway::stop`].
#[derive(Debug)]
pub struct Gateway {
    context: LinkContext,
    shards: Vec<Handle>,
    tasks: Vec<JoinHandle<()>>,
    aborts: Vec<AbortHandle>,
    bound: Mutex<Vec<Bound>>,
    /// Held while apps are changed: one change at a time.
    changes: Mutex<()>,
}

/// Where an app's clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The app; none: every app that has a route.
    pub app: Option<AppName>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address, with the port that was really taken.
    pub address: SocketAddr,
    /// Whether it also answers requests for files of that app.
    pub web: bool,
}

/// How the lanes of an app to its slots do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneLoad {
    /// Lanes that are open.
    pub open: usize,
    /// Those of them that have no credit for one more event: their slots do not keep up.
    pub without_credit: usize,
    /// Events that were sent and whose turns have not ended.
    pub events_under_way: usize,
    /// Clients whose sockets are not read until there is credit.
    pub clients_paused: usize,
}

/// A gateway that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// One of its apps cannot be served.
    #[error(transparent)]
    App(#[from] AppError),
    /// An address that apps share cannot be listened on.
    #[error("cannot listen on {address}, which apps share: {error}; is something else running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A protocol in which clients do not say what they want.
    #[error(
        "apps cannot share {address} by {}: its clients name neither host nor path; share it by WebSocket",
        protocol.as_str()
    )]
    NotShared {
        /// The address.
        address: SocketAddr,
        /// What is to be spoken there.
        protocol: Protocol,
    },
    /// A shard cannot be set up.
    #[error("cannot set up a shard: {0}")]
    Shard(#[from] io::Error),
    /// No thread to run on.
    #[error("a gateway needs at least one shard")]
    NoShards,
}

impl Gateway {
    /// Listens on every address of every app and on the shared ones, and serves on these runtimes, one shard each; each is to be a
    /// current_thread runtime with a thread of its own.
    ///
    /// # Errors
    /// An address is taken, a shared one is not for WebSocket, two apps have the same route, or the system is out of descriptors.
    pub fn start(settings: GatewaySettings, shards: &[Handle]) -> Result<Self, GatewayError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        if shards.is_empty() {
            return Err(GatewayError::NoShards);
        }
        let registry = Arc::new(Registry::new(settings.id, shards.len()));
        let shared = listen::listen_shared(&settings.listeners, shards.len())?;
        let mut bound = shared.bound;
        let serves = |serves: Serves| move |(settings, socket)| (serves.clone(), settings, socket);
        let mut sockets: Vec<Vec<_>> = shared
            .sockets
            .into_iter()
            .map(|of| of.into_iter().map(serves(Serves::Routes)).collect())
            .collect();
        for app in &settings.apps {
            let listening = listen::listen(app, shards.len())?;
            let (Added::New(added) | Added::Changed(added, _)) = registry.add(app, true)?;
            bound.extend(listening.bound);
            for (all, of_app) in sockets.iter_mut().zip(listening.sockets) {
                all.extend(of_app.into_iter().map(serves(Serves::App(added.clone()))));
            }
        }
        let inboxes: Vec<_> = shards.iter().map(|_| Arc::new(Inbox::default())).collect();
        let open = OpenLinks::default();
        let context = LinkContext { gateway: settings.id, registry, inboxes: inboxes.into(), open };
        let serving = Arc::new(AtomicUsize::new(shards.len()));
        let clock = pace::Clock::start();
        let mut tasks = Vec::new();
        for ((index, handle), sockets) in shards.iter().enumerate().zip(sockets) {
            let parts = ShardParts {
                index,
                gateway: settings.id,
                registry: context.registry.clone(),
                inboxes: context.inboxes.clone(),
                sockets,
                unrouted_max: settings.unrouted_max / shards.len(),
                io_uring: settings.io_uring,
                times: settings.times,
                serving: serving.clone(),
                clock,
            };
            let _on_its_runtime = handle.enter();
            tasks.push(handle.spawn(Shard::new(parts)?.run()));
        }
        let (bound, changes) = (Mutex::new(bound), Mutex::default());
        Ok(Self { context, shards: shards.to_vec(), tasks, aborts: Vec::new(), bound, changes })
    }

    /// Its id in this life.
    pub fn id(&self) -> GatewayId {
        self.context.gateway
    }

    /// What listens where.
    pub fn bound(&self) -> Vec<Bound> {
        self.bound.lock().clone()
    }

    /// Adds an app while the gateway runs: it listens on its ports, its routes hold, and its clients get the slots that
    /// workers have announced. An app that is there already gets this state, these limits and these routes.
    ///
    /// # Errors
    /// Nothing is changed: an address is taken, a route is another app's, an app that is there has other ports or another
    /// folder, or there are [`APPS_MAX`](settings::APPS_MAX) apps.
    pub fn add_app(&self, settings: &AppSettings) -> Result<(), AppError> {
        let _alone = self.changes.lock();
        if self.context.registry.knows(settings)? {
            if let Added::Changed(app, epoch) = self.context.registry.add(settings, false)? {
                self.life_changed(&app, epoch);
            }
            return Ok(());
        }
        let listening = listen::listen(settings, self.shards.len())?;
        let (Added::New(app) | Added::Changed(app, _)) = self.context.registry.add(settings, false)?;
        self.bound.lock().extend(listening.bound);
        for (inbox, sockets) in self.context.inboxes.iter().zip(listening.sockets) {
            if !sockets.is_empty() {
                inbox.push(ShardMsg::Listen(app.clone(), sockets));
            }
        }
        tracing::info!(app = %app.name, "an app was added");
        Ok(())
    }

    /// Removes an app: it listens nowhere, has no route, and its name is free at once. Its clients are closed (1013 for
    /// WebSocket), their on-close events have [`Times::app_end`](settings::Times::app_end) to be done, and then its
    /// lanes are closed and everything about it is forgotten. False: there is no such app.
    pub fn remove_app(&self, app: &AppName) -> bool {
        let _alone = self.changes.lock();
        let Some((app, epoch)) = self.context.registry.remove(app) else { return false };
        self.bound.lock().retain(|bound| bound.app.as_ref() != Some(&app.name));
        self.life_changed(&app, Some(epoch));
        true
    }

    /// Takes clients of an app, or takes none: then those that are there are closed as those of a removed app are, and
    /// others are refused, by HTTP status 503 if they speak WebSocket. Its ports and routes stay.
    ///
    /// # Errors
    /// There is no such app.
    pub fn set_app_state(&self, app: &AppName, state: AppState) -> Result<(), AppError> {
        let _alone = self.changes.lock();
        let (app, epoch) = self.context.registry.set_state(app, state)?;
        self.life_changed(&app, epoch);
        Ok(())
    }

    /// Gives an app other limits and other routes. Clients that are there stay, also those beyond a lower limit or of a
    /// route that is gone; a heartbeat that was off begins with the next connections.
    ///
    /// # Errors
    /// Nothing is changed: there is no such app, or a route is another app's.
    pub fn configure_app(
        &self,
        app: &AppName,
        limits: &AppLimits,
        shared: &SharedSettings,
    ) -> Result<(), AppError> {
        let _alone = self.changes.lock();
        self.context.registry.configure(app, limits, shared)?;
        Ok(())
    }

    /// The names of its apps, in order.
    pub fn apps(&self) -> Vec<AppName> {
        self.context.registry.all().iter().map(|app| app.name.clone()).collect()
    }

    /// Serves a link to a worker until it ends. Its lanes live on shard `home` (modulo their number).
    pub fn add_link(&self, link: Link, home: usize) {
        let home = home % self.shards.len().max(1);
        if let Some(shard) = self.shards.get(home) {
            shard.spawn(links::serve(self.context.clone(), link, home));
        }
    }

    /// Serves a link to a pusher until it ends: whoever is at its other end gives commands to every app's clients, so the
    /// caller has checked that it may. Its lanes live on shard `home` (modulo their number).
    pub fn add_pusher(&self, link: Link, home: usize) {
        let home = home % self.shards.len().max(1);
        if let Some(shard) = self.shards.get(home) {
            shard.spawn(links::serve_pusher(self.context.clone(), link, home));
        }
    }

    /// Whether every active app that it was started with has a slot that takes clients.
    pub fn is_ready(&self) -> bool {
        self.context.registry.awaited().iter().all(|app| app.is_up())
    }

    /// How many clients each app has.
    pub fn clients(&self) -> Vec<(AppName, usize)> {
        self.context.registry.all().iter().map(|app| (app.name.clone(), app.hub.lock().len())).collect()
    }

    /// What each app's clients did since the gateway started.
    pub fn census(&self) -> Vec<AppClients> {
        self.context.registry.all().iter().map(|app| app.census()).collect()
    }

    /// Somebody who looks at its connections, also after it has stopped.
    pub fn lookout(&self) -> Lookout {
        Lookout { context: self.context.clone() }
    }

    /// How many clients each slot of an app has, by link and slot.
    pub fn load(&self, app: &AppName) -> Vec<usize> {
        let app = self.context.registry.get(app);
        app.map(|a| a.load().into_iter().map(|(_, clients)| clients).collect()).unwrap_or_default()
    }

    /// How each app's lanes do, in the order of [`Gateway::clients`] unless apps come or go meanwhile.
    pub fn lanes(&self) -> Vec<(AppName, LaneLoad)> {
        self.context.registry.all().iter().map(|app| (app.name.clone(), app.lane_load())).collect()
    }

    /// Checks what must always hold of every hub.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.context.registry.all().iter().try_for_each(|app| app.hub.lock().check_invariants())
    }

    /// Stops: no new clients, the ones that are there are told and closed, their on-close events are done; then the links
    /// are closed with a code by which workers know that nothing of this gateway is to be waited for. Bounded by
    /// the caller; dropping the future leaves the rest as it is, and [`Gateway::abort`] ends it.
    pub async fn stop(&mut self) {
        self.begin_stop().await;
    }

    /// Begins to stop. What it returns is ready when [`Gateway::stop`] would be.
    pub fn begin_stop(&mut self) -> impl Future<Output = ()> + Send + use<> {
        self.context.inboxes.iter().for_each(|inbox| inbox.push(ShardMsg::Stop));
        let tasks = std::mem::take(&mut self.tasks);
        self.aborts.extend(tasks.iter().map(JoinHandle::abort_handle));
        let open = self.context.open.clone();
        async move {
            // Who stops it once more does not know whether the first stop is over.
            let mut in_order = !tasks.is_empty();
            for task in tasks {
                // A shard that panicked has stopped too, but not its clients in good order.
                in_order &= task.await.is_ok();
            }
            if in_order {
                open.say_stopped();
            }
        }
    }

    /// Ends at once what [`Gateway::stop`] did not.
    pub fn abort(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.aborts.iter().for_each(AbortHandle::abort);
    }

    /// Tells the shards of an app that takes no clients any more.
    fn life_changed(&self, app: &Arc<App>, epoch: Option<u16>) {
        let Some(epoch) = epoch else { return };
        let life = app.life();
        tracing::info!(app = %app.name, ?life, "an app has changed");
        if app.refuses().is_some() {
            let inboxes = self.context.inboxes.iter();
            inboxes.for_each(|inbox| inbox.push(ShardMsg::AppEnds(app.clone(), epoch)));
        }
    }
}
