//! Every callback runs when it should, and is told what it should.

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, eventually};
use tidegate_worker::PluginSettings;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{client_in, observer, timers_until};

#[tokio::test]
async fn a_message_is_echoed() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = cluster.client(0).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "hello");
    cluster.stop().await;
}

#[tokio::test]
async fn a_message_of_any_kind_and_length_arrives_as_it_was_sent() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = cluster.client(0).await;
    let long: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let messages = [
        Message::Text("".into()),
        Message::Text("gr\u{fc}\u{df}e \u{1f30a}".into()),
        Message::Text("x".repeat(65_530).into()),
        Message::Text("x".repeat(70_000).into()),
        Message::Binary(Vec::new().into()),
        Message::Binary(vec![0, 255, 0x7b].into()),
        Message::Binary(long.into()),
    ];
    for message in messages {
        client.send_message(message.clone()).await;
        assert!(client.next().await.unwrap() == message, "{} bytes", message.len());
    }
    cluster.stop().await;
}

#[tokio::test]
async fn an_instance_learns_where_it_starts() {
    let cluster = Cluster::of("callbacks").workers(2).slots(2).app(|app| app.version = 7).start().await;
    for (worker, slot) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut client = client_in(&cluster, 0, worker, slot).await;
        let instance = client.call("instance", json!({})).await;
        assert_eq!((&instance["slots"], &instance["version"]), (&json!(2), &json!(7)));
        assert_eq!(instance["reason"], "new");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn settings_are_read_by_the_plugin() {
    let settings = [("colour".to_owned(), "sea".to_owned()), ("empty".to_owned(), String::new())];
    let settings: PluginSettings = settings.into_iter().collect();
    let cluster = Cluster::of("callbacks").app(move |app| app.settings = settings.clone()).start().await;
    let mut client = cluster.client(0).await;
    assert_eq!(client.call("setting", json!({"key": "colour"})).await, "sea");
    assert_eq!(client.call("setting", json!({"key": "none"})).await, Value::Null);
    assert_eq!(client.call("settings", json!({})).await, json!({"colour": "sea", "empty": ""}));
    cluster.stop().await;
}

#[tokio::test]
async fn a_new_client_is_announced_with_its_addresses() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut watcher = observer(&cluster, 0).await;
    let mut client = cluster.client(0).await;
    let seen = watcher.event("connect").await;
    assert_eq!(seen["client"], client.id());
    let expected = json!({
        "remote": client.address().to_string(),
        "local": cluster.ws(0).to_string(),
        "protocol": "ws",
    });
    assert_eq!(seen["addresses"], expected);
    assert_eq!(client.call("addresses", json!({})).await, expected);
    cluster.stop().await;
}

