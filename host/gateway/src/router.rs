//! Which slot a client's events go to.

use tidegate_base::Exports;

/// Names a slot within one app of one gateway: a link to a worker and the slot's number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    /// The gateway's number of the link.
    pub link: u64,
    /// The slot's number on the worker.
    pub slot: u32,
}

/// The slots of one app, with the number of clients bound to each. Pure: randomness is an argument.
///
/// A new client gets the emptier of two random slots, among those whose lane lives on the client's own shard if there
/// are any: what stays on a shard needs no hand-over between threads. A client stays until its slot is gone.
#[derive(Debug, Default)]
pub struct Router {
    slots: Vec<Slot>,
    exports: Option<Exports>,
}

#[derive(Debug)]
struct Slot {
    key: SlotKey,
    shard: usize,
    bound: usize,
}

impl Router {
    /// A slot is up; its lane lives on `shard`. A slot that is known already keeps its clients.
    pub fn add(&mut self, key: SlotKey, shard: usize, exports: Exports) {
        self.exports = Some(exports);
        if !self.slots.iter().any(|s| s.key == key) {
            self.slots.push(Slot { key, shard, bound: 0 });
        }
    }

    /// A slot is gone.
    pub fn remove(&mut self, key: SlotKey) {
        self.slots.retain(|s| s.key != key);
    }

    /// The slots of a link that are not up any more.
    pub fn missing(&self, link: u64, is_up: impl Fn(u32) -> bool) -> Vec<SlotKey> {
        let gone = self.slots.iter().filter(|s| s.key.link == link && !is_up(s.key.slot));
        gone.map(|s| s.key).collect()
    }

    /// Binds a client of a shard to a slot.
    pub fn bind(&mut self, shard: usize, random: u64) -> Option<SlotKey> {
        let at = self.choose(|s| s.shard == shard, random).or_else(|| self.choose(|_| true, random))?;
        let slot = self.slots.get_mut(at)?;
        slot.bound += 1;
        Some(slot.key)
    }

    /// A client of a slot is gone.
    pub fn unbind(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.iter_mut().find(|s| s.key == key) {
            slot.bound = slot.bound.saturating_sub(1);
        }
    }

    /// Whether a client could be bound.
    pub fn is_up(&self) -> bool {
        !self.slots.is_empty()
    }

    /// What the plugin exports as far as a worker said last, if one ever did.
    pub fn exports(&self) -> Option<Exports> {
        self.exports
    }

    /// Each slot with its number of clients.
    pub fn load(&self) -> Vec<(SlotKey, usize)> {
        self.slots.iter().map(|s| (s.key, s.bound)).collect()
    }

    // The emptier of two random ones of those that fit; two halves of one random number pick them.
    fn choose(&self, fits: impl Fn(&Slot) -> bool, random: u64) -> Option<usize> {
        let count = self.slots.iter().filter(|s| fits(s)).count() as u64;
        if count == 0 {
            return None;
        }
        let nth = |n: u64| self.slots.iter().enumerate().filter(|(_, s)| fits(s)).nth(n as usize);
        let first = (random & 0xffff_ffff) % count;
        let second = (first + 1 + (random >> 32) % count.saturating_sub(1).max(1)) % count;
        let ((a, slot_a), (b, slot_b)) = (nth(first)?, nth(second)?);
        Some(if slot_b.bound < slot_a.bound { b } else { a })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(slot: u32) -> SlotKey {
        SlotKey { link: 1, slot }
    }

    fn router(shards: &[usize]) -> Router {
        let mut router = Router::default();
        for (slot, shard) in shards.iter().enumerate() {
            router.add(key(slot as u32), *shard, Exports::MESSAGE);
        }
        router
    }

    #[test]
    fn of_two_slots_the_emptier_is_taken() {
        let mut router = router(&[0, 0]);
        for random in 0..100u64 {
            router.bind(0, random.wrapping_mul(0x1234_5678_9abc_def1));
        }
        assert_eq!(router.load(), [(key(0), 50), (key(1), 50)]);
    }

    #[test]
    fn a_client_stays_on_its_own_shard_if_a_slot_is_there() {
        let mut router = router(&[0, 1]);
        assert_eq!(router.bind(1, 0), Some(key(1)));
        assert_eq!(router.bind(1, 0), Some(key(1)));
        router.remove(key(1));
        assert_eq!(router.bind(1, 0), Some(key(0)));
        router.remove(key(0));
        assert_eq!(router.bind(1, 0), None);
        assert!(!router.is_up());
    }

    #[test]
    fn slots_that_a_worker_does_not_list_any_more_are_missing() {
        assert_eq!(router(&[0, 0, 0]).missing(1, |slot| slot == 1), [key(0), key(2)]);
        assert_eq!(router(&[0]).missing(2, |_| false), []);
    }

    proptest! {
        #[test]
        fn load_stays_within_reason(slots in 2usize..20, randoms in proptest::collection::vec(any::<u64>(), 400)) {
            let mut router = router(&vec![0; slots]);
            for random in &randoms {
                router.bind(0, *random);
            }
            let most = router.load().iter().map(|(_, n)| *n).max().unwrap();
            prop_assert!(most <= randoms.len() / slots + 12, "{:?}", router.load());
        }
    }
}
