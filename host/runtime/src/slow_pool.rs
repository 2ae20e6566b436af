//! Threads for turns that need the CPU for long.
//!
//! ```text
//!   shard thread (task = Movable)                 pool threads (low priority)
//!     polls the slot's future
//!       first tick: Pending + leaving  -- box -->  queue -> poll -> another tick -> queue's tail
//!                                                             |
//!     polls it again, at home         <-- box --   Pending for a host wait, or the turn is over
//! ```
//!
//! The future is boxed once, and what moves is the box. While it is away the shard's task has nothing to poll, so
//! wakes of the task are harmless; when the box comes back the task is woken and polls it without asking, so wakes
//! that came meanwhile are not lost.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::place::{self, Place};

/// How a [`SlowPool`] is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowPoolSettings {
    /// How many threads; by default one per core.
    pub threads: usize,
    /// Most futures that wait for a thread. Each slot waits at most once, so the number of slots is enough; a future
    /// over it stays on its shard and lets others run at each tick.
    pub queue_max: usize,
    /// What is added to the threads' nice value: 0 to 19, 10 by default.
    pub nice: u8,
}

impl Default for SlowPoolSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, queue_max: 1000, nice: 10 }
    }
}

/// What a [`SlowPool`] has done. The first three only ever grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlowPoolStats {
    /// Futures that moved into the pool.
    pub moved: u64,
    /// Futures that stayed on their shard because the queue was full.
    pub refused: u64,
    /// Polls in the pool: about the milliseconds of CPU time spent there.
    pub polls: u64,
    /// Futures that wait for a thread now.
    pub waiting: usize,
}

/// A bounded pool of low-priority threads on which CPU-bound turns go on, round-robin, a tick at a time. Ends with its
/// last handle that is dropped; futures that wait for a thread then go home.
pub struct SlowPool {
    pool: Arc<Pool>,
    threads: Vec<JoinHandle<()>>,
}

impl SlowPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(settings: &SlowPoolSettings) -> std::io::Result<Self> {
        let pool = Arc::new(Pool::new(settings.queue_max));
        let mut this = Self { pool, threads: Vec::new() };
        let nice = i32::from(settings.nice.min(19));
        for n in 0..settings.threads.max(1) {
            let pool = Arc::clone(&this.pool);
            let thread = std::thread::Builder::new().name(format!("tidegate-slow-{n}"));
            this.threads.push(thread.spawn(move || pool.run(nice))?);
        }
        Ok(this)
    }

    /// The future that a shard spawns in place of `slot`, a slot's whole life. It must be polled within the tokio
    /// runtime in which `slot` belongs; that runtime's context is entered wherever `slot` is polled.
    pub fn movable<F>(&self, slot: F) -> Movable<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        Movable { slot: Some(Box::pin(slot)), pool: Arc::clone(&self.pool), journey: None }
    }

    /// What the pool has done.
    pub fn stats(&self) -> SlowPoolStats {
        self.pool.stats()
    }
}

impl Drop for SlowPool {
    fn drop(&mut self) {
        self.pool.end();
        let this_thread = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // A pool that is dropped by a future that runs in it cannot wait for itself.
            if thread.thread().id() != this_thread {
                // A panic of a future was caught and has gone home; there is none of the thread's own.
                let _ = thread.join();
            }
        }
    }
}

/// A future that runs on its shard and moves to a [`SlowPool`] while it needs the CPU for long. Made by
/// [`SlowPool::movable`]. Dropping it drops the inner future, if that is being polled at the moment then right after.
pub struct Movable<T> {
    /// The future, while it is at home.
    slot: Option<Slot<T>>,
    pool: Arc<Pool>,
    /// Made at the first move.
    journey: Option<Arc<Journey<T>>>,
}

