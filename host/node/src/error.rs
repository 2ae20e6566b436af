use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tidegate_base::AppName;
use tidegate_gateway::GatewayError;
use tidegate_link::LinkError;
use tidegate_runtime::EngineError;
use tidegate_store::StoreError;
use tidegate_wire::request::Refusal;
use tidegate_worker::WorkerError;

use crate::data_dir::DataDirError;
use crate::plugins::PluginError;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// An address of an app cannot be listened on.
    #[error(
        "app {app} cannot listen on {address}: {error}; stop what listens there, or change `listen` of the app"
    )]
    Listen {
        /// The app.
        app: AppName,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// An address that apps share cannot be listened on.
    #[error(
        "cannot listen on {address}: {error}; stop what listens there, or change `address` in [[listener]]"
    )]
    ListenShared {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The address of the metrics cannot be listened on.
    #[error("cannot listen on {address}: {error}; stop what listens there, or change `listen` in [metrics]")]
    ListenMetrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A plugin cannot run.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The register's store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys of the worker's apps cannot be used.
    #[error(transparent)]
    Keys(#[from] tidegate_keys::OpenError),
    /// The register cannot say which versions of the apps run.
    #[error("the plugins that the settings name cannot become versions: {0}")]
    Versions(Refusal),
    /// The WebAssembly engine cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The gateway does not start.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The worker does not start.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A port for other nodes cannot be had.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The port of the HTTP API cannot be had.
    #[error(
        "the HTTP API cannot listen on {address}: {error}; stop what listens there, or change `listen` in [admin]"
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A port of a bridge cannot be had.
    #[error(transparent)]
    Bridge(#[from] tidegate_bridge::BindError),
    /// The tokens of the HTTP API cannot be had.
    #[error("the tokens of the HTTP API cannot be read or made: {0}")]
    Tokens(Refusal),
    /// The token for whoever develops cannot be written.
    #[error("the token of the HTTP API cannot be written to {}: {error}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The control socket cannot be had.
    #[error("the control socket in {} cannot be made: {error}", folder.display())]
    Control {
        /// The data folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system has no more threads, descriptors or randomness.
    #[error("the system refuses to {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// A thread that prepared plugins panicked.
    #[error("preparing the plugins failed in a way that it must not: {0}; please report it")]
    Panicked(String),
}

impl NodeError {
    /// For `map_err`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }
}
