//! One deployment, from the wish to its end.

mod ending;
mod phases;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_base::{AppName, NodeName};
use tidegate_wire::control::{AppClients, DesiredRollout, RolloutPhase, Step, VersionRef, cut_reason};
use tidegate_wire::directory::Session;
use tidegate_wire::report::{Outcome, Progress};

use super::RETURN_MAX;
use super::arms::Arms;
use super::census::Census;
use super::facts::{Facts, Spent};
use super::out::Out;
use super::record::{Record, RecordState};
use super::shares::Shares;
use super::view::View;

/// Fetching and compiling a large module takes seconds, `on-worker-start` may fill caches; what takes longer hangs.
pub(super) const PREPARE_MAX: Duration = Duration::from_secs(120);

/// A slot switches in milliseconds, but may first end a long turn or restart after a trap.
pub(super) const SWITCH_MAX: Duration = Duration::from_secs(30);

/// Going back starts fresh instances of a module that is compiled already.
pub(super) const BACK_MAX: Duration = Duration::from_secs(60);

/// A worker that joins gets time to catch up; however many join, a phase ends.
const JOINS_MAX: Duration = Duration::from_secs(600);

/// How long a commit waits for word of the first event on new code, for the report.
const FIRST_EVENT_MAX: Duration = Duration::from_millis(250);

/// What cannot be written down is tried again so often.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// What the workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Prepare,
    Canary,
    Switch,
    Back,
}

/// A deployment that has not ended.
///
/// `record.state` is what is written down, or being written; `phase` is what workers are told, and follows it.
#[derive(Debug)]
pub(super) struct Running {
    pub app: AppName,
    pub record: Record,
    previous: Option<VersionRef>,
    phase: Option<Phase>,
    writing: bool,
    write_again: Option<Duration>,
    /// Why it must go back, until that is written.
    back: Option<String>,
    ending: Option<(Outcome, Duration)>,
    /// Who watches knows how it ended, though it is not written yet.
    told: bool,
    /// Before this nothing goes on but back: after a register's restart, workers need time to return.
    not_before: Duration,
    phase_began: Duration,
    deadline: Duration,
    had_workers: bool,
    shares: Shares,
    /// Since when the versions are compared.
    window: Option<Duration>,
    canary_slots: u32,
    verdict: Option<String>,
    arms: Arms,
    census: Census,
    facts: Facts,
    /// Workers that had the app at some time.
    seen: BTreeSet<NodeName>,
    steps: BTreeMap<NodeName, (Step, u64)>,
    now: Duration,
}

impl Running {
    /// A new deployment that was asked for at some time; it is written down first.
    pub fn start(
        app: AppName,
        record: Record,
        previous: Option<VersionRef>,
        (began, now): (Duration, Duration),
        out: &mut Out,
    ) -> Self {
        let mut it = Self::new(app, record, previous, Facts::new(began, began), now, out);
        it.write(RecordState::Prepare, out);
        it
    }

    /// A deployment that was going on when the register ended.
    pub fn restore(
        app: AppName,
        record: Record,
        previous: Option<VersionRef>,
        now: Duration,
        not_before: Duration,
        out: &mut Out,
    ) -> Self {
        let began = Duration::from_millis(record.at_ms);
        let mut it = Self::new(app, record, previous, Facts::new(began, now), now, out);
        it.not_before = not_before;
        it.had_workers = true;
        it.publish(now, out);
        it.deadline = it.deadline.max(not_before + SWITCH_MAX);
        it
    }

    fn new(
        app: AppName,
        record: Record,
        previous: Option<VersionRef>,
        facts: Facts,
        now: Duration,
        out: &mut Out,
    ) -> Self {
        Self {
            census: Census::new(app.clone(), out.census(), now),
            facts,
            app,
            record,
            previous,
            phase: None,
            writing: false,
            write_again: None,
            back: None,
            ending: None,
            told: false,
            not_before: now,
            phase_began: now,
            deadline: now,
            had_workers: false,
            shares: Shares::default(),
            window: None,
            canary_slots: 0,
            verdict: None,
            arms: Arms::default(),
            seen: BTreeSet::new(),
            steps: BTreeMap::new(),
            now,
        }
    }

