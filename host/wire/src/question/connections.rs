//! Clients of gateways, one by one.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, ClientId, NodeName};

use super::Missing;

/// Connections that are told at a time, at most.
pub const CONNECTIONS_MAX: u32 = 10_000;

/// Which connections are meant: those for which all holds that is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionFilter {
    /// Of this app.
    pub app: Option<AppName>,
    /// This one.
    pub client: Option<ClientId>,
    /// With this uid.
    pub uid: Option<String>,
    /// So many at most; more than [`CONNECTIONS_MAX`] means that.
    pub limit: u32,
}

/// Connections of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConnectionList {
    /// How many there are that are meant, told or not. Those that close just now may count.
    pub total: u64,
    /// Those that are told.
    pub connections: Vec<Connection>,
}

/// A client's connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The client.
    #[serde(with = "as_text")]
    pub client: ClientId,
    /// Its app.
    pub app: AppName,
    /// `ws`, `text`, `frame` or `tcp`.
    pub protocol: String,
    /// Where it connects from.
    pub remote: SocketAddr,
    /// Since when, in seconds.
    pub age_s: u64,
    /// `upgrading`, `open` or `closing`.
    pub state: String,
    /// The uid that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<String>,
    /// How many groups it is in.
    pub groups: usize,
    /// The worker of the slot that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker: Option<NodeName>,
    /// The slot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<u32>,
    /// The weight of its events whose turns have not ended: one each, and one more for each 4 KiB.
    pub in_flight: u32,
    /// Bytes for it that its socket did not take yet.
    pub queued_bytes: usize,
    /// Why it is not read now, if it is not: `no-slot`, `no-credit`, `in-flight` or `rate`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<String>,
}

/// Connections of all gateways.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are that are meant, told or not.
    pub total: u64,
    /// Those that are told, gateway by gateway.
    pub connections: Vec<Connection>,
    /// Gateways that said nothing.
    pub missing: Vec<Missing>,
}

impl Connections {
    /// What one more gateway said. No more than `limit` are told in all.
    pub fn add(&mut self, list: ConnectionList, limit: u32) {
        self.total += list.total;
        let room = (limit as usize).saturating_sub(self.connections.len());
        self.connections.extend(list.connections.into_iter().take(room));
    }
}

/// An id as people write it. JSON alone has it so: elsewhere it goes as two numbers.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use tidegate_base::ClientId;

    pub(super) fn serialize<S: Serializer>(client: &ClientId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(client)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ClientId, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
