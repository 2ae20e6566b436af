//! From what the sources say to what a node is told: defaults, and checks of what must fit together.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_base::{AppName, AppSpec, Protocol, Role, limits};
use tidegate_gateway::settings::{ListenerSettings, Origins, Route};
use tidegate_link::certs::Identity;

use super::file::{self, File};
use super::listeners::{heartbeat, heartbeat_spec, origins_spec, shared_listener, shared_settings};
use super::locate::Source;
use super::spec::Secrets;
use super::values::{Address, Label, NodeRole, Plugin, SettingValue, Within};
use super::{AppConfig, Config, ConfigError, Overrides, Place, admin, bridge, mistake, spec, tenants};

impl File {
    /// Makes the paths of the file absolute.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let File { node, cluster, admin, .. } = self;
        let own = [&mut node.data_dir, &mut cluster.identity, &mut admin.cert, &mut admin.key];
        let apps = self.app.iter_mut().map(|app| &mut app.as_mut().web);
        for path in own.into_iter().chain(apps).flatten() {
            *path = folder.join(&path);
        }
        for plugin in self.app.iter_mut().filter_map(|app| app.as_mut().plugin.as_mut()) {
            if let Plugin::Wasm(path) | Plugin::Folder(path) = plugin {
                *path = folder.join(&path);
            }
        }
        self.app.iter_mut().for_each(|app| app.as_mut().resolve_paths(folder));
        self.bridge.iter_mut().for_each(|bridge| bridge.as_mut().resolve_paths(folder));
    }

    /// Flags win.
    pub fn overlay(&mut self, flags: &Overrides) -> Result<(), ConfigError> {
        let wrong = |flag| move |reason: String| ConfigError::Flag { flag, reason };
        let absolute = |path: &Path, flag| {
            std::path::absolute(path).map_err(|error| ConfigError::Flag { flag, reason: error.to_string() })
        };
        if let Some(name) = &flags.name {
            self.node.name = Some(name.parse::<Label>().map_err(wrong("--name"))?);
        }
        if let Some(path) = &flags.data_dir {
            self.node.data_dir = Some(absolute(path, "--data-dir")?);
        }
        if let Some(roles) = &flags.roles {
            self.node.roles = Some(roles.iter().copied().map(NodeRole).collect());
        }
        if let Some(shards) = flags.shards {
            self.node.shards = Some(shards.to_string().parse().map_err(wrong("--shards"))?);
        }
        if let Some(log) = &flags.log {
            self.node.log = Some(log.parse().map_err(wrong("--log"))?);
        }
        if let Some(registers) = &flags.registers {
            self.cluster.registers = Some(registers.iter().copied().map(Address).collect());
        }
        if let Some(path) = &flags.identity {
            self.cluster.identity = Some(absolute(path, "--identity")?);
        }
        Ok(())
    }
}

impl file::App {
    /// Makes the paths of secrets absolute.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for value in self.settings.0.values_mut() {
            if let SettingValue::File(path) = value {
                *path = folder.join(&path);
            }
        }
    }
}

