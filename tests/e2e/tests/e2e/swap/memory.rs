//! Swaps leave nothing behind.

use tidegate_harness::{Client, Cluster, component, eventually, held, is_loaded};

use super::{ask, says};

/// The same component by another name: a module of its own.
fn labelled(plugin: &str, label: &str) -> Vec<u8> {
    let mut bytes = component(plugin);
    let name = b"label";
    let section = [&[name.len() as u8], &name[..], label.as_bytes()].concat();
    bytes.extend([0, u8::try_from(section.len()).expect("a short label")]);
    bytes.extend(section);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_swaps_leave_no_instance_behind() {
    // There is room for 200 instances in this process: whoever left one behind would soon find none.
    let _compiled = (held("versioned"), held("versioned-twin"));
    let mut cluster = Cluster::of("versioned").slots(2).start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    for n in 0..300 {
        let (plugin, name) = [("versioned-twin", "twin"), ("versioned", "v1")][n % 2];
        assert_eq!(cluster.swap(0, plugin).await.failure, None, "swap {n}");
        says(&mut client, &format!("say {n}"), &format!("{name} say {n} {} {}", n + 2, n + 1)).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_versions_leave_no_instance_behind() {
    let _compiled = (held("versioned"), held("versioned-twin"));
    let mut cluster = Cluster::of("versioned").slots(2).start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    ask(&mut client, "poison restore-traps").await;
    for n in 0..150 {
        assert!(cluster.swap(0, "versioned-twin").await.failure.is_some(), "swap {n}");
    }
    says(&mut client, "hello", "v1 hello").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_that_no_slot_runs_are_unloaded() {
    // Nobody else runs it.
    let first = component("versioned-message-traps");
    let mut cluster = Cluster::of("versioned-message-traps").slots(2).start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "mine", "message-traps mine 0").await;
    let mut before = first;
    for n in 0..3 {
        let next = labelled("versioned", &n.to_string());
        assert!(is_loaded(&before) && !is_loaded(&next));
        assert_eq!(cluster.swapper(0).swap(next.clone()).await.failure, None);
        assert!(is_loaded(&next));
        eventually("the version before is unloaded", || (!is_loaded(&before)).then_some(())).await;
        says(&mut client, &format!("say {n}"), &format!("v1 say {n} {} {}", n + 2, n + 1)).await;
        before = next;
    }
    // Nor does one stay that was refused.
    ask(&mut client, "poison restore-fails").await;
    let refused = labelled("versioned", "refused");
    assert!(cluster.swapper(0).swap(refused.clone()).await.failure.is_some());
    eventually("the refused version is unloaded", || (!is_loaded(&refused)).then_some(())).await;
    assert!(is_loaded(&before));
    cluster.stop().await;
}
