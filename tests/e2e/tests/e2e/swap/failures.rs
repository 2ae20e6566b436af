//! A swap that fails in one slot: that one keeps its version, the others go back, and nobody is closed.

use std::time::Duration;

use tidegate_harness::{Client, Cluster, component, held};
use tidegate_wire::control::{RolloutReport, Stage, Step};
use tidegate_worker::WorkerApp;

use super::{ask, one_in_each, says};

const SLOTS: usize = 4;

/// Clients of all slots with a little state each.
async fn with_state(cluster: &Cluster) -> Vec<Client> {
    let mut clients = one_in_each(cluster, SLOTS).await;
    for (slot, client) in clients.iter_mut().enumerate() {
        for n in 0..=slot {
            says(client, &format!("hello {n}"), &format!("v1 hello {n}")).await;
        }
    }
    clients
}

/// What must hold after a failure in one slot: `lost` if its state went with it.
async fn went_back(
    clients: &mut [Client],
    failing: usize,
    lost: bool,
    report: &RolloutReport,
    stage: Stage,
    reason: &[&str],
) {
    let failure = report.failure.as_ref().expect("it cannot be done");
    assert_eq!((failure.slot, failure.stage), (Some(failing as u32), stage), "{failure}");
    for part in reason {
        assert!(failure.reason.contains(part), "{part:?} is not in: {failure}");
    }
    assert_eq!(report.step, Step::Back, "{report:?}");
    // Those before the failing slot went there and back.
    assert_eq!(report.switches.len(), 2 * failing, "{report:?}");
    for (slot, client) in clients.iter_mut().enumerate() {
        let kept = if lost && slot == failing { 0 } else { slot + 1 };
        says(client, "mine", &format!("v1 mine {kept}")).await;
    }
}

async fn a_poison_in(slot: usize, cases: &[(&str, Stage, &[&str])]) {
    let _compiled = (held("versioned"), held("versioned-twin"));
    for (poison, stage, reason) in cases {
        let mut cluster = Cluster::of("versioned").slots(SLOTS as u32).shards(2).start().await;
        let mut clients = with_state(&cluster).await;
        ask(&mut clients[slot], &format!("poison {poison}")).await;
        let report = cluster.swap(0, "versioned-twin").await;
        // A fault in save is one of the instance that serves: it is started anew, without its state.
        let lost = matches!(*poison, "save-traps" | "save-loops");
        went_back(&mut clients, slot, lost, &report, *stage, reason).await;
        // Nothing is left over: as soon as it can be done, it is done.
        ask(&mut clients[slot], "poison nothing").await;
        assert_eq!(cluster.swap(0, "versioned-twin").await.failure, None);
        for (slot, client) in clients.iter_mut().enumerate() {
            let answer = ask(client, "mine").await;
            assert!(answer.starts_with("twin mine"), "slot {slot}: {answer}");
        }
        assert_eq!(cluster.clients(0), SLOTS);
        cluster.stop().await;
    }
}

