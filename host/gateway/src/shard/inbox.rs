//! How other threads reach a shard: in batches, with one wake-up each.

use std::sync::Arc;
use std::task::{Wake, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_base::{CloseCode, MessageKind, UpgradeDecision};
use tidegate_link::{LaneRx, LaneTx};
use tidegate_wire::control::LaneHello;
use tidegate_wire::{EventNo, Unfinished};

use super::look::Look;
use crate::app::{App, Lane};
use crate::router::SlotKey;
use crate::settings::ListenerSettings;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum ShardMsg {
    /// A lane whose commands this shard reads.
    Lane(Box<NewLane>),
    /// A command lane, which this shard reads.
    CommandLane(Box<NewCommandLane>),
    /// These clients are bound to this lane.
    Bound(Vec<u32>, Arc<Lane>),
    /// These clients may try to bind again.
    Rebind(Vec<u32>),
    /// There is credit for these clients.
    Resume(Vec<u32>),
    /// The lane is gone; of its clients here, these left events that were not read.
    LaneGone(Arc<Lane>, Vec<Unfinished>),
    /// The plugin behind this lane exports what it did not before.
    Exports(Arc<Lane>),
    /// Commands for clients of this shard.
    Ops(Vec<RemoteOp>),
    /// An app has ports of its own, of which this shard gets one socket each.
    Listen(Arc<App>, Vec<(ListenerSettings, std::net::TcpListener)>),
    /// An app takes no clients from this epoch of its life on: those that are there go.
    AppEnds(Arc<App>, u16),
    /// An app that was removed has no clients any more.
    AppIsOver(Arc<App>),
    /// Somebody wants to know of connections.
    Look(Box<Look>),
    /// Stop: say good-bye to every client.
    Stop,
    /// No shard has clients any more.
    Emptied,
}

/// An operation that came in on another shard's lane.
#[derive(Debug)]
pub(crate) struct RemoteOp {
    /// The number of the app whose slot asked for it: only its clients are meant.
    pub app: u32,
    pub targets: Targets,
    pub op: Op,
}

/// The clients that an operation is for.
#[derive(Debug)]
pub(crate) enum Targets {
    One(u32),
    Many(Vec<u32>),
}

/// One operation on clients of a shard.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Send(MessageKind, Bytes),
    Close {
        code: CloseCode,
        reason: Box<str>,
        farewell: Option<(MessageKind, Bytes)>,
    },
    Destroy,
    /// The session was written, or a slot takes it for written; if by a part, when that was. None: the slot has to hear
    /// of it in any case.
    SessionWritten(Option<Written>),
    /// An event of this weight is done.
    Finished(u16),
    Decision(UpgradeDecision),
}

/// By what a session was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub slot: SlotKey,
    /// Of the slot's lane.
    pub generation: u64,
    /// The first event on it that was not done by then.
    pub unfinished: EventNo,
}

#[derive(Debug)]
pub(crate) struct NewLane {
    pub app: Arc<App>,
    pub hello: LaneHello,
    pub link: u64,
    pub tx: LaneTx,
    pub rx: LaneRx,
    /// What came behind the first frame.
    pub rest: Bytes,
}

/// A command lane whose hello is read.
#[derive(Debug)]
pub(crate) struct NewCommandLane {
    pub app: Arc<App>,
    pub tx: LaneTx,
    pub rx: LaneRx,
    /// What came behind the first frame.
    pub rest: Bytes,
}

/// The mailbox of a shard. Bounded by what feeds it: lanes by credit, clients by their number.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: Vec<ShardMsg>,
    ready_lanes: Vec<usize>,
    waker: Option<Waker>,
}

impl Inbox {
    pub fn push(&self, message: ShardMsg) {
        self.with(|inner| inner.messages.push(message));
    }

    /// Takes what is there; whoever comes later wakes `waker`. False: nothing was there.
    pub fn take(&self, messages: &mut Vec<ShardMsg>, ready_lanes: &mut Vec<usize>, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if inner.messages.is_empty() && inner.ready_lanes.is_empty() {
            if !inner.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                inner.waker = Some(waker.clone());
            }
            return false;
        }
        messages.append(&mut inner.messages);
        ready_lanes.append(&mut inner.ready_lanes);
        true
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.inner.lock();
            change(&mut inner);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Wakes a shard for one lane, so that a shard with thousands of lanes polls only those that have something.
#[derive(Debug)]
pub(crate) struct LaneWaker {
    pub inbox: Arc<Inbox>,
    pub lane: usize,
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.with(|inner| {
            // A lane wakes once per poll, so the list holds each at most once between two rounds, or nearly so.
            if inner.ready_lanes.last() != Some(&self.lane) {
                inner.ready_lanes.push(self.lane);
            }
        });
    }
}
