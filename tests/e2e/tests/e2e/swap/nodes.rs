//! Nodes that come and go in the middle of a rollout.

use tidegate_harness::{Client, Cluster, LinkKind, component, held};
use tidegate_wire::control::{RolloutPhase, Step, VersionRef};

use super::{ask, says};

const SLOTS: u32 = 6;
const ALL: RolloutPhase = RolloutPhase::Switch { slots: SLOTS };

async fn prepared(cluster: &mut Cluster) -> VersionRef {
    let version = cluster.swapper(0).shelve(component("versioned-twin"));
    cluster.swapper(0).order(version, RolloutPhase::Prepare, Step::Prepared).await;
    version
}

async fn clients(cluster: &Cluster, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for n in 0..count {
        let mut client = Client::connect(cluster.ws(n % 2)).await;
        ask(&mut client, "hello").await;
        clients.push(client);
    }
    clients
}

async fn all_are_answered(clients: &mut [Client]) {
    for client in clients {
        let answer = ask(client, "still").await;
        assert!(["v1 still", "twin still"].contains(&answer.as_str()), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_in_the_middle_hands_its_clients_over() {
    let _compiled = (held("versioned"), held("versioned-twin"));
    for link in [LinkKind::Memory, LinkKind::Quic] {
        for switched_before in [0, 3] {
            let cluster = Cluster::of("versioned").gateways(2).workers(2).slots(SLOTS).shards(2).link(link);
            let mut cluster = cluster.start().await;
            let mut clients = clients(&cluster, 12).await;
            let version = prepared(&mut cluster).await;
            if switched_before > 0 {
                let some = RolloutPhase::Switch { slots: switched_before };
                cluster.swapper(0).order(version, some, Step::Switched).await;
            }
            let mut node = cluster.workers[0].take().unwrap();
            let (report, ()) =
                tokio::join!(node.swapper.order(version, ALL, Step::Switched), node.worker.stop());
            // Those that had stopped say so; nobody waits for them.
            assert!(report.failure.is_some() || report.step == Step::Switched, "{report:?}");
            node.links.iter().flatten().for_each(|link| link.close(0, "stopped"));
            all_are_answered(&mut clients).await;
            for client in &mut clients {
                assert!(ask(client, "where").await.starts_with("v1 where worker-1"));
            }
            assert_eq!(cluster.clients(0) + cluster.clients(1), 12);
            drop(node);
            cluster.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_in_the_middle_loses_no_connection() {
    let _compiled = (held("versioned"), held("versioned-twin"));
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let cluster = Cluster::of("versioned").gateways(2).workers(2).slots(SLOTS).shards(2).link(link);
        let mut cluster = cluster.start().await;
        let mut clients = clients(&cluster, 12).await;
        let version = prepared(&mut cluster).await;
        let mut node = cluster.workers[0].take().unwrap();
        node.swapper.order(version, RolloutPhase::Switch { slots: 3 }, Step::Switched).await;
        tokio::select! {
            biased;
            _ = node.swapper.order(version, ALL, Step::Switched) => {}
            () = async {
                tokio::task::yield_now().await;
                node.links.iter().flatten().for_each(|link| link.close(0, "killed"));
                tokio::task::yield_now().await;
            } => {}
        }
        drop(node);
        // What was sent to it before that is noticed would be lost, and counted.
        cluster.until_linked().await;
        all_are_answered(&mut clients).await;
        assert_eq!(cluster.clients(0) + cluster.clients(1), 12);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_and_a_gateway_that_joins_in_the_middle_change_nothing_of_the_swap() {
    let _compiled = (held("versioned"), held("versioned-twin"));
    for link in [LinkKind::Memory, LinkKind::Quic] {
        for round in 0..3 {
            let cluster = Cluster::of("versioned").gateways(2).slots(SLOTS).shards(2).link(link);
            let mut cluster = cluster.start().await;
            let mut clients = clients(&cluster, 12).await;
            let version = prepared(&mut cluster).await;
            let half = RolloutPhase::Switch { slots: 3 };
            if round > 0 {
                cluster.swapper(0).order(version, half, Step::Switched).await;
            }
            // Gateway 1 is there again, as a new one would be, while slots switch.
            let mut node = cluster.workers[0].take().unwrap();
            let cut = async {
                if round == 2 {
                    tokio::task::yield_now().await;
                }
                node.links[1].iter().for_each(|link| link.close(0, "cut"));
            };
            let (report, ()) = tokio::join!(node.swapper.order(version, ALL, Step::Switched), cut);
            assert_eq!((report.failure, report.step), (None, Step::Switched));
            assert!(report.switches.iter().all(|s| s.lost + s.repeated + s.reordered == 0));
            cluster.workers[0] = Some(node);
            cluster.relink(0, 1).await;
            for (n, client) in clients.iter_mut().enumerate() {
                says(client, &format!("on {n}"), &format!("twin on {n}")).await;
            }
            assert_eq!((cluster.clients(0), cluster.clients(1)), (6, 6));
            cluster.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_linked_while_slots_switch_hears_what_each_of_them_runs() {
    let _compiled = (held("broadcast"), held("minimal-chat"));
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let mut cluster =
            Cluster::of("broadcast").gateways(2).slots(SLOTS).shards(2).link(link).start().await;
        let mut observer = Client::connect(cluster.ws(0)).await;
        for plugin in ["minimal-chat", "broadcast", "minimal-chat"] {
            cluster.cut(0, 1);
            let version = cluster.swapper(0).shelve(component(plugin));
            cluster.swapper(0).order(version, RolloutPhase::Prepare, Step::Prepared).await;
            cluster.swapper(0).begin(version, ALL).await;
            cluster.relink(0, 1).await;
            cluster.swapper(0).order(version, ALL, Step::Switched).await;
            cluster.swapper(0).commit(version).await;
        }
        // Every slot has on-connect and on-close now, and the gateway knows.
        for _ in 0..2 * SLOTS {
            let client = Client::connect(cluster.ws(1)).await;
            assert!(observer.text().await.ends_with(" login"));
            client.drop_connection();
            assert!(observer.text().await.ends_with(" logout"));
        }
        cluster.stop().await;
    }
}
