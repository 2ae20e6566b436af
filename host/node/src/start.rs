//! How a node starts: what can fail for a reason of its user's comes first, what others see comes last.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tidegate_base::{AppName, GatewayId, Label, NodeName, Role};
use tidegate_exporter::Exporter;
use tidegate_gateway::Gateway;
use tidegate_gateway::settings::{AppSettings, GatewaySettings};
use tidegate_keys::{Embedded, EmbeddedSettings, Keys};
use tidegate_link::certs::Identity;
use tidegate_link::{Endpoint, LinkSettings, Peer, memory_pair};
use tidegate_register::questions::{Own, Respondent};
use tidegate_register::{Adopted, Named, Precedence, Register};
use tidegate_runtime::{Engine, SlowPool, SlowPoolSettings};
use tidegate_store::{Store, StoreLimits};
use tidegate_wire::control::NodeInfo;
use tidegate_worker::{Worker, WorkerSettings};
use tokio::runtime::Handle;

use crate::answers::Answers;
use crate::apps::{self, Apps, WorkerPlace};
use crate::config::{Config, Place};
use crate::data_dir::DataDir;
use crate::dial::Dialer;
use crate::duty::{Duty, RoleDuty, WorkerDuty};
use crate::endpoints::Endpoints;
use crate::error::NodeError;
use crate::membership::Membership;
use crate::metrics::{Most, Watched};
use crate::node::{Node, Shared, open_control};
use crate::outside::Outside;
use crate::plugins::{Loaded, LoadedApp};
use crate::shards::Shards;
use crate::status::{Addresses, Listener};
use crate::tenants::TenantBudgets;
use crate::versions::{Versions, from_deployer, from_keeper};
use crate::{accept, outside, plugins, ports, system};

pub(crate) async fn start(config: Config) -> Result<Node, NodeError> {
    system::raise_open_files();
    system::return_large_blocks();
    let data_dir = DataDir::open(&config.data_dir)?;
    if config.place.runs(Role::Gateway) {
        ports::check(&config)?;
    }
    let threads = NodeError::system("start a thread");
    let control = Shards::start("tidegate-control", 1).map_err(threads)?;
    let on_control = control.handles().first().cloned().unwrap_or_else(Handle::current);
    let watched = Arc::new(Watched::new(Most {
        apps: config.metrics.apps_max,
        histograms: config.metrics.histograms_max,
    }));
    let exporter =
        config.metrics.listen.map(|address| ports::export(address, &watched, &on_control)).transpose()?;
    let store = if config.place.runs(Role::Register) { Some(open_store(&config).await?) } else { None };
    let plugins = match config.place.runs(Role::Worker) {
        true => Some(prepare(config.clone(), store.clone()).await?),
        false => None,
    };
    let has_shards = config.place.runs(Role::Gateway) || config.place.runs(Role::Worker);
    let count = if has_shards { config.shards } else { 0 };
    let shards = Shards::start("tidegate-shard", count).map_err(NodeError::system("start a thread"))?;
    let mut parts = Parts::new(&config, shards.handles(), on_control, store);
    if let Some(plugins) = &plugins {
        parts.keys = Some(Arc::clone(&plugins.keys));
        parts.tenants = Arc::clone(&plugins.loaded.tenants);
    }
    match &config.place {
        Place::AllInOne => {
            parts.all_in_one(plugins).await?;
        }
        Place::Member { identity, registers } => {
            parts.member(identity, registers, plugins).await?;
        }
    }
    let outside = parts.outside(&data_dir).await?;
    let Parts { mut shared, answers, control: on_control, mut tasks, endpoint, endpoints, plugins, .. } =
        parts;
    shared.addresses.metrics = exporter.as_ref().map(Exporter::address);
    let shared = Arc::new(shared);
    tasks.push(open_control(&shared, &data_dir, &on_control)?);
    watched.is(Arc::downgrade(&shared));
    answers.is(Arc::downgrade(&shared));
    outside.iter().for_each(|outside| outside.is_of(Arc::downgrade(&shared)));
    system::return_free_memory();
    let stop_wait = config.stop_wait;
    let identity = match config.place {
        Place::AllInOne => None,
        Place::Member { identity, .. } => Some(identity),
    };
    Ok(Node {
        shared,
        tasks,
        endpoint,
        endpoints,
        shards,
        control,
        plugins,
        outside,
        data_dir,
        stop_wait,
        exporter,
        identity,
    })
}

