//! How a fresh instance takes a slot over.

use std::sync::Arc;
use std::time::Instant;

use tidegate_base::Exports;
use tidegate_runtime::{Instance, SaveError, StopReason};
use tidegate_wire::control::{Failure, SlotSwitch, Stage};
use tidegate_wire::question::Level;

use super::turn::About;
use super::{Slot, reading};
use crate::app_log::AppLog;
use crate::core::TimersMoved;
use crate::counters;
use crate::edition::Edition;
use crate::held::{Asks, Held, Wishes};
use crate::host::SlotHost;
use crate::inbox::{Inbox, SlotMsg};
use crate::prepare::{Hand, Prepared, SwitchOrder, Switched, Unswitched};
use crate::settings::WorkerApp;

impl Slot {
    pub(super) async fn on_switch(&mut self, order: SwitchOrder) {
        let SwitchOrder { prepared, hand, done, first_event } = order;
        let switched = self.switch(prepared, hand).await;
        match &switched {
            Ok(_) => {
                counters::SWITCHES.inc();
                self.first_event = Some((Instant::now(), first_event));
            }
            Err(_) => counters::SWITCHES_FAILED.inc(),
        }
        // Whoever ordered it may be gone; the slot runs what it runs.
        let _ = done.send(switched);
    }

    /// Between two turns: hands state and timers over. After a failure the slot runs on as before, and what was prepared
    /// is gone.
    async fn switch(&mut self, mut new: Prepared, hand: Hand) -> Result<Switched, Unswitched> {
        let began = Instant::now();
        let (state, state_lost) = match hand {
            Hand::Over => (self.save(&new.edition).await?, false),
            Hand::Kept(state) => (state.filter(|_| new.edition.exports().has(Exports::RESTORE)), true),
        };
        if let Some(state) = &state {
            self.restore(&mut new.instance, state).await?;
        }
        let wishes = new.instance.host().kept().map(Held::take_wishes).unwrap_or_default();
        let admitted = self.core(|core| core.admits_timers(&new.edition.app, &wishes)).unwrap_or(Ok(()));
        admitted.map_err(|reason| Failure::new(Some(self.parts.slot), Stage::Restore, reason))?;
        let after_turn = self.turn_number();
        // From here on nothing can fail.
        let timers = self.seat(new, wishes);
        let waiting_events = self.intake.waiting_events();
        let audit = self.core(|core| core.out.take_audit()).unwrap_or_default();
        self.parts.shared.stats.set_audit([0; 3]);
        let switch = SlotSwitch {
            slot: self.parts.slot,
            pause_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            waiting_events,
            after_turn,
            state_bytes: state.as_ref().map_or(0, |state| state.len() as u64),
            state_lost,
            timers_carried: count(timers.carried),
            timers_set: count(timers.set),
            timers_dropped: count(timers.dropped),
            lane_events_before: audit.events,
            lost: audit.lost,
            repeated: audit.repeated,
            reordered: audit.reordered,
            ..SlotSwitch::default()
        };
        let WorkerApp { name, version, .. } = &*self.parts.edition.app;
        self.parts.shared.log.runs(&self.parts.edition.app, self.parts.slot);
        tracing::debug!(app = %name, version, slot = self.parts.slot, after_turn, "the slot has switched");
        Ok(Switched { switch, state })
    }

    /// What the running instance hands over, or what a slot that sleeps knows; none if there is nothing, or if one of the
    /// two versions does not take part.
    async fn save(&mut self, to: &Edition) -> Result<Option<Vec<u8>>, Unswitched> {
        let both = self.parts.edition.exports().has(Exports::SAVE) && to.exports().has(Exports::RESTORE);
        if !both {
            return Ok(None);
        }
        let Some(instance) = self.instance.as_mut() else {
            // A copy: if the new version does not take it, the slot sleeps on with it.
            return Ok(self.stored.as_ref().map(|state| state.to_vec()));
        };
        if let Some(core) = instance.host().core() {
            core.begin(None, None);
        }
        let bytes_max = self.parts.edition.app.state_bytes_max;
        let saved = reading(&mut self.intake, instance.save(bytes_max)).await;
        let refused = instance.host().core().and_then(|core| core.take_failure());
        let failed = |reason| Failure::new(Some(self.parts.slot), Stage::Save, reason);
        match (saved, refused) {
            (Ok(state), None) => Ok(state),
            (Ok(_), Some(reason)) => Err(failed(reason).into()),
            (Err(error @ SaveError::TooLarge { .. }), _) => Err(failed(error.to_string()).into()),
            (Err(SaveError::Fault(fault)), _) => {
                let failure = failed(fault.to_string());
                // Its state is lost with it, as by any trap: the version that runs is started anew.
                self.broken(&fault, About::of("save"));
                Err(Unswitched { failure, state_is_gone: true })
            }
        }
    }

