//! A register with made-up workers whose every word the tests choose.

use tidegate_base::Digest;
use tidegate_wire::control::{
    Canary, Failure, RolloutPhase, RolloutReport, SlotSwitch, Stage, Step, VersionTally,
};
use tidegate_wire::report::{Progress, SwapReport};

use super::*;

const START: Duration = Duration::from_secs(1_000_000);

fn app() -> AppName {
    AppName::new("chat").unwrap()
}

fn digest(of: u8) -> Digest {
    Digest::from_bytes([of; 32])
}

fn request(module: u8) -> DeployRequest {
    let (by, note) = ("ann".into(), "why not".into());
    let waited = Duration::ZERO;
    DeployRequest { app: app(), digest: digest(module), again: None, canary: None, by, note, waited }
}

fn canary(percent: u8) -> Option<Canary> {
    Some(Canary { percent, for_ms: 10_000, events_min: 100 })
}

fn report(slots: &[u32], rollout: Option<(u32, Step)>) -> AppReport {
    let slots = slots.iter().map(|version| Some(*version)).collect();
    let rollout =
        rollout.map(|(version, step)| RolloutReport { version, step, failure: None, switches: Vec::new() });
    AppReport { app: app(), slots, rollout, judged: Vec::new(), asleep: 0 }
}

struct Register {
    machine: Deployments,
    now: Duration,
    records: Vec<Record>,
    told: BTreeMap<Session, Option<DesiredApp>>,
    news: Vec<Progress>,
    censuses: Vec<u64>,
    first_versions: u32,
}

impl Register {
    fn new() -> Self {
        Self::of(Deployments::default())
    }

    fn of(machine: Deployments) -> Self {
        let (told, news) = (BTreeMap::new(), Vec::new());
        let (records, censuses) = (Vec::new(), Vec::new());
        let mut it = Self { machine, now: START, records, told, news, censuses, first_versions: 0 };
        it.drain();
        it
    }

    /// With workers 1, 2 and so on, all of whose slots run version 0.
    fn with(slots: &[usize]) -> Self {
        let mut it = Self::new();
        for (at, slots) in slots.iter().enumerate() {
            it.join(at as Session + 1, &vec![0; *slots]);
        }
        it
    }

    fn join(&mut self, session: Session, slots: &[u32]) {
        let name = NodeName::new(&format!("w{session}")).unwrap();
        self.machine.node_up(session, Role::Worker, name, self.now);
        self.says(session, report(slots, None));
    }

    fn says(&mut self, session: Session, report: AppReport) {
        self.machine.on_reports(session, vec![report], self.now);
        self.drain();
    }

    fn deploy(&mut self, request: DeployRequest) -> u32 {
        let version = self.machine.deploy(request, self.now).unwrap();
        self.drain();
        version.number
    }

    /// The store has written what it was last given.
    fn stored(&mut self) {
        let number = self.records.last().unwrap().version.number;
        self.machine.persisted(&app(), number, self.now);
        self.drain();
    }

    fn not_stored(&mut self) {
        let number = self.records.last().unwrap().version.number;
        self.machine.persist_failed(&app(), number, "no space left", self.now);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.on_timeout(self.now);
        self.drain();
    }

