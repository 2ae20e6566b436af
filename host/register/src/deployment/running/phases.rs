//! What each phase waits for, and what ends it.

use std::time::Duration;

use tidegate_base::NodeName;
use tidegate_wire::control::{AppReport, Step, cut_reason};
use tidegate_wire::report::{Outcome, Progress};

use super::{Phase, Running};
use crate::deployment::RETURN_MAX;
use crate::deployment::facts::Spent;
use crate::deployment::judge::{Verdict, judge, traps_too_much};
use crate::deployment::out::Out;
use crate::deployment::record::RecordState;
use crate::deployment::view::{View, step};

impl Running {
    pub(super) fn prepare(&mut self, view: &View<'_>, now: Duration, out: &mut Out) {
        if self.has_failed(view, out) || now < self.not_before {
            return;
        }
        if view.is_empty() && !self.had_workers {
            // Nobody runs the app. Workers that come start with the new version.
            return self.decide(Outcome::Committed, now, view, out);
        }
        let number = self.number();
        let ready = |report: &AppReport| {
            matches!(step(report, number), Some(Step::Prepared | Step::Switching | Step::Switched))
        };
        let late = view.without(|_, report| ready(report));
        if late.is_empty() && !view.is_empty() && self.census.is_ready(out.gateways(), now) {
            let first = if self.record.canary.is_some() { RecordState::Canary } else { RecordState::Switch };
            self.write(first, out);
        } else if now >= self.deadline {
            self.turn_back(too_late(&late, "prepared", now - self.phase_began), out);
        }
    }

    pub(super) fn canary(&mut self, view: &View<'_>, now: Duration, out: &mut Out) {
        let Some(canary) = self.record.canary else { return };
        if self.has_failed(view, out) || now < self.not_before {
            return;
        }
        let (number, slots) = (self.number(), view.slots());
        if slots >= 2 && self.shares.fill(view, number, canary.percent) {
            out.changed();
        }
        let there = |name: &NodeName, report: &AppReport| {
            let mut first = report.slots.iter().take(self.shares.of(name) as usize);
            step(report, number) == Some(Step::Switched) && first.all(|slot| *slot == Some(number))
        };
        let late = view.without(there);
        let since = match self.window {
            Some(since) => since,
            None if late.is_empty() && slots >= 2 => {
                self.canary_slots = u32::try_from(self.shares.slots()).unwrap_or(u32::MAX);
                let of = u32::try_from(slots).unwrap_or(u32::MAX);
                out.news(self, Progress::Canary { slots: self.canary_slots, of });
                self.facts.spend(Spent::Judging, now);
                *self.window.insert(now)
            }
            None if now >= self.deadline => {
                return self.turn_back(too_late(&late, "switched", now - self.phase_began), out);
            }
            None => return,
        };
        if now < since + canary.window() {
            return;
        }
        let (old, new) = self.arms.tallies();
        match judge(old, new, canary.events_min) {
            Verdict::Good { why } => {
                self.verdict = Some(why);
                self.write(RecordState::Switch, out);
            }
            Verdict::Worse { why } => {
                self.verdict = Some(why.clone());
                self.turn_back(format!("the canary is worse: {why}"), out);
            }
            Verdict::Undecided { why } if now >= since + canary.window() * 4 => {
                self.verdict = Some(why.clone());
                self.turn_back(format!("the canary is inconclusive: {why}"), out);
            }
            Verdict::Undecided { .. } => {}
        }
    }

    pub(super) fn switch(&mut self, view: &View<'_>, now: Duration, out: &mut Out) {
        if self.has_failed(view, out) || now < self.not_before {
            return;
        }
        let number = self.number();
        let late = view.without(|_, report| report.slots.iter().all(|slot| *slot == Some(number)));
        if late.is_empty() && !view.is_empty() {
            self.decide(Outcome::Committed, now, view, out);
        } else if now >= self.deadline {
            self.turn_back(too_late(&late, "switched", now - self.phase_began), out);
        }
    }

