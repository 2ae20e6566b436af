//! Where GatewayClient finds gateways: an address and a port for each. An id that it makes is the address that it asked and
//! the number that it heard there, so whichever address a connection comes to says which gateway is meant, and nothing needs
//! to be remembered of clients.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use tidegate_base::{ClientId, GatewayId};

/// Most ports of one bridge.
pub const PORTS_MAX: u16 = 256;
const PREFIX_MIN: u8 = 8;
const PREFIX_MAX: u8 = 16;

/// Which addresses stand for gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doors {
    /// Every address of a network stands for a gateway, all at one port: `127.0.0.0/8:2900`.
    ///
    /// A gateway's place is in its own id, so ids hold over restarts of everything else; and for a gateway whose id was
    /// drawn from [`Network::draw`], the ids of its clients are the same here and in plugins.
    Network(Network),
    /// Each port of one address stands for a gateway: `10.0.0.5:2900-2915`.
    Ports {
        /// The address; unspecified: whichever the Register was reached by.
        ip: Ipv4Addr,
        /// The first port; 0: one that the system chooses.
        first: u16,
        /// The last one.
        last: u16,
    },
}

/// A network of which every address, at one port, is a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: Ipv4Addr,
    prefix: u8,
    port: u16,
}

/// The text names no doors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` says not where gateways are: write NETWORK:PORT with 8 to 16 bits, such as \"127.0.0.0/8:2900\" for PHP on the \
     same machine, or IP:FIRST-LAST with as many ports as gateways, at most 256, such as \"10.0.0.5:2900-2915\""
)]
pub struct InvalidDoors(String);

impl Network {
    /// An id within it: the bits that the network leaves come from `random`.
    pub fn draw(&self, random: u64) -> GatewayId {
        // The low 32 bits are as random as any.
        let ip = u32::from(self.base) | (random as u32 & !self.mask());
        GatewayId::new(u64::from(ip) << 16 | u64::from(self.port))
    }

    /// Whether it is on this machine alone.
    pub fn is_loopback(&self) -> bool {
        self.base.is_loopback()
    }

    /// The port; 0: one that the system chooses.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same at another port.
    #[must_use]
    pub fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Where the gateway of this id is.
    fn address(&self, gateway: GatewayId) -> SocketAddrV4 {
        let ip = u32::from(self.base) | ((gateway.get() >> 16) as u32 & !self.mask());
        SocketAddrV4::new(ip.into(), self.port)
    }

    pub(crate) fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & self.mask() == u32::from(self.base)
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }
}

impl FromStr for Doors {
    type Err = InvalidDoors;

    fn from_str(text: &str) -> Result<Self, InvalidDoors> {
        parse(text).ok_or_else(|| InvalidDoors(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<Doors> {
    let (place, ports) = text.rsplit_once(':')?;
    if let Some((base, prefix)) = place.split_once('/') {
        let (base, prefix, port) = (base.parse().ok()?, prefix.parse().ok()?, ports.parse().ok()?);
        let network = Network { base, prefix, port };
        let fits = (PREFIX_MIN..=PREFIX_MAX).contains(&prefix) && network.contains(base);
        return fits.then_some(Doors::Network(network));
    }
    let ip = place.parse().ok()?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    let fits = first <= last && last - first < PORTS_MAX && (first != 0 || last == 0);
    fits.then_some(Doors::Ports { ip, first, last })
}

impl fmt::Display for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(Network { base, prefix, port }) => write!(f, "{base}/{prefix}:{port}"),
            Self::Ports { ip, first, last } if first == last => write!(f, "{ip}:{first}"),
            Self::Ports { ip, first, last } => write!(f, "{ip}:{first}-{last}"),
        }
    }
}

/// A gateway as PHP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub gateway: GatewayId,
    /// What is added to a connection's number. A port stands for one gateway after the other; a number that was told of an
    /// earlier one must not be somebody else's.
    shift: u32,
}

impl Place {
    /// Where no gateway is. No gateway has this id: it would have to draw 48 zeros.
    pub const NOWHERE: Self = Self { gateway: GatewayId::new(0), shift: 0 };

    /// The client of this number.
    pub fn client(&self, number: u32) -> ClientId {
        ClientId { gateway: self.gateway, connection: number.wrapping_sub(self.shift) }
    }

    /// The number of this client.
    pub fn number(&self, client: ClientId) -> u32 {
        client.connection.wrapping_add(self.shift)
    }
}

/// What is wrong with a list of gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(
        "gateways {0} and {1} have the same place in the network of [[bridge]], so PHP reaches neither: restart one of them"
    )]
    SamePlace(GatewayId, GatewayId),
    #[error("there is no port for gateway {0}, so PHP does not reach it: widen `gateway` in [[bridge]]")]
    NoPort(GatewayId),
}

