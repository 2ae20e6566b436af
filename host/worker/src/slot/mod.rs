//! A slot: one instance at a time, one turn at a time.
//!
//! The whole slot is one future. Its turns run inline; one that needs the CPU for long takes the slot with it to the
//! slow pool and back. While a turn waits, what comes in is read, but nothing else runs.

mod call;
mod doze;
mod empty;
mod health;
mod lanes;
mod pace;
mod shared;
mod sleep;
mod start;
mod switch;
mod times;
mod turn;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::Buf;
use tidegate_base::{ClientId, CloseInfo, CloseReason, Event, GatewayId};
use tidegate_runtime::Instance;
use tidegate_wire::{FrameError, RawFrame, ToWorker};
use tokio::sync::oneshot;

use self::call::Call;
use self::health::Health;
pub(crate) use self::shared::{News, SlotParts, SlotShared, tell};
use self::sleep::Sleep;
pub use self::start::SlotStartError;
use self::times::Times;
pub(crate) use self::times::below;
pub(crate) use self::turn::failed_upgrade;
use crate::app_log::Sparse;
use crate::core::SlotCore;
use crate::counters;
use crate::edition::Tally;
use crate::host::{Home, SlotHost};
use crate::intake::{Chunk, Intake, Look, Notice};
use crate::settings::WorkerApp;
use crate::stored::StoredState;

/// Events handled in a row before others on the thread get their turn.
const EVENTS_PER_ROUND: usize = 256;

pub(crate) struct Slot {
    parts: SlotParts,
    tally: Arc<Tally>,
    intake: Intake,
    home: Home,
    /// None: it sleeps, could not be started anew yet, or there is nothing to run.
    instance: Option<Instance<SlotHost>>,
    health: Health,
    /// Lines about faults and failed starts.
    fault_lines: Sparse,
    sleep: Sleep,
    times: Times,
    /// Turns of this round, counted once at its end: all slots of all workers share that counter.
    turns: u64,
    /// Since when it is idle, as the pool's places know it. None: it could not sleep early.
    offered: Option<Instant>,
    /// Lines about a slot that cannot sleep.
    sleep_lines: Sparse,
    /// What the instance handed over as the slot fell asleep, until another one has it.
    stored: Option<StoredState>,
    /// Clients of gateways whose link is down: closed if the gateway turns out to be lost.
    orphans: Vec<(GatewayId, Vec<u32>)>,
    /// Clients of lost gateways whose on-close has still to run.
    owed: VecDeque<ClientId>,
    /// Waits for the first event's turn since the switch.
    first_event: Option<(Instant, oneshot::Sender<u64>)>,
    stopping: bool,
}

impl Slot {
    /// A slot without an instance.
    pub fn new(parts: SlotParts) -> Self {
        let queries = parts.shared.queries.clone();
        let intake = Intake::new(parts.shared.inbox.clone(), queries.clone());
        let (app, log) = (parts.edition.app.clone(), parts.shared.log.clone());
        let health = Health::new(app.on_failure, Instant::now());
        let core = SlotCore::new(app, parts.slot, log, queries, parts.settings.query_wait);
        let home = Home::default();
        *home.lock() = Some(Box::new(core));
        Self {
            tally: match parts.edition.serves() {
                Some((version, _)) => parts.shared.stats.begin(version),
                None => Arc::default(),
            },
            parts,
            intake,
            home,
            instance: None,
            health,
            fault_lines: Sparse::default(),
            sleep: Sleep::default(),
            times: Times::default(),
            turns: 0,
            offered: None,
            sleep_lines: Sparse::default(),
            stored: None,
            orphans: Vec::new(),
            owed: VecDeque::new(),
            first_event: None,
            stopping: false,
        }
    }

    /// Serves until it is told to stop.
    pub async fn run(mut self) {
        while !self.stopping {
            self.wait_for_lanes().await;
            let began = self.ticks();
            for _ in 0..EVENTS_PER_ROUND {
                self.handle_notices().await;
                if self.stopping || !self.has_instance().await || self.is_held_up() {
                    break;
                }
                if !self.run_owed().await && !self.next_event().await {
                    break;
                }
                if self.ticks() != began {
                    break;
                }
            }
            self.run_timers().await;
            self.flush();
            if !self.stopping {
                self.sleep_if_due().await;
                self.rest().await;
            }
        }
        self.leave().await;
    }

