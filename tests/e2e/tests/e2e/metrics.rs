//! What nodes tell those who watch them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;
use tidegate_harness::{Client, Process, eventually};

use crate::binary::{Node, cluster_folder, run};

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

/// The status and the body of an answer. Blocks: the node is another process.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The number of exactly this name, with its labels.
fn number(text: &str, name: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(of)
}

/// That of the first link to a node of this role.
fn link_to(text: &str, name: &str, role: &str) -> f64 {
    let start = format!("{name}{{peer_role=\"{role}\",");
    let line = text.lines().find(|line| line.starts_with(&start)).expect(text);
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn add_to(file: &Path, text: &str) {
    let settings = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, format!("{text}{settings}")).unwrap();
}

#[tokio::test]
async fn every_role_tells_its_numbers_and_when_it_is_ready() {
    let folder = cluster_folder();
    let at = folder.path();
    for role in ["register", "gateway", "worker"] {
        add_to(&at.join(format!("{role}.toml")), METRICS);
    }
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    let mut client = Client::of_callbacks(gateway.listener("ws")).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "hello");

    for (node, role) in [(&register, "register"), (&gateway, "gateway"), (&worker, "worker")] {
        for path in ["/health/live", "/health/startup", "/health/ready"] {
            assert_eq!(get(node.metrics(), path).0, 200, "{role} {path}");
        }
        let (_, text) = get(node.metrics(), "/metrics");
        assert_eq!(number(&text, "tidegate_node_ready"), Some(1.0), "{text}");
        assert!(text.contains(&format!("roles=\"{role}\"")), "{text}");
        assert_eq!(
            number(&text, "tidegate_node_cluster_nodes{role=\"gateway\"}"),
            Some(1.0),
            "{role}: {text}"
        );
        assert!(number(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{text}");
    }
    let (_, text) = get(gateway.metrics(), "/metrics");
    let app = "{tenant=\"default\",app=\"test\"}";
    assert_eq!(number(&text, &format!("tidegate_gateway_clients{app}")), Some(1.0), "{text}");
    assert_eq!(number(&text, &format!("tidegate_gateway_slots{app}")), Some(2.0), "{text}");
    assert!(number(&text, "tidegate_gateway_events_total").is_some_and(|events| events >= 1.0), "{text}");
    assert_eq!(number(&text, &format!("tidegate_gateway_lanes{app}")), Some(1.0), "{text}");
    assert_eq!(number(&text, &format!("tidegate_gateway_app_events_lost_total{app}")), Some(0.0), "{text}");
    assert!(link_to(&text, "tidegate_link_rtt_seconds", "worker") > 0.0, "{text}");
    let (_, text) = get(worker.metrics(), "/metrics");
    assert!(
        number(&text, &format!("tidegate_worker_app_turns_total{app}")).is_some_and(|n| n >= 2.0),
        "{text}"
    );
    // Turns that nobody has measured yet are counted with the next one that somebody has.
    let turns = number(&text, &format!("tidegate_worker_app_turn_seconds_count{app}"));
    assert!(turns.is_some_and(|n| n >= 1.0), "{text}");
    let waited = number(&text, &format!("tidegate_worker_app_queue_seconds_count{app}"));
    assert!(waited.is_some_and(|n| n >= 1.0), "{text}");
    assert!(
        number(&text, &format!("tidegate_worker_app_memory_bytes{app}"))
            .is_some_and(|bytes| bytes >= 65_536.0),
        "{text}"
    );
    assert!(link_to(&text, "tidegate_link_packets_sent_total", "gateway") >= 1.0, "{text}");
    let running = "tidegate_worker_slots{tenant=\"default\",app=\"test\",state=\"running\"}";
    assert_eq!(number(&text, running), Some(2.0), "{text}");

    // Without a worker the gateway says that it is not ready, and why.
    assert_eq!(worker.process.terminate(), Some(0));
    let address = gateway.metrics();
    let not_ready = || match get(address, "/health/ready") {
        (503, why) => Some(why),
        _ => None,
    };
    let why = eventually("it is not ready any more", not_ready).await;
    assert_eq!(why, "an app has no slot that takes clients\n");
    assert_eq!(get(address, "/health/startup").0, 200);
    for node in [gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test]
async fn a_node_that_has_not_started_says_so_before_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let gone = "[cluster]\nidentity = \"certs/gateway-1\"\nregisters = [\"127.0.0.1:1\"]\n";
    for arguments in [&["cert", "init"][..], &["cert", "node", "gateway", "gateway-1"]] {
        assert_eq!(run(at, arguments).code, 0);
    }
    let app =
        "[gateway]\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"test\"\nlisten = [\"ws://127.0.0.1:0\"]\n";
    // Its port is not known before it is ready, which it never is.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(at.join("gateway.toml"), format!("[metrics]\nlisten = \"{port}\"\n{gone}{app}")).unwrap();
    let node = Process::start(at, &["gateway", "-c", "gateway.toml", "--json"]);
    eventually("it listens", || TcpStream::connect(port).ok()).await;
    assert_eq!(get(port, "/health/live").0, 200);
    for path in ["/health/startup", "/health/ready"] {
        let (status, why) = get(port, path);
        assert_eq!(status, 503, "{path}");
        assert!(why.contains("starting") || why.contains("register") || why.contains("heard"), "{why}");
    }
    drop(node);
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(folder.path().join("tidegate.toml"), format!("[metrics]\nlisten = \"{address}\"\n"))
        .unwrap();
    let ran = run(folder.path(), &["up"]);
    assert_eq!(ran.code, 69, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(&address.to_string()), "{}", ran.stderr);
    assert!(ran.stderr.contains("change `listen` in [metrics]"), "{}", ran.stderr);
}

/// Prometheus' own tool, if it is here.
fn promtool(folder: &Path, arguments: &[&str], input: &str) -> Option<Output> {
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        let required = std::env::var("TIDEGATE_REQUIRE_PROMTOOL").is_ok_and(|value| value == "1");
        assert!(!required, "TIDEGATE_REQUIRE_PROMTOOL=1, but there is no promtool on the PATH");
        println!("skipped: no promtool on the PATH");
        return None;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{arguments:?}: {}\n{input}", String::from_utf8_lossy(&said));
    Some(output)
}

/// What an all-in-one says after somebody has used an app.
async fn scrape_of_an_all_in_one() -> String {
    let folder = tempfile::tempdir().unwrap();
    let wasm = tidegate_artifacts::plugin("callbacks");
    let app = format!(
        "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm.display()
    );
    std::fs::write(folder.path().join("tidegate.toml"), format!("{METRICS}{app}")).unwrap();
    let node = Node::start(folder.path(), &["up", "--json"]);
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    client.call("instance", json!({})).await;
    let (_, text) = get(node.metrics(), "/metrics");
    assert_eq!(node.process.terminate(), Some(0));
    text
}

#[tokio::test]
async fn the_text_is_what_prometheus_own_tool_wants() {
    promtool(Path::new("."), &["check", "metrics"], &scrape_of_an_all_in_one().await);
}

/// examples/monitoring
fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/monitoring")
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let folder = monitoring();
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
    ] {
        promtool(&folder, &arguments, "");
    }
}

/// The names in a text that metrics of Tidegate or of its process can have.
fn metrics_named(text: &str) -> BTreeSet<&str> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_of_name(c));
    words.filter(|word| word.starts_with("tidegate_") || word.starts_with("process_")).collect()
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_rules_is_there() {
    let scraped = scrape_of_an_all_in_one().await;
    let typed = scraped.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut known: BTreeSet<_> = typed.collect();
    known.extend(metrics_named(&scraped).into_iter().filter(|name| name.ends_with("_bucket")));
    // Only links over QUIC have these; every_role_tells_its_numbers_and_when_it_is_ready sees them.
    known.extend([
        "tidegate_link_rtt_seconds",
        "tidegate_link_congestion_window_bytes",
        "tidegate_link_packets_sent_total",
        "tidegate_link_packets_lost_total",
    ]);
    for file in ["dashboard.json", "rules.yml"] {
        let text = std::fs::read_to_string(monitoring().join(file)).unwrap();
        let named = metrics_named(&text);
        assert!(named.len() > 10, "{named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names what no node tells: {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(monitoring().join("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 20);
}
