//! Links between the nodes of a cluster, and the lanes on them.
//!
//! A [`Link`] joins two nodes: a QUIC connection with mutual TLS 1.3 ([`Endpoint`]), or a pair in memory for roles
//! in one process ([`memory_pair`]). Both carry the same things: one control channel of whole messages
//! ([`ControlTx`], [`ControlRx`]) and any number of lanes of ordered bytes ([`LaneTx`], [`LaneRx`]). This crate moves
//! bytes; what they mean is the business of the wire crate.
//!
//! Who a node is stands in its certificate ([`certs`]), and both ends of a link check it. Whoever keeps a link to a
//! node that may be away uses [`redial`].
//!
//! Deliberately absent: frames, credit, retries of anything but a dial, and 0-RTT.

pub mod certs;
pub mod code;
mod control;
mod endpoint;
mod error;
mod handshake;
mod lane;
mod link;
mod memory;
mod paths;
mod queue;
mod quic;
pub mod redial;
mod refusal;
mod settings;
mod tls;
mod udp;

#[cfg(test)]
mod tests;

pub use control::{CONTROL_MESSAGE_BYTES_MAX, ControlError, ControlRx, ControlTx};
pub use endpoint::{Endpoint, Incoming};
pub use error::{Closed, LaneClosed, LinkError};
pub use lane::{LaneRx, LaneTx};
pub use link::{Link, Peer};
pub use memory::memory_pair;
pub use paths::{PathStats, paths_of};
pub use settings::LinkSettings;
