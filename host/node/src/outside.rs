//! The HTTP API of a node with the register and its bridges: a thread for them, a pusher with links to the gateways that the
//! register knows, and the register's tokens and deployer. All share the thread, so that what comes in together goes out
//! together.

mod steering;

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_admin::steering::Steering;
use tidegate_admin::{Admin, AdminSettings, Backend, Later, Tls, TlsError};
use tidegate_base::{AppName, Command, Digest, Label, Query, Role, Secret, Token, TokenRole, TokenWish};
use tidegate_bridge::{Bridge, BridgeSettings};
use tidegate_link::Link;
use tidegate_link::certs::Identity;
use tidegate_link::redial::Redial;
use tidegate_push::{Answered, PushError, PushSettings, Pushed, Pusher};
use tidegate_register::deployer::Deployer;
use tidegate_register::tokens::Tokens;
use tidegate_wire::control::NodeInfo;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::steering::Steers;
use crate::config::AdminConfig;
use crate::endpoints::Endpoints;
use crate::error::NodeError;
use crate::node::Shared;
use crate::shards::Shards;
use crate::status;

/// The name of the file in the data folder with the token that `dev` makes.
pub const TOKEN_FILE: &str = "admin.token";

/// The API, answering. Its thread ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Outside {
    thread: Shards,
    handle: Handle,
    pusher: Pusher,
    admin: Option<Admin>,
    tls: Option<Tls>,
    bridges: Vec<(AppName, Bridge)>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    endpoints: Mutex<Option<Arc<Endpoints>>>,
    node: Arc<OnceLock<Weak<Shared>>>,
}

impl Outside {
    /// The node that it tells about, from now on.
    pub fn is_of(&self, node: Weak<Shared>) {
        // Said once.
        let _ = self.node.set(node);
    }

    /// Listens and answers.
    pub fn start(
        admin: Option<&AdminConfig>,
        bridges: &[BridgeSettings],
        tokens: Tokens,
        deployer: Arc<dyn Deployer>,
    ) -> Result<Self, NodeError> {
        let failed = NodeError::system("start a thread");
        let thread = Shards::start("tidegate-admin", 1).map_err(failed)?;
        let Some(handle) = thread.handles().first().cloned() else {
            return Err(NodeError::Panicked("there is no thread for the HTTP API".into()));
        };
        let pusher = Pusher::start(admin.map_or_else(PushSettings::default, |admin| admin.push), &handle);
        let node = Arc::new(OnceLock::new());
        let _on_its_runtime = handle.enter();
        let (mut tasks, mut api, mut bound) = (Vec::new(), None, Vec::new());
        if let Some(config) = admin {
            let steers = Steers { deployer, node: Arc::clone(&node) };
            let (admin, serving) =
                bind_admin(config, Arc::new(Desk { pusher: pusher.clone(), tokens, steers }))?;
            tasks.push(handle.spawn(serving));
            warn_if_open(&admin, config);
            api = Some(admin);
        }
        for settings in bridges {
            let (bridge, serving) = Bridge::bind(settings.clone(), Arc::new(pusher.clone()))?;
            tasks.push(handle.spawn(serving));
            let (app, register) = (&settings.app, bridge.register());
            tracing::info!(%app, %register, gateway = %settings.gateway, "a bridge for GatewayClient listens");
            bound.push((app.clone(), bridge));
        }
        Ok(Self {
            thread,
            handle: handle.clone(),
            pusher,
            admin: api,
            tls: admin.and_then(|config| config.tls.clone()),
            bridges: bound,
            tasks: Mutex::new(tasks),
            endpoints: Mutex::default(),
            node,
        })
    }

    /// Where the API listens, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Whether the API speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads the API's certificate again.
    pub fn reload_tls(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), Tls::reload)
    }

    /// Where bridges listen.
    pub fn bridges(&self) -> Vec<status::Bridge> {
        let told = |(app, bridge): &(AppName, Bridge)| status::Bridge {
            app: app.to_string(),
            register: bridge.register(),
            ports: bridge.ports().to_vec(),
        };
        self.bridges.iter().map(told).collect()
    }

    /// Pushes over this link too.
    pub fn add_link(&self, link: Link) {
        self.pusher.add_link(link);
    }

    /// Pushes to the gateways that are listed, and dials them as this node.
    pub fn follow(&self, gateways: watch::Receiver<Arc<[NodeInfo]>>, identity: Option<&Identity>) {
        let endpoints =
            identity.map(|identity| Arc::new(Endpoints::new(self.handle.clone(), identity.clone())));
        self.endpoints.lock().clone_from(&endpoints);
        let bridges = self.bridges.iter().map(|(_, bridge)| bridge.clone()).collect();
        let following = self.handle.spawn(follow(self.pusher.clone(), bridges, gateways, endpoints));
        self.tasks.lock().push(following);
    }

    /// Takes no request any more, answers those that it has, at most so long, and closes every link.
    pub async fn stop(&self, at_most: Duration) {
        if let Some(admin) = &self.admin
            && !admin.stop(at_most).await
        {
            tracing::warn!("requests to the HTTP API were cut: they were not answered in time");
        }
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        let endpoints = self.endpoints.lock().take();
        if let Some(endpoints) = endpoints {
            endpoints.close().await;
        }
    }

    /// Ends its thread. Blocks.
    pub fn join(self) {
        self.thread.join();
    }
}

