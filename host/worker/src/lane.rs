//! A slot's lane to a gateway, opened when it is first needed.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_base::{Exports, GatewayId};
use tidegate_link::{LaneTx, Link};
use tidegate_wire::control::LaneHello;
use tidegate_wire::encode;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::inbox::{Inbox, SlotMsg};
use crate::table::Place;

/// A link of this worker; a later one is greater. To one gateway there may be two, while one that is lost and not noticed yet
/// is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkNo(u64);

impl LinkNo {
    /// That of no other link.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A lane that a slot may open on a link.
#[derive(Debug)]
pub(crate) struct LaneOffer {
    pub link: Link,
    /// The number of the link.
    pub on: LinkNo,
    /// Grows with every lane between the slot and the gateway.
    pub generation: u64,
    /// The slot's place among those of its shard.
    pub place: Place,
    /// Where its loss is told.
    pub losses: Arc<Losses>,
}

/// A lane was lost: the slot's place, and the lane's generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneLoss {
    pub place: Place,
    pub generation: u64,
}

/// The lanes of one link that were lost and not offered again yet. Bounded: each slot has one lane at a time on a link,
/// and tells of it once.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    lost: Mutex<Vec<LaneLoss>>,
    told: Notify,
}

impl Losses {
    fn tell(&self, loss: LaneLoss) {
        self.lost.lock().push(loss);
        self.told.notify_one();
    }

    /// Waits for one. Cancel-safe.
    pub async fn next(&self) -> LaneLoss {
        loop {
            if let Some(loss) = self.lost.lock().pop() {
                return loss;
            }
            self.told.notified().await;
        }
    }
}

/// Takes batches at once; those that come before the lane is open wait for it. Bounded as an open lane is: a slot
/// takes no next turn while too much waits.
#[derive(Debug)]
pub(crate) struct LazyLane {
    gateway: GatewayId,
    offer: LaneOffer,
    hello: LaneHello,
    /// The bits of what the slot's plugin exports now.
    exports: AtomicU16,
    runtime: Handle,
    inbox: Arc<Inbox>,
    state: Mutex<State>,
    /// Told when opening has come to an end.
    opened: Notify,
}

#[derive(Debug)]
enum State {
    Idle,
    Opening(Vec<Bytes>),
    Open(LaneTx),
    Lost,
}

impl LazyLane {
    pub fn new(
        gateway: GatewayId,
        offer: LaneOffer,
        hello: LaneHello,
        runtime: Handle,
        inbox: Arc<Inbox>,
    ) -> Self {
        let exports = AtomicU16::new(hello.exports.bits());
        let (state, opened) = (Mutex::new(State::Idle), Notify::new());
        Self { gateway, offer, hello, exports, runtime, inbox, state, opened }
    }

    /// Another version runs in the slot. True: the lane's first frame may have told of the one before.
    pub fn set_exports(&self, exports: Exports) -> bool {
        let state = self.state.lock();
        self.exports.store(exports.bits(), Ordering::Relaxed);
        matches!(*state, State::Opening(_) | State::Open(_))
    }

    /// Whether it leads to this gateway.
    pub fn is_to(&self, gateway: GatewayId) -> bool {
        self.gateway == gateway
    }

    /// The generation that its first frame names.
    pub fn generation(&self) -> u64 {
        self.hello.generation
    }

    /// The link that offers it.
    pub fn link(&self) -> LinkNo {
        self.offer.on
    }

    /// Opens the lane if it is not open.
    pub fn open(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Idle) {
            *state = State::Opening(Vec::new());
            drop(state);
            self.runtime.spawn(open(self.clone()));
        }
    }

    /// Sends a batch of whole frames. On a lost lane it is dropped: the news is on its way to the slot.
    pub fn send(self: &Arc<Self>, batch: Bytes) {
        let mut state = self.state.lock();
        match &mut *state {
            State::Open(tx) => {
                let _ = tx.send(batch);
            }
            State::Opening(waiting) => waiting.push(batch),
            State::Idle => {
                *state = State::Opening(vec![batch]);
                drop(state);
                self.runtime.spawn(open(self.clone()));
            }
            State::Lost => {}
        }
    }

    /// Ready when fewer than `bytes` wait to be sent.
    pub fn poll_below(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        match &*self.state.lock() {
            State::Open(tx) => tx.poll_below(cx, bytes).map(|_| ()),
            // Opening ends with a message to the slot, which wakes it.
            State::Opening(waiting) if waiting.iter().map(Bytes::len).sum::<usize>() >= bytes => {
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Waits until everything has arrived, also what waits for the lane to open.
    pub async fn finish(&self) {
        let tx = loop {
            let mut opened = pin!(self.opened.notified());
            // From here on the notice is not missed.
            opened.as_mut().enable();
            match &*self.state.lock() {
                State::Open(tx) => break tx.clone(),
                State::Opening(_) => {}
                State::Idle | State::Lost => return,
            }
            opened.await;
        };
        tx.finish().await;
    }

    /// The lane is lost, or a broken frame came on it. While the link lives, the slot gets another one.
    pub fn reset(&self) {
        let was = std::mem::replace(&mut *self.state.lock(), State::Lost);
        if let State::Open(tx) = &was {
            tx.reset();
        }
        if !matches!(was, State::Lost) {
            let LaneOffer { generation, place, .. } = self.offer;
            self.offer.losses.tell(LaneLoss { place, generation });
        }
    }
}

async fn open(lane: Arc<LazyLane>) {
    let opened = lane.offer.link.open_lane().await;
    let mut state = lane.state.lock();
    let State::Opening(waiting) = std::mem::replace(&mut *state, State::Lost) else { return };
    lane.opened.notify_waiters();
    match opened {
        Ok((tx, rx)) => {
            let mut hello = Vec::new();
            let exports = Exports::from_bits(lane.exports.load(Ordering::Relaxed));
            encode::hello(&LaneHello { exports, ..lane.hello.clone() }, &mut hello);
            for batch in std::iter::once(hello.into()).chain(waiting) {
                let _ = tx.send(batch);
            }
            *state = State::Open(tx);
            drop(state);
            lane.inbox.push(SlotMsg::Lane(lane.gateway, lane.generation(), rx));
        }
        Err(error) => {
            drop(state);
            tracing::warn!(gateway = %lane.gateway, %error, "cannot open a lane");
            lane.inbox.push(SlotMsg::LaneLost(lane.gateway, lane.generation()));
        }
    }
}
