//! What is told of apps, deployments, tenants and nodes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Structs of answers: what a newer server tells besides does no harm.
macro_rules! told {
    ($($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[non_exhaustive]
        pub struct $name { $($(#[$of])* pub $field: $kind,)* }
    )*};
}

/// Judge a deployment on a part of the slots first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Canary {
    /// How many of them, 1 to 99.
    pub percent: u8,
    /// How long they are compared with the others.
    pub for_ms: u64,
    /// Callbacks that each version must have run to be judged.
    pub events_min: u64,
}

impl Canary {
    /// Of so many percent of the slots, compared for 30 s and after 100 callbacks.
    #[must_use]
    pub fn percent(percent: u8) -> Self {
        Self { percent, for_ms: 30_000, events_min: 100 }
    }
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// Every slot runs it.
    Committed,
    /// Every slot runs the version before.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Some slots run one version, some the other.
    Mixed {
        /// Why.
        reason: String,
    },
}

/// Whether a deployment goes on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// It does this.
    Running(String),
    /// It is over.
    Ended(Outcome),
}

told! {
    /// A version of an app.
    #[derive(Eq)]
    VersionRef {
        /// Its number.
        number: u32,
        /// Of its component, SHA-256, 64 hex digits.
        digest: String,
    }

    /// Why a worker cannot run a version.
    Failure {
        /// Where, if it is of one slot.
        slot: Option<u32>,
        /// How far it had come.
        stage: String,
        /// What is wrong.
        reason: String,
    }

    /// What a version has done.
    Tally {
        /// Callbacks.
        turns: u64,
        /// Those that returned an error.
        errors: u64,
        /// Those that trapped.
        traps: u64,
        /// Those that took too long.
        overruns: u64,
    }

    /// An app on one worker.
    Worker {
        /// Its name.
        worker: String,
        /// The version of each slot; None: none yet.
        slots: Vec<Option<u32>>,
        /// How far it is with the deployment that goes on.
        step: Option<String>,
        /// Why it cannot run what it should.
        failure: Option<Failure>,
        /// Slots that sleep.
        asleep: u32,
    }

    /// What is being deployed.
    Underway {
        /// Its version.
        version: VersionRef,
        /// Who deploys.
        by: String,
        /// Since when, in milliseconds since 1970.
        at_ms: u64,
        /// What goes on, in words.
        doing: String,
    }

    /// A node of the cluster.
    NodeInfo {
        /// `register`, `gateway` or `worker`.
        role: String,
        /// Its name.
        name: String,
        /// Where it can be reached, for operators.
        address: Option<String>,
        /// Of a gateway, the first 12 digits of its clients' ids.
        gateway: Option<String>,
    }

    /// What a node cannot do for an app.
    Trouble {
        /// Which node.
        node: NodeInfo,
        /// Which app.
        app: String,
        /// Why.
        reason: String,
    }

    /// An app that was made at run time.
    Created {
        /// It has no clients and no slots.
        suspended: bool,
        /// Nor has any app of its tenant.
        tenant_suspended: bool,
        /// Its settings, secrets hidden.
        spec: Map<String, Value>,
        /// What nodes cannot do for it.
        #[serde(default)]
        troubles: Vec<Trouble>,
    }

    /// What an app runs where, and how it does.
    AppInfo {
        /// `tenant/name`.
        app: String,
        /// What it runs, but for a deployment that goes on.
        stable: Option<VersionRef>,
        /// What is being deployed.
        deploying: Option<Underway>,
        /// Where.
        workers: Vec<Worker>,
        /// None: it stands in settings files.
        created: Option<Created>,
        /// What the version that runs has done.
        health: Tally,
    }

    /// How the deployment that goes on gets on.
    Deploying {
        /// `tenant/name`.
        app: String,
        /// What is gone back to.
        stable: Option<VersionRef>,
        /// What is being deployed.
        deploying: Underway,
        /// How far each worker is.
        workers: Vec<Worker>,
    }

    /// Clients during a swap.
    ClientCounts {
        /// Connections before it.
        before: u64,
        /// Connections after it.
        after: u64,
        /// Those that came meanwhile.
        opened: u64,
        /// Those that went meanwhile.
        closed: u64,
        /// Events that came meanwhile.
        events: u64,
        /// Events that were lost.
        lost: u64,
    }

    /// How long slots stood still.
    Pauses {
        /// The longest, in microseconds.
        longest_us: u64,
        /// 99 of 100 were no longer.
        p99_us: u64,
    }

    /// What the numbers of events say.
    Audit {
        /// Numbers that are missing.
        lost: u64,
        /// Numbers that came twice.
        repeated: u64,
        /// Numbers that came before an earlier one.
        reordered: u64,
    }

    /// What a deployment came to.
    Report {
        /// `tenant/name`.
        app: String,
        /// What was deployed.
        version: VersionRef,
        /// The version that was deployed again.
        again: Option<u32>,
        /// What ran before.
        previous: Option<VersionRef>,
        /// When it began, in milliseconds since 1970.
        at_ms: u64,
        /// How it ended.
        outcome: Outcome,
        /// Workers that took part.
        workers: u32,
        /// Their slots.
        slots: u32,
        /// Slots that switched.
        switched: u32,
        /// Slots that switched back.
        switched_back: u32,
        /// Connections before and after.
        clients: Option<ClientCounts>,
        /// How long slots stood still.
        pauses: Option<Pauses>,
        /// What the numbers of events say.
        audit: Audit,
        /// The rest of `SwapReport` of the API's description: turns, times, the canary.
        #[serde(flatten)]
        more: Map<String, Value>,
    }

    /// A line of an app's history.
    Version {
        /// Number and digest.
        version: VersionRef,
        /// The version that was deployed again.
        again: Option<u32>,
        /// Who deployed it.
        by: String,
        /// What was written beside it.
        note: String,
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// How it was to be judged.
        canary: Option<Canary>,
        /// How far it is, or how it ended.
        state: State,
        /// What it came to: of `App::version`, not of `App::versions`.
        report: Option<Report>,
    }

    /// How a deployment gets on.
    News {
        /// `started`, `worker`, `canary`, `switching`, `failed`, `going-back`, `not-stored`, `waiting`, `ended`, `refused`, or
        /// one that is newer than this crate.
        news: String,
        /// For people.
        text: String,
        /// Of `started`.
        version: Option<VersionRef>,
        /// Whom it is about.
        worker: Option<String>,
        /// How far that worker is.
        step: Option<String>,
        /// Its slots that have switched.
        switched: Option<u32>,
        /// Slots in all.
        slots: Option<u32>,
        /// Of `failed`.
        failure: Option<Failure>,
        /// Of `going-back` and `not-stored`.
        reason: Option<String>,
        /// Of `ended`.
        report: Option<Report>,
        /// Of `refused`.
        problem: Option<crate::Problem>,
    }

    /// What became of an order about apps or tenants.
    Order {
        /// Of the list of tenants and apps.
        revision: u64,
        /// Apps that it is about.
        apps: Vec<String>,
        /// Nodes that have not done it yet; they do it when they are back.
        behind: Vec<NodeInfo>,
        /// What nodes cannot do.
        troubles: Vec<Trouble>,
    }

    /// What a tenant's apps have.
    Usage {
        /// How many there are.
        apps: u64,
        /// Their slots.
        slots: u64,
        /// Memory that their slots may take.
        memory_mib: u64,
        /// Connections that they may have.
        connections: u64,
        /// Their shares of processors, in thousandths of a core.
        cpu_share_millis: u64,
    }

    /// What a tenant may have, and what it has.
    TenantInfo {
        /// Its name.
        tenant: String,
        /// It stands in a settings file.
        fixed: bool,
        /// Its apps have no clients and no slots.
        suspended: bool,
        /// Those that are set.
        quotas: BTreeMap<String, u64>,
        /// What its apps have.
        usage: Usage,
    }

    /// A node that did not answer.
    MissingNode {
        /// What it is.
        role: String,
        /// Its name.
        node: String,
        /// Why.
        reason: String,
    }

    /// A client's connection to a gateway.
    Connection {
        /// Its id.
        client: String,
        /// `tenant/name`.
        app: String,
        /// `ws`, `text`, `frame` or `tcp`.
        protocol: String,
        /// Where the client is.
        remote: String,
        /// For so many seconds.
        age_s: u64,
        /// `upgrading`, `open` or `closing`.
        state: String,
        /// How many groups it is in.
        groups: u64,
        /// What its events under way weigh.
        in_flight: u64,
        /// What waits to be written to it.
        queued_bytes: u64,
        /// Its uid.
        uid: Option<String>,
        /// Where its slot is.
        worker: Option<String>,
        /// Its slot there.
        slot: Option<u32>,
        /// Why it is not read: `no-slot`, `no-credit`, `in-flight` or `rate`.
        paused: Option<String>,
    }

    /// The connections of an app.
    Connections {
        /// How many there are, told here or not.
        total: u64,
        /// So many of them as were asked for.
        connections: Vec<Connection>,
        /// Gateways that did not answer.
        missing: Vec<MissingNode>,
    }

    /// A line of an app's log.
    LogLine {
        /// Where.
        worker: String,
        /// Of the worker's lines of this app.
        number: u64,
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: String,
        /// False: it is said of the plugin.
        by_plugin: bool,
        /// The version that ran.
        version: u32,
        /// In this slot.
        slot: u32,
        /// What.
        text: String,
    }

    /// Lines of an app's log on all workers, in the order of their times.
    Logs {
        /// The lines.
        lines: Vec<LogLine>,
        /// So many were gone before they were asked for.
        missed: u64,
        /// What to ask for those that come.
        next: String,
        /// Workers that did not answer.
        missing: Vec<MissingNode>,
    }

    /// An app on the node that answers; None is what the node's roles do not know.
    AppOnNode {
        /// `tenant/name`.
        app: String,
        /// Connections.
        clients: Option<u64>,
        /// Slots.
        slots: Option<u64>,
        /// Those that sleep.
        asleep: Option<u64>,
        /// Callbacks.
        turns: Option<u64>,
        /// Those that failed.
        failed: Option<u64>,
    }

    /// How the node does that answers.
    Status {
        /// Its name.
        node: String,
        /// What it does.
        roles: Vec<String>,
        /// Of its program.
        version: String,
        /// How long it has run.
        uptime_s: u64,
        /// Whether it serves.
        ready: bool,
        /// The token's apps.
        apps: Vec<AppOnNode>,
    }
}
