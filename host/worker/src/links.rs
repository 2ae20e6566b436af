//! Links to gateways: what is announced to them, and what they ask for.

use std::collections::BTreeMap;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustc_hash::FxHashMap;
use tidegate_base::{AppName, GatewayId};
use tidegate_link::{Link, LinkError};
use tidegate_wire::control::{AppSlots, BadControl, Control, GATEWAY_STOPPED, SlotUp};
use tokio::sync::watch;

use crate::inbox::SlotMsg;
use crate::lane::{LaneLoss, LaneOffer, LinkNo, Losses};
use crate::offers::Offers;
use crate::table::{Place, SlotEntry, SlotTable};

/// The slots of one shard, as a link's task needs them.
#[derive(Debug, Clone)]
pub(crate) struct ShardSlots {
    pub table: Arc<SlotTable>,
    /// Changes when the gateways must hear of it.
    pub news: watch::Receiver<u64>,
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
    let mut served = Served::new(Arc::clone(&shard.table), link.clone(), id);
    let mut news = true;
    loop {
        if news {
            // What comes between the two is told with the next.
            shard.news.borrow_and_update();
            served.follow();
            if control.send(Control::Slots(served.up()).to_bytes()).is_err() {
                break;
            }
        }
        let due = served.offers.timeout();
        news = tokio::select! {
            changed = shard.news.changed() => match changed {
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
            LaneLoss { place, generation } = served.losses.next() => {
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
    for entry in served.slots.values() {
        entry.shared.inbox.push(SlotMsg::LinkDown(id, served.number));
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
    table: Arc<SlotTable>,
    /// The table's revision that it has followed.
    seen: Option<u64>,
    /// The slots that got a lane on this link and are not gone.
    slots: BTreeMap<Place, SlotEntry>,
    link: Link,
    number: LinkNo,
    gateway: GatewayId,
    offers: Offers,
    losses: Arc<Losses>,
}

impl Served {
    fn new(table: Arc<SlotTable>, link: Link, gateway: GatewayId) -> Self {
        let offers = Offers::new(RandomState::new().hash_one(gateway));
        let (slots, losses) = (BTreeMap::new(), Arc::default());
        Self { table, seen: None, slots, link, number: LinkNo::next(), gateway, offers, losses }
    }

    /// Offers a lane of every slot that has come; those that leave need none any more.
    fn follow(&mut self) {
        let Some((seen, entries)) = self.table.changed(self.seen) else { return };
        self.seen = Some(seen);
        self.offers.retain(|place| entries.get(&place).is_some_and(|entry| !entry.leaving));
        self.slots.retain(|place, _| entries.contains_key(place));
        for (place, entry) in entries {
            if entry.leaving || self.offers.has(place) {
                continue;
            }
            self.slots.insert(place, entry);
            self.offers.add(Instant::now(), place, next_generation());
            self.offer(place);
        }
    }

    /// Offers lanes again whose pause is over. False: there are none.
    fn renew(&mut self) -> bool {
        let renewed = self.offers.poll(Instant::now(), next_generation);
        renewed.iter().for_each(|place| self.offer(*place));
        !renewed.is_empty()
    }

    fn offer(&self, place: Place) {
        if let (Some(entry), Some(generation)) = (self.slots.get(&place), self.offers.generation(place)) {
            let (link, losses) = (self.link.clone(), Arc::clone(&self.losses));
            let offer = LaneOffer { link, on: self.number, generation, place, losses };
            entry.shared.inbox.push(SlotMsg::LaneUp(self.gateway, offer));
        }
    }

    fn up(&self) -> Vec<AppSlots> {
        let mut apps: Vec<AppSlots> = Vec::new();
        // One entry per version: while a swap goes on, slots run different ones.
        let mut known: FxHashMap<(&AppName, u32), usize> = FxHashMap::default();
        for (place, entry) in &self.slots {
            let Some(generation) = self.offers.generation(*place) else { continue };
            let Some((version, exports)) = entry.shared.announced() else { continue };
            let at = *known.entry((&entry.app, version)).or_insert_with(|| {
                apps.push(AppSlots { app: entry.app.clone(), version, exports, slots: Vec::new() });
                apps.len() - 1
            });
            if let Some(app) = apps.get_mut(at) {
                app.slots.push(SlotUp { slot: entry.slot, generation });
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
        match self.table.find(app, slot) {
            Some(shared) => shared.inbox.push(SlotMsg::LaneWanted(gateway)),
            // It may have left meanwhile; the news of that is on its way.
            None => tracing::debug!(%app, slot, "a gateway wants a lane to a slot that is not here"),
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
