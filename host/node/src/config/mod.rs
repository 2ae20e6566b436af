//! Settings: a TOML file, weaker than the environment, weaker than flags. Whatever is wrong is said before anything
//! starts: file, line, column, key, and how to mend it.

mod admin;
mod bridge;
mod env;
mod file;
mod listeners;
mod locate;
mod resolve;
mod spec;
mod tenants;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_admin::{AdminSettings, Tls};
use tidegate_base::{AppName, CpuShare, Grants, Label, NodeName, Quotas, Role, Setting, limits};
use tidegate_bridge::{BridgeSettings, Network};
use tidegate_gateway::settings::{AppLimits, ListenerSettings, SharedSettings, Times};
use tidegate_link::certs::{Identity, IdentityError};
use tidegate_push::PushSettings;
use tidegate_runtime::{Compiler, EngineSettings, Limits};
use tidegate_telemetry::LogFilter;
use tidegate_wire::Grant;
use tidegate_worker::OnFailure;

pub use env::VARIABLES;
pub(crate) use listeners::shared_settings;
pub use locate::Mistake;
pub use spec::read_app_spec;
pub use tidegate_register::Precedence;
pub use values::{Listen, Plugin, scheme};

/// What a node is told: everything checked, every path absolute.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name; in a cluster that of its certificate.
    pub name: NodeName,
    /// Whether it is alone or one of a cluster.
    pub place: Place,
    /// Where it keeps its files: compiled modules, the control socket. Made if need be; private to its user.
    pub data_dir: PathBuf,
    /// Shards: one thread each, shared by the roles.
    pub shards: usize,
    /// What is logged.
    pub log: LogFilter,
    /// How long a stop may take in all.
    pub stop_wait: Duration,
    /// Where a register listens (QUIC).
    pub register_listen: SocketAddr,
    /// The gateway's part.
    pub gateway: GatewayConfig,
    /// The worker's part.
    pub worker: WorkerConfig,
    /// What it tells those who watch it.
    pub metrics: MetricsConfig,
    /// The HTTP API, if there is one. Only where the register runs.
    pub admin: Option<AdminConfig>,
    /// What PHP's GatewayClient speaks to. Only where the register runs.
    pub bridges: Vec<BridgeSettings>,
    /// The apps.
    pub apps: Vec<AppConfig>,
    /// What tenants may have, for who runs a register.
    pub tenants: BTreeMap<Label, Quotas>,
    /// Whether an all-in-one starts with what was deployed last or with what its settings name. No setting: `dev` sets
    /// it.
    pub precedence: Precedence,
}

/// Where a node stands.
#[derive(Debug, Clone)]
pub enum Place {
    /// Register, gateway and worker in one process, joined in memory. It opens no port but those of its apps.
    AllInOne,
    /// One role of a cluster: that of its certificate.
    Member {
        /// Its certificate.
        identity: Identity,
        /// The registers that it announces itself at. Empty for a register.
        registers: Vec<SocketAddr>,
    },
}

impl Place {
    /// The roles that run here.
    pub fn roles(&self) -> Vec<Role> {
        match self {
            Self::AllInOne => vec![Role::Register, Role::Gateway, Role::Worker],
            Self::Member { identity, .. } => vec![identity.uri().role()],
        }
    }

    /// Whether a role runs here.
    pub fn runs(&self, role: Role) -> bool {
        self.roles().contains(&role)
    }
}

/// What a node tells those who watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsConfig {
    /// The TCP address of the metrics and of the node's health, by HTTP; None: nobody is told.
    pub listen: Option<SocketAddr>,
    /// Most apps with numbers of their own; those of the others are added up.
    pub apps_max: usize,
    /// Most apps with histograms of their own; those of the others are added up.
    pub histograms_max: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        // A thousand apps in one process are some 1.8 MB of text; each histogram of an app is as many lines as all else of it.
        Self { listen: None, apps_max: 1000, histograms_max: 150 }
    }
}

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The UDP address where workers dial it; unused in an all-in-one.
    pub listen: SocketAddr,
    /// Where it tells workers to dial it, if that is another address.
    pub advertise: Option<SocketAddr>,
    /// Ports that apps share by their routes.
    pub listeners: Vec<ListenerSettings>,
    /// Connections on those whose app is not known yet.
    pub unrouted_max: usize,
    /// Whether clients are written by io_uring, where the kernel has it.
    pub io_uring: bool,
    /// The times that bound every wait for a client.
    pub times: Times,
    /// Where its id is drawn from, so that PHP's GatewayClient can use the ids of its clients as plugins know them. None: 48
    /// random bits.
    pub client_ids: Option<Network>,
}

