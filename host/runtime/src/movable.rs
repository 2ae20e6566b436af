use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::place::{self, Place};
use crate::slow_pool::Pool;

/// A future that runs on its shard and moves to a [`SlowPool`](crate::SlowPool) while it needs the CPU for long. Made by
/// [`SlowPool::movable`](crate::SlowPool::movable). Dropping it drops the inner future, if that is being polled at the moment then right after.
pub struct Movable<T> {
    /// The future, while it is at home.
    slot: Option<Slot<T>>,
    pool: Arc<Pool>,
    /// Whose it is: the pool is shared fairly between groups.
    group: u64,
    /// Made at the first move.
    journey: Option<Arc<Journey<T>>>,
}

impl<T: Send + 'static> Movable<T> {
    pub(crate) fn new(slot: Slot<T>, pool: Arc<Pool>, group: u64) -> Self {
        Self { slot: Some(slot), pool, group, journey: None }
    }
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
                    let journey = this.journey.get_or_insert_with(|| Journey::new(this.group, cx.waker()));
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

pub(crate) type Slot<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future's way between its shard and the pool.
struct Journey<T> {
    group: u64,
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
    fn new(group: u64, home: &Waker) -> Arc<Self> {
        Arc::new(Self {
            group,
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
pub(crate) trait Traveller: Send + Sync {
    /// Whose it is.
    fn group(&self) -> u64;

    /// Polls once. True: it wants to go on in the pool and is `Waiting` again.
    fn poll_away(self: Arc<Self>) -> bool;

    /// The pool has ended before there was a thread for it.
    fn send_home(&self);
}

impl<T: Send + 'static> Traveller for Journey<T> {
    fn group(&self) -> u64 {
        self.group
    }

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
