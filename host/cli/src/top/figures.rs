//! From what nodes have told at two moments to what goes on in between: by node, tenant and app. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_node::status::{AppEntry, Status};
use tidegate_telemetry::Histogram;

/// What nodes said at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// On a clock of whoever asks.
    pub at: Duration,
    pub nodes: Vec<Heard>,
}

/// A node, and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub name: String,
    pub role: String,
    /// Or why it said nothing.
    pub said: Result<Box<Status>, String>,
}

/// What went on between two moments, and how it is at the second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// None: there is no moment before, so there are no rates.
    pub over: Option<Duration>,
    pub nodes: Vec<NodeFigures>,
    pub tenants: Vec<TenantFigures>,
    pub apps: Vec<AppFigures>,
}

#[derive(Debug, Clone)]
pub(crate) struct NodeFigures {
    pub name: String,
    pub role: String,
    /// Why it said nothing.
    pub silent: Option<String>,
    pub ready: bool,
    pub version: String,
    pub uptime_s: u64,
    /// CPU and memory are those of the whole process.
    pub load: Load,
}

#[derive(Debug, Clone)]
pub(crate) struct TenantFigures {
    pub name: String,
    pub apps: usize,
    pub load: Load,
}

#[derive(Debug, Clone)]
pub(crate) struct AppFigures {
    /// `tenant/app`.
    pub name: String,
    /// What runs; several while versions change.
    pub versions: BTreeSet<u32>,
    pub load: Load,
}

/// What something does.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Load {
    pub clients: u64,
    pub slots: u64,
    /// Slots that serve nobody, since they keep failing.
    pub failing: u64,
    /// Turns that failed since the nodes started.
    pub failed: u64,
    pub events_per_s: f64,
    pub turns_per_s: f64,
    pub failures_per_s: f64,
    /// Cores that are in use.
    pub cpu: f64,
    pub memory_bytes: u64,
    /// Those of this while.
    pub turn: Histogram,
    pub queue: Histogram,
}

impl Figures {
    /// What went on since `before`; without it there are only figures that need no time.
    pub fn between(before: Option<&Sample>, now: &Sample) -> Self {
        let over = before.map(|before| now.at.saturating_sub(before.at)).filter(|over| !over.is_zero());
        let seconds = over.map(|over| over.as_secs_f64());
        let mut apps: BTreeMap<&str, AppFigures> = BTreeMap::new();
        let mut nodes = Vec::new();
        for heard in &now.nodes {
            let earlier = before.and_then(|before| before.said_by(heard));
            let mut node = NodeFigures::new(heard);
            if let Ok(status) = &heard.said {
                for app in &status.apps {
                    let entry =
                        earlier.and_then(|earlier| earlier.apps.iter().find(|it| it.name == app.name));
                    let load = Load::of_app(entry, app, seconds);
                    node.load.add(&load);
                    let figures = apps.entry(&app.name).or_insert_with(|| AppFigures::new(&app.name));
                    figures.versions.extend(app.slots.map(|slots| slots.version).filter(|it| *it > 0));
                    figures.load.add(&load);
                }
                let cpu_ms = (status.process.cpu_ms, earlier.map(|earlier| earlier.process.cpu_ms));
                node.load.cpu = per_second(cpu_ms.1, cpu_ms.0, seconds) / 1000.0;
                node.load.memory_bytes = status.process.memory_bytes;
            }
            nodes.push(node);
        }
        let apps: Vec<AppFigures> = apps.into_values().collect();
        Self { over, nodes, tenants: tenants(&apps), apps }
    }
}

impl Sample {
    /// What this node said here, in the same life.
    fn said_by(&self, heard: &Heard) -> Option<&Status> {
        let same = |it: &&Heard| it.name == heard.name && it.role == heard.role && it.said.is_ok();
        let earlier = self.nodes.iter().find(same)?.said.as_ref().ok()?;
        let now = heard.said.as_ref().ok()?;
        (earlier.pid == now.pid && earlier.uptime_s <= now.uptime_s).then_some(earlier)
    }
}

