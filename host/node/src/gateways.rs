//! What a worker knows of the cluster's gateways: which to dial, and which are lost for good. Pure: what the directory
//! says, what links do and the time come in; addresses and losses come out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_base::GatewayId;

/// A gateway without a link that a living register does not list for so long is lost.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(15);
/// The same if no register lives, so that nobody says whether it is listed.
pub(crate) const LOST_UNHEARD_AFTER: Duration = Duration::from_secs(120);

/// Gateways by address. Calls: [`list`](Self::list) for each new directory, [`link_up`](Self::link_up) and
/// [`link_down`](Self::link_down) for each link, [`poll`](Self::poll) at [`timeout`](Self::timeout).
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    at: BTreeMap<SocketAddr, Gateway>,
    /// Those whose address another one has taken, with the time since when.
    replaced: Vec<(GatewayId, Instant)>,
    register_lives: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Gateway {
    id: GatewayId,
    listed: bool,
    links: u32,
    /// It said that it stops: none of its clients is left, so it cannot be lost.
    stopped: bool,
    /// Since when it has been without a link, and not listed by a living register (or with none living).
    missing_since: Option<Instant>,
}

impl Gateways {
    /// The directory as it is now. Without a living register `listed` is what was last heard.
    pub fn list(&mut self, now: Instant, register_lives: bool, listed: &[(SocketAddr, GatewayId)]) {
        self.register_lives = register_lives;
        for gateway in self.at.values_mut() {
            gateway.listed = false;
        }
        for (address, id) in listed {
            let fresh = Gateway { id: *id, listed: true, links: 0, stopped: false, missing_since: None };
            let gateway = self.at.entry(*address).or_insert(fresh);
            gateway.listed = true;
            if gateway.id != *id {
                // A new process has the address: links that are up are to it, or to nobody.
                if !std::mem::take(&mut gateway.stopped) {
                    self.replaced.push((gateway.id, now));
                }
                gateway.id = *id;
            }
        }
        // A gateway that came back under its own id is not lost.
        let back = |id: GatewayId| listed.iter().any(|(_, listed)| *listed == id);
        self.replaced.retain(|(id, _)| !back(*id));
        self.note_missing(now);
    }

    /// A link to the gateway at this address is up.
    pub fn link_up(&mut self, address: SocketAddr) {
        if let Some(gateway) = self.at.get_mut(&address) {
            gateway.links += 1;
            gateway.stopped = false;
            gateway.missing_since = None;
        }
    }

    /// The gateway at this address said that it has stopped in good order.
    pub fn stopped(&mut self, address: SocketAddr) {
        if let Some(gateway) = self.at.get_mut(&address) {
            gateway.stopped = true;
        }
    }

    /// A link to it ended.
    pub fn link_down(&mut self, now: Instant, address: SocketAddr) {
        if let Some(gateway) = self.at.get_mut(&address) {
            gateway.links = gateway.links.saturating_sub(1);
        }
        self.note_missing(now);
    }

    /// Whether to dial this address: it is listed. A link to one that is not listed any more is kept, not renewed.
    pub fn is_wanted(&self, address: SocketAddr) -> bool {
        self.at.get(&address).is_some_and(|gateway| gateway.listed)
    }

    /// The addresses to dial.
    pub fn wanted(&self) -> Vec<SocketAddr> {
        self.at.iter().filter(|(_, gateway)| gateway.listed).map(|(address, _)| *address).collect()
    }

    /// Whether every listed gateway has at least so many links.
    pub fn all_linked(&self, links: u32) -> bool {
        self.at.values().all(|gateway| !gateway.listed || gateway.links >= links)
    }

    /// The gateways that are lost by now; each is told once.
    pub fn poll(&mut self, now: Instant) -> Vec<GatewayId> {
        let wait = self.patience();
        let is_due = |since: Instant| now.saturating_duration_since(since) >= wait;
        let mut lost = Vec::new();
        self.replaced.retain(|(id, since)| {
            let due = is_due(*since);
            lost.extend(due.then_some(*id));
            !due
        });
        self.at.retain(|_, gateway| {
            let due = gateway.missing_since.is_some_and(is_due);
            lost.extend((due && !gateway.stopped).then_some(gateway.id));
            !due
        });
        lost
    }

    /// When to poll next.
    pub fn timeout(&self) -> Option<Instant> {
        let replaced = self.replaced.iter().map(|(_, since)| *since);
        let missing = self.at.values().filter_map(|gateway| gateway.missing_since);
        replaced.chain(missing).min().map(|since| since + self.patience())
    }

    fn patience(&self) -> Duration {
        if self.register_lives { LOST_AFTER } else { LOST_UNHEARD_AFTER }
    }

    fn note_missing(&mut self, now: Instant) {
        for gateway in self.at.values_mut() {
            let is_missing = gateway.links == 0 && !(gateway.listed && self.register_lives);
            gateway.missing_since = is_missing.then(|| gateway.missing_since.unwrap_or(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], n))
    }

