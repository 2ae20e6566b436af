//! Links to workers: which slots they have, and the lanes that they open. And links to pushers, which bring commands from
//! outside of the plugins on lanes of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tidegate_base::{GatewayId, NodeName};
use tidegate_link::{LaneRx, LaneTx, Link};
use tidegate_wire::command_lane::CommandHello;
use tidegate_wire::control::{Control, GATEWAY_STOPPED, LaneHello};
use tidegate_wire::{CommandLane, FrameError, RawFrame, ToGateway};

use crate::registry::Registry;
use crate::shard::inbox::{Inbox, NewCommandLane, NewLane, ShardMsg};
use crate::shard::tell;

/// What every link needs of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct LinkContext {
    pub gateway: GatewayId,
    pub registry: Arc<Registry>,
    pub inboxes: Arc<[Arc<Inbox>]>,
    pub open: OpenLinks,
}

/// The links that are served, so that the gateway can say good-bye on them.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenLinks {
    links: Arc<Mutex<FxHashMap<u64, Link>>>,
}

impl OpenLinks {
    /// Which worker is at the other end of a link that is open.
    pub fn worker(&self, link: u64) -> Option<NodeName> {
        self.links.lock().get(&link).map(|link| link.peer().name.clone())
    }

    /// The gateway has stopped in good order: workers need not wait for its return.
    pub fn say_stopped(&self) {
        for link in self.links.lock().values() {
            link.close(GATEWAY_STOPPED, "the gateway has stopped");
        }
    }
}

/// A number for each link.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Serves a link to a worker until it ends. Its lanes live on shard `home`, on whose runtime this runs.
pub(crate) async fn serve(context: LinkContext, link: Link, home: usize) {
    let number = next_number();
    let Some((control, mut from_worker)) = link.take_control() else { return };
    let hello = Control::Gateway { id: context.gateway };
    if control.send(hello.to_bytes()).is_err() {
        return;
    }
    tracing::info!(worker = %link.peer().name, "a worker is linked");
    context.open.links.lock().insert(number, link.clone());
    let mut announced = false;
    let reason = loop {
        tokio::select! {
            // What is up comes before the lanes to it: a lane is worth nothing while its slot is unknown. The two may
            // overtake each other on the way.
            biased;
            message = from_worker.recv() => match message {
                Ok(message) => match Control::from_bytes(&message) {
                    Ok(Control::Slots(slots)) => {
                        announced = true;
                        let freed = context.registry.announce(number, home, slots, &control);
                        tell(&context.inboxes, &freed, ShardMsg::Rebind);
                    }
                    Ok(other) => break format!("it sent {other:?}, which a worker does not"),
                    Err(error) => break error.to_string(),
                },
                Err(error) => {
                    // What the worker said before it closed the link counts, also on lanes that were not looked at.
                    while link.close_error().is_some()
                        && let Ok((tx, rx)) = link.accept_lane().await
                    {
                        tokio::spawn(admit(context.clone(), number, home, tx, rx));
                    }
                    break error.to_string();
                }
            },
            lane = link.accept_lane(), if announced => match lane {
                Ok((tx, rx)) => {
                    tokio::spawn(admit(context.clone(), number, home, tx, rx));
                }
                Err(error) => break error.to_string(),
            },
        }
    };
    tracing::info!(worker = %link.peer().name, reason, "a worker is not linked any more");
    context.open.links.lock().remove(&number);
    let freed = context.registry.link_gone(number);
    tell(&context.inboxes, &freed, ShardMsg::Rebind);
    link.close(0, &reason);
}

/// Serves a link to a pusher until it ends: it has no slots and gets no events, and every lane of it is a command lane.
/// They live on shard `home`, on whose runtime this runs.
pub(crate) async fn serve_pusher(context: LinkContext, link: Link, home: usize) {
    let number = next_number();
    let Some((control, mut from_pusher)) = link.take_control() else { return };
    if control.send(Control::Gateway { id: context.gateway }.to_bytes()).is_err() {
        return;
    }
    tracing::info!(pusher = %link.peer().name, "a pusher is linked");
    context.open.links.lock().insert(number, link.clone());
    let reason = loop {
        tokio::select! {
            message = from_pusher.recv() => break match message {
                Ok(_) => "it sent a message, which a pusher does not".to_owned(),
                Err(error) => error.to_string(),
            },
            lane = link.accept_lane() => match lane {
                Ok((tx, rx)) => {
                    tokio::spawn(admit_pushes(context.clone(), home, tx, rx));
                }
                Err(error) => break error.to_string(),
            },
        }
    };
    tracing::info!(pusher = %link.peer().name, reason, "a pusher is not linked any more");
    context.open.links.lock().remove(&number);
    link.close(0, &reason);
}

/// Reads the first frame of a worker's lane and gives the lane to its shard. A command lane is refused: a worker acts for
/// the apps whose slots it has announced, and by their lanes.
async fn admit(context: LinkContext, link: u64, home: usize, tx: LaneTx, mut rx: LaneRx) {
    let slots = |frame: &RawFrame<'_>| match ToGateway::decode(frame, context.gateway)? {
        ToGateway::Hello(hello) => Ok(hello),
        _ => Err(FrameError::Unexpected(frame.kind)),
    };
    let (hello, rest): (LaneHello, _) = match read_hello(&mut rx, slots).await {
        Ok(first) => first,
        Err(reason) => {
            tracing::warn!(reason, "a lane is refused");
            return tx.reset();
        }
    };
    let Some(app) = context.registry.get(&hello.app) else {
        tracing::warn!(app = %hello.app, "a worker has an app that this gateway does not: its lane is refused");
        return tx.reset();
    };
    if let Some(inbox) = context.inboxes.get(home) {
        inbox.push(ShardMsg::Lane(Box::new(NewLane { app, hello, link, tx, rx, rest })));
    }
}

/// Reads the first frame of a pusher's lane and gives the lane to its shard.
async fn admit_pushes(context: LinkContext, home: usize, tx: LaneTx, mut rx: LaneRx) {
    let (hello, rest) = match read_hello(&mut rx, CommandHello::decode).await {
        Ok(first) => first,
        Err(reason) => {
            tracing::warn!(reason, "a command lane is refused");
            return tx.reset();
        }
    };
    let Some(app) = context.registry.get(&hello.app) else {
        tracing::debug!(app = %hello.app, "somebody pushes to an app that this gateway does not have");
        // It finishes when it is dropped.
        return drop(tx.send(CommandLane::no_app()));
    };
    if let Some(inbox) = context.inboxes.get(home) {
        inbox.push(ShardMsg::CommandLane(Box::new(NewCommandLane { app, tx, rx, rest })));
    }
}

async fn read_hello<T>(
    rx: &mut LaneRx,
    decode: impl Fn(&RawFrame<'_>) -> Result<T, FrameError>,
) -> Result<(T, Bytes), String> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.extend_from_slice(&rx.recv().await.map_err(|e| e.to_string())?);
        if let Some((frame, used)) = RawFrame::split(&bytes).map_err(|e| e.to_string())? {
            let hello = decode(&frame).map_err(|e| format!("its first frame: {e}"))?;
            return Ok((hello, bytes.freeze().slice(used..)));
        }
    }
}
