//! A gateway in memory, for unit tests of a plugin with plain `cargo test`.
//!
//! ```
//! use tidegate::*;
//!
//! #[derive(Default)]
//! struct Greeter {
//!     met: u32,
//! }
//!
//! #[tidegate::plugin]
//! impl Plugin for Greeter {
//!     fn on_message(&mut self, client: Client, message: Message) -> Result {
//!         self.met += 1;
//!         client.send(format!("{message}, you are number {}", self.met));
//!         Ok(())
//!     }
//! }
//!
//! let mut gateway = testing::start::<Greeter>();
//! let ann = gateway.connect();
//! gateway.text(ann, "Ann");
//! assert_eq!(gateway.received(ann), ["Ann, you are number 1"]);
//! ```
//!
//! It keeps the contract's semantics: an audience is a set, commands of a turn leave together or not at all, a query is
//! a commit point, sessions merge, timers belong to the slot, and a [swap](FakeGateway::swap) hands state over. Time stands still until a test moves it. A failed turn
//! that a test does not take note of with [`FakeGateway::failures`] fails the test. What it can't do: a panic of the
//! plugin is a panic of the test, and nothing bounds a turn's time or memory.

mod buckets;
mod cluster;
mod setup;
mod swap;
mod timers;
pub(crate) mod turn;

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::log::Level;
use crate::plugin::Callbacks;
use crate::turn::run;
use crate::{
    Addresses, Client, ClientId, CloseInfo, CloseReason, Message, Plugin, Result, StartInfo, StopReason,
    Upgrade, UpgradeRequest,
};
pub use cluster::Closed;
use cluster::Closing;
pub use setup::Setup;
pub use swap::SwapRefused;
use turn::{Mode, World};

/// Starts a plugin in one slot behind one gateway.
///
/// # Panics
/// The plugin has no `#[tidegate::plugin]`, or its `on_worker_start` fails.
#[must_use]
pub fn start<P: Plugin>() -> FakeGateway<P> {
    Setup::new().start()
}

/// Why a client was not let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The HTTP status; 500 if the turn failed, 503 if the decision was not one that a plugin may take.
    pub status: u16,
    /// The text of the response.
    pub text: String,
}

/// A plugin in one slot and the gateways that its clients connect to. See the [module](self).
pub struct FakeGateway<P> {
    plugin: P,
    world: World,
    start: StartInfo,
}

impl<P> fmt::Debug for FakeGateway<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeGateway").field("start", &self.start).finish_non_exhaustive()
    }
}

// === What clients do ===

impl<P: Plugin> FakeGateway<P> {
    /// A client connects to the first gateway, over a listener without an upgrade (`tcp`).
    pub fn connect(&mut self) -> ClientId {
        self.connect_to(setup::FIRST_GATEWAY)
    }

    /// A client connects to a gateway, which exists from then on. Ids of gateways start at 1.
    ///
    /// # Panics
    /// The number has more than 48 bits.
    pub fn connect_to(&mut self, gateway: u64) -> ClientId {
        let id = self.world.cluster.add_client(gateway, "tcp");
        self.world.cluster.admit(id, None);
        self.connected(id)
    }

    /// A client asks the first gateway to upgrade to WebSocket, and connects if the plugin lets it in.
    ///
    /// # Errors
    /// The plugin refuses it, or its turn fails.
    pub fn connect_websocket(&mut self, request: UpgradeRequest) -> Result<ClientId, Refused> {
        let id = self.world.cluster.add_client(setup::FIRST_GATEWAY, "ws");
        let mut decision = Some(Upgrade::accept());
        if P::CALLBACKS.has(Callbacks::WEBSOCKET_CONNECT) {
            let offered = request.protocols.clone();
            decision = self.turn(Some(id), |plugin| {
                let decision = plugin.on_websocket_connect(Client::of_turn(id), request)?;
                checked(decision, &offered)
            });
        }
        match decision {
            Some(Upgrade::Accept { protocol }) => {
                self.world.cluster.admit(id, protocol);
                Ok(self.connected(id))
            }
            Some(Upgrade::Refuse { status, text }) => {
                self.world.cluster.forget(id);
                Err(Refused { status, text })
            }
            None => {
                self.world.cluster.forget(id);
                Err(Refused { status: 500, text: String::new() })
            }
        }
    }