    async fn restore(&mut self, new: &mut Instance<SlotHost>, state: &[u8]) -> Result<(), Failure> {
        let restored = reading(&mut self.intake, new.restore(state)).await;
        let failed = |reason| Failure::new(Some(self.parts.slot), Stage::Restore, reason);
        restored.map_err(|fault| failed(fault.to_string()))?;
        match new.host().kept().and_then(|held| held.failed.take()) {
            Some(reason) => Err(failed(reason)),
            None => Ok(()),
        }
    }

    /// The new instance serves from now on.
    fn seat(&mut self, new: Prepared, wishes: Wishes) -> TimersMoved {
        let Prepared { edition, mut instance } = new;
        let mut old = self.instance.take();
        let log = Arc::clone(&self.parts.shared.log);
        let held = Held::new(Arc::clone(&self.parts.edition.app), self.parts.slot, log, self.asks());
        let core = match &mut old {
            Some(old) => old.host().hold(held),
            None => self.home.lock().take(),
        };
        let Some(core) = core else { return TimersMoved::default() };
        instance.host().serve(core, self.home.clone());
        self.instance = Some(instance);
        self.renew_health(edition.app.on_failure);
        self.renew_sleep();
        self.tally = self.parts.shared.stats.begin(edition.app.version);
        let (version, exports) = (edition.app.version, edition.exports());
        let timers = self.core(|core| {
            // Gateways learn what is exported now in the place among the parts where it becomes true.
            core.out.exports(version, exports);
            let timers = core.take_over(Arc::clone(&edition.app), wishes, Instant::now());
            core.out.flush();
            timers
        });
        let before = std::mem::replace(&mut self.parts.edition, edition);
        self.parts.shared.set_current(&self.parts.edition);
        if let Some(old) = old {
            self.let_go(old, &before);
        }
        timers.unwrap_or_default()
    }

    /// The instance before says good-bye, beside the slot's turns.
    fn let_go(&self, old: Instance<SlotHost>, edition: &Edition) {
        if !edition.exports().has(Exports::WORKER_STOP) {
            return;
        }
        let (app, slot) = (Arc::clone(&edition.app), self.parts.slot);
        let inbox = Arc::clone(&self.parts.shared.inbox);
        let log = Arc::clone(&self.parts.shared.log);
        let good_bye = say_good_bye(old, app, slot, log, inbox);
        self.parts.runtime.spawn(self.parts.slow.movable_of(&edition.app.budget, good_bye));
    }

    fn asks(&self) -> Asks {
        Asks { inbox: Arc::clone(&self.parts.shared.inbox), wait: self.parts.settings.query_wait }
    }
}

fn count(timers: usize) -> u32 {
    u32::try_from(timers).unwrap_or(u32::MAX)
}

async fn say_good_bye(
    mut old: Instance<SlotHost>,
    app: Arc<WorkerApp>,
    slot: u32,
    log: Arc<AppLog>,
    inbox: Arc<Inbox>,
) {
    let WorkerApp { name, version, .. } = &*app;
    if let Err(fault) = old.on_worker_stop(StopReason::Swap).await {
        counters::FAULTS.inc();
        log.tell(&app, slot, Level::Warn, format_args!("on-worker-stop ended its instance: {fault}"));
        return tracing::warn!(app = %name, version, slot, call = "on-worker-stop", kind = fault.label(), "{fault}");
    }
    let Some(held) = old.host().kept() else { return };
    match held.failed.take() {
        Some(reason) => {
            log.tell(&app, slot, Level::Warn, format_args!("on-worker-stop failed: {reason}"));
            tracing::warn!(app = %name, version, slot, call = "on-worker-stop", "a turn failed: {reason}");
        }
        // Its timers end with it.
        None => inbox.push(SlotMsg::Say(held.take_wishes().commands)),
    }
}
