//! The register role: who is in the cluster. It keeps soft state only, which the nodes bring and take away with their
//! links, and it is never on the path of a message.
//!
//! ```text
//!  gateway ---- Announce --->  register  <--- Announce ---- worker
//!          <--- Directory ---            ---- Directory --->
//!                                 ^ |
//!                       ListNodes | v Directory
//!                              operator
//! ```
//!
//! Every node gets the whole list, with a revision, when it announces itself and on every change. A node that is gone
//! from its link is gone from the list.

mod counters;
pub mod deployment;
mod session;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_link::{ControlTx, Endpoint, Incoming, Link};
use tidegate_wire::control::{Control, NodeInfo};
use tidegate_wire::directory::{Directory, Session};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

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
}

impl Register {
    /// Starts on a runtime. With an endpoint it accepts the links of nodes and operators of its cluster; closing the
    /// endpoint is up to whoever made it.
    pub fn start(endpoint: Option<Endpoint>, handle: &Handle) -> Self {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        let shared = Arc::new(Shared::default());
        let accepting = endpoint.map(|endpoint| handle.spawn(accept(Arc::clone(&shared), endpoint)));
        Self { shared, handle: handle.clone(), accepting }
    }

    /// Serves a link, for instance one in memory, until it ends.
    pub fn add_link(&self, link: Link) {
        self.handle.spawn(admit(Arc::clone(&self.shared), link));
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
    }
}

/// What the sessions share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// One permit per link.
    room: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { state: Mutex::default(), room: Arc::new(Semaphore::new(LINKS_MAX)) }
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
            state.publish();
        } else {
            // The others know it already, but a node that returns on a new link has no list yet.
            let _ = control.send(state.directory.snapshot().to_bytes());
            state.nodes.insert(session, control.clone());
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.lock().directory.snapshot().to_bytes()
    }

    fn close(&self, session: Session) {
        let mut state = self.state.lock();
        state.nodes.remove(&session);
        state.links.remove(&session);
        if state.directory.gone(session) {
            state.publish();
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
    let ended = session::serve(&shared, session, &link).await;
    shared.close(session);
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
