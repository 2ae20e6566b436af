//! Where whoever waits for a call and the lanes that answer meet.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidegate_wire::command_lane::Said;

use crate::call::{Call, Why};

/// A call that was sent. Whoever waits may be gone: what comes then is counted in and looked at by nobody.
#[derive(Debug)]
pub(crate) struct Waiting {
    inner: Mutex<(Call, Option<Waker>)>,
}

impl Waiting {
    pub fn new(call: Call) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new((call, None)) })
    }

    /// Ready when nothing is to come any more.
    pub fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Call::is_done)
    }

    /// Ready when nobody is waited for any more who is worth the whole wait.
    pub fn poll_patient(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Call::needs_no_patience)
    }

    fn poll(&self, cx: &mut Context<'_>, is_over: impl Fn(&Call) -> bool) -> Poll<()> {
        let (call, waker) = &mut *self.inner.lock();
        if is_over(call) {
            return Poll::Ready(());
        }
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Looks at the call, or changes it, and wakes who waits if that was the last thing, or the last that is worth the whole
    /// wait.
    pub fn with<T>(&self, change: impl FnOnce(&mut Call) -> T) -> T {
        let (result, waker) = {
            let (call, waker) = &mut *self.inner.lock();
            let result = change(call);
            // What is left may be worth no more than a little.
            (result, if call.needs_no_patience() { waker.take() } else { None })
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

/// One thing that was sent to one gateway, until its answer is there.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub waiting: Arc<Waiting>,
    /// The gateway's part of the call.
    pub part: u32,
    /// Which command of the call.
    pub command: u32,
}

impl Ticket {
    pub fn said(self, said: Said) {
        self.waiting.with(|call| call.on_said(self.part, self.command, said));
    }

    pub fn missing(self, why: Why) {
        self.waiting.with(|call| call.on_missing(self.part, why));
    }

    pub fn no_app(self) {
        self.waiting.with(|call| call.on_no_app(self.part));
    }
}
