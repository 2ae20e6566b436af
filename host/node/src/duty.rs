//! What a node does for a register besides being announced: it has the apps that are made at run time, a worker follows
//! orders about versions, a gateway counts.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_link::{ControlTx, Link};
use tidegate_wire::control::{AppReport, CatalogParts, Control};
use tidegate_worker::Orders;
use tokio::sync::watch;

use crate::accept::SharedGateway;
use crate::apps::{Applied, Apps};

/// A node's part, and the apps that are made at run time.
#[derive(Debug, Clone)]
pub(crate) struct Duty {
    pub role: RoleDuty,
    pub apps: Arc<Apps>,
}

/// A node's part by its role.
#[derive(Debug, Clone)]
pub(crate) enum RoleDuty {
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
    /// How far the apps are that are made at run time; as the reports.
    applied: Option<watch::Receiver<Option<Applied>>>,
    catalog: CatalogParts,
}

impl Duty {
    /// Begins on a link to a register, behind the announcement.
    pub fn begin(&self, register: usize, link: &Link, control: &ControlTx) -> OnLink {
        let keeper = register == KEEPER;
        let (mut reports, mut applied) = (None, None);
        if keeper {
            let _ = control.send(Control::FixedApps(self.apps.fixed()).to_bytes());
            applied = Some(self.apps.applied());
            if let RoleDuty::Worker(worker) = &self.role {
                *worker.link.lock() = Some(link.clone());
                let mut receiver = worker.orders.reports();
                let _ = control.send(Control::AppReports(receiver.borrow_and_update().clone()).to_bytes());
                reports = Some(receiver);
            }
        }
        OnLink { duty: self.clone(), keeper, reports, applied, catalog: CatalogParts::default() }
    }
}

impl OnLink {
    /// Waits for something to report, for ever if there never is. Cancel-safe.
    pub async fn news(&mut self) -> Control {
        loop {
            let Self { reports, applied, .. } = self;
            tokio::select! {
                () = changed(reports) => if let Some(reports) = reports {
                    return Control::AppReports(reports.borrow_and_update().clone());
                },
                () = changed(applied) => if let Some(applied) = applied
                    && let Some(Applied { revision, troubles }) = applied.borrow_and_update().clone()
                {
                    return Control::CatalogApplied { revision, troubles };
                },
            }
        }
    }

    /// The register says something. Returns the answer, if there is one; Err: it is not understood.
    pub async fn on_message(&mut self, message: Control) -> Result<Option<Control>, Control> {
        match (&self.duty.role, message) {
            // Another register knows nothing of versions and apps.
            (_, Control::Catalog(_)) | (RoleDuty::Worker(_), Control::Apps { .. }) if !self.keeper => {
                Ok(None)
            }
            (_, Control::Catalog(part)) => {
                if let Some(catalog) = self.catalog.push(part) {
                    self.duty.apps.want(catalog);
                }
                Ok(None)
            }
            (RoleDuty::Worker(worker), Control::Apps { apps, .. }) => {
                worker.orders.desired(apps).await;
                worker.heard.send_replace(true);
                Ok(None)
            }
            (RoleDuty::Gateway(gateway), Control::Census { number }) => {
                let apps = gateway.read().as_ref().map(tidegate_gateway::Gateway::census);
                Ok(Some(Control::Counted { number, apps: apps.unwrap_or_default() }))
            }
            (_, other) => Err(other),
        }
    }
}

/// Waits for a change, for ever if there is nobody to tell of one. Cancel-safe.
async fn changed<T>(told: &mut Option<watch::Receiver<T>>) {
    if let Some(receiver) = told
        && receiver.changed().await.is_ok()
    {
        return;
    }
    *told = None;
    std::future::pending().await
}

impl Drop for OnLink {
    fn drop(&mut self) {
        if let (RoleDuty::Worker(worker), true) = (&self.duty.role, self.keeper) {
            *worker.link.lock() = None;
        }
    }
}
