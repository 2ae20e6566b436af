//! Lanes on QUIC streams: one small task writes, nobody reads until the consumer polls.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError, Written};

use crate::code;
use crate::error::{LaneClosed, LinkError};
use crate::lane::{LaneRx, LaneTx, STOPPED_BY_PEER, concat, join_small};
use crate::queue::{Consumer, End, Queue};

/// Makes a lane of a stream and spawns its writer on the current runtime.
pub(crate) fn lane(send: SendStream, recv: RecvStream, queue_bytes_max: usize) -> (LaneTx, LaneRx) {
    let queue = Arc::new(Queue::new(Consumer::Writer, queue_bytes_max));
    let writer = StreamWriter { queue: Arc::clone(&queue), stream: send };
    tokio::spawn(writer.run());
    (LaneTx::new(queue, None), LaneRx::from_stream(StreamReader { stream: recv, slots: Vec::new() }))
}

/// How a connection's end reads to whoever holds the link. `closed_here` is what this end said when it closed it.
pub(crate) fn link_error(error: &ConnectionError, closed_here: Option<&(u32, Arc<str>)>) -> LinkError {
    match (error, closed_here) {
        (ConnectionError::LocallyClosed, Some((code, reason))) => {
            LinkError::ClosedHere { code: *code, reason: Arc::clone(reason) }
        }
        (ConnectionError::LocallyClosed, None) => {
            LinkError::ClosedHere { code: code::ENDPOINT_CLOSED, reason: "the endpoint is closing".into() }
        }
        (ConnectionError::ApplicationClosed(close), _) => LinkError::ClosedByPeer {
            code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
            reason: match &*close.reason {
                [] => DROPPED_BY_PEER.into(),
                reason => String::from_utf8_lossy(reason).into(),
            },
        },
        (ConnectionError::TimedOut, _) => {
            LinkError::Lost("nothing was heard from the peer for the whole idle timeout".into())
        }
        (ConnectionError::Reset, _) => {
            LinkError::Lost("the peer has restarted and does not know the link".into())
        }
        (other, _) => LinkError::Lost(other.to_string().into()),
    }
}

/// What the peer of a link hears whose last handle was dropped.
pub(crate) const DROPPED_BY_PEER: &str = "nothing there uses it any more";

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct StreamReader {
    stream: RecvStream,
    /// [`SLOTS`] empty places, made at the first read.
    slots: Vec<Bytes>,
}

impl StreamReader {
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LaneClosed>> {
        self.slots.resize(SLOTS, Bytes::new());
        loop {
            // A future per poll costs nothing: all of its state is in the stream, which also keeps the waker.
            let read = ready!(pin!(self.stream.read_chunks(&mut self.slots)).poll(cx));
            match read {
                Ok(Some(filled)) => {
                    let chunks = &mut self.slots[..filled];
                    let bytes = concat(chunks);
                    chunks.fill(Bytes::new());
                    if !bytes.is_empty() {
                        return Poll::Ready(Ok(bytes));
                    }
                }
                Ok(None) => return Poll::Ready(Err(LaneClosed::Finished)),
                Err(error) => return Poll::Ready(Err(LaneClosed::Lost(read_reason(&error)))),
            }
        }
    }
}

/// Chunks per read: a chunk is what one packet carried, so this is up to about 90 KB.
const SLOTS: usize = 64;

fn lost_reason(error: &ConnectionError) -> Arc<str> {
    match error {
        ConnectionError::LocallyClosed => "this node closed the link".into(),
        other => link_error(other, None).to_string().into(),
    }
}

fn read_reason(error: &ReadError) -> Arc<str> {
    match error {
        ReadError::Reset(code) => code::lane_reason(code.into_inner()).into(),
        ReadError::ConnectionLost(error) => lost_reason(error),
        other => other.to_string().into(),
    }
}

struct StreamWriter {
    queue: Arc<Queue>,
    stream: SendStream,
}

impl StreamWriter {
    async fn run(mut self) {
        let end = self.write_until_end().await;
        if let End::Reset(code) = end {
            // Fails only if the stream is closed already.
            let _ = self.stream.reset(VarInt::from_u32(code));
        }
        self.queue.end(end);
    }

    async fn write_until_end(&mut self) -> End {
        let mut stopped = pin!(self.stream.stopped());
        let mut taken = Vec::new();
        let mut chunks = Vec::new();
        loop {
            let step = poll_fn(|cx| match self.queue.poll_take(cx, usize::MAX, &mut taken) {
                Poll::Ready(ready) => Poll::Ready(ready),
                Poll::Pending => stopped.as_mut().poll(cx).map(|why| Err(stop_end(why))),
            });
            match step.await {
                Ok(()) => {}
                Err(End::Finished) => {
                    // Fails only if the peer has stopped the stream, which `stopped` tells as well.
                    let _ = self.stream.finish();
                    let acknowledged = poll_fn(|cx| match self.queue.poll_interrupt(cx) {
                        Poll::Ready(end) => Poll::Ready(end),
                        Poll::Pending => stopped.as_mut().poll(cx).map(stop_end),
                    });
                    return acknowledged.await;
                }
                Err(end) => return end,
            }
            join_small(&mut taken, |bytes| chunks.push(bytes));
            if let Err(end) = write_all(&self.queue, &mut self.stream, &mut chunks).await {
                return end;
            }
            chunks.clear();
            // A queue that other threads keep filling must not hold up this thread's other tasks.
            tokio::task::coop::consume_budget().await;
        }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        // Counts only if the task was dropped halfway, with its runtime.
        if self.queue.ended().is_none() {
            let _ = self.stream.reset(VarInt::from_u32(code::LANE_ORPHANED));
            self.queue.end(End::Lost("the runtime that wrote it has stopped".into()));
        }
    }
}

async fn write_all(queue: &Queue, stream: &mut SendStream, chunks: &mut [Bytes]) -> Result<(), End> {
    let mut left = chunks;
    while !left.is_empty() {
        let Written { bytes, chunks: done } = {
            let mut write = pin!(stream.write_chunks(left));
            poll_fn(|cx| match write.as_mut().poll(cx) {
                Poll::Ready(written) => Poll::Ready(written.map_err(|error| write_end(&error))),
                Poll::Pending => queue.poll_interrupt(cx).map(Err),
            })
            .await?
        };
        queue.settle(bytes);
        left = left.get_mut(done..).unwrap_or_default();
    }
    Ok(())
}

fn write_end(error: &WriteError) -> End {
    End::Lost(match error {
        WriteError::Stopped(_) => STOPPED_BY_PEER.into(),
        WriteError::ConnectionLost(error) => lost_reason(error),
        other => other.to_string().into(),
    })
}

fn stop_end(why: Result<Option<VarInt>, StoppedError>) -> End {
    match why {
        Ok(None) => End::Finished,
        Ok(Some(_)) => End::Lost(STOPPED_BY_PEER.into()),
        Err(StoppedError::ConnectionLost(error)) => End::Lost(lost_reason(&error)),
        Err(other) => End::Lost(other.to_string().into()),
    }
}
