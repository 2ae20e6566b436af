//! Swaps under load: numbered messages, several of each client on their way together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_harness::{Client, Cluster, LinkKind, held};
use tidegate_wire::control::SlotSwitch;

const CLIENTS: usize = 16;
const WINDOW: u64 = 8;
const SWAPS: usize = 50;

/// Sends numbers until it is told to stop; the answers must be those of one slot that lost and repeated nothing, by
/// versions that only grow. Returns how many it sent, and how many versions it met.
async fn run(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> (u64, usize) {
    let mut client = Client::connect(address).await;
    let (mut sent, mut came, mut version, mut versions) = (0_u64, 0_u64, 0_u32, 0);
    while came < sent || !stop.load(Ordering::Relaxed) {
        while sent < came + WINDOW && !stop.load(Ordering::Relaxed) {
            client.feed(format!("say {sent}")).await;
            sent += 1;
        }
        client.flush().await;
        if came == sent {
            break;
        }
        let answer = client.text().await;
        let words: Vec<&str> = answer.split(' ').collect();
        let [name, "say", number, by, mine] = words[..] else { panic!("{answer}") };
        assert_eq!(number.parse(), Ok(came), "{answer}");
        let by: u32 = by.parse().unwrap();
        assert!(by >= version, "an old version after a new one: {answer} after version {version}");
        versions += usize::from(by > version);
        version = by;
        assert_eq!(name, if by % 2 == 1 { "v1" } else { "twin" }, "{answer}");
        came += 1;
        // The state went with it, each time.
        assert_eq!(mine.parse(), Ok(came), "{answer}");
    }
    client.close().await;
    (sent, versions)
}

async fn swaps_under_load(link: LinkKind) {
    let _compiled = (held("versioned"), held("versioned-twin"));
    let mut cluster =
        Cluster::of("versioned").gateways(2).workers(2).shards(2).slots(2).link(link).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(run(cluster.ws(n % 2), Arc::clone(&stop)))).collect();
    let mut switches: Vec<SlotSwitch> = Vec::new();
    for n in 0..SWAPS {
        let plugin = ["versioned-twin", "versioned"][n / 2 % 2];
        let report = cluster.swap(n % 2, plugin).await;
        assert_eq!(report.failure, None);
        assert_eq!(report.switches.len(), 2);
        switches.extend(report.switches);
    }
    stop.store(true, Ordering::Relaxed);
    let mut versions = 0;
    for client in clients {
        let (sent, met) = client.await.unwrap();
        assert!(sent > 0);
        versions = versions.max(met);
    }
    assert!(versions > 2, "nobody met more than two versions");
    let sum = |count: fn(&SlotSwitch) -> u64| switches.iter().map(count).sum::<u64>();
    assert_eq!(sum(|s| u64::from(s.lost + s.repeated + s.reordered)), 0);
    assert!(sum(|s| s.lane_events_before) > 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_under_load_lose_repeat_and_reorder_nothing_on_links_in_memory() {
    swaps_under_load(LinkKind::Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_swaps_under_load_lose_repeat_and_reorder_nothing_on_quic() {
    swaps_under_load(LinkKind::Quic).await;
}
