//! What nodes tell those who watch them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

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
    let (_, text) = get(worker.metrics(), "/metrics");
    assert!(
        number(&text, &format!("tidegate_worker_app_turns_total{app}")).is_some_and(|n| n >= 2.0),
        "{text}"
    );
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

#[tokio::test]
async fn the_text_is_what_prometheus_own_tool_wants() {
    let checked = |text: &str| {
        let mut child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Some(child.wait_with_output().unwrap())
    };
    if checked("").is_none() {
        let required = std::env::var("TIDEGATE_REQUIRE_PROMTOOL").is_ok_and(|value| value == "1");
        assert!(!required, "TIDEGATE_REQUIRE_PROMTOOL=1, but there is no promtool on the PATH");
        println!("skipped: no promtool on the PATH");
        return;
    }
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
    let output = checked(&text).unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(node.process.terminate(), Some(0));
}
