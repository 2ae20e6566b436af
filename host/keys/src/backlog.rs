//! The changes that wait to be written, and which of them go together: of each app some, in turns, so that an app that
//! writes much holds up others for one batch at most. A pure state machine.
//!
//! It is bounded from outside: an instance of a plugin waits for each of its changes.

use std::collections::{HashMap, VecDeque};

/// Bytes that one batch carries, about.
pub(crate) const BATCH_BYTES: usize = 8 << 20;
/// Bytes of one app in a batch, about: one change more, at most.
const APP_BYTES: usize = 1 << 20;
/// What a change counts for besides its bytes.
const CHANGE_BYTES: usize = 64;

#[derive(Debug)]
pub(crate) struct Backlog<T> {
    waiting: HashMap<u64, VecDeque<(usize, T)>>,
    /// Apps that have something waiting, the next one first.
    turns: VecDeque<u64>,
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new() }
    }
}

impl<T> Backlog<T> {
    /// A change of an app, with so many bytes.
    pub fn push(&mut self, app: u64, bytes: usize, change: T) {
        let queue = self.waiting.entry(app).or_default();
        if queue.is_empty() {
            self.turns.push_back(app);
        }
        queue.push_back((bytes.saturating_add(CHANGE_BYTES), change));
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The next batch: those of one app in their order. Empty only if nothing waits.
    pub fn take(&mut self) -> Vec<T> {
        let (mut batch, mut total) = (Vec::new(), 0);
        for _ in 0..self.turns.len() {
            if total >= BATCH_BYTES {
                break;
            }
            let Some(app) = self.turns.pop_front() else { break };
            let Some(queue) = self.waiting.get_mut(&app) else { continue };
            let mut of_app = 0;
            while of_app < APP_BYTES
                && let Some((bytes, change)) = queue.pop_front()
            {
                of_app += bytes;
                batch.push(change);
            }
            total += of_app;
            if queue.is_empty() {
                self.waiting.remove(&app);
            } else {
                self.turns.push_back(app);
            }
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_change_is_taken_once_and_those_of_an_app_in_their_order(
            steps in prop::collection::vec(prop::option::of((0..4_u64, 0..3_000_000_usize)), 1..60),
        ) {
            let mut backlog = Backlog::default();
            let (mut pushed, mut taken) = (Vec::new(), Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some((app, bytes)) => {
                        pushed.push((app, number));
                        backlog.push(app, bytes, (app, number));
                    }
                    None => taken.extend(backlog.take()),
                }
            }
            while !backlog.is_empty() {
                let batch = backlog.take();
                prop_assert!(!batch.is_empty());
                taken.extend(batch);
            }
            prop_assert!(backlog.waiting.is_empty() && backlog.take().is_empty());
            // Stable: within an app nothing is moved.
            pushed.sort_by_key(|(app, _)| *app);
            taken.sort_by_key(|(app, _)| *app);
            prop_assert_eq!(pushed, taken);
        }
    }

    #[test]
    fn an_app_that_writes_much_holds_up_another_for_one_batch_at_most() {
        let mut backlog = Backlog::default();
        for _ in 0..100 {
            backlog.push(1, 900_000, 1);
        }
        backlog.push(2, 10, 2);
        let batch = backlog.take();
        assert_eq!((batch.len(), batch.contains(&2)), (3, true));
        for app in 3..40 {
            backlog.push(app, 1 << 20, app);
        }
        assert!(backlog.take().len() < 12, "a batch is bounded");
    }
}
