//! When a slot runs no further turn for now, so that others get theirs.

use std::time::Instant;

use super::Slot;

/// A round ends when its turns have asked a lane for so many bytes, so that a full queue is noticed.
const STAGED_BYTES_MAX: usize = 1024 * 1024;

impl Slot {
    /// Whether the next turn must wait: for what the turns before said to leave, or for the app's CPU budget.
    pub(super) fn is_held_up(&mut self) -> bool {
        self.over_budget_until().is_some()
            || self.core(|core| core.out.staged() > STAGED_BYTES_MAX).unwrap_or(false)
    }

    /// Until when the app is over its CPU budget, if it is. Looks at a clock only if it is.
    pub(super) fn over_budget_until(&self) -> Option<Instant> {
        let app = &self.parts.edition.app;
        if !app.budget.is_over() {
            return None;
        }
        let now = Instant::now();
        let until = app.budget.wait_until(now)?;
        self.parts.shared.log.held_up(app, now);
        Some(until)
    }

    /// A clock that costs a load and ticks every few milliseconds while plugins run: a round of short turns ends with the
    /// tick, or it would hold up the thread for as long as all of them take together.
    pub(super) fn ticks(&self) -> u64 {
        self.instance.as_ref().map_or(0, |instance| instance.ticks())
    }
}
