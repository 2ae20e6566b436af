//! What this crate promises, tried over real loopback UDP and in memory.

mod links;
mod restart;
mod trust;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_base::{NodeName, Role};

use crate::certs::{Authority, Identity};
use crate::{Endpoint, Link, LinkError, LinkSettings};

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-link-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

#[test]
fn handles_may_cross_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<(Link, Endpoint, Identity, crate::LaneTx, crate::ControlTx)>();
    sent::<(crate::LaneRx, crate::ControlRx, crate::Incoming, crate::redial::Redial)>();
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn identity(authority: &Authority, role: Role, text: &str) -> Identity {
    authority.issue(role, &name(text), 1).unwrap()
}

fn endpoint(identity: &Identity) -> Endpoint {
    Endpoint::bind(loopback(), identity, &LinkSettings::default()).unwrap()
}

/// A worker dials a gateway: (worker's result, gateway's result).
async fn dial(
    worker: &Endpoint,
    gateway: &Endpoint,
    role: Role,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let addr = gateway.local_addr().unwrap();
    let accept = async { gateway.accept().await.unwrap().accept().await };
    tokio::join!(worker.connect(addr, role), accept)
}
