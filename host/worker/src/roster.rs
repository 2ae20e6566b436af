//! The apps that come to a worker and go, as its conductor hears of them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::conducted::{Conducted, Reach};
use crate::settings::WorkerApp;

/// Names an app of the worker from when it comes to when it goes; none is ever used again.
pub(crate) type AppId = u64;

/// A change of the worker's apps.
pub(crate) enum Change {
    Add(AppId, Box<Conducted>),
    /// Other settings, and all slots that it has now.
    Configure(AppId, Arc<WorkerApp>, Vec<Reach>),
    Remove(AppId),
}

/// Changes that the conductor has not taken up, in order; from before there is one, too. Bounded by the worker's apps:
/// one that goes before it was taken up leaves nothing, and of its settings the last are kept.
#[derive(Default)]
pub(crate) struct Roster {
    changes: Mutex<Vec<Change>>,
    told: Notify,
}

impl Roster {
    /// Tells the conductor, if there is one.
    pub fn push(&self, change: Change) {
        let mut changes = self.changes.lock();
        if let Change::Configure(of, ..) | Change::Remove(of) = change {
            changes.retain(|known| !matches!(known, Change::Configure(id, ..) if *id == of));
        }
        if let Change::Remove(gone) = change {
            let before = changes.len();
            changes.retain(|known| !matches!(known, Change::Add(id, _) if *id == gone));
            if changes.len() < before {
                return;
            }
        }
        changes.push(change);
        drop(changes);
        self.told.notify_one();
    }

    /// What has changed since the last time.
    pub fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock())
    }

    /// Waits until something has changed. Cancel-safe.
    pub async fn changed(&self) {
        self.told.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::AppName;

    use super::*;
    use crate::edition::Edition;
    use crate::places::Places;

    fn app(timers_max: usize) -> Arc<WorkerApp> {
        Arc::new(WorkerApp { timers_max, ..WorkerApp::empty(AppName::new("chat").unwrap()) })
    }

    fn add(id: AppId) -> Change {
        Change::Add(
            id,
            Box::new(Conducted::new(&Arc::new(Edition::empty_of(&app(1))), Vec::new(), Places::new(1))),
        )
    }

    fn configure(id: AppId, timers_max: usize) -> Change {
        Change::Configure(id, app(timers_max), Vec::new())
    }

    /// What is to be taken up, in a word each.
    fn taken(roster: &Roster) -> Vec<(AppId, String)> {
        let word = |change| match change {
            Change::Add(id, _) => (id, "add".to_owned()),
            Change::Configure(id, app, _) => (id, format!("configure {}", app.timers_max)),
            Change::Remove(id) => (id, "remove".to_owned()),
        };
        roster.take().into_iter().map(word).collect()
    }

    #[test]
    fn changes_are_taken_up_in_order_and_once() {
        let roster = Roster::default();
        [add(1), configure(1, 5), add(2), Change::Remove(7)]
            .into_iter()
            .for_each(|change| roster.push(change));
        let words = [(1, "add"), (1, "configure 5"), (2, "add"), (7, "remove")];
        assert_eq!(taken(&roster), words.map(|(id, word)| (id, word.to_owned())));
        assert_eq!(taken(&roster), []);
    }

    #[test]
    fn an_app_that_goes_before_it_was_taken_up_leaves_nothing_and_of_its_settings_the_last_are_kept() {
        let roster = Roster::default();
        for round in 0..100 {
            [add(round), configure(round, 1), configure(round, 2), Change::Remove(round)]
                .into_iter()
                .for_each(|change| roster.push(change));
        }
        assert_eq!(taken(&roster), []);
        (0..100).for_each(|timers_max| roster.push(configure(3, timers_max)));
        assert_eq!(taken(&roster), [(3, "configure 99".to_owned())]);
    }
}
