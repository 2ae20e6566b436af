//! A node from its start to its end.
//!
//! ```text
//!  control thread                         shard threads, shared by gateway and worker
//!    register, announcements,               listeners, clients, links, lanes, slots
//!    directory, control socket, accept
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tidegate_admin::TlsError;
use tidegate_base::{NodeName, Role};
use tidegate_exporter::Exporter;
use tidegate_gateway::{Gateway, LaneLoad};
use tidegate_link::certs::{Identity, IdentityError};
use tidegate_link::{Endpoint, PathStats};
use tidegate_register::Register;
use tidegate_register::deployer::Deployer;
use tidegate_register::questions::Asker;
use tidegate_runtime::{Engine, PoolUse, SlowPool};
use tidegate_wire::control::{AppClients, NodeInfo};
use tidegate_wire::request::Refusal;
use tidegate_worker::Worker;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::accept::SharedGateway;
use crate::apps::Apps;
use crate::config::Config;
use crate::control::{ControlSocket, Host, Response};
use crate::data_dir::DataDir;
use crate::dial::{Dialer, SharedWorker};
use crate::endpoints::Endpoints;
use crate::error::NodeError;
use crate::membership::View;
use crate::outside::Outside;
use crate::shards::Shards;
use crate::start;
use crate::status::{
    Addresses, AppEntry, InstancesEntry, LanesEntry, NodeEntry, ProcessEntry, SlotsEntry, Status,
};

/// A running node: all roles in one process, or one role of a cluster. End it with [`Node::stop`]; dropping it ends it
/// without a word to its clients.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    /// On the control thread: announcements, the accept loop, the control socket.
    pub(crate) tasks: Vec<JoinHandle<()>>,
    /// Where other nodes dial this one.
    pub(crate) endpoint: Option<Endpoint>,
    /// From where this one dials registers.
    pub(crate) endpoints: Option<Endpoints>,
    pub(crate) shards: Shards,
    pub(crate) control: Shards,
    /// Held until the worker has stopped.
    pub(crate) plugins: Option<(Engine, Arc<SlowPool>)>,
    /// The HTTP API.
    pub(crate) outside: Option<Outside>,
    pub(crate) data_dir: DataDir,
    pub(crate) stop_wait: Duration,
    /// Tells those who watch it, until it is gone.
    pub(crate) exporter: Option<Exporter>,
    /// Its certificate, in a cluster.
    pub(crate) identity: Option<Identity>,
}

/// What the node's tasks and its owner look at.
pub(crate) struct Shared {
    pub name: NodeName,
    pub roles: Vec<Role>,
    pub all_in_one: bool,
    pub started: Instant,
    pub stopping: AtomicBool,
    pub addresses: Addresses,
    pub register: RwLock<Option<Register>>,
    pub gateway: SharedGateway,
    pub worker: SharedWorker,
    pub dialer: RwLock<Option<Arc<Dialer>>>,
    pub view: RwLock<Option<watch::Receiver<View>>>,
    /// The apps that are made at run time, for each role.
    pub apps: Vec<Arc<Apps>>,
}

