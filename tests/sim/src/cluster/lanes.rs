//! Messages on their way: clients, lanes, turns.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_base::AppName;
use tidegate_wire::rollout::Do;

use super::{Cluster, Event};
use crate::check;
use crate::ids::{LaneId, SlotId};
use crate::traffic::slot::{Notice, Slot, Wish, World};
use crate::worker::App;

/// On one socket.
const UNREAD_MAX: u32 = 32;

impl Cluster {
    pub(super) fn happens_on_lane(&mut self, event: Event) -> Result<(), String> {
        if !matches!(event, Event::ClientSends(..) | Event::ToSlot(..) | Event::FromSlot(..)) {
            self.note(|| format!("{event:?}"));
        }
        match event {
            Event::ClientSends(gateway, client) => self.client_sends(gateway, client),
            Event::ToSlot(lane, bytes) => {
                if let Some((_, slot)) = self.slot(lane.slot) {
                    slot.read(lane, &bytes)?;
                    self.goes_on(lane.slot)?;
                }
            }
            Event::FromSlot(lane, bytes) => {
                if let Some(gateway) = self.gateways.get_mut(lane.gateway) {
                    gateway.read(lane, &bytes, &mut self.ledger, &mut self.random)?;
                    self.flush(lane.gateway);
                }
            }
            Event::LaneLost(lane) => {
                let before = self.ledger.totals.lost;
                if let Some(gateway) = self.gateways.get_mut(lane.gateway) {
                    gateway.lost(lane, &mut self.ledger, &mut self.random)?;
                    self.flush(lane.gateway);
                }
                if self.ledger.totals.lost > before && !self.broken.contains(&lane) {
                    return Err(format!("{lane:?} ended in good order and has lost messages"));
                }
            }
            Event::TurnEnds(slot) => self.turn_ends(slot)?,
            Event::Restarts(id) => {
                self.with_slot(id, |_, slot, world| {
                    slot.restarts(world);
                    Ok(())
                })?;
                self.goes_on(id)?;
            }
            Event::Offers(slot, gateway) => self.offers(slot, gateway)?,
            Event::LaneDown(lane) => {
                if let Some((_, slot)) = self.slot(lane.slot) {
                    slot.notice(Notice::LaneDown(lane));
                    self.goes_on(lane.slot)?;
                    let pause = self.random.delay(Duration::from_millis(50));
                    self.after(pause, Event::Offers(lane.slot, lane.gateway));
                }
            }
            Event::Leaves(gateway, worker, life) => {
                if let Some(gateway) = self.gateways.get_mut(gateway) {
                    gateway.withdrawn(worker, life);
                }
            }
            other => return Err(format!("{other:?} is not of a lane")),
        }
        Ok(())
    }

    fn client_sends(&mut self, at: usize, client: usize) {
        if self.quiet {
            return;
        }
        let pause = self.random.delay(Duration::from_millis(200));
        self.after(pause, Event::ClientSends(at, client));
        let more = 1 + self.random.below(8) as u32;
        let Some(gateway) = self.gateways.get_mut(at) else { return };
        if let Some(client) = gateway.clients.get_mut(client).filter(|client| client.unread < UNREAD_MAX) {
            client.unread += more;
        }
        gateway.pump(client, &mut self.ledger, &mut self.random);
        self.flush(at);
    }

    fn turn_ends(&mut self, id: SlotId) -> Result<(), String> {
        let first = self.with_slot(id, |app, slot, world| {
            let ended = slot.turn_ends(world)?;
            app.turned(id.slot, 1, u64::from(ended.errs), u64::from(ended.traps));
            Ok(ended.is_first_event)
        })?;
        if first == Some(true) {
            let after_us = 1 + self.random.below(1_000);
            if let Some((app, _)) = self.app(id) {
                app.rollout.slot_first_event(id.slot, after_us);
            }
            return self.pump(id.worker);
        }
        self.goes_on(id)
    }

