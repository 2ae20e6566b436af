use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::code;
use crate::error::{Closed, LaneClosed};
use crate::memory::MemoryEnd;
use crate::queue::{End, Queue};
use crate::quic::StreamReader;

/// The sending end of a lane: ordered bytes, queued in batches and written together.
///
/// Clones share one queue. When the last clone is dropped, what is queued still goes out and then the lane finishes.
#[derive(Debug, Clone)]
pub struct LaneTx {
    sender: Arc<Sender>,
}

impl LaneTx {
    pub(crate) fn new(queue: Arc<Queue>, keep: Option<Arc<MemoryEnd>>) -> Self {
        Self { sender: Arc::new(Sender { queue, _keep: keep }) }
    }

    /// Queues a batch of whole frames; never blocks and never copies. An empty batch is nothing.
    ///
    /// Whoever sends keeps an eye on [`queued_bytes`](Self::queued_bytes) or waits with
    /// [`poll_below`](Self::poll_below): a lane whose queue would pass [`LinkSettings::lane_queue_bytes`] is reset.
    ///
    /// # Errors
    /// The lane takes no more bytes; the error says why.
    ///
    /// [`LinkSettings::lane_queue_bytes`]: crate::LinkSettings::lane_queue_bytes
    pub fn send(&self, batch: Bytes) -> Result<(), Closed> {
        self.sender.queue.send(batch)
    }

    /// Bytes that are queued and not yet sent: in memory not yet taken by the peer's reader, over QUIC not yet
    /// accepted by the connection (which keeps up to [`LinkSettings::send_window`] more). 0 once the lane is closed.
    ///
    /// [`LinkSettings::send_window`]: crate::LinkSettings::send_window
    pub fn queued_bytes(&self) -> usize {
        self.sender.queue.unsent()
    }

    /// Ready when fewer than `bytes` are queued; 0 counts as 1, so it means an empty queue. Any number of tasks may
    /// wait; each is woken at least once when its turn has come.
    ///
    /// # Errors
    /// The lane takes no more bytes.
    pub fn poll_below(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Closed>> {
        self.sender.queue.poll_below(cx, bytes)
    }

    /// Takes no more bytes, sends what is queued, and returns when the peer has taken it (in memory) or its QUIC stack
    /// has acknowledged it; or when the lane is closed in another way. True if nothing was lost. The peer's program may
    /// not yet have acted on the bytes: only its answer can say so.
    ///
    /// Cancel-safe: the lane finishes even if nobody waits for it.
    pub async fn finish(&self) -> bool {
        self.sender.queue.finish();
        poll_fn(|cx| self.sender.queue.poll_ended(cx)).await == End::Finished
    }

    /// Gives the lane up at once: what is queued is dropped, and the peer learns that the lane is lost.
    pub fn reset(&self) {
        self.sender.queue.end(End::Reset(code::LANE_RESET));
    }
}

/// The receiving end of a lane. It has no task of its own: its consumer polls it. Dropping it tells the sender that
/// nobody reads any more.
#[derive(Debug)]
pub struct LaneRx {
    source: Source,
    ended: Option<LaneClosed>,
}

impl LaneRx {
    pub(crate) fn from_stream(stream: StreamReader) -> Self {
        Self { source: Source::Stream(stream), ended: None }
    }

    pub(crate) fn from_queue(queue: Arc<Queue>, keep: Option<Arc<MemoryEnd>>) -> Self {
        let reader = QueueReader { queue, taken: Vec::new(), joined: VecDeque::new(), _keep: keep };
        Self { source: Source::Queue(reader), ended: None }
    }

    /// The next bytes: at least one, in order, as many as are there up to about 256 KiB; small pieces are joined, large
    /// ones handed on as they are. A QUIC lane keeps no batch boundaries: a frame may be cut anywhere.
    ///
    /// # Errors
    /// No more bytes will come, and every later call says so again.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LaneClosed>> {
        if let Some(ended) = &self.ended {
            return Poll::Ready(Err(ended.clone()));
        }
        let polled = match &mut self.source {
            Source::Queue(queue) => queue.poll_recv(cx),
            Source::Stream(stream) => stream.poll_recv(cx),
        };
        if let Poll::Ready(Err(ended)) = &polled {
            self.ended = Some(ended.clone());
        }
        polled
    }