impl Node {
    /// Starts: takes the data folder, builds and compiles plugins, starts threads and roles, listens. Within a tokio
    /// runtime, which the node does not use otherwise.
    ///
    /// # Errors
    /// The first thing that fails; what was started by then ends.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        start::start(config).await
    }

    /// What listens where.
    pub fn addresses(&self) -> &Addresses {
        &self.shared.addresses
    }

    /// Waits until the node does its part: an all-in-one until every app takes clients, a gateway until it has announced
    /// itself, a worker until it is linked to every gateway that is listed. At most so long; says whether it does.
    pub async fn wait_started(&self, at_most: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(5);
        let until = Instant::now() + at_most;
        while !self.shared.has_started() {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(STEP).await;
        }
        true
    }

    /// Whether every app takes clients here, and every gateway is linked to here. False once it stops.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// How the node does.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Who is in the cluster, as far as this node knows.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        self.shared.nodes()
    }

    /// Reads the files of its certificate again, for links to come. A node without one has nothing to read.
    ///
    /// # Errors
    /// They cannot be used; the certificate then stays as it was.
    pub fn reload_identity(&self) -> Result<(), IdentityError> {
        self.identity.as_ref().map_or(Ok(()), Identity::reload)
    }

    /// Reads the certificate of the HTTP API again, for connections to come. A node without one has nothing to read.
    ///
    /// # Errors
    /// The files cannot be used; the certificate then stays as it was.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.outside.as_ref().map_or(Ok(()), Outside::reload_tls)
    }

    /// Where versions of apps are deployed, if the register runs here.
    pub fn deployer(&self) -> Option<Arc<dyn Deployer>> {
        self.shared.register.read().as_ref().map(Register::deployer)
    }

    /// Looks at the gateway that runs here, if one does.
    pub fn with_gateway<T>(&self, look: impl FnOnce(&Gateway) -> T) -> Option<T> {
        self.shared.gateway.read().as_ref().map(look)
    }

    /// Looks at the worker that runs here, if one does.
    pub fn with_worker<T>(&self, look: impl FnOnce(&Worker) -> T) -> Option<T> {
        self.shared.worker.read().as_ref().map(look)
    }

    /// Stops: leaves the cluster's list, tells clients, finishes turns, closes links, ends threads. Bounded by
    /// `stop_wait` and the times of the roles; what takes longer is cut.
    pub async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.tasks.drain(..).for_each(|task| task.abort());
        let until = tokio::time::Instant::now() + self.stop_wait;
        let outside = self.outside.take();
        if let Some(outside) = &outside {
            // First, while there is somebody who answers; the rest of the time is the clients'.
            outside.stop(self.stop_wait / 2).await;
        }
        // The gateway first: its clients' last events are for the worker.
        let gateway = self.shared.gateway.write().take();
        if let Some(mut gateway) = gateway
            && tokio::time::timeout_at(until, gateway.stop()).await.is_err()
        {
            tracing::warn!("clients were cut: they did not close in time");
            gateway.abort();
        }
        let worker = self.shared.worker.write().take();
        if let Some(worker) = worker
            && tokio::time::timeout_at(until, worker.stop()).await.is_err()
        {
            tracing::warn!("turns were cut: they did not end in time");
        }
        self.close_links().await;
        drop(self.shared.register.write().take());
        let Self { shards, control, plugins, data_dir, exporter, .. } = self;
        if let Some(exporter) = exporter {
            // Until here it has told that the node stops.
            exporter.stop(until.saturating_duration_since(tokio::time::Instant::now())).await;
        }
        // Waiting for threads blocks. The folder is let go last.
        let join = move || {
            shards.join();
            control.join();
            if let Some(outside) = outside {
                outside.join();
            }
            drop(plugins);
            drop(data_dir);
        };
        if tokio::task::spawn_blocking(join).await.is_err() {
            tracing::error!("a thread of the node could not be joined");
        }
    }

    async fn close_links(&self) {
        let dialer = self.shared.dialer.write().take();
        let dialer = async {
            if let Some(dialer) = dialer {
                dialer.stop().await;
            }
        };
        let own = async {
            if let Some(endpoint) = &self.endpoint {
                endpoint.close().await;
            }
        };
        let to_registers = async {
            if let Some(endpoints) = &self.endpoints {
                endpoints.close().await;
            }
        };
        tokio::join!(dialer, own, to_registers);
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.shared.name)
            .field("roles", &self.shared.roles)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn has_started(&self) -> bool {
        self.why_not_started().is_none()
    }

    fn is_ready(&self) -> bool {
        self.why_not_ready().is_none()
    }

    /// Why it has not started yet; None: it has.
    pub(crate) fn why_not_started(&self) -> Option<String> {
        // Who joins hears of every app before it is ready.
        if !self.apps.iter().all(|apps| apps.has_applied()) {
            return Some("it has not heard yet which apps there are".to_owned());
        }
        if self.all_in_one {
            return self.why_not_ready();
        }
        if self.view.read().as_ref().is_some_and(|view| !view.borrow().register_lives) {
            return Some("no register has admitted it yet".to_owned());
        }
        self.why_not_linked()
    }

    /// Why it does not do what it is there for; None: it does.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Some("it is stopping".to_owned());
        }
        if self.gateway.read().as_ref().is_some_and(|gateway| !gateway.is_ready()) {
            return Some("an app has no slot that takes clients".to_owned());
        }
        if self.worker.read().as_ref().is_some_and(|worker| !worker.is_ready()) {
            return Some("a slot does not run".to_owned());
        }
        self.why_not_linked()
    }

    fn why_not_linked(&self) -> Option<String> {
        let is_linked = self.links_are_up();
        (!is_linked).then(|| "it is not linked to every gateway that is listed".to_owned())
    }

    fn links_are_up(&self) -> bool {
        self.dialer.read().as_ref().is_none_or(|dialer| dialer.all_linked())
    }

    pub(crate) fn nodes(&self) -> Vec<NodeEntry> {
        if let Some(register) = self.register.read().as_ref() {
            return register.nodes().iter().map(NodeEntry::from).collect();
        }
        let view = self.view.read();
        view.as_ref().map(|view| entries(&view.borrow().nodes)).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Status {
        let counters = tidegate_telemetry::all().into_iter();
        Status {
            node: self.name.to_string(),
            roles: self.roles.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            ready: self.is_ready(),
            addresses: self.addresses.clone(),
            apps: self.apps(),
            instances: self.worker.read().as_ref().map(|worker| {
                let PoolUse { instances, instances_max, kept_bytes } = worker.pool();
                InstancesEntry { count: instances, max: instances_max, kept_bytes }
            }),
            process: ProcessEntry::now(),
            counters: counters.map(|counter| (counter.name().to_owned(), counter.get())).collect(),
        }
    }

    /// What the network does to its links.
    pub(crate) fn paths(&self) -> Vec<PathStats> {
        tidegate_link::paths_of(&self.name)
    }

    fn apps(&self) -> Vec<AppEntry> {
        let mut apps: BTreeMap<String, AppEntry> = BTreeMap::new();
        let entry = |name: &str| AppEntry { name: name.to_owned(), ..AppEntry::default() };
        if let Some(gateway) = self.gateway.read().as_ref() {
            for (name, clients) in gateway.clients() {
                let app = apps.entry(name.to_string()).or_insert_with(|| entry(name.as_str()));
                app.clients = Some(clients);
                app.clients_per_slot = gateway.load(&name);
            }
            for (name, load) in gateway.lanes() {
                let LaneLoad { open, without_credit, events_under_way, clients_paused } = load;
                if let Some(app) = apps.get_mut(name.as_str()) {
                    let lanes = app.lanes.get_or_insert_default();
                    *lanes = LanesEntry { open, without_credit, events_under_way, clients_paused, ..*lanes };
                }
            }
            for AppClients { app, events, lost, .. } in gateway.census() {
                if let Some(app) = apps.get_mut(app.as_str()) {
                    let lanes = app.lanes.get_or_insert_default();
                    (lanes.events, lanes.events_lost) = (events, lost);
                }
            }
        }
        if let Some(worker) = self.worker.read().as_ref() {
            for status in worker.status() {
                let app = apps.entry(status.name.to_string()).or_insert_with(|| entry(status.name.as_str()));
                app.missing_labels = status.missing_labels.iter().map(ToString::to_string).collect();
                if !app.missing_labels.is_empty() {
                    continue;
                }
                app.slots = Some(SlotsEntry {
                    version: status.version,
                    count: status.slots,
                    restarts: status.restarts,
                    turns: status.turns,
                    failed: status.failed,
                    waiting: status.waiting,
                    suspended: status.suspended,
                    asleep: status.asleep,
                    without_place: status.without_place,
                    cpu_ms: millis(status.cpu.used),
                    throttled_ms: millis(status.cpu.throttled),
                    throttled: status.is_throttled,
                    memory_bytes: status.memory_bytes,
                    keys: status.keys.keys,
                    key_bytes: status.keys.bytes,
                    turn_times: status.turn_times,
                    queue_times: status.queue_times,
                });
            }
        }
        apps.into_values().collect()
    }

    /// The register, if it runs here.
    pub(crate) fn of_register<T>(&self, take: impl FnOnce(&Register) -> T) -> Result<T, Refusal> {
        if let Some(register) = self.register.read().as_ref() {
            return Ok(take(register));
        }
        let reason = if self.roles.contains(&Role::Register) {
            "this node's register is starting or stopping: ask again when it runs".to_owned()
        } else {
            let roles: Vec<_> = self.roles.iter().map(ToString::to_string).collect();
            format!(
                "this node is a {}, and a cluster's register deploys and knows all nodes: ask it with --register IP:PORT and --identity \
                 FOLDER, the certificate of an operator",
                roles.join(" and a ")
            )
        };
        Err(Refusal::Unavailable { reason })
    }
}

