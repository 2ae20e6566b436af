//! Where a thread of the store finds what it is to do.

use parking_lot::{Condvar, Mutex};

/// Something that is shared with threads which sleep until there is something in it.
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

struct State<T> {
    content: T,
    is_closed: bool,
}

impl<T: Default> Default for Mailbox<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { content: T::default(), is_closed: false }), news: Condvar::new() }
    }
}

impl<T> Mailbox<T> {
    /// Puts something in. False: it is closed, and nothing is.
    pub fn put(&self, put: impl FnOnce(&mut T)) -> bool {
        let mut state = self.state.lock();
        if !state.is_closed {
            put(&mut state.content);
            drop(state);
            self.news.notify_one();
            return true;
        }
        false
    }

    /// Waits until there is something to take. None: it is closed, and there is nothing any more.
    pub fn take<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let mut state = self.state.lock();
        loop {
            if let Some(taken) = take(&mut state.content) {
                return Some(taken);
            }
            if state.is_closed {
                return None;
            }
            self.news.wait(&mut state);
        }
    }

    /// Nothing comes any more; what is in it is still taken.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.news.notify_all();
    }
}
