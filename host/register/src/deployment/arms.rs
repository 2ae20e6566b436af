//! What the old and the new version did over the same time.

use std::collections::BTreeMap;

use tidegate_base::NodeName;
use tidegate_wire::control::{AppReport, VersionTally};
use tidegate_wire::report::Tally;

use super::view::View;

/// Both versions' tallies since the canary began. Workers count from their own start on, so what they had counted before
/// is taken off; what a worker had added when it went stays.
#[derive(Debug, Default)]
pub(super) struct Arms {
    workers: BTreeMap<NodeName, Worker>,
    gone: Pair,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    old: Tally,
    new: Tally,
}

#[derive(Debug, Clone, Copy)]
struct Worker {
    before: Pair,
    now: Pair,
}

impl Arms {
    /// Takes in what the workers say now; a worker that is new counts from here on.
    pub fn update(&mut self, view: &View<'_>, number: u32) {
        let gone: Vec<_> = self.workers.keys().filter(|worker| !view.has(worker)).cloned().collect();
        for worker in gone {
            if let Some(worker) = self.workers.remove(&worker) {
                self.gone = self.gone.plus(worker.added());
            }
        }
        for (name, report) in view.iter() {
            let now = Pair::of(report, number);
            let new = Worker { before: now, now };
            let worker = self.workers.entry(name.clone()).or_insert(new);
            // Fewer turns than before: it has restarted meanwhile.
            if now.turns() < worker.now.turns() {
                self.gone = self.gone.plus(worker.added());
                *worker = Worker { before: Pair::default(), now };
            }
            worker.now = now;
        }
    }

    /// The old version's tally, and the new one's.
    pub fn tallies(&self) -> (Tally, Tally) {
        let sum = self.workers.values().fold(self.gone, |sum, worker| sum.plus(worker.added()));
        (sum.old, sum.new)
    }
}

impl Worker {
    fn added(&self) -> Pair {
        Pair { old: self.now.old.since(self.before.old), new: self.now.new.since(self.before.new) }
    }
}

impl Pair {
    fn of(report: &AppReport, number: u32) -> Self {
        report.judged.iter().fold(Self::default(), |pair, of| match of.version == number {
            true => Self { new: pair.new.plus(tally(of)), ..pair },
            false => Self { old: pair.old.plus(tally(of)), ..pair },
        })
    }

    fn plus(self, other: Self) -> Self {
        Self { old: self.old.plus(other.old), new: self.new.plus(other.new) }
    }

    fn turns(&self) -> u64 {
        self.old.turns.saturating_add(self.new.turns)
    }
}

fn tally(of: &VersionTally) -> Tally {
    Tally { turns: of.turns, errors: of.errors, traps: of.traps, overruns: of.overruns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::view::tests::{report, view_of};

    fn says(old: u64, new: u64) -> AppReport {
        let tally = |version, turns| VersionTally { version, turns, ..VersionTally::default() };
        AppReport { judged: vec![tally(1, old), tally(2, new)], ..report(&[Some(1)]) }
    }

    fn turns(arms: &Arms) -> (u64, u64) {
        let (old, new) = arms.tallies();
        (old.turns, new.turns)
    }

    #[test]
    fn only_what_comes_in_after_the_beginning_counts() {
        let mut arms = Arms::default();
        for (old, new) in [(1_000, 0), (1_050, 20)] {
            arms.update(&view_of(&[says(old, new)]).1, 2);
        }
        assert_eq!(turns(&arms), (50, 20));
    }

    #[test]
    fn a_worker_that_goes_or_restarts_keeps_what_it_has_added() {
        let mut arms = Arms::default();
        let told = [[says(100, 0), says(500, 0)], [says(110, 5), says(530, 7)]];
        told.iter().for_each(|told| arms.update(&view_of(told).1, 2));
        assert_eq!(turns(&arms), (40, 12));
        arms.update(&view_of(&[says(3, 1)]).1, 2);
        assert_eq!(turns(&arms), (43, 13));
    }
}