/// The API; in `dev` at another port if its own is taken.
fn bind_admin(
    config: &AdminConfig,
    desk: Arc<dyn Backend>,
) -> Result<(Admin, impl Future<Output = ()> + Send + 'static), NodeError> {
    let mut bound = Admin::bind(config.settings.clone(), config.tls.clone(), Arc::clone(&desk));
    if config.for_dev && bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
        let listen = SocketAddr::new(config.settings.listen.ip(), 0);
        bound = Admin::bind(AdminSettings { listen, ..config.settings.clone() }, config.tls.clone(), desk);
    }
    let address = config.settings.listen;
    bound.map_err(|error| NodeError::Admin { address, error })
}

/// Who listens in on a network hears every token that crosses it.
fn warn_if_open(admin: &Admin, config: &AdminConfig) {
    let address = admin.address();
    if config.tls.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "the HTTP API speaks without TLS: tokens cross the network for everybody to read. Name a certificate as `cert` and \
             `key` in [admin], or let it listen on loopback behind a proxy that speaks TLS"
        );
    }
}

/// Makes a token for everything of this tenant and writes it into the data folder, readable by its user alone. It lives as
/// long as the node.
pub(crate) fn write_token(tokens: &Tokens, tenant: Label, data_dir: &Path) -> Result<(), NodeError> {
    let path = data_dir.join(TOKEN_FILE);
    let tenant = tenant.into();
    let wish = TokenWish { tenant, role: TokenRole::Admin, apps: Vec::new(), note: "made by dev".to_owned() };
    let new = tokens.create_passing(wish, 0).map_err(NodeError::Tokens)?;
    write_private(&path, &new.secret).map_err(|error| NodeError::TokenFile { path, error })
}

fn write_private(path: &Path, secret: &Secret) -> io::Result<()> {
    // Another one's rights must not stay on it.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.expose())
}

/// What the API is an API of.
struct Desk {
    pusher: Pusher,
    tokens: Tokens,
    steers: Steers,
}

impl Backend for Desk {
    fn push<'a>(
        &'a self,
        app: &'a AppName,
        commands: &'a [Command<'a>],
    ) -> Later<'a, Result<Pushed, PushError>> {
        Box::pin(self.pusher.push(app, commands))
    }

    fn ask<'a>(&'a self, app: &'a AppName, query: &'a Query) -> Later<'a, Result<Answered, PushError>> {
        Box::pin(self.pusher.ask(app, query))
    }

    fn token(&self, secret: &Digest) -> Option<Arc<Token>> {
        self.tokens.find(secret)
    }

    fn steering(&self) -> &dyn Steering {
        &self.steers
    }
}

/// Follows the list: dials gateways that come, lets go of those that went.
async fn follow(
    pusher: Pusher,
    bridges: Vec<Bridge>,
    mut gateways: watch::Receiver<Arc<[NodeInfo]>>,
    endpoints: Option<Arc<Endpoints>>,
) {
    let mut dialing: HashMap<SocketAddr, Dial> = HashMap::new();
    loop {
        let listed = gateways.borrow_and_update().clone();
        let known = |node: &NodeInfo| Some((node.gateway?, node.name.clone()));
        pusher.list(&listed.iter().filter_map(known).collect::<Vec<_>>());
        let ids: Vec<_> = listed.iter().filter_map(|node| node.gateway).collect();
        bridges.iter().for_each(|bridge| bridge.list(&ids));
        if let Some(endpoints) = &endpoints {
            let addresses: BTreeSet<SocketAddr> = listed.iter().filter_map(|node| node.address).collect();
            dialing.retain(|address, _| addresses.contains(address));
            for address in addresses {
                dialing.entry(address).or_insert_with(|| {
                    Dial(tokio::spawn(dial(pusher.clone(), Arc::clone(endpoints), address)))
                });
            }
        }
        if gateways.changed().await.is_err() {
            return;
        }
    }
}

/// A task that ends when it is let go of. A link that is up by then is used until it ends.
struct Dial(JoinHandle<()>);

impl Drop for Dial {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a link to one gateway.
async fn dial(pusher: Pusher, endpoints: Arc<Endpoints>, address: SocketAddr) {
    let endpoint = match endpoints.to_dial(address) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return tracing::error!(%address, "a gateway cannot be dialed for pushes: {error}");
        }
    };
    let mut redial = Redial::new(endpoint, address, Role::Gateway);
    loop {
        let link = redial.connected().await;
        pusher.add_link(link.clone());
        link.closed().await;
    }
}
