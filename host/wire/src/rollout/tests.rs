use proptest::prelude::*;

use super::*;
use crate::control::{Stage, Step};

fn version(number: u32) -> VersionRef {
    VersionRef { number, digest: Digest::from_bytes([number as u8; 32]) }
}

fn rollout(slots: u32) -> Rollout {
    Rollout::new(AppName::new("chat").unwrap(), version(0), slots)
}

fn want(stable: u32, rollout: Option<(u32, RolloutPhase)>) -> DesiredApp {
    DesiredApp {
        app: AppName::new("chat").unwrap(),
        // Nothing was deployed: number 0.
        stable: (stable > 0).then(|| version(stable)),
        rollout: rollout.map(|(number, phase)| DesiredRollout { version: version(number), phase }),
    }
}

fn failure(stage: Stage) -> Failure {
    Failure::new(None, stage, "because".into())
}

/// Everything to do now, reports left out.
fn drain(rollout: &mut Rollout) -> Vec<Do> {
    let mut all = Vec::new();
    while let Some(next) = rollout.poll() {
        rollout.check_invariants().unwrap();
        if next != Do::Report {
            all.push(next);
        }
    }
    all
}

/// Does it, and all goes well.
fn answer(rollout: &mut Rollout, what: Do) {
    match what {
        Do::Load(version) => rollout.module_ready(version.digest),
        Do::Start { slot, .. } => rollout.slot_started(slot),
        Do::Prepare { slot, .. } => rollout.slot_prepared(slot),
        Do::Switch { slot, .. } => rollout.slot_switched(SlotSwitch { slot, ..SlotSwitch::default() }),
        Do::Discard { slot } => rollout.slot_discarded(slot),
        Do::Empty { slot } => rollout.slot_emptied(slot),
        Do::Unload(_) | Do::Report => {}
    }
}

/// Until there is nothing more to do; what was done.
fn settle(rollout: &mut Rollout) -> Vec<Do> {
    let mut all = Vec::new();
    loop {
        let now = drain(rollout);
        if now.is_empty() {
            return all;
        }
        now.iter().for_each(|what| answer(rollout, *what));
        all.extend(now);
    }
}

fn runs(rollout: &Rollout) -> Vec<Option<u32>> {
    rollout.slots().map(|slot| slot.map(|version| version.number)).collect()
}

fn step(rollout: &Rollout) -> Option<(u32, Step)> {
    rollout.report(Vec::new()).rollout.map(|rollout| (rollout.version, rollout.step))
}

fn stable(number: u32, slots: u32) -> Rollout {
    let mut rollout = rollout(slots);
    rollout.desired(&want(number, None));
    settle(&mut rollout);
    rollout
}

fn switch(slots: u32) -> RolloutPhase {
    RolloutPhase::Switch { slots }
}

#[test]
fn nothing_starts_before_anybody_said_what() {
    let mut rollout = rollout(2);
    assert_eq!(drain(&mut rollout), []);
    rollout.alone();
    settle(&mut rollout);
    assert_eq!(runs(&rollout), [Some(0), Some(0)]);
    assert_eq!(step(&rollout), None);
}

#[test]
fn a_worker_starts_with_the_version_that_the_register_names() {
    let mut rollout = rollout(2);
    rollout.desired(&want(3, None));
    assert_eq!(drain(&mut rollout), [Do::Load(version(3))]);
    assert_eq!(step(&rollout), Some((3, Step::Fetching)));
    rollout.module_ready(version(3).digest);
    let starts = [0, 1].map(|slot| Do::Start { slot, version: version(3) });
    assert_eq!(drain(&mut rollout), starts);
    rollout.alone();
    starts.iter().for_each(|start| answer(&mut rollout, *start));
    assert_eq!((drain(&mut rollout), runs(&rollout)), (vec![], vec![Some(3), Some(3)]));
}

