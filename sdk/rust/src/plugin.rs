//! The trait that a plugin implements.

use crate::{Client, CloseInfo, Message, Result, StartInfo, StopReason, Upgrade, UpgradeRequest};

/// A plugin. Put [`#[plugin]`](crate::plugin) on the impl block: it exports the callbacks that the block has, and only
/// those; an event without a callback is never sent to the plugin.
///
/// State is `self`: one value per slot, made by `Default` when the instance starts and kept from turn to turn. A slot
/// runs one callback at a time, and a client's events all come to the same slot, in order. What must outlive a crash of
/// the plugin, or be seen by other slots, belongs into sessions, uids and groups, which the gateways keep.
///
/// A callback is a *turn*: what it asks for is buffered and leaves when it returns. If it returns an error, what has
/// not left is dropped, and the plugin lives on. A panic costs the state too: a fresh instance takes the slot over.
pub trait Plugin: Default + 'static {
    #[doc(hidden)]
    const CALLBACKS: Callbacks = Callbacks::UNKNOWN;

    /// Runs once, before anything else. If it fails, the instance does not start.
    ///
    /// # Errors
    /// Of the plugin's own choice; see the trait.
    fn on_worker_start(&mut self, start: StartInfo) -> Result {
        let _ = start;
        Ok(())
    }

    /// A client is connected and can receive.
    ///
    /// # Errors
    /// Of the plugin's own choice; see the trait.
    fn on_connect(&mut self, client: Client) -> Result {
        let _ = client;
        Ok(())
    }

    /// A client asks to upgrade to WebSocket. It cannot receive yet. Without this callback every client is let in.
    ///
    /// The decision waits for at most 5 s. A refused client gets neither on_connect nor on_close.
    ///
    /// # Errors
    /// Of the plugin's own choice; the client is refused with status 500.
    fn on_websocket_connect(&mut self, client: Client, request: UpgradeRequest) -> Result<Upgrade> {
        let _ = (client, request);
        Ok(Upgrade::accept())
    }

    /// A client sent a message. The only callback that a plugin must have.
    ///
    /// # Errors
    /// Of the plugin's own choice; see the trait.
    fn on_message(&mut self, client: Client, message: Message) -> Result;

    /// A client is gone. It has left its uid and groups already; `gone` says which they were.
    ///
    /// # Errors
    /// Of the plugin's own choice; see the trait.
    fn on_close(&mut self, client: Client, gone: CloseInfo) -> Result {
        let _ = (client, gone);
        Ok(())
    }

    /// A timer of this slot is due; `key` is what it was set with.
    ///
    /// # Errors
    /// Of the plugin's own choice; see the trait.
    fn on_timer(&mut self, key: String) -> Result {
        let _ = key;
        Ok(())
    }

    /// The instance stops after this call, which has its own bounded time.
    ///
    /// # Errors
    /// Of the plugin's own choice; see the trait.
    fn on_worker_stop(&mut self, reason: StopReason) -> Result {
        let _ = reason;
        Ok(())
    }
}

/// Which callbacks an impl block has. The attribute macro fills it in.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Callbacks(pub u8);

impl Callbacks {
    /// No attribute macro has looked.
    pub const UNKNOWN: Self = Self(0);
    /// `on_worker_start`
    pub const WORKER_START: u8 = 1;
    /// `on_connect`
    pub const CONNECT: u8 = 2;
    /// `on_websocket_connect`
    pub const WEBSOCKET_CONNECT: u8 = 4;
    /// `on_message`
    pub const MESSAGE: u8 = 8;
    /// `on_close`
    pub const CLOSE: u8 = 16;
    /// `on_timer`
    pub const TIMER: u8 = 32;
    /// `on_worker_stop`
    pub const WORKER_STOP: u8 = 64;

    /// Whether one of the constants above is in it.
    #[must_use]
    pub const fn has(self, callback: u8) -> bool {
        self.0 & callback != 0
    }
}
