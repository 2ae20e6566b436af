//! Every protocol, the same app: what goes in comes out, however it is cut.

use serde_json::{Value, json};
use tidegate_base::Protocol::{self, Frame, Tcp, Text, Ws};
use tidegate_gateway::settings::Origins;
use tidegate_harness::{Client, Cluster, RawClient, RawWs, masked, upgrade_request};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::observer;

const ALL: [Protocol; 4] = [Ws, Text, Frame, Tcp];

/// A client of any protocol, past its connect event.
enum Any {
    Ws(Box<Client>),
    Raw(Protocol, RawClient),
}

impl Any {
    async fn connect(cluster: &Cluster, protocol: Protocol) -> Self {
        let address = cluster.address(0, protocol);
        if protocol == Ws {
            return Self::Ws(Client::of_callbacks(address).await.into());
        }
        let mut raw = RawClient::connect(address).await;
        let event: Value = serde_json::from_slice(&connect_event(&mut raw, protocol).await).unwrap();
        assert_eq!(event["event"], "connect", "{event}");
        assert_eq!(event["addresses"]["protocol"], protocol.as_str(), "{event}");
        Self::Raw(protocol, raw)
    }

    async fn send(&mut self, message: &str) {
        match self {
            Self::Ws(client) => client.send(message).await,
            Self::Raw(protocol, raw) => raw.send(&encoded(*protocol, message.as_bytes())).await,
        }
    }

    /// The next message, which must be this one.
    async fn expect(&mut self, message: &str) {
        match self {
            Self::Ws(client) => {
                assert_eq!(client.next().await.unwrap().into_data(), message.as_bytes());
            }
            Self::Raw(protocol, raw) => {
                let whole = encoded(*protocol, message.as_bytes());
                assert_eq!(raw.take(whole.len()).await, whole, "{protocol:?}");
            }
        }
    }
}

async fn connect_event(raw: &mut RawClient, protocol: Protocol) -> Vec<u8> {
    match protocol {
        Frame => {
            let length = u32::from_be_bytes(raw.take(4).await.try_into().unwrap());
            raw.take(length as usize - 4).await
        }
        Text => raw.until(b"\n").await,
        // Nothing marks its end but the last brace.
        _ => {
            let mut event = raw.until(b"}").await;
            while serde_json::from_slice::<Value>(&event).is_err() {
                event.extend(raw.until(b"}").await);
            }
            event
        }
    }
}

/// A message as a client of the protocol sends it; for all but WebSocket the gateway sends it the same way.
fn encoded(protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    match protocol {
        Ws => masked(0x81, payload),
        Text => [payload, b"\n"].concat(),
        Frame => [&(payload.len() as u32 + 4).to_be_bytes(), payload].concat(),
        Tcp => payload.to_vec(),
    }
}

