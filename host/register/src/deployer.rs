//! Where requests meet deployments: what whoever deploys must be able to do, and what all of its callers share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_base::{AppName, Digest, Label, NewToken, Token, TokenWish};
use tidegate_contract::Contract;
use tidegate_wire::control::{Canary, Failure};
use tidegate_wire::report::{Progress, SwapReport};
use tidegate_wire::request::{
    AppOverview, Deploying, Effect, EntryState, HistoryEntry, Order, Refusal, TenantOverview, WorkerOverview,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::deployment::{CancelError, DeployError, Deployments, Record, RecordState};

/// News of a deployment that wait for who watches it; what finds no room is not told.
pub const NEWS_MAX: usize = 256;

/// Bytes of the reason of each worker's failure in an overview.
const FAILURE_BYTES_MAX: usize = 1024;

/// What a [`Deployer`] answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send + 'a>>;

/// Keeps modules and histories, and deploys. On a tokio runtime.
///
/// A refusal means that nothing has changed. A deployment that did not commit is no refusal: its report says how it ended.
pub trait Deployer: Send + Sync + 'static {
    /// Every app that was ever deployed or that a worker has, by name.
    fn apps(&self) -> Answer<'_, Vec<AppOverview>>;

    /// The deployments of an app, the newest first, so many at most.
    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>>;

    /// Deploys, and answers when it is over. Bytes are to be checked ([`check_module`]) and kept before anything else.
    fn deploy(&self, order: DeployOrder, watcher: Watcher) -> Answer<'_, SwapReport>;

    /// Deploys an earlier version again, and answers when it is over.
    fn rollback(&self, order: RollbackOrder, watcher: Watcher) -> Answer<'_, SwapReport>;

    /// Turns the deployment that goes on round; answers when it is on its way back. `by` says who wanted it.
    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()>;

    /// Every tenant, by name.
    fn tenants(&self) -> Answer<'_, Vec<TenantOverview>>;

    /// Does something to a tenant or to an app that is made at run time; answers when it is written down and gateways and
    /// workers do it, or have had some seconds for it. `by` says who wanted it.
    fn manage(&self, order: Order, by: String) -> Answer<'_, Effect>;

    /// The tokens of the HTTP API of one tenant, or all.
    fn tokens(&self, _tenant: Option<Label>) -> Answer<'_, Vec<Token>> {
        Box::pin(async { Err(no_tokens()) })
    }

    /// Makes a token; its secret is told this once. `by` says who wanted it.
    fn create_token(&self, _wish: TokenWish, _by: String) -> Answer<'_, NewToken> {
        Box::pin(async { Err(no_tokens()) })
    }

    /// Revokes the token of this name. `by` says who wanted it.
    fn revoke_token(&self, _id: String, _by: String) -> Answer<'_, Token> {
        Box::pin(async { Err(no_tokens()) })
    }

    /// A module's bytes, checked against the digest; None: it is not here.
    fn module(&self, digest: Digest) -> Answer<'_, Option<Bytes>>;
}

/// What whoever keeps no tokens says.
fn no_tokens() -> Refusal {
    Refusal::Unavailable { reason: "no tokens are kept here: ask the register of the cluster".to_owned() }
}

/// A wish to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployOrder {
    /// The app.
    pub app: AppName,
    /// What to deploy.
    pub module: ModuleRef,
    /// Judge it on a share of the slots first.
    pub canary: Option<Canary>,
    /// What to write beside it in the history.
    pub note: String,
    /// Who wants it.
    pub by: String,
    /// When they asked, before the module was sent: the times of the report count from here.
    pub asked: Instant,
}

/// A wish to deploy an earlier version again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackOrder {
    /// The app.
    pub app: AppName,
    /// The version; None: the one that was stable before the one that is.
    pub to: Option<u32>,
    /// What to write beside it in the history.
    pub note: String,
    /// Who wants it.
    pub by: String,
    /// When they asked: the times of the report count from here.
    pub asked: Instant,
}

/// A module to deploy.
#[derive(Clone, PartialEq, Eq)]
pub enum ModuleRef {
    /// Its bytes: as they came, their digest is right, whether they are a plugin nobody has looked.
    Bytes(Bytes),
    /// One that is kept already.
    Digest(Digest),
}

impl fmt::Debug for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

/// Who hears how a deployment goes on, if anybody still listens. Clones tell the same one.
#[derive(Debug, Clone)]
pub struct Watcher(mpsc::Sender<Progress>);

impl Watcher {
    /// A watcher and what it hears.
    pub fn new() -> (Self, mpsc::Receiver<Progress>) {
        let (news, watched) = mpsc::channel(NEWS_MAX);
        (Self(news), watched)
    }

