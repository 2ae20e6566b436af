//! How a slot gets an instance: its first, and another one after a fault.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_runtime::{Fault, Instance, StartError, StartReason};

use super::call::{Call, Turned, run_call};
use super::{Slot, reading};
use crate::counters;
use crate::host::SlotHost;
use crate::settings::WorkerApp;

const RESTART_WAIT_MIN: Duration = Duration::from_millis(50);
const RESTART_WAIT_MAX: Duration = Duration::from_secs(30);

/// When to try again to start an instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    pub at: Instant,
    wait: Duration,
}

impl Restart {
    pub fn now() -> Self {
        Self { at: Instant::now(), wait: RESTART_WAIT_MIN }
    }

    /// It failed: later, and later each time, at times that differ from slot to slot.
    pub fn postpone(&mut self) -> Duration {
        let jittered = self.wait.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.at = Instant::now() + jittered;
        self.wait = (self.wait * 2).min(RESTART_WAIT_MAX);
        jittered
    }
}

impl Slot {
    /// Starts an instance if there is none and it is time to. Its clients wait meanwhile.
    pub(super) async fn has_instance(&mut self) -> bool {
        if self.instance.is_some() {
            return true;
        }
        if Instant::now() < self.restart.at {
            return false;
        }
        self.parts.shared.stats.restarted();
        counters::RESTARTS.inc();
        if let Err(error) = self.start_instance(StartReason::Restart).await {
            counters::RESTARTS_FAILED.inc();
            let wait = self.restart.postpone();
            let WorkerApp { name, version, .. } = &*self.parts.edition.app;
            tracing::error!(app = %name, version, slot = self.parts.slot, "{error}; trying again in {wait:?}");
            return false;
        }
        true
    }

    pub(super) async fn start_instance(&mut self, reason: StartReason) -> Result<(), SlotStartError> {
        let Some(core) = self.home.lock().take() else { return Err(SlotStartError::Busy) };
        let host = SlotHost::serving(core, self.home.clone());
        let edition = Arc::clone(&self.parts.edition);
        let starting = Instance::start(&edition.template, host, edition.app.limits);
        let started = reading(&mut self.intake, starting).await;
        let mut instance = started.map_err(SlotStartError::Start)?;
        if let Some(core) = instance.host().core() {
            core.begin(None, None);
        }
        let call = Call::Start(reason);
        match reading(&mut self.intake, run_call(&mut instance, &self.parts, &call)).await {
            Turned::Well => {
                self.instance = Some(instance);
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
    /// The slot's state is lent to another instance.
    #[error("the slot has an instance already")]
    Busy,
}
