//! How a slot comes to have nothing to run: it leaves its lanes, and may get a version again.

use std::sync::Arc;
use std::time::Instant;

use tidegate_base::{GatewayId, Query};
use tidegate_wire::fanout::Fanout;

use super::call::Call;
use super::health::Health;
use super::{Slot, reading};
use crate::edition::Edition;
use crate::lane::LazyLane;
use crate::query::Asked;

impl Slot {
    /// The instance's last turn. What the slot did not read goes to other slots. Returns the lanes, which are of no use
    /// any more when everything has arrived.
    pub(super) async fn say_good_bye(&mut self) -> Vec<Arc<LazyLane>> {
        self.turn(Call::Stop, None).await;
        self.core(|core| core.out.drain());
        self.flush();
        let lanes: Vec<_> = self.core(|core| core.out.lanes().cloned().collect()).unwrap_or_default();
        let finish = async {
            for lane in &lanes {
                lane.finish().await;
            }
        };
        // Both ends of a lane always read, also at its end.
        reading(&mut self.intake, finish).await;
        lanes
    }

    /// There is nothing to go back to: the instance ends, its clients go to other slots or wait, its timers are gone.
    /// Bounded by `stop_wait`. The links offer lanes anew, for the version that comes next.
    pub(super) async fn empty(&mut self) {
        if !self.parts.edition.has_code() {
            return;
        }
        let nothing = Arc::new(Edition::empty_of(&self.parts.edition.app));
        // Gateways bind no new clients from here on.
        self.parts.shared.set_current(&nothing);
        let stop_wait = self.parts.settings.stop_wait;
        if tokio::time::timeout(stop_wait, self.say_good_bye()).await.is_err() {
            let app = &self.parts.edition.app.name;
            tracing::warn!(%app, slot = self.parts.slot, "a slot did not leave its lanes in time: they are cut");
        }
        self.instance = None;
        let lanes: Vec<_> = self.core(|core| core.out.lanes().cloned().collect()).unwrap_or_default();
        lanes.iter().for_each(|lane| lane.reset());
        let gateways: Vec<GatewayId> = self.core(|core| core.out.gateways().collect()).unwrap_or_default();
        for gateway in gateways {
            self.intake.forget(gateway);
            self.core(|core| {
                core.out.lose(gateway);
                core.out.forget(gateway);
            });
        }
        self.core(|core| core.leave(Arc::clone(&nothing.app)));
        self.stored = None;
        self.sleep.renewed();
        self.parts.places.sleeps(&nothing.app.name, self.parts.slot);
        (self.orphans, self.owed, self.first_event) = (Vec::new(), Default::default(), None);
        self.health = Health::new(nothing.app.on_failure, Instant::now());
        self.parts.shared.stats.set_idle(None);
        self.parts.edition = nothing;
    }

    /// An instance asks that does not serve the slot. While the slot is empty it opens no lane, since it could not say
    /// yet what will be exported: as before the first link, nobody is known.
    pub(super) fn ask(&mut self, query: &Query) -> Option<Asked> {
        if self.parts.edition.has_code() {
            return self.core(|core| core.ask(query));
        }
        Some(self.parts.shared.queries.begin(Fanout::new(query, Vec::new())))
    }
}
