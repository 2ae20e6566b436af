//! Keeping a link to a node that may be away: the one place where links are retried.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_base::Role;

use crate::endpoint::Endpoint;
use crate::error::LinkError;
use crate::link::Link;

/// Dials one node for as long as it takes, each time a link is wanted.
#[derive(Debug)]
pub struct Redial {
    endpoint: Endpoint,
    addr: SocketAddr,
    role: Role,
    backoff: Backoff,
    linked_at: Option<Instant>,
    /// When the next try is due, kept here so that giving up a wait does not shorten the pause.
    due: Option<Instant>,
    /// What was logged last: the same failure is not logged at every try.
    complaint: Option<LinkError>,
}

impl Redial {
    /// For the node at an address, which must have the role.
    pub fn new(endpoint: Endpoint, addr: SocketAddr, role: Role) -> Self {
        let seed = RandomState::new().hash_one(addr);
        Self {
            endpoint,
            addr,
            role,
            backoff: Backoff::new(seed),
            linked_at: None,
            due: None,
            complaint: None,
        }
    }

    /// The node's address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next link: dials at once at first, and then with growing pauses for ever. Called again after a link that
    /// did not last, it pauses first. Cancel-safe.
    pub async fn connected(&mut self) -> Link {
        if let Some(linked_at) = self.linked_at.take() {
            self.due = self.backoff.ended(linked_at.elapsed()).map(|pause| Instant::now() + pause);
        }
        loop {
            if let Some(due) = self.due {
                tokio::time::sleep_until(due.into()).await;
                self.due = None;
            }
            match self.endpoint.connect(self.addr, self.role).await {
                Ok(link) => {
                    if self.complaint.take().is_some() {
                        tracing::info!("linked to {} again", link.peer());
                    }
                    self.linked_at = Some(Instant::now());
                    return link;
                }
                Err(error) => self.complain(error),
            }
            self.due = Some(Instant::now() + self.backoff.failed());
        }
    }

    fn complain(&mut self, error: LinkError) {
        let (addr, role) = (self.addr, self.role);
        if self.complaint.as_ref() == Some(&error) {
            tracing::debug!(%addr, %role, "still no link: {error}");
        } else {
            tracing::warn!(%addr, %role, "no link, retrying: {error}");
            self.complaint = Some(error);
        }
    }
}

/// How long to pause between tries: from 100 ms, doubling to 5 s, each shortened by up to a half at random so that the
/// nodes of a cluster do not dial in step. Pure: time comes in, pauses come out.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// The first step.
    pub const SHORTEST: Duration = Duration::from_millis(100);
    /// The longest step, and the shortest life of a link that counts as one that lasted.
    pub const LONGEST: Duration = Duration::from_secs(5);

    /// Starts without a failure. Equal seeds give equal pauses.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed }
    }

    /// A try failed: pause so long before the next, at least half of the step and at most the step.
    pub fn failed(&mut self) -> Duration {
        let step = Self::SHORTEST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = step / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.next_random() % (micros + 1))
    }

    /// A link ended after so long. If it lasted for [`LONGEST`](Self::LONGEST), failures are forgotten and the next try
    /// is due at once; a shorter one counts as a failure.
    pub fn ended(&mut self, lived: Duration) -> Option<Duration> {
        if lived >= Self::LONGEST {
            self.failures = 0;
            None
        } else {
            Some(self.failed())
        }
    }

    /// SplitMix64: small, and good enough to keep nodes apart.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(failures: u32) -> Duration {
        Backoff::SHORTEST.saturating_mul(2_u32.saturating_pow(failures)).min(Backoff::LONGEST)
    }

    proptest! {
        #[test]
        fn pauses_grow_to_the_limit_and_keep_to_the_upper_half_of_their_step(seed: u64, tries in 1_u32..200) {
            let mut backoff = Backoff::new(seed);
            for failures in 0..tries {
                let pause = backoff.failed();
                prop_assert!(pause <= step(failures) && pause >= step(failures) / 2, "{failures}: {pause:?}");
            }
        }

        #[test]
        fn only_a_link_that_lasted_is_followed_by_a_dial_at_once(seed: u64, failures in 0_u32..50, lived in 0_u64..20_000) {
            let mut backoff = Backoff::new(seed);
            for _ in 0..failures {
                backoff.failed();
            }
            let lived = Duration::from_millis(lived);
            match backoff.ended(lived) {
                None => {
                    prop_assert!(lived >= Backoff::LONGEST);
                    prop_assert!(backoff.failed() <= Backoff::SHORTEST);
                }
                Some(pause) => {
                    prop_assert!(lived < Backoff::LONGEST);
                    prop_assert!(pause >= step(failures) / 2);
                }
            }
        }

        #[test]
        fn equal_seeds_pause_equally_and_others_do_not(seed: u64) {
            let pauses = |seed| {
                let mut backoff = Backoff::new(seed);
                (0..10).map(|_| backoff.failed()).collect::<Vec<_>>()
            };
            prop_assert_eq!(pauses(seed), pauses(seed));
            prop_assert_ne!(pauses(seed), pauses(seed.wrapping_add(1)));
        }
    }
}
