//! The queue between whoever sends on a lane and its one consumer: the peer's reader (in memory) or the task that
//! writes the QUIC stream. Pure: no I/O, no tasks, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::code;
use crate::error::Closed;

/// Who takes the batches out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consumer {
    /// The peer's reader: what it has taken is sent.
    Reader,
    /// A transport's writer: what it has taken is sent once it says so ([`Queue::settle`]).
    Writer,
}

/// How a queue ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was sent, and the consumer knows that nothing follows.
    Finished,
    /// The sending side gave up, with a code for the peer.
    Reset(u32),
    /// The consumer or the link is gone.
    Lost(Arc<str>),
}

impl End {
    fn closed(&self) -> Closed {
        Closed(match self {
            Self::Finished => "it was finished here".into(),
            Self::Reset(code::LANE_OVERFLOW) => {
                "the peer reads too slowly, too many bytes waited for it".into()
            }
            Self::Reset(_) => "it was reset here".into(),
            Self::Lost(reason) => Arc::clone(reason),
        })
    }
}

/// Batches in order. Every method may be called from any thread; wake-ups happen after the lock is released.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    consumer: Consumer,
    bytes_max: usize,
}

impl Queue {
    pub(crate) fn new(consumer: Consumer, bytes_max: usize) -> Self {
        Self { inner: Mutex::new(Inner::default()), consumer, bytes_max }
    }

    /// Appends a batch. The consumer is woken only if it waits, which it does only at an empty queue.
    pub(crate) fn send(&self, batch: Bytes) -> Result<(), Closed> {
        let mut inner = self.inner.lock();
        inner.check_open()?;
        if batch.is_empty() {
            return Ok(());
        }
        if inner.unsent.saturating_add(batch.len()) > self.bytes_max {
            let end = End::Reset(code::LANE_OVERFLOW);
            let closed = end.closed();
            let wakes = inner.end(end);
            drop(inner);
            wakes.into_iter().for_each(Waker::wake);
            return Err(closed);
        }
        inner.unsent += batch.len();
        inner.batches.push_back(batch);
        let wake = inner.waiting.take();
        drop(inner);
        if let Some(waker) = wake {
            waker.wake();
        }
        Ok(())
    }

    /// Bytes that have not been sent.
    pub(crate) fn unsent(&self) -> usize {
        self.inner.lock().unsent
    }