#[test]
fn all_slots_are_prepared_before_one_switches_and_they_switch_one_by_one() {
    let mut rollout = stable(1, 3);
    rollout.desired(&want(1, Some((2, RolloutPhase::Prepare))));
    assert_eq!(drain(&mut rollout), [Do::Load(version(2))]);
    rollout.module_compiling(version(2).digest);
    assert_eq!(step(&rollout), Some((2, Step::Compiling)));
    rollout.module_ready(version(2).digest);
    assert_eq!(drain(&mut rollout).len(), 3);
    rollout.slot_prepared(0);
    rollout.slot_prepared(2);
    assert_eq!(step(&rollout), Some((2, Step::Starting)));
    // A register that is ahead of this worker changes nothing about the order.
    rollout.desired(&want(1, Some((2, switch(3)))));
    assert_eq!(drain(&mut rollout), []);
    rollout.slot_prepared(1);
    for slot in 0..3 {
        assert_eq!(drain(&mut rollout), [Do::Switch { slot, version: version(2) }]);
        assert_eq!(step(&rollout), Some((2, Step::Switching)));
        rollout.slot_switched(SlotSwitch { slot, pause_us: 5, ..SlotSwitch::default() });
    }
    rollout.slot_first_event(1, 70);
    rollout.slot_first_event(1, 90);
    let report = rollout.report(Vec::new()).rollout.unwrap();
    assert_eq!(report.step, Step::Switched);
    let seen: Vec<_> = report.switches.iter().map(|s| (s.slot, s.from, s.to, s.first_event_us)).collect();
    assert_eq!(seen, [(0, Some(1), 2, None), (1, Some(1), 2, Some(70)), (2, Some(1), 2, None)]);
    // What the numbers of events say afterwards is told as well, and only when it has changed.
    drain(&mut rollout);
    rollout.slot_audited(1, [0; 3]);
    assert_eq!(rollout.poll(), None);
    rollout.slot_audited(1, [1, 2, 3]);
    let report = rollout.report(Vec::new()).rollout.unwrap();
    let faults: Vec<_> = report.switches.iter().map(|s| (s.lost, s.repeated, s.reordered)).collect();
    assert_eq!(faults, [(0, 0, 0), (1, 2, 3), (0, 0, 0)]);
    assert_eq!(rollout.poll(), Some(Do::Report));
    rollout.desired(&want(2, None));
    assert_eq!(drain(&mut rollout), [Do::Unload(version(1).digest)]);
    assert_eq!(step(&rollout), None);
}

#[test]
fn a_canary_switches_the_first_slots_and_keeps_the_others_ready() {
    let mut rollout = stable(1, 3);
    rollout.desired(&want(1, Some((2, switch(1)))));
    settle(&mut rollout);
    assert_eq!(
        (runs(&rollout), step(&rollout)),
        (vec![Some(2), Some(1), Some(1)], Some((2, Step::Switched)))
    );
    rollout.desired(&want(1, Some((2, switch(3)))));
    assert_eq!(drain(&mut rollout), [Do::Switch { slot: 1, version: version(2) }]);
}

#[test]
fn a_failed_switch_halts_the_rest_and_going_back_undoes_the_others() {
    let mut rollout = stable(1, 3);
    rollout.desired(&want(1, Some((2, RolloutPhase::Prepare))));
    settle(&mut rollout);
    rollout.desired(&want(1, Some((2, switch(3)))));
    drain(&mut rollout);
    rollout.slot_switched(SlotSwitch::default());
    drain(&mut rollout);
    rollout.slot_failed(1, failure(Stage::Restore));
    assert_eq!((drain(&mut rollout), runs(&rollout)), (vec![], vec![Some(2), Some(1), Some(1)]));
    let report = rollout.report(Vec::new()).rollout.unwrap();
    assert_eq!(report.failure, Some(failure(Stage::Restore)));
    rollout.desired(&want(1, Some((2, RolloutPhase::Back))));
    let first = drain(&mut rollout);
    assert_eq!(first, [Do::Prepare { slot: 0, version: version(1) }, Do::Discard { slot: 2 }]);
    first.iter().for_each(|what| answer(&mut rollout, *what));
    settle(&mut rollout);
    assert_eq!((runs(&rollout), step(&rollout)), (vec![Some(1); 3], Some((2, Step::Back))));
    rollout.desired(&want(1, None));
    assert_eq!(step(&rollout), None);
}

