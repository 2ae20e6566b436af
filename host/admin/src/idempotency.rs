//! Requests that are sent again because their answer was lost: the same key gives the same answer and does nothing twice.
//! Pure.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tidegate_base::Digest;

/// What answers are kept, under which keys.
///
/// Calling contract: [`begin`](Self::begin); whoever hears [`Seen::New`] does the work and then calls
/// [`done`](Self::done), or [`forget`](Self::forget) if nothing was done.
#[derive(Debug)]
pub(crate) struct Kept<K> {
    entries: FxHashMap<K, Entry>,
    /// The oldest first. An entry that was forgotten and begun anew stands here twice.
    order: VecDeque<(K, Instant)>,
    bytes: usize,
    limits: Limits,
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub entries_max: usize,
    pub bytes_max: usize,
    pub keep: Duration,
}

#[derive(Debug)]
struct Entry {
    request: Digest,
    at: Instant,
    /// None: it is being done.
    answer: Option<Answer>,
}

/// A status and a body.
pub(crate) type Answer = (u16, Arc<[u8]>);

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing: it stands for this request now.
    New,
    /// It stands for this request, which was answered so.
    Done(Answer),
    /// It stands for this request, which is being done.
    Doing,
    /// It stands for another request.
    Other,
}

impl<K: Clone + Eq + Hash> Kept<K> {
    pub fn new(limits: Limits) -> Self {
        Self { entries: FxHashMap::default(), order: VecDeque::new(), bytes: 0, limits }
    }

    /// A request with this key comes.
    pub fn begin(&mut self, key: &K, request: Digest, now: Instant) -> Seen {
        self.expire(now);
        match self.entries.get(key) {
            Some(entry) if entry.request != request => Seen::Other,
            Some(Entry { answer: Some(answer), .. }) => Seen::Done(answer.clone()),
            Some(_) => Seen::Doing,
            None => {
                self.entries.insert(key.clone(), Entry { request, at: now, answer: None });
                self.order.push_back((key.clone(), now));
                self.shrink();
                Seen::New
            }
        }
    }

    /// The request with this key was answered so.
    pub fn done(&mut self, key: &K, status: u16, body: Arc<[u8]>) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.answer.is_none()
        {
            self.bytes += body.len();
            entry.answer = Some((status, body));
            self.shrink();
        }
    }

    /// Nothing was done: the key is free again.
    pub fn forget(&mut self, key: &K) {
        self.remove(key);
    }

    fn expire(&mut self, now: Instant) {
        while let Some((key, at)) = self.order.front() {
            if now.saturating_duration_since(*at) < self.limits.keep {
                return;
            }
            let (key, at) = (key.clone(), *at);
            self.order.pop_front();
            self.remove_if(&key, at);
        }
    }

    /// The oldest go first.
    fn shrink(&mut self) {
        while self.order.len() > self.limits.entries_max || self.bytes > self.limits.bytes_max {
            let Some((key, at)) = self.order.pop_front() else { return };
            self.remove_if(&key, at);
        }
    }

    fn remove_if(&mut self, key: &K, at: Instant) {
        if self.entries.get(key).is_some_and(|entry| entry.at == at) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some((_, body)) = self.entries.remove(key).and_then(|entry| entry.answer) {
            self.bytes -= body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(entries_max: usize, bytes_max: usize) -> Kept<u8> {
        Kept::new(Limits { entries_max, bytes_max, keep: Duration::from_secs(10) })
    }

    fn request(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn body(bytes: usize) -> Arc<[u8]> {
        vec![0; bytes].into()
    }

    #[test]
    fn a_key_stands_for_one_request_until_its_time_is_over() {
        let (mut kept, now) = (kept(10, 100), Instant::now());
        assert_eq!(kept.begin(&1, request(1), now), Seen::New);
        assert_eq!(kept.begin(&1, request(1), now), Seen::Doing);
        kept.done(&1, 200, body(3));
        assert_eq!(kept.begin(&1, request(1), now), Seen::Done((200, body(3))));
        assert_eq!(kept.begin(&1, request(2), now), Seen::Other);
        assert_eq!(kept.begin(&2, request(1), now), Seen::New);
        kept.forget(&2);
        assert_eq!(kept.begin(&2, request(9), now), Seen::New);
        let later = now + Duration::from_secs(10);
        assert_eq!(kept.begin(&1, request(2), later), Seen::New);
    }

    proptest! {
        #[test]
        fn it_holds_no_more_than_it_may_and_never_gives_a_request_the_answer_of_another(
            steps in prop::collection::vec((0..5_u8, 0..6_u8, 0..3_u8, 0..40_usize), 0..200),
        ) {
            let (mut kept, mut now) = (kept(4, 60), Instant::now());
            for (step, key, of, size) in steps {
                match step {
                    0 | 1 => {
                        if let Seen::Done((status, _)) = kept.begin(&key, request(of), now) {
                            prop_assert_eq!(status, u16::from(of));
                        }
                    }
                    2 => {
                        let known = kept.entries.get(&key).map(|entry| entry.request);
                        if let Some(of) = (0..3).find(|of| known == Some(request(*of))) {
                            kept.done(&key, of.into(), body(size));
                        }
                    }
                    3 => kept.forget(&key),
                    _ => now += Duration::from_secs(size as u64),
                }
                let bytes: usize = kept.entries.values().filter_map(|e| e.answer.as_ref()).map(|(_, b)| b.len()).sum();
                prop_assert_eq!(bytes, kept.bytes);
                prop_assert!(kept.entries.len() <= 4 && kept.order.len() <= 4 && kept.bytes <= 60);
                for (key, entry) in &kept.entries {
                    prop_assert!(kept.order.contains(&(*key, entry.at)));
                }
            }
        }
    }
}
