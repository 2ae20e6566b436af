//! How a slot gets an instance: its first, and another one after a fault.

use std::sync::Arc;
use std::time::Instant;

use tidegate_runtime::{Fault, Instance, StartError, StartReason};
use tidegate_wire::question::Level;

use super::call::{Call, Turned, run_call};
use super::health::{Health, Next, Trouble};
use super::{Slot, SlotParts, reading};
use crate::capacity::NoCapacity;
use crate::counters;
use crate::edition::Idle;
use crate::host::SlotHost;
use crate::settings::{OnFailure, WorkerApp};

impl Slot {
    /// Starts the first instance, unless the slot may sleep: then it does. If that fails the slot runs without one, and tries again as after a fault.
    ///
    /// # Errors
    /// Why it did not start; it is in the log as well.
    pub async fn start(&mut self) -> Result<(), SlotStartError> {
        if !self.parts.edition.has_code() {
            return Ok(());
        }
        if !self.never_sleeps() {
            self.begin_asleep();
            return Ok(());
        }
        let started = self.start_instance(StartReason::New).await;
        if let Err(error) = &started {
            self.not_started(error);
        }
        started
    }

    /// Starts an instance if there is none and it is time to, or if the slot sleeps and there is something for it. Its
    /// clients wait meanwhile.
    pub(super) async fn has_instance(&mut self) -> bool {
        if self.instance.is_some() {
            return true;
        }
        // An empty slot has nothing to start, nor has one that is being emptied.
        if self.parts.shared.current().is_none() {
            return false;
        }
        if self.sleep.is_asleep() && self.is_wanted() {
            self.sleep.wakes();
        }
        if self.sleep.is_asleep() || !self.health.may_start(Instant::now()) {
            return false;
        }
        let started = self.start_again().await;
        if let Err(error) = &started {
            self.not_started(error);
            return false;
        }
        self.parts.shared.stats.set_idle(None);
        if self.sleep.started() {
            counters::WAKES.inc();
        }
        self.restore_stored().await
    }

    /// Starts an instance after a fault, or as the slot wakes.
    async fn start_again(&mut self) -> Result<(), SlotStartError> {
        let is_waking = self.sleep.is_waking();
        if !is_waking {
            self.parts.shared.stats.restarted();
            counters::RESTARTS.inc();
        }
        let SlotParts { edition, slot, shared, places, .. } = &self.parts;
        let placed = places.wake(&edition.app.name, *slot, &shared.inbox);
        let started = match placed {
            Ok(()) if is_waking => self.start_instance(StartReason::New).await,
            Ok(()) => self.start_instance(StartReason::Restart).await,
            Err(error) => Err(error.into()),
        };
        match &started {
            _ if is_waking => {}
            // How often is up to the plugin, so the line is one of its own.
            Ok(()) if self.parts.shared.log.admits(&self.parts.edition.app, self.parts.slot) => {
                self.tell(Level::Info, format_args!("another instance serves"));
            }
            Ok(()) => {}
            Err(_) => counters::RESTARTS_FAILED.inc(),
        }
        started
    }

    fn not_started(&mut self, error: &SlotStartError) {
        let now = Instant::now();
        if let SlotStartError::NoPlace(_) = error {
            if self.parts.shared.stats.idle() != Some(Idle::NoPlace) {
                counters::PLACES_WAITED.inc();
            }
            self.parts.shared.stats.set_idle(Some(Idle::NoPlace));
            return self.health.waits_for_place(now);
        }
        if let Some(omitted) = self.fault_lines.one_more(now) {
            self.tell(Level::Error, format_args!("the slot has no instance: {error}"));
            let WorkerApp { name, version, .. } = &*self.parts.edition.app;
            tracing::error!(app = %name, version, slot = self.parts.slot, omitted, "the slot has no instance: {error}");
        }
        let trouble = if error.is_plugins() { Trouble::Start } else { Trouble::Room };
        self.trouble(now, trouble);
    }

