//! Who waits for a place in the pool of plugin instances, and who could give one up. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tidegate_base::AppName;

/// Of so many idle slots, the longest idle first, the best is chosen; looking at all would cost whoever wakes.
const LOOK_AT_MAX: usize = 64;

/// A slot of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotKey {
    pub app: AppName,
    pub slot: u32,
}

/// Slots that wait for a place, first come first, and slots that could sleep, the longest idle first. Bounded by the
/// worker's slots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    next: u64,
    waiting: BTreeMap<u64, SlotKey>,
    tickets: BTreeMap<SlotKey, u64>,
    /// Those that could sleep and are not asked to.
    idle: BTreeSet<(Instant, SlotKey)>,
    /// Since when those of `idle` are.
    since: BTreeMap<SlotKey, Instant>,
    /// Asked to sleep. Each leaves when it sleeps, or when it cannot.
    asked: BTreeSet<SlotKey>,
}

impl Queue {
    /// A slot waits, behind all that do. One that waits keeps its turn.
    pub fn wait(&mut self, key: SlotKey) {
        if !self.tickets.contains_key(&key) {
            self.waiting.insert(self.next, key.clone());
            self.tickets.insert(key, self.next);
            self.next += 1;
        }
    }

    /// A slot does not wait any more. False: it did not.
    pub fn leave(&mut self, key: &SlotKey) -> bool {
        let Some(ticket) = self.tickets.remove(key) else { return false };
        self.waiting.remove(&ticket);
        true
    }

    /// Who has waited longest.
    pub fn first(&self) -> Option<&SlotKey> {
        self.waiting.values().next()
    }

    /// Who has waited longest of an app's slots.
    pub fn first_of(&self, app: &AppName) -> Option<&SlotKey> {
        self.of(app).min_by_key(|(_, ticket)| **ticket).map(|(key, _)| key)
    }

    /// The slots of an app that wait.
    pub fn waiting_of(&self, app: &AppName) -> Vec<SlotKey> {
        self.of(app).map(|(key, _)| key.clone()).collect()
    }

    fn of(&self, app: &AppName) -> impl Iterator<Item = (&SlotKey, &u64)> {
        let from = SlotKey { app: app.clone(), slot: 0 };
        self.tickets.range(from..).take_while(move |(key, _)| key.app == *app)
    }

    /// A slot could sleep, since it has been idle from then on. Whatever it was asked before does not count any more.
    pub fn idles(&mut self, key: SlotKey, since: Instant) {
        self.busy(&key);
        self.idle.insert((since, key.clone()));
        self.since.insert(key, since);
    }

    /// A slot cannot sleep now, or does already.
    pub fn busy(&mut self, key: &SlotKey) {
        self.asked.remove(key);
        if let Some((key, since)) = self.since.remove_entry(key) {
            self.idle.remove(&(since, key));
        }
    }

    /// Whether more slots wait than are asked to sleep.
    pub fn wants_more(&self) -> bool {
        self.waiting.len() > self.asked.len()
    }

    /// Chooses who is to sleep: the longest idle whose sleep makes room, else the longest idle that may. It is asked from
    /// now on. None: nobody could.
    pub fn ask(
        &mut self,
        may: impl Fn(&SlotKey) -> bool,
        makes_room: impl Fn(&SlotKey) -> bool,
    ) -> Option<SlotKey> {
        let looked_at = || self.idle.iter().map(|(_, key)| key).take(LOOK_AT_MAX).filter(|key| may(key));
        let chosen = looked_at().find(|key| makes_room(key)).or_else(|| looked_at().next())?.clone();
        self.busy(&chosen);
        self.asked.insert(chosen.clone());
        Some(chosen)
    }

    /// The slots of an app are gone.
    pub fn forget(&mut self, app: &AppName) {
        for key in self.waiting_of(app) {
            self.leave(&key);
        }
        let from = SlotKey { app: app.clone(), slot: 0 };
        let of_app = |keys: &mut dyn Iterator<Item = &SlotKey>| {
            keys.take_while(|key| key.app == *app).cloned().collect::<Vec<_>>()
        };
        let mut known = of_app(&mut self.since.range(from.clone()..).map(|(key, _)| key));
        known.extend(of_app(&mut self.asked.range(from..)));
        known.iter().for_each(|key| self.busy(key));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(app: &str, slot: u32) -> SlotKey {
        SlotKey { app: AppName::new(app).unwrap(), slot }
    }

    #[test]
    fn who_comes_first_is_first_and_keeps_its_turn() {
        let mut queue = Queue::default();
        for slot in [key("b", 1), key("a", 0), key("b", 0), key("b", 1)] {
            queue.wait(slot);
        }
        assert_eq!(queue.first(), Some(&key("b", 1)));
        assert_eq!(queue.first_of(&key("b", 0).app), Some(&key("b", 1)));
        assert_eq!(queue.waiting_of(&key("b", 0).app), [key("b", 0), key("b", 1)]);
        assert!(queue.leave(&key("b", 1)) && !queue.leave(&key("b", 1)));
        assert_eq!(
            (queue.first(), queue.first_of(&key("b", 0).app)),
            (Some(&key("a", 0)), Some(&key("b", 0)))
        );
        queue.forget(&key("a", 0).app);
        assert_eq!(queue.first(), Some(&key("b", 0)));
    }

    #[test]
    fn the_longest_idle_that_makes_room_is_asked_and_one_that_does_not_if_there_is_no_other() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (n, app) in ["a", "b", "c"].into_iter().enumerate() {
            queue.idles(key(app, 0), now + Duration::from_secs(n as u64));
        }
        assert!(!queue.wants_more());
        (0..4).for_each(|slot| queue.wait(key("waits", slot)));
        assert_eq!(queue.ask(|_| true, |of| of.app.app() != "a"), Some(key("b", 0)));
        assert_eq!(queue.ask(|of| of.app.app() != "a", |_| false), Some(key("c", 0)));
        assert_eq!(queue.ask(|of| of.app.app() != "a", |_| true), None);
        assert_eq!(queue.ask(|_| true, |_| false), Some(key("a", 0)));
        assert!(queue.wants_more());
        // One that cannot after all is asked again only when it is idle anew.
        queue.busy(&key("b", 0));
        assert_eq!(queue.ask(|_| true, |_| true), None);
        queue.idles(key("b", 0), now);
        assert_eq!(queue.ask(|_| true, |_| true), Some(key("b", 0)));
        queue.forget(&key("b", 0).app);
        queue.leave(&key("waits", 0));
        assert!(queue.wants_more());
        queue.leave(&key("waits", 1));
        assert!(!queue.wants_more(), "two wait, and two are asked");
    }
}
