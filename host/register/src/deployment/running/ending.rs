//! How a deployment ends, and what is told of it on the way.

use std::time::Duration;

use tidegate_wire::report::{AWAY_MAX, CanaryReport, Outcome, Progress, SwapReport};

use super::{FIRST_EVENT_MAX, Phase, Running};
use crate::deployment::out::Out;
use crate::deployment::record::RecordState;
use crate::deployment::view::{View, running, step};

impl Running {
    /// How it ends is certain; the gateways count once more, and then it is written down.
    pub(super) fn decide(&mut self, outcome: Outcome, now: Duration, view: &View<'_>, out: &mut Out) {
        self.facts.end(now);
        self.census.again(out.census(), now);
        self.ending = Some((outcome, now));
        self.end(view, now, out);
    }

    pub(super) fn end(&mut self, view: &View<'_>, now: Duration, out: &mut Out) {
        let Some((outcome, at)) = &self.ending else { return };
        if let Some(again) = self.write_again {
            return if now >= again {
                self.write(self.record.state.clone(), out)
            };
        }
        let commits = *outcome == Outcome::Committed && self.census.had_clients();
        let awaits_event = commits && !self.facts.had_event() && now < *at + FIRST_EVENT_MAX;
        let for_nobody = self.phase == Some(Phase::Prepare);
        if !for_nobody && (awaits_event || !self.census.is_ready(out.gateways(), now)) {
            return;
        }
        let outcome = outcome.clone();
        self.record.report = Some(self.report(&outcome, view));
        self.write(RecordState::Ended(outcome), out);
    }

    pub(super) fn report(&self, outcome: &Outcome, view: &View<'_>) -> SwapReport {
        let sums = self.facts.sums(self.number());
        let (old, new) = self.arms.tallies();
        let canary = self.record.canary.filter(|_| self.window.is_some()).map(|asked| CanaryReport {
            asked,
            slots: self.canary_slots,
            old,
            new,
            verdict: self.verdict.clone().unwrap_or_else(|| "not judged".into()),
        });
        SwapReport {
            app: self.app.clone(),
            version: self.record.version,
            again: self.record.again,
            previous: self.previous,
            at_ms: self.record.at_ms,
            outcome: outcome.clone(),
            workers: view.workers(),
            away: self.seen.iter().filter(|worker| !view.has(worker)).take(AWAY_MAX).cloned().collect(),
            slots: u32::try_from(view.slots()).unwrap_or(u32::MAX),
            switched: sums.switched,
            switched_back: sums.switched_back,
            clients: self.census.sums(),
            pauses: sums.pauses,
            audit: sums.audit,
            timers_carried: sums.timers_carried,
            timers_dropped: sums.timers_dropped,
            state_bytes: sums.state_bytes,
            states_lost: sums.states_lost,
            turns: sums.turns,
            waiting_events: sums.waiting_events,
            times: self.facts.times(),
            canary,
        }
    }

    pub(super) fn tell_end(&mut self, out: &mut Out) {
        if let Some(report) = self.record.report.clone().filter(|_| !self.told) {
            self.told = true;
            out.news(self, Progress::Ended(Box::new(report)));
        }
    }

    pub(super) fn tell_steps(&mut self, view: &View<'_>, out: &mut Out) {
        let number = self.number();
        for (worker, report) in view.iter() {
            if !self.seen.contains(worker) {
                self.seen.insert(worker.clone());
            }
            let Some(step) = step(report, number) else { continue };
            let switched = running(report, number);
            if self.steps.insert(worker.clone(), (step, switched)) != Some((step, switched)) {
                let count = |slots: u64| u32::try_from(slots).unwrap_or(u32::MAX);
                let (switched, slots) = (count(switched), count(report.slots.len() as u64));
                out.news(self, Progress::Worker { worker: worker.clone(), step, switched, slots });
            }
        }
    }
}
