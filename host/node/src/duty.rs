//! What a node does for a register besides being announced: a worker follows its orders about versions, a gateway counts.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_link::{ControlTx, Link};
use tidegate_wire::control::{AppReport, Control};
use tidegate_worker::Orders;
use tokio::sync::watch;

use crate::accept::SharedGateway;

/// A node's part.
#[derive(Debug, Clone)]
pub(crate) enum Duty {
    /// It is a gateway.
    Gateway(SharedGateway),
    /// It is a worker.
    Worker(Arc<WorkerDuty>),
}

/// A worker's part.
#[derive(Debug)]
pub(crate) struct WorkerDuty {
    orders: Orders,
    /// The link to the register that keeps versions, while there is one.
    link: Mutex<Option<Link>>,
    /// Whether that register has said what should run.
    heard: watch::Sender<bool>,
}

impl WorkerDuty {
    pub fn new(orders: Orders) -> Arc<Self> {
        Arc::new(Self { orders, link: Mutex::default(), heard: watch::Sender::new(false) })
    }

    /// The link to the register that keeps versions.
    pub fn link(&self) -> Option<Link> {
        self.link.lock().clone()
    }

    /// Waits until the register has said what should run.
    pub async fn heard(&self) {
        // The sender is this one's own.
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }

    /// Waits until what should run does, or cannot.
    pub async fn settled(&self) {
        self.orders.settled().await;
    }
}

/// The register that keeps versions is the first one that a node names: versions are durable, so there is one of it.
const KEEPER: usize = 0;

/// One link's part of a duty.
pub(crate) struct OnLink {
    duty: Duty,
    keeper: bool,
    reports: Option<watch::Receiver<Vec<AppReport>>>,
}

impl Duty {
    /// Begins on a link to a register, behind the announcement.
    pub fn begin(&self, register: usize, link: &Link, control: &ControlTx) -> OnLink {
        let keeper = register == KEEPER;
        let reports = match self {
            Self::Worker(worker) if keeper => {
                *worker.link.lock() = Some(link.clone());
                let mut reports = worker.orders.reports();
                let _ = control.send(Control::AppReports(reports.borrow_and_update().clone()).to_bytes());
                Some(reports)
            }
            _ => None,
        };
        OnLink { duty: self.clone(), keeper, reports }
    }
}

impl OnLink {
    /// Waits for something to report, for ever if there never is. Cancel-safe.
    pub async fn news(&mut self) -> Control {
        if let Some(reports) = &mut self.reports
            && reports.changed().await.is_ok()
        {
            return Control::AppReports(reports.borrow_and_update().clone());
        }
        // Nothing to report, or the worker has stopped.
        self.reports = None;
        std::future::pending().await
    }

    /// The register says something. Returns the answer, if there is one; Err: it is not understood.
    pub async fn on_message(&self, message: Control) -> Result<Option<Control>, Control> {
        match (&self.duty, message) {
            (Duty::Worker(worker), Control::Apps { apps, .. }) if self.keeper => {
                worker.orders.desired(apps).await;
                worker.heard.send_replace(true);
                Ok(None)
            }
            // Another register knows nothing of versions.
            (Duty::Worker(_), Control::Apps { .. }) => Ok(None),
            (Duty::Gateway(gateway), Control::Census { number }) => {
                let apps = gateway.read().as_ref().map(tidegate_gateway::Gateway::census);
                Ok(Some(Control::Counted { number, apps: apps.unwrap_or_default() }))
            }
            (_, other) => Err(other),
        }
    }
}

impl Drop for OnLink {
    fn drop(&mut self) {
        if let (Duty::Worker(worker), true) = (&self.duty, self.keeper) {
            *worker.link.lock() = None;
        }
    }
}