/// Everything checked.
pub(super) fn resolve(file: File, source: Source<'_>, folder: &Path) -> Result<Config, ConfigError> {
    let File {
        node,
        cluster,
        register,
        gateway,
        worker,
        metrics,
        admin,
        bridge: bridges,
        tenant: tenants,
        listener: listeners,
        app: apps,
    } = file;
    let mut config = Config::all_in_one(node.data_dir.unwrap_or_else(|| folder.join("data")));
    let name = node.name.map(|label| label.0);
    let roles = node.roles.map(|roles| roles.into_iter().map(|role| role.0).collect::<Vec<_>>());
    config.place = place(roles, cluster, name.as_ref())?;
    if let Some(name) = name {
        config.name = name;
    }
    if let Place::Member { identity, .. } = &config.place {
        config.name = identity.uri().name().clone();
    }
    set(&mut config.shards, node.shards.map(size));
    set(&mut config.log, node.log.map(|log| log.0));
    set(&mut config.stop_wait, node.stop_wait_ms.map(millis));
    set(&mut config.register_listen, register.listen.map(|address| address.0));
    apply_metrics(&mut config, metrics);
    let client_ids = gateway.client_ids;
    apply_gateway(&mut config, gateway)?;
    apply_worker(&mut config, worker)?;
    config.admin = admin::resolve(admin, &config.place, source, folder)?;
    for file in bridges {
        let span = file.span();
        let bridge = bridge::resolve(file.into_inner(), &config.place, config.bridges.len())
            .map_err(|reason| mistake(source.at(&span, reason)))?;
        config.bridges.push(bridge);
    }
    config.gateway.client_ids = bridge::client_ids(client_ids, &config.place, &config.bridges)?;
    for listener in listeners {
        let span = listener.span();
        let listener = shared_listener(&config, listener.into_inner())
            .map_err(|reason| mistake(source.at(&span, reason)))?;
        config.gateway.listeners.push(listener);
    }
    let mut slots = 0_u64;
    let mut specs = Vec::new();
    let mut taken = Taken::of(&config.gateway.listeners);
    for app in apps {
        let span = app.span();
        let (app, spec) = App { source, span, config: &config, taken: &taken }.resolve(app.into_inner())?;
        if config.runs_here(&app) {
            slots += u64::from(app.min_slots.unwrap_or(app.slots));
        }
        taken.add(&app);
        specs.push((app.name.clone(), spec));
        config.apps.push(app);
    }
    tenants::resolve(&mut config, tenants, &specs, source)?;
    let instances = config.worker.engine.instances;
    if config.place.runs(Role::Worker) && slots > u64::from(instances) {
        return Err(ConfigError::Conflict(format!(
            "the apps have {slots} slots together, but the worker has room for {instances} plugin instances: raise \
             `instances` in [worker], lower `slots`, or let some of them sleep (`min_slots`)"
        )));
    }
    Ok(config)
}

fn place(
    roles: Option<Vec<Role>>,
    cluster: file::Cluster,
    name: Option<&tidegate_base::NodeName>,
) -> Result<Place, ConfigError> {
    let conflict = |text: String| Err(ConfigError::Conflict(text));
    let registers: Vec<SocketAddr> =
        cluster.registers.unwrap_or_default().into_iter().map(|address| address.0).collect();
    let Some(folder) = cluster.identity else {
        return alone(roles.as_deref(), &registers);
    };
    let identity = Identity::load(&folder)?;
    let uri = identity.uri();
    let (role, folder) = (uri.role(), folder.display());
    if role == Role::Operator {
        return conflict(format!(
            "{folder} has the certificate of an operator, who runs no node: make one with `tidegate cert node ROLE NAME`"
        ));
    }
    if let Some(roles) = roles.filter(|roles| *roles != [role]) {
        let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        return conflict(format!(
            "this node is to be {}, but {folder} has the certificate of a {role}: in a cluster every process runs one \
             role. Start one process for each, with the certificate of its role (`tidegate cert node ROLE NAME`), and \
             leave `roles` out of [node]",
            names.join(" and ")
        ));
    }
    if let Some(name) = name.filter(|name| *name != uri.name()) {
        return conflict(format!(
            "[node] name is {name}, but {folder} has the certificate of {}: leave `name` out, or make a certificate \
             with `tidegate cert node {role} {name}`",
            uri.name()
        ));
    }
    if let Some(Label(named)) = cluster.name.filter(|named| named.0.as_str() != uri.cluster()) {
        return conflict(format!(
            "[cluster] name is {named}, but {folder} has a certificate of the cluster {}: leave `name` out, or use a \
             certificate of {named}",
            uri.cluster()
        ));
    }
    if role != Role::Register && registers.is_empty() {
        return conflict(format!(
            "a {role} needs to know a register: write its address into [cluster] registers, such as \
             [\"127.0.0.1:7010\"]"
        ));
    }
    Ok(Place::Member { identity, registers })
}

