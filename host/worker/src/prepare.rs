//! A fresh instance beside the one that a slot runs.

use std::fmt;
use std::sync::Arc;

use tidegate_runtime::{Instance, StartError, StartInfo, StartReason};
use tidegate_wire::control::{Failure, SlotSwitch, Stage};
use tokio::sync::oneshot;

use crate::app_log::AppLog;
use crate::buckets::Store;
use crate::edition::Edition;
use crate::held::{Asks, Held};
use crate::host::SlotHost;

/// An instance that has started and waits to take a slot over. Dropping it ends it; nobody ever saw an effect of it.
pub(crate) struct Prepared {
    pub edition: Arc<Edition>,
    pub instance: Instance<SlotHost>,
}

/// An instance that takes a slot over between two turns.
#[derive(Debug)]
pub(crate) struct SwitchOrder {
    pub prepared: Prepared,
    pub hand: Hand,
    /// What became of it. After a failure the slot runs on as before, and the instance is gone.
    pub done: oneshot::Sender<Result<Switched, Unswitched>>,
    /// Microseconds from the switch to the end of the first event's turn on the new version.
    pub first_event: oneshot::Sender<u64>,
}

/// What a fresh instance gets to know.
#[derive(Debug, Default)]
pub(crate) enum Hand {
    /// What the instance knows that runs.
    #[default]
    Over,
    /// What is kept of the last instance of the version to which the slot goes back, if anything is.
    Kept(Option<Vec<u8>>),
}

/// A slot runs the fresh instance.
#[derive(Debug)]
pub(crate) struct Switched {
    pub switch: SlotSwitch,
    /// What was handed over.
    pub state: Option<Vec<u8>>,
}

/// A slot does not run the fresh instance.
#[derive(Debug)]
pub(crate) struct Unswitched {
    pub failure: Failure,
    /// What the slot knew went with the instance that was to hand it over.
    pub state_is_gone: bool,
}

impl From<Failure> for Unswitched {
    fn from(failure: Failure) -> Self {
        Self { failure, state_is_gone: false }
    }
}

/// The slot that an instance is for.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub slot: u32,
    pub worker: Arc<str>,
    pub log: Arc<AppLog>,
    pub asks: Asks,
    pub keys: Store,
    /// Whether there is nothing in the slot that it would follow.
    pub is_first: bool,
}

/// Starts an instance whose effects are held back, `on-worker-start` included. Bounded by the clocks of its two turns.
pub(crate) async fn prepare(edition: Arc<Edition>, place: Place) -> Result<Prepared, Failure> {
    let app = Arc::clone(&edition.app);
    let failed = |stage, reason| Failure::new(Some(place.slot), stage, reason);
    let Some(template) = &edition.template else {
        return Err(failed(Stage::Worker, "there is no module to start".into()));
    };
    let held = Held::new(Arc::clone(&app), place.slot, place.log, place.asks);
    let host = SlotHost::held(held, place.keys);
    let starting = Instance::start_within(template, host, app.limits, &app.budget);
    let mut instance = starting.await.map_err(|error| {
        let stage = match error {
            StartError::NoRoom(_) | StartError::Memory(_) => Stage::Capacity,
            StartError::Fault(_) | StartError::WrongType { .. } => Stage::Start,
        };
        failed(stage, error.to_string())
    })?;
    let info = StartInfo {
        slot: place.slot,
        slots: app.slots,
        worker: place.worker.to_string(),
        version: app.version,
        reason: if place.is_first { StartReason::New } else { StartReason::Swap },
    };
    instance.on_worker_start(&info).await.map_err(|fault| failed(Stage::Start, fault.to_string()))?;
    let refused = instance.host().kept().and_then(|held| held.failed.take());
    match refused {
        Some(reason) => Err(failed(Stage::Start, reason)),
        None => Ok(Prepared { edition, instance }),
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("edition", &self.edition).finish_non_exhaustive()
    }
}
