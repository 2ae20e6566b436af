//! Clients that break every rule: each is closed with the right code, and nobody else notices.

use std::time::Duration;

use serde_json::json;
use tidegate_base::Protocol::{Frame, Tcp, Text, Ws};
use tidegate_harness::{Client, Cluster, RawClient, RawWs, masked, upgrade_request};

use crate::support::observer;

/// A frame that is right but for its length, which is written in more bytes than it needs.
fn long_winded() -> Vec<u8> {
    [&[0x82, 0x80 | 126, 0, 5][..], &masked(0x82, b"hello")[2..]].concat()
}

fn masked_as(length: &[u8]) -> Vec<u8> {
    [&[0x82][..], length, &[1, 2, 3, 4]].concat()
}

#[tokio::test]
async fn broken_websocket_frames_are_answered_with_the_right_code() {
    let cluster = Cluster::of("callbacks").limits(|l| l.payload_bytes_max = 1000).start().await;
    let mut observer = observer(&cluster, 0).await;
    let mut unmasked = masked(0x81, b"");
    unmasked[1] = 0;
    let too_long = [0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4].to_vec();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", unmasked, 1002),
        ("RSV1", masked(0xc1, b"x"), 1002),
        ("RSV2", masked(0xa1, b"x"), 1002),
        ("RSV3", masked(0x91, b"x"), 1002),
        ("reserved opcode 3", masked(0x83, b"x"), 1002),
        ("reserved opcode 11", masked(0x8b, b"x"), 1002),
        ("long ping", masked(0x89, &[0; 126]), 1002),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("message in a message", [masked(0x01, b"x"), masked(0x81, b"y")].concat(), 1002),
        ("length not in its shortest form", long_winded(), 1002),
        ("length beyond 63 bits", too_long, 1002),
        ("half a close code", masked(0x88, &[3]), 1002),
        ("close code 1005", masked(0x88, &1005u16.to_be_bytes()), 1002),
        ("close code 999", masked(0x88, &999u16.to_be_bytes()), 1002),
        ("close reason that is not UTF-8", masked(0x88, &[3, 0xe8, 0xff]), 1007),
        ("text that is not UTF-8", masked(0x81, b"a\xff"), 1007),
        ("text that ends in a character", masked(0x81, b"\xc3"), 1007),
        ("fragments that are not UTF-8", [masked(0x01, b"\xc3"), masked(0x80, b"x")].concat(), 1007),
        ("oversized", masked_as(&[0x80 | 126, 3, 0xe9]), 1009),
        ("oversized in 64 bits", masked_as(&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0]), 1009),
        ("oversized fragments", [masked(0x02, &[0; 600]), masked(0x80, &[0; 600])].concat(), 1009),
    ];
    let mut healthy = cluster.client(0).await;
    for (what, bytes, code) in cases {
        let mut ws = RawWs::of_callbacks(cluster.ws(0)).await;
        ws.frame(0x81, b"before").await;
        assert_eq!(ws.next().await, (0x81, b"before".to_vec()), "{what}");
        ws.send(&bytes).await;
        assert_eq!(ws.close_code().await, code, "{what}");
        assert_eq!(observer.event("close").await["reason"], "protocol", "{what}");
        healthy.send(what).await;
        assert_eq!(healthy.text().await, what);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn broken_lines_and_frames_end_their_connection() {
    let limits = |l: &mut tidegate_gateway::settings::AppLimits| l.payload_bytes_max = 1000;
    let cluster = Cluster::of("callbacks").protocols(&[Ws, Text, Frame]).limits(limits).start().await;
    let mut observer = observer(&cluster, 0).await;
    let cases = [
        (Text, b"not \xff UTF-8\n".to_vec()),
        (Text, vec![b'x'; 1001]),
        (Frame, vec![0, 0, 0, 3]),
        (Frame, vec![0, 0, 0, 0]),
        (Frame, vec![0xff, 0xff, 0xff, 0xff]),
        (Frame, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (protocol, bytes) in cases {
        let mut raw = RawClient::connect(cluster.address(0, protocol)).await;
        observer.event("connect").await;
        raw.send(&bytes).await;
        raw.rest().await;
        assert_eq!(observer.event("close").await["reason"], "protocol", "{bytes:?}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn broken_upgrade_requests_are_answered_with_the_right_status() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut healthy = cluster.client(0).await;
    let address = cluster.ws(0);
    let right = upgrade_request(address, "");
    let huge = upgrade_request(address, &format!("X-Filler: {}\r\n", "x".repeat(17 * 1024)));
    let many = upgrade_request(address, &"X-Filler: x\r\n".repeat(120));
    let cases = [
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), 400),
        ("binary", "\u{16}\u{3}\u{1}\0\r\n\r\n".to_owned(), 400),
        ("another method", right.replace("GET ", "POST "), 405),
        ("HTTP/1.0", right.replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("another version", right.replace("Version: 13", "Version: 8"), 426),
        ("no key", right.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400),
        ("a short key", right.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        ("no host", right.replace(&format!("Host: {address}\r\n"), ""), 400),
        ("a body", upgrade_request(address, "Content-Length: 5\r\n"), 400),
        ("a huge header", huge, 431),
        ("many headers", many, 431),
    ];
    for (what, request, status) in cases {
        let mut raw = RawClient::connect(address).await;
        raw.send(request.as_bytes()).await;
        let answer = String::from_utf8(raw.until(b"\r\n\r\n").await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        raw.rest().await;
        healthy.send(what).await;
        assert_eq!(healthy.text().await, what);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_ended() {
    let cluster = Cluster::of("callbacks").times(|t| t.handshake = Duration::from_millis(300)).start().await;
    let mut silent = RawClient::connect(cluster.ws(0)).await;
    let mut slow = RawClient::connect(cluster.ws(0)).await;
    slow.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert_eq!(silent.rest().await, b"");
    slow.rest().await;
    cluster.client(0).await;
    cluster.stop().await;
}

#[tokio::test]
async fn random_bytes_on_every_port_harm_nobody() {
    let cluster = Cluster::of("callbacks").protocols(&[Ws, Text, Frame, Tcp]).shards(2).start().await;
    let mut healthy = cluster.client(0).await;
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..40 {
        for protocol in [Ws, Text, Frame, Tcp] {
            let bytes: Vec<u8> = (0..next() % 3000).map(|_| next() as u8).collect();
            let mut raw = RawClient::connect(cluster.address(0, protocol)).await;
            if protocol == Ws && round % 2 == 0 {
                raw.send(upgrade_request(cluster.ws(0), "").as_bytes()).await;
                raw.until(b"\r\n\r\n").await;
            }
            // It may be closed before everything is sent.
            raw.try_send(&bytes).await;
        }
        healthy.send(format!("round {round}")).await;
        assert_eq!(healthy.text().await, format!("round {round}"));
    }
    // All of them are gone, but for the one that is left.
    drop(healthy);
    let mut last = Client::of_callbacks(cluster.ws(0)).await;
    while last.call("get_all_client_count", json!({})).await != 1 {
        tokio::task::yield_now().await;
    }
    cluster.stop().await;
}
