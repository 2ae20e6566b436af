//! The register role: who is in the cluster, which tenants and apps there are, and which versions of apps run. Membership is
//! soft state, which nodes bring and take away with their links; modules, versions, tenants and apps are durable, in the
//! store. It is never on the path of a message.
//!
//! ```text
//!  gateway ---- Announce, Counted ----->  register  <--- Announce, AppReports ---- worker
//!          <--- Directory, Census ------            ---- Directory, Apps --------->
//!          <--- Catalog ----------------            ---- Catalog ----------------->
//!                                  ^ |     ^ |
//!                        ListNodes | |     | | records, modules
//!                    apps, deploy… | v     v v
//!                              operator   store
//! ```
//!
//! Every node gets the whole list, with a revision, when it announces itself and on every change. A node that is gone
//! from its link is gone from the list.
//!
//! What operators ask about apps, and workers for modules, comes on lanes of their links ([`requests`]) and goes to a
//! [`Deployer`]. What operators ask of nodes goes to them on lanes of theirs ([`questions`]).

pub mod catalog;
mod counters;
pub mod deployer;
pub mod deployment;
mod desk;
pub mod lane;
pub mod questions;
pub mod requests;
mod session;
pub mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tidegate_base::{Label, Quotas, Role};
use tidegate_link::{ControlTx, Endpoint, Incoming, Link};
use tidegate_store::Store;
use tidegate_wire::control::{Control, NodeInfo};
use tidegate_wire::directory::{Directory, Session};
use tidegate_wire::request::Refusal;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::deployer::Deployer;
use crate::desk::Desk;
pub use crate::desk::{Adopted, Named, Precedence};
use crate::questions::{Asker, Own, ROUNDS_MAX};
use crate::tokens::Tokens;

/// Links that a register holds at once; more are refused. A link without traffic costs some 50 KB.
pub const LINKS_MAX: usize = 4096;

/// Links that a register refuses carry this code.
pub const REFUSED: u32 = tidegate_link::code::FIRST_FREE;

/// A running register. Stops when it is dropped: its links close, and nodes go on without it.
#[derive(Debug)]
pub struct Register {
    shared: Arc<Shared>,
    handle: Handle,
    accepting: Option<JoinHandle<()>>,
    desk: JoinHandle<()>,
}

impl Register {
    /// Starts on a runtime. With an endpoint it accepts the links of nodes and operators of its cluster; closing the
    /// endpoint is up to whoever made it.
    ///
    /// With a store it deploys versions of apps: it goes on with what the store says was being deployed. Without one
    /// nothing can be deployed, and workers run what their own settings name.
    pub fn start(endpoint: Option<Endpoint>, store: Option<Arc<Store>>, handle: &Handle) -> Self {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        let (desk, task) = Desk::start(store, Tokens::default(), handle);
        let shared = Arc::new(Shared::new(desk));
        let accepting = endpoint.map(|endpoint| handle.spawn(accept(Arc::clone(&shared), endpoint)));
        Self { shared, handle: handle.clone(), accepting, desk: task }
    }

    /// Serves a link, for instance one in memory, until it ends.
    pub fn add_link(&self, link: Link) {
        self.handle.spawn(admit(Arc::clone(&self.shared), link));
    }

    /// From now on requests of operators and workers go to this one instead of the register's own. It is let go of when
    /// the register is dropped.
    pub fn serve_deployer(&self, deployer: Arc<dyn Deployer>) {
        *self.shared.deployer.lock() = Some(deployer);
    }

    /// The tokens of the HTTP API, those that are written down among them: call it before anybody is let in by them.
    ///
    /// # Errors
    /// The store fails.
    pub fn tokens(&self) -> impl Future<Output = Result<Tokens, Refusal>> + Send + use<> {
        let desk = self.shared.desk.clone();
        async move { desk.load_tokens().await }
    }

    /// The gateways that are in the cluster, now and on every change.
    pub fn gateways(&self) -> watch::Receiver<Arc<[NodeInfo]>> {
        self.shared.gateways.subscribe()
    }

    /// The register's own deployer. It refuses everything when the register is dropped.
    pub fn deployer(&self) -> Arc<dyn Deployer> {
        Arc::new(self.shared.desk.clone())
    }

    /// The node in whose process this register runs, which is asked as the others are. To be said once.
    pub fn answer_as(&self, own: Own) {
        let _ = self.shared.own.set(own);
    }

    /// Asks the nodes of the cluster.
    pub fn asker(&self) -> Asker {
        Asker { shared: Arc::clone(&self.shared) }
    }

    /// For a node that runs the register and a worker: says which version of each app its slots start with, in this order,
    /// given the plugins that its settings name. Call it before the worker starts, once for all apps: it costs one write.
    ///
    /// A plugin that the settings name for the first time, or another than the last time, becomes the app's next
    /// version and is committed at once; a deployment that was going on then ends. As long as they name the same, what was
    /// deployed since is what runs, unless the settings have precedence. A register without a store gives the plugins back
    /// under number 0.
    ///
    /// # Errors
    /// An app was made at run time too, the store fails or is full, or the register is being dropped. No version has begun.
    pub async fn adopt(&self, named: Vec<Named>, precedence: Precedence) -> Result<Vec<Adopted>, Refusal> {
        self.shared.desk.adopt(named, precedence).await
    }