    // === what others ask ===

    pub fn number(&self) -> u32 {
        self.record.version.number
    }

    pub fn began(&self) -> Duration {
        self.facts.began()
    }

    /// What a worker is told of it.
    pub fn desired(&self, worker: &NodeName) -> Option<DesiredRollout> {
        let phase = match self.phase? {
            Phase::Prepare => RolloutPhase::Prepare,
            Phase::Canary => RolloutPhase::Switch { slots: self.shares.of(worker) },
            Phase::Switch => RolloutPhase::Switch { slots: u32::MAX },
            Phase::Back => RolloutPhase::Back,
        };
        Some(DesiredRollout { version: self.record.version, phase })
    }

    /// When time alone makes a difference.
    pub fn timeout(&self) -> Option<Duration> {
        if self.writing {
            return None;
        }
        let canary = self.record.canary.filter(|_| self.phase == Some(Phase::Canary));
        let window = self.window.zip(canary.map(|canary| canary.window()));
        let times = [
            self.write_again,
            Some(self.not_before),
            Some(self.census.until()),
            Some(self.phase_began + RETURN_MAX),
            self.ending.as_ref().map(|(_, at)| *at + FIRST_EVENT_MAX),
            Some(self.deadline),
            window.map(|(since, window)| since + window),
            window.map(|(since, window)| since + window * 4),
        ];
        times.into_iter().flatten().filter(|at| *at > self.now).min()
    }

    pub fn check(&self) -> Result<(), String> {
        let fits = match (&self.record.state, self.phase) {
            // Nothing was told before the first record is there, and each phase is written before it is told.
            (RecordState::Prepare, None) => self.writing,
            (RecordState::Prepare, phase) => phase == Some(Phase::Prepare),
            (RecordState::Canary, Some(Phase::Prepare)) => self.writing || self.back.is_some(),
            (RecordState::Canary, phase) => phase == Some(Phase::Canary),
            (RecordState::Switch, Some(Phase::Prepare | Phase::Canary)) => {
                self.writing || self.back.is_some()
            }
            (RecordState::Switch, phase) => phase == Some(Phase::Switch),
            (RecordState::Back { .. }, Some(Phase::Back)) => true,
            (RecordState::Back { .. }, _) => self.writing,
            (RecordState::Ended(_), _) => self.writing || self.write_again.is_some(),
        };
        match fits {
            true => Ok(()),
            false => Err(format!("{}: told {:?}, written {:?}", self.app, self.phase, self.record.state)),
        }
    }

    // === what happens ===

    /// Somebody wants it to go back. False: its end is decided. A commit that could not be written is none yet.
    pub fn cancel(&mut self, reason: String, view: &View<'_>, now: Duration, out: &mut Out) -> bool {
        if self.record.state == RecordState::Ended(Outcome::Committed) && self.write_again.is_some() {
            (self.ending, self.write_again, self.record.report) = (None, None, None);
            self.turn_back(reason, out);
            return true;
        }
        let ends = matches!(self.record.state, RecordState::Back { .. } | RecordState::Ended(_));
        if ends || self.ending.is_some() || self.back.is_some() {
            return false;
        }
        self.back = Some(reason);
        self.advance(view, now, out);
        true
    }

    /// A worker has joined.
    pub fn joined(&mut self, now: Duration) {
        let catch_up = (now + PREPARE_MAX + SWITCH_MAX).min(self.phase_began + JOINS_MAX);
        self.deadline = self.deadline.max(catch_up);
    }

    pub fn counted(&mut self, gateway: Session, number: u64, apps: &[AppClients]) {
        self.census.counted(gateway, number, apps);
    }