/// How a worker is set up.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// What the worker is marked with. It runs no app that requires something else.
    pub labels: Vec<Label>,
    /// The pools of plugin instances.
    pub engine: EngineSettings,
    /// The credit of one lane.
    pub grant: Grant,
    /// Bytes of commands that may wait on one lane.
    pub command_queue_bytes_max: usize,
    /// How long a query waits for gateways.
    pub query_wait: Duration,
    /// Bytes that the states of sleeping slots may take together.
    pub sleep_state_bytes_max: usize,
    /// How long its slots may take to finish when it stops.
    pub stop_wait: Duration,
    /// How plugins are compiled.
    pub compiler: Compiler,
    /// Who hears how the build of plugins goes on.
    pub build: BuildOutput,
}

/// How the HTTP API is set up.
#[derive(Debug, Clone, Default)]
pub struct AdminConfig {
    /// What it takes in.
    pub settings: AdminSettings,
    /// Its certificate. None: it speaks HTTP without TLS.
    pub tls: Option<Tls>,
    /// What its pushes may use.
    pub push: PushSettings,
    /// No setting: `dev` sets it. Another port will do if this one is taken, and a token for the apps that are there is
    /// written into the data folder.
    pub for_dev: bool,
}

/// Where the progress of a build of plugins goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildOutput {
    /// To standard error.
    Stderr,
    /// Nowhere.
    Silent,
}

/// An app.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// Its full name.
    pub name: AppName,
    /// Its plugin; none on a gateway.
    pub plugin: Option<Plugin>,
    /// Labels that a worker must have to run it, all of them.
    pub require: Vec<Label>,
    /// Slots on this worker.
    pub slots: u32,
    /// So many of them always have an instance; the others sleep while nobody needs them. None: all always have one.
    pub min_slots: Option<u32>,
    /// How long a slot that may sleep serves nobody before it does.
    pub slot_idle: Duration,
    /// Its own ports; empty on a worker.
    pub listeners: Vec<ListenerSettings>,
    /// How it is reached on shared ports.
    pub shared: SharedSettings,
    /// A folder of files, answered on its WebSocket ports and under its routes.
    pub web: Option<PathBuf>,
    /// Its limits at the gateway. The largest payload and session hold for the worker too.
    pub limits: AppLimits,
    /// What a plugin instance may use.
    pub instance: Limits,
    /// How much of a worker's processors its turns may use.
    pub cpu_share: CpuShare,
    /// Bytes of commands that one turn may ask for.
    pub turn_output_bytes_max: usize,
    /// Commands that one turn may ask for, changes of timers among them.
    pub commands_per_turn_max: usize,
    /// Timers of one slot.
    pub timers_max: usize,
    /// Bytes of state that an instance hands over in a swap.
    pub state_bytes_max: usize,
    /// Bytes of its component.
    pub module_bytes_max: u64,
    /// Bytes of all its keys and values.
    pub keys_bytes_max: u64,
    /// Lines a second that it may write into a worker's log.
    pub log_lines_per_s: u32,
    /// What becomes of a slot whose instances keep failing.
    pub on_failure: OnFailure,
    /// What the plugin reads as its settings.
    pub settings: BTreeMap<String, Setting>,
    /// What it may reach beyond the base.
    pub grants: Grants,
}

