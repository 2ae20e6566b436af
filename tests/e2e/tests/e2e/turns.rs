//! What a turn leaves behind that does not end well, and whom it costs what.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, LinkKind, SilentGateway};
use tidegate_worker::AppStatus;

use crate::support::{client_in, counted, done, observer, timers_until};

#[tokio::test]
async fn a_turn_that_fails_or_traps_leaves_just_what_left_before_its_query() {
    let cluster = Cluster::of("callbacks").gateways(2).link(LinkKind::Quic).start().await;
    let mut a = cluster.client(0).await;
    let mut b = cluster.client(1).await;
    let faults = [
        ("fail", "new", vec![]),
        ("fail_after_query", "new", vec!["early", "in time"]),
        ("trap", "restart", vec![]),
        ("trap_after_send", "restart", vec![]),
        ("trap_after_query", "restart", vec!["early", "in time"]),
    ];
    let mut restarts = 0;
    for (fault, reason, left) in faults {
        a.call("remember", json!({"key": "k", "value": 1})).await;
        let to_b = json!({"call": "send_to_client", "client": b.id(), "message": "in time", "quiet": true});
        let calls =
            json!([to_b, {"call": fault, "message": "early", "late": "too late", "reason": "as asked"}]);
        a.tell("batch", json!({ "calls": calls })).await;
        // The client is still there, and its next message finds an instance.
        let instance = a.call("instance", json!({})).await;
        assert_eq!(instance["reason"], reason, "{fault}");
        let kept = if reason == "new" { json!(1) } else { Value::Null };
        assert_eq!(a.call("recall", json!({"key": "k"})).await, kept, "{fault}");
        done(&mut a, "send_to_client", json!({"client": b.id(), "message": "mark"})).await;
        let mut heard = a.drain().await;
        heard.extend(b.drain().await);
        let expected: Vec<Value> = left.iter().map(|text| json!(text)).chain([json!("mark")]).collect();
        assert_eq!(heard, expected, "{fault}");
        restarts += u64::from(reason == "restart");
        assert_eq!(status(&cluster).restarts, restarts, "{fault}");
    }
    assert_eq!(status(&cluster).failed, 5);
    cluster.stop().await;
}

#[tokio::test]
async fn timers_of_a_turn_that_fails_are_not_set_and_those_of_a_trapped_instance_are_gone() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = observer(&cluster, 0).await;
    let calls = json!([
        {"call": "set_timer", "key": "never", "after_ms": 1, "every_ms": 10},
        {"call": "get_all_client_count"},
        {"call": "fail", "reason": "as asked"},
    ]);
    client.tell("batch", json!({ "calls": calls })).await;
    client.call("set_timer", json!({"key": "tick", "after_ms": 10, "every_ms": 10})).await;
    let keys = timers_until(&mut client, "tick", 5).await;
    assert!(keys.iter().all(|key| key == "tick"), "{keys:?}");
    // A turn that fails does not cancel either.
    let calls = json!([{"call": "cancel_timer", "key": "tick"}, {"call": "fail", "reason": "as asked"}]);
    client.tell("batch", json!({ "calls": calls })).await;
    timers_until(&mut client, "tick", 5).await;

    client.tell("trap", json!({})).await;
    assert_eq!(client.event("worker_start").await["reason"], "restart");
    client.drain().await;
    client.call("set_timer", json!({"key": "tock", "after_ms": 10, "every_ms": 10})).await;
    let keys = timers_until(&mut client, "tock", 5).await;
    assert!(keys.iter().all(|key| key == "tock"), "{keys:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn an_endless_loop_is_stopped_and_others_are_served_meanwhile() {
    let cluster = Cluster::of("callbacks").slots(2).app(|app| app.limits.turn_cpu_ms = 2_000).start().await;
    let mut looping = client_in(&cluster, 0, 0, 0).await;
    let mut neighbour = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 0, 1).await;
    other.call("join_group", json!({"groups": ["observers"]})).await;
    other.drain().await;
    let calls = json!([
        {"call": "send_to_client", "client": other.id(), "message": "it begins", "quiet": true},
        {"call": "get_all_client_count", "quiet": true},
        {"call": "spin"},
    ]);
    looping.tell("batch", json!({ "calls": calls })).await;
    assert_eq!(other.text().await, "it begins");
    neighbour.send("I can wait").await;
    for _ in 0..20 {
        let heard = other.drain().await;
        assert_eq!(heard, Vec::<Value>::new(), "the loop ended before others were served");
    }
    let started = other.event("worker_start").await;
    assert_eq!((&started["reason"], &started["slot"]), (&json!("restart"), &json!(0)));
    // Whoever shares the slot waited; whoever looped is still there.
    assert_eq!(neighbour.text().await, "I can wait");
    looping.send("back again").await;
    assert_eq!(looping.text().await, "back again");
    assert_eq!(looping.call("get_all_client_count", json!({})).await, 3);
    cluster.stop().await;
}

