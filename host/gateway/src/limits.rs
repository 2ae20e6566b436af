//! An app's limits while it runs: they may be changed at any time, and are read with every message, so each is an atomic
//! number of its own. A reader may see some of them before a change and some after it, which harms nobody.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use tidegate_base::Rate;

use crate::settings::{AppLimits, Rates, SlowPolicy};

/// The limits that shards look at. Those of the hub are the hub's.
#[derive(Debug)]
pub(crate) struct LiveLimits {
    connections_max: AtomicUsize,
    payload_bytes_max: AtomicUsize,
    out_bytes_max: AtomicUsize,
    client_events_max: AtomicU32,
    slow_policy: AtomicU8,
    pub rates: LiveRates,
}

/// See [`Rates`].
#[derive(Debug)]
pub(crate) struct LiveRates {
    pub client_messages: LiveRate,
    pub client_bytes: LiveRate,
    pub messages: LiveRate,
    pub bytes: LiveRate,
    pub connects: LiveRate,
    pub client_out_messages: LiveRate,
    pub client_out_bytes: LiveRate,
    pub out_messages: LiveRate,
    pub out_bytes: LiveRate,
    /// There is one of those to clients.
    limit_out: AtomicBool,
}

/// So much of a queue, or as little more as makes the last message whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portion {
    pub messages: usize,
    pub bytes: usize,
}

impl Portion {
    /// Everything.
    pub const ALL: Self = Self { messages: usize::MAX, bytes: usize::MAX };
}

/// What was held back goes out in so many portions a second, about.
const PORTIONS_PER_S: u64 = 50;

/// A rate, or none.
#[derive(Debug)]
pub(crate) struct LiveRate {
    /// 0: none.
    units: AtomicU64,
    burst_seconds: AtomicU32,
}

impl LiveLimits {
    pub fn new(limits: &AppLimits) -> Self {
        Self {
            connections_max: AtomicUsize::new(limits.connections_max),
            payload_bytes_max: AtomicUsize::new(limits.payload_bytes_max),
            out_bytes_max: AtomicUsize::new(limits.out_bytes_max),
            client_events_max: AtomicU32::new(limits.client_events_max),
            slow_policy: AtomicU8::new(number(limits.slow_policy)),
            rates: LiveRates::new(&limits.rates),
        }
    }

    pub fn set(&self, limits: &AppLimits) {
        self.connections_max.store(limits.connections_max, Ordering::Relaxed);
        self.payload_bytes_max.store(limits.payload_bytes_max, Ordering::Relaxed);
        self.out_bytes_max.store(limits.out_bytes_max, Ordering::Relaxed);
        self.client_events_max.store(limits.client_events_max, Ordering::Relaxed);
        self.slow_policy.store(number(limits.slow_policy), Ordering::Relaxed);
        self.rates.set(&limits.rates);
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.load(Ordering::Relaxed)
    }

    pub fn out_bytes_max(&self) -> usize {
        self.out_bytes_max.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn client_events_max(&self) -> u32 {
        self.client_events_max.load(Ordering::Relaxed)
    }

    pub fn slow_policy(&self) -> SlowPolicy {
        match self.slow_policy.load(Ordering::Relaxed) {
            0 => SlowPolicy::Disconnect,
            1 => SlowPolicy::DropNewest,
            _ => SlowPolicy::DropOldest,
        }
    }
}

impl LiveRates {
    pub fn new(rates: &Rates) -> Self {
        Self {
            client_messages: LiveRate::new(rates.client_messages),
            client_bytes: LiveRate::new(rates.client_bytes),
            messages: LiveRate::new(rates.messages),
            bytes: LiveRate::new(rates.bytes),
            connects: LiveRate::new(rates.connects),
            client_out_messages: LiveRate::new(rates.client_out_messages),
            client_out_bytes: LiveRate::new(rates.client_out_bytes),
            out_messages: LiveRate::new(rates.out_messages),
            out_bytes: LiveRate::new(rates.out_bytes),
            limit_out: AtomicBool::new(limits_out(rates)),
        }
    }

