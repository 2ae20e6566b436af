//! on-close: why a client is gone, and what it leaves.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_base::Protocol;
use tidegate_gateway::settings::{Heartbeat, SlowPolicy};
use tidegate_harness::{Client, Cluster, LinkKind, RawClient};

use crate::support::{client_in, observer};

#[tokio::test]
async fn a_client_hears_of_others() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut a = observer(&cluster, 0).await;
    let b = dressed(&cluster, 0).await;
    let id = b.id().to_owned();
    b.close().await;
    assert_left(&a.event("close").await, &id, "client");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_just_hangs_up_is_gone_by_itself() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut a = observer(&cluster, 0).await;
    let b = dressed(&cluster, 0).await;
    let id = b.id().to_owned();
    b.drop_connection();
    assert_left(&a.event("close").await, &id, "client");
    cluster.stop().await;
}

#[tokio::test]
async fn a_broken_connection_is_told_as_such() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut a = observer(&cluster, 0).await;
    let b = dressed(&cluster, 0).await;
    let id = b.id().to_owned();
    b.reset();
    assert_left(&a.event("close").await, &id, "network");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_a_plugin_closes_or_drops_is_gone_by_the_plugin() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut a = observer(&cluster, 0).await;
    let mut b = dressed(&cluster, 0).await;
    let how = json!({"clients": [b.id()], "code": 4001, "reason": "kicked", "farewell": "bye"});
    a.call("close_client_with", how).await;
    assert_eq!(b.text().await, "bye");
    assert_eq!(b.closed().await, Some((4001, "kicked".into())));
    let id = b.id().to_owned();
    b.close().await;
    assert_left(&a.event("close").await, &id, "plugin");

    let mut c = dressed(&cluster, 0).await;
    a.call("destroy_client", json!({"clients": [c.id()]})).await;
    assert_eq!(c.closed().await, None);
    assert_left(&a.event("close").await, c.id(), "plugin");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_or_a_limit_is_told_and_gone() {
    let cluster = Cluster::of("callbacks").limits(|l| l.payload_bytes_max = 1000).start().await;
    let mut a = observer(&cluster, 0).await;
    let mut b = dressed(&cluster, 0).await;
    // A text frame that is not masked.
    b.send_bytes(&[0x81, 0x02, b'h', b'i']).await;
    assert_eq!(b.closed().await.map(|(code, _)| code), Some(1002));
    let id = b.id().to_owned();
    b.drop_connection();
    assert_left(&a.event("close").await, &id, "protocol");

    let mut c = dressed(&cluster, 0).await;
    c.send("x".repeat(1001)).await;
    assert_eq!(c.closed().await.map(|(code, _)| code), Some(1009));
    let id = c.id().to_owned();
    c.drop_connection();
    assert_left(&a.event("close").await, &id, "protocol");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let cluster = Cluster::of("callbacks")
        .limits(|l| (l.out_bytes_max, l.slow_policy) = (64 * 1024, SlowPolicy::Disconnect))
        .start()
        .await;
    let mut a = observer(&cluster, 0).await;
    let b = dressed(&cluster, 0).await;
    // More than the kernel takes for it.
    for _ in 0..3 {
        a.call("send_many", json!({"to": {"clients": [b.id()]}, "count": 240, "bytes": 65_000})).await;
    }
    assert_left(&a.event("close").await, b.id(), "slow");
    cluster.stop().await;
}

#[tokio::test]
async fn silent_clients_are_found_by_the_heartbeat_and_those_that_answer_stay() {
    // An interval so long that a client which answers is never late on a busy machine.
    let heartbeat = Heartbeat { interval: Duration::from_millis(400), misses_max: 2, payload: None };
    let asking = Heartbeat { payload: Some(b"are you there?".to_vec()), ..heartbeat.clone() };
    let cluster = Cluster::of("callbacks")
        .protocols(&[Protocol::Ws, Protocol::Ws, Protocol::Text])
        .heartbeat(1, heartbeat)
        .heartbeat(2, asking)
        .start()
        .await;
    let mut a = observer(&cluster, 0).await;
    // It answers pings by reading, in a task of its own.
    let mut lively = Client::of_callbacks(cluster.listener(0, 0, 1)).await;
    let lively_id = lively.id().to_owned();
    let reading = tokio::spawn(async move { lively.next().await });
    let deaf = Client::of_callbacks(cluster.listener(0, 0, 1)).await;
    let mut mute = RawClient::connect(cluster.listener(0, 0, 2)).await;
    let asked = mute.until(b"are you there?\n").await;
    assert!(asked.starts_with(b"{\"addresses\""), "{}", String::from_utf8_lossy(&asked));
    let mut gone = Vec::new();
    for _ in 0..2 {
        let event = a.event("close").await;
        assert_eq!(event["reason"], "heartbeat", "{event}");
        gone.push(event["client"].as_str().unwrap().to_owned());
    }
    assert!(gone.contains(&deaf.id().to_owned()) && !gone.contains(&lively_id), "{gone:?}");
    assert_eq!(a.call("is_online", json!({"client": lively_id})).await, true);
    reading.abort();
    cluster.stop().await;
}