    /// The record is durable. True: so is its end, and it is over.
    pub fn stored(&mut self, view: &View<'_>, now: Duration, out: &mut Out) -> bool {
        if !std::mem::take(&mut self.writing) {
            return false;
        }
        match &self.record.state {
            RecordState::Ended(_) => {
                self.tell_end(out);
                return true;
            }
            RecordState::Prepare => {
                let (workers, slots) = (view.workers(), u32::try_from(view.slots()).unwrap_or(u32::MAX));
                out.news(self, Progress::Started { version: self.record.version, workers, slots });
                self.publish(now, out);
            }
            RecordState::Back { .. } => self.publish(now, out),
            // What is to go back is not told to go on first.
            RecordState::Canary | RecordState::Switch if self.back.is_some() => {}
            RecordState::Canary | RecordState::Switch => self.publish(now, out),
        }
        self.advance(view, now, out);
        false
    }

    /// The record could not be written. True: it is over, and nothing is left of it.
    pub fn not_stored(&mut self, why: &str, view: &View<'_>, now: Duration, out: &mut Out) -> bool {
        if !std::mem::take(&mut self.writing) {
            return false;
        }
        let reason = cut_reason(why.to_owned());
        out.news(self, Progress::NotStored { reason: reason.clone() });
        let reason =
            format!("the register cannot write down the deployment: {reason}; make room on its disk");
        match &self.record.state {
            RecordState::Prepare => {
                let outcome = Outcome::RolledBack { reason };
                self.facts.end(now);
                self.record.report = Some(self.report(&outcome, view));
                self.record.state = RecordState::Ended(outcome);
                self.tell_end(out);
                return true;
            }
            RecordState::Canary | RecordState::Switch => {
                self.back.get_or_insert(reason);
            }
            // Going back is safe, and must not wait for a disk. Started anew, the register would go on with the phase
            // before, and come here again.
            RecordState::Back { .. } => self.publish(now, out),
            RecordState::Ended(outcome) => {
                // A commit that is not durable is none yet; workers are told what they were told before.
                if *outcome != Outcome::Committed {
                    self.tell_end(out);
                }
                self.write_again = Some(now + WRITE_AGAIN);
            }
        }
        self.advance(view, now, out);
        false
    }

    /// Looks at what is there now and takes the next step, if there is one.
    pub fn advance(&mut self, view: &View<'_>, now: Duration, out: &mut Out) {
        self.now = now;
        self.had_workers |= !view.is_empty();
        self.facts.update(view, self.number(), now);
        self.tell_steps(view, out);
        if self.phase == Some(Phase::Canary) {
            self.arms.update(view, self.number());
        }
        if self.writing {
            return;
        }
        if self.ending.is_some() {
            return self.end(view, now, out);
        }
        if let Some(reason) = self.back.take() {
            return self.write(RecordState::Back { reason: cut_reason(reason) }, out);
        }
        match self.phase {
            None => {}
            Some(Phase::Prepare) => self.prepare(view, now, out),
            Some(Phase::Canary) => self.canary(view, now, out),
            Some(Phase::Switch) => self.switch(view, now, out),
            Some(Phase::Back) => self.go_back(view, now, out),
        }
    }

    // === steps that the phases share ===

    fn turn_back(&mut self, reason: String, out: &mut Out) {
        self.write(RecordState::Back { reason: cut_reason(reason) }, out);
    }

    fn write(&mut self, state: RecordState, out: &mut Out) {
        self.record.state = state;
        self.writing = true;
        self.write_again = None;
        out.persist(self);
    }

    /// Workers are told what is written now.
    fn publish(&mut self, now: Duration, out: &mut Out) {
        let (phase, spent, max) = match &self.record.state {
            RecordState::Prepare => (Phase::Prepare, Spent::Preparing, PREPARE_MAX),
            RecordState::Canary => (Phase::Canary, Spent::Switching, SWITCH_MAX),
            RecordState::Switch => (Phase::Switch, Spent::Switching, SWITCH_MAX),
            RecordState::Back { .. } => (Phase::Back, Spent::GoingBack, BACK_MAX),
            RecordState::Ended(_) => return,
        };
        match &self.record.state {
            RecordState::Back { reason } => {
                let reason = reason.clone();
                out.news(self, Progress::GoingBack { reason });
            }
            RecordState::Switch => out.news(self, Progress::Switching { verdict: self.verdict.clone() }),
            _ => {}
        }
        self.phase = Some(phase);
        self.facts.spend(spent, now);
        self.phase_began = now;
        self.deadline = now + max;
        out.changed();
    }
}
