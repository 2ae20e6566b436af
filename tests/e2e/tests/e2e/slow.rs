//! Clients that do not read or say nothing: they cost the others nothing, and memory stays bounded.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_base::Protocol::{Text, Ws};
use tidegate_gateway::settings::{Heartbeat, SlowPolicy};
use tidegate_harness::{Client, Cluster, ClusterBuilder, RawClient, RawWs};

use crate::support::observer;

const MESSAGES: usize = 800;
const BYTES: usize = 20_000;
/// What the gateway may queue for a client.
const QUEUE: usize = 256 * 1024;
/// More than what two sockets on loopback hold between them. Without a bound everything would be kept: 16 MB.
const SOCKETS: usize = 8 * 1024 * 1024;

async fn cluster(policy: SlowPolicy) -> Cluster {
    builder(policy).start().await
}

fn builder(policy: SlowPolicy) -> ClusterBuilder {
    let limits = move |l: &mut tidegate_gateway::settings::AppLimits| {
        l.slow_policy = policy;
        l.out_bytes_max = QUEUE;
    };
    Cluster::of("callbacks").limits(limits)
}

/// A message that can be told from the others, as large as the others.
fn numbered(n: usize) -> String {
    format!("{n:06} {}", "x".repeat(BYTES - 7))
}

fn number(message: &str) -> usize {
    assert_eq!(message.len(), BYTES);
    message[..6].parse().unwrap()
}

/// A client in the group `feed` that has little room and reads nothing from now on.
async fn slow_reader(cluster: &Cluster) -> Client {
    let mut client = Client::of_callbacks_with_little_room(cluster.ws(0)).await;
    client.call("join_group", json!({"groups": ["feed"]})).await;
    client
}

