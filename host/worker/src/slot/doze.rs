//! How a slot goes to sleep, and how it gets to know again what it knew.

use std::time::Instant;

use tidegate_base::Exports;
use tidegate_runtime::{Fault, SaveError};
use tidegate_wire::question::Level;

use super::call::{Call, Turned, run_call};
use super::health::Trouble;
use super::sleep::Needed;
use super::turn::About;
use super::{Slot, SlotParts, reading};
use crate::counters;
use crate::edition::Idle;
use crate::settings::WorkerApp;

impl Slot {
    /// The slot is there, and sleeps until something comes for it. Nothing was started.
    pub(super) fn begin_asleep(&mut self) {
        self.sleep.fell_asleep();
        self.parts.shared.stats.set_idle(Some(Idle::Asleep));
    }

    /// Another version serves.
    pub(super) fn renew_sleep(&mut self) {
        if self.sleep.is_asleep() {
            counters::WAKES.inc();
        }
        self.sleep.renewed();
        self.stored = None;
        self.parts.places.is_awake(&self.parts.edition.app.name, self.parts.slot);
    }

    /// Whether the slot is one of those that always have an instance.
    pub(super) fn never_sleeps(&self) -> bool {
        self.parts.slot < self.parts.edition.app.slots_awake()
    }

    /// Whether there is something for a slot that sleeps.
    pub(super) fn is_wanted(&self) -> bool {
        self.intake.has_chunks() || !self.owed.is_empty() || self.never_sleeps()
    }

    /// When the slot, which has nothing to do, is to sleep. None: not as long as things are as they are.
    /// `timer` is when it has something to do again.
    pub(super) fn sleeps_at(&mut self, timer: Option<Instant>) -> Option<Instant> {
        if self.never_sleeps() {
            self.offer(None);
            return None;
        }
        let needed = self.needed();
        let at = self.sleep.rests(needed, Instant::now);
        // One that its timers keep awake is not to lose them because others want its place.
        let is_kept = timer.zip(at).is_some_and(|(timer, at)| timer <= at);
        self.offer(if is_kept { None } else { self.sleep.could_hurry() });
        at
    }

    /// Tells since when the slot could sleep if somebody else wants its place, if that is news. None: it could not.
    pub(super) fn offer(&mut self, since: Option<Instant>) {
        if self.offered == since {
            return;
        }
        self.offered = since;
        let SlotParts { edition, slot, shared, places, .. } = &self.parts;
        places.idles(&edition.app.name, *slot, since, &shared.inbox);
    }

    fn needed(&mut self) -> Needed {
        // Clients of a gateway that is away are bound to it until that is known to be lost.
        let is_free = self.instance.is_some()
            && self.orphans.is_empty()
            && self.owed.is_empty()
            && self.core(|core| !core.out.has_clients()).unwrap_or(false);
        if is_free { Needed::No(self.parts.edition.app.slot_idle) } else { Needed::Yes }
    }

    /// Sleeps, if it is time to.
    pub(super) async fn sleep_if_due(&mut self) {
        if !self.sleep.is_due(Instant::now) || self.never_sleeps() || self.needed() == Needed::Yes {
            return;
        }
        if !self.intake.is_empty() || self.is_held_up() || !self.health.is_well(Instant::now()) {
            return self.sleep.put_off();
        }
        match self.save_to_sleep().await {
            Ok(()) if self.intake.is_empty() => self.fall_asleep().await,
            // Somebody came meanwhile, and `save` has changed nothing.
            Ok(()) => {
                self.stored = None;
                self.sleep.put_off();
            }
            Err(reason) => self.not_asleep(&reason),
        }
    }

    /// Keeps what the instance hands over to itself. Else: why it cannot sleep; after a fault it is gone.
    async fn save_to_sleep(&mut self) -> Result<(), String> {
        let exports = self.parts.edition.exports();
        if !exports.has(Exports::SAVE) || !exports.has(Exports::RESTORE) {
            return Ok(());
        }
        let Some(instance) = self.instance.as_mut() else { return Ok(()) };
        if let Some(core) = instance.host().core() {
            core.begin(None, None);
        }
        let bytes_max = self.parts.edition.app.state_bytes_max;
        let saved = reading(&mut self.intake, instance.save(bytes_max)).await;
        let refused = instance.host().core().and_then(|core| core.take_failure());
        let state = match (saved, refused) {
            (Ok(state), None) => state,
            (Ok(_), Some(reason)) => return Err(reason),
            (Err(error @ SaveError::TooLarge { .. }), _) => return Err(error.to_string()),
            (Err(SaveError::Fault(fault)), _) => {
                self.broken(&fault, About::of("save"));
                return Err(fault.to_string());
            }
        };
        let Some(state) = state else { return Ok(()) };
        let stored = self.parts.states.keep(state).map_err(|error| error.to_string())?;
        self.stored = Some(stored);
        Ok(())
    }

