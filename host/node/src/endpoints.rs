//! The UDP sockets from which one runtime dials.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use parking_lot::Mutex;
use tidegate_link::certs::Identity;
use tidegate_link::{Endpoint, LinkError, LinkSettings};
use tokio::runtime::Handle;

/// Endpoints of one runtime, at most four: one for each family, and for loopback, which is not dialed from a socket
/// that is open to the network.
#[derive(Debug)]
pub(crate) struct Endpoints {
    handle: Handle,
    identity: Identity,
    bound: Mutex<HashMap<IpAddr, Endpoint>>,
}

impl Endpoints {
    pub fn new(handle: Handle, identity: Identity) -> Self {
        Self { handle, identity, bound: Mutex::default() }
    }

    /// The runtime.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The one from which this address is dialed.
    ///
    /// # Errors
    /// It cannot be bound.
    pub fn to_dial(&self, target: SocketAddr) -> Result<Endpoint, LinkError> {
        let from = source(target.ip());
        let mut bound = self.bound.lock();
        if let Some(endpoint) = bound.get(&from) {
            return Ok(endpoint.clone());
        }
        let _on_its_runtime = self.handle.enter();
        let endpoint = Endpoint::bind(SocketAddr::new(from, 0), &self.identity, &LinkSettings::default())?;
        self.handle.spawn(turn_away(endpoint.clone()));
        bound.insert(from, endpoint.clone());
        Ok(endpoint)
    }

    /// Closes all of them without waiting for anybody; see [`Endpoint::hang_up`].
    pub async fn hang_up(&self) {
        for endpoint in self.take() {
            endpoint.hang_up().await;
        }
    }

    /// Closes all of them; see [`Endpoint::close`].
    pub async fn close(&self) {
        for endpoint in self.take() {
            endpoint.close().await;
        }
    }

    fn take(&self) -> Vec<Endpoint> {
        self.bound.lock().drain().map(|(_, endpoint)| endpoint).collect()
    }
}

fn source(target: IpAddr) -> IpAddr {
    match (target, target.is_loopback()) {
        (IpAddr::V4(_), true) => Ipv4Addr::LOCALHOST.into(),
        (IpAddr::V4(_), false) => Ipv4Addr::UNSPECIFIED.into(),
        (IpAddr::V6(_), true) => Ipv6Addr::LOCALHOST.into(),
        (IpAddr::V6(_), false) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Nobody is to dial these: whoever does must not wait in a queue.
async fn turn_away(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        incoming.refuse();
    }
}