/// Broadcasts numbered messages to the group `feed`, of which the sender is a member that reads.
async fn broadcast(fast: &mut Client, numbers: std::ops::Range<usize>) {
    for n in numbers {
        fast.tell("send_to_group", json!({"groups": ["feed"], "message": numbered(n)})).await;
        assert_eq!(number(&fast.text().await), n);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_the_others_hear_everything() {
    let cluster = cluster(SlowPolicy::Disconnect).await;
    let mut observer = observer(&cluster, 0).await;
    let mut fast = cluster.client(0).await;
    fast.call("join_group", json!({"groups": ["feed"]})).await;
    let slow = slow_reader(&cluster).await;
    let id = slow.id().to_owned();
    broadcast(&mut fast, 0..MESSAGES).await;
    let close = observer.event("close").await;
    assert_eq!((&close["client"], &close["reason"]), (&json!(id), &json!("slow")));
    assert_eq!(fast.call("get_client_count_by_group", json!({"groups": ["feed"]})).await, 1);
    cluster.stop().await;
}

#[tokio::test]
async fn drop_newest_keeps_what_came_first_and_the_client_stays() {
    let cluster = cluster(SlowPolicy::DropNewest).await;
    let mut fast = cluster.client(0).await;
    fast.call("join_group", json!({"groups": ["feed"]})).await;
    let mut slow = slow_reader(&cluster).await;
    broadcast(&mut fast, 0..MESSAGES).await;
    let heard = heard_by(&mut slow).await;
    assert!(heard.iter().copied().eq(0..heard.len()), "{heard:?}");
    assert!(heard.len() < MESSAGES && heard.len() * BYTES < QUEUE + SOCKETS, "{}", heard.len());
    // Once it reads, it is served as before.
    fast.tell("send_to_group", json!({"groups": ["feed"], "message": "again"})).await;
    while slow.text().await != "again" {}
    cluster.stop().await;
}

#[tokio::test]
async fn where_the_kernel_has_no_io_uring_everybody_is_served_just_so() {
    let cluster = builder(SlowPolicy::DropNewest).without_io_uring().start().await;
    let mut fast = cluster.client(0).await;
    fast.call("join_group", json!({"groups": ["feed"]})).await;
    let mut slow = slow_reader(&cluster).await;
    broadcast(&mut fast, 0..MESSAGES).await;
    let heard = heard_by(&mut slow).await;
    assert!(heard.iter().copied().eq(0..heard.len()) && heard.len() < MESSAGES, "{heard:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn drop_oldest_keeps_what_came_last_and_every_message_is_whole() {
    let cluster = cluster(SlowPolicy::DropOldest).await;
    let mut fast = cluster.client(0).await;
    fast.call("join_group", json!({"groups": ["feed"]})).await;
    let mut slow = slow_reader(&cluster).await;
    broadcast(&mut fast, 0..MESSAGES).await;
    let heard = heard_by(&mut slow).await;
    assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
    assert_eq!(heard.last(), Some(&(MESSAGES - 1)));
    assert!(heard.len() < MESSAGES && heard.len() * BYTES < QUEUE + SOCKETS, "{}", heard.len());
    cluster.stop().await;
}

/// The numbers of what waited for a client that begins to read.
async fn heard_by(slow: &mut Client) -> Vec<usize> {
    // The echo of its own shows that nothing follows; while the queue is full it would be dropped as well.
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(number(&slow.text().await));
    }
    loop {
        slow.send("that was it").await;
        let next = slow.text().await;
        if next == "that was it" {
            return heard;
        }
        heard.push(number(&next));
    }
}

#[tokio::test]
async fn a_close_frame_behind_a_full_queue_comes_at_its_end() {
    let cluster = cluster(SlowPolicy::DropNewest).await;
    let mut fast = cluster.client(0).await;
    fast.call("join_group", json!({"groups": ["feed"]})).await;
    let mut slow = slow_reader(&cluster).await;
    broadcast(&mut fast, 0..MESSAGES).await;
    // The answer to its close frame must not cut a message in two.
    slow.send_message(tokio_tungstenite::tungstenite::Message::Close(None)).await;
    let mut expected = 0;
    loop {
        match slow.next().await.unwrap() {
            tokio_tungstenite::tungstenite::Message::Text(text) => {
                assert_eq!(number(&text), expected);
                expected += 1;
            }
            other => {
                assert!(other.is_close(), "{other:?}");
                break;
            }
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_for_much_and_reads_nothing_is_bounded_too() {
    let cluster = cluster(SlowPolicy::Disconnect).await;
    let mut observer = observer(&cluster, 0).await;
    let mut greedy = RawWs::of_callbacks(cluster.ws(0)).await;
    let id = observer.event("connect").await["client"].clone();
    let only_me = json!({"call": "send_many", "to": {"clients": [id]}, "count": 100, "bytes": 10_000});
    for _ in 0..30 {
        greedy.frame(0x81, only_me.to_string().as_bytes()).await;
    }
    let close = observer.event("close").await;
    assert_eq!((&close["client"], &close["reason"]), (&id, &json!("slow")));
    cluster.stop().await;
}

fn heartbeat(interval_ms: u64, misses_max: u8) -> Heartbeat {
    Heartbeat { interval: Duration::from_millis(interval_ms), misses_max, payload: None }
}

#[tokio::test]
async fn a_silent_client_is_closed_and_one_that_answers_stays() {
    let cluster = Cluster::of("callbacks").heartbeat(0, heartbeat(400, 2)).start().await;
    // It reads all the time, and its library answers every ping.
    let mut observer = observer(&cluster, 0).await;
    let mut silent = RawWs::of_callbacks(cluster.ws(0)).await;
    let id = observer.event("connect").await["client"].clone();
    assert_eq!(silent.next().await, (0x89, vec![]));
    let close = observer.event("close").await;
    assert_eq!((&close["client"], &close["reason"]), (&id, &json!("heartbeat")));
    assert_eq!(silent.close_code().await, 1008);
    observer.send("still here").await;
    observer.json_where(|v| v == "still here").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_heartbeat_may_have_a_payload_for_every_protocol() {
    let beat = Heartbeat { payload: Some(b"{\"type\":\"ping\"}".to_vec()), ..heartbeat(300, 0) };
    let cluster = Cluster::of("callbacks")
        .protocols(&[Ws, Text])
        .heartbeat(0, beat.clone())
        .heartbeat(1, beat)
        .start()
        .await;
    let mut text = RawClient::connect(cluster.address(0, Text)).await;
    text.until(b"\n").await;
    let mut ws = cluster.client(0).await;
    // Asked again and again, and never closed.
    for _ in 0..3 {
        assert_eq!(text.until(b"\n").await, b"{\"type\":\"ping\"}\n");
        assert_eq!(ws.json().await, json!({"type": "ping"}));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_nobody_reads_is_not_judged_by_its_heartbeat() {
    let cluster = Cluster::of("callbacks")
        .workers(0)
        .protocols(&[Ws, Text])
        .heartbeat(1, heartbeat(100, 1))
        .times(|t| t.handshake = Duration::from_millis(1500));
    let mut cluster = cluster.start().await;
    let mut waiting = RawClient::connect(cluster.address(0, Text)).await;
    waiting.send(b"first words\n").await;
    // A connection that never asks for anything tells the time: many heartbeats have passed when it ends.
    RawClient::connect(cluster.ws(0)).await.rest().await;
    cluster.add_worker().await;
    let event: Value = serde_json::from_slice(&waiting.until(b"\n").await).unwrap();
    assert_eq!(event["event"], "connect");
    assert_eq!(waiting.until(b"\n").await, b"first words\n");
    cluster.stop().await;
}