/// What a worker needs before it starts.
struct Plugins {
    engine: Engine,
    slow: Arc<SlowPool>,
    loaded: Loaded,
    keys: Arc<dyn Keys>,
}

/// Opens the store of a register, on a thread that may block.
async fn open_store(config: &Config) -> Result<Arc<Store>, NodeError> {
    let folder = config.data_dir.clone();
    match tokio::task::spawn_blocking(move || Store::open(&folder, StoreLimits::default())).await {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(error) => Err(NodeError::Panicked(error.to_string())),
    }
}

/// Builds and compiles, on a thread that may block.
async fn prepare(config: Config, store: Option<Arc<Store>>) -> Result<Plugins, NodeError> {
    let prepare = move || {
        let engine = Engine::new(&config.worker.engine)?;
        let loaded = plugins::load(&config, &engine, store.as_deref())?;
        // Each instance waits there at most once.
        let queue_max = config.worker.engine.instances as usize;
        let settings = SlowPoolSettings { queue_max, ..SlowPoolSettings::default() };
        let slow = SlowPool::new(&settings).map_err(NodeError::system("start a thread"))?;
        let keys = Embedded::open(&config.data_dir, EmbeddedSettings::default())?;
        Ok(Plugins { engine, slow: Arc::new(slow), loaded, keys: Arc::new(keys) })
    };
    match tokio::task::spawn_blocking(prepare).await {
        Ok(prepared) => prepared,
        Err(error) => Err(NodeError::Panicked(error.to_string())),
    }
}

/// A node that is being put together.
struct Parts<'a> {
    config: &'a Config,
    shards: Vec<Handle>,
    control: Handle,
    shared: Shared,
    answers: Arc<Answers>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    endpoint: Option<Endpoint>,
    endpoints: Option<Endpoints>,
    store: Option<Arc<Store>>,
    plugins: Option<(Engine, Arc<SlowPool>)>,
    tenants: Arc<TenantBudgets>,
    keys: Option<Arc<dyn Keys>>,
}

impl<'a> Parts<'a> {
    fn new(config: &'a Config, shards: Vec<Handle>, control: Handle, store: Option<Arc<Store>>) -> Self {
        let shared = Shared {
            name: config.name.clone(),
            roles: config.place.roles(),
            all_in_one: matches!(config.place, Place::AllInOne),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            addresses: Addresses::default(),
            register: RwLock::default(),
            gateway: Arc::default(),
            worker: Arc::default(),
            dialer: RwLock::default(),
            view: RwLock::default(),
            apps: Vec::new(),
        };
        let (tasks, endpoint, endpoints, plugins) = (Vec::new(), None, None, None);
        let (tenants, answers) = (Arc::default(), Arc::default());
        Self {
            config,
            shards,
            control,
            shared,
            answers,
            tasks,
            endpoint,
            endpoints,
            store,
            plugins,
            tenants,
            keys: None,
        }
    }

    /// Three roles, joined in memory: slot and client of one shard on one thread.
    async fn all_in_one(&mut self, plugins: Option<Plugins>) -> Result<(), NodeError> {
        let mut plugins = plugins.ok_or_else(no_plugins)?;
        let register = Register::start(None, self.store.clone(), &self.control);
        register.fixed_tenants(self.config.tenants.clone()).await;
        adopt(&register, self.config.precedence, &mut plugins.loaded).await?;
        let deployer = register.deployer();
        let modules = Arc::clone(&plugins.loaded.modules);
        let worker = self.worker(plugins).await?;
        let gateway = self.gateway()?;
        for shard in 0..self.shards.len() {
            let (from_worker, from_gateway) = memory_pair(self.peer(Role::Worker), self.peer(Role::Gateway));
            worker.add_link(from_worker, shard);
            gateway.add_link(from_gateway, shard);
        }
        let id = gateway.id();
        *self.shared.gateway.write() = Some(gateway);
        let orders = {
            let _on_control = self.control.enter();
            worker.conduct(Versions::new(modules, from_deployer(deployer)))
        };
        // Before the register speaks of apps that come to it.
        *self.shared.worker.write() = Some(worker);
        let duties = [
            (Role::Gateway, Some(id), RoleDuty::Gateway(Arc::clone(&self.shared.gateway))),
            (Role::Worker, None, RoleDuty::Worker(WorkerDuty::new(orders))),
        ];
        for (role, id, duty) in duties {
            let duty = self.duty(role, duty)?;
            let membership = self.membership(self.info(role, id, None), duty, 1);
            let (own, registers) = memory_pair(self.peer(role), self.peer(Role::Register));
            register.add_link(registers);
            self.tasks.push(self.control.spawn(async move { membership.follow(0, &own).await }));
        }
        self.has(register);
        Ok(())
    }