    /// Until something is due.
    fn wait(&mut self) {
        self.now = self.machine.poll_timeout().unwrap();
        self.machine.on_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        self.machine.check_invariants().unwrap();
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Persist { record, .. } => self.records.push(*record),
                Output::Apps { session, apps, .. } => {
                    assert!(apps.len() <= 1);
                    self.told.insert(session, apps.into_iter().next());
                }
                Output::Census { number } => self.censuses.push(number),
                Output::FirstVersions => self.first_versions += 1,
                Output::Progress { news, .. } => self.news.push(news),
            }
        }
    }

    fn state(&self) -> &RecordState {
        &self.records.last().unwrap().state
    }

    fn phase(&self, session: Session) -> Option<RolloutPhase> {
        self.told.get(&session)?.as_ref()?.rollout.map(|rollout| rollout.phase)
    }

    fn ended(&self) -> &SwapReport {
        let ends = self.news.iter().filter_map(|news| match news {
            Progress::Ended(report) => Some(report),
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        assert_eq!(ends.len(), 1, "it ends once");
        ends[0]
    }

    /// Deploys a version that nobody minds, to have a stable one.
    fn commit(&mut self, module: u8, workers: &[(Session, usize)]) -> u32 {
        let number = self.deploy(request(module));
        self.stored();
        for (session, slots) in workers {
            let step = Some((number, Step::Prepared));
            self.says(*session, report(&vec![number - 1; *slots], step));
        }
        self.stored();
        for (session, slots) in workers {
            self.says(*session, report(&vec![number; *slots], Some((number, Step::Switched))));
        }
        self.stored();
        self.news.clear();
        number
    }
}

#[test]
fn a_deployment_prepares_everywhere_then_switches_everywhere_and_commits() {
    let mut register = Register::with(&[2, 1]);
    assert_eq!(register.deploy(request(7)), 1);
    assert_eq!((register.state(), register.phase(1)), (&RecordState::Prepare, None));
    register.stored();
    assert_eq!(
        (register.phase(1), register.phase(2)),
        (Some(RolloutPhase::Prepare), Some(RolloutPhase::Prepare))
    );
    register.says(1, report(&[0, 0], Some((1, Step::Prepared))));
    assert_eq!(register.records.len(), 1, "one worker is not ready");
    register.says(2, report(&[0], Some((1, Step::Prepared))));
    assert_eq!(register.state(), &RecordState::Switch);
    assert_eq!(register.phase(1), Some(RolloutPhase::Prepare), "it is not written yet");
    register.stored();
    assert!(matches!(register.phase(1), Some(RolloutPhase::Switch { slots: 2.. })));
    register.pass(Duration::from_millis(3));
    register.says(1, report(&[1, 1], Some((1, Step::Switched))));
    register.says(2, report(&[1], Some((1, Step::Switched))));
    assert_eq!(register.state(), &RecordState::Ended(Outcome::Committed));
    assert_eq!(register.machine.stable(&app()), None, "a commit that is not written is none");
    register.stored();
    assert_eq!(register.machine.stable(&app()), Some(VersionRef { number: 1, digest: digest(7) }));
    let report = register.ended();
    assert_eq!((report.workers, report.slots, report.times.switch_us), (2, 3, 3_000));
    assert_eq!(
        register.told[&1].as_ref().map(|told| (told.stable.is_some(), told.rollout)),
        Some((true, None))
    );
    assert_eq!(register.machine.poll_timeout(), None);
}

#[test]
fn a_failure_while_preparing_ends_it_with_the_reason_and_the_trace() {
    let mut register = Register::with(&[1, 1]);
    register.deploy(request(7));
    register.stored();
    let mut bad = report(&[0], Some((1, Step::Starting)));
    bad.rollout.as_mut().unwrap().failure =
        Some(Failure::new(Some(0), Stage::Start, "trap\n 0: start".into()));
    register.says(2, bad);
    let expected = "w2: slot 0, on-worker-start: trap\n 0: start";
    assert_eq!(register.state(), &RecordState::Back { reason: expected.into() });
    register.stored();
    assert_eq!(register.phase(1), Some(RolloutPhase::Back));
    register.says(1, report(&[0], Some((1, Step::Back))));
    register.says(2, report(&[0], Some((1, Step::Back))));
    register.stored();
    assert_eq!(register.ended().outcome, Outcome::RolledBack { reason: expected.into() });
    assert_eq!(register.deploy(request(8)), 2);
}

#[test]
fn a_second_deployment_is_told_who_is_at_it_and_since_when() {
    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.pass(Duration::from_secs(5));
    let error = register.machine.deploy(request(8), register.now).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("version 1 (sha256:070707070707) by ann, for 5 s, preparing"), "{text}");
}

#[test]
fn without_workers_a_deployment_commits_at_once_and_workers_that_come_get_it() {
    let mut register = Register::new();
    register.deploy(request(7));
    register.stored();
    register.stored();
    assert_eq!((&register.ended().outcome, register.ended().workers), (&Outcome::Committed, 0));
    register.join(1, &[0]);
    assert_eq!(register.told[&1].as_ref().unwrap().stable.unwrap().number, 1);
}

