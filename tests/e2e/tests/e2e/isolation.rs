//! Two apps on the same gateways and workers: nothing of one is ever reached from the other.

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, LinkKind};

use crate::support::{done, sorted};

#[tokio::test]
async fn ids_uids_and_groups_of_another_app_are_never_reached() {
    // All by one port, so that nothing but the request says whose client it is.
    let cluster = Cluster::of("callbacks")
        .apps(&["mine", "theirs"])
        .protocols(&[])
        .shared_port()
        .on_gateways(|app, settings| settings.shared.routes.push(format!("*/{app}").parse().unwrap()))
        .gateways(2)
        .workers(2)
        .shards(2)
        .link(LinkKind::Quic)
        .start()
        .await;
    let mut mine = [routed(&cluster, 0, 0).await, routed(&cluster, 1, 0).await];
    let mut theirs = [routed(&cluster, 0, 1).await, routed(&cluster, 1, 1).await];
    for client in mine.iter_mut().chain(&mut theirs) {
        client.call("bind_uid", json!({"uid": "ann"})).await;
        client.call("join_group", json!({"groups": ["room"]})).await;
        client.call("set_session", json!({"session": {"a": 1}})).await;
    }
    let foreign = sorted(&json!([theirs[0].id(), theirs[1].id()]));
    let own = sorted(&json!([mine[0].id(), mine[1].id()]));
    nothing_is_commanded(&mut mine[0], &foreign).await;
    nothing_is_found(&mut mine[0], &own, &foreign).await;

    for client in &mut theirs {
        assert_eq!(client.drain().await, Vec::<Value>::new());
        let info = client.call("select", json!({"of": "all", "fields": ["uid", "groups", "session"]})).await;
        let infos = info.as_array().unwrap();
        assert_eq!(infos.len(), 2);
        for info in infos {
            assert_eq!((&info["uid"], &info["groups"]), (&json!("ann"), &json!(["room"])));
            assert_eq!(info["session"], json!({"a": 1}));
        }
    }
    // The other way round it is the same.
    nothing_is_found(&mut theirs[1], &foreign, &own).await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_happens_in_one_app_is_no_event_of_the_other() {
    let cluster = Cluster::of("callbacks").apps(&["mine", "theirs"]).start().await;
    let mut watcher = client(&cluster, 0, 0).await;
    watcher.call("join_group", json!({"groups": ["observers"]})).await;
    let mut theirs = client(&cluster, 0, 1).await;
    theirs.call("remember", json!({"key": "k", "value": 1})).await;
    theirs.tell("trap", json!({})).await;
    assert_eq!(theirs.call("instance", json!({})).await["reason"], "restart");
    theirs.close().await;
    assert_eq!(watcher.call("instance", json!({})).await["reason"], "new");
    assert_eq!(watcher.call("recall", json!({"key": "k"})).await, Value::Null);
    assert_eq!(watcher.drain().await, Vec::<Value>::new());
    cluster.stop().await;
}

#[tokio::test]
async fn an_app_that_loops_for_ever_does_not_hold_up_another_on_the_same_thread() {
    let cluster = Cluster::of("callbacks")
        .apps(&["mine", "theirs"])
        .app(|app| app.limits.turn_cpu_ms = 2_000)
        .start()
        .await;
    let mut mine = client(&cluster, 0, 0).await;
    let mut theirs = client(&cluster, 0, 1).await;
    let mut witness = client(&cluster, 0, 1).await;
    let calls = json!([
        {"call": "send_to_client", "client": witness.id(), "message": "it begins", "quiet": true},
        {"call": "get_all_client_count", "quiet": true},
        {"call": "spin"},
    ]);
    theirs.tell("batch", json!({ "calls": calls })).await;
    assert_eq!(witness.text().await, "it begins");
    for _ in 0..20 {
        mine.drain().await;
    }
    let restarts =
        || cluster.workers[0].as_ref().unwrap().worker.status().iter().map(|a| a.restarts).sum::<u64>();
    assert_eq!(restarts(), 0, "the loop ended before the other app was served");
    theirs.send("back again").await;
    assert_eq!(theirs.text().await, "back again");
    assert_eq!(restarts(), 1);
    cluster.stop().await;
}

async fn client(cluster: &Cluster, gateway: usize, app: usize) -> Client {
    Client::of_callbacks(cluster.listener(gateway, app, 0)).await
}

/// By the port that both share.
async fn routed(cluster: &Cluster, gateway: usize, app: usize) -> Client {
    Client::of_callbacks_at(cluster.shared(gateway), "localhost", &format!("/{app}")).await
}

/// Every command, with ids of clients of another app.
async fn nothing_is_commanded(client: &mut Client, foreign: &[String]) {
    for id in foreign {
        let of =
            json!({"client": id, "clients": [id], "message": "m", "uid": "eve", "groups": ["room", "new"]});
        for call in [
            "send_to_client",
            "bind_uid",
            "unbind_uid",
            "join_group",
            "leave_group",
            "clear_session",
            "close_client",
            "destroy_client",
        ] {
            client.call(call, of.clone()).await;
        }
        client.call("set_session", json!({"client": id, "session": {"b": 2}})).await;
        client.call("update_session", json!({"client": id, "patch": {"b": 2}})).await;
        client.call("close_client_with", json!({"clients": [id], "farewell": "bye"})).await;
        for to in
            [json!({"clients": [id]}), json!({"uids": ["ann"]}), json!({"groups": ["room"]}), json!("all")]
        {
            client.call("send", json!({"to": to, "except": [client.id()], "message": "m"})).await;
        }
    }
    for _ in 0..2 {
        done(client, "ungroup", json!({"groups": ["room"]})).await;
    }
    client.drain().await;
    for id in [foreign[0].clone(), client.id().to_owned()] {
        client.call("join_group", json!({"client": id, "groups": ["room"]})).await;
    }
}

/// Every query, with ids of clients of another app and with names that both apps use.
async fn nothing_is_found(client: &mut Client, own: &[String], foreign: &[String]) {
    assert_eq!(client.call("get_online_client_ids", json!({"clients": foreign})).await, json!([]));
    let of = json!({"of": {"clients": foreign}, "fields": ["uid", "groups", "session"]});
    assert_eq!(client.call("select", of).await, json!([]));
    for id in foreign {
        assert_eq!(client.call("is_online", json!({"client": id})).await, false);
        assert_eq!(client.call("get_session", json!({"client": id})).await, Value::Null);
        assert_eq!(client.call("get_uid_by_client_id", json!({"client": id})).await, Value::Null);
    }
    assert_eq!(client.call("get_all_client_count", json!({})).await, 2);
    assert_eq!(sorted(&client.call("get_all_client_id_list", json!({})).await), own);
    assert_eq!(sorted(&client.call("get_client_id_by_uid", json!({"uids": ["ann"]})).await), own);
    let sessions = client.call("get_all_client_sessions", json!({})).await;
    assert!(foreign.iter().all(|id| sessions.get(id).is_none()), "{sessions}");
}