    /// One role of a cluster.
    async fn member(
        &mut self,
        identity: &Identity,
        registers: &[SocketAddr],
        plugins: Option<Plugins>,
    ) -> Result<(), NodeError> {
        match identity.uri().role() {
            Role::Gateway => self.member_gateway(identity, registers),
            Role::Worker => self.member_worker(identity, registers, plugins).await,
            // The configuration refuses operators.
            Role::Register | Role::Operator => self.member_register(identity).await,
        }
    }

    async fn member_register(&mut self, identity: &Identity) -> Result<(), NodeError> {
        let endpoint = bind(self.config.register_listen, identity, &self.control)?;
        self.shared.addresses.register = Some(endpoint.local_addr()?);
        let register = Register::start(Some(endpoint.clone()), self.store.clone(), &self.control);
        register.fixed_tenants(self.config.tenants.clone()).await;
        self.has(register);
        self.endpoint = Some(endpoint);
        Ok(())
    }

    fn member_gateway(&mut self, identity: &Identity, registers: &[SocketAddr]) -> Result<(), NodeError> {
        let gateway = self.gateway()?;
        let id = gateway.id();
        let home = self.shards.first().unwrap_or(&self.control);
        let endpoint = bind(self.config.gateway.listen, identity, home)?;
        let bound = endpoint.local_addr()?;
        let advertised = self.config.gateway.advertise.unwrap_or(bound);
        self.shared.addresses.gateway = Some(bound);
        *self.shared.gateway.write() = Some(gateway);
        let accept = accept::accept(endpoint.clone(), Arc::clone(&self.shared.gateway), self.shards.clone());
        home.spawn(accept);
        self.endpoint = Some(endpoint);
        let duty = self.duty(Role::Gateway, RoleDuty::Gateway(Arc::clone(&self.shared.gateway)))?;
        let info = self.info(Role::Gateway, Some(id), Some(advertised));
        let membership = self.membership(info, duty, registers.len());
        self.announce(&membership, identity, registers)
    }

    async fn member_worker(
        &mut self,
        identity: &Identity,
        registers: &[SocketAddr],
        plugins: Option<Plugins>,
    ) -> Result<(), NodeError> {
        let plugins = plugins.ok_or_else(no_plugins)?;
        let modules = Arc::clone(&plugins.loaded.modules);
        let worker = self.worker(plugins).await?;
        // The link comes with the duty, and the duty with the orders.
        let keeper: Arc<OnceLock<Weak<WorkerDuty>>> = Arc::default();
        let orders = {
            let _on_control = self.control.enter();
            worker.conduct(Versions::new(modules, from_keeper(Arc::clone(&keeper))))
        };
        let duty = WorkerDuty::new(orders);
        let _ = keeper.set(Arc::downgrade(&duty));
        *self.shared.worker.write() = Some(worker);
        let info = self.info(Role::Worker, None, None);
        let of_role = self.duty(Role::Worker, RoleDuty::Worker(Arc::clone(&duty)))?;
        let apps = Arc::clone(&of_role.apps);
        let membership = self.membership(info, of_role, registers.len());
        self.announce(&membership, identity, registers)?;
        // Clients come with the links: until it runs what it should, or nobody says what that is, it dials no gateway.
        let told = async {
            duty.heard().await;
            apps.first().await;
        };
        let (heard, settled) = (tokio::time::timeout(ORDERS_WAIT, told).await, duty.settled());
        if heard.is_ok() && tokio::time::timeout(VERSIONS_WAIT, settled).await.is_err() {
            tracing::warn!("not every app runs the version that it should: it goes on with what it has");
        }
        let endpoints = |shard: &Handle| Endpoints::new(shard.clone(), identity.clone());
        let shards = self.shards.iter().map(endpoints).collect();
        let _on_control = self.control.enter();
        let dialer = Dialer::start(Arc::clone(&self.shared.worker), shards, membership.view());
        *self.shared.dialer.write() = Some(Arc::new(dialer));
        Ok(())
    }

