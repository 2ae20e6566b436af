//! What a node tells about itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tidegate_base::Role;
use tidegate_exporter::ProcessUse;
use tidegate_gateway::Bound;
use tidegate_telemetry::Histogram;
use tidegate_wire::control::NodeInfo;

use crate::config::scheme;

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Where workers dial it, if it is a gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<SocketAddr>,
    /// A gateway's id in this life, 12 hex digits: the front of its clients' ids.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway: Option<String>,
}

impl From<&NodeInfo> for NodeEntry {
    fn from(info: &NodeInfo) -> Self {
        Self {
            name: info.name.to_string(),
            role: info.role,
            address: info.address,
            gateway: info.gateway.map(|id| id.to_string()),
        }
    }
}

/// How a node does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// What runs in it.
    pub roles: Vec<Role>,
    /// The version of Tidegate.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether it does what it is there for; false while it starts and stops.
    pub ready: bool,
    /// What listens where.
    pub addresses: Addresses,
    /// Its apps.
    pub apps: Vec<AppEntry>,
    /// The plugin instances of all of them, if this is a worker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instances: Option<InstancesEntry>,
    /// What its process uses. Other nodes in the same process count in.
    #[serde(default)]
    pub process: ProcessEntry,
    /// Everything that is counted, by name. Other nodes in the same process count in.
    pub counters: BTreeMap<String, u64>,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ProcessEntry {
    /// Milliseconds of CPU time that it has used.
    pub cpu_ms: u64,
    /// Bytes of memory that it has in use.
    pub memory_bytes: u64,
}

impl ProcessEntry {
    /// Of this process, as it is now.
    pub(crate) fn now() -> Self {
        let ProcessUse { cpu, resident_bytes } = ProcessUse::now();
        Self { cpu_ms: u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX), memory_bytes: resident_bytes }
    }
}

/// The plugin instances of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancesEntry {
    /// How many there are.
    pub count: u64,
    /// How many there may be: `instances` of `[worker]`.
    pub max: u32,
    /// Bytes of memory that are kept for those to come.
    pub kept_bytes: usize,
}

/// An app on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AppEntry {
    /// `tenant/app`.
    pub name: String,
    /// Its clients, if this is a gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clients: Option<usize>,
    /// The clients of each slot that this gateway knows.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub clients_per_slot: Vec<usize>,
    /// How its lanes do, if this is a gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lanes: Option<LanesEntry>,
    /// What it does here, if this is a worker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slots: Option<SlotsEntry>,
    /// Labels that it requires and this worker does not have: it does not run here.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub missing_labels: Vec<String>,
}

/// An app on a gateway: its lanes to slots, and what came of its clients' events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LanesEntry {
    /// Lanes that are open.
    pub open: usize,
    /// Those of them that have no credit for one more event: their slots do not keep up.
    pub without_credit: usize,
    /// Events that were sent and whose turns have not ended.
    pub events_under_way: usize,
    /// Clients whose sockets are not read until there is credit.
    pub clients_paused: usize,
    /// Events that were taken from clients.
    pub events: u64,
    /// Events that were given up.
    pub events_lost: u64,
}

/// An app's slots on a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SlotsEntry {
    /// The version of the plugin.
    pub version: u32,
    /// How many.
    pub count: u32,
    /// Instances started anew after a fault.
    pub restarts: u64,
    /// Turns run.
    pub turns: u64,
    /// Turns that failed.
    pub failed: u64,
    /// Slots that keep failing and wait before they start another instance.
    #[serde(default)]
    pub waiting: u32,
    /// Slots that kept failing and start no instance until another version is deployed.
    #[serde(default)]
    pub suspended: u32,
    /// Slots that sleep, since nobody needs them.
    #[serde(default)]
    pub asleep: u32,
    /// Slots that woke up and wait for a place in the pool of plugin instances.
    #[serde(default)]
    pub without_place: u32,
    /// Milliseconds of CPU time that its turns have used.
    #[serde(default)]
    pub cpu_ms: u64,
    /// Milliseconds in which it was over its `cpu_share`, so that its turns waited.
    #[serde(default)]
    pub throttled_ms: u64,
    /// It is over it now.
    #[serde(default)]
    pub throttled: bool,
    /// Bytes of linear memory of its instances.
    #[serde(default)]
    pub memory_bytes: usize,
    /// Keys in its buckets.
    #[serde(default)]
    pub keys: u64,
    /// Bytes of these keys and their values.
    #[serde(default)]
    pub key_bytes: u64,
    /// How long its turns took, without waiting for its `cpu_share`.
    #[serde(default)]
    pub turn_times: Histogram,
    /// How long events waited in the worker for their turns.
    #[serde(default)]
    pub queue_times: Histogram,
}

/// What listens where in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Addresses {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where workers dial this gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway: Option<SocketAddr>,
    /// Where nodes and operators reach this register.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub register: Option<SocketAddr>,
    /// Where it tells numbers and health by HTTP.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metrics: Option<SocketAddr>,
    /// Where the HTTP API is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub admin: Option<SocketAddr>,
    /// Whether it speaks TLS.
    #[serde(default)]
    pub admin_tls: bool,
    /// Where PHP's GatewayClient asks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub bridges: Vec<Bridge>,
}

/// A place where PHP's GatewayClient asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// `tenant/app`.
    pub app: String,
    /// Its `$registerAddress`.
    pub register: SocketAddr,
    /// The ports at which gateways are.
    pub ports: Vec<u16>,
}

/// A place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `tenant/app`; none: the apps that have a route.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<String>,
    /// `ws`, `text`, `frame` or `tcp`.
    pub protocol: String,
    /// The address, with the port that was really taken.
    pub address: SocketAddr,
    /// Protocol and address.
    pub url: String,
    /// Where the app's page is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub web: Option<String>,
}

impl From<&Bound> for Listener {
    fn from(bound: &Bound) -> Self {
        let protocol = scheme(bound.protocol);
        Self {
            app: bound.app.as_ref().map(ToString::to_string),
            protocol: protocol.to_owned(),
            address: bound.address,
            url: format!("{protocol}://{}", bound.address),
            web: bound.web.then(|| format!("http://{}/", reachable(bound.address))),
        }
    }
}

/// An address to type into a browser on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, Protocol};

    use super::*;

    #[test]
    fn a_page_has_an_address_that_a_browser_can_open() {
        let bound = |address: &str, web| Bound {
            app: AppName::new("chat").ok(),
            protocol: Protocol::Ws,
            address: address.parse().unwrap(),
            web,
        };
        let listener = Listener::from(&bound("0.0.0.0:7272", true));
        assert_eq!(listener.url, "ws://0.0.0.0:7272");
        assert_eq!(listener.web.as_deref(), Some("http://127.0.0.1:7272/"));
        assert_eq!(Listener::from(&bound("[::]:1", true)).web.as_deref(), Some("http://[::1]:1/"));
        assert_eq!(Listener::from(&bound("127.0.0.1:1", false)).web, None);
    }
}
