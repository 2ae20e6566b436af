//! The other end of the callbacks: what the attribute macro exports for a plugin.

use std::marker::PhantomData;

use crate::bindings::imports::tidegate::plugin::types as wit;
use crate::bindings::{
    close, connect, message, restore, save, timer, websocket_connect, worker_start, worker_stop,
};
use crate::{
    Client, ClientId, CloseInfo, CloseReason, Message, MessageKind, Plugin, Saved, Session, StartInfo,
    StartReason, StopReason, Upgrade, UpgradeRequest, turn,
};

/// The one value of a plugin in this wasm instance. The attribute macro implements it with a static.
pub trait Instance: Plugin {
    /// Lends the value. Callbacks never nest, so it is always free.
    fn with<R>(f: impl FnOnce(&mut Self) -> R) -> R;
}

/// Implements the export traits of all callbacks for a plugin. Only those whose export macro is called are exported.
pub struct Exported<P>(PhantomData<P>);

impl<P: Instance> worker_start::exports::tidegate::plugin::worker_start::Guest for Exported<P> {
    fn on_worker_start(info: wit::StartInfo) {
        let wit::StartInfo { slot, slots, worker, version, reason } = info;
        let reason = match reason {
            wit::StartReason::New => StartReason::New,
            wit::StartReason::Swap => StartReason::Swap,
            wit::StartReason::Restart => StartReason::Restart,
        };
        let start = StartInfo { slot, slots, worker, version, reason };
        turn::run(None, || P::with(|plugin| plugin.on_worker_start(start)));
    }
}

impl<P: Instance> connect::exports::tidegate::plugin::connect::Guest for Exported<P> {
    fn on_connect(gateway: u64, connection: u32) {
        let id = ClientId::trusted(gateway, connection);
        turn::run(Some(id), || P::with(|plugin| plugin.on_connect(Client::of_turn(id))));
    }
}

impl<P: Instance> websocket_connect::exports::tidegate::plugin::websocket_connect::Guest for Exported<P> {
    fn on_websocket_connect(
        gateway: u64,
        connection: u32,
        request: wit::UpgradeRequest,
    ) -> wit::UpgradeDecision {
        let id = ClientId::trusted(gateway, connection);
        let wit::UpgradeRequest { path, query, headers, cookies, protocols } = request;
        let request = UpgradeRequest { path, query, headers, cookies, protocols };
        let decision = turn::run(Some(id), || {
            P::with(|plugin| plugin.on_websocket_connect(Client::of_turn(id), request))
        });
        match decision {
            Some(Upgrade::Accept { protocol }) => wit::UpgradeDecision::Accept(protocol),
            Some(Upgrade::Refuse { status, text }) => wit::UpgradeDecision::Refuse((status, text)),
            // The turn has failed, so the reason is in the log; it is not for the client.
            None => wit::UpgradeDecision::Refuse((500, String::new())),
        }
    }
}

impl<P: Instance> message::exports::tidegate::plugin::message::Guest for Exported<P> {
    fn on_message(gateway: u64, connection: u32, kind: wit::MessageKind, payload: Vec<u8>) {
        let id = ClientId::trusted(gateway, connection);
        let kind = match kind {
            wit::MessageKind::Text => MessageKind::Text,
            wit::MessageKind::Binary | wit::MessageKind::Raw => MessageKind::Binary,
        };
        let message = Message::of_host(kind, payload);
        turn::run(Some(id), || P::with(|plugin| plugin.on_message(Client::of_turn(id), message)));
    }
}

impl<P: Instance> close::exports::tidegate::plugin::close::Guest for Exported<P> {
    fn on_close(gateway: u64, connection: u32, info: wit::CloseInfo) {
        let id = ClientId::trusted(gateway, connection);
        let wit::CloseInfo { reason, uid, groups, session } = info;
        let gone =
            CloseInfo { reason: close_reason(reason), uid, groups, session: Session::of_host(session) };
        turn::run(Some(id), || P::with(|plugin| plugin.on_close(Client::of_turn(id), gone)));
    }
}

impl<P: Instance> timer::exports::tidegate::plugin::timer::Guest for Exported<P> {
    fn on_timer(key: String) {
        turn::run(None, || P::with(|plugin| plugin.on_timer(key)));
    }
}

impl<P: Instance> worker_stop::exports::tidegate::plugin::worker_stop::Guest for Exported<P> {
    fn on_worker_stop(reason: wit::StopReason) {
        let reason = match reason {
            wit::StopReason::Swap => StopReason::Swap,
            wit::StopReason::Shutdown => StopReason::Shutdown,
        };
        turn::run(None, || P::with(|plugin| plugin.on_worker_stop(reason)));
    }
}

impl<P: Instance> save::exports::tidegate::plugin::save::Guest for Exported<P> {
    fn save() -> Vec<u8> {
        // A failed turn has no state: what it returns means nothing to the host.
        turn::run(None, || P::with(|plugin| plugin.save())).map(Saved::into_bytes).unwrap_or_default()
    }
}

impl<P: Instance> restore::exports::tidegate::plugin::restore::Guest for Exported<P> {
    fn restore(state: Vec<u8>) {
        turn::run(None, || {
            let saved = Saved::of_bytes(state)?;
            P::with(|plugin| plugin.restore(saved))
        });
    }
}

fn close_reason(reason: wit::CloseReason) -> CloseReason {
    match reason {
        wit::CloseReason::Client => CloseReason::Client,
        wit::CloseReason::Plugin => CloseReason::Plugin,
        wit::CloseReason::Heartbeat => CloseReason::Heartbeat,
        wit::CloseReason::Slow => CloseReason::Slow,
        wit::CloseReason::Protocol => CloseReason::Protocol,
        wit::CloseReason::Network => CloseReason::Network,
        wit::CloseReason::Shutdown => CloseReason::Shutdown,
        wit::CloseReason::GatewayLost => CloseReason::GatewayLost,
    }
}
