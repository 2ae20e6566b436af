//! One call of the plugin.

use tidegate_base::{ClientId, Event};
use tidegate_runtime::{Fault, Instance, StartInfo, StartReason, StopReason};

use super::SlotParts;
use crate::host::SlotHost;

/// What one turn calls.
#[derive(Debug)]
pub(super) enum Call<'a> {
    Start(StartReason),
    Event(ClientId, Event<'a>),
    Timer(&'a str),
    Stop,
}

/// The outcome of a turn, as far as the slot cares.
pub(super) enum Turned {
    Well,
    Failed(String),
    Fault(Fault),
}

impl Call<'_> {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "on-worker-start",
            Self::Event(_, Event::Connect) => "on-connect",
            Self::Event(_, Event::WebsocketConnect(_)) => "on-websocket-connect",
            Self::Event(_, Event::Message(..)) => "on-message",
            Self::Event(_, Event::Close(_)) => "on-close",
            Self::Timer(_) => "on-timer",
            Self::Stop => "on-worker-stop",
        }
    }

    pub(super) const fn is_upgrade(&self) -> bool {
        matches!(self, Self::Event(_, Event::WebsocketConnect(_)))
    }
}

/// Calls the plugin and settles what it asked for. After a fault nothing is settled: the core is the slot's again.
pub(super) async fn run_call(
    instance: &mut Instance<SlotHost>,
    parts: &SlotParts,
    call: &Call<'_>,
) -> Turned {
    let called = match call {
        Call::Event(client, Event::Message(kind, payload)) => {
            instance.on_message(*client, *kind, payload).await
        }
        Call::Event(client, Event::Connect) => instance.on_connect(*client).await,
        Call::Event(client, Event::Close(info)) => instance.on_close(*client, info).await,
        Call::Event(client, Event::WebsocketConnect(request)) => {
            match instance.on_websocket_connect(*client, request).await {
                Ok(decision) => {
                    if let Some(core) = instance.host().core().filter(|core| !core.is_failing()) {
                        core.decide(*client, &decision);
                    }
                    Ok(())
                }
                Err(fault) => Err(fault),
            }
        }
        Call::Timer(key) => instance.on_timer(key).await,
        Call::Start(reason) => {
            let info = StartInfo {
                slot: parts.slot,
                slots: parts.edition.app.slots,
                worker: parts.settings.name.to_string(),
                version: parts.edition.app.version,
                reason: *reason,
            };
            instance.on_worker_start(&info).await
        }
        Call::Stop => instance.on_worker_stop(StopReason::Shutdown).await,
    };
    if let Err(fault) = called {
        return Turned::Fault(fault);
    }
    let Some(core) = instance.host().core() else { return Turned::Well };
    let refuse = match call {
        Call::Event(client, Event::WebsocketConnect(_)) if core.is_failing() => Some(*client),
        _ => None,
    };
    match core.end(refuse) {
        None => Turned::Well,
        Some(reason) => Turned::Failed(reason),
    }
}
