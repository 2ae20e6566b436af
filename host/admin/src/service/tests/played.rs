//! A played register: the app `acme/chat` in version 2, and one of another tenant.

use std::collections::VecDeque;

use tidegate_base::{AppSpec, Label, Quotas, Role, Usage};
use tidegate_wire::control::{Canary, Failure, NodeInfo, Stage, Step, VersionRef, VersionTally};
use tidegate_wire::question::{
    Connection, ConnectionFilter, Connections, Level, LogFilter, LogLine, LogPage, Logs, Missing,
};
use tidegate_wire::report::{
    Audit, CanaryReport, ClientCounts, Outcome, Pauses, Progress, SwapReport, SwitchedAt, Tally, Times,
};
use tidegate_wire::request::{
    AppOverview, Created, Deploying, Effect, EntryState, HistoryEntry, NodeRef, NodeTrouble, Order, Refusal,
    TenantOverview, WorkerOverview,
};

use super::*;
use crate::steering::{Answer, AppStatus, Deploy, Module, News, NodeStatus, RollBack, Underway};

/// Writes down what it is asked. A deployment commits unless its note is a reason not to; `busy` is refused, and `slow` never
/// gets on.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub orders: Mutex<Vec<String>>,
}

impl Played {
    fn note(&self, order: String) {
        self.orders.lock().push(order);
    }
}

pub(super) fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn version(number: u32) -> VersionRef {
    VersionRef { number, digest: Digest::of(&number.to_le_bytes()) }
}

fn worker() -> NodeName {
    NodeName::new("w-1").unwrap()
}

pub(super) fn report(outcome: Outcome) -> SwapReport {
    let (canary, tally) = (Canary { percent: 25, for_ms: 30_000, events_min: 100 }, Tally::default());
    SwapReport {
        app: app("acme/chat"),
        version: version(2),
        again: Some(1),
        previous: Some(version(1)),
        at_ms: 5,
        outcome,
        workers: 1,
        away: vec![worker()],
        slots: 2,
        switched: 2,
        switched_back: 0,
        clients: Some(ClientCounts::default()),
        pauses: Some(Pauses { longest_us: 9, longest_worker: worker(), longest_slot: 0, p99_us: 8 }),
        audit: Audit::default(),
        timers_carried: 0,
        timers_dropped: 0,
        state_bytes: 0,
        states_lost: 0,
        turns: vec![SwitchedAt { worker: worker(), slot: 0, from: Some(1), to: 2, after_turn: 3 }],
        waiting_events: 0,
        times: Times { first_event_us: Some(1), ..Times::default() },
        canary: Some(CanaryReport {
            asked: canary,
            slots: 1,
            old: tally,
            new: tally,
            verdict: "no worse".into(),
        }),
    }
}

/// Each kind of news once.
pub(super) fn news() -> Vec<Progress> {
    let failure = Failure::new(Some(0), Stage::Restore, "no".into());
    vec![
        Progress::Started { version: version(2), workers: 1, slots: 2 },
        Progress::Worker { worker: worker(), step: Step::Switching, switched: 1, slots: 2 },
        Progress::Canary { slots: 1, of: 2 },
        Progress::Switching { verdict: None },
        Progress::Failed { worker: worker(), failure },
        Progress::GoingBack { reason: "worse".into() },
        Progress::NotStored { reason: "full".into() },
    ]
}