#[test]
fn a_version_that_does_not_compile_or_start_leaves_everything_as_it_is() {
    for stage in [Stage::Compile, Stage::Start] {
        let mut rollout = stable(1, 2);
        rollout.desired(&want(1, Some((2, RolloutPhase::Prepare))));
        drain(&mut rollout);
        if stage == Stage::Compile {
            rollout.module_failed(version(2).digest, failure(stage));
        } else {
            rollout.module_ready(version(2).digest);
            drain(&mut rollout);
            rollout.slot_failed(0, failure(stage));
            rollout.slot_prepared(1);
        }
        assert_eq!(drain(&mut rollout), []);
        assert_eq!(rollout.report(Vec::new()).rollout.unwrap().failure, Some(failure(stage)));
        rollout.desired(&want(1, Some((2, RolloutPhase::Back))));
        settle(&mut rollout);
        assert_eq!((runs(&rollout), step(&rollout)), (vec![Some(1); 2], Some((2, Step::Back))));
    }
}

#[test]
fn a_slot_that_cannot_go_back_is_stuck_and_the_next_deployment_takes_it_along() {
    let mut rollout = stable(1, 2);
    rollout.desired(&want(1, Some((2, switch(2)))));
    settle(&mut rollout);
    rollout.desired(&want(1, Some((2, RolloutPhase::Back))));
    drain(&mut rollout);
    rollout.slot_failed(0, failure(Stage::Start));
    rollout.slot_prepared(1);
    drain(&mut rollout);
    assert_eq!(step(&rollout), Some((2, Step::GoingBack)));
    rollout.slot_switched(SlotSwitch { slot: 1, ..SlotSwitch::default() });
    assert_eq!((runs(&rollout), step(&rollout)), (vec![Some(2), Some(1)], Some((2, Step::Stuck))));
    rollout.desired(&want(1, None));
    assert_eq!(settle(&mut rollout), []);
    assert_eq!((step(&rollout), rollout.is_stuck()), (Some((1, Step::Stuck)), true));
    rollout.desired(&want(1, Some((3, switch(2)))));
    settle(&mut rollout);
    assert_eq!((runs(&rollout), step(&rollout)), (vec![Some(3); 2], Some((3, Step::Switched))));
}

#[test]
fn what_failed_with_the_stable_version_is_tried_again_when_asked() {
    let mut rollout = rollout(1);
    rollout.desired(&want(1, None));
    drain(&mut rollout);
    rollout.module_failed(version(1).digest, failure(Stage::Fetch));
    assert_eq!((drain(&mut rollout), rollout.is_stuck()), (vec![], true));
    rollout.retry();
    settle(&mut rollout);
    assert_eq!((runs(&rollout), rollout.is_stuck()), (vec![Some(1)], false));
}

#[test]
fn a_broken_stable_version_is_repaired_by_a_deployment_into_empty_slots() {
    let mut rollout = rollout(1);
    rollout.desired(&want(1, None));
    drain(&mut rollout);
    rollout.module_ready(version(1).digest);
    drain(&mut rollout);
    rollout.slot_failed(0, failure(Stage::Start));
    rollout.desired(&want(1, Some((2, RolloutPhase::Prepare))));
    // It gets one more chance, since something else is wanted now.
    assert!(drain(&mut rollout).contains(&Do::Start { slot: 0, version: version(1) }));
    rollout.module_ready(version(2).digest);
    rollout.slot_failed(0, failure(Stage::Start));
    settle(&mut rollout);
    assert_eq!(step(&rollout), Some((2, Step::Prepared)));
    rollout.desired(&want(1, Some((2, switch(1)))));
    settle(&mut rollout);
    assert_eq!(runs(&rollout), [Some(2)]);
    assert_eq!(rollout.report(Vec::new()).rollout.unwrap().switches[0].from, None);
}