    /// [`poll_recv`](Self::poll_recv) as a future. Cancel-safe.
    ///
    /// # Errors
    /// Those of [`poll_recv`](Self::poll_recv).
    pub async fn recv(&mut self) -> Result<Bytes, LaneClosed> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }
}

#[derive(Debug)]
struct Sender {
    queue: Arc<Queue>,
    /// An in-memory link lives as long as its lanes; over QUIC the stream itself sees to that.
    _keep: Option<Arc<MemoryEnd>>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.queue.finish();
    }
}

#[derive(Debug)]
enum Source {
    Queue(QueueReader),
    Stream(StreamReader),
}

#[derive(Debug)]
struct QueueReader {
    queue: Arc<Queue>,
    taken: Vec<Bytes>,
    joined: VecDeque<Bytes>,
    _keep: Option<Arc<MemoryEnd>>,
}

impl QueueReader {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LaneClosed>> {
        loop {
            if let Some(bytes) = self.joined.pop_front() {
                return Poll::Ready(Ok(bytes));
            }
            if let Err(end) = ready!(self.queue.poll_take(cx, RECV_BYTES, &mut self.taken)) {
                return Poll::Ready(Err(match end {
                    End::Finished => LaneClosed::Finished,
                    End::Reset(code) => LaneClosed::Lost(code::lane_reason(code.into()).into()),
                    End::Lost(reason) => LaneClosed::Lost(reason),
                }));
            }
            join_small(&mut self.taken, |bytes| self.joined.push_back(bytes));
        }
    }
}

impl Drop for QueueReader {
    fn drop(&mut self) {
        self.queue.end(End::Lost(STOPPED_BY_PEER.into()));
    }
}

/// Joins neighbours that are small, so that what follows costs per byte and not per piece; large ones stay as they
/// are. Leaves `pieces` empty.
pub(crate) fn join_small(pieces: &mut Vec<Bytes>, mut out: impl FnMut(Bytes)) {
    for run in pieces.chunk_by(|a, b| a.len() < SMALL_BYTES && b.len() < SMALL_BYTES) {
        out(concat(run));
    }
    pieces.clear();
}

/// One piece as it is, several copied into one.
pub(crate) fn concat(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [one] => one.clone(),
        many => {
            let mut joined = Vec::with_capacity(many.iter().map(Bytes::len).sum());
            many.iter().for_each(|piece| joined.extend_from_slice(piece));
            joined.into()
        }
    }
}

/// What a sender hears when the receiving end was dropped.
pub(crate) const STOPPED_BY_PEER: &str = "the peer has stopped reading it";

/// One `recv` takes about so much.
const RECV_BYTES: usize = 256 * 1024;
/// Copying less than this is cheaper than handling it as a piece of its own.
const SMALL_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joining_keeps_every_byte_and_copies_no_large_piece(
            lengths in prop::collection::vec(prop_oneof![1_usize..100, SMALL_BYTES..SMALL_BYTES + 9], 0..30),
        ) {
            let mut pieces: Vec<Bytes> =
                (0_u8..).zip(&lengths).map(|(fill, &length)| vec![fill; length].into()).collect();
            let (whole, before) = (pieces.concat(), pieces.clone());
            let mut joined = Vec::new();
            join_small(&mut pieces, |bytes| joined.push(bytes));
            prop_assert!(pieces.is_empty());
            prop_assert_eq!(joined.concat(), whole);
            for large in before.iter().filter(|piece| piece.len() >= SMALL_BYTES) {
                prop_assert!(joined.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
            }
            let neighbours = joined.windows(2).filter(|two| two.iter().all(|p| p.len() < SMALL_BYTES));
            prop_assert_eq!(neighbours.count(), 0);
        }
    }
}