impl<T: Send + 'static> Future for Movable<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        if this.slot.is_none() {
            match this.journey.as_ref().map(|journey| journey.arrive(cx.waker())) {
                Some(Arrival::Future(slot)) => this.slot = Some(slot),
                Some(Arrival::Output(output)) => return Poll::Ready(output),
                Some(Arrival::Panic(panic)) => resume_unwind(panic),
                Some(Arrival::NotYet) | None => return Poll::Pending,
            }
        }
        let Some(slot) = &mut this.slot else { return Poll::Pending };
        let (polled, leaving) = place::poll_at(Place::Home, || slot.as_mut().poll(cx));
        match polled {
            Poll::Ready(output) => {
                this.slot = None;
                Poll::Ready(output)
            }
            Poll::Pending => {
                if leaving && let Some(slot) = this.slot.take() {
                    let journey = this.journey.get_or_insert_with(|| Journey::new(cx.waker()));
                    // A full pool gives it back. It has woken this task when it asked to leave, and so goes on here.
                    this.slot = journey.leave(slot, cx.waker(), &this.pool).err();
                }
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Movable<T> {
    fn drop(&mut self) {
        if let Some(journey) = &self.journey {
            // What is in there is dropped after the lock is released.
            let _left = std::mem::replace(&mut *journey.state.lock(), State::Abandoned);
        }
    }
}

type Slot<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future's way between its shard and the pool.
struct Journey<T> {
    state: Mutex<State<T>>,
    /// True from when the box leaves until it is back: wakes need not reach the shard.
    away: AtomicBool,
    /// The shard task's waker.
    home: Mutex<Waker>,
    /// The runtime of the shard, for timers and sockets that the future makes in the pool.
    runtime: Option<Handle>,
}

enum State<T> {
    /// The shard has it.
    Home,
    /// It waits for a thread.
    Waiting(Slot<T>),
    /// A thread polls it.
    Polled,
    /// It is back and waits for the shard to take it.
    Back(Slot<T>),
    /// It ended in the pool.
    Done(T),
    /// It panicked in the pool.
    Panicked(Box<dyn Any + Send>),
    /// The shard has dropped it.
    Abandoned,
}

enum Arrival<T> {
    Future(Slot<T>),
    Output(T),
    Panic(Box<dyn Any + Send>),
    NotYet,
}

impl<T: Send + 'static> Journey<T> {
    fn new(home: &Waker) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Home),
            away: AtomicBool::new(false),
            home: Mutex::new(home.clone()),
            runtime: Handle::try_current().ok(),
        })
    }

    /// Hands the future to the pool, or back if the pool is full or has ended.
    fn leave(self: &Arc<Self>, slot: Slot<T>, home: &Waker, pool: &Pool) -> Result<(), Slot<T>> {
        self.home.lock().clone_from(home);
        *self.state.lock() = State::Waiting(slot);
        self.away.store(true, Ordering::Release);
        let Err(()) = pool.take(Arc::clone(self) as Arc<dyn Traveller>) else { return Ok(()) };
        self.away.store(false, Ordering::Release);
        match std::mem::replace(&mut *self.state.lock(), State::Home) {
            State::Waiting(slot) => Err(slot),
            // Nobody else has seen it.
            _ => Ok(()),
        }
    }

    /// The shard asks for the future. Registers its waker, so that it hears when the answer is `NotYet`.
    fn arrive(&self, waker: &Waker) -> Arrival<T> {
        self.home.lock().clone_from(waker);
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Home) {
            State::Back(slot) => Arrival::Future(slot),
            State::Done(output) => Arrival::Output(output),
            State::Panicked(panic) => Arrival::Panic(panic),
            other => {
                *state = other;
                Arrival::NotYet
            }
        }
    }

    fn come_home(&self, arrived: State<T>) {
        {
            let mut state = self.state.lock();
            if matches!(*state, State::Abandoned) {
                drop(state);
                // The future is dropped here, with the lock released and within its runtime's context.
                drop(arrived);
                return;
            }
            *state = arrived;
        }
        self.away.store(false, Ordering::Release);
        self.wake_home();
    }

    fn wake_home(&self) {
        let waker = self.home.lock().clone();
        waker.wake();
    }
}

/// Wakes that come while the future is away need nobody: it is polled again in any case.
impl<T: Send + 'static> Wake for Journey<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.away.load(Ordering::Acquire) {
            self.wake_home();
        }
    }
}

/// A [`Journey`] whatever its output.
trait Traveller: Send + Sync {
    /// Polls once. True: it wants to go on in the pool and is `Waiting` again.
    fn poll_away(self: Arc<Self>) -> bool;

    /// The pool has ended before there was a thread for it.
    fn send_home(&self);
}

