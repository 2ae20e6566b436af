//! Somebody dies in the middle of a deployment, or wants another one.

use std::path::Path;

use serde_json::Value;
use tidegate_harness::eventually;

use super::start_versioned;
use super::traffic::Traffic;
use crate::binary::{Going, Node, Operator, cluster_folder_of, run, said, stays_at, wasm};

const CLIENTS: usize = 8;

/// Begins to deploy the twin with a canary, and waits until clients use it.
async fn canary(operator: &Operator, window: &str) -> Going {
    let twin = wasm("versioned-twin");
    let arguments = ["deploy", "test", &twin, "--canary", "25%", "--for", window, "--events-min", "20"];
    let mut going = operator.start(&arguments);
    going.tells("canary: 1 of 4").await;
    going
}

/// The word with which a version answers: 0 is what the workers' settings name, and what a cluster goes back to first.
fn word_of(version: u64) -> &'static str {
    if version == 0 { "v1" } else { "twin" }
}

/// A cluster of two workers with two slots each, and clients that use it.
struct Story {
    folder: tempfile::TempDir,
    register: Node,
    gateway: Node,
    workers: [Node; 2],
    operator: Operator,
    traffic: Traffic,
}

impl Story {
    async fn begin() -> Self {
        let folder = cluster_folder_of("versioned");
        let at = folder.path();
        let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
        let registers = register.register();
        stays_at(at, &registers);
        let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
        let workers =
            ["worker.toml", "worker-2.toml"].map(|it| Node::of_cluster(at, "worker", it, &registers));
        let operator = Operator::of_cluster(at, &registers);
        assert_eq!(operator.settled(4).await, 0);
        let traffic = Traffic::start(gateway.listener("ws"), CLIENTS, 4).await;
        Self { folder, register, gateway, workers, operator, traffic }
    }

    /// The place in `workers` of the one with the canary.
    async fn canarys_worker(&self) -> usize {
        let has_it = |worker: &Value| worker["slots"].as_array().unwrap().contains(&Value::from(1));
        eventually("a worker says that it runs the canary", || {
            let app = self.operator.app()?;
            app["workers"].as_array()?.iter().position(has_it)
        })
        .await
    }
}

/// The gateway's counter.
fn events_lost(folder: &Path) -> u64 {
    let status = said(&run(folder, &["status", "--data-dir", "data/g1", "--json"]));
    let counters = status["counters"].as_object().unwrap();
    counters["tidegate_gateway_events_lost_total"].as_u64().unwrap()
}

/// One of the two workers dies while a canary is judged. However it ends, everybody says the same of it.
async fn a_worker_dies(with_canary: bool) {
    let story = Story::begin().await;
    let going = canary(&story.operator, "2s").await;
    let canarys = story.canarys_worker().await;
    let victim = if with_canary { canarys } else { 1 - canarys };
    let Story { folder, register, gateway, workers, operator, traffic } = story;
    let [first, second] = workers;
    let (victim, survivor) = if victim == 0 { (first, second) } else { (second, first) };
    victim.process.kill();

    let ran = going.end().await;
    let stable = operator.settled(2).await;
    let (code, outcome) = if stable == 1 { (0, "committed") } else { (70, "rolled-back") };
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(operator.outcomes(), [(1, outcome.to_owned())]);
    let closed = operator.history()[0]["report"]["clients"]["closed"].clone();
    assert_eq!(closed, 0);

    let all = traffic.stop().await;
    let unanswered: usize = all.iter().map(|heard| heard.lost()).sum();
    assert_eq!(events_lost(folder.path()), unanswered as u64, "what was lost is counted");
    for mut heard in all {
        heard.says("after", &format!("{} after", word_of(stable))).await;
    }
    for node in [survivor, gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_with_the_canary_dies_and_the_deployment_ends_with_the_other() {
    a_worker_dies(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_the_canary_dies_and_the_deployment_ends_with_the_other() {
    a_worker_dies(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_hangs_before_it_has_prepared_is_not_waited_for_once_it_is_gone() {
    let Story { folder, register, gateway, workers, operator, traffic } = Story::begin().await;
    let [hung, other] = workers;
    hung.process.freeze();
    let mut going = operator.start(&["deploy", "test", &wasm("versioned-twin")]);
    going.tells("worker-2: prepared").await;
    assert_eq!(operator.outcomes(), [(1, "preparing".to_owned())]);
    hung.process.kill();
    let ran = going.end().await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(operator.settled(2).await, 1);

    let all = traffic.stop().await;
    let unanswered: usize = all.iter().map(|heard| heard.lost()).sum();
    assert_eq!(events_lost(folder.path()), unanswered as u64, "what was lost is counted");
    for mut heard in all {
        heard.says("after", "twin after").await;
    }
    for node in [other, gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_that_is_killed_while_a_canary_is_judged_goes_on_when_it_is_back() {
    let story = Story::begin().await;
    let going = canary(&story.operator, "2s").await;
    let Story { folder, register, gateway, workers, operator, traffic } = story;
    register.process.kill();
    let register = Node::start(folder.path(), &["register", "-c", "register.toml", "--json"]);

    // Whoever asked hears that it is out of sight, and where to look.
    let ran = going.end().await;
    assert_eq!(ran.code, 69, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("tidegate history default/test"), "{}", ran.stderr);

    let stable = operator.settled(4).await;
    assert_eq!(operator.outcomes(), [(1, "committed".to_owned())], "{:?}", operator.history());
    for mut heard in traffic.stop().await {
        assert!(heard.is_whole(&["v1", "twin"]), "{:?}", heard.answers);
        heard.says("after", &format!("{} after", word_of(stable))).await;
    }
    let [first, second] = workers;
    for node in [first, second, gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_deployments_at_once_the_second_is_told_of_the_first_which_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), 4);
    let first = canary(&operator, "60s").await;
    let v2 = wasm("versioned-v2");
    for arguments in [&["deploy", "test", &v2][..], &["rollback", "test", "--to", "1"]] {
        let second = operator.run(arguments);
        assert_eq!(second.code, 69, "{}", second.stderr);
        for word in ["version 2 (sha256:", "judging", "--cancel"] {
            assert!(second.stderr.contains(word), "{word} in {}", second.stderr);
        }
    }
    assert_eq!(operator.run(&["deploy", "test", "--cancel"]).code, 0);
    let ran = first.end().await;
    assert_eq!(ran.code, 70, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(operator.settled(4).await, 1);
    assert_eq!(operator.run(&["deploy", "test", &v2]).code, 0);
    let outcomes = ["committed", "rolled-back", "committed"].map(str::to_owned);
    assert_eq!(operator.outcomes(), [1, 2, 3].into_iter().zip(outcomes).collect::<Vec<_>>());
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_goes_on_when_whoever_asked_for_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), 4);
    let traffic = Traffic::start(node.listener("ws"), CLIENTS, 4).await;
    canary(&operator, "1s").await.kill();
    eventually("it has ended", || (operator.outcomes().get(1)?.1 == "committed").then_some(())).await;
    assert_eq!(operator.settled(4).await, 2);
    for heard in traffic.stop().await {
        assert!(heard.is_whole(&["v1", "twin"]), "{:?}", heard.answers);
    }
    assert_eq!(node.process.terminate(), Some(0));
}
