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

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::fair_queue::FairQueue;
use crate::movable::Traveller;
use crate::place;
use crate::{CpuBudget, Movable};

/// How a [`SlowPool`] is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowPoolSettings {
    /// How many threads; by default one less than there are cores, and one at least. The kernel lets a thread that has just
    /// begun to run finish its slice of some milliseconds, whatever its priority: so one core stays for those that wake up.
    pub threads: usize,
    /// Most futures of one app that wait for a thread. Each slot waits at most once, so the number of slots is enough; a
    /// future over it stays on its shard and lets others run at each tick.
    pub queue_max: usize,
    /// What is added to the threads' nice value: 0 to 19, 10 by default.
    pub nice: u8,
}

impl Default for SlowPoolSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: threads.saturating_sub(1).max(1), queue_max: 1000, nice: 10 }
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

/// A bounded pool of low-priority threads on which CPU-bound turns go on, a tick at a time: apps take turns, and so do the
/// futures of each. Ends with its last handle that is dropped; futures that wait for a thread then go home.
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
        Movable::new(Box::pin(slot), Arc::clone(&self.pool), NOBODYS)
    }

    /// As [`movable`](Self::movable), for a future of the app whose budget this is: in the pool apps take turns, however
    /// many futures each has there.
    pub fn movable_of<F>(&self, app: &CpuBudget, slot: F) -> Movable<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        Movable::new(Box::pin(slot), Arc::clone(&self.pool), app.id())
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

/// The group of futures that belong to no app.
const NOBODYS: u64 = 0;

/// The queue that threads and shards share.
pub(crate) struct Pool {
    queue: Mutex<FairQueue<Arc<dyn Traveller>>>,
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
            queue: Mutex::new(FairQueue::new()),
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

    /// Takes a future in, unless its group's line is full or the pool has ended.
    pub(crate) fn take(&self, traveller: Arc<dyn Traveller>) -> Result<(), ()> {
        let mut queue = self.queue.lock();
        if queue.len_of(traveller.group()) >= self.queue_max || self.ended.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(());
        }
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.push(&mut queue, traveller);
        Ok(())
    }

    fn push(&self, queue: &mut FairQueue<Arc<dyn Traveller>>, traveller: Arc<dyn Traveller>) {
        queue.push(traveller.group(), traveller);
        self.waiting.store(queue.len(), Ordering::Relaxed);
        self.not_empty.notify_one();
    }

    fn run(self: Arc<Self>, nice: i32) {
        place::belong_to(Arc::clone(&self));
        // For this thread alone: on Linux each has a nice value of its own. Refused only where even lower priorities need a
        // privilege; then it runs as it is.
        let lowered = rustix::process::getpriority_process(None)
            .and_then(|now| rustix::process::setpriority_process(None, (now + nice).min(19)));
        if let Err(error) = lowered {
            tracing::debug!(%error, "the slow pool runs at normal priority");
        }
        while let Some(traveller) = self.next() {
            self.polls.fetch_add(1, Ordering::Relaxed);
            if Arc::clone(&traveller).poll_away() {
                // It has a place already, so the bound need not be checked: at most `threads` futures are over it.
                self.push(&mut self.queue.lock(), traveller);
            }
            place::give_way();
        }
        // The first thread that leaves empties the queue; whoever pushes later leaves after it and does the same.
        let mut left = std::mem::replace(&mut *self.queue.lock(), FairQueue::new());
        while let Some(traveller) = left.pop() {
            traveller.send_home();
        }
    }

    fn next(&self) -> Option<Arc<dyn Traveller>> {
        let mut queue = self.queue.lock();
        loop {
            if self.ended.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(traveller) = queue.pop() {
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

    use tidegate_base::CpuShare;
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
    async fn an_app_with_many_futures_in_the_pool_does_not_keep_another_from_it() {
        let pool = pool(1, 100);
        let (greedy, quiet) = (CpuBudget::new(CpuShare::default()), CpuBudget::new(CpuShare::default()));
        let polls = Arc::new(AtomicU32::new(0));
        let greedy: Vec<_> = (0..50)
            .map(|_| {
                let polls = Arc::clone(&polls);
                tokio::spawn(pool.movable_of(&greedy, async move {
                    loop {
                        polls.fetch_add(1, Ordering::SeqCst);
                        go_away().await;
                    }
                }))
            })
            .collect();
        while polls.load(Ordering::SeqCst) < 1000 {
            yield_now().await;
        }
        let counted = Arc::clone(&polls);
        let quiet = pool.movable_of(&quiet, async move {
            go_away().await;
            let before = counted.load(Ordering::SeqCst);
            for _ in 0..100 {
                go_away().await;
            }
            counted.load(Ordering::SeqCst) - before
        });
        // Each takes a turn, where of all 51 futures it would be 50 to one.
        let others = tokio::spawn(quiet).await.unwrap();
        assert!(others <= 101, "{others}");
        greedy.iter().for_each(|task| task.abort());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_threads_have_a_lower_priority_than_the_shards() {
        fn nice() -> i32 {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, after_name) = stat.rsplit_once(')').unwrap();
            after_name.split_ascii_whitespace().nth(16).unwrap().parse().unwrap()
        }
        let (pool, here) = (pool(1, 10), nice());
        let there = tokio::spawn(pool.movable(async {
            go_away().await;
            nice()
        }));
        assert_eq!(there.await.unwrap(), (here + 10).min(19));
        assert_eq!(nice(), here);
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
