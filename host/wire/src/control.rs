//! Messages of a link's control channel: rare, so they are plain serde values (postcard).
//!
//! Everything is level-triggered: whole lists, never differences.

mod catalog;
mod swap;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Exports, GatewayId, NodeName, Role};

pub use self::catalog::{
    CATALOG_BYTES_MAX, Catalog, CatalogApp, CatalogPart, CatalogParts, FixedApp, TROUBLES_MAX, TenantShare,
    Trouble,
};
pub use self::swap::{
    AppClients, AppReport, Canary, DesiredApp, DesiredRollout, Failure, REASON_BYTES_MAX, RolloutPhase,
    RolloutReport, SlotSwitch, Stage, Step, VersionRef, VersionTally, cut_reason,
};

/// The protocol that this version speaks; ALPN carries it as well.
pub const PROTOCOL: u16 = 1;

/// The code with which a gateway closes its links after it has stopped in good order: it has no clients any more, and
/// every event of theirs is done. 16 is what roles say to a peer that is not for them.
pub const GATEWAY_STOPPED: u32 = 17;

/// First frame of a lane, from the slot to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHello {
    /// The app.
    pub app: AppName,
    /// The slot's number on its worker.
    pub slot: u32,
    /// Fences a stale peer: grows with every lane between this slot and this gateway, and is the one that the slot was
    /// announced with ([`SlotUp::generation`]).
    pub generation: u64,
    /// The callbacks that the plugin in the slot exports.
    pub exports: Exports,
    /// The first credit.
    pub credit_events: u32,
    /// The first credit in bytes.
    pub credit_bytes: u32,
}

/// A slot that gateways may bind clients to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSlots {
    /// The app.
    pub app: AppName,
    /// Its version on this worker.
    pub version: u32,
    /// The callbacks that it exports.
    pub exports: Exports,
    /// The slots that are up.
    pub slots: Vec<SlotUp>,
}

/// A slot that is up, and the lane that it opens when one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotUp {
    /// The slot's number on its worker.
    pub slot: u32,
    /// The lane's generation. If it is newer than the one announced before, the lane of that is lost.
    pub generation: u64,
}

/// A node of the cluster as the register knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// What it is.
    pub role: Role,
    /// Where workers dial it, if it is a gateway.
    pub address: Option<SocketAddr>,
    /// A gateway's id in this life.
    pub gateway: Option<GatewayId>,
}

/// A message of the control channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Gateway to worker, first of all: who answers.
    Gateway {
        /// The gateway's id in this life.
        id: GatewayId,
    },
    /// Worker to gateway: all slots that are up; replaces what was said before.
    Slots(Vec<AppSlots>),
    /// Gateway to worker: please open a lane from this slot.
    LaneWanted {
        /// The app.
        app: AppName,
        /// The slot.
        slot: u32,
    },
    /// Node to register, first of all and whenever it changes.
    Announce(NodeInfo),
    /// Register to node, at the announcement and on every change.
    Directory {
        /// Grows with every change.
        revision: u64,
        /// Everybody.
        nodes: Vec<NodeInfo>,
    },
    /// Operator to register: who is there?
    ListNodes,
    /// Register to worker, at its announcement and on every change: what its apps should run; replaces what was said
    /// before. An app that is not in it keeps what it runs.
    Apps {
        /// Grows with every change in one life of the register.
        revision: u64,
        /// Every app that was ever deployed.
        apps: Vec<DesiredApp>,
    },
    /// Worker to register, when it is announced, on every change, and once a second while something is rolled out: all
    /// of its apps; replaces what was said before.
    AppReports(Vec<AppReport>),
    /// Register to gateway, before and after a swap: please count.
    Census {
        /// Comes back with the counts.
        number: u64,
    },
    /// Gateway to register: its counts.
    Counted {
        /// Of the request.
        number: u64,
        /// Every app that it has clients or listeners of.
        apps: Vec<AppClients>,
    },
    /// Register to gateways and workers, at the announcement and on every change: a part of the list of the apps that were
    /// made at run time. All parts together replace what was said before.
    Catalog(CatalogPart),
    /// Gateway or worker to register: it does what that list says, but for these.
    CatalogApplied {
        /// Of the list.
        revision: u64,
        /// What it cannot do: at most [`TROUBLES_MAX`].
        troubles: Vec<Trouble>,
    },
    /// Gateway or worker to register, behind its announcement: the apps that stand in its settings file.
    FixedApps(Vec<FixedApp>),
}

impl Control {
    /// The message as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data into a vector: nothing that can fail.
        postcard::to_extend(self, Vec::new()).unwrap_or_default()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The bytes are none of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadControl> {
        postcard::from_bytes(bytes).map_err(|_| BadControl)
    }
}

/// A control message that this version does not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a control message is broken or of another version of the protocol")]
pub struct BadControl;

#[cfg(test)]
mod tests;