    /// The tenants that stand in the settings of the node that runs the register. Call it before anybody can give orders.
    pub async fn fixed_tenants(&self, tenants: BTreeMap<Label, Quotas>) {
        self.shared.desk.fixed_tenants(tenants).await;
    }

    /// Everybody who is in the cluster now, by role and name.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        match self.shared.state.lock().directory.snapshot() {
            Control::Directory { nodes, .. } => nodes,
            _ => Vec::new(),
        }
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        let links: Vec<_> = {
            let mut state = self.shared.state.lock();
            state.stopped = true;
            state.links.drain().map(|(_, link)| link).collect()
        };
        links.iter().for_each(|link| link.close(0, "the register is stopping"));
        drop(self.shared.deployer.lock().take());
        // A write that has begun is ended by its thread; what the task knew beside the store can be lost.
        self.desk.abort();
    }
}

/// What the sessions share.
struct Shared {
    desk: Desk,
    state: Mutex<State>,
    /// One permit per link.
    room: Arc<Semaphore>,
    deployer: Mutex<Option<Arc<dyn Deployer>>>,
    requests: requests::Room,
    /// One permit for each question that goes round.
    rounds: Semaphore,
    own: OnceLock<Own>,
    gateways: watch::Sender<Arc<[NodeInfo]>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    directory: Directory,
    /// Who is told of changes.
    nodes: HashMap<Session, ControlTx>,
    /// Every link, to be closed at the end.
    links: HashMap<Session, Link>,
    last_session: Session,
    stopped: bool,
}

impl State {
    /// Sends the whole list to every node. A link that takes no more ends by itself.
    fn publish(&self) {
        let snapshot = self.directory.snapshot().to_bytes();
        for node in self.nodes.values() {
            let _ = node.send(snapshot.clone());
        }
    }
}

impl Shared {
    fn new(desk: Desk) -> Self {
        let deployer: Arc<dyn Deployer> = Arc::new(desk.clone());
        Self {
            desk,
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(LINKS_MAX)),
            deployer: Mutex::new(Some(deployer)),
            requests: requests::Room::default(),
            rounds: Semaphore::new(ROUNDS_MAX),
            own: OnceLock::new(),
            gateways: watch::Sender::default(),
        }
    }

    /// A number for the link; none while the register stops.
    fn open(&self, link: &Link) -> Option<Session> {
        let mut state = self.state.lock();
        if state.stopped {
            return None;
        }
        state.last_session += 1;
        let session = state.last_session;
        state.links.insert(session, link.clone());
        Some(session)
    }

    /// The node of this session is in the list from now on, and gets the list.
    fn announce(&self, session: Session, info: NodeInfo, control: &ControlTx) {
        let mut state = self.state.lock();
        let name = format!("{} {}", info.role, info.name);
        if state.directory.announce(session, info) {
            tracing::info!(node = name, "a node is in the cluster");
            state.nodes.insert(session, control.clone());
            self.publish(&state);
        } else {
            // The others know it already, but a node that returns on a new link has no list yet.
            let _ = control.send(state.directory.snapshot().to_bytes());
            state.nodes.insert(session, control.clone());
        }
    }

    /// Tells everybody of a change.
    fn publish(&self, state: &State) {
        state.publish();
        if let Control::Directory { nodes, .. } = state.directory.snapshot() {
            let gateways = nodes.into_iter().filter(|node| node.role == Role::Gateway);
            self.gateways.send_replace(gateways.collect());
        }
    }

    fn deployer(&self) -> Result<Arc<dyn Deployer>, Refusal> {
        let unavailable = || Refusal::Unavailable {
            reason: "this register deploys nothing: it is starting or stopping; try again".into(),
        };
        self.deployer.lock().clone().ok_or_else(unavailable)
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.lock().directory.snapshot().to_bytes()
    }

    fn close(&self, session: Session) {
        let mut state = self.state.lock();
        state.nodes.remove(&session);
        state.links.remove(&session);
        if state.directory.gone(session) {
            self.publish(&state);
        }
    }
}

async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(shake_hands(Arc::clone(&shared), incoming));
    }
}

async fn shake_hands(shared: Arc<Shared>, incoming: Incoming) {
    // One that fails was logged by the endpoint. Their number is bounded by the endpoint's own limit on dials, their
    // time by the handshake's.
    if let Ok(link) = incoming.accept().await {
        admit(shared, link).await;
    }
}

async fn admit(shared: Arc<Shared>, link: Link) {
    let Ok(_room) = Arc::clone(&shared.room).try_acquire_owned() else {
        return refuse(&link, &format!("this register has {LINKS_MAX} links, as many as it takes"));
    };
    let Some(session) = shared.open(&link) else {
        return link.close(0, "the register is stopping");
    };
    counters::LINKS.inc();
    let asked = AtomicBool::new(false);
    let ended = tokio::select! {
        ended = session::serve(&shared, session, &link, &asked) => ended,
        never = requests::accept(&shared, &link, &asked) => match never {},
    };
    shared.close(session);
    shared.desk.node_gone(session).await;
    match ended {
        session::End::Gone(reason) => tracing::debug!(peer = %link.peer(), reason, "a link ended"),
        session::End::Refused(reason) => refuse(&link, &reason),
    }
}

fn refuse(link: &Link, reason: &str) {
    counters::REFUSED.inc();
    tracing::warn!(peer = %link.peer(), "a link is refused: {reason}");
    link.close(REFUSED, reason);
}

#[cfg(test)]
mod tests;