/// Without a certificate: everything in one process, or nothing.
fn alone(roles: Option<&[Role]>, registers: &[SocketAddr]) -> Result<Place, ConfigError> {
    const MEND: &str = "make certificates with `tidegate cert init` and `tidegate cert node ROLE NAME`, and name the \
                        folder of this node's as `identity` in [cluster]";
    if let Some(register) = registers.first() {
        return Err(ConfigError::Conflict(format!(
            "this node is to join the register at {register}, but has no certificate: {MEND}"
        )));
    }
    let missing: Vec<_> = [Role::Gateway, Role::Worker]
        .into_iter()
        .filter(|role| roles.is_some_and(|roles| !roles.contains(role)))
        .map(Role::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(Place::AllInOne);
    }
    Err(ConfigError::Conflict(format!(
        "this node is no {}, so it must join others, and has no certificate: {MEND}. Or leave `roles` out, to run all of \
         them in this process",
        missing.join(" and no ")
    )))
}

fn apply_metrics(config: &mut Config, file: file::Metrics) {
    let metrics = &mut config.metrics;
    metrics.listen = file.listen.map(|address| address.0);
    set(&mut metrics.apps_max, file.apps_max.map(size));
    set(&mut metrics.histograms_max, file.histograms_max.map(size));
}

fn apply_gateway(config: &mut Config, file: file::Gateway) -> Result<(), ConfigError> {
    let gateway = &mut config.gateway;
    set(&mut gateway.listen, file.listen.map(|address| address.0));
    gateway.advertise = file.advertise.map(|address| address.0);
    set(&mut gateway.times.handshake, file.handshake_ms.map(millis));
    set(&mut gateway.times.decision, file.decision_ms.map(millis));
    set(&mut gateway.times.slot, file.slot_wait_ms.map(millis));
    set(&mut gateway.times.linger, file.linger_ms.map(millis));
    set(&mut gateway.unrouted_max, file.unrouted_max.map(size));
    set(&mut gateway.io_uring, file.io_uring);
    if let Place::Member { identity, .. } = &config.place
        && identity.uri().role() == Role::Gateway
    {
        let told = gateway.advertise.unwrap_or(gateway.listen);
        if told.ip().is_unspecified() || (gateway.advertise.is_some() && told.port() == 0) {
            return Err(ConfigError::Conflict(format!(
                "workers cannot dial {told}: write the address by which they reach this gateway as `advertise` into \
                 [gateway], such as \"10.0.0.2:7011\""
            )));
        }
    }
    Ok(())
}

fn apply_worker(config: &mut Config, file: file::Worker) -> Result<(), ConfigError> {
    let worker = &mut config.worker;
    if let Some(given) = file.labels {
        worker.labels = labels(&given).map_err(|reason| {
            ConfigError::Conflict(format!("[worker] labels: {reason}: leave out those that no app requires"))
        })?;
    }
    set(&mut worker.engine.instances, file.instances.map(count));
    set(&mut worker.engine.memory_mib, file.memory_mib.map(count));
    set(&mut worker.grant.events, file.credit_events.map(count));
    set(&mut worker.grant.bytes, file.credit_bytes.map(count));
    set(&mut worker.command_queue_bytes_max, file.command_queue_bytes_max.map(size));
    set(&mut worker.query_wait, file.query_wait_ms.map(millis));
    set(&mut worker.sleep_state_bytes_max, file.sleep_state_mib.map(|mib| size(mib).saturating_mul(1 << 20)));
    set(&mut worker.stop_wait, file.stop_wait_ms.map(millis));
    Ok(())
}

