//! The queries that turns of a slot wait for: its instance's, and those of instances that start beside it or say good-bye.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{Answer, Answered, GatewayId};
use tidegate_wire::fanout::Fanout;

use crate::counters;

/// Where the turns that asked and the lanes that answer meet. An instance has one turn at a time, and a turn one query,
/// so there are never more than instances.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    number: u32,
    waiting: BTreeMap<u32, Waiting>,
    /// Gateways whose lanes have ended while the slot was busy: it will hear of it between two turns. Until then it would
    /// ask them, and wait for nothing.
    lost: BTreeSet<GatewayId>,
}

#[derive(Debug)]
struct Waiting {
    fanout: Fanout,
    waker: Option<Waker>,
}

/// A query that was asked. Dropping it ends the waiting: answers that come later are ignored.
#[derive(Debug)]
pub(crate) struct Asked {
    queries: Arc<Queries>,
    number: u32,
}

impl Queries {
    /// A query begins.
    pub fn begin(self: &Arc<Self>, mut fanout: Fanout) -> Asked {
        let mut inner = self.inner.lock();
        inner.lost.iter().for_each(|gateway| fanout.on_lost(*gateway));
        inner.number = inner.number.wrapping_add(1);
        let number = inner.number;
        inner.waiting.insert(number, Waiting { fanout, waker: None });
        Asked { queries: Arc::clone(self), number }
    }

    pub fn on_answer(&self, number: u32, gateway: GatewayId, answer: Answer) {
        let woken = self.inner.lock().waiting.get_mut(&number).and_then(|waiting| {
            waiting.fanout.on_answer(gateway, answer);
            waiting.waker_if_done()
        });
        if let Some(waker) = woken {
            waker.wake();
        }
    }

    /// A lane to this gateway has ended, for queries that wait and, until the slot has [noted](Self::noted) it, for those to come.
    pub fn on_lost(&self, gateway: GatewayId) {
        let lost = |waiting: &mut Waiting| {
            waiting.fanout.on_lost(gateway);
            waiting.waker_if_done()
        };
        let mut inner = self.inner.lock();
        inner.lost.insert(gateway);
        let woken: Vec<_> = inner.waiting.values_mut().filter_map(lost).collect();
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The slot knows whether it has a lane to this gateway.
    pub fn noted(&self, gateway: GatewayId) {
        self.inner.lock().lost.remove(&gateway);
    }
}

impl Waiting {
    fn waker_if_done(&mut self) -> Option<Waker> {
        if self.fanout.is_done() { self.waker.take() } else { None }
    }
}

impl Asked {
    /// What the gateways are asked with, and answer with.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Waits for all answers, or for `wait`.
    pub async fn finish(self, wait: Duration) -> Answered {
        let whole = poll_fn(|cx| {
            let mut inner = self.queries.inner.lock();
            match inner.waiting.get_mut(&self.number) {
                Some(waiting) if !waiting.fanout.is_done() => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        });
        let _in_time = tokio::time::timeout(wait, whole).await;
        let waiting = self.queries.inner.lock().waiting.remove(&self.number);
        let none = || Answered { answer: Answer::Count(0), missing: Vec::new() };
        let answered = waiting.map_or_else(none, |waiting| waiting.fanout.finish());
        if !answered.missing.is_empty() {
            counters::QUERIES_PARTIAL.inc();
        }
        answered
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.queries.inner.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{Audience, Query};

    use super::*;

    #[tokio::test]
    async fn each_of_several_queries_gets_its_own_answer_whichever_comes_first() {
        let gateway = GatewayId::new(1);
        let queries = Arc::new(Queries::default());
        let ask = |query: &Query| queries.begin(Fanout::new(query, [gateway]));
        let count = ask(&Query::CountClients(Audience::All));
        let groups = ask(&Query::CountByGroup(vec!["a".into()]));
        let given_up = ask(&Query::CountClients(Audience::All));
        queries.on_answer(groups.number(), gateway, Answer::Counts(vec![3]));
        queries.on_answer(count.number(), gateway, Answer::Count(7));
        let (late, wait) = (given_up.number(), Duration::from_secs(5));
        drop(given_up);
        queries.on_answer(late, gateway, Answer::Count(9));
        assert_eq!(count.finish(wait).await.answer, Answer::Count(7));
        assert_eq!(groups.finish(wait).await.answer, Answer::Counts(vec![3]));
        assert!(queries.inner.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_query_that_begins_before_the_slot_has_noted_a_loss_does_not_wait_for_it() {
        let (lost, lives) = (GatewayId::new(1), GatewayId::new(2));
        let queries = Arc::new(Queries::default());
        let begin = || queries.begin(Fanout::new(&Query::CountClients(Audience::All), [lost, lives]));
        queries.on_lost(lost);
        let asked = begin();
        queries.on_answer(asked.number(), lives, Answer::Count(3));
        let answered = asked.finish(Duration::from_secs(3600)).await;
        assert_eq!((answered.answer, answered.missing), (Answer::Count(3), vec![lost]));
        queries.noted(lost);
        let asked = begin();
        for (gateway, count) in [(lost, 1), (lives, 2)] {
            queries.on_answer(asked.number(), gateway, Answer::Count(count));
        }
        let answered = asked.finish(Duration::from_secs(3600)).await;
        assert_eq!((answered.answer, answered.missing), (Answer::Count(3), Vec::new()));
    }

    #[tokio::test]
    async fn a_lost_gateway_ends_every_query_that_waits_for_it() {
        let gateway = GatewayId::new(1);
        let queries = Arc::new(Queries::default());
        let asked: Vec<_> = (0..3)
            .map(|_| queries.begin(Fanout::new(&Query::CountClients(Audience::All), [gateway])))
            .collect();
        queries.on_lost(gateway);
        for asked in asked {
            assert_eq!(asked.finish(Duration::from_secs(5)).await.missing, [gateway]);
        }
    }
}
