//! What comes in for a slot. It is read also while a turn runs, so that answers reach it and both ends of a lane always
//! read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tidegate_base::{GatewayId, Query};
use tidegate_link::LaneRx;
use tidegate_wire::frame::{HEAD_BYTES, Kind};
use tidegate_wire::{FrameError, RawFrame, ToWorker};

use tokio::sync::oneshot;

use crate::held::Kept;
use crate::inbox::{Inbox, LaneWaker, SlotMsg};
use crate::lane::{LaneOffer, LazyLane, LinkNo};
use crate::prepare::SwitchOrder;
use crate::query::{Asked, Queries};
use crate::settings::WorkerApp;
use crate::slot::below;

/// The reading ends of a slot's lanes, and what is read and not handled. Events are bounded by the credit that the
/// slot granted.
#[derive(Debug)]
pub(crate) struct Intake {
    inbox: Arc<Inbox>,
    queries: Arc<Queries>,
    lanes: FxHashMap<GatewayId, LaneIn>,
    /// Whole frames in order of arrival.
    chunks: VecDeque<Chunk>,
    /// What must be done between two turns.
    notices: VecDeque<Notice>,
    messages: Vec<SlotMsg>,
    ready: Vec<GatewayId>,
    picks: Picks,
}

/// Which events that come in are looked at.
#[derive(Debug, Default)]
struct Picks {
    /// Events that no other one stands for.
    events: u64,
    /// Events since the last choice.
    came: u32,
    /// So many more come before the one. None: it has come.
    before: Option<u32>,
}

impl Picks {
    /// One of as many as came since this was called last.
    fn choose(&mut self, random: u32) {
        let before = below(std::mem::take(&mut self.came), random);
        self.before = Some(u32::try_from(before).unwrap_or(u32::MAX));
    }

    /// So many events have come together.
    fn came(&mut self, events: u32) -> Option<Look> {
        self.came = self.came.saturating_add(events);
        let before = match &mut self.before {
            Some(before) if *before < events => *before,
            Some(before) => {
                *before -= events;
                self.events += u64::from(events);
                return None;
            }
            None => {
                self.events += u64::from(events);
                return None;
            }
        };
        self.before = None;
        let own = u64::from(before) + 1;
        let stands_for = self.events + own;
        self.events = u64::from(events).saturating_sub(own);
        Some(Look { arrived: Instant::now(), before, stands_for })
    }
}

/// Whole frames that came together.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// From whom.
    pub gateway: GatewayId,
    pub frames: Bytes,
    /// One of their events is to be looked at when its turn comes.
    pub look: Option<Look>,
}

/// An event whose wait for its turn is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub arrived: Instant,
    /// So many events come before it.
    before: u32,
    /// It stands for so many, itself included.
    pub stands_for: u64,
}

impl Look {
    /// An event's turn begins: some if it is the one.
    pub fn at_event(look: &mut Option<Self>) -> Option<Self> {
        match look {
            Some(Self { before: 0, .. }) => look.take(),
            Some(Self { before, .. }) => {
                *before -= 1;
                None
            }
            None => None,
        }
    }
}

/// What must be done between two turns.
#[derive(Debug)]
pub(crate) enum Notice {
    LaneUp(GatewayId, LaneOffer),
    /// The link is down, or just the lane.
    LaneDown(GatewayId),
    GatewayStopped(GatewayId),
    GatewayGone(GatewayId),
    LaneWanted(GatewayId),
    Ack(GatewayId, u32),
    Ask(Query, oneshot::Sender<Asked>),
    Switch(Box<SwitchOrder>),
    Say(Vec<Kept>),
    Configure(Arc<WorkerApp>),
    Empty(oneshot::Sender<()>),
    HasPlace,
    SleepSoon,
    Stop,
}

#[derive(Debug)]
struct LaneIn {
    lane: Arc<LazyLane>,
    rx: Option<LaneRx>,
    waker: Waker,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
}

impl Intake {
    pub fn new(inbox: Arc<Inbox>, queries: Arc<Queries>) -> Self {
        Self {
            inbox,
            queries,
            lanes: FxHashMap::default(),
            chunks: VecDeque::new(),
            notices: VecDeque::new(),
            messages: Vec::new(),
            ready: Vec::new(),
            picks: Picks::default(),
        }
    }

    /// Of the events that come in, look at one more, by a random number. Replaces a choice that did not come in yet.
    pub fn look_at_one(&mut self, random: u32) {
        self.picks.choose(random);
    }

    /// A lane to a gateway may be opened from now on.
    pub fn add(&mut self, gateway: GatewayId, lane: Arc<LazyLane>) {
        let waker = Waker::from(Arc::new(LaneWaker { inbox: self.inbox.clone(), gateway }));
        self.lanes.insert(gateway, LaneIn { lane, rx: None, waker, partial: Vec::new() });
    }