#[test]
fn what_cannot_go_back_is_mixed_and_says_which_slots_run_what() {
    let mut register = Register::with(&[2]);
    let stable = register.commit(1, &[(1, 2)]);
    let number = register.deploy(request(2));
    register.stored();
    register.says(1, report(&[stable; 2], Some((number, Step::Prepared))));
    register.stored();
    let mut half = report(&[number, stable], Some((number, Step::Switching)));
    half.rollout.as_mut().unwrap().failure = Some(Failure::new(Some(1), Stage::Restore, "no".into()));
    register.says(1, half);
    register.stored();
    let mut stuck = report(&[number, stable], Some((number, Step::Stuck)));
    stuck.rollout.as_mut().unwrap().failure = Some(Failure::new(Some(0), Stage::Save, "never".into()));
    register.says(1, stuck);
    register.stored();
    let Outcome::Mixed { reason } = &register.ended().outcome else { panic!("{:?}", register.ended()) };
    assert!(
        reason.contains("w1: slot 0 runs version 2 (slot 0, save in the old version: never)"),
        "{reason}"
    );
    assert!(reason.contains("restore in the new version: no"), "{reason}");
    assert_eq!(register.machine.stable(&app()).unwrap().number, stable);
}

#[test]
fn a_full_disk_at_the_beginning_leaves_nothing_and_uses_no_number() {
    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.not_stored();
    assert!(register.ended().outcome.reason().unwrap().contains("no space left"));
    assert_eq!((register.phase(1), register.machine.running(&app())), (None, None));
    assert_eq!(register.deploy(request(7)), 1);
}

#[test]
fn a_full_disk_on_the_way_ends_it_and_the_end_is_written_when_there_is_room() {
    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.not_stored();
    assert!(matches!(register.state(), RecordState::Back { .. }));
    assert_eq!(register.phase(1), Some(RolloutPhase::Prepare));
    register.not_stored();
    assert_eq!(register.phase(1), Some(RolloutPhase::Back), "going back waits for no disk");
    register.says(1, report(&[0], Some((1, Step::Back))));
    let ended = register.records.len();
    register.not_stored();
    assert_eq!(register.ended().outcome.as_str(), "rolled back");
    assert!(register.machine.deploy(request(8), register.now).is_err(), "its end is not written");
    while register.records.len() == ended {
        register.wait();
    }
    register.stored();
    assert_eq!((register.ended().version.number, register.deploy(request(8))), (1, 2));
}

#[test]
fn a_commit_that_cannot_be_written_is_tried_until_it_can() {
    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.stored();
    register.says(1, report(&[1], Some((1, Step::Switched))));
    let ended = register.records.len();
    register.not_stored();
    assert!(!register.news.iter().any(|news| matches!(news, Progress::Ended(_))));
    assert!(matches!(register.phase(1), Some(RolloutPhase::Switch { .. })));
    while register.records.len() == ended {
        register.wait();
    }
    register.stored();
    assert_eq!(register.ended().outcome, Outcome::Committed);
}

#[test]
fn a_commit_that_cannot_be_written_can_be_cancelled_and_goes_back() {
    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.stored();
    register.says(1, report(&[1], Some((1, Step::Switched))));
    let cancelled = |register: &mut Register| {
        let cancelled = register.machine.cancel(&app(), "bob", register.now);
        register.drain();
        cancelled
    };
    assert!(cancelled(&mut register).is_err(), "it may just be written");
    register.not_stored();
    assert_eq!(cancelled(&mut register), Ok(()));
    assert_eq!(register.state(), &RecordState::Back { reason: "cancelled by bob".into() });
    assert!(register.records.last().unwrap().report.is_none());
    register.not_stored();
    assert_eq!(register.phase(1), Some(RolloutPhase::Back), "going back waits for no disk");
    register.says(1, report(&[0], Some((1, Step::Back))));
    register.stored();
    assert_eq!(register.ended().outcome.reason(), Some("cancelled by bob"));
    assert_eq!(register.machine.stable(&app()), None);
}

#[test]
fn a_report_names_the_workers_that_went_away_on_the_way() {
    let mut register = Register::with(&[1, 1]);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.machine.node_gone(2, register.now);
    register.drain();
    register.stored();
    register.says(1, report(&[1], Some((1, Step::Switched))));
    register.stored();
    let report = register.ended();
    assert_eq!((&report.outcome, report.workers), (&Outcome::Committed, 1));
    assert_eq!(report.away, [NodeName::new("w2").unwrap()]);
}

