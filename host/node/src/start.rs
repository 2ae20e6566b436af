//! How a node starts: what can fail for a reason of its user's comes first, what others see comes last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::RwLock;
use tidegate_base::{GatewayId, NodeName, Role};
use tidegate_gateway::Gateway;
use tidegate_gateway::settings::{AppSettings, GatewaySettings};
use tidegate_link::certs::Identity;
use tidegate_link::{Endpoint, LinkSettings, Peer, memory_pair};
use tidegate_register::Register;
use tidegate_runtime::{Engine, SlowPool, SlowPoolSettings};
use tidegate_wire::control::NodeInfo;
use tidegate_worker::{Worker, WorkerApp, WorkerSettings};
use tokio::runtime::Handle;

use crate::accept;
use crate::config::{Config, Place};
use crate::data_dir::DataDir;
use crate::dial::Dialer;
use crate::endpoints::Endpoints;
use crate::error::NodeError;
use crate::membership::Membership;
use crate::node::{Node, Shared, open_control};
use crate::shards::Shards;
use crate::status::{Addresses, Listener};
use crate::{plugins, system};

pub(crate) async fn start(config: Config) -> Result<Node, NodeError> {
    system::raise_open_files();
    let data_dir = DataDir::open(&config.data_dir)?;
    if config.place.runs(Role::Gateway) {
        check_ports(&config)?;
    }
    let plugins = if config.place.runs(Role::Worker) { Some(prepare(config.clone()).await?) } else { None };
    let threads = NodeError::system("start a thread");
    let control = Shards::start("tidegate-control", 1).map_err(threads)?;
    let has_shards = config.place.runs(Role::Gateway) || config.place.runs(Role::Worker);
    let count = if has_shards { config.shards } else { 0 };
    let shards = Shards::start("tidegate-shard", count).map_err(NodeError::system("start a thread"))?;
    let on_control = control.handles().first().cloned().unwrap_or_else(Handle::current);
    let mut parts = Parts::new(&config, shards.handles(), on_control);
    match &config.place {
        Place::AllInOne => {
            let plugins = plugins.as_ref();
            parts.all_in_one(plugins).await?;
        }
        Place::Member { identity, registers } => {
            parts.member(identity, registers, plugins.as_ref()).await?;
        }
    }
    let Parts { shared, control: on_control, mut tasks, endpoint, endpoints, .. } = parts;
    let shared = Arc::new(shared);
    tasks.push(open_control(&shared, &data_dir, &on_control)?);
    let plugins = plugins.map(|plugins| (plugins.engine, plugins.slow));
    let stop_wait = config.stop_wait;
    let identity = match config.place {
        Place::AllInOne => None,
        Place::Member { identity, .. } => Some(identity),
    };
    Ok(Node { shared, tasks, endpoint, endpoints, shards, control, plugins, data_dir, stop_wait, identity })
}

fn check_ports(config: &Config) -> Result<(), NodeError> {
    for app in &config.apps {
        for listener in &app.listeners {
            let address = listener.address;
            system::check_free(address).map_err(|error| NodeError::Listen {
                app: app.name.clone(),
                address,
                error,
            })?;
        }
    }
    Ok(())
}

/// What a worker needs before it starts.
struct Plugins {
    engine: Engine,
    slow: Arc<SlowPool>,
    apps: Vec<WorkerApp>,
}

