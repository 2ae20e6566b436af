//! What callbacks learn and decide.

use crate::Session;

/// Why an instance starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StartReason {
    /// The slot is new.
    New,
    /// A new version of the plugin takes the slot over.
    Swap,
    /// The instance before trapped or overran; what it kept in memory is gone.
    Restart,
}

impl StartReason {
    /// The contract's name of it: `new`, `swap` or `restart`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Swap => "swap",
            Self::Restart => "restart",
        }
    }
}

/// What an instance learns when it starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartInfo {
    /// This slot's number on its worker, from 0.
    pub slot: u32,
    /// How many slots the app has on this worker.
    pub slots: u32,
    /// The worker's name.
    pub worker: String,
    /// The version of the app, counted from 1; 0 is the plugin that a worker's own settings name, before anything was
    /// deployed in its cluster.
    pub version: u32,
    /// Why it starts.
    pub reason: StartReason,
}

/// Why an instance stops.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StopReason {
    /// A new version takes the slot over.
    Swap,
    /// The worker shuts down or the app leaves it.
    Shutdown,
}

impl StopReason {
    /// The contract's name of it: `swap` or `shutdown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Swap => "swap",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why a client is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// The client closed the connection.
    Client,
    /// A plugin closed it.
    Plugin,
    /// The client did not answer the heartbeat.
    Heartbeat,
    /// The client read too slowly and its outgoing queue was full.
    Slow,
    /// The client broke the protocol or a limit.
    Protocol,
    /// The connection broke.
    Network,
    /// The gateway shuts down.
    Shutdown,
    /// The client's gateway is lost.
    GatewayLost,
}

impl CloseReason {
    /// The contract's name of it, as `gateway-lost`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
            Self::Heartbeat => "heartbeat",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
            Self::Network => "network",
            Self::Shutdown => "shutdown",
            Self::GatewayLost => "gateway-lost",
        }
    }
}

/// What is left of a client that is gone. It has left its uid and groups already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseInfo {
    /// Why it is gone.
    pub reason: CloseReason,
    /// The uid it was bound to.
    pub uid: Option<String>,
    /// The groups it was in.
    pub groups: Vec<String>,
    /// Its last session.
    pub session: Session,
}

/// Where a client's connection ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The client's address, `ip:port` (`[ip]:port` for IPv6).
    pub remote: String,
    /// The gateway's address that it connected to.
    pub local: String,
    /// The listener's protocol: `ws`, `text`, `frame` or `tcp`.
    pub protocol: String,
}

/// A WebSocket upgrade request.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UpgradeRequest {
    /// The path without the query, as sent.
    pub path: String,
    /// The decoded query parameters in order.
    pub query: Vec<(String, String)>,
    /// The headers in order, names in lower case. Values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// The cookies in order.
    pub cookies: Vec<(String, String)>,
    /// The subprotocols that the client offers, in its order of preference.
    pub protocols: Vec<String>,
}

impl UpgradeRequest {
    /// The first query parameter of that name.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }

    /// The first header of that name; upper and lower case are the same.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, &name.to_ascii_lowercase())
    }

    /// The first cookie of that name.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        first(&self.cookies, name)
    }

    /// Whether the client offers a subprotocol.
    #[must_use]
    pub fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| offered == protocol)
    }
}

/// The answer to an upgrade request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upgrade {
    /// Let the client in, with one of the subprotocols that it offers, or none.
    Accept {
        /// The subprotocol.
        protocol: Option<String>,
    },
    /// Refuse. The client gets neither on_connect nor on_close.
    Refuse {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// The text of the response.
        text: String,
    },
}

impl Upgrade {
    /// Let the client in without a subprotocol.
    #[must_use]
    pub const fn accept() -> Self {
        Self::Accept { protocol: None }
    }

    /// Let the client in with one of the subprotocols that it offers.
    #[must_use]
    pub fn accept_with(protocol: impl Into<String>) -> Self {
        Self::Accept { protocol: Some(protocol.into()) }
    }

    /// Refuse with an HTTP status (400 to 599) and a text.
    #[must_use]
    pub fn refuse(status: u16, text: impl Into<String>) -> Self {
        Self::Refuse { status, text: text.into() }
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
