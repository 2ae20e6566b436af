//! What holds of ids, and of commands and queries of one turn.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, LinkKind};

use crate::support::{done, in_one_turn, sorted};

#[tokio::test]
async fn ids_are_20_hex_digits_begin_with_the_gateway_and_never_come_again() {
    let cluster = Cluster::of("callbacks").gateways(2).shards(2).start().await;
    let mut seen = BTreeSet::new();
    for n in 0..40 {
        let client = cluster.client(n % 2).await;
        let id = client.id().to_owned();
        assert!(id.len() == 20 && id.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)), "{id}");
        assert!(id.starts_with(&cluster.gateway_id(n % 2).to_string()), "{id}");
        assert!(seen.insert(id), "an id came twice");
        client.close().await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn ids_of_nobody_are_ignored_by_every_command() {
    let cluster = Cluster::of("callbacks").gateways(2).start().await;
    let mut client = cluster.client(0).await;
    let gone = cluster.client(1).await;
    let unknown = format!("{}000fffff", cluster.gateway_id(1));
    let strange = "0123456789abcdef0123".to_owned();
    for id in [gone.id().to_owned(), unknown, strange] {
        if id == gone.id() {
            client.call("destroy_client", json!({"clients": [id]})).await;
        }
        let of = json!({"client": id, "clients": [id], "message": "m", "uid": "u", "groups": ["g"]});
        for call in ["send_to_client", "bind_uid", "unbind_uid", "join_group", "leave_group"] {
            client.call(call, of.clone()).await;
        }
        for call in ["close_client", "destroy_client", "clear_session"] {
            client.call(call, of.clone()).await;
        }
        client.call("set_session", json!({"client": id, "session": {"a": 1}})).await;
        client.call("update_session", json!({"client": id, "patch": {"a": 1}})).await;
        client.call("send", json!({"to": {"clients": [id]}, "except": [id], "message": "m"})).await;
        assert_eq!(client.call("is_online", json!({"client": id})).await, false);
        assert_eq!(client.call("get_session", json!({"client": id})).await, Value::Null);
        assert_eq!(client.call("get_uid_by_client_id", json!({"client": id})).await, Value::Null);
    }
    assert_eq!(client.call("get_all_uid_list", json!({})).await, json!([]));
    assert_eq!(client.call("get_all_group_id_list", json!({})).await, json!([]));
    assert_eq!(client.call("get_all_client_id_list", json!({})).await, json!([client.id()]));
    cluster.stop().await;
}

#[tokio::test]
async fn a_query_sees_what_its_turn_commanded_before_on_every_gateway() {
    let cluster = Cluster::of("callbacks").gateways(2).workers(2).link(LinkKind::Quic).start().await;
    let (mut a, b) = (cluster.client(0).await, cluster.client(1).await);
    let ids = {
        let mut ids = vec![a.id().to_owned(), b.id().to_owned()];
        ids.sort();
        ids
    };
    for _ in 0..20 {
        let both = in_one_turn(
            &mut a,
            &[
                ("bind_uid", json!({"uid": "u"})),
                ("bind_uid", json!({"client": b.id(), "uid": "u"})),
                ("get_client_id_by_uid", json!({"uids": ["u"]})),
            ],
        )
        .await;
        assert_eq!(sorted(&both), ids);
        let calls = [
            ("join_group", json!({"client": b.id(), "groups": ["g", "h"]})),
            ("update_session", json!({"client": b.id(), "patch": {"a": 1}})),
            ("select", json!({"of": {"groups": ["g"]}, "fields": ["uid", "session"]})),
            ("unbind_uid", json!({"client": b.id()})),
            ("clear_session", json!({"client": b.id()})),
            ("ungroup", json!({"groups": ["g"]})),
            ("select", json!({"of": {"groups": ["h"]}, "fields": ["uid", "groups", "session"]})),
        ];
        let after = in_one_turn(&mut a, &calls).await;
        assert_eq!(after, json!([{"client": b.id(), "uid": null, "groups": ["h"], "session": null}]));
        done(&mut a, "unbind_uid", json!({})).await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn whoever_is_closed_is_gone_for_the_queries_of_the_same_turn() {
    let cluster = Cluster::of("callbacks").gateways(2).link(LinkKind::Quic).start().await;
    let mut a = cluster.client(0).await;
    let (b, c) = (cluster.client(0).await, cluster.client(1).await);
    let left = in_one_turn(
        &mut a,
        &[
            ("close_client", json!({"clients": [b.id()]})),
            ("destroy_client", json!({"clients": [c.id()]})),
            ("get_all_client_id_list", json!({})),
        ],
    )
    .await;
    assert_eq!(left, json!([a.id()]));
    cluster.stop().await;
}

#[tokio::test]
async fn commands_arrive_in_the_order_in_which_they_were_given() {
    let cluster = Cluster::of("callbacks").gateways(2).workers(2).link(LinkKind::Quic).start().await;
    let (mut a, mut b) = (cluster.client(0).await, cluster.client(1).await);
    let send =
        |n: u32| json!({"call": "send_to_client", "client": b.id(), "message": n.to_string(), "quiet": true});
    let calls: Vec<Value> = (0..200).map(send).collect();
    a.tell("batch", json!({ "calls": calls })).await;
    for n in 200..300 {
        a.tell("send_to_client", json!({"client": b.id(), "message": n.to_string()})).await;
    }
    for n in 0..300 {
        assert_eq!(b.text().await, n.to_string());
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_message_keeps_its_kind_and_raw_bytes_go_out_as_they_are() {
    use tokio_tungstenite::tungstenite::Message;
    let cluster = Cluster::of("callbacks").gateways(2).start().await;
    let (mut a, mut b) = (cluster.client(0).await, cluster.client(1).await);
    let to = |b: &Client, message: Value| json!({"client": b.id(), "message": message});
    a.call("send_to_client", to(&b, json!("gr\u{fc}n"))).await;
    assert_eq!(b.next().await.unwrap(), Message::Text("gr\u{fc}n".into()));
    a.call("send_to_client", to(&b, json!({"binary": [0, 255]}))).await;
    assert_eq!(b.next().await.unwrap(), Message::Binary(vec![0, 255].into()));
    // A text frame, made by hand.
    a.call("send_to_client", to(&b, json!({"raw": [0x81, 2, 104, 105]}))).await;
    assert_eq!(b.next().await.unwrap(), Message::Text("hi".into()));
    cluster.stop().await;
}