impl NodeFigures {
    fn new(heard: &Heard) -> Self {
        let (name, role) = (heard.name.clone(), heard.role.clone());
        let load = Load::default();
        match &heard.said {
            Ok(status) => {
                let (version, uptime_s) = (status.version.clone(), status.uptime_s);
                Self { name, role, silent: None, ready: status.ready, version, uptime_s, load }
            }
            Err(why) => {
                let (silent, version) = (Some(why.clone()), String::new());
                Self { name, role, silent, ready: false, version, uptime_s: 0, load }
            }
        }
    }
}

impl AppFigures {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), versions: BTreeSet::new(), load: Load::default() }
    }

    pub fn tenant(&self) -> &str {
        self.name.split_once('/').map_or("", |(tenant, _)| tenant)
    }
}

impl Load {
    fn of_app(before: Option<&AppEntry>, now: &AppEntry, seconds: Option<f64>) -> Self {
        let mut load = Self { clients: now.clients.unwrap_or_default() as u64, ..Self::default() };
        if let Some(lanes) = &now.lanes {
            let earlier = before.and_then(|before| before.lanes).map(|lanes| lanes.events);
            load.events_per_s = per_second(earlier, lanes.events, seconds);
        }
        if let Some(slots) = &now.slots {
            let earlier = before.and_then(|before| before.slots);
            let rate = |count: u64, earlier: Option<u64>| per_second(earlier, count, seconds);
            load.slots = slots.count.into();
            load.failing = u64::from(slots.waiting) + u64::from(slots.suspended);
            load.failed = slots.failed;
            load.turns_per_s = rate(slots.turns, earlier.map(|it| it.turns));
            load.failures_per_s = rate(slots.failed, earlier.map(|it| it.failed));
            load.cpu = rate(slots.cpu_ms, earlier.map(|it| it.cpu_ms)) / 1000.0;
            load.memory_bytes = slots.memory_bytes as u64;
            if let Some(earlier) = earlier.filter(|_| seconds.is_some()) {
                load.turn = slots.turn_times.since(&earlier.turn_times);
                load.queue = slots.queue_times.since(&earlier.queue_times);
            }
        }
        load
    }

    fn add(&mut self, more: &Self) {
        self.clients += more.clients;
        self.slots += more.slots;
        self.failing += more.failing;
        self.failed += more.failed;
        self.events_per_s += more.events_per_s;
        self.turns_per_s += more.turns_per_s;
        self.failures_per_s += more.failures_per_s;
        self.cpu += more.cpu;
        self.memory_bytes += more.memory_bytes;
        self.turn.merge(&more.turn);
        self.queue.merge(&more.queue);
    }
}

fn tenants(apps: &[AppFigures]) -> Vec<TenantFigures> {
    let mut tenants: BTreeMap<&str, TenantFigures> = BTreeMap::new();
    for app in apps {
        let new = || TenantFigures { name: app.tenant().to_owned(), apps: 0, load: Load::default() };
        let tenant = tenants.entry(app.tenant()).or_insert_with(new);
        tenant.apps += 1;
        tenant.load.add(&app.load);
    }
    tenants.into_values().collect()
}

