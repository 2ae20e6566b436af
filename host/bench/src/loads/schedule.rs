//! When the messages of an open loop are due.

/// Message `i` is due at `i / rate` seconds after the start, on client `i % clients`.
#[derive(Debug)]
pub(crate) struct Schedule {
    clients: u64,
    rate: u64,
    began: Option<u64>,
    next: u64,
}

/// A message that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Who sends it.
    pub(crate) client: usize,
    /// Since when, in nanoseconds.
    pub(crate) at: u64,
}

impl Schedule {
    /// `rate` messages a second, which `clients` send in turn; at least one of each.
    pub(crate) fn new(clients: u32, rate: u32) -> Schedule {
        Schedule { clients: u64::from(clients.max(1)), rate: u64::from(rate.max(1)), began: None, next: 0 }
    }

    /// The first message is due now. Only the first call counts.
    pub(crate) fn start(&mut self, now: u64) {
        self.began.get_or_insert(now);
    }

    /// When the next message is due; at once before the start.
    pub(crate) fn next_due(&self) -> u64 {
        let offset = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        self.began.unwrap_or(0) + offset as u64
    }

    /// Takes the next message if it is due.
    pub(crate) fn take(&mut self, now: u64) -> Option<Due> {
        let at = self.next_due();
        if at > now {
            return None;
        }
        let client = (self.next % self.clients) as usize;
        self.next += 1;
        Some(Due { client, at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clients_take_turns_by_the_clock() {
        let mut schedule = Schedule::new(2, 1000);
        schedule.start(5_000_000);
        schedule.start(9_000_000);
        let due = |client, at| Some(Due { client, at });
        assert_eq!(schedule.take(5_500_000), due(0, 5_000_000));
        assert_eq!(schedule.take(5_500_000), None);
        assert_eq!(schedule.take(7_000_000), due(1, 6_000_000));
        assert_eq!((schedule.take(7_000_000), schedule.next_due()), (due(0, 7_000_000), 8_000_000));
    }

    proptest! {
        #[test]
        fn a_second_has_as_many_messages_as_the_rate_says(rate in 1u32..20_000, clients in 1u32..50, seconds in 1u64..4) {
            let mut schedule = Schedule::new(clients, rate);
            schedule.start(0);
            let mut count = 0u64;
            // The message due at the very end of the last second belongs to the next.
            while schedule.take(seconds * 1_000_000_000 - 1).is_some() {
                count += 1;
            }
            prop_assert_eq!(count, u64::from(rate) * seconds);
        }
    }
}