/// What the control socket asks. Weak: its task must not keep a dropped node's roles.
struct Questions(Weak<Shared>);

impl Host for Questions {
    fn nodes(&self) -> Response {
        self.0.upgrade().map_or_else(stopping, |shared| Response::Nodes(shared.nodes()))
    }

    fn status(&self) -> Response {
        self.0.upgrade().map_or_else(stopping, |shared| Response::Status(Box::new(shared.status())))
    }

    fn deployer(&self) -> Result<Arc<dyn Deployer>, Refusal> {
        let gone = || Refusal::Unavailable { reason: STOPPING.to_owned() };
        self.0.upgrade().ok_or_else(gone)?.of_register(Register::deployer)
    }

    fn asker(&self) -> Result<Asker, Refusal> {
        let gone = || Refusal::Unavailable { reason: STOPPING.to_owned() };
        self.0.upgrade().ok_or_else(gone)?.of_register(Register::asker)
    }
}

fn stopping() -> Response {
    Response::Error(STOPPING.to_owned())
}

const STOPPING: &str = "the node is stopping";

/// Opens the control socket on the control thread.
pub(crate) fn open_control(
    shared: &Arc<Shared>,
    data_dir: &DataDir,
    control: &Handle,
) -> Result<JoinHandle<()>, NodeError> {
    let folder = data_dir.path();
    let _on_its_runtime = control.enter();
    let socket = ControlSocket::bind(folder)
        .map_err(|error| NodeError::Control { folder: folder.to_owned(), error })?;
    Ok(control.spawn(socket.serve(Questions(Arc::downgrade(shared)))))
}

fn entries(nodes: &[NodeInfo]) -> Vec<NodeEntry> {
    nodes.iter().map(NodeEntry::from).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
