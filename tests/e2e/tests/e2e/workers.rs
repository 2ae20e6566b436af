//! Workers come, leave and die; clients stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate_base::Protocol::{Text, Ws};
use tidegate_harness::{Client, Cluster, LinkKind, RawClient, RawWs, eventually, masked, upgrade_request};
use tokio_tungstenite::tungstenite::Error;

use crate::support::{client_in, counted, echo_in_order, observer};

const BOTH: [LinkKind; 2] = [LinkKind::Memory, LinkKind::Quic];

#[tokio::test]
async fn clients_that_came_before_any_worker_are_served_when_one_joins() {
    for link in BOTH {
        let mut cluster =
            Cluster::of("callbacks").workers(0).protocols(&[Ws, Text]).shards(2).link(link).start().await;
        let mut lines = Vec::new();
        let mut upgrades = Vec::new();
        for _ in 0..6 {
            let mut raw = RawClient::connect(cluster.address(0, Text)).await;
            raw.send(b"early\n").await;
            lines.push(raw);
            let mut raw = RawClient::connect(cluster.ws(0)).await;
            raw.send(upgrade_request(cluster.ws(0), "").as_bytes()).await;
            raw.send(&masked(0x81, b"early")).await;
            upgrades.push(raw);
        }
        cluster.add_worker().await;
        for mut raw in lines {
            raw.until(b"\n").await;
            assert_eq!(raw.until(b"\n").await, b"early\n");
        }
        for mut raw in upgrades {
            raw.until(b"\x81\x05early").await;
        }
        cluster.stop().await;
    }
}

#[tokio::test]
async fn without_a_worker_clients_wait_for_a_while_and_are_told_to_come_again() {
    let cluster =
        Cluster::of("callbacks").protocols(&[Ws, Text]).times(|t| t.slot = Duration::from_millis(300));
    let mut cluster = cluster.start().await;
    let mut open = cluster.client(0).await;
    cluster.stop_worker(0).await;
    assert_eq!(open.closed().await.map(|(code, _)| code), Some(1013));
    match Client::connect_to(cluster.ws(0), "/", &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 503),
        other => panic!("{other:?}"),
    }
    let mut line = RawClient::connect(cluster.address(0, Text)).await;
    line.send(b"hello\n").await;
    assert_eq!(line.rest().await, b"");
    // Once there is one, everything is as ever.
    cluster.add_worker().await;
    let mut again = cluster.client(0).await;
    again.send("hello").await;
    assert_eq!(again.text().await, "hello");
    assert_eq!(again.call("get_all_client_count", json!({})).await, 1);
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_gone() {
    let cluster = Cluster::of("callbacks").workers(0).protocols(&[Ws, Text]);
    let mut cluster = cluster.times(|t| t.slot = Duration::from_secs(3600)).start().await;
    let line = RawClient::connect(cluster.address(0, Text)).await;
    eventually("it is there", || (cluster.clients(0) == 1).then_some(())).await;
    drop(line);
    eventually("it is gone", || (cluster.clients(0) == 0).then_some(())).await;
    // It was never announced, and it is not announced later.
    cluster.add_worker().await;
    let mut observer = observer(&cluster, 0).await;
    assert_eq!(observer.drain().await, Vec::<serde_json::Value>::new());
    assert_eq!(cluster.load(0), [1]);
    cluster.stop().await;
}

#[tokio::test]
async fn clients_that_still_upgrade_are_not_counted() {
    let cluster = Cluster::of("callbacks").slots(2).start().await;
    // The slot of one client loops: whoever asks to upgrade there waits.
    let mut one = client_in(&cluster, 0, 0, 0).await;
    let mut other = client_in(&cluster, 0, 0, 1).await;
    one.tell("spin", json!({})).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut raw = RawClient::connect(cluster.ws(0)).await;
        raw.send(upgrade_request(cluster.ws(0), "").as_bytes()).await;
        waiting.push(raw);
    }
    // Of 8 clients some are let in by the other slot. None is counted before it can receive.
    for _ in 0..50 {
        let count = other.call("get_all_client_count", json!({})).await.as_u64().unwrap();
        let ids = other.call("get_all_client_id_list", json!({})).await;
        assert!(
            (2..=10).contains(&count) && ids.as_array().unwrap().len() >= count as usize,
            "{count} {ids}"
        );
    }
    for raw in &mut waiting {
        raw.until(b"\r\n\r\n").await;
    }
    one.send("back").await;
    while one.text().await != "back" {}
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_it_is_let_in_gets_neither_on_connect_nor_on_close() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut observer = observer(&cluster, 0).await;
    // The request waits behind a turn that loops, and its client does not.
    observer.tell("spin", json!({})).await;
    let mut raw = RawClient::connect(cluster.ws(0)).await;
    raw.send(upgrade_request(cluster.ws(0), "").as_bytes()).await;
    drop(raw);
    observer.event("websocket_connect").await;
    let rest = observer.drain().await;
    assert!(rest.iter().all(|event| event["event"] == "worker_start"), "{rest:?}");
    assert_eq!(observer.call("get_all_client_count", json!({})).await, 1);
    cluster.stop().await;
}

