//! Every client hears the answers to its messages once each and in order, whatever the load and the size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tidegate_base::Protocol::{Frame, Text, Ws};
use tidegate_gateway::settings::SlowPolicy;
use tidegate_harness::{Client, Cluster, LinkKind, RawClient, RawWs, masked};

use crate::support::echo_in_order;

#[tokio::test]
async fn many_clients_on_many_slots_hear_their_echoes_in_order() {
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let cluster =
            Cluster::of("callbacks").gateways(2).workers(2).shards(2).slots(2).link(link).start().await;
        let mut all = Vec::new();
        for n in 0..40 {
            let address = cluster.ws(n % 2);
            all.push(tokio::spawn(async move {
                let mut client = Client::of_callbacks(address).await;
                echo_in_order(&mut client, 400, 48, |n| format!("message {n}")).await;
            }));
        }
        for one in all {
            one.await.unwrap();
        }
        cluster.stop().await;
    }
}

#[tokio::test]
async fn more_messages_in_flight_than_a_client_may_have_only_wait() {
    let cluster = Cluster::of("callbacks").limits(|l| l.client_events_max = 4).shards(2).start().await;
    let mut client = cluster.client(0).await;
    echo_in_order(&mut client, 3000, 700, |n| n.to_string()).await;
    // Large ones weigh more than one.
    echo_in_order(&mut client, 60, 6, |n| format!("{n} {}", "x".repeat(30_000))).await;
    cluster.stop().await;
}

#[tokio::test]
async fn more_messages_in_flight_than_a_slot_grants_only_wait() {
    let few = tidegate_wire::Grant { events: 8, bytes: 10_000 };
    let cluster = Cluster::of("callbacks").gateways(2).shards(2).worker(move |w| w.grant = few).start().await;
    let mut all = Vec::new();
    for n in 0..12 {
        let address = cluster.ws(n % 2);
        all.push(tokio::spawn(async move {
            let mut client = Client::of_callbacks(address).await;
            echo_in_order(&mut client, 300, 60, |n| format!("{n} {}", "x".repeat(n % 3000))).await;
        }));
    }
    for one in all {
        one.await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test]
async fn messages_larger_than_a_read_arrive_whole_and_in_order() {
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let cluster = Cluster::of("callbacks")
            .protocols(&[Ws, Text, Frame])
            .shards(2)
            .link(link)
            .limits(|l| l.out_bytes_max = 64 * 1024 * 1024)
            .start()
            .await;
        let mut ws = cluster.client(0).await;
        let mut text = RawClient::connect(cluster.address(0, Text)).await;
        text.until(b"\n").await;
        let mut frame = RawClient::connect(cluster.address(0, Frame)).await;
        let length = u32::from_be_bytes(frame.take(4).await.try_into().unwrap());
        frame.take(length as usize - 4).await;
        for size in [65_535, 65_536, 65_537, 200 * 1024, 1024 * 1024 - 1, 1024 * 1024] {
            let body: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
            ws.send(String::from_utf8(body.clone()).unwrap()).await;
            ws.send("small one behind").await;
            assert!(ws.text().await.as_bytes() == body, "{size} over WebSocket");
            assert_eq!(ws.text().await, "small one behind");
            text.send(&[&body[..], b"\nsmall one behind\n"].concat()).await;
            assert!(text.take(size + 1).await == [&body[..], b"\n"].concat(), "{size} as a line");
            assert_eq!(text.take(17).await, b"small one behind\n");
            let head = (size as u32 + 4).to_be_bytes();
            frame.send(&[&head[..], &body, &[0, 0, 0, 5, 7]].concat()).await;
            assert!(frame.take(size + 4).await == [&head[..], &body].concat(), "{size} as a frame");
            assert_eq!(frame.take(5).await, [0, 0, 0, 5, 7]);
        }
        cluster.stop().await;
    }
}

#[tokio::test]
async fn large_messages_of_many_clients_arrive_in_order() {
    let cluster = Cluster::of("callbacks")
        .shards(2)
        .slots(2)
        .link(LinkKind::Quic)
        .limits(|l| l.out_bytes_max = 64 * 1024 * 1024)
        .start()
        .await;
    let mut all = Vec::new();
    for _ in 0..6 {
        let address = cluster.ws(0);
        all.push(tokio::spawn(async move {
            let mut client = Client::of_callbacks(address).await;
            echo_in_order(&mut client, 30, 3, |n| format!("{n} {}", "x".repeat(n * 15_000))).await;
        }));
    }
    for one in all {
        one.await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test]
async fn one_who_floods_and_reads_nothing_does_not_stop_the_others_of_its_slot() {
    let cluster = Cluster::of("callbacks").limits(|l| l.slow_policy = SlowPolicy::DropNewest).start().await;
    let mut flooder = RawWs::of_callbacks(cluster.ws(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let flood = tokio::spawn({
        let stop = stop.clone();
        let many: Vec<u8> = (0..1000).flat_map(|_| masked(0x81, &[b'x'; 100])).collect();
        async move {
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                flooder.send(&many).await;
                sent += 1000;
                tokio::task::yield_now().await;
            }
            (flooder, sent)
        }
    });
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(cluster.client(0).await);
    }
    for round in 0..40 {
        for client in &mut others {
            client.send(format!("round {round}")).await;
            assert_eq!(client.text().await, format!("round {round}"));
        }
    }
    assert_eq!(others[0].call("get_all_client_count", json!({})).await, 6);
    stop.store(true, Ordering::Relaxed);
    let (_flooder, sent) = flood.await.unwrap();
    assert!(sent > 10_000, "it was a flood: {sent}");
    cluster.stop().await;
}