    /// The gateway wants the lane to be open.
    pub fn open(&self, gateway: GatewayId) {
        if let Some(lane) = self.lanes.get(&gateway) {
            lane.lane.open();
        }
    }

    /// Whether there is nothing to handle.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.notices.is_empty()
    }

    /// Whether frames are there that have not been handled.
    pub fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Whether one of these lanes is known to be lost, or to be replaced.
    pub fn is_lost_any(&self, lanes: &[Arc<LazyLane>]) -> bool {
        let ends = |notice: &Notice| match notice {
            Notice::LaneDown(of) | Notice::LaneUp(of, _) => lanes.iter().any(|lane| lane.is_to(*of)),
            _ => false,
        };
        self.notices.iter().any(ends)
    }

    /// Whether there is something to do between two turns, apart from events.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Events that came in and had no turn yet.
    pub fn waiting_events(&self) -> u32 {
        let count = |chunk: &Bytes| {
            let (mut at, mut events) = (0, 0);
            while let Ok(Some((frame, used))) = RawFrame::split(chunk.get(at..).unwrap_or_default()) {
                at += used;
                events += u32::from(is_event(frame.kind));
            }
            events
        };
        self.chunks.iter().map(|chunk| count(&chunk.frames)).sum()
    }

    /// What to do before the next turn.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whole frames of one gateway.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        self.chunks.pop_front()
    }

    /// The rest of a chunk that is not handled now.
    pub fn put_back(&mut self, rest: Chunk) {
        if !rest.frames.is_empty() {
            self.chunks.push_front(rest);
        }
    }

    /// Forgets what a gateway sent: its lane is lost.
    pub fn forget(&mut self, gateway: GatewayId) {
        self.lanes.remove(&gateway);
        self.chunks.retain(|chunk| chunk.gateway != gateway);
        self.queries.noted(gateway);
    }

    /// Reads what has come. Ready: there is something to handle.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (mut messages, mut ready) = (std::mem::take(&mut self.messages), std::mem::take(&mut self.ready));
        while self.inbox.take(&mut messages, &mut ready, cx.waker()) {
            messages.drain(..).for_each(|message| self.on_message(message));
            ready.drain(..).for_each(|gateway| self.read(gateway));
        }
        (self.messages, self.ready) = (messages, ready);
        if self.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn on_message(&mut self, message: SlotMsg) {
        match message {
            // Of a link that is lost and has not noticed it, while the next one is there.
            SlotMsg::LaneUp(gateway, offer) if self.newest(gateway).is_some_and(|link| link > offer.on) => {}
            SlotMsg::LaneUp(gateway, offer) => {
                // What the lane before would still bring, its end above all, must not be taken for this one's.
                if self.lanes.remove(&gateway).is_some() {
                    self.queries.on_lost(gateway);
                }
                self.notices.push_back(Notice::LaneUp(gateway, offer));
            }
            SlotMsg::LinkDown(gateway, link) => {
                if self.newest(gateway) == Some(link) {
                    // A turn may wait for its answer.
                    self.queries.on_lost(gateway);
                    self.notices.push_back(Notice::LaneDown(gateway));
                }
            }
            SlotMsg::GatewayStopped(gateway) => self.notices.push_back(Notice::GatewayStopped(gateway)),
            SlotMsg::GatewayGone(gateway) => self.notices.push_back(Notice::GatewayGone(gateway)),
            SlotMsg::Configure(settings) => self.notices.push_back(Notice::Configure(settings)),
            SlotMsg::Empty(done) => self.notices.push_back(Notice::Empty(done)),
            SlotMsg::HasPlace => self.notices.push_back(Notice::HasPlace),
            SlotMsg::SleepSoon => self.notices.push_back(Notice::SleepSoon),
            SlotMsg::Stop => self.notices.push_back(Notice::Stop),
            SlotMsg::Ask(query, asked) => self.notices.push_back(Notice::Ask(query, asked)),
            SlotMsg::Switch(order) => self.notices.push_back(Notice::Switch(order)),
            SlotMsg::Say(commands) => self.notices.push_back(Notice::Say(commands)),
            // Not at once: the news of the link that it is wanted on may still wait for its turn.
            SlotMsg::LaneWanted(gateway) => self.notices.push_back(Notice::LaneWanted(gateway)),
            SlotMsg::Lane(gateway, generation, rx) => {
                let current = |lane: &&mut LaneIn| lane.lane.generation() == generation;
                if let Some(lane) = self.lanes.get_mut(&gateway).filter(current) {
                    lane.rx = Some(rx);
                    self.read(gateway);
                }
            }
            SlotMsg::LaneLost(gateway, generation) => {
                if self.lanes.get(&gateway).is_some_and(|lane| lane.lane.generation() == generation) {
                    self.queries.on_lost(gateway);
                }
            }
        }
    }

    /// The link of the last lane to this gateway that the slot was told of.
    fn newest(&self, gateway: GatewayId) -> Option<LinkNo> {
        let coming = self.notices.iter().rev().find_map(|notice| match notice {
            Notice::LaneUp(of, offer) if *of == gateway => Some(offer.on),
            _ => None,
        });
        coming.or_else(|| Some(self.lanes.get(&gateway)?.lane.link()))
    }

    fn read(&mut self, gateway: GatewayId) {
        while let Some(lane) = self.lanes.get_mut(&gateway) {
            let Some(rx) = &mut lane.rx else { return };
            match rx.poll_recv(&mut Context::from_waker(&lane.waker)) {
                Poll::Pending => return,
                Poll::Ready(Ok(chunk)) => {
                    if let Err(error) = self.on_chunk(gateway, chunk) {
                        tracing::error!(%gateway, %error, "a gateway sent a broken frame: its lane is reset");
                        self.lose(gateway);
                    }
                }
                Poll::Ready(Err(end)) => {
                    tracing::debug!(%gateway, %end, "a lane ended");
                    self.lose(gateway);
                }
            }
        }
    }

    fn lose(&mut self, gateway: GatewayId) {
        if let Some(lane) = self.lanes.get_mut(&gateway) {
            lane.rx = None;
            lane.lane.reset();
        }
        self.queries.on_lost(gateway);
        self.notices.push_back(Notice::LaneDown(gateway));
    }

    fn on_chunk(&mut self, gateway: GatewayId, mut chunk: Bytes) -> Result<(), FrameError> {
        let Some(lane) = self.lanes.get_mut(&gateway) else { return Ok(()) };
        while !lane.partial.is_empty() && !chunk.is_empty() {
            let missing = missing(&lane.partial).min(chunk.len());
            lane.partial.extend_from_slice(&chunk.split_to(missing));
            if RawFrame::split(&lane.partial)?.is_some() {
                let whole = Bytes::from(std::mem::take(&mut lane.partial));
                let (_, events) = urgent(gateway, &whole, &self.queries, &mut self.notices)?;
                let look = self.picks.came(events);
                self.chunks.push_back(Chunk { gateway, frames: whole, look });
            }
        }
        let (whole, events) = urgent(gateway, &chunk, &self.queries, &mut self.notices)?;
        let frames = chunk.split_to(whole);
        if !frames.is_empty() {
            let look = self.picks.came(events);
            self.chunks.push_back(Chunk { gateway, frames, look });
        }
        if let Some(lane) = self.lanes.get_mut(&gateway) {
            lane.partial.extend_from_slice(&chunk);
        }
        Ok(())
    }
}

