//! Links in memory, for roles that live in one process: the same lanes without sockets or copies.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::code;
use crate::error::LinkError;
use crate::lane::{LaneRx, LaneTx};
use crate::link::{Link, Peer};
use crate::queue::{Consumer, End, Queue};
use crate::quic::DROPPED_BY_PEER;
use crate::settings::LinkSettings;

/// Joins two nodes of one process, with the default [`LinkSettings`]. The first link is the end that `a` holds: its
/// [`Link::peer`] is `b`; the second is `b`'s.
///
/// Differences to a QUIC link: a lane is visible to the peer as soon as it is opened, batches arrive whole and uncopied
/// (small neighbours joined), and a lane's wake-ups cross threads if its ends live on two.
pub fn memory_pair(a: Peer, b: Peer) -> (Link, Link) {
    let settings = LinkSettings::default();
    let shared = Arc::new(Shared::default());
    let (a_opens, b_accepts) = mpsc::channel(UNACCEPTED_LANES_MAX);
    let (b_opens, a_accepts) = mpsc::channel(UNACCEPTED_LANES_MAX);
    let end = |side, opens, accepts| {
        let accepts = tokio::sync::Mutex::new(accepts);
        let lane_bytes = settings.lane_queue_bytes;
        Arc::new(MemoryEnd { side, shared: Arc::clone(&shared), opens, accepts, lane_bytes })
    };
    let (a_end, b_end) = (end(Side::A, a_opens, a_accepts), end(Side::B, b_opens, b_accepts));
    let (a_control, b_control) = shared.lane_pair(settings.lane_queue_bytes);
    // The control lanes hold no end: they live inside the links.
    let a_link = Link::in_memory(b, a_end, a_control.open(None), &settings);
    let b_link = Link::in_memory(a, b_end, b_control.open(None), &settings);
    (a_link, b_link)
}

/// One end of a pair. Dropping it closes the link.
#[derive(Debug)]
pub(crate) struct MemoryEnd {
    side: Side,
    shared: Arc<Shared>,
    opens: mpsc::Sender<HalfLane>,
    accepts: tokio::sync::Mutex<mpsc::Receiver<HalfLane>>,
    lane_bytes: usize,
}

impl MemoryEnd {
    pub(crate) async fn open_lane(self: &Arc<Self>) -> Result<(LaneTx, LaneRx), LinkError> {
        tokio::select! {
            // A closed link opens nothing, even if there is room.
            biased;
            error = self.closed() => Err(error),
            permit = self.opens.reserve() => {
                let Ok(permit) = permit else { return Err(self.closed().await) };
                let (here, there) = self.shared.lane_pair(self.lane_bytes);
                permit.send(there);
                Ok(here.open(Some(Arc::clone(self))))
            }
        }
    }

    pub(crate) async fn accept_lane(self: &Arc<Self>) -> Result<(LaneTx, LaneRx), LinkError> {
        let next = async { self.accepts.lock().await.recv().await };
        tokio::select! {
            biased;
            error = self.closed() => Err(error),
            half = next => match half {
                Some(half) => Ok(half.open(Some(Arc::clone(self)))),
                None => Err(self.closed().await),
            }
        }
    }

    pub(crate) async fn closed(&self) -> LinkError {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(cause)) => cause.error_for(self.side),
            // The sender lives in `shared`, so this is not reached while `self` lives.
            Ok(None) | Err(_) => LinkError::Lost("the in-memory link is gone".into()),
        }
    }

    pub(crate) fn close_error(&self) -> Option<LinkError> {
        self.shared.closed.borrow().as_ref().map(|cause| cause.error_for(self.side))
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.shared.close(&Cause { by: self.side, code, reason: reason.into() });
    }
}

impl Drop for MemoryEnd {
    fn drop(&mut self) {
        self.close(code::DROPPED, DROPPED_BY_PEER);
    }
}

/// Lanes that were opened and not yet accepted; opening waits at this number.
const UNACCEPTED_LANES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

#[derive(Debug, Clone)]
struct Cause {
    by: Side,
    code: u32,
    reason: Arc<str>,
}

impl Cause {
    fn error_for(&self, side: Side) -> LinkError {
        let (code, reason) = (self.code, Arc::clone(&self.reason));
        if self.by == side {
            LinkError::ClosedHere { code, reason }
        } else {
            LinkError::ClosedByPeer { code, reason }
        }
    }
}

/// One end's half of a lane, before anybody holds it.
#[derive(Debug)]
struct HalfLane {
    send: Arc<Queue>,
    recv: Arc<Queue>,
}

impl HalfLane {
    fn open(self, keep: Option<Arc<MemoryEnd>>) -> (LaneTx, LaneRx) {
        (LaneTx::new(self.send, keep.clone()), LaneRx::from_queue(self.recv, keep))
    }
}

#[derive(Debug, Default)]
struct Shared {
    closed: watch::Sender<Option<Cause>>,
    queues: Mutex<Registry>,
}

impl Shared {
    fn lane_pair(&self, bytes_max: usize) -> (HalfLane, HalfLane) {
        let queue = || Arc::new(Queue::new(Consumer::Reader, bytes_max));
        let (there, back) = (queue(), queue());
        let mut queues = self.queues.lock();
        match &queues.closed {
            Some(reason) => {
                there.end(End::Lost(Arc::clone(reason)));
                back.end(End::Lost(Arc::clone(reason)));
            }
            None => queues.add([&there, &back]),
        }
        drop(queues);
        let here = HalfLane { send: Arc::clone(&there), recv: Arc::clone(&back) };
        (here, HalfLane { send: back, recv: there })
    }

    /// Only the first close counts.
    fn close(&self, cause: &Cause) {
        let mut queues = self.queues.lock();
        if queues.closed.is_some() {
            return;
        }
        let reason: Arc<str> = format!("the link was closed: {} (code {})", cause.reason, cause.code).into();
        queues.closed = Some(Arc::clone(&reason));
        let open = std::mem::take(&mut queues.open);
        drop(queues);
        self.closed.send_replace(Some(cause.clone()));
        for queue in open.iter().filter_map(Weak::upgrade) {
            queue.end(End::Lost(Arc::clone(&reason)));
        }
    }
}

/// The queues that end with the link.
#[derive(Debug, Default)]
struct Registry {
    open: Vec<Weak<Queue>>,
    sweep_at: usize,
    closed: Option<Arc<str>>,
}

impl Registry {
    /// Adds queues; the dead ones are swept out whenever the number has doubled, so each costs O(1) on average.
    fn add(&mut self, queues: [&Arc<Queue>; 2]) {
        if self.open.len() >= self.sweep_at {
            self.open.retain(|queue| queue.strong_count() > 0);
            self.sweep_at = (2 * self.open.len()).max(64);
        }
        self.open.extend(queues.map(Arc::downgrade));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_that_came_and_went_leave_nothing_behind() {
        let shared = Shared::default();
        let kept: Vec<_> = (0..10).map(|_| shared.lane_pair(1)).collect();
        for _ in 0..10_000 {
            drop(shared.lane_pair(1));
        }
        assert!(shared.queues.lock().open.len() <= 64);
        drop(kept);
    }
}