#[test]
fn back_at_any_moment_lets_what_goes_on_end_first() {
    let mut rollout = stable(1, 1);
    rollout.desired(&want(1, Some((2, switch(1)))));
    drain(&mut rollout);
    rollout.module_ready(version(2).digest);
    drain(&mut rollout);
    rollout.slot_prepared(0);
    assert_eq!(drain(&mut rollout), [Do::Switch { slot: 0, version: version(2) }]);
    rollout.desired(&want(1, Some((2, RolloutPhase::Back))));
    assert_eq!((drain(&mut rollout), step(&rollout)), (vec![], Some((2, Step::GoingBack))));
    rollout.slot_switched(SlotSwitch::default());
    assert_eq!(drain(&mut rollout), [Do::Prepare { slot: 0, version: version(1) }]);
}

#[test]
fn the_same_module_again_is_not_loaded_twice() {
    let mut rollout = stable(1, 1);
    let again = VersionRef { number: 2, ..version(1) };
    let phase = switch(1);
    rollout.desired(&DesiredApp { rollout: Some(DesiredRollout { version: again, phase }), ..want(1, None) });
    let done = settle(&mut rollout);
    assert!(!done.iter().any(|what| matches!(what, Do::Load(_))), "{done:?}");
    assert_eq!(runs(&rollout), [Some(2)]);
}

#[test]
fn the_first_version_of_an_app_starts_in_empty_slots_and_what_goes_back_leaves_them_empty() {
    let mut rollout = Rollout::new(AppName::new("chat").unwrap(), None, 2);
    rollout.alone();
    assert_eq!((settle(&mut rollout), runs(&rollout)), (vec![], vec![None, None]));
    rollout.desired(&want(0, Some((1, RolloutPhase::Prepare))));
    let prepare = |slot| Do::Prepare { slot, version: version(1) };
    assert_eq!(settle(&mut rollout), [Do::Load(version(1)), prepare(0), prepare(1)]);
    assert_eq!((runs(&rollout), step(&rollout)), (vec![None, None], Some((1, Step::Prepared))));
    rollout.desired(&want(0, Some((1, switch(2)))));
    drain(&mut rollout);
    rollout.slot_switched(SlotSwitch::default());
    drain(&mut rollout);
    rollout.slot_failed(1, failure(Stage::Restore));
    rollout.desired(&want(0, Some((1, RolloutPhase::Back))));
    assert_eq!(drain(&mut rollout), [Do::Empty { slot: 0 }]);
    assert_eq!(step(&rollout), Some((1, Step::GoingBack)));
    rollout.slot_emptied(0);
    assert_eq!(settle(&mut rollout), [Do::Unload(version(1).digest)]);
    assert_eq!((runs(&rollout), step(&rollout)), (vec![None, None], Some((1, Step::Back))));
    rollout.desired(&want(0, Some((2, switch(2)))));
    settle(&mut rollout);
    rollout.desired(&want(2, None));
    settle(&mut rollout);
    assert_eq!((runs(&rollout), step(&rollout)), (vec![Some(2); 2], None));
    assert_eq!(rollout.report(Vec::new()).rollout, None);
}

#[test]
fn slots_that_come_start_what_is_stable_and_take_part_and_those_that_go_are_not_missed() {
    let mut rollout = stable(1, 2);
    rollout.desired(&want(1, Some((2, RolloutPhase::Prepare))));
    settle(&mut rollout);
    rollout.resize(4);
    let start = |slot| Do::Start { slot, version: version(1) };
    let prepare = |slot| Do::Prepare { slot, version: version(2) };
    assert_eq!(settle(&mut rollout), [start(2), start(3), prepare(2), prepare(3)]);
    rollout.desired(&want(1, Some((2, switch(4)))));
    drain(&mut rollout);
    rollout.resize(1);
    rollout.slot_failed(3, failure(Stage::Save));
    rollout.slot_switched(SlotSwitch::default());
    assert_eq!((settle(&mut rollout), runs(&rollout)), (vec![], vec![Some(2)]));
    assert_eq!(step(&rollout), Some((2, Step::Switched)));
}

#[test]
fn answers_that_nothing_asked_for_change_nothing() {
    let mut rollout = stable(1, 1);
    rollout.slot_started(0);
    rollout.slot_prepared(0);
    rollout.slot_switched(SlotSwitch::default());
    rollout.slot_discarded(0);
    rollout.slot_emptied(0);
    rollout.slot_failed(0, failure(Stage::Save));
    rollout.slot_failed(9, failure(Stage::Save));
    rollout.module_failed(version(1).digest, failure(Stage::Fetch));
    rollout.check_invariants().unwrap();
    assert_eq!((drain(&mut rollout), runs(&rollout), step(&rollout)), (vec![], vec![Some(1)], None));
}

