use std::net::SocketAddr;
use std::time::Duration;

use tidegate_base::{AppName, Secret};

use crate::doors::Doors;

/// How a bridge for one app is set up.
///
/// Most memory: `connections_max` packets of `frame_bytes_max`; only who said the secret may send one of more than 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSettings {
    /// The app whose clients PHP speaks to.
    pub app: AppName,
    /// Where it is a Register: what GatewayClient has as `$registerAddress`.
    pub register: SocketAddr,
    /// Where it is the app's gateways.
    pub gateway: Doors,
    /// What GatewayClient has as `$secretKey`.
    pub secret: Secret,
    /// Connections at a time, to Register and gateways together; more wait to be accepted. Default: 1,024.
    pub connections_max: usize,
    /// Largest packet, its head included. Default: 10 MiB, which is the original's.
    pub frame_bytes_max: usize,
    /// Calls that gateways have not answered; more wait. Default: 512.
    pub requests_max: usize,
    /// How long a connection may be silent, and a packet may take to come. Default: 60 s.
    pub idle_wait: Duration,
}

impl BridgeSettings {
    /// With the default limits.
    pub fn new(app: AppName, register: SocketAddr, gateway: Doors, secret: Secret) -> Self {
        Self {
            app,
            register,
            gateway,
            secret,
            connections_max: 1024,
            frame_bytes_max: 10 * 1024 * 1024,
            requests_max: 512,
            idle_wait: Duration::from_secs(60),
        }
    }
}
