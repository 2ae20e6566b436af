//! The reading ends of lanes: what slots say.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidegate_link::LaneRx;
use tidegate_wire::frame::Kind;
use tidegate_wire::{Carry, CommandLane, EventLane, FrameError, RawFrame, ToGateway};

use super::Shard;
use super::commands::CommandEnd;
use super::inbox::{LaneWaker, NewCommandLane, NewLane, Op, ShardMsg};
use crate::app::{App, Lane, Waiter};
use crate::counters;
use crate::router::SlotKey;

/// Chunks read of one lane in a row, so that one slot does not keep the others waiting.
const CHUNKS_PER_ROUND: usize = 16;

/// A lane whose commands this shard applies.
pub(crate) struct LaneEnd {
    rx: LaneRx,
    carry: Carry,
    from: Speaker,
    app: Arc<App>,
    waker: Waker,
}

/// Who speaks on a lane.
enum Speaker {
    /// A slot.
    Slot(Arc<Lane>),
    /// A pusher, for somebody outside.
    Outside(CommandEnd),
}

impl LaneEnd {
    /// No event is under way on it.
    pub fn is_quiet(&self) -> bool {
        let Speaker::Slot(lane) = &self.from else { return true };
        let state = lane.state.lock();
        state.closed || state.events.unfinished() == 0
    }
}

impl Shard {
    pub(super) fn add_lane(&mut self, new: NewLane) {
        let NewLane { app, hello, link, tx, rx, rest } = new;
        if app.is_over() {
            return tx.reset();
        }
        let key = SlotKey { link, slot: hello.slot };
        let events = EventLane::new(hello.credit_events, hello.credit_bytes);
        let lane = Arc::new(Lane::new(&app, key, hello.generation, hello.exports, tx, events));
        let Some(waiters) = app.lane_opened(&lane) else {
            tracing::warn!(slot = ?key, generation = hello.generation, "a stale lane is refused");
            return lane.tx.reset();
        };
        let number = self.insert_lane(rx, Speaker::Slot(lane.clone()), app);
        self.tell(&waiters, |clients| ShardMsg::Bound(clients, lane.clone()));
        if self.read_chunk(number, &rest) {
            self.read_lane(number);
        }
    }

    pub(super) fn add_command_lane(&mut self, new: NewCommandLane) {
        let NewCommandLane { app, tx, rx, rest } = new;
        if app.is_over() {
            return tx.reset();
        }
        let number = self.insert_lane(rx, Speaker::Outside(CommandEnd::new(tx)), app);
        if self.read_chunk(number, &rest) {
            self.read_lane(number);
        }
    }

    fn insert_lane(&mut self, rx: LaneRx, from: Speaker, app: Arc<App>) -> usize {
        let inbox = self.own_inbox();
        let entry = self.lanes.vacant_entry();
        let number = entry.key();
        let waker = Waker::from(Arc::new(LaneWaker { inbox, lane: number }));
        entry.insert(LaneEnd { rx, carry: Carry::default(), from, app, waker });
        number
    }

    pub(super) fn read_lane(&mut self, number: usize) {
        for _ in 0..CHUNKS_PER_ROUND {
            let Some(end) = self.lanes.get_mut(number) else { return };
            let waker = end.waker.clone();
            match end.rx.poll_recv(&mut Context::from_waker(&waker)) {
                Poll::Pending => return,
                Poll::Ready(Ok(chunk)) => {
                    if !self.read_chunk(number, &chunk) {
                        return;
                    }
                }
                Poll::Ready(Err(end)) => {
                    tracing::debug!(%end, "a lane ended");
                    return self.lose_lane(number);
                }
            }
        }
        // There is more: it gets another turn in the next round.
        if let Some(end) = self.lanes.get(number) {
            end.waker.wake_by_ref();
        }
    }

    /// False: the lane is gone.
    fn read_chunk(&mut self, number: usize, chunk: &Bytes) -> bool {
        let Some(end) = self.lanes.get_mut(number) else { return false };
        let (app, mut carry) = (end.app.clone(), std::mem::take(&mut end.carry));
        let read = match &mut end.from {
            Speaker::Slot(lane) => {
                let lane = lane.clone();
                carry.feed(chunk, |frame| self.on_frame(&app, &lane, frame))
            }
            Speaker::Outside(outside) => {
                let mut lane = outside.take();
                let read = carry.feed(chunk, |frame| self.on_asked(&app, &mut lane, frame));
                self.answer_asked(number, lane);
                read
            }
        };
        if let Some(end) = self.lanes.get_mut(number) {
            end.carry = carry;
        }
        if let Err(error) = read {
            tracing::error!(%error, app = %app.name, "a lane brought a broken frame: it is reset");
            counters::LANES_BROKEN.inc();
            self.lose_lane(number);
            return false;
        }
        true
    }

