//! What the API needs of whoever deploys: node implements it by the register's deployer.

use bytes::Bytes;
use serde::Serialize;
use tidegate_base::{AppName, Digest, Role};
use tidegate_wire::control::{Canary, NodeInfo};
use tidegate_wire::question::{ConnectionFilter, Connections, LogFilter, Logs};
use tidegate_wire::report::{Progress, SwapReport};
use tidegate_wire::request::{AppOverview, Effect, HistoryEntry, Order, Refusal, TenantOverview};

use crate::service::Later;

/// What a [`Steering`] answers, later. A refusal means that nothing has changed.
pub type Answer<'a, T> = Later<'a, Result<T, Refusal>>;

/// Deploys, and knows what runs where.
pub trait Steering: Send + Sync + 'static {
    /// Every app, by name.
    fn apps(&self) -> Answer<'_, Vec<AppOverview>>;

    /// The deployments of an app, the newest first, so many at most.
    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>>;

    /// Begins to deploy, on the current tokio runtime. It goes on, whoever lets go of what is returned; a refusal comes as the
    /// end of it.
    fn deploy(&self, order: Deploy) -> Box<dyn Underway>;

    /// Begins to deploy an earlier version again; as [`deploy`](Self::deploy).
    fn roll_back(&self, order: RollBack) -> Box<dyn Underway>;

    /// Turns the deployment that goes on round; answers when it is on its way back. `by` says who wanted it.
    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()>;

    /// Every tenant, by name.
    fn tenants(&self) -> Answer<'_, Vec<TenantOverview>>;

    /// Does something to a tenant or to an app that is made at run time; answers when it is written down and gateways and
    /// workers do it, or have had some seconds for it. `by` says who wanted it.
    fn manage(&self, order: Order, by: String) -> Answer<'_, Effect>;

    /// Who is in the cluster.
    fn nodes(&self) -> Vec<NodeInfo>;

    /// Connections of all gateways.
    fn connections(&self, of: ConnectionFilter) -> Answer<'_, Connections>;

    /// Lines of an app's log, of all workers.
    fn logs(&self, of: LogFilter) -> Answer<'_, Logs>;

    /// How the node does that runs this.
    ///
    /// # Errors
    /// It starts or stops.
    fn status(&self) -> Result<NodeStatus, Refusal>;
}

/// How a node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// What runs in it.
    pub roles: Vec<Role>,
    /// The version of Tidegate.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether it does what it is there for; false while it starts and stops.
    pub ready: bool,
    /// The apps that it has itself; none, if it is a register alone.
    pub apps: Vec<AppStatus>,
}

/// An app on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppStatus {
    /// Which.
    pub app: AppName,
    /// Its clients, if the node is a gateway.
    pub clients: Option<u64>,
    /// Its slots, if the node is a worker.
    pub slots: Option<u32>,
    /// Those of them that sleep.
    pub asleep: Option<u32>,
    /// Turns that they have run.
    pub turns: Option<u64>,
    /// Turns that failed.
    pub failed: Option<u64>,
}

/// A wish to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// The app.
    pub app: AppName,
    /// What to deploy.
    pub module: Module,
    /// Judge it on a share of the slots first.
    pub canary: Option<Canary>,
    /// What to write beside it in the history.
    pub note: String,
    /// Who wants it.
    pub by: String,
    /// When it was asked for: the times of the report count from here.
    pub asked: tokio::time::Instant,
}

/// A wish to deploy an earlier version again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBack {
    /// The app.
    pub app: AppName,
    /// The version; None: the one that was stable before the one that is.
    pub to: Option<u32>,
    /// What to write beside it in the history.
    pub note: String,
    /// Who wants it.
    pub by: String,
    /// When it was asked for.
    pub asked: tokio::time::Instant,
}

/// A module to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Module {
    /// Its bytes, as they came.
    Bytes(Bytes),
    /// One that is kept already.
    Kept(Digest),
}

/// A deployment that goes on.
pub trait Underway: Send + 'static {
    /// What comes next. Not to be called again after [`News::Ended`]. Cancel-safe.
    fn next(&mut self) -> Later<'_, News>;
}

/// What is told of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It gets on.
    Progress(Progress),
    /// It is over, or was refused. Comes once, as the last.
    Ended(Box<Result<SwapReport, Refusal>>),
}