    /// The HTTP API and the bridges, if there are to be any.
    async fn outside(&mut self, data_dir: &DataDir) -> Result<Option<Outside>, NodeError> {
        let Some((admin, bridges)) = self.config.outside() else { return Ok(None) };
        let found =
            self.shared.register.read().as_ref().map(|it| (it.gateways(), it.tokens(), it.deployer()));
        let Some((gateways, tokens, deployer)) = found else { return Ok(None) };
        let tokens = tokens.await.map_err(NodeError::Tokens)?;
        if admin.is_some_and(|admin| admin.for_dev) {
            let of_first = self.config.apps.first().map(|app| app.name.tenant_label());
            let tenant = of_first.or_else(|| Label::new(AppName::DEFAULT_TENANT).ok());
            tenant.map_or(Ok(()), |tenant| outside::write_token(&tokens, tenant, data_dir.path()))?;
        }
        let outside = Outside::start(admin, bridges, tokens, deployer)?;
        match &self.config.place {
            Place::AllInOne => {
                let (ours, theirs) = memory_pair(self.peer(Role::Register), self.peer(Role::Gateway));
                if let Some(gateway) = self.shared.gateway.read().as_ref() {
                    gateway.add_pusher(theirs, 0);
                }
                outside.add_link(ours);
                outside.follow(gateways, None);
            }
            Place::Member { identity, .. } => outside.follow(gateways, Some(identity)),
        }
        self.shared.addresses.admin = outside.address();
        self.shared.addresses.admin_tls = outside.has_tls();
        self.shared.addresses.bridges = outside.bridges();
        Ok(Some(outside))
    }

    /// A register runs here, and this node is asked as the others are.
    fn has(&self, register: Register) {
        let (name, roles) = (self.name(), self.shared.roles.clone());
        register.answer_as(Own { name, roles, respondent: Arc::clone(&self.answers) as Arc<dyn Respondent> });
        *self.shared.register.write() = Some(register);
    }

    fn membership(&self, info: NodeInfo, duty: Duty, registers: usize) -> Membership {
        Membership::new(info, duty, Arc::clone(&self.answers), registers)
    }

    /// Announces the node at every register, for ever.
    fn announce(
        &mut self,
        membership: &Membership,
        identity: &Identity,
        registers: &[SocketAddr],
    ) -> Result<(), NodeError> {
        let endpoints = Endpoints::new(self.control.clone(), identity.clone());
        for (number, register) in registers.iter().enumerate() {
            let keep = membership.clone().keep(number, endpoints.to_dial(*register)?, *register);
            self.tasks.push(self.control.spawn(keep));
        }
        self.endpoints = Some(endpoints);
        *self.shared.view.write() = Some(membership.view());
        Ok(())
    }

    fn gateway(&mut self) -> Result<Gateway, NodeError> {
        let id = system::gateway_id(self.config.gateway.client_ids)
            .map_err(NodeError::system("give random numbers"))?;
        let app = |app: &crate::config::AppConfig| AppSettings {
            listeners: app.listeners.clone(),
            shared: app.shared.clone(),
            web: app.web.clone(),
            limits: app.limits,
            ..AppSettings::new(app.name.clone())
        };
        let apps = self.config.apps.iter().map(app).collect();
        let gateway = &self.config.gateway;
        let settings = GatewaySettings {
            id,
            apps,
            listeners: gateway.listeners.clone(),
            unrouted_max: gateway.unrouted_max,
            io_uring: gateway.io_uring,
            times: gateway.times,
        };
        let gateway = Gateway::start(settings, &self.shards)?;
        self.shared.addresses.listeners = gateway.bound().iter().map(Listener::from).collect();
        Ok(gateway)
    }