    fn on_frame(&mut self, app: &Arc<App>, lane: &Arc<Lane>, frame: &RawFrame<'_>) -> Result<(), FrameError> {
        match ToGateway::decode(frame, self.gateway)? {
            ToGateway::Part(head, mut commands) => {
                let effect = lane.state.lock().events.on_part(head)?;
                if let Some((client, weight)) = effect.finished {
                    self.apply_to_one(app, client, Op::Finished(weight));
                }
                if effect.failed {
                    counters::EVENTS_FAILED.inc();
                }
                if head.flags.has(tidegate_wire::PartFlags::ACK) {
                    self.mark_dirty(lane);
                }
                let mut writes_session = false;
                while let Some((command, used)) = RawFrame::split(commands)? {
                    commands = commands.get(used..).unwrap_or_default();
                    writes_session |= matches!(command.kind, Kind::SetSession | Kind::UpdateSession);
                    if effect.apply {
                        self.apply(app, lane, &command)?;
                    }
                }
                if writes_session {
                    lane.state.lock().events.on_session_part();
                }
                if commands.is_empty() { Ok(()) } else { Err(FrameError::Payload(frame.kind)) }
            }
            ToGateway::Credit(events, bytes) => {
                let waiters = {
                    let mut state = lane.state.lock();
                    state.events.on_credit(events, bytes);
                    std::mem::take(&mut state.paused)
                };
                self.tell(&waiters, ShardMsg::Resume);
                Ok(())
            }
            ToGateway::Release(event) => lane.state.lock().events.on_release(event),
            ToGateway::Drain(first_unread) => {
                let unread = {
                    let mut state = lane.state.lock();
                    state.closed = true;
                    state.paused = Vec::new();
                    state.events.on_drain(first_unread)
                };
                self.leave_lane(app, lane, unread);
                Ok(())
            }
            ToGateway::Exports(version, exports) => {
                tracing::debug!(slot = ?lane.key, version, ?exports, "another version runs in a slot");
                let news = !lane.set_exports(exports).has(exports);
                if news {
                    // Its clients may have to be announced: what was not exported before was not told before.
                    self.inboxes.iter().for_each(|inbox| inbox.push(ShardMsg::Exports(lane.clone())));
                }
                Ok(())
            }
            ToGateway::Query(number, query) => {
                let answer = app.hub.lock().answer(&query);
                lane.state.lock().events.answer(number, &answer);
                self.mark_dirty(lane);
                Ok(())
            }
            ToGateway::Hello(_) | ToGateway::Command(_) | ToGateway::Decision(..) => {
                Err(FrameError::Unexpected(frame.kind))
            }
        }
    }

    fn lose_lane(&mut self, number: usize) {
        let Some(end) = self.lanes.try_remove(number) else { return };
        let lane = match end.from {
            Speaker::Slot(lane) => lane,
            Speaker::Outside(outside) => return outside.reset(),
        };
        let lost = {
            let mut state = lane.state.lock();
            let was_closed = std::mem::replace(&mut state.closed, true);
            if !was_closed {
                // The slot must learn of it even if just one direction broke.
                lane.tx.reset();
            }
            state.paused = Vec::new();
            if was_closed { Vec::new() } else { state.events.on_lost() }
        };
        if !lost.is_empty() {
            counters::EVENTS_LOST.add(lost.len() as u64);
            end.app.count(self.index, |counts| &counts.lost, lost.len() as u64);
            tracing::warn!(slot = ?lane.key, events = lost.len(), "a lane was lost with events that were not done");
        }
        self.leave_lane(&end.app, &lane, Vec::new());
    }

    /// Ends every lane of an app.
    pub(super) fn lose_lanes(&mut self, app: &Arc<App>) {
        let of_app = self.lanes.iter().filter(|(_, lane)| Arc::ptr_eq(&lane.app, app));
        for number in of_app.map(|(number, _)| number).collect::<Vec<_>>() {
            self.lose_lane(number);
        }
    }

    /// Hands over what was answered to what came together, and goes on with the lane.
    fn answer_asked(&mut self, number: usize, lane: CommandLane) {
        if let Some(LaneEnd { from: Speaker::Outside(outside), .. }) = self.lanes.get_mut(number) {
            outside.put_back(lane);
        }
    }

    /// The clients of a lane need another slot.
    fn leave_lane(&mut self, app: &App, lane: &Arc<Lane>, unread: Vec<tidegate_wire::Unfinished>) {
        app.lane_gone(lane);
        // What the slot said before it left comes before what another slot answers.
        self.flush_remote();
        let mut per_shard: Vec<Vec<_>> = self.inboxes.iter().map(|_| Vec::new()).collect();
        for event in unread {
            if let Some(events) = per_shard.get_mut(self.shard_of(event.client)) {
                events.push(event);
            }
        }
        for (inbox, events) in self.inboxes.iter().zip(per_shard) {
            inbox.push(ShardMsg::LaneGone(lane.clone(), events));
        }
    }

    /// Tells the shards of these clients something.
    fn tell(&self, waiters: &[Waiter], message: impl Fn(Vec<u32>) -> ShardMsg) {
        tell(&self.inboxes, waiters, message);
    }
}

/// Tells the shards of these clients something, one message per shard.
pub(crate) fn tell(
    inboxes: &[Arc<super::inbox::Inbox>],
    waiters: &[Waiter],
    message: impl Fn(Vec<u32>) -> ShardMsg,
) {
    if waiters.is_empty() {
        return;
    }
    for (shard, inbox) in inboxes.iter().enumerate() {
        let clients: Vec<u32> = waiters.iter().filter(|w| w.shard == shard).map(|w| w.client).collect();
        if !clients.is_empty() {
            inbox.push(message(clients));
        }
    }
}