    /// A client sends text.
    pub fn text(&mut self, client: ClientId, text: impl Into<String>) {
        self.message(client, Message::Text(text.into()));
    }

    /// A client sends bytes.
    pub fn binary(&mut self, client: ClientId, bytes: impl Into<Vec<u8>>) {
        self.message(client, Message::Binary(bytes.into()));
    }

    /// A client sends a message. A client that is gone can't: nothing happens.
    pub fn message(&mut self, client: ClientId, message: Message) {
        if self.world.cluster.is_open(client) {
            self.turn(Some(client), |plugin| plugin.on_message(Client::of_turn(client), message));
        }
    }

    /// A client closes its connection.
    pub fn close(&mut self, client: ClientId) {
        self.lose(client, CloseReason::Client);
    }

    /// A client is gone for another reason.
    pub fn lose(&mut self, client: ClientId, reason: CloseReason) {
        let closing = self.world.cluster.remove(client, reason);
        self.world.closing.extend(closing);
        self.settle();
    }
}

// === What a test looks at ===

impl<P: Plugin> FakeGateway<P> {
    /// What a client received since the last look, also if it is gone. Raw bytes show as binary.
    pub fn received(&mut self, client: ClientId) -> Vec<Message> {
        self.world.cluster.take_received(client)
    }

    /// What a client received since the last look, read as JSON.
    ///
    /// # Panics
    /// One of the messages is no JSON.
    pub fn received_json(&mut self, client: ClientId) -> Vec<Value> {
        let parse = |message: &Message| match message.json() {
            Ok(value) => value,
            Err(error) => misuse(&format!("{client} received {message:?}, which is no JSON: {error}")),
        };
        self.received(client).iter().map(parse).collect()
    }

    /// Whether a client is connected.
    #[must_use]
    pub fn is_open(&self, client: ClientId) -> bool {
        self.world.cluster.is_open(client)
    }

    /// How a client was closed; none if it is connected or was never there.
    #[must_use]
    pub fn closed(&self, client: ClientId) -> Option<&Closed> {
        self.world.cluster.closed(client)
    }

    /// The subprotocol that the plugin chose for a client.
    #[must_use]
    pub fn subprotocol(&self, client: ClientId) -> Option<&str> {
        self.world.cluster.client(client)?.subprotocol.as_deref()
    }

    /// A client's uid.
    #[must_use]
    pub fn uid(&self, client: ClientId) -> Option<&str> {
        self.world.cluster.client(client)?.uid.as_deref()
    }

    /// A client's groups, in order of name.
    #[must_use]
    pub fn groups(&self, client: ClientId) -> Vec<&str> {
        self.world
            .cluster
            .client(client)
            .into_iter()
            .flat_map(|client| &client.groups)
            .map(String::as_str)
            .collect()
    }

    /// A client's session; `null` if there is none.
    #[must_use]
    pub fn session(&self, client: ClientId) -> Value {
        let session = self.world.cluster.client(client).and_then(|client| client.session.clone());
        session.map_or(Value::Null, Value::Object)
    }

    /// The reasons of the turns that failed since the last look, and of the joins that were refused: a client can be in
    /// 1,024 groups.
    pub fn failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.world.failures)
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> &[(Level, String)] {
        &self.world.log
    }

    /// The keys of the timers that are set, in order.
    #[must_use]
    pub fn timers(&self) -> Vec<&str> {
        self.world.timers.keys()
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &P {
        &self.plugin
    }
}

// === What happens around it ===

