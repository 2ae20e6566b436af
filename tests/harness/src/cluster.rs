use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tidegate_base::{AppName, Digest, GatewayId, NodeName, Protocol, Role};
use tidegate_gateway::Gateway;
use tidegate_gateway::settings::{
    AppLimits, AppSettings, GatewaySettings, Heartbeat, ListenerSettings, Origins, Times,
};
use tidegate_link::certs::{Authority, Identity};
use tidegate_link::{Endpoint, Link, LinkSettings, Peer, memory_pair};
use tidegate_runtime::{Compiler, Engine, EngineSettings, Module, Modules, SlowPool, SlowPoolSettings};
use tidegate_wire::control::{RolloutReport, VersionRef};
use tidegate_worker::{Worker, WorkerApp, WorkerSettings};

use crate::swap::Shelf;
use crate::{Client, Shards, Swapper, eventually};

/// How gateways and workers are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// In memory, as in one process.
    Memory,
    /// QUIC over loopback, with certificates of one CA.
    Quic,
}

/// Settings of a cluster.
pub struct ClusterBuilder {
    gateways: usize,
    workers: usize,
    shards: usize,
    slots: u32,
    link: LinkKind,
    plugin: String,
    protocols: Vec<Protocol>,
    heartbeats: Vec<Option<Heartbeat>>,
    origins: Origins,
    apps: Vec<AppName>,
    later: Vec<AppName>,
    change_apps: ChangeApps,
    shared: bool,
    unrouted_max: Option<usize>,
    io_uring: bool,
    on_workers: Vec<AppName>,
    limits: AppLimits,
    times: Times,
    worker: Box<dyn Fn(&mut WorkerSettings)>,
    app: Box<dyn Fn(&mut WorkerApp)>,
}

type ChangeApps = Box<dyn Fn(usize, &mut AppSettings)>;

/// A cluster in this process, but on threads of their own per node. Unless it is told otherwise it has one app.
pub struct Cluster {
    apps: Vec<AppName>,
    link: LinkKind,
    /// The gateways.
    pub gateways: Vec<GatewayNode>,
    /// The workers; none where one was stopped.
    pub workers: Vec<Option<WorkerNode>>,
    authority: Authority,
    make_worker: MakeWorker,
}

struct MakeWorker {
    apps: Vec<AppName>,
    plugin: String,
    slots: u32,
    shards: usize,
    worker: Box<dyn Fn(&mut WorkerSettings)>,
    app: Box<dyn Fn(&mut WorkerApp)>,
}

/// A gateway with its threads.
pub struct GatewayNode {
    /// The gateway.
    pub gateway: Arc<Mutex<Gateway>>,
    endpoint: Option<Endpoint>,
    addresses: Vec<(Option<AppName>, Protocol, SocketAddr)>,
    name: NodeName,
    /// Last: the threads end when everything that runs on them is dropped.
    _shards: Shards,
}

/// A worker with its threads.
pub struct WorkerNode {
    /// The worker.
    pub worker: Worker,
    /// How its app is taken to other versions.
    pub swapper: Swapper,
    /// Its links to each gateway.
    pub links: Vec<Vec<Link>>,
    name: NodeName,
    identity: Identity,
    shards: Shards,
}

impl ClusterBuilder {
    /// So many gateways.
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// So many workers.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// So many shards per node.
    pub fn shards(mut self, count: usize) -> Self {
        self.shards = count;
        self
    }

    /// So many slots per worker.
    pub fn slots(mut self, count: u32) -> Self {
        self.slots = count;
        self
    }

    /// How they are linked.
    pub fn link(mut self, link: LinkKind) -> Self {
        self.link = link;
        self
    }

    /// The listeners' protocols.
    pub fn protocols(mut self, protocols: &[Protocol]) -> Self {
        self.protocols = protocols.to_vec();
        self
    }

    /// The heartbeat of one of the listeners, counted as in `protocols`.
    pub fn heartbeat(mut self, listener: usize, heartbeat: Heartbeat) -> Self {
        self.heartbeats.resize(self.heartbeats.len().max(listener + 1), None);
        self.heartbeats[listener] = Some(heartbeat);
        self
    }