#[tokio::test]
async fn the_clients_of_a_gateway_that_stops_are_told_and_their_close_is_handled() {
    let cluster = Cluster::of("callbacks").gateways(2).start().await;
    let mut a = observer(&cluster, 0).await;
    let mut b = dressed(&cluster, 1).await;
    let (_, code) = tokio::join!(cluster.stop_gateway(1), async {
        let code = b.closed().await.map(|(code, _)| code);
        b.drop_connection();
        code
    });
    assert_eq!(code, Some(1001));
    let event = a.event("close").await;
    assert_eq!((&event["reason"], &event["uid"]), (&json!("shutdown"), &json!("the uid")));
    assert_eq!(cluster.clients(1), 0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stopped_in_good_order_is_named_by_no_query_and_its_clients_close_once() {
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let cluster = Cluster::of("callbacks").gateways(2).slots(2).shards(2).link(link).start().await;
        let mut a = observer(&cluster, 0).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(cluster.client(1).await);
        }
        let closing = async {
            for mut client in clients {
                client.closed().await;
                client.drop_connection();
            }
        };
        tokio::join!(cluster.stop_gateway(1), closing);
        for _ in 0..20 {
            assert_eq!(a.event("close").await["reason"], "shutdown", "{link:?}");
        }
        // Nobody declares it lost, and yet it is forgotten, as soon as the worker has heard it.
        while a.ask("get_all_client_count", json!({})).await["ok"] != true {}
        assert_eq!(a.call("get_all_client_count", json!({})).await, 1, "{link:?}");
        let more = a.drain().await;
        assert!(more.iter().all(|event: &Value| event["event"] != "close"), "{link:?}: {more:?}");
        cluster.stop().await;
    }
}

#[tokio::test]
async fn the_clients_of_a_lost_gateway_are_closed_silent_ones_too() {
    let cluster = Cluster::of("callbacks").gateways(2).slots(2).start().await;
    let mut a = client_in(&cluster, 0, 0, 0).await;
    a.call("join_group", json!({"groups": ["observers"]})).await;
    let lost = [client_in(&cluster, 1, 0, 0).await, client_in(&cluster, 1, 0, 1).await];
    let mut ids: Vec<&str> = lost.iter().map(Client::id).collect();
    cluster.cut(0, 1);
    let worker = || &cluster.workers[0].as_ref().unwrap().worker;
    let other = format!("{}", cluster.gateway_id(1));
    loop {
        let answer = a.ask("get_all_client_count", json!({})).await;
        if answer["missing"] == json!([other]) {
            break;
        }
    }
    worker().gateway_gone(cluster.gateway_id(1));
    let mut gone = Vec::new();
    for _ in 0..2 {
        // Clients that were there while these were looked for have closed too.
        let event = a.json_where(|v| v["event"] == "close" && v["reason"] != "client").await;
        assert_eq!((&event["reason"], &event["uid"]), (&json!("gateway-lost"), &Value::Null), "{event}");
        gone.push(event["client"].as_str().unwrap().to_owned());
    }
    gone.sort();
    ids.sort_unstable();
    assert_eq!(gone, ids);
    // Nobody waits for a gateway that will not come back.
    assert_eq!(a.call("get_all_client_count", json!({})).await, 1);
    cluster.stop().await;
}

/// A client with a uid, groups and a session.
async fn dressed(cluster: &Cluster, gateway: usize) -> Client {
    let mut client = cluster.client(gateway).await;
    client.call("bind_uid", json!({"uid": "the uid"})).await;
    client.call("join_group", json!({"groups": ["one", "two"]})).await;
    client.call("update_session", json!({"patch": {"level": 3}})).await;
    client
}

fn assert_left(event: &Value, client: &str, reason: &str) {
    assert_eq!((&event["client"], &event["reason"]), (&json!(client), &json!(reason)), "{event}");
    assert_eq!(event["uid"], "the uid");
    assert_eq!(crate::support::sorted(&event["groups"]), ["one", "two"]);
    assert_eq!((&event["session"]["level"], &event["session"]["upgrade"]["path"]), (&json!(3), &json!("/")));
}
