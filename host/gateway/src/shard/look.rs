//! What a shard tells of its connections: a bounded part of them at a time.

use tidegate_base::ClientId;
use tidegate_wire::question::Connection;
use tokio::sync::oneshot;

use super::Shard;
use super::conn::{Conn, Phase};

/// Connections that are told at a time.
pub(crate) const AT_ONCE_MAX: usize = 256;
/// Places that are looked at for them. With none that is meant this takes less than 0.1 ms.
const PLACES_AT_ONCE: usize = 4096;

/// What somebody wants to see.
#[derive(Debug)]
pub(crate) struct Look {
    pub whom: Whom,
    /// Only those of the app with this number.
    pub app: Option<u32>,
    /// At most [`AT_ONCE_MAX`].
    pub at_most: usize,
    pub tell: oneshot::Sender<Seen>,
}

#[derive(Debug)]
pub(crate) enum Whom {
    /// From this place on.
    From(usize),
    /// Those that are there of these; no more than [`AT_ONCE_MAX`].
    These(Vec<u32>),
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Each with the link to the worker of its slot.
    pub connections: Vec<(Option<u64>, Connection)>,
    /// Where to look on; None: that is all.
    pub next: Option<usize>,
}

impl Shard {
    pub(super) fn look(&self, look: Look) {
        let Look { whom, app, at_most, tell } = look;
        let mut connections = Vec::new();
        let mut next = None;
        match whom {
            Whom::These(clients) => {
                let there = clients.iter().filter_map(|client| self.by_client.get(client));
                connections.extend(there.filter_map(|key| self.seen(*key, app)).take(at_most));
            }
            Whom::From(from) => {
                let end = from.saturating_add(PLACES_AT_ONCE).min(self.conns.capacity());
                next = (end < self.conns.capacity()).then_some(end);
                for key in from..end {
                    if connections.len() >= at_most {
                        next = Some(key);
                        break;
                    }
                    connections.extend(self.seen(key, app));
                }
            }
        }
        // Who does not wait any more does not mind.
        let _ = tell.send(Seen { connections, next });
    }

    fn seen(&self, key: usize, only: Option<u32>) -> Option<(Option<u64>, Connection)> {
        let conn = self.conns.get(key)?;
        let app = conn.app.as_ref().filter(|app| only.is_none_or(|only| app.number == only))?;
        let state = state(&conn.phase)?;
        let (uid, groups) = app.hub.lock().names_of(conn.client);
        let slot = conn.lane.as_ref().map(|lane| lane.key);
        let connection = Connection {
            client: ClientId { gateway: self.gateway, connection: conn.client },
            app: app.name.clone(),
            protocol: conn.addresses.protocol.as_str().to_owned(),
            remote: conn.addresses.remote,
            age_s: seconds(self.now).saturating_sub(conn.since_s).into(),
            state: state.to_owned(),
            uid: uid.map(|uid| uid.to_string()),
            groups,
            worker: None,
            slot: slot.map(|key| key.slot),
            in_flight: conn.in_flight,
            queued_bytes: conn.out.bytes(),
            paused: paused(conn).map(str::to_owned),
        };
        Some((slot.map(|key| key.link), connection))
    }
}

/// What is told of where a connection is in its life. None: it is over.
fn state(phase: &Phase) -> Option<&'static str> {
    match phase {
        Phase::Head | Phase::Upgrading { .. } => Some("upgrading"),
        Phase::Open => Some("open"),
        Phase::Closing(_) => Some("closing"),
        Phase::Ended => None,
    }
}

/// Why a connection is not read now, if it is not.
fn paused(conn: &Conn) -> Option<&'static str> {
    let is = &conn.is;
    let reasons =
        [(is.binding, "no-slot"), (is.paused, "no-credit"), (is.capped, "in-flight"), (is.throttled, "rate")];
    reasons.into_iter().find(|(holds, _)| *holds).map(|(_, reason)| reason)
}

/// On the gateway's clock; enough for 136 years.
pub(super) fn seconds(now: u64) -> u32 {
    u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX)
}