impl Steering for Played {
    fn apps(&self) -> Answer<'_, Vec<AppOverview>> {
        let deploying = |name: &str| {
            let (by, doing) = ("ann".into(), "preparing".into());
            (name == "acme/chat").then_some(Deploying { version: version(2), by, at_ms: 7, doing })
        };
        let overview = |name: &str| AppOverview {
            app: app(name),
            stable: Some(version(1)),
            deploying: deploying(name),
            workers: vec![WorkerOverview {
                worker: worker(),
                slots: vec![Some(1), None],
                step: Some(Step::Compiling),
                failure: Some(Failure::new(None, Stage::Fetch, "no".into())),
                tallies: vec![VersionTally { version: 1, turns: 5, ..VersionTally::default() }],
                asleep: 0,
            }],
            created: Some(Created {
                suspended: false,
                tenant_suspended: false,
                spec: Box::new(AppSpec {
                    slots: Some(2),
                    routes: vec!["chat.example.com".into()],
                    ..AppSpec::default()
                }),
                troubles: vec![],
            }),
        };
        let apps = ["acme/chat", "acme/game", "globex/secret"].map(overview);
        Box::pin(async move { Ok(apps.into()) })
    }

    fn history(&self, of: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>> {
        let entry = |number, report: Option<SwapReport>| HistoryEntry {
            version: version(number),
            again: None,
            by: "ann".into(),
            note: String::new(),
            at_ms: 1,
            canary: None,
            state: EntryState::Ended(Outcome::RolledBack { reason: "worse".into() }),
            report: report.map(Box::new),
        };
        Box::pin(async move {
            if of.app() == "none" {
                return Err(Refusal::UnknownApp { app: of, known: vec![app("globex/secret")] });
            }
            let all = [entry(2, Some(report(Outcome::Committed))), entry(1, None)];
            Ok(all.into_iter().take(limit).collect())
        })
    }

    fn deploy(&self, order: Deploy) -> Box<dyn Underway> {
        let module = match &order.module {
            Module::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Module::Kept(digest) => format!("sha256:{}", &digest.to_string()[..6]),
        };
        self.note(format!("deploy {module} to {} by {}, {:?}", order.app, order.by, order.canary));
        Box::new(Plays::of(&order.note))
    }

    fn roll_back(&self, order: RollBack) -> Box<dyn Underway> {
        self.note(format!("roll {} back to {:?}", order.app, order.to));
        Box::new(Plays::of(&order.note))
    }

    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()> {
        self.note(format!("cancel {app} by {by}"));
        Box::pin(async move {
            match app.app() {
                "chat" => Ok(()),
                _ => Err(Refusal::NotRunning { app }),
            }
        })
    }

    fn tenants(&self) -> Answer<'_, Vec<TenantOverview>> {
        let overview = |name: &str| TenantOverview {
            tenant: Label::new(name).unwrap(),
            fixed: false,
            suspended: false,
            quotas: Quotas { slots_max: Some(4), ..Quotas::default() },
            usage: Usage::default(),
        };
        Box::pin(async move { Ok(["acme", "globex"].map(overview).into()) })
    }

    fn manage(&self, order: Order, by: String) -> Answer<'_, Effect> {
        self.note(format!("{} by {by}: {order:?}", order.name()));
        Box::pin(async move {
            let app = match order {
                Order::App { name, .. } if name.app() == "fixed" => {
                    return Err(Refusal::Fixed { reason: "it stands in gateway.toml".into() });
                }
                Order::App { name, .. } => name,
                Order::Tenant { .. } => app("acme/chat"),
            };
            let node = NodeRef { role: Role::Worker, name: worker() };
            let trouble = NodeTrouble { node: node.clone(), app: app.clone(), reason: "no room".into() };
            Ok(Effect { revision: 3, apps: vec![app], behind: vec![node], troubles: vec![trouble] })
        })
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        let gateway = Some(GatewayId::new(1));
        vec![NodeInfo { name: worker(), role: Role::Gateway, address: "127.0.0.1:1".parse().ok(), gateway }]
    }

    fn connections(&self, of: ConnectionFilter) -> Answer<'_, Connections> {
        self.note(format!("connections {} {:?} {:?} {}", of.app.unwrap(), of.client, of.uid, of.limit));
        let connection = Connection {
            client: "0000000000010000002a".parse().unwrap(),
            app: app("acme/chat"),
            protocol: "ws".into(),
            remote: "192.0.2.1:5000".parse().unwrap(),
            age_s: 5,
            state: "open".into(),
            uid: Some("ann".into()),
            groups: 2,
            worker: Some(worker()),
            slot: Some(1),
            in_flight: 1,
            queued_bytes: 0,
            paused: Some("no-credit".into()),
        };
        let missing = Missing { role: Role::Gateway, node: worker(), reason: "it hangs".into() };
        Box::pin(async move {
            Ok(Connections { total: 7, connections: vec![connection], missing: vec![missing] })
        })
    }

    fn logs(&self, of: LogFilter) -> Answer<'_, Logs> {
        self.note(format!("logs {} {:?} {} {}", of.app, of.level, of.limit, of.after));
        let (level, text) = (Level::Warn, "careful".to_owned());
        let line = LogLine { number: 4, at_ms: 9, level, by_plugin: true, version: 2, slot: 0, text };
        let mut all = Logs::of(&of);
        all.add(worker(), LogPage { life: 7, next: 5, missed: 1, lines: vec![line] });
        Box::pin(async move { Ok(all) })
    }

    fn status(&self) -> Result<NodeStatus, Refusal> {
        let status = |name: &str| AppStatus {
            app: app(name),
            clients: Some(3),
            slots: None,
            asleep: None,
            turns: None,
            failed: None,
        };
        let apps = ["acme/chat", "globex/secret"].map(status).into();
        let (node, version) = ("all".into(), "0".into());
        Ok(NodeStatus { node, roles: vec![Role::Gateway], version, uptime_s: 1, ready: true, apps })
    }
}

/// A deployment that goes on.
struct Plays(VecDeque<News>);

impl Plays {
    fn of(note: &str) -> Self {
        let ended = |ended| News::Ended(Box::new(ended));
        let mut script: VecDeque<_> = news().into_iter().map(News::Progress).collect();
        match note {
            "busy" => {
                let (by, doing) = ("bob".into(), "switching".into());
                let refusal =
                    Refusal::Busy { app: app("acme/chat"), version: version(1), by, since_s: 1, doing };
                return Self([ended(Err(refusal))].into());
            }
            "slow" => return Self(script.drain(..1).collect()),
            "late" => script.push_back(ended(Err(Refusal::Internal { reason: "lost".into() }))),
            "" => script.push_back(ended(Ok(report(Outcome::Committed)))),
            why => script.push_back(ended(Ok(report(Outcome::RolledBack { reason: why.into() })))),
        }
        Self(script)
    }
}

impl Underway for Plays {
    fn next(&mut self) -> Later<'_, News> {
        let next = self.0.pop_front();
        Box::pin(async move {
            match next {
                Some(news) => news,
                None => std::future::pending().await,
            }
        })
    }
}
