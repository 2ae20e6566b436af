//! What a version does before it has the slot: nothing that anybody sees.

use tidegate_harness::{Client, Cluster, component, held};
use tidegate_wire::control::{RolloutPhase, Step, VersionRef};

use super::{ask, heard, one_in_each, says};

/// The next version, without a word to the worker.
fn next(cluster: &mut Cluster, plugin: &str) -> VersionRef {
    cluster.swapper(0).shelve(component(plugin))
}

async fn order(cluster: &mut Cluster, version: VersionRef, phase: RolloutPhase, goal: Step) {
    let report = cluster.swapper(0).order(version, phase, goal).await;
    assert_eq!((report.failure, report.step), (None, goal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_of_a_start_are_held_back_until_the_slot_switches() {
    let mut cluster = Cluster::of("versioned").slots(2).start().await;
    let mut clients = one_in_each(&cluster, 2).await;
    says(&mut clients[0], "watch", "v1 watch").await;
    says(&mut clients[0], "one", "v1 one").await;
    let version = next(&mut cluster, "versioned-v2");
    order(&mut cluster, version, RolloutPhase::Prepare, Step::Prepared).await;
    says(&mut clients[0], "two", "v1 two").await;
    assert_eq!(heard(&mut clients[0]).await, Vec::<String>::new());
    order(&mut cluster, version, RolloutPhase::Switch { slots: 1 }, Step::Switched).await;
    let mut news = Vec::new();
    while news.len() < 3 {
        news.push(clients[0].text().await);
    }
    assert_eq!(news, ["v2 started swap 2", "v2 restored 2", "v1 stopped swap"]);
    says(&mut clients[0], "three", "v2 three").await;
    says(&mut clients[1], "mine", "v1 mine 0").await;
    order(&mut cluster, version, RolloutPhase::Switch { slots: 2 }, Step::Switched).await;
    let news = [clients[0].text().await, clients[0].text().await, clients[0].text().await];
    assert_eq!(news, ["v2 started swap 2", "v2 restored 0", "v1 stopped swap"]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_of_a_version_that_is_given_up() {
    let mut cluster = Cluster::of("versioned").slots(2).start().await;
    let mut clients = one_in_each(&cluster, 2).await;
    says(&mut clients[0], "watch", "v1 watch").await;
    for plugin in ["versioned-twin", "versioned-busy"] {
        let version = next(&mut cluster, plugin);
        order(&mut cluster, version, RolloutPhase::Prepare, Step::Prepared).await;
        let back = cluster.swapper(0).order(version, RolloutPhase::Back, Step::Back).await;
        assert_eq!((back.failure, back.switches), (None, vec![]));
    }
    // One that is refused in its restore has said `started` and `restored` to nobody.
    ask(&mut clients[0], "poison restore-traps").await;
    assert!(cluster.swap(0, "versioned-busy").await.failure.is_some());
    assert_eq!(heard(&mut clients[0]).await, Vec::<String>::new());
    says(&mut clients[0], "ticks fresh", "v1 ticks fresh 0").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starting_and_a_stopping_instance_ask_and_are_told_what_is() {
    let _compiled = held("versioned-busy");
    let mut cluster = Cluster::of("versioned").gateways(2).slots(2).shards(2).start().await;
    let mut watchers = Vec::new();
    for gateway in [0, 0, 1] {
        let mut client = Client::connect(cluster.ws(gateway)).await;
        ask(&mut client, "watch").await;
        watchers.push(client);
    }
    // The old instances ask while the next ones start and ask.
    for _ in 0..10 {
        assert_eq!(cluster.swap(0, "versioned-busy").await.failure, None);
    }
    let (mut asked, mut stopped) = (0, 0);
    while asked < 2 * (10 + 9) || stopped < 2 * 10 {
        let news = watchers[2].text().await;
        let words: Vec<_> = news.split(' ').collect();
        match words[1] {
            "asked" => {
                assert_eq!(words[2], "3", "{news}");
                asked += 1;
            }
            "stopped" => stopped += 1,
            _ => {}
        }
    }
    cluster.stop().await;
}
