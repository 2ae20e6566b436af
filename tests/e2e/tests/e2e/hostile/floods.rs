//! Too much of everything.

use tidegate_harness::{Client, eventually};
use tidegate_worker::WorkerApp;

use super::{Siege, says};
use crate::support::counted;

/// How often each attack is repeated.
const TIMES: u64 = 20;

/// A turn that breaks a rule fails as a whole; the instance, its clients and their connections stay.
async fn breaks_a_rule(case: &'static str, command: &str, words: &[&str]) {
    let siege = Siege::with(case, |app: &mut WorkerApp| app.limits.turn_cpu_ms = 10_000).await;
    let mut client = siege.client().await;
    let mut witness = siege.client().await;
    for n in 0..TIMES {
        client.send(command).await;
        // Nothing of the turn has left: the echo is the first that comes.
        says(&mut client, "still here", "still here").await;
        says(&mut witness, "so am I", "so am I").await;
        assert_eq!((siege.status().failed, siege.status().restarts), (n + 1, 0));
    }
    siege.complains(words).await;
    siege.end().await;
}

#[tokio::test]
async fn a_message_above_the_limit_fails_its_turn_and_the_quiet_app_goes_on() {
    breaks_a_rule("huge-message", "flood 1 1048577", &["1048577 bytes", "payload_bytes_max"]).await;
}

#[tokio::test]
async fn a_turn_that_sends_beyond_its_limit_fails_and_the_quiet_app_goes_on() {
    breaks_a_rule("send-flood", "flood 1000 100000", &["turn_output_bytes_max"]).await;
}

#[tokio::test]
async fn a_broadcast_beyond_the_limit_of_a_turn_fails_and_the_quiet_app_goes_on() {
    breaks_a_rule("broadcast-flood", "broadcast 1000 100000", &["turn_output_bytes_max"]).await;
}

#[tokio::test]
async fn more_commands_than_the_limit_fail_their_turn_and_the_quiet_app_goes_on() {
    breaks_a_rule("many-commands", "flood 10001 0", &["10000 commands", "commands_per_turn_max"]).await;
}

#[tokio::test]
async fn a_turn_that_goes_on_and_on_after_it_broke_a_rule_is_ended_for_that_and_the_quiet_app_goes_on() {
    let siege = Siege::with("endless-flood", |app: &mut WorkerApp| app.limits.turn_cpu_ms = 600_000).await;
    let mut client = siege.client().await;
    let mut witness = siege.client().await;
    for n in 0..3 {
        client.send("flood 4000000000 0").await;
        says(&mut client, "still here", "still here").await;
        says(&mut witness, "so am I", "so am I").await;
        assert_eq!((siege.status().failed, siege.status().restarts), (n + 1, n + 1));
    }
    siege.complains(&["10000 commands", "commands_per_turn_max", "was stopped"]).await;
    siege.end().await;
}

#[tokio::test]
async fn more_timers_than_the_limit_fail_their_turn_and_the_quiet_app_goes_on() {
    breaks_a_rule("many-timers", "timers 1025", &["timers_max"]).await;
}

#[tokio::test]
async fn clients_that_read_nothing_of_a_flood_are_cut_and_the_quiet_app_goes_on() {
    let siege = Siege::with("unread", |app: &mut WorkerApp| app.limits.turn_cpu_ms = 10_000).await;
    let mut flooded = Vec::new();
    for _ in 0..4 {
        flooded.push(siege.client().await);
    }
    let all = siege.cluster.clients(0);
    // More than the kernel takes for each of them, in turns that are each within their limit.
    for client in &mut flooded {
        for _ in 0..3 {
            client.send("flood 15 1000000").await;
        }
    }
    eventually("all who do not read are cut", || (siege.cluster.clients(0) == all - 4).then_some(())).await;
    assert!(counted("tidegate_gateway_clients_slow_total") >= 4);
    // Nobody else of their app is: the plugin has done nothing that it may not do.
    let mut next = siege.client().await;
    says(&mut next, "hello", "hello").await;
    assert_eq!((siege.status().failed, siege.status().restarts), (0, 0));
    siege.end().await;
}

#[tokio::test]
async fn a_broadcast_flood_costs_those_who_do_not_read_it_and_nobody_in_the_quiet_app() {
    let siege = Siege::with("unread-broadcast", |app: &mut WorkerApp| app.limits.turn_cpu_ms = 10_000).await;
    let mut audience: Vec<Client> = Vec::new();
    for _ in 0..10 {
        audience.push(siege.client().await);
    }
    let quiet = siege.cluster.clients(0) - audience.len();
    for _ in 0..3 {
        audience[0].send("broadcast 15 1000000").await;
    }
    eventually("all who do not read are cut", || (siege.cluster.clients(0) == quiet).then_some(())).await;
    assert_eq!((siege.status().failed, siege.status().restarts), (0, 0));
    siege.end().await;
}

#[tokio::test]
async fn a_timer_that_sets_itself_anew_for_the_next_millisecond_does_not_hold_the_quiet_app_up() {
    ticks("each-millisecond", "tick 1").await;
}

#[tokio::test]
async fn a_timer_that_sets_itself_anew_for_now_does_not_hold_the_quiet_app_up() {
    ticks("at-once", "tick 0").await;
}

/// Timers come again and again, and messages of both apps between them.
async fn ticks(case: &'static str, command: &str) {
    let siege = Siege::of(case).await;
    let mut client = siege.client().await;
    client.send(command).await;
    let mut before = 0;
    for _ in 0..20 {
        client.send("ticks").await;
        let text = client.text().await;
        let ticks: u64 = text.strip_prefix("ticks ").unwrap().parse().unwrap();
        assert!(ticks >= before);
        before = ticks;
        siege.goes_on().await;
    }
    assert!(before > 20, "{before}");
    assert_eq!((siege.status().failed, siege.status().restarts), (0, 0));
    siege.end().await;
}

#[tokio::test]
async fn a_flood_of_log_lines_does_not_hold_the_quiet_app_up() {
    let siege = Siege::of("log").await;
    let mut client = siege.client().await;
    for _ in 0..5 {
        client.send("log 20000 100").await;
        siege.goes_on().await;
        says(&mut client, "still here", "still here").await;
    }
    assert!(counted("tidegate_worker_log_lines_total") > 5 * 1000);
    siege.end().await;
}

#[tokio::test]
async fn more_groups_than_a_client_may_have_are_refused_and_the_quiet_app_goes_on() {
    let siege = Siege::of("groups").await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = siege.client().await;
        client.send("groups 1100").await;
        says(&mut client, "grouped", "grouped 1024").await;
        clients.push(client);
    }
    siege.complains(&["a command is refused", "groups_per_client_max"]).await;
    assert!(counted("tidegate_gateway_commands_refused_total") >= 10 * (1100 - 1024));
    // It is told a few times, not each time.
    assert!(siege.complaints("groups_per_client_max") < 100);
    for client in clients {
        client.close().await;
    }
    siege.end().await;
}

/// More than may be under way of one client, many times.
const MESSAGES: u64 = 5_000;

#[tokio::test]
async fn a_flood_of_messages_from_one_client_waits_for_its_own_app() {
    let siege = Siege::with("from-clients", |_| {}).await;
    let mut client = siege.client().await;
    for _ in 0..MESSAGES {
        client.feed("ticks".to_owned()).await;
    }
    client.flush().await;
    siege.goes_on().await;
    eventually("each was taken", || (siege.status().turns >= MESSAGES).then_some(())).await;
    assert_eq!(siege.status().failed, 0);
    siege.end().await;
}