impl<T: Send + 'static> Traveller for Journey<T> {
    fn poll_away(self: Arc<Self>) -> bool {
        let _context = self.runtime.as_ref().map(Handle::enter);
        let mut slot = {
            let mut state = self.state.lock();
            match std::mem::replace(&mut *state, State::Polled) {
                State::Waiting(slot) => slot,
                other => {
                    *state = other;
                    return false;
                }
            }
        };
        let waker = Waker::from(Arc::clone(&self));
        let mut cx = Context::from_waker(&waker);
        let polled =
            catch_unwind(AssertUnwindSafe(|| place::poll_at(Place::Away, || slot.as_mut().poll(&mut cx))));
        match polled {
            Ok((Poll::Pending, true)) => {
                let mut state = self.state.lock();
                if !matches!(*state, State::Abandoned) {
                    *state = State::Waiting(slot);
                    return true;
                }
            }
            Ok((Poll::Pending, false)) => self.come_home(State::Back(slot)),
            Ok((Poll::Ready(output), _)) => {
                drop(slot);
                self.come_home(State::Done(output));
            }
            Err(panic) => self.come_home(State::Panicked(panic)),
        }
        false
    }

    fn send_home(&self) {
        let waiting = std::mem::replace(&mut *self.state.lock(), State::Polled);
        match waiting {
            State::Waiting(slot) => self.come_home(State::Back(slot)),
            other => *self.state.lock() = other,
        }
    }
}

/// The queue that threads and shards share.
pub(crate) struct Pool {
    queue: Mutex<VecDeque<Arc<dyn Traveller>>>,
    queue_max: usize,
    not_empty: Condvar,
    ended: AtomicBool,
    /// The length of the queue, to be read without the lock.
    waiting: AtomicUsize,
    moved: AtomicU64,
    refused: AtomicU64,
    polls: AtomicU64,
}

impl Pool {
    fn new(queue_max: usize) -> Self {
        Self {
            queue: Mutex::new(VecDeque::new()),
            queue_max,
            not_empty: Condvar::new(),
            ended: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            polls: AtomicU64::new(0),
        }
    }

    /// Whether a future that runs in the pool should give its thread back.
    pub(crate) fn wants_thread(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 || self.ended.load(Ordering::Relaxed)
    }

    fn stats(&self) -> SlowPoolStats {
        SlowPoolStats {
            moved: self.moved.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            polls: self.polls.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    fn take(&self, traveller: Arc<dyn Traveller>) -> Result<(), ()> {
        let mut queue = self.queue.lock();
        if queue.len() >= self.queue_max || self.ended.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(());
        }
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.push(&mut queue, traveller);
        Ok(())
    }

    fn push(&self, queue: &mut VecDeque<Arc<dyn Traveller>>, traveller: Arc<dyn Traveller>) {
        queue.push_back(traveller);
        self.waiting.store(queue.len(), Ordering::Relaxed);
        self.not_empty.notify_one();
    }

    fn run(self: Arc<Self>, nice: i32) {
        place::belong_to(Arc::clone(&self));
        // For this thread alone. Refused only where even lower priorities need a privilege; then it runs as it is.
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tracing::debug!(%error, "the slow pool runs at normal priority");
        }
        while let Some(traveller) = self.next() {
            self.polls.fetch_add(1, Ordering::Relaxed);
            if Arc::clone(&traveller).poll_away() {
                // It has a place already, so the bound need not be checked: at most `threads` futures are over it.
                self.push(&mut self.queue.lock(), traveller);
            }
        }
        // The first thread that leaves empties the queue; whoever pushes later leaves after it and does the same.
        let left = std::mem::take(&mut *self.queue.lock());
        for traveller in left {
            traveller.send_home();
        }
    }

    fn next(&self) -> Option<Arc<dyn Traveller>> {
        let mut queue = self.queue.lock();
        loop {
            if self.ended.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(traveller) = queue.pop_front() {
                self.waiting.store(queue.len(), Ordering::Relaxed);
                return Some(traveller);
            }
            self.not_empty.wait(&mut queue);
        }
    }