#[tokio::test]
async fn clients_of_every_protocol_talk_to_each_other() {
    let cluster = Cluster::of("callbacks").protocols(&ALL).start().await;
    let mut clients = Vec::new();
    for protocol in ALL {
        clients.push(Any::connect(&cluster, protocol).await);
    }
    // Frames and bare TCP carry bytes, which the plugin echoes; what it is told to do comes as text.
    for from in [0, 1] {
        let message = format!("from {from}");
        let call = json!({"call": "send_to_all", "message": message, "quiet": true});
        clients[from].send(&call.to_string()).await;
        for client in &mut clients {
            client.expect(&message).await;
        }
    }
    for client in &mut clients {
        client.send("echo").await;
        client.expect("echo").await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let cluster = Cluster::of("callbacks").protocols(&ALL).start().await;
    let mut ws = cluster.client(0).await;
    let mut text = Any::connect(&cluster, Text).await;
    // A whole frame of WebSocket's; to the others it is just bytes.
    ws.tell("send_to_all", json!({"message": {"raw": [0x81, 2, 104, 105]}})).await;
    assert_eq!(ws.text().await, "hi");
    let Any::Raw(_, raw) = &mut text else { panic!("a raw client") };
    assert_eq!(raw.take(4).await, [0x81, 2, 104, 105]);
    text.send("and on").await;
    text.expect("and on").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_message_may_come_in_many_small_pieces() {
    let cluster = Cluster::of("callbacks").protocols(&ALL).start().await;
    for protocol in [Text, Frame] {
        let mut client = Any::connect(&cluster, protocol).await;
        let Any::Raw(_, raw) = &mut client else { panic!("a raw client") };
        for byte in encoded(protocol, "in pieces: äöü".as_bytes()) {
            raw.send(&[byte]).await;
        }
        client.expect("in pieces: äöü").await;
    }
    let mut ws = RawWs::of_callbacks(cluster.ws(0)).await;
    for byte in masked(0x81, "in pieces: äöü".as_bytes()) {
        ws.send(&[byte]).await;
    }
    assert_eq!(ws.next().await, (0x81, "in pieces: äöü".into()));
    cluster.stop().await;
}

#[tokio::test]
async fn several_messages_may_come_in_one_write_with_the_beginning_of_the_next() {
    let cluster = Cluster::of("callbacks").protocols(&ALL).start().await;
    for protocol in [Text, Frame] {
        let mut client = Any::connect(&cluster, protocol).await;
        let mut bytes: Vec<u8> =
            (0..500).flat_map(|n| encoded(protocol, format!("number {n}").as_bytes())).collect();
        let tail = bytes.split_off(bytes.len() - 3);
        let Any::Raw(_, raw) = &mut client else { panic!("a raw client") };
        raw.send(&bytes).await;
        for n in 0..499 {
            client.expect(&format!("number {n}")).await;
        }
        let Any::Raw(_, raw) = &mut client else { panic!("a raw client") };
        raw.send(&tail).await;
        client.expect("number 499").await;
    }
    let mut ws = RawWs::of_callbacks(cluster.ws(0)).await;
    let frames: Vec<u8> = (0..500).flat_map(|n| masked(0x82, format!("number {n}").as_bytes())).collect();
    ws.send(&frames).await;
    for n in 0..500 {
        assert_eq!(ws.next().await, (0x82, format!("number {n}").into_bytes()));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn messages_behind_the_upgrade_request_in_the_same_write_are_served() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut raw = RawClient::connect(cluster.ws(0)).await;
    let mut bytes = upgrade_request(cluster.ws(0), "").into_bytes();
    bytes.extend(masked(0x81, b"early"));
    raw.send(&bytes).await;
    raw.until(b"\x81\x05early").await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_a_client_said_before_it_shut_its_side_still_counts() {
    let cluster = Cluster::of("callbacks").protocols(&ALL).start().await;
    let mut observer = observer(&cluster, 0).await;
    for protocol in [Text, Frame, Tcp] {
        let mut raw = RawClient::connect(cluster.address(0, protocol)).await;
        let id = observer.event("connect").await["client"].clone();
        connect_event(&mut raw, protocol).await;
        let turns = observer.call("instance", json!({})).await["turns"].as_u64().unwrap();
        // Both arrive together.
        raw.send(&encoded(protocol, b"last words")).await;
        raw.finish().await;
        let close = observer.event("close").await;
        assert_eq!((&close["client"], &close["reason"]), (&id, &json!("client")), "{protocol:?}");
        assert_eq!(observer.call("instance", json!({})).await["turns"], turns + 2, "{protocol:?}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn an_oversized_message_ends_the_connection_and_nothing_else() {
    let cluster =
        Cluster::of("callbacks").protocols(&ALL).limits(|l| l.payload_bytes_max = 1000).start().await;
    let mut observer = observer(&cluster, 0).await;
    let just_right = "x".repeat(1000);
    for protocol in [Ws, Text, Frame] {
        let mut client = Any::connect(&cluster, protocol).await;
        client.send(&just_right).await;
        client.expect(&just_right).await;
        client.send(&"x".repeat(1001)).await;
        match client {
            Any::Ws(mut client) => assert_eq!(client.closed().await.unwrap().0, 1009),
            Any::Raw(_, mut raw) => assert_eq!(raw.rest().await, b""),
        }
        assert_eq!(observer.event("close").await["reason"], "protocol", "{protocol:?}");
    }
    // Raw TCP has no messages that could be too large: it is cut.
    let mut tcp = Any::connect(&cluster, Tcp).await;
    tcp.send(&"x".repeat(2500)).await;
    tcp.expect(&"x".repeat(2500)).await;
    cluster.stop().await;
}

#[tokio::test]
async fn fragments_make_one_message_with_control_frames_between_them() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut ws = RawWs::of_callbacks(cluster.ws(0)).await;
    ws.frame(0x01, "sp".as_bytes()).await;
    ws.frame(0x89, b"are you there?").await;
    assert_eq!(ws.next().await, (0x8a, b"are you there?".to_vec()));
    // A character may be cut between fragments.
    let (head, tail) = "lit: ü".as_bytes().split_at(6);
    ws.frame(0x00, head).await;
    ws.frame(0x8a, b"a pong that nobody asked for").await;
    ws.frame(0x00, b"").await;
    ws.frame(0x80, tail).await;
    assert_eq!(ws.next().await, (0x81, "split: ü".into()));
    cluster.stop().await;
}

#[tokio::test]
async fn pings_are_answered_in_order_with_messages_around_them() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut ws = RawWs::of_callbacks(cluster.ws(0)).await;
    for n in 0..100u8 {
        ws.frame(0x89, &[n]).await;
        assert_eq!(ws.next().await, (0x8a, vec![n]));
        ws.frame(0x82, &[n, n]).await;
        assert_eq!(ws.next().await, (0x82, vec![n, n]));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_code() {
    let cluster = Cluster::of("callbacks").start().await;
    for code in [1000, 1001, 3000, 4999] {
        let mut client = cluster.client(0).await;
        let close = CloseFrame { code: code.into(), reason: "enough".into() };
        client.send_message(Message::Close(Some(close))).await;
        assert_eq!(client.closed().await.map(|(code, _)| code), Some(code));
    }
    let mut ws = RawWs::of_callbacks(cluster.ws(0)).await;
    ws.frame(0x81, b"before").await;
    ws.frame(0x88, b"").await;
    // What comes behind a close frame is not listened to.
    ws.frame(0x81, b"after").await;
    assert_eq!(ws.next().await, (0x81, b"before".to_vec()));
    ws.close_code().await;
    cluster.stop().await;
}

#[tokio::test]
async fn the_plugin_chooses_among_the_offered_subprotocols() {
    let cluster = Cluster::of("callbacks").start().await;
    let offer = [("sec-websocket-protocol", "other, chat")];
    let chosen = Client::connect_to(cluster.ws(0), "/", &offer).await.unwrap();
    assert_eq!(chosen.response().headers()["sec-websocket-protocol"], "chat");
    // It chooses none of these: the answer has no such header, and it is for the client to go on or not.
    let mut raw = RawClient::connect(cluster.ws(0)).await;
    raw.send(upgrade_request(cluster.ws(0), "Sec-WebSocket-Protocol: other\r\n").as_bytes()).await;
    let head = String::from_utf8(raw.until(b"\r\n\r\n").await).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && !head.contains("sec-websocket-protocol"), "{head}");
    cluster.stop().await;
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused_with_403() {
    let list = Origins::List(vec!["https://chat.example".parse().unwrap()]);
    let cluster = Cluster::of("callbacks").origins(list).start().await;
    for (origin, allowed) in
        [("https://chat.example", true), ("https://evil.example", false), ("null", false)]
    {
        match Client::connect_to(cluster.ws(0), "/", &[("origin", origin)]).await {
            Ok(_) => assert!(allowed, "{origin}"),
            Err(Error::Http(response)) => {
                assert_eq!((allowed, response.status().as_u16()), (false, 403), "{origin}");
            }
            Err(error) => panic!("{origin}: {error}"),
        }
    }
    // No browser: it could have sent any.
    cluster.client(0).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_browser_that_opens_the_port_is_told_what_it_is() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut raw = RawClient::connect(cluster.ws(0)).await;
    raw.send(b"GET /index.html HTTP/1.1\r\nHost: here\r\n\r\n").await;
    let answer = String::from_utf8(raw.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    cluster.stop().await;
}

/// All of them are there at once, more than a shard takes in one round: none may be forgotten until its time is up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_connections_everyone_gets_in() {
    const CLIENTS: usize = 1500;
    let cluster = Cluster::of("minimal-chat").shards(1).start().await;
    let address = cluster.ws(0);
    for _ in 0..3 {
        let mut dialing = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            dialing.spawn(async move {
                let mut raw = RawClient::connect(address).await;
                raw.send(upgrade_request(address, "").as_bytes()).await;
                let head = raw.until(b"\r\n\r\n").await;
                assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            });
        }
        while let Some(done) = dialing.join_next().await {
            done.expect("a client is refused or forgotten");
        }
    }
    cluster.stop().await;
}
