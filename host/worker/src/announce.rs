//! When a gateway is told which slots are up. Pure: the time comes in.

use std::time::{Duration, Instant};

/// A gateway that does not say that it has seen a list is told the next one after so long all the same.
const SEEN_WAIT: Duration = Duration::from_secs(5);

/// What one link's gateway was told of the slots, and when it is told again: one whole list is under way at a time, and
/// what changes meanwhile is in the next. So changes that come faster than lists are read cost no more lists, and fill no
/// queue.
///
/// Say [`changed`](Self::changed) and [`seen`](Self::seen) as that happens; when it [`is_due`](Self::is_due), put the list
/// together and send what [`next`](Self::next) gives back.
#[derive(Debug)]
pub(crate) struct Announcer {
    has_changed: bool,
    /// The last list, as it was sent.
    told: Option<Vec<u8>>,
    /// The list that was sent then has not been seen yet.
    under_way: Option<Instant>,
}

impl Announcer {
    /// Nothing was told yet: something is to be, even if there is nothing.
    pub fn new() -> Self {
        Self { has_changed: true, told: None, under_way: None }
    }

    /// Slots may have changed.
    pub fn changed(&mut self) {
        self.has_changed = true;
    }

    /// The gateway has seen the last list.
    pub fn seen(&mut self) {
        self.under_way = None;
    }

    /// Whether a list is to be put together now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.has_changed && self.under_way.is_none_or(|since| now >= since + SEEN_WAIT)
    }

    /// When it is due if nothing is seen before. None: not before something changes.
    pub fn timeout(&self) -> Option<Instant> {
        self.under_way.filter(|_| self.has_changed).map(|since| since + SEEN_WAIT)
    }

    /// A list was put together. Gives back what is to be sent; none if the gateway knows it all.
    pub fn next(&mut self, now: Instant, list: Vec<u8>) -> Option<Vec<u8>> {
        self.has_changed = false;
        if self.told.as_ref() == Some(&list) {
            return None;
        }
        self.under_way = Some(now);
        self.told = Some(list.clone());
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_list_is_sent_even_if_it_is_empty_and_the_same_is_never_sent_twice() {
        let (mut announcer, now) = (Announcer::new(), Instant::now());
        assert!(announcer.is_due(now));
        assert_eq!(announcer.next(now, vec![]), Some(vec![]));
        assert!(!announcer.is_due(now));
        announcer.seen();
        announcer.changed();
        assert!(announcer.is_due(now));
        assert_eq!(announcer.next(now, vec![]), None);
        assert!(!announcer.is_due(now) && announcer.timeout().is_none());
        announcer.changed();
        assert_eq!(announcer.next(now, vec![1]), Some(vec![1]));
    }

    #[test]
    fn one_list_is_under_way_at_a_time_and_a_gateway_that_says_nothing_is_told_all_the_same() {
        let (mut announcer, now) = (Announcer::new(), Instant::now());
        announcer.next(now, vec![1]);
        (0..1000).for_each(|_| announcer.changed());
        assert!(!announcer.is_due(now));
        assert_eq!(announcer.timeout(), Some(now + SEEN_WAIT));
        announcer.seen();
        assert!(announcer.is_due(now));
        announcer.next(now, vec![2]);
        announcer.changed();
        assert!(!announcer.is_due(now) && announcer.is_due(now + SEEN_WAIT));
    }

    proptest! {
        /// Of any story the gateway knows the newest in the end, and no more lists were sent than it has seen, but one.
        #[test]
        fn the_gateway_knows_the_newest_in_the_end(story in prop::collection::vec((0_u8..3, 0_u8..3), 0..100)) {
            let (mut announcer, now) = (Announcer::new(), Instant::now());
            let (mut slots, mut sent, mut seen) = (0_u8, Vec::new(), 0);
            let mut act = |announcer: &mut Announcer, slots: u8, seen: usize| {
                if announcer.is_due(now) {
                    sent.extend(announcer.next(now, vec![slots]));
                }
                assert!(sent.len() <= seen + 1);
                sent.clone()
            };
            for (what, to) in story {
                let sent = act(&mut announcer, slots, seen);
                if what > 0 {
                    slots = to;
                    announcer.changed();
                } else if seen < sent.len() {
                    seen += 1;
                    announcer.seen();
                }
            }
            announcer.seen();
            let sent = act(&mut announcer, slots, usize::MAX - 1);
            prop_assert_eq!(sent.last(), Some(&vec![slots]));
        }
    }
}