#[test]
fn a_worker_that_is_silent_runs_into_each_deadline() {
    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.stored();
    register.pass(running::PREPARE_MAX);
    let late = "not prepared after 120 s: w1";
    assert_eq!(register.state(), &RecordState::Back { reason: late.into() });
    register.stored();
    register.pass(running::BACK_MAX);
    register.stored();
    let Outcome::Mixed { reason } = &register.ended().outcome else { panic!("{:?}", register.ended()) };
    assert!(reason.contains("not known to be back after 60 s: w1") && reason.contains(late), "{reason}");

    let mut register = Register::with(&[1]);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.stored();
    register.pass(running::SWITCH_MAX);
    assert_eq!(register.state(), &RecordState::Back { reason: "not switched after 30 s: w1".into() });
}

#[test]
fn a_worker_that_dies_is_not_waited_for_and_one_that_joins_is() {
    let mut register = Register::with(&[1, 1]);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.machine.node_gone(2, register.now);
    register.drain();
    register.stored();
    assert!(matches!(register.phase(1), Some(RolloutPhase::Switch { .. })));
    register.join(3, &[0]);
    register.says(1, report(&[1], Some((1, Step::Switched))));
    assert_eq!(register.state(), &RecordState::Switch, "the new one is not there yet");
    register.says(3, report(&[1], Some((1, Step::Switched))));
    assert_eq!(register.state(), &RecordState::Ended(Outcome::Committed));
}

#[test]
fn what_an_old_link_says_is_ignored_once_a_new_one_is_there() {
    let mut register = Register::with(&[1]);
    let name = NodeName::new("w1").unwrap();
    register.machine.node_up(9, Role::Worker, name.clone(), register.now);
    register.says(1, report(&[5], None));
    register.machine.node_gone(1, register.now);
    register.drain();
    assert_eq!(register.machine.reports(&app()).count(), 0);
    register.says(9, report(&[0], None));
    assert_eq!(register.machine.reports(&app()).next(), Some((&name, &report(&[0], None))));
}

#[test]
fn a_cancel_goes_back_at_any_time_before_the_end() {
    let mut register = Register::with(&[1]);
    let none = register.machine.cancel(&app(), "bob", register.now);
    assert_eq!(none, Err(CancelError::NotRunning(app())));
    register.deploy(request(7));
    register.machine.cancel(&app(), "bob", register.now).unwrap();
    register.drain();
    register.stored();
    assert_eq!(register.state(), &RecordState::Back { reason: "cancelled by bob".into() });
    assert!(register.machine.cancel(&app(), "bob", register.now).is_err());
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Back))));
    register.stored();
    assert_eq!(register.ended().outcome, Outcome::RolledBack { reason: "cancelled by bob".into() });
}

#[test]
fn it_is_told_when_an_app_gets_its_first_version_and_when_that_comes_to_nothing() {
    let mut register = Register::with(&[1]);
    let has = |register: &Register, times: u32| {
        assert_eq!(register.first_versions, times);
        register.machine.has_version(&app())
    };
    assert!(!has(&register, 0));
    register.deploy(request(7));
    assert!(has(&register, 1), "who comes may wait for it");
    register.not_stored();
    assert!(!has(&register, 2));
    register.commit(7, &[(1, 1)]);
    assert!(has(&register, 3));
    // What comes after the first is no news.
    register.deploy(request(8));
    register.not_stored();
    register.commit(9, &[(1, 1)]);
    assert!(has(&register, 3));
}

#[test]
fn a_register_that_starts_anew_goes_on_where_it_was_written_to_be() {
    let mut register = Register::with(&[1]);
    register.commit(1, &[(1, 1)]);
    register.deploy(request(2));
    register.stored();
    register.says(1, report(&[1], Some((2, Step::Prepared))));
    let durable = register.records.iter().filter(|record| record.state != RecordState::Prepare);
    let durable = durable.filter(|record| record.version.number == 2 || record.report.is_some());
    let records: Vec<_> = durable.map(|record| (app(), record.clone())).collect();

    let mut anew = Register::of(Deployments::restore(records, START + Duration::from_secs(60)));
    anew.now = START + Duration::from_secs(60);
    assert_eq!(anew.machine.stable(&app()).map(|stable| stable.number), Some(1));
    assert_eq!(anew.machine.running(&app()).map(|record| &record.state), Some(&RecordState::Switch));
    anew.join(4, &[1]);
    assert!(matches!(anew.phase(4), Some(RolloutPhase::Switch { .. })));
    anew.says(4, report(&[2], Some((2, Step::Switched))));
    assert!(anew.records.is_empty(), "other workers may be on their way back");
    anew.pass(RETURN_MAX);
    assert_eq!(anew.state(), &RecordState::Ended(Outcome::Committed));
    anew.stored();
    assert!(anew.ended().times.total_us >= 60_000_000);
}

