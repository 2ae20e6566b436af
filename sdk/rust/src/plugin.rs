//! The trait that a plugin implements.

use crate::{Client, CloseInfo, Message, Result, Saved, StartInfo, StopReason, Upgrade, UpgradeRequest};

/// A plugin. Put [`#[plugin]`](crate::plugin) on the impl block: it exports the callbacks that the block has, and only
/// those; an event without a callback is never sent to the plugin.
///
/// State is `self`: one value per slot, made by `Default` when the instance starts and kept from turn to turn. A slot
/// runs one callback at a time, and a client's events all come to the same slot, in order. What must outlive a crash of
/// the plugin, or be seen by other slots, belongs into sessions, uids and groups, which the gateways keep. A new version
/// gets what [`save`](Self::save) hands over.
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

    /// Hands this instance's state over when a new version of the plugin takes the slot over, between two turns. Goes
    /// together with [`restore`](Plugin::restore). [`State`](crate::State) has an example.
    ///
    /// It must change nothing, since the swap may still be given up, and this instance serves on then: commands, timers
    /// and queries fail it. At most 16 MiB by default, within both clocks of a turn.
    ///
    /// # Errors
    /// Of the plugin's own choice: the old version keeps the slot, and slots that were switched already go back.
    fn save(&self) -> Result<Saved> {
        Saved::new(0, &())
    }

    /// Takes over what [`save`](Plugin::save) of the old version's instance returned. Goes together with it.
    ///
    /// Called right after that, on an instance that has run `on_worker_start` with the reason `Swap` before, while the old
    /// one still served. Not called if the old version has no `save`. What it asks for leaves when the switch is done:
    /// its timers are set beside those of the old instance whose keys it has neither set nor cancelled, then its commands
    /// leave. Queries fail it.
    ///
    /// # Errors
    /// Of the plugin's own choice: the old version keeps the slot, and slots that were switched already go back.
    fn restore(&mut self, saved: Saved) -> Result {
        let _ = saved;
        Ok(())
    }
}

/// Which callbacks an impl block has. The attribute macro fills it in.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Callbacks(pub u16);

impl Callbacks {
    /// No attribute macro has looked.
    pub const UNKNOWN: Self = Self(0);
    /// `on_worker_start`
    pub const WORKER_START: u16 = 1;
    /// `on_connect`
    pub const CONNECT: u16 = 2;
    /// `on_websocket_connect`
    pub const WEBSOCKET_CONNECT: u16 = 4;
    /// `on_message`
    pub const MESSAGE: u16 = 8;
    /// `on_close`
    pub const CLOSE: u16 = 16;
    /// `on_timer`
    pub const TIMER: u16 = 32;
    /// `on_worker_stop`
    pub const WORKER_STOP: u16 = 64;
    /// `save`
    pub const SAVE: u16 = 128;
    /// `restore`
    pub const RESTORE: u16 = 256;

    /// Whether one of the constants above is in it.
    #[must_use]
    pub const fn has(self, callback: u16) -> bool {
        self.0 & callback != 0
    }
}