/// How fast a count grows. One that has begun anew, or was not there before, has no rate yet.
fn per_second(before: Option<u64>, now: u64, seconds: Option<f64>) -> f64 {
    let grown = before.and_then(|before| now.checked_sub(before));
    match (grown, seconds) {
        (Some(grown), Some(seconds)) => grown as f64 / seconds,
        _ => 0.0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tidegate_node::status::{LanesEntry, ProcessEntry, SlotsEntry};

    use super::*;

    pub fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// An app on a node that runs everything: so many turns, each an event, and one in ten failed.
    pub fn app(name: &str, turns: u64) -> AppEntry {
        let mut slots = SlotsEntry {
            version: 3,
            count: 2,
            turns,
            failed: turns / 10,
            cpu_ms: turns,
            memory_bytes: 1 << 20,
            ..Default::default()
        };
        slots.turn_times.add(Duration::from_micros(20), turns);
        AppEntry {
            name: name.to_owned(),
            clients: Some(7),
            lanes: Some(LanesEntry { events: turns, ..Default::default() }),
            slots: Some(slots),
            ..Default::default()
        }
    }

    pub fn heard(name: &str, pid: u32, cpu_ms: u64, apps: Vec<AppEntry>) -> Heard {
        let status = Status {
            node: name.to_owned(),
            roles: Vec::new(),
            version: "0.1.0".to_owned(),
            pid,
            uptime_s: 5,
            ready: true,
            addresses: Default::default(),
            apps,
            instances: None,
            process: ProcessEntry { cpu_ms, memory_bytes: 64 << 20 },
            counters: Default::default(),
        };
        Heard { name: name.to_owned(), role: "worker".to_owned(), said: Ok(Box::new(status)) }
    }

    #[test]
    fn rates_are_differences_and_are_summed_over_nodes_and_tenants() {
        let apps = |turns| vec![app("acme/chat", turns), app("acme/game", 2 * turns), app("default/x", 0)];
        let before =
            Sample { at: ms(1000), nodes: vec![heard("a", 1, 10, apps(100)), heard("b", 2, 10, apps(100))] };
        let now = Sample {
            at: ms(3000),
            nodes: vec![heard("a", 1, 1010, apps(300)), heard("b", 2, 10, apps(200))],
        };
        let figures = Figures::between(Some(&before), &now);
        assert_eq!(figures.over, Some(ms(2000)));
        let [chat, game, x] = &figures.apps[..] else { panic!("three apps") };
        assert_eq!((chat.load.turns_per_s, chat.load.events_per_s), (150.0, 150.0));
        assert_eq!((chat.load.failures_per_s, chat.load.failed, chat.load.clients), (15.0, 50, 14));
        assert!((chat.load.cpu - 0.15).abs() < 1e-9 && chat.load.turn.count() == 300, "{:?}", chat.load);
        assert_eq!((game.load.turns_per_s, x.load.turns_per_s), (300.0, 0.0));
        let [acme, default] = &figures.tenants[..] else { panic!("two tenants") };
        assert_eq!((acme.apps, acme.load.turns_per_s, default.apps), (2, 450.0, 1));
        assert_eq!((figures.nodes[0].load.cpu, figures.nodes[0].load.turns_per_s), (0.5, 300.0));
        assert_eq!(figures.nodes[1].load.memory_bytes, 64 << 20);
    }

    #[test]
    fn a_node_that_started_again_has_no_rates_and_one_that_is_silent_says_why() {
        let silent =
            Heard { name: "c".into(), role: "gateway".into(), said: Err("it did not answer".into()) };
        let before = Sample { at: ms(0), nodes: vec![heard("a", 1, 500, vec![app("acme/chat", 900)])] };
        let again = heard("a", 2, 5, vec![app("acme/chat", 1000)]);
        let figures = Figures::between(Some(&before), &Sample { at: ms(1000), nodes: vec![again, silent] });
        assert_eq!((figures.apps[0].load.turns_per_s, figures.nodes[0].load.cpu), (0.0, 0.0));
        assert_eq!(figures.apps[0].load.failed, 100, "what needs no time is told");
        assert_eq!(figures.nodes[1].silent.as_deref(), Some("it did not answer"));
        // Nor are there any at first.
        let first = Figures::between(None, &before);
        assert_eq!((first.over, first.apps[0].load.turns_per_s), (None, 0.0));
        assert_eq!(first.apps[0].load.turn.count(), 0);
    }
}