#[test]
fn a_line_of_the_history_that_was_never_closed_is_closed() {
    let record = |number, state| {
        let version = VersionRef { number, digest: digest(1) };
        let (by, note) = (String::new(), String::new());
        (app(), Record { version, again: None, by, note, at_ms: 0, canary: None, state, report: None })
    };
    let ended = RecordState::Ended(Outcome::Committed);
    let records = [record(1, RecordState::Prepare), record(2, ended)];
    let register = Register::of(Deployments::restore(records, START));
    // The newest open one goes on only if nothing came after it.
    assert_eq!(register.records.len(), 1);
    assert!(matches!(register.state(), RecordState::Ended(Outcome::RolledBack { .. })));
    assert_eq!(register.machine.running(&app()), None);
}

#[test]
fn a_canary_needs_two_slots_and_sensible_numbers() {
    let mut register = Register::with(&[1]);
    let mut refused = |canary| {
        let error = register.machine.deploy(DeployRequest { canary, ..request(1) }, START).unwrap_err();
        error.to_string()
    };
    assert!(refused(canary(50)).contains("needs 2 slots at least, the workers have 1"));
    assert!(refused(canary(0)).contains("1 to 99 percent"));
    assert!(refused(Some(Canary { percent: 9, for_ms: 10, events_min: 1 })).contains("1 s to 24 h"));
    assert!(refused(Some(Canary { percent: 9, for_ms: 2_000, events_min: 0 })).contains("at least 1 turn"));
    let long = DeployRequest { note: "x".repeat(NOTE_BYTES_MAX + 1), ..request(1) };
    assert_eq!(register.machine.deploy(long, START), Err(DeployError::Note(NOTE_BYTES_MAX + 1)));
}

/// A canary of one of four slots that has switched; each arm then did some turns with some errors.
fn judged(old: (u64, u64), new: (u64, u64), traps: u32) -> Register {
    let mut register = Register::with(&[4]);
    let says = |slots: &[u32], step, old: (u64, u64), new: (u64, u64), slots_trapped| {
        let tally = |version, (turns, errors), slots_trapped| VersionTally {
            version,
            turns,
            errors,
            traps: 0,
            overruns: 0,
            slots_trapped,
        };
        let judged = vec![tally(0, old, 0), tally(1, new, slots_trapped)];
        AppReport { judged, ..report(slots, Some((1, step))) }
    };
    register.deploy(DeployRequest { canary: canary(25), ..request(7) });
    register.stored();
    // What the old version did before does not count.
    register.says(1, says(&[0; 4], Step::Prepared, (5_000, 5_000), (0, 0), 0));
    register.stored();
    assert_eq!(register.phase(1), Some(RolloutPhase::Switch { slots: 1 }));
    let switched = |old, new, traps| says(&[1, 0, 0, 0], Step::Switched, old, new, traps);
    register.says(1, switched((5_000, 5_000), (0, 0), 0));
    register.pass(Duration::from_secs(9));
    register.says(1, switched((5_000 + old.0, 5_000 + old.1), new, traps));
    register.pass(Duration::from_secs(1));
    register
}

#[test]
fn a_canary_that_is_no_worse_goes_on_to_all_slots() {
    let mut register = judged((300, 3), (100, 1), 0);
    assert_eq!(register.state(), &RecordState::Switch);
    register.stored();
    register.says(1, report(&[1; 4], Some((1, Step::Switched))));
    register.stored();
    let report = register.ended();
    let canary = report.canary.as_ref().unwrap();
    assert_eq!((canary.slots, canary.old.turns, canary.new.turns), (1, 300, 100));
    assert_eq!((report.times.canary_us, report.times.switch_us), (10_000_000, 0));
}