fn is_event(kind: Kind) -> bool {
    (kind as u8) < Kind::Attach as u8
}

/// Handles at once what does not wait for its turn: answers. Returns the length of the whole frames, and how many are events.
fn urgent(
    gateway: GatewayId,
    chunk: &[u8],
    queries: &Queries,
    notices: &mut VecDeque<Notice>,
) -> Result<(usize, u32), FrameError> {
    let (mut at, mut events) = (0, 0);
    while let Some((frame, used)) = RawFrame::split(chunk.get(at..).unwrap_or_default())? {
        at += used;
        events += u32::from(is_event(frame.kind));
        if let Kind::Answer | Kind::Ack = frame.kind {
            match ToWorker::decode(&frame)? {
                ToWorker::Answer(number, answer) => queries.on_answer(number, gateway, answer),
                ToWorker::Ack(parts) => notices.push_back(Notice::Ack(gateway, parts)),
                _ => {}
            }
        }
    }
    Ok((at, events))
}

fn missing(partial: &[u8]) -> usize {
    match partial.first_chunk::<4>() {
        Some(len) if partial.len() >= HEAD_BYTES => {
            (HEAD_BYTES + u32::from_le_bytes(*len) as usize).saturating_sub(partial.len())
        }
        _ => HEAD_BYTES - partial.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn looks_stand_for_all_events_up_to_their_own(
            chunks in prop::collection::vec((1_u32..50, any::<Option<u32>>()), 1..200),
        ) {
            let (mut picks, mut came, mut counted) = (Picks::default(), 0_u64, 0_u64);
            for (events, choice) in chunks {
                if let Some(random) = choice {
                    picks.choose(random);
                }
                let mut look = picks.came(events);
                let mut seen = 0;
                for at in 1..=events {
                    if let Some(look) = Look::at_event(&mut look) {
                        counted += look.stands_for;
                        seen += 1;
                        prop_assert_eq!(counted, came + u64::from(at));
                    }
                }
                came += u64::from(events);
                prop_assert!(seen <= 1 && look.is_none());
                prop_assert_eq!(counted + picks.events, came);
            }
        }
    }
}