    fn id(n: u16) -> GatewayId {
        GatewayId::new(u64::from(n))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_listed_is_dialed_and_what_is_not_is_kept_while_it_is_linked() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.list(now, true, &[(at(1), id(1)), (at(2), id(2))]);
        assert_eq!(gateways.wanted(), [at(1), at(2)]);
        assert!(!gateways.all_linked(1));
        gateways.link_up(at(1));
        gateways.list(now, true, &[]);
        assert!(!gateways.is_wanted(at(1)));
        assert_eq!(gateways.poll(now + LOST_AFTER), [id(2)]);
        gateways.link_down(now + LOST_AFTER, at(1));
        assert_eq!(gateways.timeout(), Some(now + 2 * LOST_AFTER));
        assert_eq!(gateways.poll(now + 2 * LOST_AFTER), [id(1)]);
        assert_eq!((gateways.poll(now + 10 * LOST_AFTER), gateways.timeout()), (Vec::new(), None));
    }

    #[test]
    fn a_listed_gateway_is_not_lost_however_long_its_link_is_down() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.list(now, true, &[(at(1), id(1))]);
        gateways.link_up(at(1));
        gateways.link_down(now, at(1));
        assert_eq!(gateways.timeout(), None);
        assert!(gateways.poll(now + 100 * LOST_AFTER).is_empty());
    }

    #[test]
    fn without_a_living_register_it_takes_longer() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.list(now, true, &[(at(1), id(1))]);
        gateways.link_up(at(1));
        gateways.list(now, false, &[(at(1), id(1))]);
        gateways.link_down(now, at(1));
        assert!(gateways.is_wanted(at(1)), "it is dialed all the same");
        assert!(gateways.poll(now + LOST_AFTER).is_empty());
        assert_eq!(gateways.poll(now + LOST_UNHEARD_AFTER), [id(1)]);
    }

    #[test]
    fn who_comes_back_in_time_is_not_lost() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.list(now, true, &[(at(1), id(1))]);
        gateways.list(now, true, &[]);
        gateways.list(now + SECOND, true, &[(at(1), id(1))]);
        assert!(gateways.poll(now + 10 * LOST_AFTER).is_empty());
        gateways.list(now, true, &[]);
        gateways.link_up(at(1));
        assert!(gateways.poll(now + 10 * LOST_AFTER).is_empty());
    }

    #[test]
    fn a_new_gateway_at_an_old_address_replaces_the_old_one() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.list(now, true, &[(at(1), id(1))]);
        gateways.link_up(at(1));
        gateways.list(now + SECOND, true, &[(at(1), id(2))]);
        assert_eq!(gateways.poll(now + SECOND + LOST_AFTER), [id(1)]);
        assert!(gateways.is_wanted(at(1)));
    }

    #[test]
    fn one_that_stopped_in_good_order_is_not_lost() {
        let (mut gateways, now) = (Gateways::default(), Instant::now());
        gateways.list(now, true, &[(at(1), id(1)), (at(2), id(2))]);
        for port in [1, 2] {
            gateways.link_up(at(port));
            gateways.stopped(at(port));
            gateways.link_down(now, at(port));
        }
        // One stays away, the other runs again as a new one.
        gateways.list(now, true, &[(at(2), id(3))]);
        assert!(gateways.poll(now + 2 * LOST_AFTER).is_empty());
        gateways.link_up(at(2));
        gateways.link_down(now, at(2));
        gateways.list(now, true, &[]);
        assert_eq!(gateways.poll(now + LOST_AFTER), [id(3)]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        List(bool, Vec<u16>),
        Up(u16),
        Down(u16),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<bool>(), prop::collection::vec(0_u16..4, 0..4))
                .prop_map(|(lives, ids)| Step::List(lives, ids)),
            (0_u16..4).prop_map(Step::Up),
            (0_u16..4).prop_map(Step::Down),
            (0_u64..200).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn nobody_who_is_linked_or_listed_by_a_living_register_is_ever_lost(steps in prop::collection::vec(step(), 0..60)) {
            let (mut gateways, mut now) = (Gateways::default(), Instant::now());
            for step in steps {
                match step {
                    Step::List(lives, ids) => {
                        let listed: Vec<_> = ids.iter().map(|n| (at(*n), id(*n))).collect();
                        gateways.list(now, lives, &listed);
                    }
                    Step::Up(n) => gateways.link_up(at(n)),
                    Step::Down(n) => gateways.link_down(now, at(n)),
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                }
                let safe: Vec<_> = gateways
                    .at
                    .values()
                    .filter(|g| g.links > 0 || (g.listed && gateways.register_lives))
                    .map(|g| g.id)
                    .collect();
                for lost in gateways.poll(now) {
                    prop_assert!(!safe.contains(&lost));
                }
                prop_assert!(gateways.timeout().is_none_or(|due| due > now));
            }
        }
    }
}