    /// Which pages may connect.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Apps of these names, all of the same plugin. The first is the one that most of the helpers mean.
    pub fn apps(mut self, names: &[&str]) -> Self {
        self.apps = names.iter().map(|name| AppName::new(name).unwrap()).collect();
        self
    }

    /// Gateways write each client by a call of its own.
    pub fn without_io_uring(mut self) -> Self {
        self.io_uring = false;
        self
    }

    /// Apps of these names besides, which gateways have and no worker has yet.
    pub fn later(mut self, names: &[&str]) -> Self {
        self.later = names.iter().map(|name| AppName::new(name).unwrap()).collect();
        self
    }

    /// Changes the apps' settings on gateways; apps are counted as they were named.
    pub fn on_gateways(mut self, change: impl Fn(usize, &mut AppSettings) + 'static) -> Self {
        self.change_apps = Box::new(change);
        self
    }

    /// Gateways also have a port that the apps share by their routes.
    pub fn shared_port(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Connections on the shared port whose app is not known yet, at most.
    pub fn unrouted_max(mut self, count: usize) -> Self {
        self.unrouted_max = Some(count);
        self
    }

    /// Apps of these names besides, which workers have and gateways do not.
    pub fn also_on_workers(mut self, names: &[&str]) -> Self {
        self.on_workers = names.iter().map(|name| AppName::new(name).unwrap()).collect();
        self
    }

    /// Changes the app's limits on gateways.
    pub fn limits(mut self, change: impl FnOnce(&mut AppLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Changes the gateways' times.
    pub fn times(mut self, change: impl FnOnce(&mut Times)) -> Self {
        change(&mut self.times);
        self
    }

    /// Changes the workers' settings.
    pub fn worker(mut self, change: impl Fn(&mut WorkerSettings) + 'static) -> Self {
        self.worker = Box::new(change);
        self
    }

    /// Changes the app's settings on workers.
    pub fn app(mut self, change: impl Fn(&mut WorkerApp) + 'static) -> Self {
        self.app = Box::new(change);
        self
    }

    /// Starts everything and waits until every gateway knows every slot.
    pub async fn start(self) -> Cluster {
        crate::log::init();
        let mut cluster = Cluster {
            apps: self.apps.clone(),
            link: self.link,
            gateways: Vec::new(),
            workers: Vec::new(),
            authority: Authority::create("test").unwrap(),
            make_worker: MakeWorker {
                apps: self.apps.iter().chain(&self.on_workers).cloned().collect(),
                plugin: self.plugin.clone(),
                slots: self.slots,
                shards: self.shards,
                worker: self.worker,
                app: self.app,
            },
        };
        let listeners: Vec<_> = self
            .protocols
            .iter()
            .enumerate()
            .map(|(n, protocol)| ListenerSettings {
                protocol: *protocol,
                address: "127.0.0.1:0".parse().unwrap(),
                origins: self.origins.clone(),
                heartbeat: self.heartbeats.get(n).cloned().flatten(),
            })
            .collect();
        for n in 0..self.gateways {
            let app = |(number, name): (usize, &AppName)| {
                let listeners = listeners.clone();
                let mut app =
                    AppSettings { listeners, limits: self.limits, ..AppSettings::new(name.clone()) };
                (self.change_apps)(number, &mut app);
                app
            };
            let mut settings = GatewaySettings::new(next_gateway_id());
            settings.apps = self.apps.iter().chain(&self.later).enumerate().map(app).collect();
            settings.times = self.times;
            settings.io_uring = self.io_uring;
            settings.unrouted_max = self.unrouted_max.unwrap_or(settings.unrouted_max);
            if self.shared {
                settings.listeners.push(shared_listener(&self.origins));
            }
            let name = NodeName::new(&format!("gateway-{n}")).unwrap();
            cluster.add_gateway(name, settings, self.shards);
        }
        for _ in 0..self.workers {
            cluster.add_worker().await;
        }
        cluster
    }
}

impl Cluster {
    /// One gateway and one worker with one slot, linked in memory, with a plugin of this name.
    pub fn of(plugin: &str) -> ClusterBuilder {
        ClusterBuilder {
            gateways: 1,
            workers: 1,
            shards: 1,
            slots: 1,
            link: LinkKind::Memory,
            plugin: plugin.into(),
            protocols: vec![Protocol::Ws],
            heartbeats: Vec::new(),
            origins: Origins::Any,
            apps: vec![AppName::new("test").unwrap()],
            later: Vec::new(),
            change_apps: Box::new(|_, _| {}),
            shared: false,
            unrouted_max: None,
            io_uring: true,
            on_workers: Vec::new(),
            limits: AppLimits::default(),
            // A test ends its cluster before its clients, which do not answer a farewell that nobody reads.
            times: Times { linger: Duration::from_millis(300), ..Times::default() },
            worker: Box::new(|_| {}),
            app: Box::new(|_| {}),
        }
    }

    fn add_gateway(&mut self, name: NodeName, settings: GatewaySettings, shards: usize) {
        let shards = Shards::start(name.as_str(), shards);
        let gateway = Gateway::start(settings, shards.handles()).unwrap();
        let addresses = gateway.bound().iter().map(|b| (b.app.clone(), b.protocol, b.address)).collect();
        let gateway = Arc::new(Mutex::new(gateway));
        let endpoint = (self.link == LinkKind::Quic).then(|| {
            let identity = self.authority.issue(Role::Gateway, &name, 1).unwrap();
            let _on_its_runtime = shards.handles()[0].enter();
            let endpoint =
                Endpoint::bind("127.0.0.1:0".parse().unwrap(), &identity, &LinkSettings::default()).unwrap();
            tokio::spawn(accept(endpoint.clone(), gateway.clone(), shards.handles().to_vec()));
            endpoint
        });
        self.gateways.push(GatewayNode { gateway, endpoint, addresses, name, _shards: shards });
    }

    /// Starts another worker and links it to every gateway. Returns its number.
    pub async fn add_worker(&mut self) -> usize {
        let number = self.workers.len();
        let name = NodeName::new(&format!("worker-{number}")).unwrap();
        let shards = Shards::start(name.as_str(), self.make_worker.shards);
        let worker = self.make_worker.make(&name, &shards).await;
        let identity = self.authority.issue(Role::Worker, &name, 1).unwrap();
        let swapper = self.make_worker.swapper(&worker);
        let mut node = WorkerNode { worker, swapper, links: Vec::new(), name, identity, shards };
        for gateway in &self.gateways {
            node.links.push(link(self.link, gateway, &node).await);
        }
        self.workers.push(Some(node));
        self.until_linked().await;
        number
    }

    /// Waits until every gateway knows every slot.
    pub async fn until_linked(&self) {
        let workers = self.workers.iter().filter(|w| w.is_some()).count();
        let slots = workers * self.make_worker.slots as usize;
        for gateway in &self.gateways {
            let loaded = || {
                let gateway = gateway.gateway.lock().unwrap();
                self.apps.iter().all(|app| gateway.load(app).len() == slots)
            };
            eventually("every gateway knows every slot", || loaded().then_some(())).await;
        }
    }

    /// Where a gateway's WebSocket clients connect.
    pub fn ws(&self, gateway: usize) -> SocketAddr {
        self.address(gateway, Protocol::Ws)
    }

    /// Where a gateway's clients of a protocol connect.
    pub fn address(&self, gateway: usize, protocol: Protocol) -> SocketAddr {
        self.gateways[gateway].addresses.iter().find(|(_, p, _)| *p == protocol).expect("a listener").2
    }

    /// The port of a gateway that the apps share.
    pub fn shared(&self, gateway: usize) -> SocketAddr {
        let shared = self.gateways[gateway].addresses.iter().find(|(app, ..)| app.is_none());
        shared.expect("a shared port").2
    }

    /// A gateway, to change its apps while it runs.
    pub fn gateway(&self, gateway: usize) -> MutexGuard<'_, Gateway> {
        self.gateways[gateway].gateway.lock().unwrap()
    }

    /// Where clients of a listener of an app connect; apps and listeners are counted as they were named.
    pub fn listener(&self, gateway: usize, app: usize, listener: usize) -> SocketAddr {
        let of_app = self.gateways[gateway]
            .addresses
            .iter()
            .filter(|(name, ..)| name.as_ref() == Some(&self.apps[app]));
        of_app.map(|(.., address)| *address).nth(listener).expect("a listener")
    }

    /// Where WebSocket clients of an app connect.
    pub fn ws_of(&self, gateway: usize, app: &str) -> SocketAddr {
        let name = AppName::new(app).unwrap();
        let is_it = |known: &Option<AppName>| known.as_ref() == Some(&name);
        let mut of_app = self.gateways[gateway].addresses.iter().filter(|(known, ..)| is_it(known));
        of_app.find(|(_, protocol, _)| *protocol == Protocol::Ws).expect("a listener").2
    }

    /// How many slots of an app a gateway knows.
    pub fn slots_of(&self, gateway: usize, app: &str) -> usize {
        self.gateways[gateway].gateway.lock().unwrap().load(&AppName::new(app).unwrap()).len()
    }

    /// A worker that runs.
    pub fn worker(&self, number: usize) -> Worker {
        self.workers[number].as_ref().expect("a worker").worker.clone()
    }

    /// An app that a worker may be given, of the module of this plugin.
    pub fn app_of(&self, name: &str, plugin: &str) -> WorkerApp {
        WorkerApp::new(AppName::new(name).unwrap(), modules().load(&component(plugin)).unwrap())
    }

    /// Takes the app of a worker to the next version, or back if that fails.
    pub async fn swap(&mut self, worker: usize, plugin: &str) -> RolloutReport {
        self.swapper(worker).swap(component(plugin)).await
    }

    /// How the app of a worker is taken to other versions.
    pub fn swapper(&mut self, worker: usize) -> &mut Swapper {
        &mut self.workers[worker].as_mut().expect("a worker").swapper
    }

    /// A gateway's id as clients' ids begin with it.
    pub fn gateway_id(&self, gateway: usize) -> GatewayId {
        self.gateways[gateway].gateway.lock().unwrap().id()
    }

    /// Cuts the links between a worker and a gateway.
    pub fn cut(&self, worker: usize, gateway: usize) {
        let node = self.workers[worker].as_ref().expect("a worker");
        node.links[gateway].iter().for_each(|link| link.close(0, "cut"));
    }

    /// Links a worker to a gateway anew, as its node does after a cut.
    pub async fn relink(&mut self, worker: usize, gateway: usize) {
        let mut node = self.workers[worker].take().expect("a worker");
        node.links[gateway] = link(self.link, &self.gateways[gateway], &node).await;
        self.workers[worker] = Some(node);
        self.until_linked().await;
    }

    /// A client of the `callbacks` fixture on a gateway.
    pub async fn client(&self, gateway: usize) -> Client {
        Client::of_callbacks(self.ws(gateway)).await
    }

    /// How many clients a gateway has.
    pub fn clients(&self, gateway: usize) -> usize {
        self.gateways[gateway].gateway.lock().unwrap().clients().iter().map(|(_, n)| n).sum()
    }

    /// How many clients each slot of a gateway has.
    pub fn load(&self, gateway: usize) -> Vec<usize> {
        self.gateways[gateway].gateway.lock().unwrap().load(&self.apps[0])
    }

    /// Stops a gateway gracefully. It stays in the list.
    pub async fn stop_gateway(&self, number: usize) {
        let stopped = self.gateways[number].gateway.lock().unwrap().begin_stop();
        stopped.await;
    }

    /// Stops a worker gracefully.
    pub async fn stop_worker(&mut self, number: usize) {
        let node = self.workers[number].take().expect("a worker");
        node.worker.stop().await;
        node.links.iter().flatten().for_each(|link| link.close(0, "stopped"));
    }

    /// Cuts a worker off as a crash would.
    pub fn kill_worker(&mut self, number: usize) {
        let node = self.workers[number].take().expect("a worker");
        node.links.iter().flatten().for_each(|link| link.close(0, "killed"));
    }

    /// What has issued the nodes' certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where a gateway accepts links over QUIC.
    pub fn endpoint(&self, gateway: usize) -> SocketAddr {
        self.gateways[gateway].endpoint.as_ref().expect("a QUIC cluster").local_addr().unwrap()
    }

    /// Checks what must always hold.
    pub fn check_invariants(&self) {
        for gateway in &self.gateways {
            gateway.gateway.lock().unwrap().check_invariants().unwrap();
        }
    }

    /// Stops every gateway and then every worker, gracefully.
    pub async fn stop(mut self) {
        self.check_invariants();
        for node in &self.gateways {
            let gateway = node.gateway.clone();
            // Nobody else stops it: what it takes to wait is taken out of the lock.
            let stopped = gateway.lock().unwrap().begin_stop();
            stopped.await;
        }
        for number in 0..self.workers.len() {
            if self.workers[number].is_some() {
                self.stop_worker(number).await;
            }
        }
    }
}

fn next_gateway_id() -> GatewayId {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0x00a0_0000_0001);
    GatewayId::new(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

fn shared_listener(origins: &Origins) -> ListenerSettings {
    ListenerSettings {
        protocol: Protocol::Ws,
        address: "127.0.0.1:0".parse().unwrap(),
        origins: origins.clone(),
        heartbeat: None,
    }
}

impl MakeWorker {
    fn swapper(&self, worker: &Worker) -> Swapper {
        let version = VersionRef { number: 1, digest: Shelf::put(component(&self.plugin)) };
        Swapper::new(worker.conduct(Shelf::new(modules())), self.apps[0].clone(), version)
    }

    async fn make(&self, name: &NodeName, shards: &Shards) -> Worker {
        let module = modules().load(&component(&self.plugin)).unwrap();
        let mut settings = WorkerSettings::new(name.clone());
        for app in &self.apps {
            let mut app = WorkerApp::new(app.clone(), module.clone());
            app.slots = self.slots;
            (self.app)(&mut app);
            settings.apps.push(app);
        }
        (self.worker)(&mut settings);
        Worker::start(settings, modules().engine(), slow_pool(), shards.handles()).await.unwrap()
    }
}

async fn link(kind: LinkKind, gateway: &GatewayNode, node: &WorkerNode) -> Vec<Link> {
    let mut links = Vec::new();
    for (shard, handle) in node.shards.handles().iter().enumerate() {
        let link = match kind {
            LinkKind::Memory => {
                let peer = |role, name: &NodeName| Peer { role, name: name.clone(), address: None };
                let (to_gateway, to_worker) =
                    memory_pair(peer(Role::Worker, &node.name), peer(Role::Gateway, &gateway.name));
                gateway.gateway.lock().unwrap().add_link(to_worker, shard);
                to_gateway
            }
            LinkKind::Quic => {
                let address = gateway.endpoint.as_ref().expect("an endpoint").local_addr().unwrap();
                let identity = node.identity.clone();
                let dial = async move {
                    let settings = LinkSettings::default();
                    let endpoint =
                        Endpoint::bind("127.0.0.1:0".parse().unwrap(), &identity, &settings).unwrap();
                    endpoint.connect(address, Role::Gateway).await.unwrap()
                };
                handle.spawn(dial).await.unwrap()
            }
        };
        node.worker.add_link(link.clone(), shard);
        links.push(link);
    }
    links
}

async fn accept(endpoint: Endpoint, gateway: Arc<Mutex<Gateway>>, shards: Vec<tokio::runtime::Handle>) {
    let mut next = 0;
    while let Some(incoming) = endpoint.accept().await {
        let home = next % shards.len();
        next += 1;
        let gateway = gateway.clone();
        shards[home].spawn(async move {
            if let Ok(link) = incoming.accept().await {
                gateway.lock().unwrap().add_link(link, home);
            }
        });
    }
}

/// The bytes of a fixture, example or first-party plugin.
pub fn component(plugin: &str) -> Vec<u8> {
    std::fs::read(tidegate_artifacts::plugin(plugin)).unwrap()
}

/// Whether a component is in memory, compiled, because somebody runs it, will run it or holds it.
pub fn is_loaded(component: &[u8]) -> bool {
    modules().is_loaded(Digest::of(component))
}

/// Keeps a plugin compiled as long as what it returns lives, so that swaps from and to it take no seconds.
pub fn held(plugin: &str) -> Module {
    modules().load(&component(plugin)).unwrap()
}

fn modules() -> &'static Modules {
    static MODULES: OnceLock<Modules> = OnceLock::new();
    MODULES.get_or_init(|| {
        let engine = Engine::new(&EngineSettings { instances: 200, memory_mib: 256 }).unwrap();
        Modules::new(engine, Compiler::InProcess, None)
    })
}

fn slow_pool() -> Arc<SlowPool> {
    static POOL: OnceLock<Arc<SlowPool>> = OnceLock::new();
    POOL.get_or_init(|| Arc::new(SlowPool::new(&SlowPoolSettings::default()).unwrap())).clone()
}