/// What may happen to a worker, in any order.
#[derive(Debug, Clone)]
enum Happens {
    Desired(u32, Option<(u32, RolloutPhase)>),
    Answered(usize),
    Failed(usize),
    Lost(u32),
    Retried,
    Resized(u32),
}

fn happens() -> impl Strategy<Value = Happens> {
    let phase =
        prop_oneof![Just(RolloutPhase::Prepare), (0..4u32).prop_map(switch), Just(RolloutPhase::Back),];
    prop_oneof![
        2 => (0..4u32, proptest::option::of((1..5u32, phase))).prop_map(|(s, r)| Happens::Desired(s, r)),
        8 => any::<usize>().prop_map(Happens::Answered),
        2 => any::<usize>().prop_map(Happens::Failed),
        1 => (0..3u32).prop_map(Happens::Lost),
        1 => Just(Happens::Retried),
        1 => (1..4u32).prop_map(Happens::Resized),
    ]
}

fn slot_of(what: &Do) -> Option<u32> {
    match *what {
        Do::Start { slot, .. }
        | Do::Prepare { slot, .. }
        | Do::Switch { slot, .. }
        | Do::Discard { slot }
        | Do::Empty { slot } => Some(slot),
        Do::Load(_) | Do::Unload(_) | Do::Report => None,
    }
}

fn fail(rollout: &mut Rollout, what: Do) {
    match what {
        Do::Load(version) => rollout.module_failed(version.digest, failure(Stage::Fetch)),
        Do::Start { slot, .. } | Do::Prepare { slot, .. } | Do::Switch { slot, .. } => {
            rollout.slot_failed(slot, failure(Stage::Start));
        }
        Do::Discard { .. } | Do::Empty { .. } | Do::Unload(_) | Do::Report => answer(rollout, what),
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_worker_ends_where_the_register_wants_it(
        mut slots in 1..4u32,
        has_own in any::<bool>(),
        story in proptest::collection::vec(happens(), 0..60),
        last in 0..5u32,
    ) {
        let mut rollout = Rollout::new(AppName::new("chat").unwrap(), has_own.then(|| version(0)), slots);
        let mut open: Vec<Do> = Vec::new();
        for next in story {
            match next {
                Happens::Desired(stable, rolled) => rollout.desired(&want(stable, rolled)),
                Happens::Answered(at) if !open.is_empty() => {
                    let what = open.swap_remove(at % open.len());
                    answer(&mut rollout, what);
                }
                Happens::Failed(at) if !open.is_empty() => {
                    let what = open.swap_remove(at % open.len());
                    fail(&mut rollout, what);
                }
                // The instance beside the slot's own is gone; not while the slot does something else.
                Happens::Lost(slot) => {
                    if !open.iter().any(|what| slot_of(what) == Some(slot)) {
                        rollout.slot_failed(slot, failure(Stage::Worker));
                    }
                }
                Happens::Retried => rollout.retry(),
                Happens::Resized(count) => {
                    rollout.resize(count);
                    slots = count;
                    open.retain(|what| slot_of(what).is_none_or(|slot| slot < count));
                }
                Happens::Answered(_) | Happens::Failed(_) => {}
            }
            rollout.check_invariants().map_err(TestCaseError::fail)?;
            let new = drain(&mut rollout);
            open.extend(new.into_iter().filter(|what| !matches!(what, Do::Unload(_))));
            prop_assert!(open.len() <= slots as usize + 5, "{open:?}");
        }
        rollout.desired(&want(last, None));
        rollout.retry();
        open.into_iter().for_each(|what| answer(&mut rollout, what));
        settle(&mut rollout);
        let runs_last = last > 0 || has_own;
        prop_assert_eq!(runs(&rollout), vec![runs_last.then_some(last); slots as usize]);
        prop_assert_eq!(step(&rollout), None);
        prop_assert_eq!(rollout.modules.len(), usize::from(runs_last));
    }
}
