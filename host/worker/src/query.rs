//! The query that a turn waits for. A slot runs one turn at a time, so there is at most one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{Answer, Answered, GatewayId};
use tidegate_wire::fanout::Fanout;

use crate::counters;

/// Where the turn that asked and the lanes that answer meet.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    /// In the numbers of all of its queries.
    mark: u32,
    inner: Mutex<Inner>,
}

/// In the numbers of queries of an instance that does not serve the slot.
const HELD: u32 = 1 << 31;

#[derive(Debug, Default)]
struct Inner {
    number: u32,
    fanout: Option<Fanout>,
    waker: Option<Waker>,
}

impl Queries {
    /// Of an instance that starts beside the slot's own.
    pub fn held() -> Self {
        Self { mark: HELD, ..Self::default() }
    }

    /// Whether a query of this number is one of a held instance.
    pub const fn is_held(number: u32) -> bool {
        number & HELD != 0
    }

    /// A query begins. Returns its number; answers to earlier ones are ignored from now on.
    pub fn begin(&self, fanout: Fanout) -> u32 {
        let mut inner = self.inner.lock();
        inner.number = inner.number.wrapping_add(1) & !HELD | self.mark;
        inner.fanout = Some(fanout);
        inner.number
    }

    pub fn on_answer(&self, number: u32, gateway: GatewayId, answer: Answer) {
        self.change(|inner| {
            if let Some(fanout) = inner.fanout.as_mut().filter(|_| inner.number == number) {
                fanout.on_answer(gateway, answer);
            }
        });
    }

    pub fn on_lost(&self, gateway: GatewayId) {
        self.change(|inner| {
            if let Some(fanout) = &mut inner.fanout {
                fanout.on_lost(gateway);
            }
        });
    }

    /// Waits for all answers, or for `wait`.
    pub async fn finish(self: Arc<Self>, wait: Duration) -> Answered {
        let whole = poll_fn(|cx| {
            let mut inner = self.inner.lock();
            if inner.fanout.as_ref().is_none_or(Fanout::is_done) {
                return Poll::Ready(());
            }
            inner.waker = Some(cx.waker().clone());
            Poll::Pending
        });
        let _in_time = tokio::time::timeout(wait, whole).await;
        let fanout = self.inner.lock().fanout.take();
        let answered =
            fanout.map_or_else(|| Answered { answer: Answer::Count(0), missing: Vec::new() }, Fanout::finish);
        if !answered.missing.is_empty() {
            counters::QUERIES_PARTIAL.inc();
        }
        answered
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let waker = {
            let mut inner = self.inner.lock();
            change(&mut inner);
            inner.fanout.as_ref().is_some_and(Fanout::is_done).then(|| inner.waker.take()).flatten()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