/// Clients that echo numbered messages all the time; `during` runs when all of them have made a good start.
async fn under_load(mut cluster: Cluster, clients: usize, during: impl AsyncFnOnce(&mut Cluster)) {
    const MESSAGES: usize = 600;
    let begun = Arc::new(AtomicUsize::new(0));
    let mut all = Vec::new();
    for n in 0..clients {
        let (address, begun) = (cluster.ws(n % cluster.gateways.len()), begun.clone());
        all.push(tokio::spawn(async move {
            let mut client = Client::of_callbacks(address).await;
            let text = |n| {
                if n == MESSAGES / 4 {
                    begun.fetch_add(1, Ordering::Relaxed);
                }
                format!("message {n}")
            };
            echo_in_order(&mut client, MESSAGES, 32, text).await;
            client
        }));
    }
    // Each counts when it sends that message and when it hears it.
    eventually("all have begun", || (begun.load(Ordering::Relaxed) == 2 * clients).then_some(())).await;
    during(&mut cluster).await;
    let mut left = Vec::new();
    for one in all {
        left.push(one.await.unwrap());
    }
    let there: usize = (0..cluster.gateways.len()).map(|gateway| cluster.clients(gateway)).sum();
    assert_eq!(there, clients, "nobody was cut");
    drop(left);
    cluster.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_under_load_loses_nothing_and_keeps_the_order() {
    for link in BOTH {
        let cluster = Cluster::of("callbacks").gateways(2).workers(2).slots(2).shards(2).link(link);
        under_load(cluster.start().await, 24, async |cluster| {
            cluster.stop_worker(0).await;
            assert_eq!((cluster.load(0).len(), cluster.load(1).len()), (2, 2));
        })
        .await;
    }
}

#[tokio::test]
async fn workers_may_leave_one_after_the_other_as_long_as_one_comes() {
    let few = tidegate_wire::Grant { events: 32, bytes: 100_000 };
    let cluster = Cluster::of("callbacks").shards(2).worker(move |w| w.grant = few);
    under_load(cluster.start().await, 12, async |cluster| {
        for leaving in 0..3 {
            // For a moment there is none at all.
            cluster.stop_worker(leaving).await;
            cluster.add_worker().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_leaving_clients_said_survives_a_worker_that_leaves() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 25;
    for link in BOTH {
        let cluster = Cluster::of("callbacks").workers(2).shards(2).slots(2).link(link);
        let mut cluster = cluster.limits(|l| l.out_bytes_max = 64 * 1024 * 1024).start().await;
        let mut observer = observer(&cluster, 0).await;
        let gone = Arc::new(AtomicUsize::new(0));
        let mut all = Vec::new();
        for _ in 0..CLIENTS {
            let (address, gone) = (cluster.ws(0), gone.clone());
            all.push(tokio::spawn(async move {
                let mut client = Client::of_callbacks(address).await;
                let id = client.id().to_owned();
                for n in 0..MESSAGES {
                    let say = json!({"groups": ["observers"], "message": format!("{id} {n}")});
                    client.tell("send_to_group", say).await;
                }
                gone.fetch_add(1, Ordering::Relaxed);
                client.drop_connection();
                id
            }));
        }
        eventually("some are gone", || (gone.load(Ordering::Relaxed) >= CLIENTS / 4).then_some(())).await;
        cluster.stop_worker(0).await;
        let mut ids = Vec::new();
        for one in all {
            ids.push(one.await.unwrap());
        }
        let (mut said, mut closed) = (vec![0; CLIENTS], vec![0; CLIENTS]);
        while closed.iter().sum::<usize>() < CLIENTS {
            let heard = observer.json().await;
            if let Some((id, n)) = heard.as_str().and_then(|line| line.split_once(' ')) {
                let who = ids.iter().position(|i| i == id).unwrap();
                assert_eq!(n, said[who].to_string(), "in order, and once each");
                said[who] += 1;
            } else if heard["event"] == "close" {
                let who = ids.iter().position(|i| heard["client"] == *i).unwrap();
                assert_eq!((said[who], closed[who]), (MESSAGES, 0), "on-close comes last, and once");
                closed[who] += 1;
            }
        }
        let rest = observer.drain().await;
        assert!(rest.iter().all(|event| event["event"] == "worker_stop"), "{rest:?}");
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_costs_only_what_was_under_way_and_that_is_counted() {
    const MESSAGES: usize = 200;
    for link in BOTH {
        let mut cluster =
            Cluster::of("callbacks").gateways(2).workers(2).shards(2).slots(2).link(link).start().await;
        let mut clients = Vec::new();
        for n in 0..16 {
            let mut client = cluster.client(n % 2).await;
            echo_in_order(&mut client, 20, 10, |n| n.to_string()).await;
            clients.push(client);
        }
        let lost_before = counted("tidegate_gateway_events_lost_total");
        for client in &mut clients {
            for n in 0..MESSAGES {
                client.feed(n.to_string()).await;
            }
            client.flush().await;
        }
        cluster.kill_worker(0);
        let noticed = || (cluster.load(0).len(), cluster.load(1).len()) == (2, 2);
        eventually("the gateways have noticed", || noticed().then_some(())).await;
        let mut missing = 0;
        for client in &mut clients {
            client.send("the end").await;
            let mut next = 0;
            loop {
                let text = client.text().await;
                if text == "the end" {
                    break;
                }
                let n: usize = text.parse().unwrap();
                assert!(n >= next, "{n} came after {next}: twice, or out of order");
                next = n + 1;
                missing += 1;
            }
        }
        let missing = clients.len() * MESSAGES - missing;
        let lost = counted("tidegate_gateway_events_lost_total") - lost_before;
        assert!(missing as u64 <= lost, "{missing} answers are missing, {lost} events are counted");
        for client in &mut clients {
            echo_in_order(client, 50, 10, |n| format!("afterwards {n}")).await;
        }
        assert_eq!(clients[0].call("get_all_client_count", json!({})).await, 16);
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_link_that_is_cut_and_dialed_again_costs_no_connection() {
    for link in BOTH {
        let mut cluster = Cluster::of("callbacks").gateways(2).shards(2).link(link).start().await;
        let mut clients = [cluster.client(0).await, cluster.client(1).await];
        for round in 0..3 {
            let lost = events_lost(&cluster);
            cluster.cut(0, 0);
            eventually("the gateway has noticed", || cluster.load(0).is_empty().then_some(())).await;
            for client in &mut clients {
                client.send(format!("while it was cut {round}")).await;
            }
            assert_eq!(clients[1].text().await, format!("while it was cut {round}"));
            cluster.relink(0, 0).await;
            if events_lost(&cluster) > lost {
                // It went onto the lane as that died, which is counted.
                clients[0].send(format!("while it was cut {round}")).await;
            }
            assert_eq!(clients[0].text().await, format!("while it was cut {round}"));
        }
        clients[0].call("bind_uid", json!({"uid": "u"})).await;
        let found = clients[1].call("get_client_id_by_uid", json!({"uids": ["u"]})).await;
        assert_eq!(found, json!([clients[0].id()]));
        cluster.stop().await;
    }
}

/// Events that the first gateway has lost.
fn events_lost(cluster: &Cluster) -> u64 {
    cluster.gateway(0).census().iter().map(|app| app.lost).sum()
}

#[tokio::test]
async fn a_gateway_that_stops_tells_its_clients_and_their_on_close_runs() {
    for link in BOTH {
        let cluster =
            Cluster::of("callbacks").gateways(2).workers(2).shards(2).slots(2).link(link).start().await;
        let mut observer = observer(&cluster, 1).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = cluster.client(0).await;
            client.call("join_group", json!({"groups": ["g"]})).await;
            clients.push(client);
        }
        let ends = clients.into_iter().map(|mut client| tokio::spawn(async move { client.closed().await }));
        let ends: Vec<_> = ends.collect();
        cluster.stop_gateway(0).await;
        for end in ends {
            assert_eq!(end.await.unwrap().map(|(code, _)| code), Some(1001));
        }
        for _ in 0..20 {
            let close = observer.event("close").await;
            assert_eq!((&close["reason"], &close["groups"]), (&json!("shutdown"), &json!(["g"])));
        }
        assert!(
            tokio::net::TcpStream::connect(cluster.ws(0)).await.is_err(),
            "nobody listens there any more"
        );
        observer.send("on").await;
        observer.json_where(|v| v == "on").await;
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_gateway_without_any_worker_stops_at_once() {
    let cluster =
        Cluster::of("callbacks").protocols(&[Ws, Text]).times(|t| t.slot = Duration::from_secs(3600));
    let mut cluster = cluster.start().await;
    let open = RawWs::of_callbacks(cluster.ws(0)).await;
    cluster.stop_worker(0).await;
    // One waits to be let in, one is in, and the on-close of a third can be told to nobody.
    let mut upgrade = RawClient::connect(cluster.ws(0)).await;
    upgrade.send(upgrade_request(cluster.ws(0), "").as_bytes()).await;
    let mut line = RawClient::connect(cluster.address(0, Text)).await;
    line.send(b"hello\n").await;
    drop(open);
    eventually("it has left", || (cluster.clients(0) == 1).then_some(())).await;
    cluster.stop().await;
    let answer = upgrade.rest().await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "), "{answer:?}");
    assert_eq!(line.rest().await, b"");
}
