//! What operators see of all nodes, asked through the register.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_gateway::settings::SlowPolicy;
use tidegate_harness::{Client, Cluster, LinkKind, Process, eventually};
use tidegate_wire::question::ConnectionFilter;

use crate::binary::{Node, cluster_folder, run, said, wasm};

/// Everybody whose settings are in the folder of a cluster.
struct Members {
    _register: Node,
    /// Where it is.
    registers: String,
    gateways: [Node; 2],
    workers: [Node; 2],
}

impl Members {
    fn start(at: &Path) -> Self {
        let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
        let registers = register.register();
        let start = |role, file| Node::of_cluster(at, role, file, &registers);
        let gateways = ["gateway.toml", "gateway-2.toml"].map(|file| start("gateway", file));
        let workers = ["worker.toml", "worker-2.toml"].map(|file| start("worker", file));
        Self { _register: register, registers, gateways, workers }
    }
}

#[tokio::test]
async fn the_status_of_every_node_is_told_from_anywhere_and_one_that_hangs_costs_only_its_own() {
    let folder = cluster_folder();
    let at = folder.path();
    let Members { _register, registers, gateways, workers } = Members::start(at);
    let _client = Client::of_callbacks(gateways[1].listener("ws")).await;

    let from_outside = ["status", "--register", &registers, "--identity", "certs/ann", "--json"];
    for asked in [&from_outside[..], &["status", "--all", "--data-dir", "data/r", "--json"]] {
        let all = said(&run(at, asked));
        let names: Vec<_> = all.as_array().unwrap().iter().map(|of| of["node"].as_str().unwrap()).collect();
        assert_eq!(names, ["register-1", "gateway-1", "gateway-2", "worker-1", "worker-2"]);
        for (place, of) in all.as_array().unwrap().iter().enumerate() {
            assert_eq!((&of["answer"]["node"], &of["missing"]), (&of["node"], &Value::Null), "{of}");
            let clients = if place == 2 { 1 } else { 0 };
            assert_eq!(of["answer"]["apps"][0]["clients"].as_u64().unwrap_or(0), clients, "{of}");
        }
    }
    let one = run(at, &["status", "--node", "worker-2", "--data-dir", "data/r"]);
    assert!(one.code == 0 && one.stdout.starts_with("worker-2 (worker), ready"), "{}", one.stdout);
    let none = run(at, &["status", "--node", "worker-3", "--data-dir", "data/r"]);
    assert!(none.code == 64 && none.stderr.contains("worker-2"), "{}", none.stderr);
    // Only a register knows the others.
    let of_worker = run(at, &["status", "--all", "--data-dir", "data/w1"]);
    assert!(of_worker.code == 69 && of_worker.stderr.contains("--register"), "{}", of_worker.stderr);

    workers[0].process.freeze();
    let began = Instant::now();
    let all = run(at, &["status", "--all", "--data-dir", "data/r"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(all.stdout.contains("worker-1 (worker) is missing: it did not answer within"), "{}", all.stdout);
    assert!(all.stdout.contains("worker-2 (worker), ready"), "{}", all.stdout);
}

#[tokio::test]
async fn the_connections_of_all_gateways_are_listed_and_looked_for() {
    let folder = cluster_folder();
    let at = folder.path();
    let Members { _register, registers, gateways, workers: _workers } = Members::start(at);
    let (mut ann, mut bob) = (
        Client::of_callbacks(gateways[0].listener("ws")).await,
        Client::of_callbacks(gateways[1].listener("ws")).await,
    );
    ann.call("bind_uid", json!({"uid": "ann"})).await;
    ann.call("join_group", json!({"groups": ["a", "b"]})).await;
    bob.call("bind_uid", json!({"uid": "b\u{1b}[2Job"})).await;
    let operator = ["--register", &registers, "--identity", "certs/ann", "--json"];
    let list = |more: &[&str]| said(&run(at, &[&["connections"], more, &operator[..]].concat()));
    // A command is applied after its turn.
    let all = eventually("uid and groups are there", || {
        let all = list(&[]);
        let its = |id: &str| all["connections"].as_array()?.iter().find(|it| it["client"] == id).cloned();
        let (first, second) = (its(ann.id())?, its(bob.id())?);
        (first["groups"] == 2 && second["uid"].is_string()).then_some(all)
    })
    .await;
    assert_eq!((&all["total"], &all["missing"]), (&json!(2), &json!([])), "{all}");
    let first = &list(&["--uid", "ann"])["connections"];
    assert_eq!(first.as_array().unwrap().len(), 1, "{first}");
    assert_eq!((first[0]["client"].as_str(), first[0]["state"].as_str()), (Some(ann.id()), Some("open")));
    assert_eq!((&first[0]["app"], &first[0]["protocol"]), (&json!("default/test"), &json!("ws")));
    assert!(
        first[0]["worker"].as_str().unwrap().starts_with("worker-") && first[0]["slot"].is_u64(),
        "{first}"
    );
    assert!(first[0]["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{first}");
    assert_eq!(list(&["--client", bob.id()])["connections"][0]["client"], bob.id());
    assert_eq!(list(&["--app", "other"])["total"], 0);
    let one = list(&["--limit", "1"]);
    assert_eq!((one["connections"].as_array().unwrap().len(), &one["total"]), (1, &json!(2)));

    let table = run(at, &["connections", "--limit", "1", "--app", "test", "--data-dir", "data/r"]);
    assert!(
        table.stdout.starts_with("CLIENT") && table.stderr.contains("1 of 2 connections"),
        "{}",
        table.stderr
    );
    // What a client is called does not steer the operator's terminal.
    let table = run(at, &["connections", "--data-dir", "data/r"]);
    assert!(!table.stdout.contains('\u{1b}') && table.stdout.contains("\\u{1b}[2Job"), "{}", table.stdout);
}

#[tokio::test]
async fn a_walk_over_many_connections_finds_each_once_and_says_what_waits_for_one() {
    // More than a shard tells at a time.
    const CLIENTS: usize = 600;
    const BYTES: usize = 20_000;
    let cluster = Cluster::of("callbacks").gateways(2).workers(2).shards(2).link(LinkKind::Quic);
    let cluster = cluster.limits(|limits| limits.slow_policy = SlowPolicy::DropNewest).start().await;
    cluster.until_linked().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(cluster.ws(0)).await);
    }
    let lookout = cluster.gateway(0).lookout();
    let look = async |of: &ConnectionFilter| {
        let found = lookout.connections(of).await;
        let ids: BTreeSet<_> = found.connections.iter().map(|it| it.client.to_string()).collect();
        assert_eq!(ids.len(), found.connections.len(), "each is told once");
        (found.total, found.connections)
    };
    let all = ConnectionFilter { limit: 10_000, ..ConnectionFilter::default() };
    let (total, found) = look(&all).await;
    assert_eq!((total, found.len()), (CLIENTS as u64, CLIENTS));
    assert!(
        found
            .iter()
            .all(|it| it.state == "open" && it.age_s < 600 && it.worker.is_some() && it.slot.is_some())
    );
    let workers: BTreeSet<_> = found.iter().flat_map(|it| &it.worker).collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
    let (total, some) = look(&ConnectionFilter { limit: 300, ..all.clone() }).await;
    assert_eq!((total, some.len()), (CLIENTS as u64, 300));
    let elsewhere = cluster.gateway(1).lookout();
    assert_eq!(elsewhere.connections(&all).await.total, 0);

    let mut slow = Client::of_callbacks_with_little_room(cluster.ws(0)).await;
    slow.call("bind_uid", json!({"uid": "slow"})).await;
    let mut fast = cluster.client(0).await;
    let of_slow = ConnectionFilter { uid: Some("slow".into()), ..all };
    let mut queued = 0;
    for _ in 0..800 {
        fast.call("send_to_uid", json!({"uids": ["slow"], "message": "x".repeat(BYTES)})).await;
        let (total, found) = look(&of_slow).await;
        queued = found[0].queued_bytes;
        assert_eq!((total, found.len(), found[0].client.to_string().as_str()), (1, 1, slow.id()));
        if queued > 0 {
            break;
        }
    }
    assert!(queued > 0, "what its socket does not take waits for it");
    cluster.stop().await;
}

/// Waits until both gateways know the two slots of both workers.
async fn all_slots_are_known(at: &Path) {
    eventually("both gateways know all slots", || {
        let all = said(&run(at, &["status", "--all", "--data-dir", "data/r", "--json"]));
        let knows = |gateway: usize| {
            let slots = all[gateway]["answer"]["apps"][0]["clients_per_slot"].as_array();
            slots.is_some_and(|slots| slots.len() == 4)
        };
        (knows(1) && knows(2)).then_some(())
    })
    .await;
}

/// The lines of an answer of `logs --json`.
fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Which of the plugin's lines it is.
fn number(line: &Value) -> u32 {
    line["text"]
        .as_str()
        .and_then(|text| text.strip_prefix("line ")?.parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}

#[tokio::test]
async fn the_log_of_an_app_is_read_and_followed_over_all_workers_through_a_deployment_and_a_restart() {
    let folder = cluster_folder();
    let at = folder.path();
    let Members { _register, registers, gateways, workers } = Members::start(at);
    let operator = ["--register", &registers, "--identity", "certs/ann"];
    let logs = |more: &[&str]| run(at, &[&["logs", "test", "--json"], more, &operator[..]].concat());
    all_slots_are_known(at).await;
    // The emptier of two slots gets a client, so all four have some.
    let mut clients = Vec::new();
    for n in 0..16 {
        let mut client = Client::of_callbacks(gateways[n % 2].listener("ws")).await;
        client.call("log", json!({"level": "info", "line": format!("line {n}")})).await;
        clients.push(client);
    }
    let all = lines(&logs(&[]).stdout);
    let of_plugin: Vec<_> = all.iter().filter(|line| line["by_plugin"] == true).collect();
    assert_eq!(of_plugin.len(), 16, "{all:?}");
    // Two that were written within a millisecond, on two workers, may stand in any order.
    assert!(all.is_sorted_by_key(|line| line["at_ms"].as_u64()), "{all:?}");
    for n in 0..16 {
        let text = format!("line {n}");
        assert!(of_plugin.iter().any(|line| line["text"] == *text && line["level"] == "info"), "{all:?}");
    }
    for worker in ["worker-1", "worker-2"] {
        let its: Vec<_> =
            of_plugin.iter().filter(|line| line["worker"] == worker).map(|line| number(line)).collect();
        assert!(!its.is_empty() && its.is_sorted(), "{all:?}");
    }
    assert_eq!(lines(&logs(&["-n", "3"]).stdout), all[all.len() - 3..]);

    let follower = [&["logs", "test", "-f", "--json", "-n", "1", "--level", "warn"], &operator[..]].concat();
    let follower = Process::start(at, &follower);
    let comes = |text: &str| {
        let is_it = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["text"].as_str().is_some_and(|it| it.contains(text)).then_some(line)
        };
        follower.line(text, is_it)
    };
    clients[0].call("log", json!({"level": "info", "line": "not loud enough"})).await;
    clients[0].call("log", json!({"level": "warn", "line": "loud \u{1b}[2J"})).await;
    assert_eq!(comes("loud")["text"], "loud \u{1b}[2J", "and what is not was left out");
    clients[1].tell("trap", json!({})).await;
    let trap = comes("ended its instance");
    assert_eq!((&trap["by_plugin"], &trap["level"]), (&json!(false), &json!("error")), "{trap}");
    let deployed = run(at, &[&["deploy", "test", &*wasm("callbacks")], &operator[..]].concat());
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    let table = run(at, &[&["logs", "test"], &operator[..]].concat()).stdout;
    assert!(
        table.contains("version 1 begins to serve") && table.contains("another instance serves"),
        "{table}"
    );
    assert!(table.contains("loud \\u{1b}[2J") && !table.contains('\u{1b}'), "{table}");

    // The other worker is another one afterwards, with a log of its own.
    let [first, second] = workers;
    assert_eq!(second.process.terminate(), Some(0));
    let _second = Node::of_cluster(at, "worker", "worker-2.toml", &registers);
    assert_eq!(first.process.terminate(), Some(0));
    clients[2].call("log", json!({"level": "warn", "line": "on the other one"})).await;
    assert_eq!(comes("on the other one")["worker"], "worker-2");

    let none = run(at, &["logs", "none", "--data-dir", "data/r"]);
    assert!(none.code == 69 && none.stderr.contains("no worker has app default/none"), "{}", none.stderr);
}
