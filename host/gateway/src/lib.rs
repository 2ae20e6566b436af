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
mod counters;
mod hub;
mod links;
mod pace;
pub mod protocol;
mod router;
pub mod settings;
mod shard;
mod web;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tidegate_base::{AppName, GatewayId};
use tidegate_link::Link;
use tidegate_wire::control::AppClients;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use self::app::App;
use self::links::{LinkContext, OpenLinks};
use self::settings::{AppSettings, GatewaySettings};
use self::shard::inbox::{Inbox, ShardMsg};
use self::shard::{Shard, ShardParts};

/// A running gateway. Dropping it does not stop it: call [`Gateway::stop`].
#[derive(Debug)]
pub struct Gateway {
    context: LinkContext,
    shards: Vec<Handle>,
    tasks: Vec<JoinHandle<()>>,
    aborts: Vec<AbortHandle>,
    bound: Vec<Bound>,
}

/// Where an app's clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The app.
    pub app: AppName,
    /// What is spoken there.
    pub protocol: tidegate_base::Protocol,
    /// The address, with the port that was really taken.
    pub address: SocketAddr,
    /// Whether it also answers requests for files.
    pub web: bool,
}

/// A gateway that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address cannot be listened on.
    #[error("app {app} cannot listen on {address}: {error}; is something else running there?")]
    Listen {
        /// The app.
        app: AppName,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A shard cannot be set up.
    #[error("cannot set up a shard: {0}")]
    Shard(#[from] io::Error),
    /// No thread to run on.
    #[error("a gateway needs at least one shard")]
    NoShards,
}

impl Gateway {
    /// Listens on every address of every app and serves on these runtimes, one shard each; each is to be a
    /// current_thread runtime with a thread of its own.
    ///
    /// # Errors
    /// An address is taken, or the system is out of descriptors.
    pub fn start(settings: GatewaySettings, shards: &[Handle]) -> Result<Self, GatewayError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        if shards.is_empty() {
            return Err(GatewayError::NoShards);
        }
        let (mut sockets, bound) = listen(&settings.apps, shards.len())?;
        let apps: Vec<_> =
            settings.apps.into_iter().map(|app| Arc::new(App::new(settings.id, app, shards.len()))).collect();
        let inboxes: Vec<_> = shards.iter().map(|_| Arc::new(Inbox::default())).collect();
        let open = OpenLinks::default();
        let context = LinkContext { gateway: settings.id, apps: apps.into(), inboxes: inboxes.into(), open };
        let serving = Arc::new(AtomicUsize::new(shards.len()));
        let clock = pace::Clock::start();
        let mut tasks = Vec::new();
        for (index, handle) in shards.iter().enumerate() {
            let parts = ShardParts {
                index,
                gateway: settings.id,
                apps: context.apps.clone(),
                inboxes: context.inboxes.clone(),
                sockets: sockets.pop().unwrap_or_default(),
                web: context.apps.iter().map(|a| a.settings.web.clone().map(web::Web::new)).collect(),
                times: settings.times,
                serving: serving.clone(),
                clock,
            };
            let _on_its_runtime = handle.enter();
            tasks.push(handle.spawn(Shard::new(parts)?.run()));
        }
        Ok(Self { context, shards: shards.to_vec(), tasks, aborts: Vec::new(), bound })
    }

    /// Its id in this life.
    pub fn id(&self) -> GatewayId {
        self.context.gateway
    }

    /// What listens where.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Serves a link to a worker until it ends. Its lanes live on shard `home` (modulo their number).
    pub fn add_link(&self, link: Link, home: usize) {
        let home = home % self.shards.len().max(1);
        if let Some(shard) = self.shards.get(home) {
            shard.spawn(links::serve(self.context.clone(), link, home));
        }
    }

    /// Whether every app has a slot that takes clients.
    pub fn is_ready(&self) -> bool {
        self.context.apps.iter().all(|app| !app.load().is_empty())
    }

    /// How many clients each app has.
    pub fn clients(&self) -> Vec<(AppName, usize)> {
        self.context.apps.iter().map(|app| (app.settings.name.clone(), app.hub.lock().len())).collect()
    }

    /// What each app's clients did since the gateway started.
    pub fn census(&self) -> Vec<AppClients> {
        self.context.apps.iter().map(|app| app.census()).collect()
    }

    /// How many clients each slot of an app has, by link and slot.
    pub fn load(&self, app: &AppName) -> Vec<usize> {
        let app = self.context.apps.iter().find(|a| a.settings.name == *app);
        app.map(|a| a.load().into_iter().map(|(_, clients)| clients).collect()).unwrap_or_default()
    }

    /// Checks what must always hold of every hub.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.context.apps.iter().try_for_each(|app| app.hub.lock().check_invariants())
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
}

type Sockets = Vec<Vec<(usize, usize, TcpListener)>>;

/// One socket per shard and address: the kernel spreads the clients.
fn listen(apps: &[AppSettings], shards: usize) -> Result<(Sockets, Vec<Bound>), GatewayError> {
    let mut sockets: Sockets = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for (app, settings) in apps.iter().enumerate() {
        for (number, listener) in settings.listeners.iter().enumerate() {
            let mut address = listener.address;
            for of_shard in &mut sockets {
                let socket = bind(address).map_err(|error| GatewayError::Listen {
                    app: settings.name.clone(),
                    address: listener.address,
                    error,
                })?;
                address = socket.local_addr()?;
                of_shard.push((app, number, socket));
            }
            bound.push(Bound {
                app: settings.name.clone(),
                protocol: listener.protocol,
                address,
                web: settings.web.is_some() && listener.protocol == tidegate_base::Protocol::Ws,
            });
        }
    }
    Ok((sockets, bound))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    const BACKLOG: i32 = 4096;
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
