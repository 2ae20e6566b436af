//! What the workers of one app say.

use tidegate_base::NodeName;
use tidegate_wire::control::{AppReport, Failure, RolloutReport, Step};

/// The workers that have slots of an app, with their last reports, in order of name.
#[derive(Debug, Default)]
pub(super) struct View<'a>(Vec<(&'a NodeName, &'a AppReport)>);

impl<'a> View<'a> {
    pub fn push(&mut self, worker: &'a NodeName, report: &'a AppReport) {
        if !report.slots.is_empty() {
            self.0.push((worker, report));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a NodeName, &'a AppReport)> {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, worker: &NodeName) -> bool {
        self.0.iter().any(|(name, _)| *name == worker)
    }

    pub fn workers(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// The slots of all workers.
    pub fn slots(&self) -> u64 {
        self.0.iter().map(|(_, report)| report.slots.len() as u64).sum()
    }

    /// The slots that run this version.
    pub fn running(&self, number: u32) -> u64 {
        self.0.iter().map(|(_, report)| running(report, number)).sum()
    }

    /// The slots on which this version trapped or overran.
    pub fn trapped(&self, number: u32) -> u64 {
        let tallies = self.0.iter().flat_map(|(_, report)| &report.judged);
        tallies.filter(|tally| tally.version == number).map(|tally| u64::from(tally.slots_trapped)).sum()
    }

    /// The first worker that failed with this version.
    pub fn failure(&self, number: u32) -> Option<(&'a NodeName, &'a Failure)> {
        let of = |(name, report): (&'a NodeName, &'a AppReport)| {
            Some((name, rollout(report, number)?.failure.as_ref()?))
        };
        self.iter().find_map(of)
    }

    /// The workers of which something is not so.
    pub fn without(&self, is: impl Fn(&NodeName, &AppReport) -> bool) -> Vec<&'a NodeName> {
        self.iter().filter(|(name, report)| !is(name, report)).map(|(name, _)| name).collect()
    }
}

/// What a worker says of the deployment of this number.
pub(super) fn rollout(report: &AppReport, number: u32) -> Option<&RolloutReport> {
    report.rollout.as_ref().filter(|rollout| rollout.version == number)
}

/// How far a worker is with it.
pub(super) fn step(report: &AppReport, number: u32) -> Option<Step> {
    rollout(report, number).map(|rollout| rollout.step)
}

/// How many slots of a worker run a version.
pub(super) fn running(report: &AppReport, number: u32) -> u64 {
    report.slots.iter().filter(|slot| **slot == Some(number)).count() as u64
}

#[cfg(test)]
pub(super) mod tests {
    use tidegate_base::AppName;

    use super::*;

    pub(in crate::deployment) fn report(slots: &[Option<u32>]) -> AppReport {
        let app = AppName::new("chat").unwrap();
        AppReport { app, slots: slots.to_vec(), rollout: None, judged: Vec::new(), asleep: 0 }
    }

    /// Workers a, b, c and so on.
    pub(in crate::deployment) fn view_of(reports: &[AppReport]) -> (&'static [NodeName], View<'_>) {
        let name = |at: usize| NodeName::new(&char::from(b'a' + at as u8).to_string()).unwrap();
        let names: &'static [NodeName] = (0..reports.len()).map(name).collect::<Vec<_>>().leak();
        let mut view = View::default();
        names.iter().zip(reports).for_each(|(name, report)| view.push(name, report));
        (names, view)
    }

    #[test]
    fn a_worker_without_slots_takes_no_part() {
        let reports = [report(&[]), report(&[Some(1), None])];
        let (_, view) = view_of(&reports);
        assert_eq!((view.workers(), view.slots(), view.running(1)), (1, 2, 1));
    }
}