/// Which gateway is where. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Places {
    /// Two gateways at one address: none is there.
    Network { network: Network, gateways: HashMap<SocketAddrV4, Option<GatewayId>> },
    /// In the order of the ports.
    Ports { ip: Ipv4Addr, gateways: Vec<(u16, Option<GatewayId>)> },
}

impl Places {
    /// Nobody is anywhere yet. `ports` are those that are listened on.
    pub fn new(doors: Doors, ports: &[u16]) -> Self {
        match doors {
            Doors::Network(network) => {
                let port = ports.first().copied().unwrap_or(network.port);
                Self::Network { network: network.at_port(port), gateways: HashMap::new() }
            }
            Doors::Ports { ip, .. } => {
                Self::Ports { ip, gateways: ports.iter().map(|port| (*port, None)).collect() }
            }
        }
    }

    /// These gateways are there, and only these. Returns what is wrong, sorted out as well as can be.
    pub fn list(&mut self, listed: &[GatewayId]) -> Vec<Trouble> {
        match self {
            Self::Network { network, gateways } => list_in_network(*network, gateways, listed),
            Self::Ports { gateways, .. } => list_at_ports(gateways, listed),
        }
    }

    /// Where gateways are, in order, for somebody who reached this machine by `reached`.
    pub fn addresses(&self, reached: Ipv4Addr) -> Vec<SocketAddrV4> {
        let mut addresses: Vec<_> = match self {
            Self::Network { gateways, .. } => {
                gateways.iter().filter_map(|(at, gateway)| gateway.map(|_| *at)).collect()
            }
            Self::Ports { ip, gateways } => {
                let ip = if ip.is_unspecified() { reached } else { *ip };
                let taken = gateways.iter().filter(|(_, gateway)| gateway.is_some());
                taken.map(|(port, _)| SocketAddrV4::new(ip, *port)).collect()
            }
        };
        addresses.sort_unstable();
        addresses
    }

    /// Whether an address stands for gateways at all.
    pub fn has(&self, address: SocketAddrV4) -> bool {
        match self {
            Self::Network { network, .. } => network.contains(*address.ip()),
            Self::Ports { .. } => true,
        }
    }

    /// Which gateway is at an address. None: it is gone.
    pub fn at(&self, address: SocketAddrV4) -> Option<Place> {
        match self {
            Self::Network { gateways, .. } => {
                gateways.get(&address).copied().flatten().map(|gateway| Place { gateway, shift: 0 })
            }
            Self::Ports { gateways, .. } => {
                let (_, gateway) = gateways.iter().find(|(port, _)| *port == address.port())?;
                // Drawn afresh at each of its starts.
                gateway.map(|gateway| Place { gateway, shift: gateway.get() as u32 })
            }
        }
    }
}

fn list_in_network(
    network: Network,
    gateways: &mut HashMap<SocketAddrV4, Option<GatewayId>>,
    listed: &[GatewayId],
) -> Vec<Trouble> {
    gateways.clear();
    let (mut troubles, mut first) = (Vec::new(), HashMap::new());
    for gateway in listed {
        let address = network.address(*gateway);
        let other = *first.entry(address).or_insert(*gateway);
        if other == *gateway {
            gateways.insert(address, Some(*gateway));
        } else {
            gateways.insert(address, None);
            troubles.push(Trouble::SamePlace(other, *gateway));
        }
    }
    troubles
}

