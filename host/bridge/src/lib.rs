//! A bridge for PHP's GatewayClient: pushes from programs that were written for GatewayWorker.
//!
//! ```text
//!  GatewayClient -- worker_connect --> register  tells an address for each gateway
//!                -- packets ---------> doors     the address says which gateway --> Backend (a pusher) --> that gateway
//!                <- serialized values -
//! ```
//!
//! GatewayClient asks each gateway on its own and makes clients' ids of the address that it asked; so a bridge has an address
//! for each gateway ([`Doors`]), and remembers nothing of clients. Written from a description of the protocol.

mod conversation;
mod counters;
mod doors;
mod packet;
mod php;
mod question;
mod register;
mod requests;
mod serve;
mod settings;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::GatewayId;
use tokio::sync::watch;

use crate::doors::Places;
pub use crate::doors::{Doors, InvalidDoors, Network, PORTS_MAX};
use crate::serve::Shared;
pub use crate::serve::{Backend, Later};
pub use crate::settings::BridgeSettings;

/// A bridge, listening. It answers while the future runs that it came with.
#[derive(Debug, Clone)]
pub struct Bridge {
    shared: Arc<Shared>,
    register: SocketAddr,
    ports: Vec<u16>,
}

/// Why a bridge cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("a bridge cannot listen on {at}: {error}; stop what listens there, or change `{key}` in [[bridge]]")]
pub struct BindError {
    /// Where.
    pub at: String,
    /// What the system said.
    pub error: io::Error,
    /// The setting that says so.
    pub key: &'static str,
}

impl Bridge {
    /// Listens. Within a tokio runtime, on which the future must run too; dropping the future ends the accepting.
    ///
    /// # Errors
    /// An address cannot be had.
    pub fn bind(
        settings: BridgeSettings,
        backend: Arc<dyn Backend>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), BindError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        let failed = |at: String, key| move |error| BindError { at, error, key };
        let listener =
            serve::listen(settings.register).map_err(failed(settings.register.to_string(), "register"))?;
        let doors =
            serve::listen_at(settings.gateway).map_err(failed(settings.gateway.to_string(), "gateway"))?;
        let port = |listener: &tokio::net::TcpListener| listener.local_addr().map(|address| address.port());
        let ports: Vec<u16> =
            doors.iter().map(port).collect::<Result<_, _>>().map_err(failed("a port".into(), "gateway"))?;
        let register = listener.local_addr().map_err(failed(settings.register.to_string(), "register"))?;
        let places = watch::Sender::new(Arc::new(Places::new(settings.gateway, &ports)));
        let shared = Arc::new(Shared::new(settings, backend, places));
        let serving = serve::serve(Arc::clone(&shared), listener, doors);
        Ok((Self { shared, register, ports }, serving))
    }

    /// These gateways are in the cluster, and only these.
    pub fn list(&self, gateways: &[GatewayId]) {
        self.shared.list(gateways);
    }

    /// Where it is a Register, with the port that the system chose.
    pub fn register(&self) -> SocketAddr {
        self.register
    }

    /// The ports at which it is gateways, as they were taken.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

/// Room for warnings: whoever repeats a mistake in a loop must not fill the log.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<tidegate_base::RateMeter>);

impl Warnings {
    /// Whether one more may be written now.
    pub fn may(&self, now_ns: u64) -> bool {
        let rate = tidegate_base::Rate::per_second(WARNINGS_PER_S);
        rate.is_none_or(|rate| self.0.lock().take(rate, 1, now_ns))
    }
}

/// The address of a peer of this machine over IPv6 or none.
pub(crate) const NO_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
const WARNINGS_PER_S: u64 = 5;

#[cfg(test)]
mod tests;
