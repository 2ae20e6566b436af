//! What deployments ask for, until it is polled.

use std::collections::{BTreeSet, VecDeque};

use tidegate_base::AppName;
use tidegate_wire::control::DesiredApp;
use tidegate_wire::directory::Session;
use tidegate_wire::report::Progress;

use super::record::Record;
use super::running::Running;

/// What [`Deployments`](super::Deployments) ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write this record down, in place of the one of the same app and number, and then say
    /// [`persisted`](super::Deployments::persisted) or [`persist_failed`](super::Deployments::persist_failed). One at a
    /// time per app.
    Persist {
        /// The app.
        app: AppName,
        /// The record.
        record: Box<Record>,
    },
    /// Send this to a worker, as [`Control::Apps`](tidegate_wire::control::Control::Apps).
    Apps {
        /// The worker's link.
        session: Session,
        /// Grows with every change.
        revision: u64,
        /// What the worker should run.
        apps: Vec<DesiredApp>,
    },
    /// Ask every gateway to count, as [`Control::Census`](tidegate_wire::control::Control::Census).
    Census {
        /// Comes back with the counts.
        number: u64,
    },
    /// Which apps have a version ([`has_version`](super::Deployments::has_version)) has changed: tell the gateways.
    FirstVersions,
    /// Tell whoever watches this deployment.
    Progress {
        /// The app.
        app: AppName,
        /// The deployment.
        number: u32,
        /// The news.
        news: Progress,
    },
}

/// Outputs in order; what workers are told is put together when it is polled, so that it is the newest.
#[derive(Debug, Default)]
pub(super) struct Out {
    queue: VecDeque<Output>,
    censuses: u64,
    gateways: Vec<Session>,
    workers: BTreeSet<Session>,
    /// Workers that have not heard the newest.
    behind: BTreeSet<Session>,
    pub revision: u64,
}

impl Out {
    pub fn news(&mut self, of: &Running, news: Progress) {
        self.queue.push_back(Output::Progress { app: of.app.clone(), number: of.number(), news });
    }

    pub fn persist(&mut self, of: &Running) {
        self.queue.push_back(Output::Persist { app: of.app.clone(), record: Box::new(of.record.clone()) });
    }

    /// A record that no running deployment writes.
    pub fn close_record(&mut self, app: AppName, record: Record) {
        self.queue.push_back(Output::Persist { app, record: Box::new(record) });
    }

    /// Asks the gateways to count; the number of the count.
    pub fn census(&mut self) -> u64 {
        self.censuses += 1;
        self.queue.push_back(Output::Census { number: self.censuses });
        self.censuses
    }

    /// What workers should run has changed.
    pub fn changed(&mut self) {
        self.revision += 1;
        self.behind = self.workers.clone();
    }

    /// An app gets its first version, or has none again.
    pub fn first_versions(&mut self) {
        self.queue.push_back(Output::FirstVersions);
    }

    pub fn gateways(&self) -> &[Session] {
        &self.gateways
    }

    pub fn gateway_up(&mut self, session: Session) {
        self.gateways.push(session);
    }

    pub fn worker_up(&mut self, session: Session) {
        self.workers.insert(session);
        self.behind.insert(session);
    }

    pub fn gone(&mut self, session: Session) {
        self.gateways.retain(|gateway| *gateway != session);
        self.workers.remove(&session);
        self.behind.remove(&session);
    }

    pub fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// A worker that has something to hear.
    pub fn next_behind(&mut self) -> Option<Session> {
        self.behind.pop_first()
    }
}
