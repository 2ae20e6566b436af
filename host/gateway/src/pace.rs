//! How fast clients speak, measured against what they may.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_base::{Rate, RateMeter};

use crate::limits::LiveRates;

/// The gateway's clock for rates: nanoseconds since it started, the same on all shards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn at(self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What one client has said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClientPace {
    messages: RateMeter,
    bytes: RateMeter,
}

impl ClientPace {
    /// Counts what a read brought. True: it was too much, and nothing more is read for now.
    #[inline]
    pub fn charge(&mut self, rates: &LiveRates, messages: u64, bytes: u64, now: u64) -> bool {
        let messages =
            rates.client_messages.get().map_or(0, |rate| self.messages.charge(rate, messages, now));
        let bytes = rates.client_bytes.get().map_or(0, |rate| self.bytes.charge(rate, bytes, now));
        messages > 0 || bytes > 0
    }

    /// Whether it has to be silent still.
    pub fn is_over(&self, rates: &LiveRates, now: u64) -> bool {
        let over = |rate: Option<Rate>, meter: &RateMeter| rate.is_some_and(|rate| meter.wait(rate, now) > 0);
        over(rates.client_messages.get(), &self.messages) || over(rates.client_bytes.get(), &self.bytes)
    }
}

/// What all clients of an app have said and done, on all shards.
#[derive(Debug, Default)]
pub(crate) struct AppPace {
    messages: SharedMeter,
    bytes: SharedMeter,
    connects: SharedMeter,
}

impl AppPace {
    /// Counts what a read of any client brought. True: it was too much.
    #[inline]
    pub fn charge(&self, rates: &LiveRates, messages: u64, bytes: u64, now: u64) -> bool {
        let messages = self.messages.charge(rates.messages.get(), messages, now);
        let bytes = self.bytes.charge(rates.bytes.get(), bytes, now);
        messages || bytes
    }

    /// Whether all must be silent still.
    pub fn is_over(&self, rates: &LiveRates, now: u64) -> bool {
        self.messages.is_over(rates.messages.get(), now) || self.bytes.is_over(rates.bytes.get(), now)
    }

    /// Whether a connection may be taken.
    pub fn admits(&self, rates: &LiveRates, now: u64) -> bool {
        !self.connects.is_over(rates.connects.get(), now)
    }

    /// Counts a connection that was taken.
    pub fn admitted(&self, rates: &LiveRates, now: u64) {
        self.connects.charge(rates.connects.get(), 1, now);
    }
}

/// A meter that several threads charge. Without a rate it is never touched.
#[derive(Debug, Default)]
struct SharedMeter(AtomicU64);

impl SharedMeter {
    fn charge(&self, rate: Option<Rate>, units: u64, now: u64) -> bool {
        let Some(rate) = rate else { return false };
        let mut wait = 0;
        let charge = |due| {
            let mut meter = RateMeter::due_at(due);
            wait = meter.charge(rate, units, now);
            Some(meter.due())
        };
        // The closure always has a value, so this never fails.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
        wait > 0
    }

    fn is_over(&self, rate: Option<Rate>, now: u64) -> bool {
        rate.is_some_and(|rate| RateMeter::due_at(self.0.load(Ordering::Relaxed)).wait(rate, now) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Rates;

    const SECOND: u64 = 1_000_000_000;

    fn rates() -> LiveRates {
        LiveRates::new(&Rates {
            client_messages: Rate::per_second(10),
            client_bytes: Rate::per_second(1_000),
            messages: Rate::per_second(20),
            bytes: None,
            connects: Rate::per_second(2),
        })
    }

    #[test]
    fn a_client_that_says_too_much_is_silent_until_it_is_made_up_for() {
        let (rates, mut pace) = (rates(), ClientPace::default());
        assert!(!pace.charge(&rates, 10, 100, 0));
        assert!(pace.charge(&rates, 1, 10, 0), "the eleventh at once");
        assert!(pace.is_over(&rates, SECOND / 20) && !pace.is_over(&rates, SECOND / 10));
        let mut loud = ClientPace::default();
        assert!(loud.charge(&rates, 1, 3_000, 0), "a second's worth comes at once, two more are owed");
        assert!(loud.is_over(&rates, 2 * SECOND - 1) && !loud.is_over(&rates, 2 * SECOND));
    }

    #[test]
    fn what_all_clients_say_counts_together_on_every_shard() {
        let (rates, pace) = (rates(), AppPace::default());
        assert!(!pace.charge(&rates, 15, 1 << 40, 0), "bytes have no limit here");
        assert!(pace.charge(&rates, 6, 0, 0) && pace.is_over(&rates, 0));
        assert!(!pace.is_over(&rates, SECOND / 20));
    }

    #[test]
    fn connections_are_taken_at_the_rate() {
        let (rates, pace) = (rates(), AppPace::default());
        let take = |now| pace.admits(&rates, now).then(|| pace.admitted(&rates, now)).is_some();
        assert_eq!((0..100).filter(|_| take(0)).count(), 3, "a second's worth, and the one that finds out");
        assert!(!take(SECOND / 2 - 1) && take(SECOND / 2) && !take(SECOND / 2));
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let none =
            Rates { client_messages: None, client_bytes: None, messages: None, bytes: None, connects: None };
        let none = LiveRates::new(&none);
        let (mut client, app) = (ClientPace::default(), AppPace::default());
        assert!(!client.charge(&none, u64::MAX, u64::MAX, 0) && !app.charge(&none, u64::MAX, u64::MAX, 0));
        assert!(app.admits(&none, 0) && !client.is_over(&none, 0) && !app.is_over(&none, 0));
    }
}