    /// Ready when fewer than `bytes` are unsent, or none at all.
    pub(crate) fn poll_below(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Closed>> {
        let mut inner = self.inner.lock();
        if let Err(closed) = inner.check_open() {
            return Poll::Ready(Err(closed));
        }
        let bytes = bytes.max(1);
        if inner.unsent < bytes {
            return Poll::Ready(Ok(()));
        }
        match inner.below.iter_mut().find(|(_, waker)| waker.will_wake(cx.waker())) {
            Some((wanted, _)) => *wanted = (*wanted).max(bytes),
            None => inner.below.push((bytes, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Nothing more will be sent; what waits still goes out.
    pub(crate) fn finish(&self) {
        let mut inner = self.inner.lock();
        if inner.state != State::Open {
            return;
        }
        let wakes = if self.consumer == Consumer::Reader && inner.batches.is_empty() {
            inner.end(End::Finished)
        } else {
            inner.state = State::Finishing;
            let mut wakes: Vec<Waker> = inner.below.drain(..).map(|(_, waker)| waker).collect();
            wakes.extend(inner.waiting.take());
            wakes
        };
        drop(inner);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// Ends the queue at once and drops what waits. Only the first end counts.
    pub(crate) fn end(&self, end: End) {
        let wakes = self.inner.lock().end(end);
        wakes.into_iter().for_each(Waker::wake);
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        match &self.inner.lock().state {
            State::Ended(end) => Some(end.clone()),
            State::Open | State::Finishing => None,
        }
    }

    /// Ready when the queue has ended; for whoever waits for its finish.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut inner = self.inner.lock();
        if let State::Ended(end) = &inner.state {
            return Poll::Ready(end.clone());
        }
        if !inner.finishers.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.finishers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// For the consumer while it waits elsewhere: ready when the queue has ended.
    pub(crate) fn poll_interrupt(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut inner = self.inner.lock();
        if let State::Ended(end) = &inner.state {
            return Poll::Ready(end.clone());
        }
        store(&mut inner.interrupt, cx);
        Poll::Pending
    }

    /// For the consumer: moves waiting batches to `out`, until they have `enough` bytes or none waits.
    ///
    /// # Errors
    /// The queue has ended; for a writer also `Finished` when everything has been taken and nothing follows, in which
    /// case it ends the stream and then the queue.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        enough: usize,
        out: &mut Vec<Bytes>,
    ) -> Poll<Result<(), End>> {
        let mut inner = self.inner.lock();
        match &inner.state {
            State::Ended(end) => return Poll::Ready(Err(end.clone())),
            State::Finishing if inner.batches.is_empty() => return Poll::Ready(Err(End::Finished)),
            State::Open if inner.batches.is_empty() => {
                store(&mut inner.waiting, cx);
                return Poll::Pending;
            }
            State::Open | State::Finishing => {}
        }
        let taken = inner.take(enough, out);
        let wakes = match self.consumer {
            Consumer::Reader => inner.settle_read(taken),
            Consumer::Writer => Vec::new(),
        };
        drop(inner);
        wakes.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    /// For a writer: so many of the taken bytes have been sent.
    pub(crate) fn settle(&self, bytes: usize) {
        let wakes = self.inner.lock().settle(bytes);
        wakes.into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Bytes>,
    /// Bytes in `batches`, and those that a writer took but has not sent.
    unsent: usize,
    state: State,
    /// The consumer, when it waits for a batch.
    waiting: Option<Waker>,
    /// The consumer, when it waits elsewhere and wants to hear only of the end.
    interrupt: Option<Waker>,
    below: Vec<(usize, Waker)>,
    finishers: Vec<Waker>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Finishing,
    Ended(End),
}

impl Inner {
    fn check_open(&self) -> Result<(), Closed> {
        match &self.state {
            State::Open => Ok(()),
            State::Finishing => Err(End::Finished.closed()),
            State::Ended(end) => Err(end.closed()),
        }
    }

    fn take(&mut self, enough: usize, out: &mut Vec<Bytes>) -> usize {
        let mut taken = 0;
        while taken < enough
            && let Some(batch) = self.batches.pop_front()
        {
            taken += batch.len();
            out.push(batch);
        }
        if self.batches.is_empty() {
            self.batches.shrink_to(KEPT_BATCHES);
        }
        taken
    }

    fn settle(&mut self, bytes: usize) -> Vec<Waker> {
        self.unsent = self.unsent.saturating_sub(bytes);
        let unsent = self.unsent;
        self.below.extract_if(.., |(wanted, _)| unsent < *wanted).map(|(_, waker)| waker).collect()
    }

    fn settle_read(&mut self, bytes: usize) -> Vec<Waker> {
        let mut wakes = self.settle(bytes);
        if self.state == State::Finishing && self.batches.is_empty() {
            wakes.extend(self.end(End::Finished));
        }
        wakes
    }

    fn end(&mut self, end: End) -> Vec<Waker> {
        if matches!(self.state, State::Ended(_)) {
            return Vec::new();
        }
        self.state = State::Ended(end);
        self.batches = VecDeque::new();
        self.unsent = 0;
        let mut wakes: Vec<Waker> = self.below.drain(..).map(|(_, waker)| waker).collect();
        wakes.append(&mut self.finishers);
        wakes.extend(self.waiting.take());
        wakes.extend(self.interrupt.take());
        wakes
    }
}

fn store(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

/// Room for this many batches stays allocated at an empty queue, so that a burst leaves no garbage behind for ever.
const KEPT_BATCHES: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn wakes(count: &Count) -> usize {
        count.0.swap(0, Ordering::SeqCst)
    }

    fn take(queue: &Queue, enough: usize) -> Poll<Result<Vec<u8>, End>> {
        let mut out = Vec::new();
        let polled = queue.poll_take(&mut Context::from_waker(Waker::noop()), enough, &mut out);
        polled.map(|ready| ready.map(|()| out.concat()))
    }

    #[test]
    fn the_consumer_is_woken_only_when_it_waits_at_an_empty_queue() {
        let queue = Queue::new(Consumer::Reader, 1000);
        let (count, waker) = counter();
        let mut out = Vec::new();
        assert!(queue.poll_take(&mut Context::from_waker(&waker), 100, &mut out).is_pending());
        for _ in 0..5 {
            queue.send(Bytes::from_static(b"ab")).unwrap();
        }
        assert_eq!(wakes(&count), 1);
        assert_eq!(take(&queue, 100), Poll::Ready(Ok(b"ababababab".to_vec())));
        queue.send(Bytes::from_static(b"c")).unwrap();
        assert_eq!(wakes(&count), 0, "nobody waited");
    }

    #[test]
    fn senders_that_wait_for_room_are_woken_when_there_is_room_for_them() {
        let queue = Queue::new(Consumer::Writer, 1000);
        queue.send(Bytes::from(vec![0; 10])).unwrap();
        let ((few, few_waker), (many, many_waker)) = (counter(), counter());
        assert!(queue.poll_below(&mut Context::from_waker(&few_waker), 3).is_pending());
        assert!(queue.poll_below(&mut Context::from_waker(&many_waker), 8).is_pending());
        assert!(take(&queue, usize::MAX).is_ready());
        assert_eq!(queue.unsent(), 10, "taken, not sent");
        queue.settle(4);
        assert_eq!((wakes(&few), wakes(&many)), (0, 1));
        queue.settle(6);
        assert_eq!((wakes(&few), wakes(&many)), (1, 0));
        assert!(queue.poll_below(&mut Context::from_waker(&few_waker), 0).is_ready(), "0 means empty");
    }

    #[test]
    fn a_queue_that_nobody_empties_ends_at_its_limit() {
        let queue = Queue::new(Consumer::Writer, 10);
        queue.send(Bytes::from(vec![0; 10])).unwrap();
        assert!(queue.send(Bytes::from_static(b"x")).unwrap_err().to_string().contains("too slowly"));
        assert_eq!(queue.ended(), Some(End::Reset(code::LANE_OVERFLOW)));
        assert_eq!(queue.unsent(), 0);
    }

    #[test]
    fn after_the_end_everybody_hears_the_first_reason() {
        let queue = Queue::new(Consumer::Reader, 10);
        let (count, waker) = counter();
        let mut cx = Context::from_waker(&waker);
        assert!(queue.poll_interrupt(&mut cx).is_pending());
        assert!(queue.poll_ended(&mut cx).is_pending());
        queue.end(End::Lost("the first".into()));
        queue.end(End::Reset(1));
        assert_eq!(wakes(&count), 2);
        assert_eq!(take(&queue, 1), Poll::Ready(Err(End::Lost("the first".into()))));
        assert!(queue.send(Bytes::from_static(b"x")).unwrap_err().to_string().ends_with("the first"));
        assert_eq!(queue.poll_ended(&mut cx), Poll::Ready(End::Lost("the first".into())));
    }

    #[test]
    fn a_reader_finishes_by_taking_the_last_batch_and_a_writer_says_so_itself() {
        for consumer in [Consumer::Reader, Consumer::Writer] {
            let queue = Queue::new(consumer, 10);
            queue.send(Bytes::from_static(b"last")).unwrap();
            queue.finish();
            assert!(queue.send(Bytes::from_static(b"x")).is_err());
            assert_eq!(queue.ended(), None);
            assert_eq!(take(&queue, 100), Poll::Ready(Ok(b"last".to_vec())));
            assert_eq!(queue.ended().is_some(), consumer == Consumer::Reader);
            assert_eq!(take(&queue, 100), Poll::Ready(Err(End::Finished)));
        }
    }

    proptest! {
        #[test]
        fn bytes_come_out_once_and_in_order(
            steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0_usize..60), 0..60),
        ) {
            let queue = Queue::new(Consumer::Reader, usize::MAX);
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            for (batch, enough) in steps {
                sent.extend_from_slice(&batch);
                queue.send(batch.into()).unwrap();
                if enough > 0 && let Poll::Ready(Ok(bytes)) = take(&queue, enough) {
                    prop_assert!(!bytes.is_empty() && bytes.len() < enough + 20);
                    got.extend(bytes);
                }
                prop_assert_eq!(queue.unsent(), sent.len() - got.len());
            }
            queue.finish();
            while let Poll::Ready(Ok(bytes)) = take(&queue, 7) {
                got.extend(bytes);
            }
            prop_assert_eq!(got, sent);
            prop_assert_eq!(queue.ended(), Some(End::Finished));
        }
    }
}