    /// Until something comes in or a timer is due; at least once past the other tasks of this thread.
    async fn rest(&mut self) {
        let memory = self.instance.as_ref().map_or(0, Instance::memory_bytes);
        self.parts.shared.stats.set_memory_bytes(memory);
        // Without an instance that it could have, or over the budget, what came in for it does not count.
        let over_until = self.over_budget_until();
        let is_asleep = self.sleep.is_asleep();
        let serves = (self.instance.is_some() || is_asleep) && over_until.is_none();
        let runs = self.instance.is_some() && over_until.is_none();
        if !runs {
            self.offer(None);
        }
        let due = match (&self.instance, over_until) {
            (Some(_), None) => {
                let timer = self.core(|core| core.timers.next()).flatten();
                // Nobody's clock runs for a slot that never sleeps.
                [timer, self.sleeps_at(timer)].into_iter().flatten().min()
            }
            (Some(_), Some(until)) => Some(until),
            (None, _) if is_asleep => over_until,
            (None, _) => self.health.next().filter(|_| self.parts.edition.has_code()),
        };
        let intake = &mut self.intake;
        let has_work = |intake: &Intake| if serves { !intake.is_empty() } else { intake.has_notices() };
        // A timer that sets itself anew, due at once, must not keep others from the thread.
        if has_work(intake) || due.is_some_and(|at| at <= Instant::now()) {
            return tokio::task::yield_now().await;
        }
        let come = poll_fn(|cx| {
            let _ = intake.poll(cx);
            if has_work(intake) { Poll::Ready(()) } else { Poll::Pending }
        });
        match due {
            None => come.await,
            // Whichever is first; both are looked at again.
            Some(at) => drop(tokio::time::timeout_at(at.into(), come).await),
        }
    }

