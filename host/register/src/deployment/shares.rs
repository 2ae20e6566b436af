//! Which slots of which workers run a canary.

use std::collections::BTreeMap;

use tidegate_base::NodeName;

use super::view::View;

/// How many of its first slots each worker gives to the canary. A worker's share only grows: what has switched stays.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<NodeName, u32>);

impl Shares {
    /// The share of a worker, in slots.
    pub fn of(&self, worker: &NodeName) -> u32 {
        self.0.get(worker).copied().unwrap_or(0)
    }

    /// How many slots there are in all.
    pub fn slots(&self) -> u64 {
        self.0.values().map(|share| u64::from(*share)).sum()
    }

    /// Forgets who is gone, takes in who is new, and hands out slots until the share is reached, each to the worker with
    /// the most that are left. True: somebody's share has changed.
    pub fn fill(&mut self, view: &View<'_>, number: u32, percent: u8) -> bool {
        let before = self.0.clone();
        self.0.retain(|worker, _| view.has(worker));
        for (worker, report) in view.iter() {
            // After a register's restart, and of a worker that was away for a moment: what switched has its share.
            let leading = report.slots.iter().take_while(|slot| **slot == Some(number)).count();
            self.0.entry(worker.clone()).or_insert(u32::try_from(leading).unwrap_or(u32::MAX));
        }
        let wanted = wanted(view.slots(), percent);
        let mut given = self.slots();
        while given < wanted && self.give_one(view) {
            given += 1;
        }
        self.0 != before
    }

    fn give_one(&mut self, view: &View<'_>) -> bool {
        let left =
            |(worker, slots): (&NodeName, u32)| (slots.saturating_sub(self.of(worker)), worker.clone());
        let sizes = view
            .iter()
            .map(|(worker, report)| (worker, u32::try_from(report.slots.len()).unwrap_or(u32::MAX)));
        // The first by name among equals, so that it is the same every time.
        let most = sizes.map(left).max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        match most {
            Some((1.., worker)) => {
                *self.0.entry(worker).or_insert(0) += 1;
                true
            }
            _ => false,
        }
    }
}

/// The share of so many slots: at least one, never all.
fn wanted(slots: u64, percent: u8) -> u64 {
    let share = (slots * u64::from(percent)).div_ceil(100);
    share.max(1).min(slots.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::view::tests::{report, view_of};

    fn shares(sizes: &[usize], percent: u8) -> Vec<u32> {
        let reports: Vec<_> = sizes.iter().map(|size| report(&vec![Some(1); *size])).collect();
        let (names, view) = view_of(&reports);
        let mut shares = Shares::default();
        assert!(shares.fill(&view, 2, percent));
        assert!(!shares.fill(&view, 2, percent), "nothing has changed");
        names.iter().map(|name| shares.of(name)).collect()
    }

    #[test]
    fn a_canary_has_one_slot_at_least_and_never_all() {
        let cases = [(2, 1), (2, 99), (4, 25), (4, 26), (100, 99), (100, 1)].map(|(s, p)| wanted(s, p));
        assert_eq!(cases, [1, 1, 1, 2, 99, 1]);
        assert_eq!((wanted(1, 50), wanted(0, 50)), (0, 0));
    }

    #[test]
    fn a_canary_is_spread_over_workers_from_the_most_slots_on() {
        assert_eq!(shares(&[2, 4], 33), [0, 2]);
        assert_eq!(shares(&[2, 4], 34), [1, 2]);
        assert_eq!(shares(&[4, 4], 25), [1, 1]);
        assert_eq!(shares(&[4, 4], 50), [2, 2]);
        assert_eq!(shares(&[1, 1, 1], 10), [1, 0, 0]);
    }

    #[test]
    fn a_worker_that_goes_is_made_up_for_and_what_switched_stays() {
        let reports = [report(&[Some(2), Some(2), Some(1)]), report(&[Some(1); 4])];
        let (names, view) = view_of(&reports);
        let mut shares = Shares::default();
        shares.fill(&view, 2, 1);
        assert_eq!((shares.of(&names[0]), shares.of(&names[1])), (2, 0));
        let mut rest = View::default();
        rest.push(&names[1], &reports[1]);
        assert!(shares.fill(&rest, 2, 1));
        assert_eq!((shares.of(&names[0]), shares.of(&names[1])), (0, 1));
    }
}
