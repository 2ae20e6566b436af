//! Where the future that is being polled on this thread runs, and where it wants to go on. Thread-local, because the
//! engine's callback, the turn and the [`SlowPool`](crate::SlowPool) meet only within one poll on one thread.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::slow_pool::Pool;

/// Where a poll runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not inside a [`Movable`](crate::Movable): nobody would move the future.
    Unmanaged,
    /// On its shard.
    Home,
    /// On a thread of the pool.
    Away,
}

thread_local! {
    static PLACE: Cell<Place> = const { Cell::new(Place::Unmanaged) };
    static LEAVING: Cell<bool> = const { Cell::new(false) };
    static POOL: RefCell<Option<Arc<Pool>>> = const { RefCell::new(None) };
}

/// Polls at a place. Also returns whether the future asked to go on in the pool.
pub(crate) fn poll_at<T>(place: Place, poll: impl FnOnce() -> Poll<T>) -> (Poll<T>, bool) {
    // Restores also when `poll` panics: the thread may be a test's or a runtime's.
    struct Restore(Place, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLACE.set(self.0);
            LEAVING.set(self.1);
        }
    }
    let _restore = Restore(PLACE.replace(place), LEAVING.replace(false));
    let polled = poll();
    (polled, LEAVING.get())
}

/// Makes this thread one of the pool's.
pub(crate) fn belong_to(pool: Arc<Pool>) {
    POOL.set(Some(pool));
}

/// Whether a turn that has used its slice of time should let others run: at home always, in the pool only if somebody
/// waits there.
pub(crate) fn should_yield() -> bool {
    match PLACE.get() {
        Place::Unmanaged | Place::Home => true,
        Place::Away => POOL.with_borrow(|pool| pool.as_ref().is_none_or(|pool| pool.wants_thread())),
    }
}

/// In the pool: lets other threads of this core run first. The kernel lets a thread that has just begun to run finish its
/// slice, whatever its priority, and looks again only at its next tick; a shard that wakes up would wait for milliseconds.
pub(crate) fn give_way() {
    if POOL.with_borrow(Option::is_some) {
        std::thread::yield_now();
    }
}

/// Whether the future that is being polled has asked to go on in the pool.
pub(crate) fn is_leaving() -> bool {
    LEAVING.get()
}

/// Lets others run, and goes on in the pool if there is one.
pub(crate) async fn go_away() {
    let mut asked = false;
    poll_fn(|cx| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        if PLACE.get() != Place::Unmanaged {
            LEAVING.set(true);
        }
        // Whoever moves the future polls it without being asked. The wake is for combinators in between that poll
        // only what was woken, and for futures that nobody moves.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Goes on at home; returns at once anywhere but in the pool.
pub(crate) async fn go_home() {
    poll_fn(|cx| {
        if PLACE.get() != Place::Away {
            return Poll::Ready(());
        }
        // Pending without leaving is what the pool hands home.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn only_a_managed_future_leaves_and_it_comes_back_only_from_the_pool() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut away = pin!(go_away());
        assert_eq!(poll_at(Place::Home, || away.as_mut().poll(&mut cx)), (Poll::Pending, true));
        assert_eq!(poll_at(Place::Away, || away.as_mut().poll(&mut cx)), (Poll::Ready(()), false));
        let mut unmanaged = pin!(go_away());
        assert_eq!(poll_at(Place::Unmanaged, || unmanaged.as_mut().poll(&mut cx)), (Poll::Pending, false));
        let mut home = pin!(go_home());
        assert_eq!(poll_at(Place::Away, || home.as_mut().poll(&mut cx)), (Poll::Pending, false));
        assert_eq!(poll_at(Place::Home, || home.as_mut().poll(&mut cx)), (Poll::Ready(()), false));
    }
}
