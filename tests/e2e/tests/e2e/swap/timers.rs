//! Timers across swaps.

use tidegate_harness::{Client, Cluster, held};
use tidegate_wire::control::Stage;

use super::{ask, heard, says};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_go_on_in_the_next_version_with_the_time_that_they_have_left() {
    let _compiled = (held("versioned"), held("versioned-twin"));
    let mut cluster = Cluster::of("versioned").start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "once alarm 700", "v1 once alarm").await;
    says(&mut client, "timer beat 20", "v1 timer beat").await;
    // Swaps follow each other more quickly than that: if they wound it up again, it would never be due.
    for n in 0.. {
        assert!(n < 100_000, "the alarm is never due");
        let report = cluster.swap(0, ["versioned-twin", "versioned"][n % 2]).await;
        assert_eq!(report.failure, None);
        let timers = report.switches[0].timers_carried;
        assert_eq!((report.switches[0].timers_set, report.switches[0].timers_dropped), (0, 0));
        if ask(&mut client, "ticks alarm").await.ends_with(" 1") {
            break;
        }
        assert_eq!(timers, 2, "{report:?}");
    }
    let ticks = ask(&mut client, "ticks beat").await;
    assert!(!ticks.ends_with(" 0"), "{ticks}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_the_next_version_sets_itself_is_the_only_one_of_its_key() {
    let mut cluster = Cluster::of("versioned").start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "timer beat 10", "v1 timer beat").await;
    says(&mut client, "once once 3600000", "v1 once once").await;
    says(&mut client, "once other 3600000", "v1 once other").await;
    says(&mut client, "watch", "v1 watch").await;
    let report = cluster.swap(0, "versioned-busy").await;
    assert_eq!(report.failure, None);
    let switch = report.switches[0];
    assert_eq!((switch.timers_carried, switch.timers_set, switch.timers_dropped), (1, 2, 0));
    while client.text().await != "busy tick fresh 1" {}
    let before = ask(&mut client, "ticks beat").await;
    // The old one was due every 10 ms.
    says(&mut client, "once probe 60", "busy once probe").await;
    while client.text().await != "busy tick probe 1" {}
    says(&mut client, "ticks beat", &before).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_end_and_are_counted_if_the_next_version_has_no_callback_for_them() {
    let mut cluster = Cluster::of("versioned").start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "timer beat 10", "v1 timer beat").await;
    says(&mut client, "once alarm 3600000", "v1 once alarm").await;
    let report = cluster.swap(0, "broadcast").await;
    assert_eq!(report.failure, None);
    let switch = report.switches[0];
    assert_eq!((switch.timers_carried, switch.timers_set, switch.timers_dropped), (0, 0, 2));
    assert_eq!(switch.state_bytes, 0, "it takes no state");
    says(&mut client, "hello", "hello").await;
    let report = cluster.swap(0, "versioned").await;
    assert_eq!((report.failure, report.switches[0].timers_carried), (None, 0));
    says(&mut client, "ticks beat", "v1 ticks beat 0").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_of_both_versions_together_are_not_more_than_the_app_allows() {
    let mut cluster = Cluster::of("versioned").app(|app| app.timers_max = 3).start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "timer one 10", "v1 timer one").await;
    says(&mut client, "once two 3600000", "v1 once two").await;
    says(&mut client, "watch", "v1 watch").await;
    let failure = cluster.swap(0, "versioned-busy").await.failure.expect("there would be four");
    assert_eq!(failure.stage, Stage::Restore);
    assert!(failure.reason.contains("timers_max"), "{failure}");
    assert!(heard(&mut client).await.iter().all(|news| news.starts_with("v1 tick one")));
    // One of the same key makes room.
    assert_eq!(ask(&mut client, "once beat 3600000").await, "v1 once beat");
    let failure = cluster.swap(0, "versioned-busy").await.failure.expect("there would be four");
    assert_eq!(failure.stage, Stage::Restore);
    cluster.stop().await;
}
