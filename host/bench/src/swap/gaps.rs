//! The longest time that a connection waited for an answer, around each swap and in a calm time of the same length.

use crate::stats::Nanos;

/// Measures waits: the time that a connection had a message under way and got no answer.
///
/// A swap's window reaches from [`Gaps::begin_swap`] to [`Gaps::end_swap`], its calm window from [`Gaps::begin_calm`] to
/// [`Gaps::end_calm`]. A wait that overlaps the swap's window counts as the swap's, one that lies within the calm window
/// as calm; so what is in doubt is charged to the swap. [`Gaps::begin_swap`] forgets the longest waits of the swap before,
/// not the latencies.
#[derive(Debug)]
pub(crate) struct Gaps {
    /// When each connection got its last answer.
    answered_at: Vec<u64>,
    swap: Window,
    calm: Window,
    /// The longest waits of the present swap and calm window.
    longest_swap: u64,
    longest_calm: u64,
    /// Latencies of answers in swaps' windows.
    pub(crate) latency_swap: Nanos,
    /// Latencies of answers in calm windows.
    pub(crate) latency_calm: Nanos,
}

/// From, until; none if it has not begun.
#[derive(Clone, Copy, Debug)]
struct Window(Option<(u64, u64)>);

impl Gaps {
    pub(crate) fn new(connections: u32) -> Gaps {
        Gaps {
            answered_at: vec![0; connections as usize],
            swap: Window(None),
            calm: Window(None),
            longest_swap: 0,
            longest_calm: 0,
            latency_swap: Nanos::new(),
            latency_calm: Nanos::new(),
        }
    }

    pub(crate) fn begin_swap(&mut self, now: u64) {
        self.swap = Window(Some((now, u64::MAX)));
        self.calm = Window(None);
        self.longest_swap = 0;
        self.longest_calm = 0;
    }

    /// `waiting`: the connections that have a message under way, and since when.
    pub(crate) fn end_swap(&mut self, now: u64, waiting: impl Iterator<Item = (usize, u64)>) {
        for (client, since) in waiting {
            self.longest_swap = self.longest_swap.max(now.saturating_sub(self.began(client, since)));
        }
        self.swap.end(now);
    }

    pub(crate) fn begin_calm(&mut self, now: u64) {
        self.calm = Window(Some((now, u64::MAX)));
    }

    pub(crate) fn end_calm(&mut self, now: u64) {
        self.calm.end(now);
    }

    /// `client` got an answer to a message of `sent_at`; the oldest one it had under way is of `waiting_since`.
    #[inline]
    pub(crate) fn answer(&mut self, client: usize, sent_at: u64, waiting_since: u64, now: u64) {
        let began = self.began(client, waiting_since);
        let wait = now.saturating_sub(began);
        if self.swap.overlaps(began, now) {
            self.longest_swap = self.longest_swap.max(wait);
        } else if self.calm.contains(began, now) {
            self.longest_calm = self.longest_calm.max(wait);
        }
        let latency = now.saturating_sub(sent_at);
        if self.swap.contains(now, now) {
            self.latency_swap.record(latency);
        } else if self.calm.contains(now, now) {
            self.latency_calm.record(latency);
        }
        if let Some(at) = self.answered_at.get_mut(client) {
            *at = now;
        }
    }

    /// The longest waits, in nanoseconds: of the swap's window, and of the calm one once it has ended.
    pub(crate) fn longest(&self) -> (u64, Option<u64>) {
        let calm_ended = self.calm.0.is_some_and(|(_, until)| until < u64::MAX);
        (self.longest_swap, calm_ended.then_some(self.longest_calm))
    }

    /// Latencies so far are not counted.
    pub(crate) fn forget_latencies(&mut self) {
        self.latency_swap.reset();
        self.latency_calm.reset();
    }

    fn began(&self, client: usize, since: u64) -> u64 {
        self.answered_at.get(client).copied().unwrap_or(0).max(since)
    }
}

impl Window {
    fn end(&mut self, now: u64) {
        if let Some((_, until)) = &mut self.0 {
            *until = (*until).min(now);
        }
    }

    fn overlaps(&self, from: u64, to: u64) -> bool {
        self.0.is_some_and(|(begin, end)| from < end && to > begin)
    }

    fn contains(&self, from: u64, to: u64) -> bool {
        self.0.is_some_and(|(begin, end)| from >= begin && to < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A swap from 100 to 200, then a calm window.
    fn after_a_swap() -> Gaps {
        let mut gaps = Gaps::new(2);
        gaps.answer(0, 40, 40, 50);
        gaps.begin_swap(100);
        gaps.answer(0, 95, 95, 130);
        gaps.end_swap(200, std::iter::empty());
        gaps.begin_calm(200);
        gaps
    }

    #[test]
    fn a_wait_counts_from_the_send_or_from_the_answer_before() {
        let gaps = after_a_swap();
        assert_eq!(gaps.longest(), (35, None), "sent at 95, answered at 130");
        let mut gaps = Gaps::new(1);
        gaps.begin_swap(0);
        // Three under way since 10; after the first answer the connection waits from then.
        gaps.answer(0, 10, 10, 20);
        gaps.answer(0, 10, 10, 45);
        gaps.answer(0, 10, 10, 50);
        assert_eq!(gaps.longest().0, 25);
    }

    #[test]
    fn a_wait_that_begins_in_the_swap_belongs_to_it_even_if_it_ends_later() {
        let mut gaps = after_a_swap();
        gaps.answer(1, 150, 150, 260);
        gaps.end_calm(300);
        assert_eq!(gaps.longest(), (110, Some(0)));
    }

    #[test]
    fn calm_waits_lie_within_the_calm_window() {
        let mut gaps = after_a_swap();
        gaps.answer(1, 210, 210, 230);
        gaps.answer(0, 220, 220, 225);
        gaps.end_calm(300);
        gaps.answer(1, 290, 290, 390);
        assert_eq!(gaps.longest(), (35, Some(20)), "the wait that outlasts the window counts for none");
    }

    #[test]
    fn a_connection_that_still_waits_at_the_end_of_a_swap_counts() {
        let mut gaps = Gaps::new(2);
        gaps.begin_swap(100);
        gaps.answer(0, 110, 110, 120);
        gaps.end_swap(500, [(0, 105), (1, 130)].into_iter());
        assert_eq!(gaps.longest().0, 380, "the first waits since its answer at 120");
    }

    #[test]
    fn latencies_are_kept_apart_by_window() {
        let mut gaps = after_a_swap();
        gaps.answer(0, 210, 210, 220);
        gaps.end_calm(300);
        gaps.answer(0, 310, 310, 320);
        let max = |nanos: &Nanos| nanos.summary().map(|latency| latency.max_us);
        assert_eq!(max(&gaps.latency_swap), Some(0.035));
        assert_eq!(max(&gaps.latency_calm), Some(0.01));
        gaps.forget_latencies();
        assert_eq!((max(&gaps.latency_swap), max(&gaps.latency_calm)), (None, None));
    }

    #[test]
    fn the_next_swap_begins_anew() {
        let mut gaps = after_a_swap();
        gaps.end_calm(300);
        gaps.begin_swap(400);
        assert_eq!(gaps.longest(), (0, None));
    }
}