/// What the command line sets over the file and the environment. Paths are relative to the current folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `[node] name`.
    pub name: Option<String>,
    /// `[node] data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `[node] roles`.
    pub roles: Option<Vec<Role>>,
    /// `[node] shards`.
    pub shards: Option<u64>,
    /// `[node] log`.
    pub log: Option<String>,
    /// `[cluster] registers`.
    pub registers: Option<Vec<SocketAddr>>,
    /// `[cluster] identity`.
    pub identity: Option<PathBuf>,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}; name a settings file with -c, or write one (an empty one will do)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A mistake in the file.
    #[error("{0}")]
    Mistake(Box<Mistake>),
    /// A wrong environment variable.
    #[error("environment variable {name}: {reason}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A wrong flag.
    #[error("{flag}: {reason}")]
    Flag {
        /// Its name.
        flag: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate cannot be used.
    #[error("[cluster] identity: {0}")]
    Identity(#[from] IdentityError),
    /// Settings do not fit together.
    #[error("{0}")]
    Conflict(String),
}

impl Config {
    /// An all-in-one on loopback without apps, with the defaults: what an empty file means.
    pub fn all_in_one(data_dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let worker = tidegate_worker::WorkerSettings::new(default_name());
        let gateway = tidegate_gateway::settings::GatewaySettings::new(tidegate_base::GatewayId::new(0));
        Self {
            name: default_name(),
            place: Place::AllInOne,
            data_dir: data_dir.into(),
            shards: cores,
            log: LogFilter::default(),
            stop_wait: Duration::from_secs(20),
            register_listen: SocketAddr::from(([127, 0, 0, 1], 7010)),
            gateway: GatewayConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                advertise: None,
                listeners: Vec::new(),
                unrouted_max: gateway.unrouted_max,
                io_uring: gateway.io_uring,
                times: gateway.times,
                client_ids: None,
            },
            worker: WorkerConfig {
                labels: Vec::new(),
                engine: EngineSettings::default(),
                grant: worker.grant,
                command_queue_bytes_max: worker.command_queue_bytes_max,
                query_wait: worker.query_wait,
                sleep_state_bytes_max: worker.sleep_state_bytes_max,
                stop_wait: worker.stop_wait,
                compiler: Compiler::InProcess,
                build: BuildOutput::Silent,
            },
            metrics: MetricsConfig::default(),
            admin: None,
            bridges: Vec::new(),
            apps: Vec::new(),
            tenants: BTreeMap::new(),
            precedence: Precedence::default(),
        }
    }

    /// Those who push from outside, if there are any: the HTTP API and bridges.
    pub(crate) fn outside(&self) -> Option<(Option<&AdminConfig>, &[BridgeSettings])> {
        let (admin, bridges) = (self.admin.as_ref(), self.bridges.as_slice());
        (admin.is_some() || !bridges.is_empty()).then_some((admin, bridges))
    }

    /// Whether this node's worker runs an app: it has all labels that the app requires.
    pub(crate) fn runs_here(&self, app: &AppConfig) -> bool {
        let labels = self.worker_labels();
        app.require.iter().all(|label| labels.contains(label))
    }

    /// What this node's worker is marked with: its own name, too.
    pub(crate) fn worker_labels(&self) -> Vec<Label> {
        let mut labels = self.worker.labels.clone();
        labels.push(self.name.to_label());
        labels
    }

    /// What tells whether an app runs on this node's worker alone.
    pub(crate) fn solitude(&self) -> Solitude {
        match self.place {
            Place::AllInOne => Solitude::Alone,
            Place::Member { .. } => Solitude::Among(self.name.to_label()),
        }
    }

    /// Reads a file, and overlays it with the environment and then with flags. Paths in the file are relative to it.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and how to mend it.
    pub fn load(
        path: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path, variables, flags)
    }

    /// As [`load`](Self::load), of a text: `path` is what errors name, and what paths in it are relative to.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn parse(
        text: &str,
        path: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let source = locate::Source { path, text };
        let mut file: file::File = toml::from_str(text).map_err(|error| mistake(source.explain(&error)))?;
        let folder = folder_of(path);
        file.resolve_paths(&folder);
        env::overlay(&mut file, variables)?;
        file.overlay(flags)?;
        resolve::resolve(file, source, &folder)
    }
}

impl AppConfig {
    /// An app with the defaults: version 1, one slot, no plugin and no listeners.
    pub fn new(name: AppName) -> Self {
        Self {
            name,
            plugin: None,
            require: Vec::new(),
            slots: limits::SLOTS,
            min_slots: None,
            slot_idle: Duration::from_millis(limits::SLOT_IDLE_MS),
            listeners: Vec::new(),
            shared: SharedSettings::default(),
            web: None,
            limits: AppLimits::default(),
            instance: Limits::default(),
            cpu_share: CpuShare::default(),
            turn_output_bytes_max: limits::TURN_OUTPUT_BYTES_MAX,
            commands_per_turn_max: limits::COMMANDS_PER_TURN_MAX,
            timers_max: limits::TIMERS_MAX,
            state_bytes_max: limits::STATE_BYTES_MAX,
            module_bytes_max: limits::MODULE_BYTES_MAX,
            keys_bytes_max: limits::KEYS_BYTES_MAX,
            log_lines_per_s: limits::LOG_LINES_PER_S,
            on_failure: OnFailure::default(),
            settings: BTreeMap::new(),
            grants: Grants::default(),
        }
    }
}

/// What paths in this file are relative to.
fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).ok();
    file.and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default()
}

fn mistake(mistake: Mistake) -> ConfigError {
    ConfigError::Mistake(Box::new(mistake))
}

/// The name of a node that has no certificate and was given none.
fn default_name() -> NodeName {
    // `local` is a name, so the fallback is never taken; there is no constructor that cannot fail.
    #[expect(clippy::expect_used, reason = "a constant that a test checks")]
    NodeName::new("local").expect("`local` is a name")
}

#[cfg(test)]
mod pages;
#[cfg(test)]
mod tests;

/// Whether there are other workers that may run the apps of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Solitude {
    /// There is no other.
    Alone,
    /// This one has this name in its cluster.
    Among(Label),
}

impl Solitude {
    /// Whether no other worker runs an app: it names this one.
    pub fn is_only_here(&self, app: &AppConfig) -> bool {
        match self {
            Self::Alone => true,
            Self::Among(name) => app.require.contains(name),
        }
    }
}
