//! The register's desk: takes in what operators and nodes say, does what the machine of
//! [deployments](crate::deployment) asks for, and carries out orders about tenants and apps ([`crate::catalog`]). One task owns the machine; whatever blocks is done on another thread.
//!
//! ```text
//!  sessions --- nodes, reports, counts --->  task --- records, in order --->  disk (the store)
//!           <--- Apps, Census -------------   |  <--- durable, or not -------
//!           <--- Catalog -----------------   |
//!  operators -- deploy, cancel, orders --->   |
//!           <--- news, report -------------   +--- the machine: Deployments
//! ```

mod adopt;
mod deployer;
mod disk;
mod manage;
mod records;
mod refusal;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_base::{AppName, Label, NodeName, Quotas, Role};
use tidegate_link::ControlTx;
use tidegate_store::Store;
use tidegate_wire::control::{AppClients, AppReport, FixedApp, Trouble};
use tidegate_wire::directory::Session;
use tidegate_wire::report::SwapReport;
use tidegate_wire::request::{AppOverview, Refusal, TenantOverview};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::adopt::{Adopted, Named, Precedence};
use self::manage::Ordered;
pub(crate) use self::refusal::of_store;
use crate::deployer::Watcher;
use crate::deployment::{DeployRequest, Record};
use crate::tokens::Tokens;

/// Reads of the store that go on at once, and modules that are checked: each may hold a module in memory.
const READS_MAX: usize = 4;

/// What waits for the desk's task; a session that has more to say waits.
const INBOX_MAX: usize = 256;

/// A handle of the desk. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    inbox: mpsc::Sender<Input>,
    store: Option<Arc<Store>>,
    tokens: Tokens,
    reads: Arc<Semaphore>,
}

/// What an asker is answered.
type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the desk's task takes in.
#[derive(Debug)]
enum Input {
    NodeUp {
        session: Session,
        role: Role,
        name: NodeName,
        control: ControlTx,
    },
    NodeGone {
        session: Session,
    },
    Reports {
        session: Session,
        reports: Vec<AppReport>,
    },
    Counted {
        session: Session,
        number: u64,
        apps: Vec<AppClients>,
    },
    Deploy {
        request: DeployRequest,
        /// Since when it is waited for.
        asked: Instant,
        watcher: Watcher,
        end: Reply<SwapReport>,
    },
    Cancel {
        app: AppName,
        by: String,
        reply: Reply<()>,
    },
    Apps {
        reply: Reply<Vec<AppOverview>>,
    },
    Manage(Ordered),
    Tenants {
        reply: Reply<Vec<TenantOverview>>,
    },
    /// Of the settings file of whoever runs the register.
    FixedTenants(BTreeMap<Label, Quotas>),
    FixedApps {
        session: Session,
        apps: Vec<FixedApp>,
    },
    CatalogApplied {
        session: Session,
        revision: u64,
        troubles: Vec<Trouble>,
    },
    /// The deployment of an app that goes on, if the app is known.
    Find {
        app: AppName,
        reply: Reply<Option<Record>>,
    },
    Adopt {
        named: Vec<Named>,
        precedence: Precedence,
        reply: Reply<Vec<Adopted>>,
    },
}

impl Desk {
    /// Starts its task, which reads the store first. The task ends when it is aborted, or the last handle is dropped.
    pub fn start(store: Option<Arc<Store>>, tokens: Tokens, handle: &Handle) -> (Self, JoinHandle<()>) {
        let (inbox, inputs) = mpsc::channel(INBOX_MAX);
        let task = handle.spawn(task::Task::new(inputs, store.clone(), tokens.clone()).run());
        (Self { inbox, store, tokens, reads: Arc::new(Semaphore::new(READS_MAX)) }, task)
    }

    // === what nodes say; nobody listens when the register stops ===

    pub async fn node_up(&self, session: Session, role: Role, name: NodeName, control: ControlTx) {
        self.tell(Input::NodeUp { session, role, name, control }).await;
    }

    pub async fn node_gone(&self, session: Session) {
        self.tell(Input::NodeGone { session }).await;
    }

    pub async fn reports(&self, session: Session, reports: Vec<AppReport>) {
        self.tell(Input::Reports { session, reports }).await;
    }

    pub async fn counted(&self, session: Session, number: u64, apps: Vec<AppClients>) {
        self.tell(Input::Counted { session, number, apps }).await;
    }

    pub async fn fixed_apps(&self, session: Session, apps: Vec<FixedApp>) {
        self.tell(Input::FixedApps { session, apps }).await;
    }

    pub async fn catalog_applied(&self, session: Session, revision: u64, troubles: Vec<Trouble>) {
        self.tell(Input::CatalogApplied { session, revision, troubles }).await;
    }

    // === what the node says that the register runs in ===

    pub async fn adopt(&self, named: Vec<Named>, precedence: Precedence) -> Result<Vec<Adopted>, Refusal> {
        self.ask(|reply| Input::Adopt { named, precedence, reply }).await
    }

    pub async fn fixed_tenants(&self, tenants: BTreeMap<Label, Quotas>) {
        self.tell(Input::FixedTenants(tenants)).await;
    }

    async fn tell(&self, input: Input) {
        let _ = self.inbox.send(input).await;
    }

    async fn ask<T>(&self, input: impl FnOnce(Reply<T>) -> Input) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.tell(input(reply)).await;
        answer.await.unwrap_or_else(|_| Err(refusal::stopping()))
    }
}

#[cfg(test)]
mod tests;
