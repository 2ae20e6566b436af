//! One command lane: a state that whoever asks fills, and a task that moves its bytes.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use tidegate_base::{AppName, Command, GatewayId, Query};
use tidegate_link::{LaneRx, LaneTx, Link};
use tidegate_wire::command_lane::{Heard, Said};
use tidegate_wire::{Carry, FrameError, PushLane};

use crate::call::Why;
use crate::counters;
use crate::hearing::Hearing;
use crate::settings::PushSettings;
use crate::waiting::{Ticket, Waiting};

/// A lane to one gateway for one app.
#[derive(Debug)]
pub(crate) struct Lane {
    gateway: GatewayId,
    state: Mutex<State>,
    hearing: Arc<Mutex<Hearing>>,
}

#[derive(Debug)]
struct State {
    push: PushLane<Ticket>,
    /// Of the task, while it waits.
    waker: Option<Waker>,
    /// While it is open.
    tx: Option<LaneTx>,
    used: Instant,
    /// The task is to end, once nothing waits for an answer.
    leaves: bool,
    /// The task has ended: nothing more can be asked here.
    ended: bool,
}

/// Why nothing was put on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// It takes no more now.
    Full,
    /// It has ended, or is about to: another one can be opened.
    Ended,
}

impl Lane {
    pub fn new(gateway: GatewayId, app: &AppName, now: Instant, hearing: Arc<Mutex<Hearing>>) -> Arc<Self> {
        let state =
            State { push: PushLane::new(app), waker: None, tx: None, used: now, leaves: false, ended: false };
        Arc::new(Self { gateway, state: Mutex::new(state), hearing })
    }

    /// Puts commands on it, by their numbers in the call, in order; all or none.
    pub fn commands<'c, 'a: 'c>(
        &self,
        commands: impl Iterator<Item = (u32, &'c Command<'a>)> + Clone,
        call: (&Arc<Waiting>, u32),
        settings: &PushSettings,
    ) -> Result<(), NotSent> {
        let (waiting, part) = call;
        self.ask(commands.clone().count(), settings, |push| {
            for (command, it) in commands {
                let ticket = Ticket { waiting: Arc::clone(waiting), part, command };
                push.command(it, self.gateway, ticket);
            }
        })
    }

    /// Puts a query on it.
    pub fn query(
        &self,
        query: &Query,
        call: (&Arc<Waiting>, u32),
        settings: &PushSettings,
    ) -> Result<(), NotSent> {
        let (waiting, part) = call;
        self.ask(1, settings, |push| {
            push.query(query, Ticket { waiting: Arc::clone(waiting), part, command: 0 });
        })
    }

    fn ask(
        &self,
        things: usize,
        settings: &PushSettings,
        put: impl FnOnce(&mut PushLane<Ticket>),
    ) -> Result<(), NotSent> {
        let waker = {
            let mut state = self.state.lock();
            if state.ended || state.leaves {
                return Err(NotSent::Ended);
            }
            let unsent = state.push.unsent() + state.tx.as_ref().map_or(0, LaneTx::queued_bytes);
            if state.push.in_flight() + things > settings.in_flight_max || unsent > settings.unsent_bytes_max
            {
                return Err(NotSent::Full);
            }
            put(&mut state.push);
            state.used = Instant::now();
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// When it was last used, if nothing waits for an answer.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.push.in_flight() == 0).then_some(state.used)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Ends it once nothing waits for an answer.
    pub fn leave(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.leaves = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Opens it on the link and moves its bytes until it ends. What has no answer then is missing.
    pub async fn run(self: Arc<Self>, link: Link) {
        let end = match link.open_lane().await {
            Ok((tx, rx)) => {
                self.state.lock().tx = Some(tx.clone());
                self.serve(&tx, rx).await
            }
            Err(error) => End::Lost(error.to_string()),
        };
        let unanswered: Vec<Ticket> = {
            let mut state = self.state.lock();
            (state.ended, state.tx) = (true, None);
            state.push.on_lost().collect()
        };
        match &end {
            End::Idle => return,
            End::NoApp => {}
            End::Lost(reason) => {
                tracing::debug!(gateway = %self.gateway, reason, "a command lane is lost");
                counters::LOST.add(unanswered.len() as u64);
            }
        }
        for ticket in unanswered {
            match end {
                End::NoApp => ticket.no_app(),
                _ => ticket.missing(Why::Lost),
            }
        }
    }

    async fn serve(&self, tx: &LaneTx, mut rx: LaneRx) -> End {
        let (mut carry, mut heard) = (Carry::default(), Vec::new());
        std::future::poll_fn(|cx| {
            if let Some(end) = self.send(tx, cx) {
                return Poll::Ready(end);
            }
            for _ in 0..CHUNKS_PER_ROUND {
                let chunk = match rx.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(chunk)) => chunk,
                    Poll::Ready(Err(closed)) => return Poll::Ready(End::Lost(closed.to_string())),
                };
                let read = {
                    let state = &mut *self.state.lock();
                    carry.feed(&chunk, |frame| {
                        heard.push(state.push.on_frame(frame)?);
                        Ok::<_, FrameError>(())
                    })
                };
                if !heard.is_empty() {
                    self.hearing.lock().on_heard();
                }
                if let Some(end) = settle(&mut heard) {
                    return Poll::Ready(end);
                }
                if let Err(error) = read {
                    tracing::error!(gateway = %self.gateway, %error, "a gateway answers what was not asked");
                    tx.reset();
                    return Poll::Ready(End::Lost(error.to_string()));
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    /// Sends what waits, and notes whom to wake when there is more.
    fn send(&self, tx: &LaneTx, cx: &Context<'_>) -> Option<End> {
        let batch = {
            let mut state = self.state.lock();
            if state.leaves && state.push.in_flight() == 0 {
                // Under the lock, so that nothing is asked in between.
                state.ended = true;
                return Some(End::Idle);
            }
            state.waker = Some(cx.waker().clone());
            state.push.take_batch()
        };
        let sent = tx.send(batch?);
        sent.err().map(|closed| End::Lost(closed.to_string()))
    }
}

/// How a lane ended.
enum End {
    /// Nobody needed it.
    Idle,
    /// The gateway has no such app.
    NoApp,
    /// With its link, or because it was broken.
    Lost(String),
}

/// Tells whoever waits. Not under the lane's lock: they may be about to ask for more.
fn settle(heard: &mut Vec<Heard<Ticket>>) -> Option<End> {
    let mut end = None;
    for heard in heard.drain(..) {
        match heard {
            Heard::Said(ticket, said) => {
                if matches!(said, Said::Refused(_)) {
                    counters::REFUSED.inc();
                }
                ticket.said(said);
            }
            Heard::NoApp => end = Some(End::NoApp),
        }
    }
    end
}

/// Chunks read in a row, so that one lane does not keep the others waiting.
const CHUNKS_PER_ROUND: usize = 16;
