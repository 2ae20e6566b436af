//! One turn of a slot, and what becomes of the slot after it.

use std::fmt;
use std::time::Instant;

use tidegate_base::{ClientId, GatewayId, UpgradeDecision};
use tidegate_runtime::Fault;
use tidegate_wire::EventNo;
use tidegate_wire::question::Level;

use super::call::{Call, Turned, run_call};
use super::health::Trouble;
use super::times::{Begins, Measured};
use super::{Slot, reading};
use crate::counters;
use crate::settings::WorkerApp;

impl Slot {
    /// Runs one turn, and replaces the instance if the turn broke it.
    pub(super) async fn turn(&mut self, call: Call<'_>, event: Option<(GatewayId, EventNo)>) {
        let Some(instance) = &mut self.instance else { return };
        let Begins { is_due, ticked } = self.times.begin(instance.ticks());
        if let Some(random) = ticked {
            self.intake.look_at_one(random);
        }
        let (measured, calls) = (is_due.then(Instant::now), instance.turns());
        let client = match &call {
            Call::Event(client, _) => Some(*client),
            _ => None,
        };
        if let Some(core) = instance.host().core() {
            core.begin(client, event);
        }
        let event_number = event.map(|(_, number)| number.0);
        let about = About { call: call.name(), client, event: event_number, is_upgrade: call.is_upgrade() };
        let turned = reading(&mut self.intake, run_call(instance, &self.parts, &call)).await;
        // A callback that is not exported leaves the figures of an earlier turn behind.
        let long = if instance.turns() == calls { None } else { instance.long_turn() };
        if let Some(Measured { time, stands_for }) = self.times.ended(measured, long, Instant::now) {
            self.parts.shared.stats.turn_times.add(time, stands_for);
        }
        self.tally.turn();
        self.turns += 1;
        match turned {
            Turned::Well => self.went_well(),
            Turned::Failed(reason) => {
                self.went_well();
                self.failed(&reason, about);
            }
            Turned::Fault(fault) => {
                self.broken(&fault, about);
                if !self.stopping {
                    self.has_instance().await;
                }
            }
        }
        if let Some((since, tell)) = self.first_event.take_if(|_| event.is_some()) {
            let _ = tell.send(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// The instance is as good as before.
    fn went_well(&mut self) {
        if self.health.good_turn() {
            self.tell_well();
        }
    }

    /// A turn failed by its own word or by a rule. How often is up to the plugin, so the line is one of its own.
    pub(super) fn failed(&mut self, reason: &str, about: About) {
        self.tally.error();
        counters::TURNS_FAILED.inc();
        if !self.parts.shared.log.admits(&self.parts.edition.app, self.parts.slot) {
            return;
        }
        let turn = self.turn_number();
        let About { call, client, event, .. } = about;
        self.tell(Level::Warn, format_args!("turn {turn}, {call}, failed: {reason}"));
        let WorkerApp { name, version, .. } = &*self.parts.edition.app;
        tracing::warn!(app = %name, version, slot = self.parts.slot, turn, call, client = client.map(display), event, "a turn failed: {reason}");
    }

    /// A turn trapped or overran: the instance is not used again.
    pub(super) fn broken(&mut self, fault: &Fault, about: About) {
        counters::FAULTS.inc();
        self.tally.fault(fault);
        let turn = self.turn_number();
        let About { call, client, event, is_upgrade } = about;
        let upgrading = client.filter(|_| is_upgrade);
        let now = Instant::now();
        if let Some(omitted) = self.fault_lines.one_more(now) {
            let before = if omitted == 0 { String::new() } else { format!(" (and {omitted} times before)") };
            self.tell(Level::Error, format_args!("turn {turn}, {call}, ended its instance{before}: {fault}"));
            let WorkerApp { name, version, .. } = &*self.parts.edition.app;
            tracing::warn!(app = %name, version, slot = self.parts.slot, turn, call, client = client.map(display), event, kind = fault.label(), omitted, "{fault}");
        }
        self.instance = None;
        self.core(|core| {
            core.abandon_with(upgrading);
            core.timers.clear();
            core.out.flush();
        });
        self.trouble(now, Trouble::Turn);
    }

    /// Has those hear of it who look at the app's log.
    pub(super) fn tell(&self, level: Level, text: fmt::Arguments<'_>) {
        self.parts.shared.log.tell(&self.parts.edition.app, self.parts.slot, level, text);
    }
}

/// What a turn was about, for whoever reads of its failure.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub call: &'static str,
    pub client: Option<ClientId>,
    /// The event's number on its lane.
    pub event: Option<u32>,
    pub is_upgrade: bool,
}

impl About {
    /// A call in nobody's name.
    pub const fn of(call: &'static str) -> Self {
        Self { call, client: None, event: None, is_upgrade: false }
    }
}

/// What a client gets whose upgrade the plugin could not decide.
pub(crate) fn failed_upgrade() -> UpgradeDecision {
    UpgradeDecision::Refuse(500, "The app failed.".into())
}
