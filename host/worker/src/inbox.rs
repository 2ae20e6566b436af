//! How a slot is reached from outside its turns.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;
use tidegate_base::{GatewayId, Query};
use tidegate_link::LaneRx;
use tokio::sync::oneshot;

use crate::held::Kept;
use crate::lane::{LaneOffer, LinkNo};
use crate::prepare::SwitchOrder;
use crate::query::Asked;
use crate::settings::WorkerApp;

/// What a slot is told.
#[derive(Debug)]
pub(crate) enum SlotMsg {
    /// A gateway is linked, or offers a lane instead of one that was lost.
    LaneUp(GatewayId, LaneOffer),
    /// The link of this number is gone. The next one may be there already.
    LinkDown(GatewayId, LinkNo),
    /// The gateway needs a lane.
    LaneWanted(GatewayId),
    /// The lane of this generation is open.
    Lane(GatewayId, u64, LaneRx),
    /// The lane of this generation could not be opened.
    LaneLost(GatewayId, u64),
    /// The gateway has stopped in good order: its clients are gone, and their on-close has run.
    GatewayStopped(GatewayId),
    /// The gateway is lost for good: its clients are gone.
    GatewayGone(GatewayId),
    /// A held instance asks the gateways; it gets what to wait for the answers with.
    Ask(Query, oneshot::Sender<Asked>),
    /// A fresh instance takes the slot over.
    Switch(Box<SwitchOrder>),
    /// What an instance asked for that the slot has let go.
    Say(Vec<Kept>),
    /// The app's settings have changed: those that hold at once do from the next turn on.
    Configure(Arc<WorkerApp>),
    /// There is no version to run any more: the instance ends, in good order, and the slot stays empty. Answered when
    /// that is done.
    Empty(oneshot::Sender<()>),
    /// It waited for a place in the pool, and has one.
    HasPlace,
    /// Another slot waits for a place: sleep as soon as it may.
    SleepSoon,
    /// Leave, gracefully.
    Stop,
}

/// A slot's mailbox. Bounded by the number of gateways and by what they may ask.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: Vec<SlotMsg>,
    ready: Vec<GatewayId>,
    waker: Option<Waker>,
    /// The slot has ended.
    closed: bool,
}

impl Inbox {
    /// Tells the slot. What is told to one that has ended is dropped, so that whoever waits for an answer learns of it.
    pub fn push(&self, message: SlotMsg) {
        let refused = self.with(|inner| {
            if inner.closed {
                return Some(message);
            }
            inner.messages.push(message);
            None
        });
        // Not under the lock: what it holds may tell somebody when it goes.
        drop(refused);
    }

    /// The slot has ended.
    pub fn close(&self) {
        let dropped = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            inner.ready.clear();
            std::mem::take(&mut inner.messages)
        };
        drop(dropped);
    }

    /// Takes what is there; whoever comes later wakes `waker`. False: nothing was there.
    pub fn take(&self, messages: &mut Vec<SlotMsg>, ready: &mut Vec<GatewayId>, waker: &Waker) -> bool {
        let mut inner = self.inner.lock();
        if inner.messages.is_empty() && inner.ready.is_empty() {
            if !inner.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                inner.waker = Some(waker.clone());
            }
            return false;
        }
        messages.append(&mut inner.messages);
        ready.append(&mut inner.ready);
        true
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let (changed, waker) = {
            let mut inner = self.inner.lock();
            (change(&mut inner), inner.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }
}

/// Wakes a slot for one lane, so that it polls only those that have something.
#[derive(Debug)]
pub(crate) struct LaneWaker {
    pub inbox: Arc<Inbox>,
    pub gateway: GatewayId,
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.with(|inner| {
            if !inner.closed && !inner.ready.contains(&self.gateway) {
                inner.ready.push(self.gateway);
            }
        });
    }
}
