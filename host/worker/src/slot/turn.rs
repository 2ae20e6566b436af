//! One turn: a call of the plugin, and what it came to.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tidegate_base::{ClientId, Event, UpgradeDecision};
use tidegate_runtime::{Fault, Instance, StartError, StartInfo, StartReason, StopReason};

use super::SlotParts;
use crate::host::SlotHost;
use crate::intake::Intake;

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
    pub const fn name(&self) -> &'static str {
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

    pub const fn is_upgrade(&self) -> bool {
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

/// Runs a future while what comes in is read.
pub(super) async fn reading<T>(intake: &mut Intake, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => {
            let _ = intake.poll(cx);
            Poll::Pending
        }
    })
    .await
}

/// What a client gets whose upgrade the plugin could not decide.
pub(crate) fn failed_upgrade() -> UpgradeDecision {
    UpgradeDecision::Refuse(500, "The app failed.".into())
}

/// A slot that did not start.
#[derive(Debug, thiserror::Error)]
pub enum SlotStartError {
    /// The instance could not be made.
    #[error("an instance does not start: {0}")]
    Start(StartError),
    /// on-worker-start trapped or overran.
    #[error("on-worker-start did not end well: {0}")]
    Fault(Fault),
    /// on-worker-start returned an error.
    #[error("on-worker-start failed: {0}")]
    Refused(String),
    /// The slot's state is lent to another instance.
    #[error("the slot has an instance already")]
    Busy,
}
