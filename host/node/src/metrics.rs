//! What a node tells those who watch it: the numbers of its [`Status`], by app, and whether it is ready.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, Weak};

use tidegate_exporter::{Family, Health, Kind, Source};
use tidegate_link::PathStats;
use tidegate_telemetry::Histogram;

use crate::node::Shared;
use crate::status::{AppEntry, LanesEntry, NodeEntry, SlotsEntry, Status};

/// A node as its exporter sees it, from before it is put together until it is gone.
pub(crate) struct Watched {
    shared: OnceLock<Weak<Shared>>,
    has_started: AtomicBool,
    most: Most,
}

/// How much is told at most: a scrape of a thousand apps is to have less than 2 MB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Apps with numbers of their own.
    pub apps: usize,
    /// Apps with histograms of their own, of which each has some thirty lines.
    pub histograms: usize,
}

/// Links with figures of their own: the oldest.
const PATHS_MAX: usize = 1000;

impl Watched {
    /// A node that starts.
    pub fn new(most: Most) -> Self {
        Self { shared: OnceLock::new(), has_started: AtomicBool::new(false), most }
    }

    /// It is put together. Once.
    pub fn is(&self, shared: Weak<Shared>) {
        // There is just one that calls it.
        let _ = self.shared.set(shared);
    }
}

