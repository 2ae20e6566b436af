//! How lanes to gateways come and go in a slot.

use std::sync::Arc;

use tidegate_base::{ClientId, Exports, GatewayId};
use tidegate_wire::control::LaneHello;

use super::Slot;
use crate::lane::{LaneOffer, LazyLane};

impl Slot {
    pub(super) fn lane_up(&mut self, gateway: GatewayId, offer: LaneOffer) {
        // It is there again: its clients were bound anew, here or elsewhere.
        self.orphans.retain(|(of, _)| *of != gateway);
        self.intake.forget(gateway);
        let grant = self.parts.settings.grant;
        let hello = LaneHello {
            app: self.parts.edition.app.name.clone(),
            slot: self.parts.slot,
            generation: offer.generation,
            exports: self.parts.edition.exports(),
            credit_events: grant.events,
            credit_bytes: grant.bytes,
        };
        let (runtime, inbox) = (self.parts.runtime.clone(), self.parts.shared.inbox.clone());
        let lane = Arc::new(LazyLane::new(gateway, offer, hello, runtime, inbox));
        self.intake.add(gateway, lane.clone());
        self.core(|core| core.out.add(gateway, lane, grant));
    }

    pub(super) fn lane_down(&mut self, gateway: GatewayId) {
        self.intake.forget(gateway);
        let clients = self.core(|core| core.out.lose(gateway)).unwrap_or_default();
        if !clients.is_empty() && self.parts.edition.exports().has(Exports::CLOSE) {
            self.orphans.push((gateway, clients));
        }
    }

    pub(super) fn gateway_stopped(&mut self, gateway: GatewayId) {
        self.core(|core| core.out.forget(gateway));
        // The news that they are not bound here any more may have been lost with the lane.
        self.orphans.retain(|(of, _)| *of != gateway);
    }

    pub(super) fn gateway_gone(&mut self, gateway: GatewayId) {
        self.core(|core| core.out.forget(gateway));
        let gone: Vec<_> = self.orphans.extract_if(.., |(of, _)| *of == gateway).collect();
        let clients = gone.into_iter().flat_map(|(_, clients)| clients);
        self.owed.extend(clients.map(|connection| ClientId { gateway, connection }));
    }
}
