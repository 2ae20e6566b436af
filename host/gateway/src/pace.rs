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

/// What one client has said and heard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClientPace {
    messages: RateMeter,
    bytes: RateMeter,
    out_messages: RateMeter,
    out_bytes: RateMeter,
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
        is_over(rates.client_messages.get(), &self.messages, now)
            || is_over(rates.client_bytes.get(), &self.bytes, now)
    }

    /// Counts what goes out to it. True: it was too much, and nothing more is written for now.
    pub fn charge_out(&mut self, rates: &LiveRates, messages: u64, bytes: u64, now: u64) -> bool {
        let rate = |rate: Option<Rate>, meter: &mut RateMeter, units| {
            rate.is_some_and(|rate| meter.charge(rate, units, now) > 0)
        };
        let messages = rate(rates.client_out_messages.get(), &mut self.out_messages, messages);
        let bytes = rate(rates.client_out_bytes.get(), &mut self.out_bytes, bytes);
        messages || bytes
    }

    /// Whether nothing more may go out to it still.
    pub fn is_over_out(&self, rates: &LiveRates, now: u64) -> bool {
        is_over(rates.client_out_messages.get(), &self.out_messages, now)
            || is_over(rates.client_out_bytes.get(), &self.out_bytes, now)
    }
}

fn is_over(rate: Option<Rate>, meter: &RateMeter, now: u64) -> bool {
    rate.is_some_and(|rate| meter.wait(rate, now) > 0)
}

/// What all clients of an app have said, heard and done, on all shards.
#[derive(Debug, Default)]
pub(crate) struct AppPace {
    messages: SharedMeter,
    bytes: SharedMeter,
    out_messages: SharedMeter,
    out_bytes: SharedMeter,
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

    /// Counts what goes out to any client. True: it was too much.
    pub fn charge_out(&self, rates: &LiveRates, messages: u64, bytes: u64, now: u64) -> bool {
        let messages = self.out_messages.charge(rates.out_messages.get(), messages, now);
        let bytes = self.out_bytes.charge(rates.out_bytes.get(), bytes, now);
        messages || bytes
    }

    /// Whether nothing more may go out to any of them still.
    pub fn is_over_out(&self, rates: &LiveRates, now: u64) -> bool {
        self.out_messages.is_over(rates.out_messages.get(), now)
            || self.out_bytes.is_over(rates.out_bytes.get(), now)
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
            connects: Rate::per_second(2),
            client_out_bytes: Rate::per_second(1_000),
            out_messages: Rate::per_second(20),
            ..Rates::NONE
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
    fn what_goes_out_counts_apart_from_what_comes_in() {
        let (rates, mut pace, app) = (rates(), ClientPace::default(), AppPace::default());
        assert!(pace.charge(&rates, 11, 2_000, 0) && !pace.is_over_out(&rates, 0));
        assert!(!pace.charge_out(&rates, 1 << 40, 1_000, 0) && pace.charge_out(&rates, 1, 500, 0));
        assert!(pace.is_over_out(&rates, SECOND / 2 - 1) && !pace.is_over_out(&rates, SECOND / 2));
        assert!(!app.charge_out(&rates, 20, 1 << 40, 0) && app.charge_out(&rates, 2, 0, 0));
        assert!(
            app.is_over_out(&rates, 0) && !app.is_over_out(&rates, SECOND / 10) && !app.is_over(&rates, 0)
        );
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
        let none = LiveRates::new(&Rates::NONE);
        let (mut client, app) = (ClientPace::default(), AppPace::default());
        assert!(!client.charge(&none, u64::MAX, u64::MAX, 0) && !app.charge(&none, u64::MAX, u64::MAX, 0));
        assert!(app.admits(&none, 0) && !client.is_over(&none, 0) && !app.is_over(&none, 0));
    }
}