/// Builds and compiles, on a thread that may block.
async fn prepare(config: Config) -> Result<Plugins, NodeError> {
    let prepare = move || {
        let engine = Engine::new(&config.worker.engine)?;
        let apps = plugins::load(&config, &engine)?;
        let slots: u32 = apps.iter().map(|app| app.slots).sum();
        let settings = SlowPoolSettings { queue_max: (slots as usize).max(1), ..SlowPoolSettings::default() };
        let slow = SlowPool::new(&settings).map_err(NodeError::system("start a thread"))?;
        Ok(Plugins { engine, slow: Arc::new(slow), apps })
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
    tasks: Vec<tokio::task::JoinHandle<()>>,
    endpoint: Option<Endpoint>,
    endpoints: Option<Endpoints>,
}

impl<'a> Parts<'a> {
    fn new(config: &'a Config, shards: Vec<Handle>, control: Handle) -> Self {
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
        };
        Self { config, shards, control, shared, tasks: Vec::new(), endpoint: None, endpoints: None }
    }

    /// Three roles, joined in memory: slot and client of one shard on one thread.
    async fn all_in_one(&mut self, plugins: Option<&Plugins>) -> Result<(), NodeError> {
        let register = Register::start(None, None, &self.control);
        let worker = self.worker(plugins).await?;
        let gateway = self.gateway()?;
        for shard in 0..self.shards.len() {
            let (from_worker, from_gateway) = memory_pair(self.peer(Role::Worker), self.peer(Role::Gateway));
            worker.add_link(from_worker, shard);
            gateway.add_link(from_gateway, shard);
        }
        for (role, id) in [(Role::Gateway, Some(gateway.id())), (Role::Worker, None)] {
            let membership = Membership::new(self.info(role, id, None), 1);
            let (own, registers) = memory_pair(self.peer(role), self.peer(Role::Register));
            register.add_link(registers);
            self.tasks.push(self.control.spawn(async move { membership.follow(0, &own).await }));
        }
        *self.shared.register.write() = Some(register);
        *self.shared.gateway.write() = Some(gateway);
        *self.shared.worker.write() = Some(worker);
        Ok(())
    }

    /// One role of a cluster.
    async fn member(
        &mut self,
        identity: &Identity,
        registers: &[SocketAddr],
        plugins: Option<&Plugins>,
    ) -> Result<(), NodeError> {
        match identity.uri().role() {
            Role::Gateway => self.member_gateway(identity, registers),
            Role::Worker => self.member_worker(identity, registers, plugins).await,
            // The configuration refuses operators.
            Role::Register | Role::Operator => self.member_register(identity),
        }
    }

    fn member_register(&mut self, identity: &Identity) -> Result<(), NodeError> {
        let endpoint = bind(self.config.register_listen, identity, &self.control)?;
        self.shared.addresses.register = Some(endpoint.local_addr()?);
        *self.shared.register.write() = Some(Register::start(Some(endpoint.clone()), None, &self.control));
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
        let membership =
            Membership::new(self.info(Role::Gateway, Some(id), Some(advertised)), registers.len());
        self.announce(&membership, identity, registers)
    }

    async fn member_worker(
        &mut self,
        identity: &Identity,
        registers: &[SocketAddr],
        plugins: Option<&Plugins>,
    ) -> Result<(), NodeError> {
        let worker = self.worker(plugins).await?;
        *self.shared.worker.write() = Some(worker);
        let membership = Membership::new(self.info(Role::Worker, None, None), registers.len());
        self.announce(&membership, identity, registers)?;
        let endpoints = |shard: &Handle| Endpoints::new(shard.clone(), identity.clone());
        let shards = self.shards.iter().map(endpoints).collect();
        let _on_control = self.control.enter();
        let dialer = Dialer::start(Arc::clone(&self.shared.worker), shards, membership.view());
        *self.shared.dialer.write() = Some(Arc::new(dialer));
        Ok(())
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
        let id = system::gateway_id().map_err(NodeError::system("give random numbers"))?;
        let app = |app: &crate::config::AppConfig| AppSettings {
            name: app.name.clone(),
            listeners: app.listeners.clone(),
            web: app.web.clone(),
            limits: app.limits,
        };
        let apps = self.config.apps.iter().map(app).collect();
        let settings = GatewaySettings { id, apps, times: self.config.gateway.times };
        let gateway = Gateway::start(settings, &self.shards)?;
        self.shared.addresses.listeners = gateway.bound().iter().map(Listener::from).collect();
        Ok(gateway)
    }

    async fn worker(&self, plugins: Option<&Plugins>) -> Result<Worker, NodeError> {
        let Some(plugins) = plugins else {
            return Err(NodeError::Panicked("a worker was started without its plugins".into()));
        };
        let config = &self.config.worker;
        let mut settings = WorkerSettings::new(self.config.name.clone());
        settings.apps.clone_from(&plugins.apps);
        settings.grant = config.grant;
        settings.command_queue_bytes_max = config.command_queue_bytes_max;
        settings.query_wait = config.query_wait;
        settings.stop_wait = config.stop_wait;
        Ok(Worker::start(settings, &plugins.engine, Arc::clone(&plugins.slow), &self.shards).await?)
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