    /// The instance says good-bye and ends. If it breaks in that another one starts, with what it handed over.
    async fn fall_asleep(&mut self) {
        if let Some(fault) = self.stop_instance().await {
            self.broken(&fault, About::of(Call::Stop.name()));
            return self.not_asleep(&fault.to_string());
        }
        self.instance = None;
        self.core(|core| {
            core.timers.clear();
            core.out.flush();
        });
        let now = Instant::now();
        self.health.ended(now);
        if self.sleep.is_early(now) {
            counters::SLEEPS_EARLY.inc();
        }
        self.sleep.fell_asleep();
        let (app, slot) = (&self.parts.edition.app, self.parts.slot);
        self.parts.shared.stats.set_idle(Some(Idle::Asleep));
        self.parts.places.sleeps(&app.name, slot);
        // It is not among those that could sleep any more.
        self.offered = None;
        counters::SLEEPS.inc();
        let state_bytes = self.stored.as_ref().map(|state| state.len());
        tracing::debug!(app = %app.name, version = app.version, slot, state_bytes, "the slot sleeps");
    }

    async fn stop_instance(&mut self) -> Option<Fault> {
        if !self.parts.edition.exports().has(Exports::WORKER_STOP) {
            return None;
        }
        let instance = self.instance.as_mut()?;
        if let Some(core) = instance.host().core() {
            core.begin(None, None);
        }
        let turned = reading(&mut self.intake, run_call(instance, &self.parts, &Call::Stop)).await;
        self.tally.turn();
        self.turns += 1;
        match turned {
            Turned::Well => None,
            Turned::Failed(reason) => {
                self.failed(&reason, About::of(Call::Stop.name()));
                None
            }
            Turned::Fault(fault) => Some(fault),
        }
    }

    /// The slot stays awake for now, although nobody needs it.
    fn not_asleep(&mut self, reason: &str) {
        self.sleep.failed();
        counters::SLEEPS_FAILED.inc();
        if let Some(omitted) = self.sleep_lines.one_more(Instant::now()) {
            let WorkerApp { name, version, .. } = &*self.parts.edition.app;
            tracing::warn!(app = %name, version, slot = self.parts.slot, omitted, "nobody needs the slot, and it cannot sleep; it tries again when it was idle for twice as long: {reason}");
        }
    }

    /// Gives a fresh instance what the one before has handed over, if it fell asleep. False: it broke in that, and what
    /// was handed over is gone.
    pub(super) async fn restore_stored(&mut self) -> bool {
        let Some(state) = self.stored.take() else { return true };
        let Some(instance) = self.instance.as_mut() else { return true };
        if let Some(core) = instance.host().core() {
            core.begin(None, None);
        }
        let restored = reading(&mut self.intake, instance.restore(&state)).await;
        let about = About::of("restore");
        let reason = match restored {
            Ok(()) => match self.core(|core| core.end(None)).flatten() {
                None => return true,
                Some(reason) => {
                    self.failed(&reason, about);
                    // It knows nothing, and may be half of something.
                    self.instance = None;
                    self.core(|core| core.timers.clear());
                    self.trouble(Instant::now(), Trouble::Turn);
                    reason
                }
            },
            Err(fault) => {
                self.broken(&fault, about);
                fault.to_string()
            }
        };
        counters::RESTORES_FAILED.inc();
        self.tell(Level::Error, format_args!("the slot wakes without what it knew: {reason}"));
        let WorkerApp { name, version, .. } = &*self.parts.edition.app;
        tracing::error!(app = %name, version, slot = self.parts.slot, state_bytes = state.len(), "the slot wakes without what it knew: {reason}");
        false
    }
}