impl Source for Watched {
    fn families(&self) -> Vec<Family> {
        let Some(shared) = self.shared.get().and_then(Weak::upgrade) else { return Vec::new() };
        let mut all = families(&shared.status(), &shared.nodes(), self.most);
        all.extend(of_paths(&shared.paths()));
        all
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

/// Everything of a node but its links: of apps those with most clients and turns by name.
fn families(status: &Status, nodes: &[NodeEntry], most: Most) -> Vec<Family> {
    let mut all = of_node(status, nodes);
    let apps = shown(&status.apps, most.apps);
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
        all.extend(times(&apps, most.histograms));
    }
    all
}

fn of_paths(paths: &[PathStats]) -> [Family; 5] {
    let counter = |name, help| Family::new(Kind::Counter, name, help);
    let open = gauge("tidegate_link_links", "Links to other nodes that are open.");
    let mut rtt = gauge("tidegate_link_rtt_seconds", "Round-trip time of a link, smoothed.");
    let mut window = gauge(
        "tidegate_link_congestion_window_bytes",
        "Bytes that may be on their way on a link before the other end has said that they have come.",
    );
    let mut sent = counter("tidegate_link_packets_sent_total", "Packets sent on a link.");
    let mut lost = counter("tidegate_link_packets_lost_total", "Packets lost on a link, sent again by QUIC.");
    for path in paths.iter().take(PATHS_MAX) {
        let (role, number) = (path.peer_role.to_string(), path.number.to_string());
        let labels = [("peer_role", &*role), ("peer", path.peer.as_str()), ("link", &*number)];
        rtt.push(&labels, path.rtt.as_secs_f64());
        window.push(&labels, path.congestion_window_bytes as f64);
        sent.push(&labels, path.sent_packets as f64);
        lost.push(&labels, path.lost_packets as f64);
    }
    [open.with(&[], paths.len() as f64), rtt, window, sent, lost]
}

/// How long turns take and events wait: of at most `max` apps by name, those with most turns; of those without any nothing.
fn times(apps: &[AppEntry], max: usize) -> [Family; 2] {
    type Of = fn(&SlotsEntry) -> &Histogram;
    let mut busy: Vec<_> = apps
        .iter()
        .filter_map(|app| Some((names(app), app.slots.as_ref()?)))
        .filter(|(_, slots)| slots.turn_times.count() > 0)
        .collect();
    // Those that are added up already stay last, so that there is one of that name.
    busy.sort_by_key(|((_, name), slots)| (*name == OTHERS, std::cmp::Reverse(slots.turns)));
    let named = max.min(busy.iter().take_while(|((_, name), _)| *name != OTHERS).count());
    let (first, rest) = busy.split_at(named);
    let family = |name, help, of: Of| {
        let mut family = Family::new(Kind::Histogram, name, help);
        for ((tenant, app), slots) in first {
            family.push_times(&[("tenant", tenant), ("app", app)], of(slots));
        }
        if !rest.is_empty() {
            let mut together = Histogram::default();
            rest.iter().for_each(|(_, slots)| together.merge(of(slots)));
            family.push_times(&[("tenant", OTHERS), ("app", OTHERS)], &together);
        }
        family
    };
    [
        family(
            "tidegate_worker_app_turn_seconds",
            "Time of turns, without waiting for the app's cpu_share. Of short turns some are measured and stand for the rest.",
            |slots| &slots.turn_times,
        ),
        family(
            "tidegate_worker_app_queue_seconds",
            "Time that events waited in the worker for their turns. Some are measured and stand for the rest.",
            |slots| &slots.queue_times,
        ),
    ]
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

fn of_gateway(apps: &[AppEntry]) -> Vec<Family> {
    type Value = fn(&LanesEntry) -> f64;
    let mut clients = gauge("tidegate_gateway_clients", "Clients that are connected.");
    let mut slots = gauge("tidegate_gateway_slots", "Slots that it can give clients to.");
    for app in apps {
        if let Some(count) = app.clients {
            let (tenant, name) = names(app);
            clients.push(&[("tenant", tenant), ("app", name)], count as f64);
            slots.push(&[("tenant", tenant), ("app", name)], app.clients_per_slot.len() as f64);
        }
    }
    let of_lanes: [(Kind, &str, &str, Value); 6] = [
        (Kind::Gauge, "tidegate_gateway_lanes", "Lanes to slots that are open.", |lanes| lanes.open as f64),
        (
            Kind::Gauge,
            "tidegate_gateway_lanes_without_credit",
            "Lanes whose slots do not keep up: they have no credit for one more event.",
            |lanes| lanes.without_credit as f64,
        ),
        (
            Kind::Gauge,
            "tidegate_gateway_events_under_way",
            "Events that were sent to slots and whose turns have not ended.",
            |lanes| lanes.events_under_way as f64,
        ),
        (
            Kind::Gauge,
            "tidegate_gateway_clients_paused",
            "Clients whose sockets are not read until there is credit.",
            |lanes| lanes.clients_paused as f64,
        ),
        (Kind::Counter, "tidegate_gateway_app_events_total", "Events taken from clients.", |lanes| {
            lanes.events as f64
        }),
        (Kind::Counter, "tidegate_gateway_app_events_lost_total", "Events given up.", |lanes| {
            lanes.events_lost as f64
        }),
    ];
    let mut all = vec![clients, slots];
    for (kind, name, help, value) in of_lanes {
        let mut family = Family::new(kind, name, help);
        for app in apps {
            if let Some(lanes) = &app.lanes {
                let (tenant, name) = names(app);
                family.push(&[("tenant", tenant), ("app", name)], value(lanes));
            }
        }
        all.push(family);
    }
    all
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
    let mut memory = gauge("tidegate_worker_app_memory_bytes", "Linear memory of its plugin instances.");
    let mut version = gauge("tidegate_worker_app_version", "The version that its slots run; 0: none yet.");
    let mut keys = gauge("tidegate_worker_app_keys", "Keys in its buckets, if there are any.");
    let mut key_bytes =
        gauge("tidegate_worker_app_key_bytes", "Bytes of its keys and their values, of `keys_bytes_max`.");
    for ((tenant, app), slots) in &running {
        // Most apps have none.
        if slots.keys > 0 {
            keys.push(&[("tenant", tenant), ("app", app)], slots.keys as f64);
            key_bytes.push(&[("tenant", tenant), ("app", app)], slots.key_bytes as f64);
        }
        for (state, value) in states {
            slots_now.push(&[("tenant", tenant), ("app", app), ("state", state)], value(slots));
        }
        memory.push(&[("tenant", tenant), ("app", app)], slots.memory_bytes as f64);
        if *app != OTHERS {
            version.push(&[("tenant", tenant), ("app", app)], f64::from(slots.version));
        }
    }
    all.extend([slots_now, memory, version, keys, key_bytes]);
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
    if let Some(lanes) = &app.lanes {
        let all = sum.lanes.get_or_insert_default();
        all.open += lanes.open;
        all.without_credit += lanes.without_credit;
        all.events_under_way += lanes.events_under_way;
        all.clients_paused += lanes.clients_paused;
        all.events += lanes.events;
        all.events_lost += lanes.events_lost;
    }
    if let Some(slots) = &app.slots {
        let all = sum.slots.get_or_insert_default();
        all.count += slots.count;
        all.waiting += slots.waiting;
        all.keys += slots.keys;
        all.key_bytes += slots.key_bytes;
        all.suspended += slots.suspended;
        all.asleep += slots.asleep;
        all.without_place += slots.without_place;
        all.restarts += slots.restarts;
        all.turns += slots.turns;
        all.failed += slots.failed;
        all.cpu_ms += slots.cpu_ms;
        all.throttled_ms += slots.throttled_ms;
        all.memory_bytes += slots.memory_bytes;
        all.turn_times.merge(&slots.turn_times);
        all.queue_times.merge(&slots.queue_times);
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

    fn measured(mut app: AppEntry) -> AppEntry {
        let slots = app.slots.as_mut().unwrap();
        slots.turn_times.add(std::time::Duration::from_micros(7), slots.turns);
        app
    }

    fn lines(family: Family, of: &str) -> Vec<String> {
        let text = tidegate_exporter::text(vec![family]);
        text.lines().filter(|line| line.contains("_count{") && line.contains(of)).map(str::to_owned).collect()
    }

    #[test]
    fn apps_with_few_turns_share_one_histogram_and_those_without_any_have_none() {
        let apps =
            [app("a/x", 5), app("a/y", 50), app("b/idle", 0), app("b/y", 9), app("(others)/(others)", 70)];
        let apps = apps.map(measured);
        let [turns, _] = times(&apps, 2);
        let name = "tidegate_worker_app_turn_seconds_count";
        let expected = [
            format!("{name}{{tenant=\"a\",app=\"y\"}} 50"),
            format!("{name}{{tenant=\"b\",app=\"y\"}} 9"),
            format!("{name}{{tenant=\"(others)\",app=\"(others)\"}} 75"),
        ];
        assert_eq!(lines(turns, "turn_seconds"), expected);
    }

    /// What a node with more apps than are told by name is asked for every few seconds.
    #[test]
    fn a_scrape_of_a_thousand_busy_apps_is_small_enough() {
        let mut apps: Vec<_> = (0..1_200)
            .map(|number| {
                measured(app(&format!("tenant-{:03}/app-{number:04}", number % 100), 1_000_000 + number))
            })
            .collect();
        for app in &mut apps {
            app.lanes = Some(LanesEntry { events: u64::from(u32::MAX), ..LanesEntry::default() });
        }
        let status = Status {
            node: "node".into(),
            roles: Vec::new(),
            version: String::new(),
            pid: 1,
            uptime_s: 1,
            ready: true,
            addresses: crate::status::Addresses::default(),
            apps,
            instances: Some(crate::status::InstancesEntry { count: 1, max: 1, kept_bytes: 0 }),
            process: crate::status::ProcessEntry::default(),
            counters: std::collections::BTreeMap::new(),
        };
        let crate::config::MetricsConfig { apps_max, histograms_max, .. } = Default::default();
        let began = std::time::Instant::now();
        let all = families(&status, &[], Most { apps: apps_max, histograms: histograms_max });
        let text = tidegate_exporter::text(all);
        println!("{} bytes, {} lines in {:?}", text.len(), text.lines().count(), began.elapsed());
        assert!(text.len() < 2_000_000, "{} bytes", text.len());
    }

    #[test]
    fn no_app_can_be_called_as_the_others_are() {
        assert!(tidegate_base::Label::new(OTHERS).is_err());
    }
}