    /// Something that a worker was to do has ended.
    pub(super) fn done(&mut self, at: usize, life: u64, name: &AppName, what: Do) -> Result<(), String> {
        let app = self.apps.iter().position(|app| app == name).unwrap_or_default();
        let mut id = SlotId { worker: at, life, app, slot: 0 };
        let Some((of, _)) = self.app(id) else { return Ok(()) };
        if let Some(slot) = crate::worker::slot_of(what) {
            id.slot = slot;
            if let Do::Switch { version, .. } = what {
                let runs = of.slots.get(slot as usize).and_then(|slot| slot.runs);
                check::step_back(&self.register, name, runs, version)?;
            }
        }
        let serves = |slots: &[Slot]| slots.get(id.slot as usize).is_some_and(Slot::is_serving);
        let is_up = self.with_app(id, |app, slots, world| {
            let served = serves(slots);
            app.done(what, slots, world)?;
            Ok(!served && serves(slots))
        })?;
        if is_up == Some(true) {
            (0..self.gateways.len()).for_each(|gateway| {
                let pause = self.random.delay(Duration::from_millis(20));
                self.after(pause, Event::Offers(id, gateway));
            });
        }
        self.pump(at)
    }

    /// Turns that no client has asked for.
    pub(super) fn other_work(&mut self, at: usize) -> Result<(), String> {
        let Some(worker) = self.workers.get(at) else { return Ok(()) };
        let (life, served) = (worker.life, worker.apps.len());
        for app in 0..served {
            let id = SlotId { worker: at, life, app, slot: 0 };
            self.with_app(id, |app, slots, world| {
                app.work(slots, world)?;
                if world.random.one_in(world.faults.lost) {
                    app.lose_beside(world.random);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    // === slots ===

    /// All slots of a worker go on.
    pub(super) fn all_go_on(&mut self, at: usize) -> Result<(), String> {
        let Some(worker) = self.workers.get(at) else { return Ok(()) };
        let slots = worker.serving.iter().flat_map(|slots| slots.iter().map(Slot::id));
        slots.collect::<Vec<_>>().into_iter().try_for_each(|slot| self.goes_on(slot))
    }

    fn goes_on(&mut self, id: SlotId) -> Result<(), String> {
        self.with_slot(id, |_, slot, world| slot.go_on(world))?;
        self.leave(id);
        Ok(())
    }

    fn with_slot<T>(
        &mut self,
        id: SlotId,
        call: impl FnOnce(&mut App, &mut Slot, &mut World<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.with_app(id, |app, slots, world| match slots.get_mut(id.slot as usize) {
            Some(slot) => call(app, slot, world).map(Some),
            None => Ok(None),
        })
        .map(Option::flatten)
    }

    /// None: it is not there any more.
    fn with_app<T>(
        &mut self,
        id: SlotId,
        call: impl FnOnce(&mut App, &mut [Slot], &mut World<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let worker = self.workers.get_mut(id.worker).filter(|worker| worker.life == id.life);
        let Some((app, slots)) = worker.and_then(|worker| worker.app(id.app)) else { return Ok(None) };
        let mut world = World {
            random: &mut self.random,
            faults: &self.faults,
            ledger: &mut self.ledger,
            clients: &self.clients,
            wishes: Vec::new(),
        };
        let done = call(app, slots, &mut world)?;
        for (slot, wish) in world.wishes {
            self.wished(SlotId { slot, ..id }, wish);
        }
        Ok(Some(done))
    }

    fn wished(&mut self, id: SlotId, wish: Wish) {
        match wish {
            Wish::TurnEnds(after) => self.after(after, Event::TurnEnds(id)),
            Wish::Restart(after) => self.after(after, Event::Restarts(id)),
            Wish::Send(lane, bytes) => self.send_on_lane(lane, false, &bytes),
            Wish::SwitchEnds(after) => {
                let name = self.apps.get(id.app).cloned();
                let order = self.app(id).and_then(|(app, _)| app.ordered(id.slot));
                if let (Some(app), Some(version)) = (name, order) {
                    let what = Do::Switch { slot: id.slot, version };
                    self.after(after, Event::Done { worker: id.worker, life: id.life, app, what });
                }
            }
        }
    }

    fn app(&mut self, id: SlotId) -> Option<(&mut App, &mut [Slot])> {
        self.workers.get_mut(id.worker).filter(|worker| worker.life == id.life)?.app(id.app)
    }

    fn slot(&mut self, id: SlotId) -> Option<(&mut App, &mut Slot)> {
        let (app, slots) = self.app(id)?;
        Some((app, slots.get_mut(id.slot as usize)?))
    }

    // === lanes ===

    fn offers(&mut self, id: SlotId, gateway: usize) -> Result<(), String> {
        let generation = self.last_generation + 1;
        let lane = LaneId { gateway, slot: id, generation };
        let Some(to) = self.gateways.get(gateway).map(|gateway| gateway.id) else { return Ok(()) };
        let Some((_, slot)) = self.slot(id).filter(|(_, slot)| slot.is_serving()) else { return Ok(()) };
        slot.notice(Notice::LaneUp(lane, to));
        self.last_generation = generation;
        self.lanes.insert(lane);
        self.goes_on(id)
    }

    fn flush(&mut self, gateway: usize) {
        let batches = self.gateways.get_mut(gateway).map(|gateway| gateway.flush()).unwrap_or_default();
        batches.into_iter().for_each(|(lane, batch)| self.send_on_lane(lane, true, &batch));
    }

    /// Lanes keep the order of their bytes, and nothing else.
    fn send_on_lane(&mut self, lane: LaneId, to_slot: bool, bytes: &[u8]) {
        let cut = if self.random.one_in(8) { self.random.below(bytes.len() as u64) as usize } else { 0 };
        let (first, rest) = bytes.split_at(cut);
        for bytes in [first, rest].into_iter().filter(|bytes| !bytes.is_empty()) {
            let delay = self.random.delay(Duration::from_millis(2));
            let last = self.lane_arrivals.entry((lane.generation, to_slot)).or_default();
            *last = (self.now + delay).max(*last + Duration::from_nanos(1));
            let (at, bytes) = (*last, bytes.to_vec());
            let event = if to_slot { Event::ToSlot(lane, bytes) } else { Event::FromSlot(lane, bytes) };
            self.at(at, event);
        }
    }

    /// Both ends live and notice it, each in its time.
    pub(super) fn lane_breaks(&mut self) {
        let at = self.random.below(self.lanes.len() as u64) as usize;
        let Some(lane) = self.lanes.iter().nth(at).copied() else { return };
        self.note(|| format!("{lane:?} breaks"));
        self.summary.lanes_broken += 1;
        self.lanes.remove(&lane);
        self.broken.insert(lane);
        for event in [Event::LaneLost(lane), Event::LaneDown(lane)] {
            let noticed = self.random.delay(Duration::from_millis(200));
            self.after(noticed, event);
        }
    }

    /// With the process that they led to: it dies, or it ends in good order.
    pub(super) fn lanes_end(&mut self, at: usize, dies: bool) {
        let life = self.workers.get(at).map(|worker| worker.life);
        let is_of = |lane: &LaneId| lane.slot.worker == at && Some(lane.slot.life) == life;
        let ended: BTreeSet<_> = self.lanes.extract_if(.., |lane| is_of(lane)).collect();
        for lane in ended {
            let noticed = self.random.delay(Duration::from_millis(200));
            self.after(noticed, Event::LaneLost(lane));
            if dies {
                self.broken.insert(lane);
            }
        }
    }

    // === workers that leave ===

    pub(super) fn worker_stops(&mut self, at: usize) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(at) else { return Ok(()) };
        if std::mem::replace(&mut worker.leaving, true) {
            return Ok(());
        }
        worker.serving.iter_mut().flatten().for_each(|slot| slot.notice(Notice::Stop));
        let life = worker.life;
        self.summary.worker_stops += 1;
        self.note(|| format!("worker {at} stops"));
        for gateway in 0..self.gateways.len() {
            let delay = self.random.delay(Duration::from_millis(2));
            self.after(delay, Event::Leaves(gateway, at, life));
        }
        self.all_go_on(at)
    }

    /// A worker that has nothing left to do ends when everything that it said has arrived.
    fn leave(&mut self, id: SlotId) {
        let Some(worker) = self.workers.get_mut(id.worker) else { return };
        let is_done = worker.leaving && worker.serving.iter().flatten().all(Slot::is_stopped);
        if !is_done || std::mem::replace(&mut worker.left, true) {
            return;
        }
        let of_worker = |lane: &&LaneId| lane.slot.worker == id.worker && lane.slot.life == id.life;
        let arrival = |lane: &LaneId| self.lane_arrivals.get(&(lane.generation, false)).copied();
        let last = self.lanes.iter().filter(of_worker).filter_map(arrival).max();
        let at = last.map_or(self.now, |last| last.max(self.now));
        self.at(at + Duration::from_nanos(1), Event::Ends(id.worker, id.life));
    }

    pub(super) fn worker_ends(&mut self, at: usize, life: u64) {
        if self.workers.get(at).is_some_and(|worker| worker.life == life) {
            self.note(|| format!("worker {at} has stopped"));
            self.lanes_end(at, false);
            self.cut(tidegate_base::Role::Worker, at);
            self.worker_starts(at);
        }
    }
}