const SAVE: &[(&str, Stage, &[&str])] = &[
    ("save-fails", Stage::Save, &["failed as built"]),
    ("save-traps", Stage::Save, &["trapped", "versioned"]),
    ("save-loops", Stage::Save, &["CPU", "versioned"]),
];
const RESTORE: &[(&str, Stage, &[&str])] = &[
    ("restore-fails", Stage::Restore, &["failed as built"]),
    ("restore-traps", Stage::Restore, &["trapped", "versioned"]),
    ("restore-loops", Stage::Restore, &["CPU", "versioned"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_that_fails_traps_or_loops_in_the_first_slot_leaves_all_as_they_were() {
    a_poison_in(0, SAVE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_that_fails_traps_or_loops_in_a_middle_slot_takes_the_others_back() {
    a_poison_in(2, SAVE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_that_fails_traps_or_loops_in_the_last_slot_takes_the_others_back() {
    a_poison_in(3, SAVE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_traps_or_loops_in_the_first_slot_leaves_all_as_they_were() {
    a_poison_in(0, RESTORE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_traps_or_loops_in_a_middle_slot_takes_the_others_back() {
    a_poison_in(1, RESTORE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_fails_traps_or_loops_in_the_last_slot_takes_the_others_back() {
    a_poison_in(3, RESTORE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_too_large_stays_where_it_is() {
    let _compiled = (held("versioned"), held("versioned-twin"));
    for slot in [0, 2, 3] {
        let small = |app: &mut tidegate_worker::WorkerApp| app.state_bytes_max = 10_000;
        let mut cluster = Cluster::of("versioned").slots(SLOTS as u32).app(small).start().await;
        let mut clients = with_state(&cluster).await;
        says(&mut clients[slot], "ballast 10000", "v1 ballast 10000").await;
        let report = cluster.swap(0, "versioned-twin").await;
        went_back(&mut clients, slot, false, &report, Stage::Save, &["may hand over 10000"]).await;
        says(&mut clients[slot], "weight", "v1 weight 10000").await;
        says(&mut clients[slot], "ballast 9000", "v1 ballast 9000").await;
        let report = cluster.swap(0, "versioned-twin").await;
        assert_eq!(report.failure, None);
        assert!(report.switches.iter().all(|switch| switch.state_bytes <= 10_000));
        says(&mut clients[slot], "weight", "twin weight 9000").await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_that_cannot_hand_over_or_take_over_is_refused_with_the_reason() {
    for (from, to, stage, reason) in [
        ("versioned-save-fails", "versioned", Stage::Save, "failed as built"),
        ("versioned-save-traps", "versioned", Stage::Save, "versioned"),
        ("versioned-save-loops", "versioned", Stage::Save, "CPU"),
        ("versioned-save-huge", "versioned", Stage::Save, "may hand over 16777216"),
        ("versioned", "versioned-restore-fails", Stage::Restore, "failed as built"),
        ("versioned", "versioned-restore-traps", Stage::Restore, "versioned"),
        ("versioned", "versioned-restore-loops", Stage::Restore, "CPU"),
        ("versioned-v2", "versioned", Stage::Restore, "schema 2"),
    ] {
        let limits = |app: &mut WorkerApp| {
            app.limits.memory_mib = 128;
            // For 17 MiB of fresh pages, on a slow machine too.
            app.limits.turn_cpu_ms = 500;
        };
        let mut cluster = Cluster::of(from).slots(2).app(limits).start().await;
        let mut client = Client::connect(cluster.ws(0)).await;
        let name = from.strip_prefix("versioned-").unwrap_or("v1");
        says(&mut client, "hello", &format!("{name} hello")).await;
        let report = cluster.swap(0, to).await;
        let failure = report.failure.expect("it cannot be done");
        assert_eq!((failure.slot, failure.stage), (Some(0), stage), "{failure}");
        assert!(failure.reason.contains(reason), "{failure}");
        assert_eq!((report.step, report.switches), (Step::Back, vec![]));
        says(&mut client, "again", &format!("{name} again")).await;
        cluster.stop().await;
    }
}

/// Each slot's clients know what they knew in version 1 before it was left.
async fn know_what_was_handed_over(clients: &mut [Client]) {
    for (slot, client) in clients.iter_mut().enumerate() {
        says(client, "mine", &format!("v1 mine {}", slot + 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_changed_the_state_is_left_with_what_was_handed_over_to_it() {
    let _compiled = (held("versioned"), held("versioned-v2"));
    let mut cluster = Cluster::of("versioned").slots(SLOTS as u32).shards(2).start().await;
    let mut clients = with_state(&cluster).await;
    ask(&mut clients[2], "poison restore-fails").await;
    // Version 1 does not know the schema in which version 2 saves.
    let report = cluster.swap(0, "versioned-v2").await;
    let failure = report.failure.expect("the third slot refuses");
    assert_eq!(
        (failure.slot, failure.stage, report.step),
        (Some(2), Stage::Restore, Step::Back),
        "{failure}"
    );
    let mut switches: Vec<_> =
        report.switches.iter().map(|switch| (switch.to, switch.slot, switch.state_lost)).collect();
    switches.sort_unstable();
    assert_eq!(switches, [(1, 0, true), (1, 1, true), (2, 0, false), (2, 1, false)]);
    know_what_was_handed_over(&mut clients).await;
    // The next deployment finds nothing of that one.
    ask(&mut clients[2], "poison nothing").await;
    assert_eq!(cluster.swap(0, "versioned-v2").await.failure, None);
    for (slot, client) in clients.iter_mut().enumerate() {
        says(client, "mine", &format!("v2 mine {}", slot + 1)).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_save_is_left_all_the_same() {
    let _compiled = held("versioned");
    for (bad, poison) in
        [("save-traps", "restore-traps"), ("save-loops", "restore-fails"), ("save-fails", "restore-fails")]
    {
        let bad = format!("versioned-{bad}");
        let mut cluster = Cluster::of("versioned").slots(SLOTS as u32).shards(2).start().await;
        let mut clients = with_state(&cluster).await;
        ask(&mut clients[3], &format!("poison {poison}")).await;
        let report = cluster.swap(0, &bad).await;
        assert_eq!(report.step, Step::Back, "{report:?}");
        assert_eq!(report.switches.iter().filter(|switch| switch.state_lost).count(), 3, "{report:?}");
        know_what_was_handed_over(&mut clients).await;
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_state_went_with_a_fault_goes_where_it_should_without_it() {
    let mut cluster = Cluster::of("versioned-save-traps").start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "hello", "save-traps hello").await;
    // A deployment leaves it what it knows; a slot that is just behind goes on.
    let version = cluster.swapper(0).shelve(component("versioned"));
    cluster.swapper(0).commit(version).await;
    let switched = async {
        loop {
            let answer = ask(&mut client, "mine").await;
            if answer.starts_with("v1") {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), switched).await.expect("it switches");
    assert_eq!(answer, "v1 mine 0");
    cluster.stop().await;
}