#[test]
fn a_canary_that_is_worse_goes_back_with_the_numbers() {
    let register = judged((300, 3), (100, 4), 0);
    let RecordState::Back { reason } = register.state() else { panic!("{:?}", register.state()) };
    assert_eq!(
        reason,
        "the canary is worse: 4 of 100 (4.00%) of new turns failed, 3 of 300 (1.00%) of old ones"
    );
}

#[test]
fn a_canary_without_enough_turns_waits_and_is_then_inconclusive() {
    let mut register = judged((300, 0), (99, 0), 0);
    assert_eq!(register.state(), &RecordState::Canary);
    register.pass(Duration::from_secs(29));
    assert_eq!(register.state(), &RecordState::Canary);
    register.pass(Duration::from_secs(1));
    let RecordState::Back { reason } = register.state() else { panic!("{:?}", register.state()) };
    assert!(reason.starts_with("the canary is inconclusive: 0 of 99"), "{reason}");
}

#[test]
fn a_canary_that_traps_on_most_of_its_slots_goes_back_at_once() {
    let register = judged((1, 0), (1, 1), 1);
    let RecordState::Back { reason } = register.state() else { panic!("{:?}", register.state()) };
    assert_eq!(reason, "it trapped or overran on 1 of the 1 slots that run it");
}

#[test]
fn gateways_count_before_and_after_and_are_waited_for_a_while() {
    let mut register = Register::with(&[1]);
    let gateway = NodeName::new("g").unwrap();
    register.machine.node_up(8, Role::Gateway, gateway, register.now);
    register.deploy(request(7));
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    assert_eq!((register.state(), register.censuses.len()), (&RecordState::Prepare, 1));
    let clients = |clients, events| AppClients { app: app(), clients, opened: 9, closed: 0, events, lost: 0 };
    let before = register.censuses[0];
    register.machine.on_counted(8, before, &[clients(9, 100)], register.now);
    register.drain();
    register.stored();
    let mut switched = report(&[1], Some((1, Step::Switched)));
    register.says(1, switched.clone());
    let after = register.censuses[1];
    register.machine.on_counted(8, after, &[clients(9, 160)], register.now);
    register.drain();
    assert_eq!(register.state(), &RecordState::Switch, "it waits for the first event on new code");
    let first_event_us = Some(40);
    switched.rollout.as_mut().unwrap().switches =
        vec![SlotSwitch { to: 1, pause_us: 300, first_event_us, ..SlotSwitch::default() }];
    register.says(1, switched);
    register.stored();
    let report = register.ended();
    let clients = report.clients.unwrap();
    assert_eq!((clients.before, clients.after, clients.closed, clients.events), (9, 9, 0, 60));
    assert_eq!((report.switched, report.pauses.as_ref().map(|p| p.longest_us)), (1, Some(300)));
    assert_eq!(report.times.first_event_us, Some(0));
}

#[test]
fn times_count_from_when_it_was_asked_for() {
    let mut register = Register::with(&[1]);
    let waited = Duration::from_millis(250);
    register.deploy(DeployRequest { waited, ..request(7) });
    register.stored();
    register.says(1, report(&[0], Some((1, Step::Prepared))));
    register.stored();
    let mut switched = report(&[1], Some((1, Step::Switched)));
    let first = SlotSwitch { to: 1, first_event_us: Some(40), ..SlotSwitch::default() };
    switched.rollout.as_mut().unwrap().switches = vec![first];
    register.says(1, switched);
    register.stored();
    let report = register.ended();
    assert_eq!(report.at_ms, 1_000_000_000 - 250);
    let times = report.times;
    assert_eq!((times.prepare_us, times.switch_us, times.total_us), (250_000, 0, 250_000));
    assert_eq!(times.first_event_us, Some(250_000));
}

#[test]
fn records_survive_json_and_binary() {
    let mut register = Register::with(&[1]);
    register.commit(1, &[(1, 1)]);
    for record in &register.records {
        let json = serde_json::to_string(record).unwrap();
        assert_eq!(&serde_json::from_str::<Record>(&json).unwrap(), record);
        let bytes = postcard::to_extend(record, Vec::new()).unwrap();
        assert_eq!(&postcard::from_bytes::<Record>(&bytes).unwrap(), record);
    }
    let json = serde_json::to_value(register.records.last().unwrap().report.as_ref().unwrap()).unwrap();
    assert_eq!((&json["outcome"], &json["app"]), (&"committed".into(), &"default/chat".into()));
}
