//! What each example promises its clients, wherever its roles run.

use std::net::SocketAddr;

use serde_json::json;
use tidegate_harness::{Client, RawClient};

pub async fn echo(ws: SocketAddr, text: SocketAddr) {
    let mut client = Client::connect(ws).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "hello");
    let mut raw = RawClient::connect(text).await;
    raw.send(b"hello\n").await;
    assert_eq!(raw.until(b"\n").await, b"hello\n");
}

pub async fn chat_room(ws: SocketAddr, text: SocketAddr) {
    let mut ann = Client::connect(ws).await;
    ann.json_where(|v| v["type"] == "welcome").await;
    ann.send(json!({"type": "join", "name": "Ann"}).to_string()).await;
    ann.json_where(|v| v["type"] == "who" && v["members"].as_array().unwrap().len() == 1).await;
    // Somebody who has a terminal only.
    let mut bob = RawClient::connect(text).await;
    bob.send(b"{\"type\":\"join\",\"name\":\"Bob\"}\n").await;
    let joined = ann.json_where(|v| v["type"] == "joined" && v["name"] == "Bob").await;
    assert_eq!(joined["room"], "lobby");
    bob.send(b"{\"type\":\"say\",\"text\":\"the tide is in\"}\n").await;
    let said = ann.json_where(|v| v["type"] == "said").await;
    assert_eq!((&said["name"], &said["text"]), (&json!("Bob"), &json!("the tide is in")));
    drop(bob);
    let left = ann.json_where(|v| v["type"] == "left").await;
    assert_eq!(left["name"], "Bob");
}

pub async fn state(ws: SocketAddr) {
    let mut client = Client::connect(ws).await;
    let hello = client.json_where(|v| v["type"] == "hello").await;
    assert_eq!(hello["id"].as_str().map(str::len), Some(20));
    for visits in 1..=2 {
        client.send("visit").await;
        let visited = client.json_where(|v| v["type"] == "visited").await;
        assert_eq!(visited["yours"], visits);
    }
    client.json_where(|v| v["type"] == "tick").await;
    client.send("crash").await;
    client.send("visit").await;
    let visited = client.json_where(|v| v["type"] == "visited").await;
    assert_eq!(
        (&visited["yours"], &visited["here"]),
        (&json!(3), &json!(1)),
        "the session stays, memory does not"
    );
}

pub async fn hot_swap(ws: SocketAddr) {
    let mut ann = Client::connect(ws).await;
    let now = ann.json_where(|v| v["type"] == "now").await;
    assert_eq!((&now["code"], &now["total"]), (&json!("v1"), &json!(0)));
    let mut bob = Client::connect(ws).await;
    bob.json_where(|v| v["type"] == "now").await;
    ann.send(r#"{"type":"name","name":"Ann"}"#).await;
    ann.send(r#"{"type":"click"}"#).await;
    let clicked = bob.json_where(|v| v["type"] == "clicked").await;
    assert_eq!((&clicked["name"], &clicked["total"]), (&json!("Ann"), &json!(1)));
}

/// `shared`: the port of both companies.
pub async fn two_tenants(shared: SocketAddr) {
    let mut acme = Client::connect(shared).await;
    let mut globex = Client::connect_to(shared, "/globex", &[]).await.unwrap();
    for (client, company) in [(&mut acme, "Acme"), (&mut globex, "Globex")] {
        assert_eq!(client.json().await, json!({"type": "welcome", "company": company}));
    }
    acme.send(json!({"type": "attack", "how": "loop"}).to_string()).await;
    assert_eq!(acme.json().await["type"], "error");
    for (number, how) in (1..).zip(["loop", "memory", "recursion", "panic", "flood"]) {
        globex.send(json!({"type": "attack", "how": how}).to_string()).await;
        pong(&mut acme, number).await;
        pong(&mut globex, number).await;
    }
    acme.send(json!({"type": "say", "text": "nothing happened"}).to_string()).await;
    // Whatever Globex's clients were sent, none of it is Acme's.
    assert_eq!(acme.json().await, json!({"type": "said", "text": "nothing happened"}));
}

async fn pong(client: &mut Client, number: u64) {
    client.send(json!({"type": "ping", "number": number}).to_string()).await;
    client.json_where(|message| message["type"] == "pong" && message["number"] == number).await;
}