#[tokio::test]
async fn an_upgrade_request_is_read_in_whole() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut watcher = observer(&cluster, 0).await;
    let path = "/rooms/blue%20sea?uid=7&name=J%C3%BCrgen+M&empty=&flag&name=again";
    let headers =
        [("X-Flavour", "salt"), ("Cookie", "a=1; b=two"), ("Sec-WebSocket-Protocol", "superchat, chat")];
    let mut client = Client::connect_to(cluster.ws(0), path, &headers).await.unwrap();
    let id = client.event("connect").await["client"].clone();
    assert_eq!(client.response().headers()["sec-websocket-protocol"], "chat");

    let session = client.call("session", json!({})).await;
    let upgrade = &session["upgrade"];
    assert_eq!(upgrade["path"], "/rooms/blue%20sea");
    let query =
        json!([["uid", "7"], ["name", "J\u{fc}rgen M"], ["empty", ""], ["flag", ""], ["name", "again"]]);
    assert_eq!(upgrade["query"], query);
    assert_eq!(upgrade["cookies"], json!([["a", "1"], ["b", "two"]]));
    assert_eq!(upgrade["protocols"], json!(["superchat", "chat"]));
    let headers = upgrade["headers"].as_array().unwrap();
    assert!(headers.contains(&json!(["x-flavour", "salt"])), "{headers:?}");
    assert!(headers.contains(&json!(["host", cluster.ws(0).to_string()])), "{headers:?}");

    assert_eq!(client.call("get_uid_by_client_id", json!({})).await, "7");
    let names: Vec<Value> = watcher.drain().await.iter().map(|e| json!([e["event"], e["client"]])).collect();
    assert_eq!(names, [json!(["websocket_connect", id]), json!(["connect", id])]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_subprotocol_is_chosen_only_if_it_is_offered() {
    let cluster = Cluster::of("callbacks").start().await;
    let plain = cluster.client(0).await;
    assert!(plain.response().headers().get("sec-websocket-protocol").is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn a_refused_client_gets_the_status_and_neither_connect_nor_close() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut watcher = observer(&cluster, 0).await;
    let (status, text) = refused(&cluster, "/refuse").await;
    assert_eq!((status, &*text), (403, "refused as asked"));
    let asked = watcher.event("websocket_connect").await;
    // The client is nobody's any more.
    assert_eq!(watcher.call("get_all_client_id_list", json!({})).await, json!([watcher.id()]));
    let online = watcher.call("is_online", json!({"client": asked["client"]})).await;
    assert_eq!(online, false);
    // Somebody else comes and goes: whatever was to be said of the first one has been said by then.
    let other = cluster.client(0).await;
    other.close().await;
    watcher.event("close").await;
    let about: Vec<Value> = watcher.drain().await;
    assert!(about.iter().all(|event| event["client"] != asked["client"]), "{about:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_fails_is_refused_and_the_instance_lives_on() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = cluster.client(0).await;
    client.call("remember", json!({"key": "k", "value": 1})).await;
    assert_eq!(refused(&cluster, "/fail").await.0, 500);
    assert_eq!(client.call("recall", json!({"key": "k"})).await, 1);
    cluster.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_traps_or_overruns_is_refused_and_the_instance_is_replaced() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut watcher = observer(&cluster, 0).await;
    for path in ["/trap", "/spin"] {
        watcher.call("remember", json!({"key": "k", "value": 1})).await;
        assert_eq!(refused(&cluster, path).await.0, 500, "{path}");
        let started = watcher.event("worker_start").await;
        assert_eq!(started["reason"], "restart", "{path}");
        assert_eq!(watcher.call("recall", json!({"key": "k"})).await, Value::Null);
        assert_eq!(watcher.call("get_all_client_count", json!({})).await, 1);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn timers_run_once_or_again_and_again() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = observer(&cluster, 0).await;
    client.call("set_timer", json!({"key": "once", "after_ms": 5})).await;
    client.call("set_timer", json!({"key": "tick", "after_ms": 5, "every_ms": 10})).await;
    let keys = timers_until(&mut client, "tick", 5).await;
    assert_eq!(keys.iter().filter(|key| *key == "once").count(), 1, "{keys:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn setting_a_timer_again_replaces_it_and_a_cancelled_one_is_silent() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = observer(&cluster, 0).await;
    for key in ["replaced", "cancelled"] {
        client.call("set_timer", json!({"key": key, "after_ms": 1, "every_ms": 10})).await;
        client.event("timer").await;
    }
    client.call("set_timer", json!({"key": "replaced", "after_ms": 1})).await;
    client.call("cancel_timer", json!({"key": "cancelled"})).await;
    client.call("cancel_timer", json!({"key": "unknown"})).await;
    let before = client.drain().await.iter().filter(|e| e["key"] == "replaced").count();
    client.call("set_timer", json!({"key": "tick", "after_ms": 10, "every_ms": 10})).await;
    let keys = timers_until(&mut client, "tick", 6).await;
    let replaced = keys.iter().filter(|key| *key == "replaced").count();
    assert!(replaced <= 1 && before + replaced >= 1, "{before} and {keys:?}");
    assert!(!keys.contains(&"cancelled".to_owned()), "{keys:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_timer_that_fails_costs_one_turn_and_one_that_traps_the_instance_with_all_timers() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = observer(&cluster, 0).await;
    client.call("set_timer", json!({"key": "fail", "after_ms": 1})).await;
    client.call("set_timer", json!({"key": "old", "after_ms": 5, "every_ms": 10})).await;
    timers_until(&mut client, "old", 3).await;
    assert_eq!(client.call("instance", json!({})).await["reason"], "new");

    client.call("set_timer", json!({"key": "trap", "after_ms": 1})).await;
    let started = client.event("worker_start").await;
    assert_eq!(started["reason"], "restart");
    client.drain().await;
    client.call("set_timer", json!({"key": "fresh", "after_ms": 5, "every_ms": 10})).await;
    let keys = timers_until(&mut client, "fresh", 6).await;
    assert!(!keys.contains(&"old".to_owned()), "{keys:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_says_so_from_each_slot() {
    let mut cluster = Cluster::of("callbacks").workers(2).slots(2).start().await;
    let mut watcher = client_in(&cluster, 0, 1, 0).await;
    watcher.call("join_group", json!({"groups": ["observers"]})).await;
    cluster.stop_worker(0).await;
    let mut slots = Vec::new();
    for _ in 0..2 {
        let event = watcher.event("worker_stop").await;
        assert_eq!((&event["worker"], &event["reason"]), (&json!("worker-0"), &json!("shutdown")));
        slots.push(event["slot"].as_u64().unwrap());
    }
    slots.sort_unstable();
    assert_eq!(slots, [0, 1]);
    cluster.stop().await;
}

#[tokio::test]
async fn the_last_worker_can_still_speak_while_it_stops() {
    let mut cluster = Cluster::of("callbacks").start().await;
    let mut watcher = observer(&cluster, 0).await;
    cluster.stop_worker(0).await;
    assert_eq!(watcher.event("worker_stop").await["reason"], "shutdown");
    // Its clients stay, and wait for the next one.
    watcher.send("is anybody there?").await;
    cluster.add_worker().await;
    assert_eq!(watcher.json_where(|v| *v == json!("is anybody there?")).await, "is anybody there?");
    eventually("the client is bound", || (cluster.load(0) == [1]).then_some(())).await;
    cluster.stop().await;
}

/// The status and text that a refused upgrade gets.
async fn refused(cluster: &Cluster, path: &str) -> (u16, String) {
    match Client::connect_to(cluster.ws(0), path, &[]).await {
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8_lossy(body).trim_end().to_owned())
        }
        other => panic!("a refusal was expected, not {other:?}"),
    }
}