fn labels(given: &[Label]) -> Result<Vec<tidegate_base::Label>, String> {
    if given.len() > limits::LABELS_MAX {
        return Err(format!("there are {}, at most {} are allowed", given.len(), limits::LABELS_MAX));
    }
    let label = |label: &Label| tidegate_base::Label::new(label.0.as_str());
    given.iter().map(label).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// What no two apps may have.
#[derive(Default)]
struct Taken {
    names: HashSet<AppName>,
    routes: HashMap<Route, AppName>,
    addresses: HashSet<SocketAddr>,
}

impl Taken {
    fn of(shared: &[ListenerSettings]) -> Self {
        Self { addresses: shared.iter().map(|listener| listener.address).collect(), ..Self::default() }
    }

    fn add(&mut self, app: &AppConfig) {
        self.names.insert(app.name.clone());
        self.routes.extend(app.shared.routes.iter().map(|route| (route.clone(), app.name.clone())));
        self.addresses.extend(app.listeners.iter().map(|listener| listener.address));
    }
}

/// One `[[app]]` of the file, and what is known by then.
struct App<'a> {
    source: Source<'a>,
    span: Range<usize>,
    config: &'a Config,
    taken: &'a Taken,
}

impl App<'_> {
    fn resolve(&self, mut file: file::App) -> Result<(AppConfig, AppSpec), ConfigError> {
        let Some(Label(name)) = file.name.take() else {
            return self.wrong("the app has no name: add `name = \"…\"` to it");
        };
        let tenant =
            file.tenant.take().map_or(AppName::DEFAULT_TENANT.to_owned(), |label| label.0.to_string());
        let name = AppName::new(&format!("{tenant}/{name}"))
            .map_err(|error| mistake(self.source.at(&self.span, error.to_string())))?;
        if self.taken.names.contains(&name) {
            return self.wrong(&format!("there are two apps {name}: give one of them another name"));
        }
        spec::check_min_slots(&file).map_err(|(span, reason)| mistake(self.source.at(&span, reason)))?;
        let secrets = if self.config.place.runs(Role::Worker) { Secrets::Read } else { Secrets::Hide };
        let spec = spec::of_file(&mut file, secrets);
        let spec = spec.or_else(|reason| self.wrong(&format!("app {name}: {reason}")))?;
        let mut app = AppConfig::from_spec(name, &spec);
        self.apply_worker_part(&mut app, &mut file)?;
        self.apply_gateway_part(&mut app, file)?;
        Ok((app, spec))
    }

    fn apply_worker_part(&self, app: &mut AppConfig, file: &mut file::App) -> Result<(), ConfigError> {
        app.plugin = file.plugin.take();
        if self.config.place.runs(Role::Worker) && app.plugin.is_none() {
            return self.wrong(&format!(
                "app {} has no plugin: add `plugin = \"…\"`, the folder of its source or its .wasm file",
                app.name
            ));
        }
        if matches!(self.config.place, Place::AllInOne) && !self.config.runs_here(app) {
            let required: Vec<_> = app.require.iter().map(ToString::to_string).collect();
            return self.wrong(&format!(
                "app {} requires a worker with all of the labels {}, and this node's own is the only one: add those that \
                 are missing to `labels` of [worker], or leave out `require`",
                app.name,
                required.join(", ")
            ));
        }
        let (wanted, most) = (app.instance.memory_mib, self.config.worker.engine.memory_mib);
        if wanted > most {
            return self.wrong(&format!(
                "app {} may use {wanted} MiB per instance, but the worker grants at most {most}: lower `memory_mib` of \
                 the app, or raise that of [worker]",
                app.name
            ));
        }
        Ok(())
    }

    fn apply_gateway_part(&self, app: &mut AppConfig, file: file::App) -> Result<(), ConfigError> {
        self.apply_routes(app, &file)?;
        self.apply_ports(app, &file)?;
        self.apply_web(app, file.web.clone())?;
        Ok(())
    }

    fn apply_routes(&self, app: &mut AppConfig, file: &file::App) -> Result<(), ConfigError> {
        let routes: Vec<_> = file.routes.iter().flatten().map(|route| route.0.clone()).collect();
        if routes.len() > limits::ROUTES_MAX {
            return self.wrong(&format!(
                "app {} has {} routes, at most {} are allowed: use wildcards or shorter paths",
                app.name,
                routes.len(),
                limits::ROUTES_MAX
            ));
        }
        if self.config.place.runs(Role::Gateway)
            && !routes.is_empty()
            && self.config.gateway.listeners.is_empty()
        {
            return self.wrong(&format!(
                "app {} has routes, but there is no port for them: add a `[[listener]]` with \
                 `address = \"ws://127.0.0.1:8080\"`, or leave out `routes`",
                app.name
            ));
        }
        for route in &routes {
            if let Some(owner) = self.taken.routes.get(route) {
                return self.wrong(&format!(
                    "app {} cannot have the route {route}: {owner} has it; take another host or path",
                    app.name
                ));
            }
        }
        let spec = AppSpec {
            routes: routes.iter().map(ToString::to_string).collect(),
            origins: file.origins.as_ref().map(|origins| origins_spec(&origins.0)),
            heartbeat: file.heartbeat.as_ref().map(heartbeat_spec),
            ..AppSpec::default()
        };
        app.shared = shared_settings(&spec).or_else(|reason| self.wrong(&reason))?;
        Ok(())
    }

    fn apply_ports(&self, app: &mut AppConfig, file: &file::App) -> Result<(), ConfigError> {
        let listen = file.listen.as_deref().unwrap_or_default();
        if self.config.place.runs(Role::Gateway) && listen.is_empty() && app.shared.routes.is_empty() {
            return self.wrong(&format!(
                "app {} listens nowhere: add `listen = [\"ws://127.0.0.1:7272\"]` to it, or `routes = [\"HOST/PATH\"]` if \
                 there is a [[listener]]",
                app.name
            ));
        }
        let mut own = HashSet::new();
        for listen in listen {
            let is_taken = self.taken.addresses.contains(&listen.address) || !own.insert(listen.address);
            if listen.address.port() != 0 && is_taken {
                return self
                    .wrong(&format!("{listen}: this address is listened on twice: take another port"));
            }
            app.listeners.push(ListenerSettings {
                protocol: listen.protocol,
                address: listen.address,
                origins: file.origins.as_ref().map_or(Origins::Same, |origins| origins.0.clone()),
                heartbeat: heartbeat(file.heartbeat.as_ref(), listen.protocol),
            });
        }
        Ok(())
    }

    fn apply_web(&self, app: &mut AppConfig, web: Option<PathBuf>) -> Result<(), ConfigError> {
        app.web = web;
        if self.config.place.runs(Role::Gateway)
            && let Some(web) = &app.web
        {
            if !web.is_dir() {
                return self.wrong(&format!(
                    "app {}: `web` is to be a folder of files, but there is none at {}",
                    app.name,
                    web.display()
                ));
            }
            let is_ws = |listener: &ListenerSettings| listener.protocol == Protocol::Ws;
            if !app.listeners.iter().any(is_ws) && app.shared.routes.is_empty() {
                return self.wrong(&format!(
                    "app {}: files are answered on a WebSocket port: add a ws:// address to `listen`, or leave out `web`",
                    app.name
                ));
            }
        }
        Ok(())
    }

    fn wrong<T>(&self, reason: &str) -> Result<T, ConfigError> {
        Err(mistake(self.source.at(&self.span, reason.to_owned())))
    }
}

fn set<T>(into: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *into = value;
    }
}

fn millis<const MIN: u64, const MAX: u64>(value: Within<MIN, MAX>) -> Duration {
    Duration::from_millis(value.get())
}

fn size<const MIN: u64, const MAX: u64>(value: Within<MIN, MAX>) -> usize {
    usize::try_from(value.get()).unwrap_or(usize::MAX)
}

fn count<const MIN: u64, const MAX: u64>(value: Within<MIN, MAX>) -> u32 {
    u32::try_from(value.get()).unwrap_or(u32::MAX)
}