    pub(super) fn go_back(&mut self, view: &View<'_>, now: Duration, out: &mut Out) {
        if now < self.not_before {
            return;
        }
        let RecordState::Back { reason } = &self.record.state else { return };
        let number = self.number();
        let back = |report: &AppReport| matches!(step(report, number), Some(Step::Back | Step::Stuck));
        let late = view.without(|_, report| back(report));
        // A worker whose link is cut for a moment still runs what it ran.
        let ran = |(worker, (_, switched)): (&NodeName, &(Step, u64))| *switched > 0 && !view.has(worker);
        let away: Vec<_> = self.steps.iter().filter(|step| ran(*step)).map(|(worker, _)| worker).collect();
        let waits = !away.is_empty() && now < self.phase_began + RETURN_MAX;
        if (waits || !late.is_empty()) && now < self.deadline {
            return;
        }
        let stable = self.previous.map_or(0, |version| version.number);
        let elsewhere = |slot: &Option<u32>| slot.is_some_and(|version| version != stable);
        let strays = view.without(|_, report| !report.slots.iter().any(elsewhere));
        let outcome = if late.is_empty() && strays.is_empty() {
            let away = match away.as_slice() {
                [] => String::new(),
                away => format!("; away, and told when they return: {}", names(away)),
            };
            Outcome::RolledBack { reason: cut_reason(format!("{reason}{away}")) }
        } else {
            Outcome::Mixed { reason: mixed(reason, view, number, stable, &late, now - self.phase_began) }
        };
        self.decide(outcome, now, view, out);
    }

    /// Something failed on a worker, or the new version traps all over the place: it must go back.
    fn has_failed(&mut self, view: &View<'_>, out: &mut Out) -> bool {
        let number = self.number();
        if let Some((worker, failure)) = view.failure(number) {
            let (worker, failure) = (worker.clone(), failure.clone());
            let reason = format!("{worker}: {failure}");
            out.news(self, Progress::Failed { worker, failure });
            self.turn_back(reason, out);
            return true;
        }
        let trapped = view.trapped(number);
        // A slot counts its traps itself, and may have trapped before its worker knows that it has switched.
        let switched = view.running(number).max(trapped);
        if self.phase == Some(Phase::Prepare) || !traps_too_much(trapped, switched) {
            return false;
        }
        let why = format!("it trapped or overran on {trapped} of the {switched} slots that run it");
        self.verdict = Some(why.clone());
        self.turn_back(why, out);
        true
    }
}

/// Which workers took too long.
fn too_late(late: &[&NodeName], what: &str, after: Duration) -> String {
    let after = after.as_secs();
    match late {
        [] => format!("no worker of the app was left after {after} s"),
        late => format!("not {what} after {after} s: {}", names(late)),
    }
}

/// Which slots run what, and why.
fn mixed(
    reason: &str,
    view: &View<'_>,
    number: u32,
    stable: u32,
    late: &[&NodeName],
    after: Duration,
) -> String {
    // The first reason may be as long as a reason gets; what runs where must not be cut off behind it.
    let mut parts = Vec::new();
    for (worker, report) in view.iter() {
        let slots = report.slots.iter().enumerate();
        let strays =
            slots.filter_map(|(slot, runs)| runs.filter(|runs| *runs != stable).map(|runs| (slot, runs)));
        let strays: Vec<_> = strays.map(|(slot, runs)| format!("slot {slot} runs version {runs}")).collect();
        if !strays.is_empty() {
            let failure = report.rollout.as_ref().and_then(|rollout| rollout.failure.as_ref());
            let why = failure.map(|failure| format!(" ({failure})")).unwrap_or_default();
            parts.push(format!("{worker}: {}{why}", strays.join(", ")));
        }
    }
    if !late.is_empty() {
        parts.push(format!("not known to be back after {} s: {}", after.as_secs(), names(late)));
    }
    cut_reason(format!(
        "going back from version {number} failed: {}; it went back because: {reason}",
        parts.join("; ")
    ))
}

fn names(workers: &[&NodeName]) -> String {
    workers.iter().map(|worker| worker.as_str()).collect::<Vec<_>>().join(", ")
}
