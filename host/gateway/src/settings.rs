//! What a gateway is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_base::{AppName, GatewayId, Protocol, Rate, limits};

pub use crate::protocol::http::{InvalidOrigin, Origins};
pub use tidegate_base::SlowPolicy;

pub use crate::routes::{InvalidRoute, Route};

/// Apps that a gateway may have at a time.
pub const APPS_MAX: usize = 10_000;

/// Settings of a gateway.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Its id in this life: 48 random bits.
    pub id: GatewayId,
    /// The apps that it starts with. It is ready when each of them has a slot.
    pub apps: Vec<AppSettings>,
    /// Ports that apps share by their routes; WebSocket only.
    pub listeners: Vec<ListenerSettings>,
    /// Connections on shared ports that have not said yet what they want, on all of them together. When there are more, the
    /// oldest of them are closed: whoever sends its request at once is not kept out by those who do not.
    pub unrouted_max: usize,
    /// Whether many clients are written by one call of the kernel, where it has io_uring. If not, or if it has none, each
    /// client is written by a call of its own.
    pub io_uring: bool,
    /// The times that bound every wait for a client.
    pub times: Times,
}

impl GatewaySettings {
    /// A gateway without apps and ports.
    pub fn new(id: GatewayId) -> Self {
        Self {
            id,
            apps: Vec::new(),
            listeners: Vec::new(),
            unrouted_max: 16_384,
            io_uring: true,
            times: Times::default(),
        }
    }
}

/// The times that bound every wait.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For a client to send its whole HTTP head.
    pub handshake: Duration,
    /// For a plugin to decide an upgrade.
    pub decision: Duration,
    /// For a slot to come up while clients wait for one.
    pub slot: Duration,
    /// For a client to take what is queued for it and to close.
    pub linger: Duration,
    /// For the clients of an app that is removed or suspended to go and for their on-close events to be done; what is
    /// left then is forgotten.
    pub app_end: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            decision: Duration::from_secs(5),
            slot: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            app_end: Duration::from_secs(10),
        }
    }
}

/// An app on a gateway.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// Its name.
    pub name: AppName,
    /// Whether it takes clients.
    pub state: AppState,
    /// Its own ports; it may have none.
    pub listeners: Vec<ListenerSettings>,
    /// How it is reached on shared ports.
    pub shared: SharedSettings,
    /// A folder of static files, answered on the WebSocket ports.
    pub web: Option<PathBuf>,
    /// Its limits on this gateway.
    pub limits: AppLimits,
}

impl AppSettings {
    /// An active app with the default limits that nobody can reach: no ports, no routes, no files.
    pub fn new(name: AppName) -> Self {
        Self {
            name,
            state: AppState::Active,
            listeners: Vec::new(),
            shared: SharedSettings::default(),
            web: None,
            limits: AppLimits::default(),
        }
    }
}

/// Whether an app takes clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppState {
    /// It does. If no slot of it is up they wait ([`Times::slot`]).
    Active,
    /// It was stopped: clients are refused at once.
    Suspended,
    /// It has no version yet: clients are refused at once, as long as no slot of it is up.
    Empty,
}

/// How an app is reached on ports that apps share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedSettings {
    /// Which requests are for it, at most [`limits::ROUTES_MAX`]; of two apps, none may have the same.
    pub routes: Vec<Route>,
    /// Which pages may open a WebSocket; none: those that the port allows.
    pub origins: Option<Origins>,
    /// How silent clients are found.
    pub heartbeat: SharedHeartbeat,
}

/// How silent clients of an app are found on a shared port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SharedHeartbeat {
    /// As the port does.
    #[default]
    OfListener,
    /// Not at all.
    Off,
    /// Like this.
    Own(Heartbeat),
}

/// Limits of an app on a gateway; they may be changed while it runs. Memory for clients that read nothing is at most `connections_max` times
/// `out_bytes_max`; for clients that wait for credit at most one payload and one read (64 KiB) each.
#[derive(Debug, Clone, Copy)]
pub struct AppLimits {
    /// Client connections.
    pub connections_max: usize,
    /// Bytes of one message.
    pub payload_bytes_max: usize,
    /// Bytes of a session.
    pub session_bytes_max: usize,
    /// Groups of a client.
    pub groups_per_client_max: usize,
    /// Bytes queued for one client; a single message larger than that is taken when the queue is empty.
    pub out_bytes_max: usize,
    /// What happens when a client's queue is full.
    pub slow_policy: SlowPolicy,
    /// Events of one client that may be under way at once; every 4 KiB of an event count as one more.
    pub client_events_max: u32,
    /// How fast messages may come in.
    pub rates: Rates,
}

/// How fast clients may connect, speak and be spoken to. Nothing is lost at such a limit: sockets are not read, connections not
/// taken, and messages wait in the queues of their clients, until it is met again; what becomes of a message that does not fit
/// into its queue is the slow policy's to say. A burst of a second's worth comes through at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Messages a second of one client.
    pub client_messages: Option<Rate>,
    /// Bytes a second of one client, as they come in.
    pub client_bytes: Option<Rate>,
    /// Messages a second of all clients of the app on this gateway.
    pub messages: Option<Rate>,
    /// Bytes a second of all of them.
    pub bytes: Option<Rate>,
    /// Connections a second to the app on this gateway.
    pub connects: Option<Rate>,
    /// Messages a second to one client.
    pub client_out_messages: Option<Rate>,
    /// Bytes a second to one client, as they go out.
    pub client_out_bytes: Option<Rate>,
    /// Messages a second to all clients of the app on this gateway: a broadcast counts once for each.
    pub out_messages: Option<Rate>,
    /// Bytes a second to all of them.
    pub out_bytes: Option<Rate>,
}

impl Rates {
    /// No limit on anything.
    pub const NONE: Self = Self {
        client_messages: None,
        client_bytes: None,
        messages: None,
        bytes: None,
        connects: None,
        client_out_messages: None,
        client_out_bytes: None,
        out_messages: None,
        out_bytes: None,
    };
}

impl Default for Rates {
    /// What no honest client comes near to, and no limit on what an app may have in all.
    fn default() -> Self {
        Self {
            client_messages: Rate::per_second(100_000),
            client_bytes: Rate::per_second(64 << 20),
            connects: Rate::per_second(50_000),
            ..Self::NONE
        }
    }
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            session_bytes_max: limits::SESSION_BYTES_MAX,
            groups_per_client_max: limits::GROUPS_PER_CLIENT_MAX,
            out_bytes_max: 1024 * 1024,
            slow_policy: SlowPolicy::Disconnect,
            client_events_max: 256,
            rates: Rates::default(),
        }
    }
}

/// A place where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Which pages may open a WebSocket here.
    pub origins: Origins,
    /// How silent clients are found.
    pub heartbeat: Option<Heartbeat>,
}

/// How silent clients are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// A client that said nothing for this long is asked, and asked again.
    pub interval: Duration,
    /// How often it may be silent before it is closed; 0: it is only asked.
    pub misses_max: u8,
    /// What it is asked with; none: a WebSocket ping, nothing for other protocols.
    pub payload: Option<Vec<u8>>,
}