#[tokio::test]
async fn an_instance_that_takes_too_much_memory_is_replaced_and_no_other_client_notices() {
    let limits = |app: &mut tidegate_worker::WorkerApp| {
        (app.limits.memory_mib, app.limits.turn_cpu_ms) = (16, 10_000);
    };
    let cluster = Cluster::of("callbacks").slots(2).app(limits).start().await;
    let mut greedy = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 0, 1).await;
    other.call("remember", json!({"key": "k", "value": "still here"})).await;
    for _ in 0..3 {
        greedy.tell("balloon", json!({})).await;
        assert_eq!(greedy.call("instance", json!({})).await["reason"], "restart");
        assert_eq!(other.call("recall", json!({"key": "k"})).await, "still here");
    }
    assert_eq!(status(&cluster).restarts, 3);
    cluster.stop().await;
}

#[tokio::test]
async fn breaking_a_limit_costs_the_turn_and_nothing_else() {
    let limits = |app: &mut tidegate_worker::WorkerApp| {
        (app.turn_output_bytes_max, app.payload_bytes_max, app.timers_max) = (100_000, 40_000, 3);
    };
    let cluster = Cluster::of("callbacks").app(limits).start().await;
    let mut a = cluster.client(0).await;
    let mut b = cluster.client(0).await;
    let to_b = json!({"clients": [b.id()]});
    let long = "x".repeat(256);
    let timers: Vec<Value> =
        (0..4).map(|n| json!({"call": "set_timer", "key": n.to_string(), "after_ms": 100_000})).collect();
    let broken = [
        ("send_many", json!({"to": to_b, "count": 12, "bytes": 10_000})),
        ("send_many", json!({"to": to_b, "count": 1, "bytes": 40_001})),
        ("bind_uid", json!({"uid": ""})),
        ("bind_uid", json!({"uid": long})),
        ("join_group", json!({"groups": ["fine", long]})),
        ("close_client_with", json!({"clients": [b.id()], "code": 1001})),
        ("close_client_with", json!({"clients": [b.id()], "reason": "x".repeat(124)})),
        ("set_timer", json!({"key": "", "after_ms": 1})),
        ("set_timer", json!({"key": "k", "after_ms": 1, "every_ms": 9})),
        ("batch", json!({"calls": timers})),
        ("count", json!({"of": {"groups": [long]}})),
    ];
    for (n, (call, mut arguments)) in broken.into_iter().enumerate() {
        // What was said before goes with the turn.
        let before = json!({"call": "send_to_client", "client": b.id(), "message": "never", "quiet": true});
        arguments["call"] = call.into();
        a.tell("batch", json!({"calls": [before, arguments]})).await;
        done(&mut a, "send_to_client", json!({"client": b.id(), "message": "mark"})).await;
        assert_eq!(b.drain().await, [json!("mark")], "{n}: {call}");
        assert_eq!(a.drain().await, Vec::<Value>::new(), "{n}: {call}");
        assert_eq!(status(&cluster).failed, n as u64 + 1, "{n}: {call}");
    }
    assert_eq!(a.call("get_all_group_id_list", json!({})).await, json!([]));
    // What is just within them is fine.
    a.call("send_many", json!({"to": to_b, "count": 2, "bytes": 40_000})).await;
    a.call("bind_uid", json!({"uid": "x".repeat(255)})).await;
    assert_eq!(a.call("instance", json!({})).await["reason"], "new");
    assert_eq!(status(&cluster).restarts, 0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_turn_that_has_failed_may_still_ask_but_what_it_said_stays_unsaid() {
    let cluster = Cluster::of("callbacks").gateways(2).start().await;
    let mut a = cluster.client(0).await;
    let mut b = cluster.client(1).await;
    let calls = json!([
        {"call": "send_to_all", "message": "never"},
        {"call": "bind_uid", "uid": ""},
        {"call": "send_to_all", "message": "never"},
        {"call": "get_all_client_count"},
        {"call": "send_to_all", "message": "never"},
    ]);
    for _ in 0..3 {
        a.tell("batch", json!({ "calls": calls })).await;
    }
    done(&mut a, "send_to_client", json!({"client": b.id(), "message": "mark"})).await;
    assert_eq!(a.drain().await, Vec::<Value>::new());
    assert_eq!(b.drain().await, [json!("mark")]);
    assert_eq!((status(&cluster).failed, status(&cluster).restarts), (3, 0));
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_in_as_many_groups_as_it_may_joins_no_more() {
    let cluster = Cluster::of("callbacks").limits(|l| l.groups_per_client_max = 3).start().await;
    let mut a = cluster.client(0).await;
    let refused = counted("tidegate_gateway_commands_refused_total");
    a.call("join_group", json!({"groups": ["a", "b", "c", "d", "e"]})).await;
    assert_eq!(a.call("get_all_group_id_list", json!({})).await, json!(["a", "b", "c"]));
    assert!(counted("tidegate_gateway_commands_refused_total") >= refused + 2);
    assert_eq!(status(&cluster).failed, 0, "the gateway alone knows: the turn does not fail");
    a.call("leave_group", json!({"groups": ["b"]})).await;
    a.call("join_group", json!({"groups": ["c", "d", "e"]})).await;
    assert_eq!(a.call("get_all_group_id_list", json!({})).await, json!(["a", "c", "d"]));
    cluster.stop().await;
}

#[tokio::test]
async fn a_slot_that_says_more_than_its_lane_takes_waits_and_loses_nothing() {
    const TURNS: u32 = 300;
    let cluster = Cluster::of("callbacks").start().await;
    let mut a = cluster.client(0).await;
    let mut b = cluster.client(0).await;
    // The gateway reads it all and has nobody to give it to. Together it is more than a lane's queue can ever hold.
    let to = json!({"clients": [format!("{}0000ffff", cluster.gateway_id(0))]});
    let many = json!({"call": "send_many", "to": to, "count": 15, "bytes": 1_000_000, "quiet": true});
    let (reading, writing) = (async { b.json_where(|v| *v == json!(TURNS - 1)).await }, async {
        for n in 0..TURNS {
            let count = json!({"call": "send_to_all", "message": n.to_string(), "quiet": true});
            a.tell("batch", json!({"calls": [many, count]})).await;
        }
    });
    tokio::join!(reading, writing);
    let heard: Vec<Value> = b.drain().await;
    assert_eq!(heard, (0..TURNS - 1).map(|n| json!(n)).collect::<Vec<_>>());
    assert_eq!(status(&cluster).failed, 0);
    cluster.stop().await;
}

#[tokio::test]
async fn a_gateway_whose_link_is_cut_is_named_by_every_query_until_it_is_given_up() {
    let cluster = Cluster::of("callbacks").gateways(2).link(LinkKind::Quic).start().await;
    let mut a = cluster.client(0).await;
    let b = cluster.client(1).await;
    a.call("bind_uid", json!({"client": b.id(), "uid": "ann"})).await;
    assert_eq!(a.call("get_all_client_count", json!({})).await, 2);
    cluster.cut(0, 1);
    let answer = until_partial(&mut a).await;
    assert_eq!(
        (&answer["value"], &answer["missing"]),
        (&json!(1), &json!([cluster.gateway_id(1).to_string()]))
    );
    let missing = answer["missing"].clone();
    for (call, arguments, value) in [
        ("is_online", json!({"client": b.id()}), json!(false)),
        ("get_client_id_by_uid", json!({"uids": ["ann"]}), json!([])),
        ("get_all_group_client_id_count", json!({}), json!({})),
        ("get_all_client_id_list", json!({}), json!([a.id()])),
    ] {
        let answer = a.ask(call, arguments).await;
        assert_eq!((&answer["ok"], &answer["value"]), (&json!(false), &value), "{call}");
        assert_eq!(answer["missing"], missing, "{call}");
    }
    // It has nothing to do with this one.
    assert_eq!(a.call("is_online", json!({"client": a.id()})).await, true);
    cluster.workers[0].as_ref().unwrap().worker.gateway_gone(cluster.gateway_id(1));
    while a.ask("get_all_client_count", json!({})).await["ok"] != true {}
    cluster.stop().await;
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_in_time_is_named() {
    let cluster =
        Cluster::of("callbacks").worker(|worker| worker.query_wait = Duration::from_millis(50)).start().await;
    let mut a = cluster.client(0).await;
    let silent = SilentGateway::join(&cluster, 0).await;
    let answer = a.ask("get_all_client_count", json!({})).await;
    assert_eq!((&answer["value"], &answer["missing"]), (&json!(1), &json!([silent.id().to_string()])));
    assert_eq!(a.call("instance", json!({})).await["reason"], "new");
    cluster.stop().await;
}

#[tokio::test]
async fn a_query_ends_when_the_link_breaks_that_it_waits_for() {
    let hour = Duration::from_secs(3600);
    let cluster = Cluster::of("callbacks")
        .worker(move |worker| worker.query_wait = hour)
        .app(move |app| app.limits.turn_wall_ms = hour.as_millis() as u64)
        .start()
        .await;
    let mut a = cluster.client(0).await;
    let mut silent = SilentGateway::join(&cluster, 0).await;
    let id = silent.id().to_string();
    let cut = async {
        silent.asked().await;
        silent.cut();
    };
    let (answer, ()) = tokio::join!(a.ask("get_all_client_count", json!({})), cut);
    assert_eq!((&answer["value"], &answer["missing"]), (&json!(1), &json!([id])));
    cluster.stop().await;
}

#[tokio::test]
async fn a_turn_that_waits_too_long_is_ended_and_the_instance_replaced() {
    let cluster = Cluster::of("callbacks")
        .slots(2)
        .worker(|worker| worker.query_wait = Duration::from_secs(3600))
        .app(|app| app.limits.turn_wall_ms = 200)
        .start()
        .await;
    let mut a = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 0, 1).await;
    let mut silent = SilentGateway::join(&cluster, 0).await;
    a.tell("get_all_client_count", json!({})).await;
    silent.asked().await;
    // A turn that waits holds up nobody else.
    other.send("hello").await;
    assert_eq!(other.text().await, "hello");
    assert_eq!(a.call("instance", json!({})).await["reason"], "restart");
    assert_eq!(other.call("instance", json!({})).await["reason"], "new");
    cluster.stop().await;
}

#[tokio::test]
async fn a_query_is_answered_under_a_flood_of_events() {
    let cluster = Cluster::of("callbacks")
        .gateways(2)
        .link(LinkKind::Quic)
        .worker(|worker| worker.grant.events = 64)
        .start()
        .await;
    let mut a = cluster.client(0).await;
    let mut b = cluster.client(1).await;
    // Each answer of one is an event's worth of a query for the other; together far more than the credit.
    let flood = async |client: &mut Client| {
        for _ in 0..500 {
            client.tell("get_all_client_count", json!({})).await;
        }
        client.call("get_all_client_count", json!({})).await
    };
    let (one, two) = tokio::join!(flood(&mut a), flood(&mut b));
    assert_eq!((one, two), (json!(2), json!(2)));
    cluster.stop().await;
}

/// Asks until the answer is not whole.
async fn until_partial(client: &mut Client) -> Value {
    loop {
        let answer = client.ask("get_all_client_count", json!({})).await;
        if answer["ok"] == false {
            return answer;
        }
    }
}

fn status(cluster: &Cluster) -> AppStatus {
    cluster.workers[0].as_ref().unwrap().worker.status().remove(0)
}
