//! The gateways' counts, before and after.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::AppName;
use tidegate_wire::control::AppClients;
use tidegate_wire::directory::Session;
use tidegate_wire::report::ClientCounts;

/// How long a deployment waits for gateways to count. Counting is quick; one that hangs must not hold up a deployment.
pub(super) const CENSUS_MAX: Duration = Duration::from_secs(2);

/// Two counts of one app's clients on all gateways. A gateway that restarts between them has another session, so that
/// its new numbers are never held against its old ones.
#[derive(Debug)]
pub(super) struct Census {
    app: AppName,
    before: Count,
    after: Option<Count>,
}

#[derive(Debug)]
struct Count {
    number: u64,
    until: Duration,
    counted: BTreeMap<Session, AppClients>,
}

impl Census {
    /// The first count was asked for.
    pub fn new(app: AppName, number: u64, now: Duration) -> Self {
        Self { app, before: Count::new(number, now), after: None }
    }

    /// The second count was asked for.
    pub fn again(&mut self, number: u64, now: Duration) {
        self.after = Some(Count::new(number, now));
    }

    /// A gateway has counted. An app that it does not name has no clients there.
    pub fn counted(&mut self, gateway: Session, number: u64, apps: &[AppClients]) {
        let app = &self.app;
        let none = || AppClients { app: app.clone(), clients: 0, opened: 0, closed: 0, events: 0, lost: 0 };
        let counts = [Some(&mut self.before), self.after.as_mut()].into_iter().flatten();
        for count in counts.filter(|count| count.number == number) {
            let found = apps.iter().find(|of| of.app == *app).cloned();
            count.counted.insert(gateway, found.unwrap_or_else(none));
        }
    }

    /// Whether everybody who is there has counted, or there was time enough.
    pub fn is_ready(&self, gateways: &[Session], now: Duration) -> bool {
        let count = self.after.as_ref().unwrap_or(&self.before);
        now >= count.until || gateways.iter().all(|gateway| count.counted.contains_key(gateway))
    }

    /// When waiting ends.
    pub fn until(&self) -> Duration {
        self.after.as_ref().unwrap_or(&self.before).until
    }

    /// Whether there were clients at the beginning, as far as is known.
    pub fn had_clients(&self) -> bool {
        self.before.counted.values().any(|count| count.clients > 0)
    }

    /// The sums. None: no gateway counted twice.
    pub fn sums(&self) -> Option<ClientCounts> {
        let after = self.after.as_ref()?;
        let mut sums = ClientCounts::default();
        let mut sessions: Vec<_> = self.before.counted.keys().chain(after.counted.keys()).collect();
        sessions.sort_unstable();
        sessions.dedup();
        for session in sessions {
            let (Some(b), Some(a)) = (self.before.counted.get(session), after.counted.get(session)) else {
                sums.gateways_missing += 1;
                continue;
            };
            sums.gateways += 1;
            sums.before = sums.before.saturating_add(b.clients);
            sums.after = sums.after.saturating_add(a.clients);
            sums.opened = sums.opened.saturating_add(a.opened.saturating_sub(b.opened));
            sums.closed = sums.closed.saturating_add(a.closed.saturating_sub(b.closed));
            sums.events = sums.events.saturating_add(a.events.saturating_sub(b.events));
            sums.lost = sums.lost.saturating_add(a.lost.saturating_sub(b.lost));
        }
        (sums.gateways > 0).then_some(sums)
    }
}

impl Count {
    fn new(number: u64, now: Duration) -> Self {
        Self { number, until: now + CENSUS_MAX, counted: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn clients(clients: u64, opened: u64, closed: u64, events: u64) -> Vec<AppClients> {
        vec![AppClients { app: AppName::new("chat").unwrap(), clients, opened, closed, events, lost: 0 }]
    }

    #[test]
    fn what_gateways_counted_twice_is_summed_and_the_others_are_said_to_be_missing() {
        let mut census = Census::new(AppName::new("chat").unwrap(), 1, NOW);
        census.counted(10, 1, &clients(5, 9, 4, 100));
        census.counted(11, 1, &[]);
        census.counted(12, 1, &clients(7, 7, 0, 1));
        assert!(census.had_clients() && census.sums().is_none());
        census.again(2, NOW);
        census.counted(10, 2, &clients(4, 10, 6, 160));
        census.counted(11, 2, &clients(1, 1, 0, 3));
        census.counted(13, 2, &clients(9, 9, 9, 9));
        let sums = census.sums().unwrap();
        assert_eq!((sums.gateways, sums.gateways_missing), (2, 2));
        assert_eq!((sums.before, sums.after, sums.opened, sums.closed, sums.events), (5, 5, 2, 2, 63));
    }

    #[test]
    fn a_count_is_complete_when_all_gateways_answered_or_time_is_over() {
        let mut census = Census::new(AppName::new("chat").unwrap(), 1, NOW);
        assert!(census.is_ready(&[], NOW));
        assert!(!census.is_ready(&[1, 2], NOW));
        census.counted(1, 1, &[]);
        census.counted(2, 9, &[]);
        assert!(!census.is_ready(&[1, 2], NOW) && census.is_ready(&[1], NOW));
        assert!(census.is_ready(&[1, 2], census.until()));
    }
}
