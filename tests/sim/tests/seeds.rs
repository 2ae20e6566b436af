//! Many stories, each from its seed.

use tidegate_sim::{Cluster, Summary};

/// Some ten seconds' worth.
const SEEDS: u64 = 200;

#[test]
fn deployments_keep_their_promises_whatever_fails() {
    if let Ok(seed) = std::env::var("TIDEGATE_SIM_SEED") {
        let seed = seed.parse().expect("TIDEGATE_SIM_SEED is a number");
        let summary = Cluster::tell(seed, true).unwrap();
        println!("{summary:?}");
        return;
    }
    let seeds = std::env::var("TIDEGATE_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let mut all = Summary::default();
    let mut broken = Vec::new();
    for seed in 0..seeds {
        match Cluster::tell(seed, false) {
            Ok(one) => all = all.plus(one),
            Err(reason) => broken.push(reason),
        }
    }
    println!("{all:?}");
    assert!(broken.is_empty(), "{} of {seeds}:\n{}", broken.len(), broken.join("\n"));
    // The stories are about something.
    let seen = [all.committed, all.rolled_back, all.refused];
    let faults = [all.register_deaths, all.worker_deaths, all.writes_failed];
    assert!(seen.iter().chain(&faults).all(|count| *count >= seeds / 2), "{all:?}");
    assert!(all.mixed > seeds / 20, "{all:?}");
    let told = all.messages;
    let messages = [told.failed, told.lost, told.moved, told.switched_under_load];
    assert!(messages.iter().all(|count| *count >= seeds), "{all:?}");
    assert!(told.answered >= seeds * 1_000 && told.states_lost > seeds / 10, "{all:?}");
}