    /// Whether any rate to clients is set: one load for each message when none is.
    #[inline]
    pub fn limit_out(&self) -> bool {
        self.limit_out.load(Ordering::Relaxed)
    }

    /// How much of what was held back may go out to a client before it is looked at again: what comes in some milliseconds at
    /// the rates, and one message at least.
    pub fn portion(&self) -> Portion {
        let of = |rates: [&LiveRate; 2]| {
            let rates = rates.into_iter().filter_map(LiveRate::get);
            let least = rates.map(|rate| rate.units() / PORTIONS_PER_S).min();
            least.map_or(usize::MAX, |units| usize::try_from(units.max(1)).unwrap_or(usize::MAX))
        };
        Portion {
            messages: of([&self.client_out_messages, &self.out_messages]),
            bytes: of([&self.client_out_bytes, &self.out_bytes]),
        }
    }

    fn set(&self, rates: &Rates) {
        self.client_messages.set(rates.client_messages);
        self.client_bytes.set(rates.client_bytes);
        self.messages.set(rates.messages);
        self.bytes.set(rates.bytes);
        self.connects.set(rates.connects);
        self.client_out_messages.set(rates.client_out_messages);
        self.client_out_bytes.set(rates.client_out_bytes);
        self.out_messages.set(rates.out_messages);
        self.out_bytes.set(rates.out_bytes);
        self.limit_out.store(limits_out(rates), Ordering::Relaxed);
    }
}

impl LiveRate {
    fn new(rate: Option<Rate>) -> Self {
        let (units, burst_seconds) = parts(rate);
        Self { units: AtomicU64::new(units), burst_seconds: AtomicU32::new(burst_seconds) }
    }

    fn set(&self, rate: Option<Rate>) {
        let (units, burst_seconds) = parts(rate);
        self.units.store(units, Ordering::Relaxed);
        self.burst_seconds.store(burst_seconds, Ordering::Relaxed);
    }

    #[inline]
    pub fn get(&self) -> Option<Rate> {
        let rate = Rate::per_second(self.units.load(Ordering::Relaxed))?;
        Some(rate.with_burst(self.burst_seconds.load(Ordering::Relaxed)))
    }
}

fn limits_out(rates: &Rates) -> bool {
    let all = [rates.client_out_messages, rates.client_out_bytes, rates.out_messages, rates.out_bytes];
    all.iter().any(Option::is_some)
}

fn parts(rate: Option<Rate>) -> (u64, u32) {
    rate.map_or((0, 0), |rate| (rate.units(), rate.burst_seconds()))
}

fn number(policy: SlowPolicy) -> u8 {
    match policy {
        SlowPolicy::Disconnect => 0,
        SlowPolicy::DropNewest => 1,
        SlowPolicy::DropOldest => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_is_read() {
        let live = LiveLimits::new(&AppLimits::default());
        for (policy, events) in
            [(SlowPolicy::DropNewest, 1), (SlowPolicy::DropOldest, 2), (SlowPolicy::Disconnect, 3)]
        {
            let rates = Rates {
                client_messages: Rate::per_second(5).map(|rate| rate.with_burst(7)),
                bytes: Rate::per_second(u64::MAX),
                connects: None,
                ..Rates::default()
            };
            let limits =
                AppLimits { slow_policy: policy, client_events_max: events, rates, ..AppLimits::default() };
            live.set(&limits);
            assert_eq!((live.slow_policy(), live.client_events_max()), (policy, events));
            let read = &live.rates;
            assert_eq!(read.client_messages.get(), rates.client_messages);
            assert_eq!((read.bytes.get(), read.connects.get()), (rates.bytes, None));
            assert_eq!(read.client_bytes.get(), rates.client_bytes);
            assert!(!read.limit_out());
            live.set(&AppLimits { rates: Rates { out_messages: Rate::per_second(1), ..rates }, ..limits });
            assert!(read.limit_out() && read.out_messages.get() == Rate::per_second(1));
            assert_eq!(read.portion(), Portion { messages: 1, bytes: usize::MAX });
        }
    }
}
