//! Turns that never end well.

use std::time::Duration;

use tidegate_harness::{ClusterBuilder, SilentGateway, eventually};
use tidegate_worker::WorkerApp;

use super::{Siege, says};

/// How often each attack is repeated.
const TIMES: u64 = 5;

/// Whoever says this loses the instance of its slot, and nothing else.
async fn ends_in_a_fault(siege: Siege, command: &str, words: &[&str]) {
    let mut client = siege.client().await;
    let mut witness = siege.client().await;
    for n in 0..TIMES {
        client.send(command).await;
        // The connection is kept, and the next message finds an instance. Whoever shares the slot has only waited.
        says(&mut client, "still here", "still here").await;
        says(&mut witness, "so am I", "so am I").await;
        assert_eq!(siege.status().restarts, n + 1);
        siege.goes_on().await;
    }
    siege.complains(words).await;
    assert_eq!(siege.status().failed, TIMES);
    siege.end().await;
}

#[tokio::test]
async fn an_endless_loop_is_told_by_its_limit_and_the_quiet_app_goes_on() {
    ends_in_a_fault(Siege::of("loop").await, "loop", &["turn_cpu_ms", "on-message", "hostile"]).await;
}

#[tokio::test]
async fn an_endless_recursion_is_told_with_its_functions_and_the_quiet_app_goes_on() {
    ends_in_a_fault(Siege::of("recursion").await, "recurse", &["stack exhausted", "recurse"]).await;
}

#[tokio::test]
async fn a_memory_bomb_is_told_by_its_limit_and_the_quiet_app_goes_on() {
    let small = |app: &mut WorkerApp| {
        (app.limits.memory_mib, app.limits.turn_cpu_ms) = (32, 10_000);
    };
    ends_in_a_fault(Siege::with("memory", small).await, "memory", &["memory limit 32 MiB", "memory_mib"])
        .await;
}

#[tokio::test]
async fn a_sleep_of_an_hour_is_told_by_its_limit_and_the_quiet_app_goes_on() {
    let short = |app: &mut WorkerApp| app.limits.turn_wall_ms = 200;
    ends_in_a_fault(Siege::with("sleep", short).await, "sleep 3600000", &["turn_wall_ms", "200 ms"]).await;
}

#[tokio::test]
async fn a_plugin_that_traps_on_every_message_keeps_its_clients_and_the_quiet_app_goes_on() {
    let traps =
        |app: &mut WorkerApp| app.settings = [("message".into(), "trap".into())].into_iter().collect();
    let siege = Siege::with("traps", traps).await;
    let mut client = siege.client().await;
    // Few enough that the waits between its instances stay short.
    for n in 0..8 {
        client.send(format!("message {n}")).await;
    }
    siege.goes_on().await;
    eventually("each message has failed", || (siege.status().failed == 8).then_some(())).await;
    siege.complains(&["trapped", "unreachable"]).await;
    // Still connected: what it says is still taken, and fails.
    client.send("one more").await;
    eventually("it has failed too", || (siege.status().failed == 9).then_some(())).await;
    siege.end().await;
}

#[tokio::test]
async fn a_plugin_that_loops_in_every_slot_and_turn_does_not_hold_the_quiet_app_up() {
    let loops = |app: &mut WorkerApp| {
        (app.settings, app.slots) = ([("message".into(), "loop".into())].into_iter().collect(), 4);
    };
    // As many slots of the quiet app: both are counted before anybody talks.
    let siege = Siege::built("loops", loops, |cluster| cluster.slots(4).shards(2)).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = siege.client().await;
        for _ in 0..3 {
            client.send("go").await;
        }
        clients.push(client);
    }
    for _ in 0..5 {
        siege.goes_on().await;
    }
    eventually("all turns were stopped", || (siege.status().failed == 36).then_some(())).await;
    siege.complains(&["turn_cpu_ms"]).await;
    siege.end().await;
}

#[tokio::test]
async fn a_query_that_is_never_answered_is_told_by_the_limit_of_the_turn_and_the_quiet_app_goes_on() {
    let short = |app: &mut WorkerApp| app.limits.turn_wall_ms = 200;
    let siege = Siege::with("waits", short).await;
    let mut silent = SilentGateway::join(&siege.cluster, 0).await;
    let mut client = siege.client().await;
    for n in 0..3 {
        client.send("ask").await;
        silent.asked().await;
        says(&mut client, "still here", "still here").await;
        assert_eq!(siege.status().restarts, n + 1);
    }
    siege.complains(&["turn_wall_ms", "waited too long"]).await;
    silent.cut();
    siege.end().await;
}

#[tokio::test]
async fn a_query_whose_gateway_hangs_ends_with_what_the_others_said_and_the_quiet_app_goes_on() {
    let patient =
        |cluster: ClusterBuilder| cluster.worker(|worker| worker.query_wait = Duration::from_millis(100));
    let siege = Siege::built("hangs", |_| {}, patient).await;
    let mut silent = SilentGateway::join(&siege.cluster, 0).await;
    let mut client = siege.client().await;
    for _ in 0..3 {
        client.send("ask").await;
        silent.asked().await;
        says(&mut client, "still here", "still here").await;
    }
    siege.complains(&["a turn failed", "no answer in time"]).await;
    // It was no fault: the instance lives on.
    assert_eq!((siege.status().failed, siege.status().restarts), (3, 0));
    silent.cut();
    siege.end().await;
}
