//! What a node tells those who watch it: the numbers of its [`Status`], by app, and whether it is ready.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, Weak};

use tidegate_exporter::{Family, Health, Kind, Source};

use crate::node::Shared;
use crate::status::{AppEntry, NodeEntry, SlotsEntry, Status};

/// A node as its exporter sees it, from before it is put together until it is gone.
pub(crate) struct Watched {
    shared: OnceLock<Weak<Shared>>,
    has_started: AtomicBool,
    /// Apps with numbers of their own.
    apps_max: usize,
}

impl Watched {
    /// A node that starts.
    pub fn new(apps_max: usize) -> Self {
        Self { shared: OnceLock::new(), has_started: AtomicBool::new(false), apps_max }
    }

    /// It is put together. Once.
    pub fn is(&self, shared: Weak<Shared>) {
        // There is just one that calls it.
        let _ = self.shared.set(shared);
    }
}

impl Source for Watched {
    fn families(&self) -> Vec<Family> {
        let shared = self.shared.get().and_then(Weak::upgrade);
        shared.map(|shared| families(&shared.status(), &shared.nodes(), self.apps_max)).unwrap_or_default()
    }

    fn health(&self) -> Health {
        let Some(shared) = self.shared.get() else {
            return Health::Starting("it is starting: plugins are compiled, ports are opened".to_owned());
        };
        let Some(shared) = shared.upgrade() else { return Health::NotReady("it has stopped".to_owned()) };
        let why_not = if self.has_started.load(Ordering::Relaxed) {
            shared.why_not_ready()
        } else {
            shared.why_not_started()
        };
        match why_not {
            None => {
                self.has_started.store(true, Ordering::Relaxed);
                Health::Ready
            }
            Some(why) if self.has_started.load(Ordering::Relaxed) => Health::NotReady(why),
            Some(why) => Health::Starting(why),
        }
    }
}

/// The name of all apps together that have no numbers of their own. Not a name that an app can have.
const OTHERS: &str = "(others)";

/// Everything of a node, at most `apps_max` apps by name, those with most clients and turns.
fn families(status: &Status, nodes: &[NodeEntry], apps_max: usize) -> Vec<Family> {
    let mut all = of_node(status, nodes);
    let apps = shown(&status.apps, apps_max);
    if apps.iter().any(|app| app.clients.is_some()) {
        all.extend(of_gateway(&apps));
    }
    if let Some(instances) = &status.instances {
        let max = f64::from(instances.max);
        all.extend([
            gauge("tidegate_worker_instances", "Plugin instances.").with(&[], instances.count as f64),
            gauge("tidegate_worker_instances_max", "Plugin instances that there may be.").with(&[], max),
            gauge("tidegate_worker_instances_kept_bytes", "Memory that is kept for instances to come.")
                .with(&[], instances.kept_bytes as f64),
        ]);
        all.extend(of_worker(&apps));
    }
    all
}

fn of_node(status: &Status, nodes: &[NodeEntry]) -> Vec<Family> {
    let roles: Vec<_> = status.roles.iter().map(ToString::to_string).collect();
    let about = [("node", &*status.node), ("roles", &*roles.join(",")), ("version", &*status.version)];
    let mut known = gauge("tidegate_node_cluster_nodes", "Nodes that it knows of, itself included, by role.");
    for role in ["register", "gateway", "worker"] {
        let count = nodes.iter().filter(|node| node.role.to_string() == role).count();
        known.push(&[("role", role)], count as f64);
    }
    vec![
        gauge("tidegate_node_info", "1, with its name, its roles and the version of Tidegate.")
            .with(&about, 1.0),
        gauge("tidegate_node_ready", "1 while it does what it is there for, else 0.")
            .with(&[], f64::from(u8::from(status.ready))),
        gauge("tidegate_node_uptime_seconds", "Time since it started.").with(&[], status.uptime_s as f64),
        known,
    ]
}

fn of_gateway(apps: &[AppEntry]) -> [Family; 2] {
    let mut clients = gauge("tidegate_gateway_clients", "Clients that are connected.");
    let mut slots = gauge("tidegate_gateway_slots", "Slots that it can give clients to.");
    for app in apps {
        if let Some(count) = app.clients {
            let (tenant, name) = names(app);
            clients.push(&[("tenant", tenant), ("app", name)], count as f64);
            slots.push(&[("tenant", tenant), ("app", name)], app.clients_per_slot.len() as f64);
        }
    }
    [clients, slots]
}

