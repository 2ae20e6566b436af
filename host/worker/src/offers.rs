//! Which lanes a link offers to its gateway: one of each slot, and another one when that is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_link::redial::Backoff;

use crate::table::Place;

/// The lanes that one link offers, by the place of their slot. Pure: losses, generations and the time come in.
///
/// A lane that is lost while its link lives is offered again with the next generation: at once if it lasted, else after
/// a pause that grows, since a peer that breaks every lane must not be kept busy with them. Until then the slot is
/// not announced to this gateway, so that clients go to others.
#[derive(Debug)]
pub(crate) struct Offers {
    /// Keeps the pauses of many links apart.
    seed: u64,
    slots: BTreeMap<Place, Offer>,
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
    /// No lane of any slot yet. `seed` keeps the pauses of many links apart.
    pub fn new(seed: u64) -> Self {
        Self { seed, slots: BTreeMap::new() }
    }

    /// A slot has come: a lane of this generation is offered.
    pub fn add(&mut self, now: Instant, place: Place, generation: u64) {
        let backoff = Backoff::new(self.seed.wrapping_add(place));
        self.slots.insert(place, Offer { generation, state: State::Up(now), backoff });
    }

    /// Whether the slot is known.
    pub fn has(&self, place: Place) -> bool {
        self.slots.contains_key(&place)
    }

    /// Only these slots are left, and need lanes.
    pub fn retain(&mut self, stays: impl Fn(Place) -> bool) {
        self.slots.retain(|place, _| stays(*place));
    }

    /// The generation of a slot's lane; none while it is lost.
    pub fn generation(&self, place: Place) -> Option<u64> {
        self.slots
            .get(&place)
            .filter(|offer| matches!(offer.state, State::Up(_)))
            .map(|offer| offer.generation)
    }

    /// A lane is lost. False: it was known, or is not the one that is offered.
    pub fn lost(&mut self, now: Instant, place: Place, generation: u64) -> bool {
        let Some(offer) = self.slots.get_mut(&place).filter(|offer| offer.generation == generation) else {
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
        self.slots.values().filter_map(due).min()
    }

    /// Offers the lanes again whose pause is over, each with the next of `generations`. Returns their places.
    pub fn poll(&mut self, now: Instant, mut generations: impl FnMut() -> u64) -> Vec<Place> {
        let mut renewed = Vec::new();
        for (place, offer) in &mut self.slots {
            if matches!(offer.state, State::Lost(until) if until <= now) {
                offer.generation = generations();
                offer.state = State::Up(now);
                renewed.push(*place);
            }
        }
        renewed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So many slots with lanes of generations from 1 on.
    fn offers(now: Instant, slots: u64) -> Offers {
        let mut offers = Offers::new(7);
        (0..slots).for_each(|place| offers.add(now, place, place + 1));
        offers
    }

    #[test]
    fn a_slot_that_is_gone_needs_no_lane_and_the_news_of_its_loss_means_nothing() {
        let start = Instant::now();
        let mut offers = offers(start, 2);
        assert!(offers.lost(start, 0, 1));
        offers.retain(|place| place != 0);
        assert_eq!((offers.timeout(), offers.has(0), offers.has(1)), (None, false, true));
        assert!(!offers.lost(start, 0, 1));
        assert_eq!((offers.generation(0), offers.generation(1)), (None, Some(2)));
    }

    #[test]
    fn a_lane_that_is_lost_is_offered_again_with_the_next_generation_and_the_others_stay() {
        let start = Instant::now();
        let mut offers = offers(start, 2);
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
        let mut offers = offers(start, 1);
        let end = start + Backoff::LONGEST;
        assert!(offers.lost(end, 0, 1));
        assert_eq!(offers.poll(end, || 2), [0]);
    }

    #[test]
    fn a_loss_is_told_once_and_one_of_an_earlier_lane_means_nothing() {
        let start = Instant::now();
        let mut offers = offers(start, 1);
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
        fn generations_grow_and_every_lane_comes_back(losses in prop::collection::vec((0_u64..3, 0_u64..8000), 0..60)) {
            let (mut now, mut next) = (Instant::now(), 3);
            let mut offers = offers(now, 3);
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