    /// Decides when the next instance starts, and tells it if the slot's state is another now.
    pub(super) fn trouble(&mut self, now: Instant, trouble: Trouble) {
        let (next, is_news) = self.health.trouble(now, trouble, fastrand::f64());
        let slot = self.parts.slot;
        let WorkerApp { name, version, .. } = &*self.parts.edition.app;
        match next {
            Next::AtOnce => {}
            Next::In(wait) => {
                counters::RESTARTS_DELAYED.inc();
                self.parts.shared.stats.set_idle(Some(Idle::Waits));
                if is_news {
                    self.tell(
                        Level::Warn,
                        format_args!("the slot keeps failing: it starts another instance in {wait:?}"),
                    );
                    tracing::warn!(app = %name, version, slot, "the slot keeps failing: its clients wait, it starts another instance in {wait:?}, and doubles that up to 30 s as long as it fails");
                }
            }
            Next::Never => {
                self.parts.shared.stats.set_idle(Some(Idle::Suspended));
                if is_news {
                    counters::SUSPENSIONS.inc();
                    let text = "the slot kept failing and is suspended (on_failure): deploy another version";
                    self.tell(Level::Error, format_args!("{text}"));
                    tracing::error!(app = %name, version, slot, "the slot kept failing and is suspended (on_failure): its clients wait; deploy another version, or restart the worker");
                }
            }
        }
    }

    /// It had kept failing, and does not any more.
    pub(super) fn tell_well(&self) {
        let WorkerApp { name, version, .. } = &*self.parts.edition.app;
        self.tell(Level::Info, format_args!("the slot serves well again"));
        tracing::info!(app = %name, version, slot = self.parts.slot, "the slot serves well again");
    }

    /// Another version serves: what went before does not count for it.
    pub(super) fn renew_health(&mut self, on_failure: OnFailure) {
        let stats = &self.parts.shared.stats;
        if stats.idle() == Some(Idle::Suspended) {
            counters::RESUMPTIONS.inc();
        }
        stats.set_idle(None);
        let now = Instant::now();
        self.health = Health::new(on_failure, now);
        self.health.started(now);
    }

    pub(super) async fn start_instance(&mut self, reason: StartReason) -> Result<(), SlotStartError> {
        let edition = Arc::clone(&self.parts.edition);
        let Some(template) = &edition.template else { return Err(SlotStartError::Empty) };
        let Some(core) = self.home.lock().take() else { return Err(SlotStartError::Busy) };
        let host = SlotHost::serving(core, self.home.clone(), self.parts.settings.keys.clone());
        let WorkerApp { limits, budget, .. } = &*edition.app;
        let starting = Instance::start_within(template, host, *limits, budget);
        let started = reading(&mut self.intake, starting).await;
        let mut instance = started.map_err(SlotStartError::Start)?;
        if let Some(core) = instance.host().core() {
            core.begin(None, None);
        }
        let call = Call::Start(reason);
        match reading(&mut self.intake, run_call(&mut instance, &self.parts, &call)).await {
            Turned::Well => {
                self.instance = Some(instance);
                self.health.started(Instant::now());
                Ok(())
            }
            failed => {
                drop(instance);
                self.core(|core| {
                    core.abandon_with(None);
                    core.timers.clear();
                });
                Err(match failed {
                    Turned::Fault(fault) => SlotStartError::Fault(fault),
                    Turned::Failed(reason) => SlotStartError::Refused(reason),
                    Turned::Well => SlotStartError::Busy,
                })
            }
        }
    }
}

/// A slot that did not start.
#[derive(Debug, thiserror::Error)]
pub enum SlotStartError {
    /// The instance could not be made.
    #[error("an instance does not start: {0}")]
    Start(StartError),
    /// on-worker-start trapped or overran.
    #[error("on-worker-start did not end well: {0}")]
    Fault(Fault),
    /// on-worker-start returned an error.
    #[error("on-worker-start failed: {0}")]
    Refused(String),
    /// There is no place for another instance.
    #[error(transparent)]
    NoPlace(#[from] NoCapacity),
    /// The app has no version.
    #[error("nothing was deployed yet: `tidegate deploy` the app")]
    Empty,
    /// The slot's state is lent to another instance.
    #[error("the slot has an instance already")]
    Busy,
}

impl SlotStartError {
    /// Whether the plugin is to blame, and not the host or a lack of room.
    const fn is_plugins(&self) -> bool {
        !matches!(self, Self::Busy | Self::Empty | Self::NoPlace(_) | Self::Start(StartError::NoRoom(_)))
    }
}