fn of_worker(apps: &[AppEntry]) -> Vec<Family> {
    type Value = fn(&SlotsEntry) -> f64;
    let counted: [(&str, &str, Value); 5] = [
        ("tidegate_worker_app_turns_total", "Turns run.", |slots| slots.turns as f64),
        ("tidegate_worker_app_turns_failed_total", "Turns that failed, faults included.", |slots| {
            slots.failed as f64
        }),
        ("tidegate_worker_app_instance_restarts_total", "Instances started anew after a fault.", |slots| {
            slots.restarts as f64
        }),
        ("tidegate_worker_app_cpu_seconds_total", "CPU time of its turns.", |slots| {
            slots.cpu_ms as f64 / 1e3
        }),
        (
            "tidegate_worker_app_throttled_seconds_total",
            "Time in which it was over its cpu_share, so that its turns waited.",
            |slots| slots.throttled_ms as f64 / 1e3,
        ),
    ];
    let states: [(&str, Value); 5] = [
        ("running", |slots| f64::from(running(slots))),
        ("waiting", |slots| f64::from(slots.waiting)),
        ("suspended", |slots| f64::from(slots.suspended)),
        ("asleep", |slots| f64::from(slots.asleep)),
        ("without_place", |slots| f64::from(slots.without_place)),
    ];
    let running = apps.iter().filter_map(|app| Some((names(app), app.slots.as_ref()?)));
    let running: Vec<_> = running.collect();
    let mut all = Vec::new();
    for (name, help, value) in counted {
        let mut family = Family::new(Kind::Counter, name, help);
        for ((tenant, app), slots) in &running {
            family.push(&[("tenant", tenant), ("app", app)], value(slots));
        }
        all.push(family);
    }
    let mut slots_now = gauge(
        "tidegate_worker_slots",
        "Slots by what they do: a waiting one keeps failing, one without a place found the pool full.",
    );
    let mut version = gauge("tidegate_worker_app_version", "The version that its slots run; 0: none yet.");
    for ((tenant, app), slots) in &running {
        for (state, value) in states {
            slots_now.push(&[("tenant", tenant), ("app", app), ("state", state)], value(slots));
        }
        if *app != OTHERS {
            version.push(&[("tenant", tenant), ("app", app)], f64::from(slots.version));
        }
    }
    all.extend([slots_now, version]);
    all
}

fn running(slots: &SlotsEntry) -> u32 {
    let others = slots.waiting + slots.suspended + slots.asleep + slots.without_place;
    slots.count.saturating_sub(others)
}

fn gauge(name: &str, help: &str) -> Family {
    Family::new(Kind::Gauge, name, help)
}

fn names(app: &AppEntry) -> (&str, &str) {
    app.name.split_once('/').unwrap_or(("", &app.name))
}

/// The apps as they are, or, if they are too many, those that do most and all others in one.
fn shown(apps: &[AppEntry], max: usize) -> Cow<'_, [AppEntry]> {
    if apps.len() <= max {
        return Cow::Borrowed(apps);
    }
    let does = |app: &&AppEntry| (app.clients.unwrap_or(0), app.slots.map_or(0, |slots| slots.turns));
    let mut by_doing: Vec<&AppEntry> = apps.iter().collect();
    by_doing.sort_by_key(|app| std::cmp::Reverse(does(app)));
    let (first, others) = by_doing.split_at(max);
    let mut shown: Vec<AppEntry> = first.iter().map(|app| (*app).clone()).collect();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    let together = AppEntry { name: format!("{OTHERS}/{OTHERS}"), ..AppEntry::default() };
    shown.push(others.iter().fold(together, |sum, app| added(sum, app)));
    Cow::Owned(shown)
}

fn added(mut sum: AppEntry, app: &AppEntry) -> AppEntry {
    if let Some(clients) = app.clients {
        *sum.clients.get_or_insert(0) += clients;
        sum.clients_per_slot.extend(&app.clients_per_slot);
    }
    if let Some(slots) = &app.slots {
        let all = sum.slots.get_or_insert_default();
        all.count += slots.count;
        all.waiting += slots.waiting;
        all.suspended += slots.suspended;
        all.asleep += slots.asleep;
        all.without_place += slots.without_place;
        all.restarts += slots.restarts;
        all.turns += slots.turns;
        all.failed += slots.failed;
        all.cpu_ms += slots.cpu_ms;
        all.throttled_ms += slots.throttled_ms;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, turns: u64) -> AppEntry {
        let slots = SlotsEntry { count: 3, asleep: 1, turns, cpu_ms: 1500, ..SlotsEntry::default() };
        AppEntry { name: name.to_owned(), slots: Some(slots), clients: Some(2), ..AppEntry::default() }
    }

    #[test]
    fn apps_over_the_limit_are_counted_together_and_none_is_lost() {
        let apps = [app("a/x", 5), app("a/y", 50), app("b/x", 1), app("b/y", 9)];
        let shown = shown(&apps, 2);
        let names: Vec<_> = shown.iter().map(|app| app.name.as_str()).collect();
        assert_eq!(names, ["a/y", "b/y", "(others)/(others)"]);
        let others = shown.last().unwrap();
        let slots = others.slots.unwrap();
        assert_eq!((others.clients, slots.turns, slots.count, slots.asleep), (Some(4), 6, 6, 2));
        assert_eq!(*super::shown(&apps, 4), apps);
    }

    #[test]
    fn no_app_can_be_called_as_the_others_are() {
        assert!(tidegate_base::Label::new(OTHERS).is_err());
    }
}
