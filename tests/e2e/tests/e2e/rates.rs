//! Clients that connect and speak faster than their app may have it: they wait, and nothing is lost.

use std::time::{Duration, Instant};

use tidegate_base::Rate;
use tidegate_gateway::settings::{AppLimits, Heartbeat};
use tidegate_harness::{Client, Cluster};

const PER_SECOND: u64 = 200;
const MESSAGES: u64 = 3 * PER_SECOND;

/// Sends more than may come in at once and hears all of it again. Says how long that took.
async fn says_all(client: &mut Client, from: &str) -> Duration {
    let began = Instant::now();
    for n in 0..MESSAGES {
        client.send(format!("{from} {n}")).await;
    }
    for n in 0..MESSAGES {
        assert_eq!(client.text().await, format!("{from} {n}"));
    }
    began.elapsed()
}

/// How many events of a client may be under way; it finds out afterwards that these were too many.
const UNDER_WAY: u64 = 256;

/// So many messages of so many clients cannot have come through sooner: all but a second's worth come at the rate.
fn at_least(messages: u64, clients: u64) -> Duration {
    Duration::from_millis((messages - PER_SECOND - clients * UNDER_WAY) * 1_000 / PER_SECOND - 50)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_speaks_too_fast_is_slowed_down_and_nobody_else_is() {
    let limit = |l: &mut AppLimits| l.rates.client_messages = Rate::per_second(PER_SECOND);
    let cluster = Cluster::of("callbacks").limits(limit).start().await;
    let mut fast = Client::of_callbacks(cluster.ws(0)).await;
    let mut other = Client::of_callbacks(cluster.ws(0)).await;
    let flood = tokio::spawn(async move { says_all(&mut fast, "fast").await });
    for n in 0..PER_SECOND / 2 {
        other.send(format!("other {n}")).await;
        assert_eq!(other.text().await, format!("other {n}"));
    }
    let took = flood.await.expect("it was never disconnected");
    assert!(took >= at_least(MESSAGES, 1), "{took:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_clients_of_an_app_together_are_held_to_its_rate() {
    let limit = |l: &mut AppLimits| {
        l.rates.messages = Rate::per_second(PER_SECOND);
        // Far more than these clients say.
        l.rates.bytes = Rate::per_second(1 << 30);
    };
    let cluster = Cluster::of("callbacks").limits(limit).shards(2).start().await;
    let mut clients = [Client::of_callbacks(cluster.ws(0)).await, Client::of_callbacks(cluster.ws(0)).await];
    let began = Instant::now();
    let [one, two] = &mut clients;
    tokio::join!(says_all(one, "one"), says_all(two, "two"));
    assert!(began.elapsed() >= at_least(2 * MESSAGES, 2), "{:?}", began.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_rate_wait_in_the_backlog_and_all_come_through() {
    let limit = |l: &mut AppLimits| l.rates.connects = Rate::per_second(10);
    let cluster = Cluster::of("callbacks").limits(limit).start().await;
    let began = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::of_callbacks(cluster.ws(0)).await);
    }
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    for client in &mut clients {
        client.send("here").await;
        assert_eq!(client.text().await, "here");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_not_read_for_its_rate_is_not_judged_by_its_heartbeat() {
    let beat = Heartbeat { interval: Duration::from_millis(200), misses_max: 2, payload: None };
    let limit = |l: &mut AppLimits| l.rates.client_messages = Rate::per_second(2);
    let cluster = Cluster::of("callbacks").limits(limit).heartbeat(0, beat).start().await;
    let mut client = Client::of_callbacks(cluster.ws(0)).await;
    // Three seconds' worth at once, and one that is read when that is made up for.
    for n in 0..6 {
        client.send(n.to_string()).await;
    }
    for n in 0..6 {
        assert_eq!(client.text().await, n.to_string());
    }
    client.send("one more").await;
    assert_eq!(client.text().await, "one more");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_out_to_a_client_is_paced_in_order_and_nothing_is_lost() {
    let limit = |l: &mut AppLimits| {
        l.rates.client_out_messages = Rate::per_second(PER_SECOND);
        // Far more than is said here.
        l.rates.out_bytes = Rate::per_second(1 << 30);
    };
    let cluster = Cluster::of("callbacks").limits(limit).start().await;
    let mut fast = Client::of_callbacks(cluster.ws(0)).await;
    let mut other = Client::of_callbacks(cluster.ws(0)).await;
    let flood = tokio::spawn(async move {
        let took = says_all(&mut fast, "fast").await;
        // A client that is closed gets what waits for it at once.
        for n in 0..PER_SECOND * 2 {
            fast.send(format!("more {n}")).await;
        }
        fast.close().await;
        took
    });
    for n in 0..PER_SECOND / 2 {
        other.send(format!("other {n}")).await;
        assert_eq!(other.text().await, format!("other {n}"));
    }
    let took = flood.await.expect("it was never disconnected");
    assert!(
        took >= Duration::from_millis((MESSAGES - PER_SECOND - 20) * 1_000 / PER_SECOND - 50),
        "{took:?}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_behind_the_pace_meets_the_slow_policy() {
    let limit = |l: &mut AppLimits| {
        l.rates.out_bytes = Rate::per_second(10_000);
        l.out_bytes_max = 50_000;
    };
    let cluster = Cluster::of("callbacks").limits(limit).start().await;
    let mut client = Client::of_callbacks(cluster.ws(0)).await;
    let payload = "x".repeat(1_000);
    for _ in 0..100 {
        client.feed(payload.clone()).await;
    }
    client.flush().await;
    // A second's worth, what is released at once, and not what was queued: it is cut.
    assert_eq!(client.closed().await, None);
    cluster.stop().await;
}
