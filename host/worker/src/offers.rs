//! Which lanes a link offers to its gateway: one of each slot, and another one when that is lost.

use std::time::{Duration, Instant};

use tidegate_link::redial::Backoff;

/// The lanes that one link offers, by the place of their slot. Pure: losses, generations and the time come in.
///
/// A lane that is lost while its link lives is offered again with the next generation: at once if it lasted, else after
/// a pause that grows, since a peer that breaks every lane must not be kept busy with them. Until then the slot is
/// not announced to this gateway, so that clients go to others.
#[derive(Debug)]
pub(crate) struct Offers {
    slots: Vec<Offer>,
}

#[derive(Debug)]
struct Offer {
    generation: u64,
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Offered since then.
    Up(Instant),
    /// Lost; to be offered again from then on.
    Lost(Instant),
}

impl Offers {
    /// A lane of every slot, of these generations. `seed` keeps the pauses of many links apart.
    pub fn new(now: Instant, seed: u64, generations: impl Iterator<Item = u64>) -> Self {
        let offer = |(place, generation): (usize, u64)| Offer {
            generation,
            state: State::Up(now),
            backoff: Backoff::new(seed.wrapping_add(place as u64)),
        };
        Self { slots: generations.enumerate().map(offer).collect() }
    }

    /// The generation of a slot's lane; none while it is lost.
    pub fn generation(&self, place: usize) -> Option<u64> {
        self.slots
            .get(place)
            .filter(|offer| matches!(offer.state, State::Up(_)))
            .map(|offer| offer.generation)
    }

    /// A lane is lost. False: it was known, or is not the one that is offered.
    pub fn lost(&mut self, now: Instant, place: usize, generation: u64) -> bool {
        let Some(offer) = self.slots.get_mut(place).filter(|offer| offer.generation == generation) else {
            return false;
        };
        let State::Up(since) = offer.state else { return false };
        let pause = offer.backoff.ended(now.saturating_duration_since(since)).unwrap_or(Duration::ZERO);
        offer.state = State::Lost(now + pause);
        true
    }

    /// When to poll next.
    pub fn timeout(&self) -> Option<Instant> {
        let due = |offer: &Offer| match offer.state {
            State::Lost(until) => Some(until),
            State::Up(_) => None,
        };
        self.slots.iter().filter_map(due).min()
    }

    /// Offers the lanes again whose pause is over, each with the next of `generations`. Returns their places.
    pub fn poll(&mut self, now: Instant, mut generations: impl FnMut() -> u64) -> Vec<usize> {
        let mut renewed = Vec::new();
        for (place, offer) in self.slots.iter_mut().enumerate() {
            if matches!(offer.state, State::Lost(until) if until <= now) {
                offer.generation = generations();
                offer.state = State::Up(now);
                renewed.push(place);
            }
        }
        renewed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lane_that_is_lost_is_offered_again_with_the_next_generation_and_the_others_stay() {
        let start = Instant::now();
        let mut offers = Offers::new(start, 7, [1, 2].into_iter());
        assert!(offers.lost(start, 1, 2));
        assert_eq!((offers.generation(0), offers.generation(1)), (Some(1), None));
        let due = offers.timeout().unwrap();
        assert!(due > start, "a lane that did not last is offered after a pause");
        assert!(offers.poll(start, || 3).is_empty());
        assert_eq!(offers.poll(due, || 3), [1]);
        assert_eq!((offers.generation(0), offers.generation(1)), (Some(1), Some(3)));
        assert_eq!(offers.timeout(), None);
    }

    #[test]
    fn one_that_lasted_is_offered_again_at_once() {
        let start = Instant::now();
        let mut offers = Offers::new(start, 7, [1].into_iter());
        let end = start + Backoff::LONGEST;
        assert!(offers.lost(end, 0, 1));
        assert_eq!(offers.poll(end, || 2), [0]);
    }

    #[test]
    fn a_loss_is_told_once_and_one_of_an_earlier_lane_means_nothing() {
        let start = Instant::now();
        let mut offers = Offers::new(start, 7, [1].into_iter());
        assert!(offers.lost(start, 0, 1));
        assert!(!offers.lost(start, 0, 1));
        let due = offers.timeout().unwrap();
        offers.poll(due, || 2);
        assert!(!offers.lost(due, 0, 1));
        assert!(!offers.lost(due, 5, 1));
        assert_eq!(offers.generation(0), Some(2));
    }

    proptest! {
        #[test]
        fn generations_grow_and_every_lane_comes_back(losses in prop::collection::vec((0_usize..3, 0_u64..8000), 0..60)) {
            let (mut now, mut next) = (Instant::now(), 3);
            let mut offers = Offers::new(now, 1, 1..=3);
            for (place, waited) in losses {
                now += Duration::from_millis(waited);
                let before = offers.generation(place);
                if let Some(generation) = before {
                    prop_assert!(offers.lost(now, place, generation));
                }
                let due = offers.timeout().unwrap_or(now);
                prop_assert!(due <= now + Backoff::LONGEST);
                offers.poll(due, || { next += 1; next });
                prop_assert!(offers.generation(place) > before || offers.timeout().is_some());
            }
            while let Some(due) = offers.timeout() {
                offers.poll(due, || { next += 1; next });
            }
            prop_assert!((0..3).all(|place| offers.generation(place).is_some()));
        }
    }
}
