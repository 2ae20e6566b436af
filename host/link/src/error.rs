use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_base::Role;

/// Why there is no link, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The socket cannot be had.
    #[error("cannot listen on UDP {address}: {reason}; free the port or name another address")]
    Bind {
        /// The wanted address.
        address: SocketAddr,
        /// What the system said.
        reason: Arc<str>,
    },
    /// A setting is out of its range.
    #[error("link settings: {0}")]
    Settings(Arc<str>),
    /// An endpoint needs a tokio runtime around it.
    #[error("an endpoint was bound outside a tokio runtime; bind it inside one with I/O and time enabled")]
    NoRuntime,
    /// This node's certificate cannot be used.
    #[error("this node's identity cannot be used: {0}")]
    Identity(Arc<str>),
    /// The dial could not even start.
    #[error("cannot dial {address}: {reason}")]
    Dial {
        /// Whom.
        address: SocketAddr,
        /// Why.
        reason: Arc<str>,
    },
    /// Nobody answered in time.
    #[error(
        "no answer from {address} within {waited:?}: check that a {role} listens there and that UDP can pass"
    )]
    NoAnswer {
        /// Whom.
        address: SocketAddr,
        /// What was expected there.
        role: Role,
        /// How long the handshake was given.
        waited: Duration,
    },
    /// This node refuses the peer.
    #[error("refused {address}: {reason}")]
    Untrusted {
        /// The peer.
        address: SocketAddr,
        /// Who it claims to be, what is wrong, how to mend it.
        reason: Arc<str>,
    },
    /// The peer refuses this node.
    #[error("{address} refused this node: {reason}")]
    Refused {
        /// The peer.
        address: SocketAddr,
        /// What it objects to and how to mend it.
        reason: Arc<str>,
    },
    /// The peer closed the link.
    #[error("the peer closed the link: {reason} (code {code})")]
    ClosedByPeer {
        /// See [`crate::code`].
        code: u32,
        /// The peer's words.
        reason: Arc<str>,
    },
    /// This node closed the link.
    #[error("this node closed the link: {reason} (code {code})")]
    ClosedHere {
        /// See [`crate::code`].
        code: u32,
        /// Our words.
        reason: Arc<str>,
    },
    /// The link broke.
    #[error("the link is lost: {0}")]
    Lost(Arc<str>),
}

/// A lane that takes no more bytes: finished, reset, or lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the lane is closed: {0}")]
pub struct Closed(pub(crate) Arc<str>);

/// A lane from which no more bytes come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneClosed {
    /// The peer finished it, and everything has been read.
    #[error("the peer finished the lane")]
    Finished,
    /// It broke: bytes may be missing.
    #[error("the lane is lost: {0}")]
    Lost(Arc<str>),
}
