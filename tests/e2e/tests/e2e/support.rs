//! What several stories need.

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster};

/// A client that hears of every callback.
pub async fn observer(cluster: &Cluster, gateway: usize) -> Client {
    let mut client = cluster.client(gateway).await;
    client.call("join_group", json!({"groups": ["observers"]})).await;
    client
}

/// A client of a gateway that is bound to this slot of this worker: others are closed until one is.
pub async fn client_in(cluster: &Cluster, gateway: usize, worker: usize, slot: u32) -> Client {
    loop {
        let mut client = cluster.client(gateway).await;
        let instance = client.call("instance", json!({})).await;
        if instance["worker"] == format!("worker-{worker}") && instance["slot"] == slot {
            return client;
        }
        client.close().await;
    }
}

/// Makes a call. When this returns, every gateway has done what it asked for.
pub async fn done(client: &mut Client, call: &str, arguments: Value) -> Value {
    let value = client.call(call, arguments).await;
    client.call("get_all_client_count", json!({})).await;
    value
}

/// The calls as one turn, quiet but for the last, whose value is returned.
pub async fn in_one_turn(client: &mut Client, calls: &[(&str, Value)]) -> Value {
    let ((last, arguments), before) = calls.split_last().expect("a call");
    let named = |(name, arguments): &(&str, Value), quiet: bool| {
        let mut call = arguments.clone();
        call["call"] = (*name).into();
        call["quiet"] = quiet.into();
        call
    };
    let mut calls: Vec<Value> = before.iter().map(|call| named(call, true)).collect();
    let mut last = named(&(last, arguments.clone()), false);
    last["tag"] = "the last".into();
    calls.push(last);
    client.tell("batch", json!({ "calls": calls })).await;
    let mut answer = client.json_where(|v| v["tag"] == "the last").await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["value"].take()
}

/// Waits until the timer has run so often; returns the keys of all that ran meanwhile, in order.
pub async fn timers_until(client: &mut Client, key: &str, times: usize) -> Vec<String> {
    let mut keys = Vec::new();
    while keys.iter().filter(|k| *k == key).count() < times {
        let event = client.event("timer").await;
        keys.push(event["key"].as_str().expect("a key").to_owned());
    }
    keys
}

/// A list of names or ids in order.
pub fn sorted(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("a list was expected, not {list}"));
    let mut list: Vec<String> = list.iter().map(|v| v.as_str().expect("a text").to_owned()).collect();
    list.sort();
    list
}

/// Sends so many different texts, at most `window` ahead of their echoes, which must come once each and in order.
pub async fn echo_in_order(client: &mut Client, count: usize, window: usize, text: impl Fn(usize) -> String) {
    let (mut sent, mut came) = (0, 0);
    while came < count {
        while sent < count && sent - came < window {
            client.feed(text(sent)).await;
            sent += 1;
        }
        client.flush().await;
        // Half a window at a time, so that many are on their way together.
        for _ in 0..(window / 2).max(1).min(sent - came) {
            let echo = client.text().await;
            assert!(echo == text(came), "echo {came} is {:.60}", echo);
            came += 1;
        }
    }
}

/// A counter of this process. Other tests count as well, so only its growth says something, and only as a bound.
pub fn counted(name: &str) -> u64 {
    tidegate_telemetry::all()
        .into_iter()
        .find(|counter| counter.name() == name)
        .map_or(0, |counter| counter.get())
}

/// The component with a custom section of so many zeros at its end.
pub fn padded(component: &[u8], zeros: u32) -> Vec<u8> {
    let mut padded = component.to_vec();
    padded.push(0);
    // The section's size in LEB128, always five bytes; then its name, which is empty.
    let size = zeros + 1;
    padded.extend((0..5).map(|n| (size >> (7 * n) & 0x7f) as u8 | if n < 4 { 0x80 } else { 0 }));
    padded.resize(padded.len() + 1 + zeros as usize, 0);
    padded
}