impl<P: Plugin> FakeGateway<P> {
    /// Time passes: the timers that fall due call the plugin, in order.
    pub fn advance(&mut self, time: Duration) {
        let until = self.world.timers.now().saturating_add(time);
        while let Some(key) = self.world.timers.next_due(until) {
            self.turn(None, |plugin| plugin.on_timer(key));
        }
    }

    /// From now on a gateway does not answer queries: they report it as missing and know nothing of its clients.
    /// Commands still reach it.
    pub fn silence(&mut self, gateway: u64) {
        self.world.cluster.silence(gateway, true);
    }

    /// A gateway answers again.
    pub fn unsilence(&mut self, gateway: u64) {
        self.world.cluster.silence(gateway, false);
    }

    /// Sets where a client's connection ends, as `client.addresses()` says it.
    pub fn set_addresses(&mut self, client: ClientId, addresses: Addresses) {
        self.world.cluster.set_addresses(client, addresses);
    }

    /// The instance stops, after `on_worker_stop`. The clients stay where they are.
    pub fn stop(mut self, reason: StopReason) -> Self {
        if P::CALLBACKS.has(Callbacks::WORKER_STOP) {
            self.turn(None, |plugin| plugin.on_worker_stop(reason));
        }
        self.world.timers.clear();
        self
    }
}

impl<P: Plugin> FakeGateway<P> {
    fn connected(&mut self, id: ClientId) -> ClientId {
        if P::CALLBACKS.has(Callbacks::CONNECT) {
            self.turn(Some(id), |plugin| plugin.on_connect(Client::of_turn(id)));
        }
        id
    }

    fn turn<T>(&mut self, client: Option<ClientId>, callback: impl FnOnce(&mut P) -> Result<T>) -> Option<T> {
        let session = client.and_then(|id| self.world.cluster.client(id)?.session.clone());
        let result = self.turn_with(client, session, callback);
        self.settle();
        result
    }

    fn turn_with<T>(
        &mut self,
        client: Option<ClientId>,
        session: Option<cluster::Object>,
        callback: impl FnOnce(&mut P) -> Result<T>,
    ) -> Option<T> {
        turn::enter(std::mem::take(&mut self.world), client, session, Mode::Event);
        let result = run(client, || callback(&mut self.plugin));
        let (world, well) = turn::finish();
        self.world = world;
        result.filter(|_| well)
    }

    /// Runs on_close for the clients that the last turn closed, and for those that these turns close.
    fn settle(&mut self) {
        while let Some(Closing { id, info, session }) = self.world.closing.pop_front() {
            if P::CALLBACKS.has(Callbacks::CLOSE) {
                self.turn_with(Some(id), session, |plugin| closed(plugin, id, info));
            }
        }
    }
}

impl<P> Drop for FakeGateway<P> {
    fn drop(&mut self) {
        if !self.world.failures.is_empty() && !std::thread::panicking() {
            misuse(&format!(
                "turns failed that the test did not ask for with failures(): {:#?}",
                self.world.failures
            ));
        }
    }
}

fn closed<P: Plugin>(plugin: &mut P, id: ClientId, info: CloseInfo) -> Result {
    plugin.on_close(Client::of_turn(id), info)
}

fn checked(decision: Upgrade, offered: &[String]) -> Result<Upgrade> {
    match &decision {
        Upgrade::Accept { protocol: Some(protocol) } if !offered.contains(protocol) => {
            crate::bail!(
                "on_websocket_connect accepts with {protocol:?}, which the client does not offer: {offered:?}"
            )
        }
        Upgrade::Refuse { status, .. } if !(400..=599).contains(status) => {
            crate::bail!("on_websocket_connect refuses with status {status}; use 400 to 599")
        }
        _ => Ok(decision),
    }
}

#[expect(clippy::panic, reason = "a test fails by panicking, and this module runs in tests only")]
#[track_caller]
fn misuse(message: &str) -> ! {
    panic!("{message}")
}