    async fn worker(&mut self, plugins: Plugins) -> Result<Worker, NodeError> {
        let Plugins { engine, slow, loaded, .. } = plugins;
        let config = &self.config.worker;
        let mut settings = WorkerSettings::new(self.config.name.clone());
        let here = loaded.apps.into_iter().map(|loaded| loaded.app);
        settings.apps = here.chain(loaded.elsewhere).collect();
        settings.labels = self.config.worker_labels();
        settings.keys = self.keys.clone();
        settings.grant = config.grant;
        settings.command_queue_bytes_max = config.command_queue_bytes_max;
        settings.query_wait = config.query_wait;
        settings.stop_wait = config.stop_wait;
        settings.sleep_state_bytes_max = config.sleep_state_bytes_max;
        let worker = Worker::start(settings, &engine, Arc::clone(&slow), &self.shards).await?;
        self.plugins = Some((engine, slow));
        Ok(worker)
    }

    /// What a role does for the register. The apps of the catalog come to it on the control thread.
    fn duty(&mut self, role: Role, of_role: RoleDuty) -> Result<Duty, NodeError> {
        let place = match role {
            Role::Worker => {
                // A worker has been started: it is with its plugins that the keys came.
                let Some(keys) = self.keys.clone() else { return Err(no_plugins()) };
                apps::Place::Worker(WorkerPlace {
                    worker: Arc::clone(&self.shared.worker),
                    labels: self.config.worker_labels(),
                    solitude: self.config.solitude(),
                    tenants: Arc::clone(&self.tenants),
                    keys,
                })
            }
            _ => {
                let shares = !self.config.gateway.listeners.is_empty();
                apps::Place::Gateway(Arc::clone(&self.shared.gateway), shares)
            }
        };
        let apps = Apps::new(place, &self.config.apps);
        self.tasks.push(self.control.spawn(Arc::clone(&apps).follow()));
        self.shared.apps.push(Arc::clone(&apps));
        Ok(Duty { role: of_role, apps })
    }

    fn peer(&self, role: Role) -> Peer {
        Peer { role, name: self.name(), address: None }
    }

    fn info(&self, role: Role, gateway: Option<GatewayId>, address: Option<SocketAddr>) -> NodeInfo {
        NodeInfo { name: self.name(), role, address, gateway }
    }

    fn name(&self) -> NodeName {
        self.config.name.clone()
    }
}

/// Binds an endpoint so that its packets are received on this runtime.
fn bind(address: SocketAddr, identity: &Identity, on: &Handle) -> Result<Endpoint, NodeError> {
    let _on_its_runtime = on.enter();
    Ok(Endpoint::bind(address, identity, &LinkSettings::default())?)
}

/// What runs is what was deployed last, unless the settings name another plugin than they did or have precedence.
async fn adopt(register: &Register, precedence: Precedence, loaded: &mut Loaded) -> Result<(), NodeError> {
    let named = loaded.apps.iter().filter_map(|LoadedApp { app, component }| {
        let digest = app.module.as_ref()?.digest();
        Some(Named { app: app.name.clone(), digest, module: component.clone() })
    });
    let adopted = register.adopt(named.collect(), precedence).await.map_err(NodeError::Versions)?;
    for (app, Adopted { version, module }) in loaded.apps.iter_mut().zip(adopted) {
        // Mostly there is nothing to compile; before the node serves, it may block.
        plugins::replace(app, &loaded.modules, version, module)?;
    }
    Ok(())
}

fn no_plugins() -> NodeError {
    NodeError::Panicked("a worker was started without its plugins".into())
}

/// How long a worker waits for a register to say what should run.
const ORDERS_WAIT: Duration = Duration::from_secs(5);
/// How long it takes to fetch and compile it.
const VERSIONS_WAIT: Duration = Duration::from_secs(120);
