//! One question to many nodes: who is asked now, who has answered, and when it is enough. Pure.

use std::time::Duration;

use tidegate_wire::question::{NoAnswer, NodeAnswer};
use tidegate_wire::request::NodeRef;
use tokio::time::Instant;

/// How long one node is waited for.
pub const NODE_WAIT: Duration = Duration::from_secs(2);

/// Nodes that are asked at a time in one round.
pub const ASKED_AT_ONCE_MAX: usize = 16;

/// How long a round begins to ask nodes. One node that hangs takes a sixteenth of it for two seconds.
pub const ROUND_WAIT: Duration = Duration::from_secs(8);

/// Bytes of all answers of a round together.
pub const ROUND_BYTES_MAX: usize = 48 * 1024 * 1024;

/// A question on its round.
///
/// Calling contract: `next` until it gives nobody; then `answered` for one of those who were asked, which must be by the time
/// that `next` said; and again, until nobody is asked any more.
#[derive(Debug)]
pub(super) struct Round {
    places: Vec<Place>,
    next: usize,
    under_way: usize,
    bytes: usize,
    until: Instant,
}

#[derive(Debug)]
struct Place {
    node: NodeRef,
    answer: Option<Result<String, NoAnswer>>,
}

impl Round {
    /// To these nodes.
    pub fn new(nodes: impl IntoIterator<Item = NodeRef>, now: Instant) -> Self {
        let places = nodes.into_iter().map(|node| Place { node, answer: None }).collect();
        Self { places, next: 0, under_way: 0, bytes: 0, until: now + ROUND_WAIT }
    }

    /// Whom to ask now, by its place among the nodes, and until when it is waited for. None: nobody, or nobody yet.
    pub fn next(&mut self, now: Instant) -> Option<(usize, Instant)> {
        if self.under_way >= ASKED_AT_ONCE_MAX || self.next >= self.places.len() || now >= self.until {
            return None;
        }
        let place = self.next;
        self.next += 1;
        self.under_way += 1;
        Some((place, now + NODE_WAIT))
    }

    /// Somebody who was asked has answered, or will not.
    pub fn answered(&mut self, place: usize, answer: Result<String, NoAnswer>) {
        let Some(place) = self.places.get_mut(place).filter(|place| place.answer.is_none()) else { return };
        self.under_way = self.under_way.saturating_sub(1);
        let bytes = answer.as_ref().map_or(0, String::len);
        let has_room = self.bytes + bytes <= ROUND_BYTES_MAX;
        place.answer = Some(if has_room { answer } else { Err(NoAnswer::NoRoom) });
        self.bytes += if has_room { bytes } else { 0 };
    }

    /// What came of it, in the order of the nodes.
    pub fn into_answers(self) -> Vec<NodeAnswer> {
        let none = |place| if place < self.next { late() } else { NoAnswer::NotAsked };
        let answers = self.places.into_iter().enumerate().map(|(number, Place { node, answer })| {
            NodeAnswer { node, answer: answer.unwrap_or_else(|| Err(none(number))) }
        });
        answers.collect()
    }
}

/// What is said of a node that does not answer in time.
pub(super) fn late() -> NoAnswer {
    NoAnswer::Late { wait_ms: u64::try_from(NODE_WAIT.as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{NodeName, Role};

    use super::*;

    fn nodes(count: usize) -> impl Iterator<Item = NodeRef> {
        (0..count)
            .map(|number| NodeRef { role: Role::Worker, name: NodeName::new(&format!("w{number}")).unwrap() })
    }

    fn asked(round: &mut Round, now: Instant) -> Vec<usize> {
        std::iter::from_fn(|| round.next(now)).map(|(place, _)| place).collect()
    }

    fn tags(answers: Vec<NodeAnswer>) -> Vec<&'static str> {
        let tag = |answer: NodeAnswer| match answer.answer {
            Ok(_) => "ok",
            Err(NoAnswer::Late { .. }) => "late",
            Err(NoAnswer::NotAsked) => "not asked",
            Err(NoAnswer::NoRoom) => "no room",
            Err(NoAnswer::Gone { .. } | NoAnswer::Refused { .. }) => "no",
        };
        answers.into_iter().map(tag).collect()
    }

    #[test]
    fn each_node_is_asked_once_and_only_so_many_at_a_time() {
        let now = Instant::now();
        let mut round = Round::new(nodes(ASKED_AT_ONCE_MAX + 2), now);
        assert_eq!(asked(&mut round, now), (0..ASKED_AT_ONCE_MAX).collect::<Vec<_>>());
        round.answered(3, Ok(String::new()));
        round.answered(3, Ok("said twice".into()));
        assert_eq!(asked(&mut round, now), [ASKED_AT_ONCE_MAX]);
        round.answered(0, Err(late()));
        let later = now + ROUND_WAIT - Duration::from_millis(1);
        assert_eq!(round.next(later), Some((ASKED_AT_ONCE_MAX + 1, later + NODE_WAIT)));
        assert_eq!(asked(&mut round, later), Vec::<usize>::new());
        let answers = round.into_answers();
        assert_eq!((answers[3].node.name.as_str(), &answers[3].answer), ("w3", &Ok(String::new())));
        assert_eq!(
            answers.iter().filter(|answer| answer.answer == Err(late())).count(),
            ASKED_AT_ONCE_MAX + 1
        );
    }

    #[test]
    fn those_who_hang_cost_the_others_their_answers_only_if_they_are_very_many() {
        let start = Instant::now();
        let mut round = Round::new(nodes(100), start);
        let mut now = start;
        loop {
            let hang = asked(&mut round, now);
            if hang.is_empty() {
                break;
            }
            now += NODE_WAIT;
            hang.into_iter().for_each(|place| round.answered(place, Err(late())));
        }
        let tags = tags(round.into_answers());
        assert_eq!(tags.iter().filter(|tag| **tag == "late").count(), 4 * ASKED_AT_ONCE_MAX);
        assert!(now <= start + ROUND_WAIT + NODE_WAIT && tags.ends_with(&["not asked"]));
    }

    #[test]
    fn all_answers_together_are_bounded_and_small_ones_still_find_room() {
        let now = Instant::now();
        let mut round = Round::new(nodes(4), now);
        asked(&mut round, now);
        let large = "x".repeat(ROUND_BYTES_MAX / 2 + 1);
        for (place, answer) in [large.clone(), large, String::from("small")].into_iter().enumerate() {
            round.answered(place, Ok(answer));
        }
        assert_eq!(tags(round.into_answers()), ["ok", "no room", "ok", "late"]);
    }
}