    /// A full command queue delays only this slot's next turn.
    async fn wait_for_lanes(&mut self) {
        let max = self.parts.settings.command_queue_bytes_max;
        let lanes: Vec<_> = match self.core(|core| core.out.lanes().cloned().collect()) {
            Some(lanes) => lanes,
            None => return,
        };
        let mut waited = false;
        poll_fn(|cx| {
            // What comes in is read meanwhile: a lost link ends the waiting.
            let _ = self.intake.poll(cx);
            let full = lanes.iter().any(|lane| lane.poll_below(cx, max).is_pending());
            if full && !self.intake.is_lost_any(&lanes) {
                waited = true;
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        if waited {
            counters::QUEUE_WAITS.inc();
        }
    }

    /// Between two turns: settings that hold at once.
    fn configure(&mut self, settings: &WorkerApp) {
        self.parts.edition = Arc::new(self.parts.edition.with_live(settings));
        self.health.set_on_failure(settings.on_failure);
        self.sleep.put_off();
        let app = Arc::clone(&self.parts.edition.app);
        self.core(|core| core.app = app);
    }

    async fn handle_notices(&mut self) {
        while let Some(notice) = self.intake.next_notice() {
            match notice {
                Notice::LaneUp(gateway, offer) => self.lane_up(gateway, offer),
                Notice::LaneDown(gateway) => self.lane_down(gateway),
                Notice::GatewayStopped(gateway) => self.gateway_stopped(gateway),
                Notice::GatewayGone(gateway) => self.gateway_gone(gateway),
                // Of an empty slot, the gateway will hear that it has no use for it.
                Notice::LaneWanted(gateway) if self.parts.edition.has_code() => self.intake.open(gateway),
                Notice::LaneWanted(_) => {}
                Notice::Ack(gateway, parts) => {
                    self.core(|core| core.out.on_ack(gateway, parts));
                }
                Notice::Ask(query, asked) => {
                    if let Some(waiting) = self.ask(&query) {
                        // Gone: whoever asked does not wait any more.
                        let _ = asked.send(waiting);
                    }
                }
                Notice::Switch(order) => self.on_switch(*order).await,
                Notice::Say(commands) => {
                    self.core(|core| core.say(&commands));
                }
                Notice::Configure(settings) => self.configure(&settings),
                Notice::Empty(done) => {
                    self.empty().await;
                    // Whoever ordered it may be gone; the slot is empty.
                    let _ = done.send(());
                }
                Notice::HasPlace => self.health.has_place(Instant::now()),
                Notice::SleepSoon => self.sleep.hurry(),
                Notice::Stop => self.stopping = true,
            }
        }
    }

    /// The on-close of one client whose gateway is lost. False: there is none.
    async fn run_owed(&mut self) -> bool {
        let Some(client) = self.owed.pop_front() else { return false };
        self.sleep.stir();
        let info =
            CloseInfo { reason: CloseReason::GatewayLost, uid: None, groups: Vec::new(), session: None };
        self.turn(Call::Event(client, Event::Close(info)), None).await;
        true
    }

    /// False: there is none.
    async fn next_event(&mut self) -> bool {
        let Some(mut chunk) = self.intake.next_chunk() else { return false };
        let gateway = chunk.gateway;
        self.sleep.stir();
        match self.handle_frame(&mut chunk).await {
            Ok(used) => {
                chunk.frames.advance(used.min(chunk.frames.len()));
                self.intake.put_back(chunk);
            }
            Err(error) => {
                tracing::error!(%gateway, %error, "a gateway sent a broken frame: its lane is reset");
                self.core(|core| {
                    core.out.lanes().for_each(|l| {
                        if l.is_to(gateway) {
                            l.reset()
                        }
                    })
                });
                self.lane_down(gateway);
            }
        }
        true
    }

    async fn handle_frame(&mut self, chunk: &mut Chunk) -> Result<usize, FrameError> {
        let Chunk { gateway, frames, look } = chunk;
        let gateway = *gateway;
        let Some((frame, used)) = RawFrame::split(frames)? else { return Ok(frames.len()) };
        match ToWorker::decode(&frame)? {
            ToWorker::Event { client, number, attempt, event } => {
                let checked = self.core(|core| core.out.on_event(gateway, number, attempt, used));
                if attempt > 1 || !matches!(checked, Some(Ok(()))) {
                    let audit = self.core(|core| core.out.audit()).unwrap_or_default();
                    self.parts.shared.stats.set_audit(audit.faults());
                }
                checked.transpose()?;
                if let Some(Look { arrived, stands_for, .. }) = Look::at_event(look) {
                    self.parts.shared.stats.queue_times.add(arrived.elapsed(), stands_for);
                }
                let client = ClientId { gateway, connection: client };
                self.turn(Call::Event(client, event), Some((gateway, number))).await;
            }
            ToWorker::Attach(client, addresses) => {
                self.core(|core| core.out.attach(gateway, client, addresses));
            }
            ToWorker::Detach(client) => {
                self.core(|core| core.out.clients(gateway).map(|clients| clients.remove(&client)));
            }
            ToWorker::Session(client, applied, session) => {
                self.core(|core| core.out.on_session(gateway, client, applied, session));
            }
            // Handled when they came in.
            ToWorker::Answer(..) | ToWorker::Ack(_) => {}
        }
        Ok(used)
    }

    async fn run_timers(&mut self) {
        let began = self.ticks();
        for _ in 0..EVENTS_PER_ROUND {
            if self.is_held_up() {
                return;
            }
            // Slots without timers look at no clock.
            let pop = |core: &mut SlotCore| {
                core.timers.next()?;
                core.timers.pop(Instant::now())
            };
            let Some(key) = self.core(pop).flatten() else { return };
            self.sleep.stir();
            self.turn(Call::Timer(&key), None).await;
            if self.ticks() != began {
                return;
            }
        }
    }

    /// The slot leaves.
    async fn leave(mut self) {
        self.say_good_bye().await;
    }

    /// The running turn, or the last one.
    fn turn_number(&mut self) -> u64 {
        self.core(|core| core.turn_number).unwrap_or(0)
    }

    fn flush(&mut self) {
        self.core(|core| core.out.flush());
        self.count_turns();
    }

    fn count_turns(&mut self) {
        if self.turns > 0 {
            counters::TURNS.add(std::mem::take(&mut self.turns));
        }
    }

    /// The slot's state, wherever it is.
    fn core<T>(&mut self, call: impl FnOnce(&mut SlotCore) -> T) -> Option<T> {
        match &mut self.instance {
            Some(instance) => instance.host().core().map(call),
            None => self.home.lock().as_deref_mut().map(call),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.count_turns();
        let SlotParts { edition, slot, shared, places, .. } = &self.parts;
        shared.inbox.close();
        places.leaves(&edition.app.name, *slot, &shared.inbox);
    }
}

/// Runs a future while what comes in is read.
async fn reading<T>(intake: &mut Intake, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => {
            let _ = intake.poll(cx);
            Poll::Pending
        }
    })
    .await
}