/// Who has a port keeps it. A new one looks from where its id points to, so that it mostly finds the same one again.
fn list_at_ports(gateways: &mut [(u16, Option<GatewayId>)], listed: &[GatewayId]) -> Vec<Trouble> {
    for (_, gateway) in gateways.iter_mut() {
        *gateway = gateway.filter(|gateway| listed.contains(gateway));
    }
    let mut new = listed.to_vec();
    new.retain(|id| !gateways.iter().any(|(_, taken)| *taken == Some(*id)));
    new.sort_unstable();
    new.dedup();
    let mut troubles = Vec::new();
    for id in new {
        let from = usize::try_from(id.get() % gateways.len().max(1) as u64).unwrap_or(0);
        let (before, after) = gateways.split_at_mut(from.min(gateways.len()));
        match after.iter_mut().chain(before).find(|(_, taken)| taken.is_none()) {
            Some((_, place)) => *place = Some(id),
            None => troubles.push(Trouble::NoPort(id)),
        }
    }
    troubles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REACHED: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);

    fn doors(text: &str) -> Doors {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        match doors(text) {
            Doors::Network(network) => network,
            other @ Doors::Ports { .. } => panic!("{other}"),
        }
    }

    /// The id that GatewayClient makes of what it heard.
    fn made(address: SocketAddrV4, number: u32) -> String {
        format!("{:08x}{:04x}{number:08x}", u32::from(*address.ip()), address.port())
    }

    #[test]
    fn doors_survive_their_text_and_nonsense_is_refused() {
        for text in
            ["127.0.0.0/8:2900", "10.77.0.0/16:1", "10.0.0.5:2900", "10.0.0.5:2900-2915", "127.0.0.1:0"]
        {
            assert_eq!(doors(text).to_string(), text);
        }
        for text in [
            "",
            "2900",
            "127.0.0.1",
            "127.0.0.0/7:2900",
            "127.0.0.0/17:2900",
            "127.0.0.1/8:2900",
            "127.0.0.0/8:2900-2901",
            "127.0.0.0/99:1",
            "10.0.0.5:9-8",
            "10.0.0.5:0-9",
            "10.0.0.5:1000-1256",
            "[::1]:2900",
            "localhost:2900",
        ] {
            assert!(text.parse::<Doors>().is_err(), "{text}");
        }
    }

    #[test]
    fn two_gateways_at_one_place_are_at_none() {
        let mut places = Places::new(doors("127.0.0.0/8:2900"), &[2900]);
        let (a, b) = (GatewayId::new(0x01aa_bbcc_0001), GatewayId::new(0x02aa_bbcc_0002));
        let c = GatewayId::new(0x02aa_bbcd_0002);
        assert_eq!(places.list(&[a, b, c]), [Trouble::SamePlace(a, b)]);
        let at_c = "127.170.187.205:2900".parse().unwrap();
        assert_eq!(places.addresses(REACHED), [at_c]);
        assert_eq!(places.at("127.170.187.204:2900".parse().unwrap()), None);
        assert_eq!(places.list(&[b, c]), []);
        assert_eq!(places.addresses(REACHED).len(), 2);
    }

    #[test]
    fn ports_are_kept_and_there_may_be_too_few() {
        let mut places = Places::new(doors("0.0.0.0:2900-2901"), &[2900, 2901]);
        let ids = [2, 4, 6].map(GatewayId::new);
        assert_eq!(places.list(&ids), [Trouble::NoPort(ids[2])]);
        let port = |places: &Places, id| {
            let at = |port: &u16| places.at(SocketAddrV4::new(REACHED, *port)).map(|p| p.gateway) == Some(id);
            [2900, 2901].into_iter().find(at)
        };
        assert_eq!((port(&places, ids[0]), port(&places, ids[1])), (Some(2900), Some(2901)));
        assert_eq!(places.addresses(REACHED), [2900, 2901].map(|port| SocketAddrV4::new(REACHED, port)));
        assert_eq!(places.list(&ids[1..]), []);
        assert_eq!((port(&places, ids[1]), port(&places, ids[2])), (Some(2901), Some(2900)));
    }

    #[test]
    fn a_number_that_was_told_of_an_earlier_gateway_is_not_the_next_ones() {
        let mut places = Places::new(doors("10.0.0.5:2900"), &[2900]);
        let address = "10.0.0.5:2900".parse().unwrap();
        let (old, new) = (GatewayId::new(0x1234_5678_9abc), GatewayId::new(0x2234_5678_0001));
        places.list(&[old]);
        let number = places.at(address).unwrap().number(ClientId { gateway: old, connection: 1 });
        places.list(&[new]);
        let now = places.at(address).unwrap().client(number);
        assert_eq!(now.gateway, new);
        assert_ne!(now.connection, 1);
    }

    proptest! {
        #[test]
        fn ids_of_a_gateway_that_drew_in_the_network_are_the_same_for_php(random: u64, connection: u32) {
            let network = network("127.0.0.0/8:2900");
            let gateway = network.draw(random);
            let mut places = Places::new(Doors::Network(network), &[2900]);
            prop_assert_eq!(places.list(&[gateway]), []);
            let client = ClientId { gateway, connection };
            let address = places.addresses(REACHED)[0];
            let place = places.at(address).unwrap();
            prop_assert_eq!(made(address, place.number(client)), client.to_string());
        }

        #[test]
        fn what_php_makes_of_an_id_leads_back_to_the_client(
            ids in prop::collection::hash_set(0..1_u64 << 48, 1..8),
            connection: u32,
            text in prop_oneof![Just("10.77.0.0/16:2900"), Just("10.0.0.5:2900-2907")],
        ) {
            let ports: Vec<u16> = (2900..2908).collect();
            let mut places = Places::new(doors(text), &ports);
            let ids: Vec<_> = ids.into_iter().map(GatewayId::new).collect();
            let troubles = places.list(&ids);
            let addresses = places.addresses(REACHED);
            prop_assert!(!troubles.is_empty() || addresses.len() == ids.len());
            for address in addresses {
                let place = places.at(address).unwrap();
                prop_assert!(ids.contains(&place.gateway) && places.has(address));
                let client = ClientId { gateway: place.gateway, connection };
                prop_assert_eq!(place.client(place.number(client)), client);
            }
        }
    }
}
