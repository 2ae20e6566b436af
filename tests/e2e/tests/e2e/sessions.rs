//! A client's session: who sees which write, and when.

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, LinkKind};

use crate::support::{client_in, done, in_one_turn};

#[tokio::test]
async fn a_turn_sees_its_own_writes_and_so_does_the_next() {
    let cluster = Cluster::of("callbacks").link(LinkKind::Quic).start().await;
    let mut client = cluster.client(0).await;
    let calls = [("set_session", json!({"session": {"a": 1}})), ("session", json!({}))];
    assert_eq!(in_one_turn(&mut client, &calls).await, json!({"a": 1}));
    assert_eq!(client.call("session", json!({})).await, json!({"a": 1}));
    let calls = [
        ("update_session", json!({"patch": {"b": 2}})),
        ("get_all_client_count", json!({})),
        ("update_session", json!({"patch": {"c": 3}})),
        ("session", json!({})),
    ];
    assert_eq!(in_one_turn(&mut client, &calls).await, json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(client.call("get_session", json!({})).await, json!({"a": 1, "b": 2, "c": 3}));
    client.call("clear_session", json!({})).await;
    assert_eq!(client.call("session", json!({})).await, Value::Null);
    assert_eq!(client.call("get_session", json!({})).await, Value::Null);
    cluster.stop().await;
}

#[tokio::test]
async fn a_turn_that_fails_leaves_the_session_as_it_was() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = cluster.client(0).await;
    client.call("set_session", json!({"session": {"a": 1}})).await;
    for fault in ["fail", "trap"] {
        let calls = json!([
            {"call": "set_session", "session": {"b": 2}, "quiet": true},
            {"call": fault, "reason": "as asked"},
        ]);
        client.tell("batch", json!({ "calls": calls })).await;
        assert_eq!(client.call("session", json!({})).await, json!({"a": 1}), "{fault}");
        assert_eq!(client.call("get_session", json!({})).await, json!({"a": 1}), "{fault}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn objects_merge_key_by_key_and_anything_else_replaces() {
    let cluster = Cluster::of("callbacks").slots(2).start().await;
    let mut client = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 0, 1).await;
    let first = json!({"o": {"a": {"x": 1}, "b": 2}, "list": [1, 2, 3], "n": 1, "gone": 5});
    let patch = json!({"o": {"a": {"y": 2}, "c": null}, "list": [9], "n": {"deep": true}, "gone": null});
    let merged = json!({"o": {"a": {"x": 1, "y": 2}, "b": 2, "c": null}, "list": [9], "n": {"deep": true}, "gone": null});
    client.call("set_session", json!({"session": first})).await;
    client.call("update_session", json!({"patch": patch})).await;
    // The slot merges as the gateway does.
    assert_eq!(client.call("session", json!({})).await, merged);
    assert_eq!(other.call("get_session", json!({"client": client.id()})).await, merged);
    // A slot that does not have the client leaves the merging to the gateway.
    done(&mut other, "set_session", json!({"client": client.id(), "session": first})).await;
    done(&mut other, "update_session", json!({"client": client.id(), "patch": patch})).await;
    assert_eq!(client.call("session", json!({})).await, merged);
    // An update of nothing begins with an empty object.
    client.call("clear_session", json!({})).await;
    client.call("update_session", json!({"patch": {"a": 1}})).await;
    assert_eq!(client.call("get_session", json!({})).await, json!({"a": 1}));
    cluster.stop().await;
}

#[tokio::test]
async fn the_next_event_of_a_client_carries_what_others_wrote() {
    let cluster = Cluster::of("callbacks").gateways(2).workers(2).slots(2).link(LinkKind::Quic).start().await;
    let mut client = client_in(&cluster, 0, 0, 0).await;
    for (gateway, worker, slot) in [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 1)] {
        let mut other = client_in(&cluster, gateway, worker, slot).await;
        let session = json!({"from": [gateway, worker, slot]});
        done(&mut other, "set_session", json!({"client": client.id(), "session": session})).await;
        assert_eq!(client.call("session", json!({})).await, session);
        done(&mut other, "update_session", json!({"client": client.id(), "patch": {"n": 1}})).await;
        client.call("update_session", json!({"patch": {"own": 1}})).await;
        let merged = json!({"from": [gateway, worker, slot], "n": 1, "own": 1});
        assert_eq!(client.call("session", json!({})).await, merged);
        done(&mut other, "clear_session", json!({"client": client.id()})).await;
        assert_eq!(client.call("session", json!({})).await, Value::Null);
        other.close().await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn concurrent_updates_of_different_keys_all_hold() {
    const EACH: usize = 100;
    let cluster = Cluster::of("callbacks").gateways(2).workers(2).link(LinkKind::Quic).start().await;
    let mut target = client_in(&cluster, 0, 0, 0).await;
    let mut a = client_in(&cluster, 0, 1, 0).await;
    let mut b = client_in(&cluster, 1, 1, 0).await;
    let id = target.id().to_owned();
    let write = async |client: &mut Client, who: &str| {
        for n in 0..EACH {
            let patch = json!({who: {n.to_string(): n}});
            client.tell("update_session", json!({"client": id, "patch": patch})).await;
        }
        // Its own commands are done when this is answered.
        client.call("get_all_client_count", json!({})).await;
    };
    tokio::join!(write(&mut target, "own"), write(&mut a, "a"), write(&mut b, "b"));
    let whole = target.call("get_session", json!({})).await;
    for who in ["own", "a", "b"] {
        assert_eq!(whole[who].as_object().unwrap().len(), EACH, "{who}");
    }
    // And the slot sees it as the gateway has it.
    assert_eq!(target.call("session", json!({})).await, whole);
    cluster.stop().await;
}

#[tokio::test]
async fn when_all_writers_have_finished_the_slot_sees_what_the_gateway_has() {
    let cluster = Cluster::of("callbacks").workers(2).link(LinkKind::Quic).start().await;
    let mut target = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 1, 0).await;
    let id = target.id().to_owned();
    for n in 0..150 {
        let own = async {
            for key in ["a", "b", "c", "d"] {
                target.tell("update_session", json!({"patch": {key: n}})).await;
                tokio::task::yield_now().await;
            }
            target.call("session", json!({})).await;
        };
        let foreign = async {
            for key in ["x", "y"] {
                let patch = json!({"client": id, "patch": {key: n}});
                done(&mut other, "update_session", patch).await;
            }
        };
        tokio::join!(own, foreign);
        let whole = json!({"a": n, "b": n, "c": n, "d": n, "x": n, "y": n});
        let mut seen = target.call("session", json!({})).await;
        seen.as_object_mut().unwrap().remove("upgrade");
        assert_eq!(seen, whole, "round {n}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_write_that_crosses_the_news_of_anothers_is_not_forgotten() {
    let cluster = Cluster::of("callbacks").workers(2).link(LinkKind::Quic).start().await;
    let mut target = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 1, 0).await;
    // What the gateway gives to nobody, but takes the plugin a while to say.
    let nobody = json!({"clients": [format!("{}0000ffff", cluster.gateway_id(0))]});
    for n in 0..20 {
        let calls = json!([
            {"call": "send_to_client", "client": other.id(), "message": "go", "quiet": true},
            {"call": "get_all_client_count", "quiet": true},
            {"call": "set_session", "session": {"own": n}, "quiet": true},
            {"call": "send_many", "to": nobody, "count": 15, "bytes": 1_000_000, "quiet": true},
        ]);
        target.tell("batch", json!({ "calls": calls })).await;
        assert_eq!(other.text().await, "go");
        // While that turn runs, another slot writes, and an event tells the first one of it.
        let patch = json!({"client": target.id(), "patch": {"foreign": n}});
        done(&mut other, "update_session", patch).await;
        target.call("session", json!({})).await;
        let whole = target.call("get_session", json!({})).await;
        assert_eq!(target.call("session", json!({})).await, whole, "round {n}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_session_outlives_the_slot() {
    let mut cluster = Cluster::of("callbacks").workers(2).slots(2).link(LinkKind::Quic).start().await;
    let mut clients = [
        client_in(&cluster, 0, 0, 0).await,
        client_in(&cluster, 0, 0, 1).await,
        client_in(&cluster, 0, 1, 0).await,
    ];
    for (n, client) in clients.iter_mut().enumerate() {
        client.call("set_session", json!({"session": {"n": n}})).await;
        client.call("bind_uid", json!({"uid": n.to_string()})).await;
    }
    cluster.stop_worker(0).await;
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.call("instance", json!({})).await["worker"], "worker-1");
        assert_eq!(client.call("session", json!({})).await, json!({"n": n}));
        assert_eq!(client.call("get_uid_by_client_id", json!({})).await, n.to_string());
        client.call("update_session", json!({"patch": {"moved": true}})).await;
        assert_eq!(client.call("get_session", json!({})).await, json!({"n": n, "moved": true}));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_session_outlives_the_instance() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = cluster.client(0).await;
    client.call("set_session", json!({"session": {"a": 1}})).await;
    client.tell("trap", json!({})).await;
    assert_eq!(client.call("session", json!({})).await, json!({"a": 1}));
    assert_eq!(client.call("instance", json!({})).await["reason"], "restart");
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_no_object_or_too_large_fails_the_turn_and_changes_nothing() {
    let cluster = Cluster::of("callbacks").app(|app| app.session_bytes_max = 1000).start().await;
    let mut client = cluster.client(0).await;
    client.call("set_session", json!({"session": {"a": 1}})).await;
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!({ "d": deep });
    }
    for session in [json!([1]), json!(1), json!({"a": "x".repeat(1000)}), deep] {
        client.tell("set_session", json!({"session": session})).await;
        client.tell("update_session", json!({"patch": session})).await;
    }
    // The sum counts, too.
    client.tell("update_session", json!({"patch": {"b": "x".repeat(985)}})).await;
    client.call("update_session", json!({"patch": {"b": "x".repeat(700)}})).await;
    client.tell("update_session", json!({"patch": {"c": "x".repeat(300)}})).await;
    let session = json!({"a": 1, "b": "x".repeat(700)});
    assert_eq!(client.call("session", json!({})).await, session);
    assert_eq!(client.call("get_session", json!({})).await, session);
    assert_eq!(client.call("instance", json!({})).await["reason"], "new");
    cluster.stop().await;
}