    fn end(&self) {
        // Under the lock: a thread must not check before and wait after.
        let _queue = self.queue.lock();
        self.ended.store(true, Ordering::Relaxed);
        self.not_empty.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;
    use crate::place::{go_away, go_home};

    fn pool(threads: usize, queue_max: usize) -> SlowPool {
        SlowPool::new(&SlowPoolSettings { threads, queue_max, nice: 10 }).unwrap()
    }

    fn thread_name() -> String {
        std::thread::current().name().unwrap_or("").to_owned()
    }

    async fn work(ticks: u32) -> (String, String) {
        for _ in 0..ticks {
            go_away().await;
        }
        let away = thread_name();
        go_home().await;
        (away, thread_name())
    }

    #[tokio::test]
    async fn a_future_works_in_the_pool_and_ends_at_home() {
        let (pool, home) = (pool(2, 10), thread_name());
        let (away, back) = tokio::spawn(pool.movable(work(50))).await.unwrap();
        assert!(away.starts_with("tidegate-slow"), "{away}");
        assert_eq!(back, home);
        assert_eq!(pool.stats().moved, 1);
        assert!(pool.stats().polls >= 50);
    }

    #[tokio::test]
    async fn waiting_happens_at_home_and_wakes_are_not_lost() {
        let (pool, home) = (pool(1, 10), thread_name());
        for _ in 0..100 {
            let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (asks, answered) = (Arc::clone(&asked), Arc::clone(&answer));
            let task = tokio::spawn(pool.movable(async move {
                go_away().await;
                asks.notify_one();
                answered.notified().await;
                thread_name()
            }));
            asked.notified().await;
            answer.notify_one();
            // A wait that is over in the pool already needs no way home.
            let name = task.await.unwrap();
            assert!(name == home || name.starts_with("tidegate-slow"));
        }
    }

    #[tokio::test]
    async fn timers_made_in_the_pool_are_the_shards() {
        let pool = pool(1, 10);
        let task = tokio::spawn(pool.movable(async {
            go_away().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            thread_name()
        }));
        assert_eq!(task.await.unwrap(), thread_name());
    }

    #[tokio::test]
    async fn futures_share_a_thread_a_tick_at_a_time() {
        let pool = pool(1, 10);
        let turn = Arc::new(AtomicU32::new(0));
        let mut tasks = Vec::new();
        for me in 0..2 {
            let turn = Arc::clone(&turn);
            // Each waits for the other: one alone would never end.
            tasks.push(tokio::spawn(pool.movable(async move {
                for round in 0..100 {
                    while turn.load(Ordering::SeqCst) != 2 * round + me {
                        go_away().await;
                    }
                    turn.fetch_add(1, Ordering::SeqCst);
                }
            })));
        }
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn with_a_full_pool_it_stays_home_and_still_lets_others_run() {
        let pool = pool(1, 0);
        let (away, _) = tokio::spawn(pool.movable(work(20))).await.unwrap();
        assert_eq!(away, thread_name());
        assert_eq!(pool.stats().refused, 20);
        assert_eq!(pool.stats().moved, 0);
    }

    #[tokio::test]
    async fn a_panic_in_the_pool_is_the_tasks_panic() {
        let pool = pool(1, 10);
        let task = tokio::spawn(pool.movable(async {
            go_away().await;
            panic!("in the pool");
        }));
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(tokio::spawn(pool.movable(work(1))).await.unwrap().1, thread_name());
    }

    #[tokio::test]
    async fn a_dropped_future_is_dropped_wherever_it_is() {
        let pool = pool(1, 10);
        let token = Arc::new(());
        for _ in 0..50 {
            let in_future = Arc::clone(&token);
            let task = tokio::spawn(pool.movable(async move {
                loop {
                    go_away().await;
                    assert!(Arc::strong_count(&in_future) > 0);
                }
            }));
            yield_now().await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        while Arc::strong_count(&token) > 1 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn when_the_pool_ends_its_futures_go_on_at_home() {
        let pool = pool(1, 10);
        let tasks: Vec<_> = (0..5).map(|_| tokio::spawn(pool.movable(work(1000)))).collect();
        yield_now().await;
        drop(pool);
        for task in tasks {
            assert_eq!(task.await.unwrap().1, thread_name());
        }
    }

    #[tokio::test]
    async fn a_future_inside_a_combinator_with_wakers_of_its_own_moves_too() {
        let pool = pool(1, 10);
        let task = tokio::spawn(pool.movable(async {
            let mut set = tokio::task::JoinSet::new();
            set.spawn(async {});
            tokio::join!(work(10), work(20), async { set.join_next().await })
        }));
        assert_eq!(task.await.unwrap().0.1, thread_name());
    }
}