    /// Tells it. Never waits: news for somebody who does not keep up or is gone are dropped. So is the end, which the
    /// answer says.
    pub fn tell(&self, news: Progress) {
        if !matches!(news, Progress::Ended(_)) {
            let _ = self.0.try_send(news);
        }
    }
}

/// A deployment that goes on, whoever lets go of this.
#[derive(Debug)]
pub struct Job {
    news: mpsc::Receiver<Progress>,
    done: JoinHandle<Result<SwapReport, Refusal>>,
    ended: Option<Result<SwapReport, Refusal>>,
}

/// What comes next of a [`Job`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It gets on.
    News(Progress),
    /// It is over, or was refused. Comes once, as the last.
    Ended(Box<Result<SwapReport, Refusal>>),
}

impl Job {
    /// Begins a deployment, as a task of the current tokio runtime.
    pub fn deploy(deployer: Arc<dyn Deployer>, order: DeployOrder) -> Self {
        let (watcher, news) = Watcher::new();
        let done = tokio::spawn(async move { deployer.deploy(order, watcher).await });
        Self { news, done, ended: None }
    }

    /// Begins a rollback, as a task of the current tokio runtime.
    pub fn rollback(deployer: Arc<dyn Deployer>, order: RollbackOrder) -> Self {
        let (watcher, news) = Watcher::new();
        let done = tokio::spawn(async move { deployer.rollback(order, watcher).await });
        Self { news, done, ended: None }
    }

    /// What comes next. Not to be called again after [`Next::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Next {
        if self.ended.is_none() {
            tokio::select! {
                // News came before the end of which they are.
                biased;
                Some(news) = self.news.recv() => return Next::News(news),
                done = &mut self.done => {
                    let broken = |reason: String| Err(Refusal::Internal { reason });
                    self.ended = Some(done.unwrap_or_else(|error| broken(error.to_string())));
                }
            }
        }
        match (self.news.try_recv(), self.ended.take()) {
            (Ok(news), ended) => {
                self.ended = ended;
                Next::News(news)
            }
            (Err(_), Some(ended)) => Next::Ended(Box::new(ended)),
            (Err(_), None) => {
                Next::Ended(Box::new(Err(Refusal::Internal { reason: "it has ended before".into() })))
            }
        }
    }
}

/// Checks that bytes are a plugin that a worker would run; takes time by their size, on a thread that may.
///
/// # Errors
/// They are none; the refusal says why and how to mend it.
pub async fn check_module(bytes: Bytes) -> Result<Contract, Refusal> {
    match tokio::task::spawn_blocking(move || tidegate_contract::check(&bytes)).await {
        Ok(Ok(contract)) => Ok(contract),
        Ok(Err(error)) => Err(Refusal::BadModule { reason: error.to_string() }),
        Err(error) => Err(Refusal::Internal { reason: error.to_string() }),
    }
}

/// An app as the machine knows it.
pub fn overview(deployments: &Deployments, app: &AppName) -> AppOverview {
    let deploying = deployments.running(app).map(|record| Deploying {
        version: record.version,
        by: record.by.clone(),
        at_ms: record.at_ms,
        doing: record.state.as_str().to_owned(),
    });
    let workers = deployments.reports(app).map(|(worker, report)| WorkerOverview {
        worker: worker.clone(),
        slots: report.slots.clone(),
        step: report.rollout.as_ref().map(|rollout| rollout.step),
        failure: report.rollout.as_ref().and_then(|rollout| rollout.failure.as_ref()).map(in_short),
        tallies: report.judged.clone(),
        asleep: report.asleep,
    });
    AppOverview {
        app: app.clone(),
        stable: deployments.stable(app),
        deploying,
        workers: workers.collect(),
        created: None,
    }
}

/// The beginning of a failure: there may be one of each of many workers, and the report of the deployment has it whole.
fn in_short(failure: &Failure) -> Failure {
    let mut reason = failure.reason.clone();
    reason.truncate(reason.floor_char_boundary(FAILURE_BYTES_MAX));
    Failure { reason, ..failure.clone() }
}

impl From<Record> for HistoryEntry {
    fn from(record: Record) -> Self {
        let Record { version, again, by, note, at_ms, canary, state, report } = record;
        let state = match state {
            RecordState::Ended(outcome) => EntryState::Ended(outcome),
            running => EntryState::Running(running.as_str().to_owned()),
        };
        Self { version, again, by, note, at_ms, canary, state, report: report.map(Box::new) }
    }
}

impl From<DeployError> for Refusal {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Busy { app, version, by, since_s, doing } => {
                Self::Busy { app, version, by: by.into(), since_s, doing: doing.into() }
            }
            wish => Self::Wish { reason: wish.to_string() },
        }
    }
}

impl From<CancelError> for Refusal {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotRunning(app) => Self::NotRunning { app },
            CancelError::Ending(app, doing) => Self::Ending { app, doing: doing.to_owned() },
        }
    }
}
