use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{CloseReason, MessageKind};

/// The callbacks that a plugin exports, and so the events that it gets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Exports(u16);

impl Exports {
    /// `on-worker-start`.
    pub const WORKER_START: Self = Self(1);
    /// `on-connect`.
    pub const CONNECT: Self = Self(2);
    /// `on-websocket-connect`.
    pub const WEBSOCKET_CONNECT: Self = Self(4);
    /// `on-message`.
    pub const MESSAGE: Self = Self(8);
    /// `on-close`.
    pub const CLOSE: Self = Self(16);
    /// `on-timer`.
    pub const TIMER: Self = Self(32);
    /// `on-worker-stop`.
    pub const WORKER_STOP: Self = Self(64);
    /// `save`.
    pub const SAVE: Self = Self(128);
    /// `restore`.
    pub const RESTORE: Self = Self(256);

    /// Each callback with the name of its interface in `tidegate:plugin`.
    pub const NAMES: [(Self, &'static str); 9] = [
        (Self::WORKER_START, "worker-start"),
        (Self::CONNECT, "connect"),
        (Self::WEBSOCKET_CONNECT, "websocket-connect"),
        (Self::MESSAGE, "message"),
        (Self::CLOSE, "close"),
        (Self::TIMER, "timer"),
        (Self::WORKER_STOP, "worker-stop"),
        (Self::SAVE, "save"),
        (Self::RESTORE, "restore"),
    ];

    /// None.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// The set as a number: one bit for each callback, in the order of [`NAMES`](Self::NAMES).
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set with these bits; those that stand for no callback are kept.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every callback of `other` is in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The callback whose interface has this name.
    pub fn by_name(interface: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, name)| *name == interface).map(|(export, _)| *export)
    }

    /// The names of the callbacks in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(export, _)| self.has(*export)).map(|(_, name)| *name)
    }
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What a listener speaks with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// WebSocket.
    Ws,
    /// Lines of UTF-8, ended by a newline.
    Text,
    /// A 4-byte big-endian length that counts itself, then the payload.
    Frame,
    /// Bytes as they come.
    Tcp,
}

impl Protocol {
    /// The name in settings and for plugins.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Text => "text",
            Self::Frame => "frame",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a client's connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The client's address.
    pub remote: SocketAddr,
    /// The gateway's address that it connected to.
    pub local: SocketAddr,
    /// The listener's protocol.
    pub protocol: Protocol,
}

/// A WebSocket upgrade request as the plugin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeRequest {
    /// The path without the query.
    pub path: String,
    /// The decoded query parameters in order.
    pub query: Vec<(String, String)>,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The cookies in order.
    pub cookies: Vec<(String, String)>,
    /// The subprotocols that the client offers.
    pub protocols: Vec<String>,
}

/// A plugin's answer to an upgrade request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpgradeDecision {
    /// Let the client in, with one of the offered subprotocols or none.
    Accept(Option<String>),
    /// Refuse with an HTTP status (400 to 599) and a text.
    Refuse(u16, String),
}

/// What is left of a client that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseInfo {
    /// Why.
    pub reason: CloseReason,
    /// The uid it was bound to.
    pub uid: Option<String>,
    /// The groups it was in.
    pub groups: Vec<String>,
    /// Its session, a JSON object.
    pub session: Option<String>,
}

/// What happened to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// It is connected and can receive.
    Connect,
    /// It asks to upgrade to WebSocket and waits for the decision.
    WebsocketConnect(UpgradeRequest),
    /// It sent a message.
    Message(MessageKind, &'a [u8]),
    /// It is gone.
    Close(CloseInfo),
}

impl Event<'_> {
    /// The callback that it calls.
    pub const fn export(&self) -> Exports {
        match self {
            Self::Connect => Exports::CONNECT,
            Self::WebsocketConnect(_) => Exports::WEBSOCKET_CONNECT,
            Self::Message(..) => Exports::MESSAGE,
            Self::Close(_) => Exports::CLOSE,
        }
    }
}
