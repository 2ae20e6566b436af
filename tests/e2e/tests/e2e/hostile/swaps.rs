//! Versions that do not start, and versions that lie about what they hand over.

use tidegate_harness::component;
use tidegate_wire::control::{RolloutReport, Stage, Step};
use tidegate_worker::WorkerApp;

use super::{Siege, says};
use crate::support::padded;

/// The plugin's next version: the same code under another digest.
fn next() -> Vec<u8> {
    padded(&component("hostile"), 100)
}

/// Takes the hostile app of these settings to its next version, while the quiet one goes on.
async fn swapped(case: &'static str, settings: &'static [(&str, &str)]) -> (Siege, RolloutReport) {
    let set = move |app: &mut WorkerApp| {
        app.limits.turn_wall_ms = 500;
        app.settings = settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    };
    let mut siege = Siege::with(case, set).await;
    let report = siege.cluster.swapper(0).swap(next()).await;
    siege.goes_on().await;
    (siege, report)
}

/// Nothing has changed, and the reason is told.
async fn is_refused(case: &'static str, settings: &'static [(&str, &str)], stage: Stage, words: &[&str]) {
    let (siege, report) = swapped(case, settings).await;
    let failure = report.failure.expect("it cannot be done");
    assert_eq!((failure.slot, failure.stage), (Some(0), stage), "{failure}");
    for word in words {
        assert!(failure.to_string().contains(word), "{word:?} is not in: {failure}");
    }
    assert_eq!((report.step, report.switches), (Step::Back, vec![]));
    let mut client = siege.client().await;
    says(&mut client, "told", "told ").await;
    assert_eq!(siege.status().version, 1);
    siege.end().await;
}

#[tokio::test]
async fn a_version_whose_start_loops_is_refused_by_its_limit_and_the_quiet_app_goes_on() {
    is_refused("start-loops", &[("start", "loop")], Stage::Start, &["on-worker-start", "turn_cpu_ms"]).await;
}

#[tokio::test]
async fn a_version_whose_start_sleeps_is_refused_by_its_limit_and_the_quiet_app_goes_on() {
    is_refused("start-sleeps", &[("start", "sleep")], Stage::Start, &["on-worker-start", "turn_wall_ms"])
        .await;
}

#[tokio::test]
async fn a_state_that_is_garbage_is_refused_by_whoever_takes_it_and_the_quiet_app_goes_on() {
    is_refused("garbage", &[("save", "garbage")], Stage::Restore, &["cannot be read", "schema 1"]).await;
}

#[tokio::test]
async fn a_state_of_a_foreign_schema_is_refused_by_whoever_takes_it_and_the_quiet_app_goes_on() {
    is_refused("foreign", &[("save", "foreign")], Stage::Restore, &["schema 777"]).await;
}

#[tokio::test]
async fn a_restore_that_takes_nothing_over_and_says_it_did_harms_only_its_own_app() {
    let (siege, report) = swapped("lies", &[("save", "garbage"), ("restore", "lies")]).await;
    assert_eq!((report.failure, report.step), (None, Step::Switched));
    let mut client = siege.client().await;
    says(&mut client, "told", "told nonsense").await;
    siege.end().await;
}

#[tokio::test]
async fn a_save_that_sends_sets_timers_and_asks_is_refused_and_nothing_of_it_is_done() {
    let (siege, report) = swapped("save-asks", &[("save", "asks")]).await;
    let failure = report.failure.expect("a save may do nothing");
    assert_eq!((failure.stage, report.step), (Stage::Save, Step::Back), "{failure}");
    assert!(failure.reason.contains("save"), "{failure}");
    let mut client = siege.client().await;
    says(&mut client, "told", "told ").await;
    siege.end().await;
}
