//! New versions that are judged while clients use them.

use std::collections::BTreeSet;

use super::start_versioned;
use super::traffic::Traffic;
use crate::binary::{Operator, wasm};

const SLOTS: u32 = 4;
const CLIENTS: usize = 12;

fn arguments<'a>(wasm: &'a str, window: &'a str) -> [&'a str; 9] {
    ["deploy", "test", wasm, "--canary", "25%", "--for", window, "--events-min", "20"]
}

/// The turns of the old version and of the new one, while this deployment compared them.
fn judged(operator: &Operator, number: u64) -> (u64, u64) {
    let history = operator.history();
    let entry = history.iter().find(|entry| entry["version"]["number"] == number).unwrap();
    let turns = |arm: &str| entry["report"]["canary"][arm]["turns"].as_u64().unwrap();
    (turns("old"), turns("new"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_canary_goes_on_to_all_and_no_client_ever_goes_back_to_the_old_version() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), SLOTS);
    let traffic = Traffic::start(node.listener("ws"), CLIENTS, SLOTS as usize).await;
    let ran = operator.start(&arguments(&wasm("versioned-twin"), "1s")).end().await;
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("0 lost, 0 repeated, 0 out of order"), "{}", ran.stdout);
    assert!(ran.stdout.contains("0 closed"), "{}", ran.stdout);
    let (old, new) = judged(&operator, 2);
    assert!(old >= 20 && new >= 20, "{old} {new}");
    for mut heard in traffic.stop().await {
        // First the old one's words, then the new one's: an answer from the old one after that would be a third part.
        let story = (heard.place.clone(), heard.sent, heard.answers.len());
        assert!(heard.is_whole(&["v1", "twin"]), "{story:?}: {:?}", heard.answers);
        let (mine, sent) = (format!("twin mine {}", heard.sent), "mine");
        heard.says(sent, &mine).await;
    }
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_or_traps_is_taken_back_with_its_numbers_and_only_its_slot_has_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), SLOTS);
    for (number, variant) in [(2, "message-fails"), (3, "message-traps")] {
        let traffic = Traffic::start(node.listener("ws"), CLIENTS, SLOTS as usize).await;
        let wasm = wasm(&format!("versioned-{variant}"));
        let ran = operator.start(&arguments(&wasm, "1s")).end().await;
        assert_eq!(ran.code, 70, "{variant}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("0 closed"), "{}", ran.stdout);
        let reason = operator.reason(number);
        let numbers = if number == 2 { "%) of new turns failed" } else { "on 1 of the 1 slots" };
        assert!(reason.contains(numbers), "{variant}: {reason}");
        assert_eq!(operator.settled(SLOTS as usize).await, 1);

        let all = traffic.stop().await;
        let places: BTreeSet<_> = all.iter().map(|heard| heard.place.clone()).collect();
        assert_eq!(places.len(), SLOTS as usize, "{places:?}");
        let noticed = all.iter().filter(|heard| !heard.is_whole(&["v1"]));
        let noticed: BTreeSet<_> = noticed.map(|heard| heard.place.clone()).collect();
        assert_eq!(noticed.len(), 1, "{variant}: {noticed:?}");
        for mut heard in all {
            assert!(heard.answers.iter().all(|answer| answer.starts_with("v1 ")), "{:?}", heard.answers);
            heard.says("back", "v1 back").await;
        }
    }
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_nobody_uses_is_taken_back_as_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), 2);
    let ran = operator.start(&arguments(&wasm("versioned-twin"), "1s")).end().await;
    assert_eq!(ran.code, 70, "{}{}", ran.stdout, ran.stderr);
    let reason = operator.reason(2);
    assert!(reason.contains("each needs 20 turns"), "{reason}");
    assert_eq!(operator.settled(2).await, 1);
    assert_eq!(node.process.terminate(), Some(0));
}
