//! Links to gateways: what is announced to them, and what they ask for.

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_base::{AppName, GatewayId};
use tidegate_link::{Link, LinkError};
use tidegate_wire::control::{AppSlots, BadControl, Control, GATEWAY_STOPPED, SlotUp};
use tokio::sync::{mpsc, watch};

use crate::inbox::SlotMsg;
use crate::lane::{LaneLoss, LaneOffer};
use crate::offers::Offers;
use crate::slot::{Announced, SlotShared};

/// The slots of one shard, as a link's task needs them.
#[derive(Debug, Clone)]
pub(crate) struct ShardSlots {
    pub slots: Arc<[SlotEntry]>,
    /// Changes when the gateways must hear of it.
    pub announced: watch::Receiver<Announced>,
}

/// How a slot is reached.
#[derive(Debug, Clone)]
pub(crate) struct SlotEntry {
    pub app: AppName,
    pub slot: u32,
    pub shared: Arc<SlotShared>,
}

/// Serves a link to a gateway until it ends.
pub(crate) async fn serve(mut shard: ShardSlots, link: Link) {
    let Some((control, mut from_gateway)) = link.take_control() else { return };
    let first = match from_gateway.recv().await {
        Ok(message) => Control::from_bytes(&message),
        Err(error) => return tracing::debug!(%error, "a link ended before the gateway said who it is"),
    };
    let Ok(Control::Gateway { id }) = first else {
        return link.close(tidegate_link::code::FIRST_FREE, "a gateway says its id first");
    };
    tracing::info!(gateway = %link.peer().name, %id, "linked to a gateway");
    let (losses, mut lost) = mpsc::channel(shard.slots.len().max(1));
    let mut served = Served::new(&shard, link.clone(), id, losses);
    let mut news = true;
    loop {
        if news && control.send(Control::Slots(served.up()).to_bytes()).is_err() {
            break;
        }
        let due = served.timeout();
        news = tokio::select! {
            changed = shard.announced.changed() => match changed {
                Ok(()) => true,
                Err(_) => break,
            },
            message = from_gateway.recv() => match message.as_deref().map(Control::from_bytes) {
                Ok(message) => {
                    shard.on_message(id, message);
                    false
                }
                Err(_) => break,
            },
            Some(LaneLoss { place, generation }) = lost.recv() => {
                served.offers.lost(Instant::now(), place, generation)
            }
            // All lanes of a link are lost with it: it offers none any more.
            () = until(due) => match link.close_error() {
                Some(_) => break,
                None => served.renew(),
            },
        };
    }
    // A worker that leaves keeps the link until its slots have finished.
    let error = link.closed().await;
    tracing::info!(gateway = %link.peer().name, %error, "not linked to a gateway any more");
    for entry in shard.slots.iter() {
        entry.shared.inbox.push(SlotMsg::LinkDown(id));
        if is_stopped(&error) {
            entry.shared.inbox.push(SlotMsg::GatewayStopped(id));
        }
    }
}

/// Whether a link ended because its gateway has stopped in good order: none of its clients is left.
pub fn is_stopped(end: &LinkError) -> bool {
    matches!(end, LinkError::ClosedByPeer { code: GATEWAY_STOPPED, .. })
}

/// What one link offers.
struct Served {
    slots: Arc<[SlotEntry]>,
    announced: watch::Receiver<Announced>,
    link: Link,
    gateway: GatewayId,
    offers: Offers,
    losses: mpsc::Sender<LaneLoss>,
}

impl Served {
    /// Offers a lane of every slot.
    fn new(shard: &ShardSlots, link: Link, gateway: GatewayId, losses: mpsc::Sender<LaneLoss>) -> Self {
        let (slots, announced) = (Arc::clone(&shard.slots), shard.announced.clone());
        let seed = RandomState::new().hash_one(gateway);
        let offers = Offers::new(Instant::now(), seed, slots.iter().map(|_| next_generation()));
        let served = Self { slots, announced, link, gateway, offers, losses };
        (0..served.slots.len()).for_each(|place| served.offer(place));
        served
    }

    /// When to renew lanes; a slot that leaves needs none any more.
    fn timeout(&self) -> Option<Instant> {
        self.offers.timeout().filter(|_| !self.announced.borrow().leaving)
    }

    /// Offers lanes again whose pause is over. False: there are none.
    fn renew(&mut self) -> bool {
        let renewed = self.offers.poll(Instant::now(), next_generation);
        renewed.iter().for_each(|place| self.offer(*place));
        !renewed.is_empty()
    }

    fn offer(&self, place: usize) {
        if let (Some(entry), Some(generation)) = (self.slots.get(place), self.offers.generation(place)) {
            let (link, losses) = (self.link.clone(), self.losses.clone());
            let offer = LaneOffer { link, generation, place, losses };
            entry.shared.inbox.push(SlotMsg::LaneUp(self.gateway, offer));
        }
    }

    fn up(&self) -> Vec<AppSlots> {
        let mut apps: Vec<AppSlots> = Vec::new();
        if self.announced.borrow().leaving {
            return apps;
        }
        for (place, entry) in self.slots.iter().enumerate() {
            let Some(generation) = self.offers.generation(place) else { continue };
            let up = SlotUp { slot: entry.slot, generation };
            // One entry per version: while a swap goes on, slots run different ones.
            let (version, exports) = entry.shared.current();
            match apps.iter_mut().find(|a| a.app == entry.app && a.version == version) {
                Some(app) => app.slots.push(up),
                None => apps.push(AppSlots { app: entry.app.clone(), version, exports, slots: vec![up] }),
            }
        }
        apps
    }
}

impl ShardSlots {
    fn on_message(&self, gateway: GatewayId, message: Result<Control, BadControl>) {
        match message {
            Ok(Control::LaneWanted { app, slot }) => self.lane_wanted(gateway, &app, slot),
            Ok(other) => tracing::warn!(?other, "a gateway sent what a worker does not understand"),
            Err(error) => tracing::warn!(%error, "a gateway sent what a worker does not understand"),
        }
    }

    fn lane_wanted(&self, gateway: GatewayId, app: &AppName, slot: u32) {
        match self.slots.iter().find(|e| e.app == *app && e.slot == slot) {
            Some(entry) => entry.shared.inbox.push(SlotMsg::LaneWanted(gateway)),
            None => tracing::warn!(%app, slot, "a gateway wants a lane to a slot that is not here"),
        }
    }
}

/// One counter for all: a slot's lanes to one gateway grow with it, on every link.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}
