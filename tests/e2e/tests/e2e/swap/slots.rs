//! Swaps of slots that are not just waiting.

use std::time::Duration;

use serde_json::json;
use tidegate_harness::{Client, Cluster, SilentGateway, component, eventually};
use tidegate_wire::control::{RolloutPhase, Step};

use super::{one_in_each, says};
use crate::support::counted;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_cannot_restart_is_rescued_by_the_next_version() {
    let mut cluster = Cluster::of("versioned-restart-traps").slots(2).start().await;
    let mut clients = one_in_each(&cluster, 2).await;
    for client in &mut clients {
        says(client, "hello", "restart-traps hello").await;
    }
    let failed = || counted("tidegate_worker_instance_restarts_failed_total");
    let before = failed();
    clients[0].send("trap").await;
    clients[0].send("still there?").await;
    eventually("it does not restart", || (failed() >= before + 3).then_some(())).await;
    let report = cluster.swap(0, "versioned").await;
    assert_eq!(report.failure, None);
    assert_eq!(report.switches[0].state_bytes, 0, "there was nobody to ask for it");
    assert_eq!(report.switches[0].waiting_events, 1);
    assert_eq!(clients[0].text().await, "v1 still there?");
    says(&mut clients[0], "mine", "v1 mine 1").await;
    says(&mut clients[1], "mine", "v1 mine 1").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_in_a_long_turn_switches_after_it() {
    let hour = Duration::from_secs(3600);
    let mut cluster = Cluster::of("callbacks")
        .worker(move |worker| worker.query_wait = hour)
        .app(move |app| app.limits.turn_wall_ms = hour.as_millis() as u64)
        .start()
        .await;
    let mut asker = cluster.client(0).await;
    let mut other = cluster.client(0).await;
    let mut silent = SilentGateway::join(&cluster, 0).await;
    let version = cluster.swapper(0).shelve(component("callbacks"));
    cluster.swapper(0).order(version, RolloutPhase::Prepare, Step::Prepared).await;
    let asking = tokio::spawn(async move {
        let answer = asker.ask("get_all_client_count", json!({})).await;
        (asker, answer)
    });
    silent.asked().await;
    other.send("while it waits").await;
    let all = RolloutPhase::Switch { slots: 1 };
    cluster.swapper(0).begin(version, all).await;
    let step = || cluster.workers[0].as_ref()?.swapper.report().rollout.map(|rollout| rollout.step);
    eventually("it is to switch", || (step() == Some(Step::Switching)).then_some(())).await;
    silent.cut();
    let (mut asker, answer) = asking.await.unwrap();
    let report = cluster.swapper(0).order(version, all, Step::Switched).await;
    assert_eq!(answer["value"], 2);
    assert_eq!((report.failure, report.switches.len()), (None, 1));
    assert_eq!(other.text().await, "while it waits");
    assert_eq!(asker.call("instance", json!({})).await["version"], 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_module_under_another_number_restarts_every_slot_with_its_state() {
    let mut cluster = Cluster::of("versioned").slots(3).start().await;
    let mut clients = one_in_each(&cluster, 3).await;
    for client in &mut clients {
        says(client, "say a", "v1 say a 1 1").await;
    }
    for number in 2..8 {
        let report = cluster.swap(0, "versioned").await;
        assert_eq!((report.failure, report.version, report.switches.len()), (None, number, 3));
        for client in &mut clients {
            says(client, "say b", &format!("v1 say b {number} {number}")).await;
        }
    }
    let mut late = Client::connect(cluster.ws(0)).await;
    says(&mut late, "say c", "v1 say c 7 1").await;
    cluster.stop().await;
}
