//! Apps that keep failing or write too much: what it costs them, and nobody else.

use std::fs::File;

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, eventually};
use tidegate_worker::{AppStatus, OnFailure};

use crate::binary::{Node, run, said, says, wasm};

/// Faults in a row after which a slot waits longer than a story takes.
const MANY: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_traps_on_every_message_backs_off_and_a_quiet_one_beside_it_does_not_notice() {
    const MESSAGES: u64 = 200;
    let mut cluster = Cluster::of("versioned-message-traps").apps(&["failing", "quiet"]).start().await;
    let mut sender = Client::connect(cluster.listener(0, 0, 0)).await;
    let mut waiting = Client::connect(cluster.listener(0, 0, 0)).await;
    let mut quiet = Client::connect(cluster.listener(0, 1, 0)).await;
    for n in 0..MESSAGES {
        sender.feed(format!("message {n}")).await;
    }
    sender.flush().await;
    eventually("it backs off", || {
        let AppStatus { failed, waiting, .. } = status(&cluster, "failing");
        (failed >= MANY && waiting == 1).then_some(())
    })
    .await;
    waiting.send("hello").await;
    // A command of the fixture, which does not trap.
    for _ in 0..MESSAGES {
        says(&mut quiet, "mine", "message-traps mine 0").await;
    }
    let AppStatus { failed, restarts, waiting: idle, .. } = status(&cluster, "quiet");
    assert_eq!((failed, restarts, idle), (0, 0, 0));

    // Nothing that waits is lost.
    let report = cluster.swap(0, "versioned").await;
    assert_eq!(report.failure, None);
    let AppStatus { failed, restarts, suspended, .. } = status(&cluster, "failing");
    assert!(failed <= MESSAGES / 4, "{failed} turns have trapped: it waits between them");
    assert!(restarts <= failed && suspended == 0);
    for n in failed..MESSAGES {
        assert_eq!(sender.text().await, format!("v1 message {n}"));
    }
    assert_eq!(waiting.text().await, "v1 hello");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_slot_that_backs_off_is_answered_when_it_serves_again() {
    let cluster = Cluster::of("versioned").start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    let mut other = Client::connect(cluster.ws(0)).await;
    for _ in 0..MANY {
        client.feed("trap").await;
    }
    client.feed("after them").await;
    client.flush().await;
    assert_eq!(client.text().await, "v1 after them");
    says(&mut other, "hello", "v1 hello").await;
    let AppStatus { failed, restarts, waiting, .. } = status(&cluster, "test");
    assert_eq!((failed, restarts, waiting), (MANY, MANY, 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_slot_starts_nothing_until_a_good_version_answers_what_waits() {
    let mut cluster =
        Cluster::of("versioned-message-traps").app(|app| app.on_failure = OnFailure::Suspend).start().await;
    let mut clients = [Client::connect(cluster.ws(0)).await, Client::connect(cluster.ws(0)).await];
    for round in 0..2 {
        let [client, other] = &mut clients;
        let faults = status(&cluster, "test").failed;
        for n in 0..12 {
            client.feed(format!("message {n}")).await;
        }
        client.flush().await;
        eventually("it is suspended", || (status(&cluster, "test").suspended == 1).then_some(())).await;
        other.send("hello").await;
        let mut late = Client::connect(cluster.ws(0)).await;
        late.send("late").await;
        assert_eq!(status(&cluster, "test").failed, faults + 10, "round {round}");

        let report = cluster.swap(0, "versioned").await;
        assert_eq!(report.failure, None);
        assert_eq!(client.text().await, "v1 message 10");
        assert_eq!(client.text().await, "v1 message 11");
        assert_eq!(other.text().await, "v1 hello");
        assert_eq!(late.text().await, "v1 late");
        let AppStatus { failed, suspended, waiting, .. } = status(&cluster, "test");
        assert_eq!((failed, suspended, waiting), (faults + 10, 0, 0), "round {round}");
        late.close().await;

        // What the version did before does not count when it comes again.
        let report = cluster.swap(0, "versioned-message-traps").await;
        assert_eq!(report.failure, None);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_counted_and_told() {
    const LINES: u64 = 1000;
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\nlog_lines_per_s = 1\n\
         turn_cpu_ms = 5000\n",
        wasm("callbacks")
    );
    std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
    let log = folder.path().join("log");
    let node = Node::logging(folder.path(), &["up", "--json"], File::create(&log).unwrap());
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    let line = |level: &str| json!({"call": "log", "level": level, "line": "a flood", "quiet": true});
    // What nobody wants to see does not count.
    let calls: Vec<Value> = (0..LINES).map(|_| line("debug")).collect();
    client.tell("batch", json!({ "calls": calls })).await;
    client.call("instance", json!({})).await;
    assert_eq!(dropped(&folder), 0);

    let calls: Vec<Value> = (0..LINES).map(|_| line("warn")).collect();
    client.tell("batch", json!({ "calls": calls })).await;
    assert_eq!(client.call("instance", json!({})).await["reason"], "new");
    let dropped = dropped(&folder);
    assert!(dropped > LINES / 2 && dropped <= LINES - 2, "{dropped}");
    let text = std::fs::read_to_string(&log).unwrap();
    let written = text.lines().filter(|line| line.contains("a flood")).count();
    assert_eq!(written as u64, LINES - dropped, "each line is written or counted");
    assert!(
        text.contains("1 log lines were dropped: the app may write 1 a second (log_lines_per_s)"),
        "{text}"
    );
    assert_eq!(node.process.terminate(), Some(0));
}

/// How an app does on the only worker.
fn status(cluster: &Cluster, app: &str) -> AppStatus {
    let worker = &cluster.workers[0].as_ref().unwrap().worker;
    worker.status().into_iter().find(|of| of.name.app() == app).unwrap()
}

/// Lines of plugins' logs that the node of this folder has dropped.
fn dropped(folder: &tempfile::TempDir) -> u64 {
    let status = said(&run(folder.path(), &["status", "--json"]));
    status["counters"]["tidegate_worker_log_lines_dropped_total"].as_u64().unwrap()
}
