//! Values that were read or written lately, so that most questions need no other thread. What is in it is never older than
//! what somebody was told.
//!
//! Readers and the writer meet at **stripes**: every key belongs to one. While the writer changes a key, and from when a
//! reader began to look until it has looked, a value that was read may be an old one by the time that it would be kept: the
//! stripe tells, and it is not kept.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::{Equivalent, Weighter};
use tidegate_base::KeyValue;

/// Larger values are not kept: one of them would push out thousands.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// What a key costs besides its bytes, about.
const KEY_BYTES: u64 = 160;
const STRIPES: usize = 256;
/// Room is made for so many at first: most nodes have none at all.
const ITEMS: usize = 256;

/// A key of some app's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FullKey {
    pub space: u64,
    pub bucket: Arc<str>,
    pub key: Box<str>,
}

/// The same, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct KeyRef<'a> {
    pub space: u64,
    pub bucket: &'a str,
    pub key: &'a str,
}

impl FullKey {
    pub fn borrowed(&self) -> KeyRef<'_> {
        KeyRef { space: self.space, bucket: &self.bucket, key: &self.key }
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.space, self.bucket, self.key).hash(state);
    }
}

impl Hash for FullKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl Equivalent<FullKey> for KeyRef<'_> {
    fn equivalent(&self, other: &FullKey) -> bool {
        self.space == other.space && *self.bucket == *other.bucket && *self.key == *other.key
    }
}

/// What is known of a key: its value, or that it has none.
type Known = Option<KeyValue>;

#[derive(Clone)]
struct Weight;

impl Weighter<FullKey, Known> for Weight {
    fn weight(&self, key: &FullKey, known: &Known) -> u64 {
        KEY_BYTES + key.key.len() as u64 + known.as_ref().map_or(0, |value| value.bytes.len() as u64)
    }
}

#[derive(Debug, Default)]
struct Stripe {
    /// Changes that are being written.
    writing: u32,
    /// How many have been.
    written: u64,
}

/// That a reader has begun to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(Option<u64>);

pub(crate) struct Cache {
    known: quick_cache::sync::Cache<FullKey, Known, Weight>,
    stripes: Box<[Mutex<Stripe>]>,
    hash: RandomState,
}

impl Cache {
    /// Of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self {
            known: quick_cache::sync::Cache::with_weighter(ITEMS, bytes, Weight),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hash: RandomState::new(),
        }
    }

    /// What is known of a key.
    pub fn get(&self, key: KeyRef<'_>) -> Option<Known> {
        self.known.get(&key)
    }

    /// A reader is about to look at the file.
    pub fn begin_read(&self, key: KeyRef<'_>) -> Ticket {
        let stripe = self.stripe(key).lock();
        Ticket((stripe.writing == 0).then_some(stripe.written))
    }

    /// A reader has found this.
    pub fn end_read(&self, ticket: Ticket, key: FullKey, found: Known) {
        let stripe = self.stripe(key.borrowed()).lock();
        if stripe.writing == 0 && Some(stripe.written) == ticket.0 {
            self.keep(key, found);
        }
    }

    /// The writer is about to change a key. For each, an `end_write` follows.
    pub fn begin_write(&self, key: KeyRef<'_>) {
        self.stripe(key).lock().writing += 1;
    }

    /// The writer has changed a key, or not: `now` is None if that is not known.
    pub fn end_write(&self, key: FullKey, now: Option<Known>) {
        let mut stripe = self.stripe(key.borrowed()).lock();
        stripe.writing = stripe.writing.saturating_sub(1);
        stripe.written += 1;
        match now {
            Some(now) => self.keep(key, now),
            None => drop(self.known.remove(&key.borrowed())),
        }
    }

    fn keep(&self, key: FullKey, now: Known) {
        if now.as_ref().is_none_or(|value| value.bytes.len() <= VALUE_BYTES_MAX) {
            self.known.insert(key, now);
        } else {
            self.known.remove(&key.borrowed());
        }
    }

    fn stripe(&self, key: KeyRef<'_>) -> &Mutex<Stripe> {
        let at = usize::try_from(self.hash.hash_one(key)).unwrap_or(usize::MAX) % STRIPES;
        &self.stripes[at]
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::KeyVersion;

    use super::*;

    fn key(key: &str) -> FullKey {
        FullKey { space: 1, bucket: "b".into(), key: key.into() }
    }

    fn value(version: u64, bytes: usize) -> Known {
        Some(KeyValue { version: KeyVersion(version), bytes: vec![7; bytes].into() })
    }

    fn versions(cache: &Cache) -> Option<u64> {
        cache.get(key("a").borrowed()).map(|known| known.map_or(0, |value| value.version.0))
    }

    #[test]
    fn what_was_read_is_kept_unless_it_may_be_old() {
        let cache = Cache::new(1 << 20);
        let ticket = cache.begin_read(key("a").borrowed());
        cache.end_read(ticket, key("a"), None);
        assert_eq!(versions(&cache), Some(0), "that there is none is known as well");
        // A change begins and ends between the look and its end.
        let before = cache.begin_read(key("a").borrowed());
        cache.begin_write(key("a").borrowed());
        let during = cache.begin_read(key("a").borrowed());
        cache.end_read(before, key("a"), value(9, 1));
        assert_eq!(versions(&cache), Some(0));
        cache.end_write(key("a"), Some(value(2, 1)));
        cache.end_read(before, key("a"), value(9, 1));
        cache.end_read(during, key("a"), value(9, 1));
        assert_eq!(versions(&cache), Some(2));
        // What nobody knows is not kept.
        cache.begin_write(key("a").borrowed());
        cache.end_write(key("a"), None);
        assert_eq!(versions(&cache), None);
    }

    #[test]
    fn a_large_value_is_not_kept_and_takes_the_smaller_one_away() {
        let cache = Cache::new(1 << 20);
        for (bytes, kept) in [(10, true), (VALUE_BYTES_MAX + 1, false), (VALUE_BYTES_MAX, true)] {
            cache.begin_write(key("a").borrowed());
            cache.end_write(key("a"), Some(value(1, bytes)));
            assert_eq!(cache.get(key("a").borrowed()).is_some(), kept, "{bytes}");
        }
        for n in 0..100_000 {
            cache.begin_write(key("a").borrowed());
            cache.end_write(key(&n.to_string()), Some(value(1, 1000)));
        }
        assert!(cache.known.weight() <= 1 << 20);
    }

    #[test]
    fn a_borrowed_key_finds_only_itself() {
        let cache = Cache::new(1 << 20);
        cache.begin_write(key("a").borrowed());
        cache.end_write(key("a"), Some(value(1, 1)));
        for other in [
            KeyRef { space: 2, bucket: "b", key: "a" },
            KeyRef { space: 1, bucket: "c", key: "a" },
            KeyRef { space: 1, bucket: "b", key: "b" },
            KeyRef { space: 1, bucket: "ba", key: "" },
        ] {
            assert!(cache.get(other).is_none());
        }
        assert!(cache.get(KeyRef { space: 1, bucket: "b", key: "a" }).is_some());
    }
}
