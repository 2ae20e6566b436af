//! Who is connected to an app on this gateway: clients, uids, groups, sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_base::session::{self, InvalidSession};
use tidegate_base::{Answer, Audience, ClientFields, ClientId, ClientInfo, GatewayId, Query};

/// The clients of one app on one gateway. A plain data structure: no I/O, no clock, no lock of its own.
///
/// Calling contract: `expect` when a client can be named and not yet receive; `open` when it can; `depart` when it is to
/// be gone for everybody else, after which `left` says what on-close reports; `remove` when nothing of it is left. Every
/// operation costs what it touches.
#[derive(Debug)]
pub struct Hub {
    gateway: GatewayId,
    session_bytes_max: usize,
    groups_per_client_max: usize,
    clients: FxHashMap<u32, Client>,
    open: usize,
    /// The open clients of each uid and group.
    uids: FxHashMap<Arc<str>, FxHashSet<u32>>,
    groups: FxHashMap<Arc<str>, FxHashSet<u32>>,
}

#[derive(Debug, Default)]
struct Client {
    uid: Option<Arc<str>>,
    groups: Vec<Arc<str>>,
    session: Option<Box<str>>,
    presence: Presence,
}

/// Who knows of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Presence {
    /// It upgrades: it may be bound, join and have a session, but it cannot receive, so nobody finds it.
    #[default]
    Expected,
    Open,
    Departed,
}

/// Which clients an audience is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those that can receive.
    Open,
    /// Those that can receive, and also such as still upgrade if they are named by id.
    Named,
}

/// What a client leaves that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Departed {
    /// The uid that it was bound to.
    pub uid: Option<String>,
    /// The groups that it was in.
    pub groups: Vec<String>,
    /// Its session.
    pub session: Option<String>,
}

/// A membership that the hub refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The client is in too many groups.
    #[error("the client is in {0} groups, the app allows no more (groups_per_client_max)")]
    TooManyGroups(usize),
    /// The session is not acceptable.
    #[error(transparent)]
    Session(#[from] InvalidSession),
}

impl Hub {
    /// An empty hub.
    pub fn new(gateway: GatewayId, session_bytes_max: usize, groups_per_client_max: usize) -> Self {
        Self {
            gateway,
            session_bytes_max,
            groups_per_client_max,
            clients: FxHashMap::default(),
            open: 0,
            uids: FxHashMap::default(),
            groups: FxHashMap::default(),
        }
    }

    /// Other limits from now on. What is larger already stays.
    pub fn set_limits(&mut self, session_bytes_max: usize, groups_per_client_max: usize) {
        self.session_bytes_max = session_bytes_max;
        self.groups_per_client_max = groups_per_client_max;
    }

    /// A client asks to be let in: it has nothing yet, also if it asked before.
    pub fn expect(&mut self, client: u32) {
        self.remove(client);
        self.clients.insert(client, Client::default());
    }

    /// A client can receive: with what it got while it was expected, it is there for everybody.
    pub fn open(&mut self, client: u32) {
        let entry = self.clients.entry(client).or_default();
        if entry.presence != Presence::Expected {
            return;
        }
        entry.presence = Presence::Open;
        self.open += 1;
        if let Some(uid) = &mut entry.uid {
            *uid = add_member(&mut self.uids, uid, client);
        }
        for group in &mut entry.groups {
            *group = add_member(&mut self.groups, group, client);
        }
    }

    /// How many clients are there.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Nobody finds the client any more; what it had is kept for [`Hub::left`]. False: it was gone already.
    pub fn depart(&mut self, client: u32) -> bool {
        let Some(entry) = self.live(client) else { return false };
        if std::mem::replace(&mut entry.presence, Presence::Departed) == Presence::Expected {
            return true;
        }
        self.open -= 1;
        let Some(entry) = self.clients.get(&client) else { return false };
        if let Some(uid) = &entry.uid {
            remove_member(&mut self.uids, uid, client);
        }
        for group in &entry.groups {
            remove_member(&mut self.groups, group, client);
        }
        true
    }

    /// What a client had when it departed.
    pub fn left(&self, client: u32) -> Option<Departed> {
        let entry = self.clients.get(&client).filter(|c| c.presence == Presence::Departed)?;
        Some(Departed {
            uid: entry.uid.as_deref().map(Into::into),
            groups: entry.groups.iter().map(ToString::to_string).collect(),
            session: entry.session.as_deref().map(Into::into),
        })
    }

    /// Forgets a client, whether it has departed or not.
    pub fn remove(&mut self, client: u32) {
        self.depart(client);
        self.clients.remove(&client);
    }

    /// Binds a client to a uid, in place of the one it has.
    pub fn bind(&mut self, client: u32, uid: &str) {
        if self.live(client).is_none_or(|c| c.uid.as_deref() == Some(uid)) {
            return;
        }
        self.unbind(client);
        let Some(entry) = self.clients.get_mut(&client) else { return };
        entry.uid = Some(match entry.presence {
            Presence::Open => add_member(&mut self.uids, uid, client),
            _ => uid.into(),
        });
    }

    /// Takes a client's uid away.
    pub fn unbind(&mut self, client: u32) {
        if let Some(uid) = self.live(client).and_then(|c| c.uid.take()) {
            remove_member(&mut self.uids, &uid, client);
        }
    }

    /// Puts a client into a group.
    ///
    /// # Errors
    /// It is in as many as the app allows.
    pub fn join(&mut self, client: u32, group: &str) -> Result<(), HubError> {
        let max = self.groups_per_client_max;
        let Some(entry) = self.live(client) else { return Ok(()) };
        if entry.groups.iter().any(|g| &**g == group) {
            return Ok(());
        }
        if entry.groups.len() >= max {
            return Err(HubError::TooManyGroups(max));
        }
        let Some(entry) = self.clients.get_mut(&client) else { return Ok(()) };
        entry.groups.push(match entry.presence {
            Presence::Open => add_member(&mut self.groups, group, client),
            _ => group.into(),
        });
        Ok(())
    }

    /// Takes a client out of a group.
    pub fn leave(&mut self, client: u32, group: &str) {
        let Some(entry) = self.live(client) else { return };
        if let Some(at) = entry.groups.iter().position(|g| &**g == group) {
            let group = entry.groups.swap_remove(at);
            if entry.groups.is_empty() {
                entry.groups = Vec::new();
            }
            remove_member(&mut self.groups, &group, client);
        }
    }

    /// Takes everybody out of a group. Returns how many were in it.
    pub fn disband(&mut self, group: &str) -> usize {
        let members = self.groups.remove(group).unwrap_or_default();
        for client in &members {
            if let Some(entry) = self.clients.get_mut(client) {
                entry.groups.retain(|g| &**g != group);
            }
        }
        members.len()
    }

    /// Replaces or removes a client's session. True: there was a client.
    ///
    /// # Errors
    /// The session is none, or too large.
    pub fn set_session(&mut self, client: u32, session: Option<&str>) -> Result<bool, HubError> {
        let limit = self.session_bytes_max;
        let Some(entry) = self.live(client) else { return Ok(false) };
        entry.session = session.map(|s| session::normalize(s, limit)).transpose()?.map(Into::into);
        Ok(true)
    }

    /// Merges into a client's session. True: there was a client.
    ///
    /// # Errors
    /// The patch is no session, or the result is too large.
    pub fn update_session(&mut self, client: u32, patch: &str) -> Result<bool, HubError> {
        let limit = self.session_bytes_max;
        let Some(entry) = self.live(client) else { return Ok(false) };
        entry.session = Some(session::merge(entry.session.as_deref(), patch, limit)?.into());
        Ok(true)
    }

    /// Whether a client can receive.
    pub fn is_open(&self, client: u32) -> bool {
        self.clients.get(&client).is_some_and(Client::is_open)
    }

    /// Whether a client can receive, or upgrades to that: it can be given a uid, groups and a session.
    pub fn is_live(&self, client: u32) -> bool {
        self.clients.get(&client).is_some_and(Client::is_live)
    }

    /// The uid of a client, and how many groups it is in.
    pub fn names_of(&self, client: u32) -> (Option<Arc<str>>, usize) {
        self.clients.get(&client).map_or((None, 0), |entry| (entry.uid.clone(), entry.groups.len()))
    }

    /// How many clients that can receive have a uid, and so many of them at most.
    pub fn of_uid(&self, uid: &str, at_most: usize) -> (usize, Vec<u32>) {
        let clients = self.uids.get(uid);
        let some = clients.into_iter().flatten().copied().take(at_most);
        (clients.map_or(0, FxHashSet::len), some.collect())
    }

    /// A client's session. None: there is no such client.
    pub fn session(&self, client: u32) -> Option<Option<&str>> {
        self.clients.get(&client).map(|c| c.session.as_deref())
    }

    /// Adds the clients of an audience, less the excepted, to `out`; each once, in no order.
    pub fn resolve(&self, audience: &Audience<'_>, reach: Reach, except: &[ClientId], out: &mut Vec<u32>) {
        let start = out.len();
        match audience {
            Audience::All => out.extend(self.clients.iter().filter(|(_, c)| c.is_open()).map(|(n, _)| *n)),
            Audience::Clients(clients) => {
                let here = clients.iter().filter(|c| c.gateway == self.gateway).map(|c| c.connection);
                let is_meant = |c: &Client| c.is_open() || (c.is_live() && reach == Reach::Named);
                out.extend(here.filter(|n| self.clients.get(n).is_some_and(is_meant)));
                dedup(out, start, clients.len());
            }
            Audience::Uids(names) => {
                names.iter().filter_map(|n| self.uids.get(&**n)).for_each(|set| out.extend(set));
                dedup(out, start, names.len());
            }
            Audience::Groups(names) => {
                names.iter().filter_map(|n| self.groups.get(&**n)).for_each(|set| out.extend(set));
                dedup(out, start, names.len());
            }
        }
        if !except.is_empty() {
            let except: FxHashSet<u32> =
                except.iter().filter(|c| c.gateway == self.gateway).map(|c| c.connection).collect();
            let mut kept = start;
            for at in start..out.len() {
                if let Some(client) = out.get(at).copied().filter(|c| !except.contains(c)) {
                    out.swap(kept, at);
                    debug_assert_eq!(out.get(kept), Some(&client));
                    kept += 1;
                }
            }
            out.truncate(kept);
        }
    }

    /// This gateway's part of the answer to a query.
    pub fn answer(&self, query: &Query) -> Answer {
        let meant = |of: &Audience<'_>, reach| {
            let mut clients = Vec::new();
            self.resolve(of, reach, &[], &mut clients);
            clients
        };
        let clients = |of: &Audience<'_>| meant(of, Reach::Open);
        let id = |connection| ClientId { gateway: self.gateway, connection };
        match query {
            Query::CountClients(Audience::All) => Answer::Count(self.len() as u64),
            Query::CountClients(of) => Answer::Count(clients(of).len() as u64),
            Query::ListClients(of) => Answer::Clients(clients(of).into_iter().map(id).collect()),
            Query::ListUids(Audience::All) | Query::CountUids(Audience::All) => {
                Answer::Names(self.uids.keys().map(ToString::to_string).collect())
            }
            Query::ListUids(of) | Query::CountUids(of) => {
                let uids = clients(of).into_iter().filter_map(|c| self.clients.get(&c)?.uid.clone());
                Answer::Names(uids.collect::<BTreeSet<_>>().iter().map(ToString::to_string).collect())
            }
            Query::ListGroups(Audience::All) => {
                Answer::Names(self.groups.keys().map(ToString::to_string).collect())
            }
            Query::ListGroups(of) => {
                let groups =
                    clients(of).into_iter().filter_map(|c| self.clients.get(&c)).flat_map(|c| &c.groups);
                Answer::Names(groups.collect::<BTreeSet<_>>().iter().map(ToString::to_string).collect())
            }
            // What a plugin gave to a client that upgrades, it can read.
            Query::Select(of, fields) => {
                let clients = meant(of, Reach::Named).into_iter();
                Answer::Infos(clients.filter_map(|c| self.info(c, *fields)).collect())
            }
            Query::CountByGroup(groups) => Answer::Counts(
                groups.iter().map(|g| self.groups.get(&**g).map_or(0, |s| s.len() as u64)).collect(),
            ),
        }
    }

    fn info(&self, connection: u32, fields: ClientFields) -> Option<ClientInfo> {
        let client = self.clients.get(&connection)?;
        Some(ClientInfo {
            client: ClientId { gateway: self.gateway, connection },
            uid: client.uid.as_deref().filter(|_| fields.uid).map(Into::into),
            groups: if fields.groups {
                client.groups.iter().map(ToString::to_string).collect()
            } else {
                vec![]
            },
            session: client.session.as_deref().filter(|_| fields.session).map(Into::into),
        })
    }

    fn live(&mut self, client: u32) -> Option<&mut Client> {
        self.clients.get_mut(&client).filter(|c| c.is_live())
    }

    /// Checks that the maps agree.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn check_invariants(&self) -> Result<(), String> {
        let open = self.clients.values().filter(|c| c.is_open()).count();
        if open != self.open {
            return Err(format!("{open} clients are open, {} are counted", self.open));
        }
        for (index, what) in [(&self.uids, "uid"), (&self.groups, "group")] {
            for (name, members) in index {
                if members.is_empty() {
                    return Err(format!("{what} {name} has no member"));
                }
                for member in members {
                    let client = self.clients.get(member).filter(|c| c.is_open());
                    let named = client.is_some_and(|c| match what {
                        "uid" => c.uid.as_ref() == Some(name),
                        _ => c.groups.contains(name),
                    });
                    if !named {
                        return Err(format!("{what} {name} lists {member}, which does not know of it"));
                    }
                }
            }
        }
        let open = || self.clients.iter().filter(|(_, c)| c.is_open());
        let uids: usize = open().filter(|(_, c)| c.uid.is_some()).count();
        let groups: usize = open().map(|(_, c)| c.groups.len()).sum();
        let listed =
            |index: &FxHashMap<Arc<str>, FxHashSet<u32>>| index.values().map(FxHashSet::len).sum::<usize>();
        if uids != listed(&self.uids) || groups != listed(&self.groups) {
            return Err("a client names a uid or group that does not list it".into());
        }
        Ok(())
    }
}

impl Client {
    fn is_open(&self) -> bool {
        self.presence == Presence::Open
    }

    fn is_live(&self) -> bool {
        self.presence != Presence::Departed
    }
}

type Index = FxHashMap<Arc<str>, FxHashSet<u32>>;

fn add_member(index: &mut Index, name: &str, client: u32) -> Arc<str> {
    let name = index.get_key_value(name).map_or_else(|| Arc::from(name), |(key, _)| key.clone());
    index.entry(name.clone()).or_default().insert(client);
    name
}

fn remove_member(index: &mut Index, name: &str, client: u32) {
    if let Some(members) = index.get_mut(name) {
        members.remove(&client);
        if members.is_empty() {
            index.remove(name);
        }
    }
}

// One name or client cannot name anybody twice.
fn dedup(out: &mut Vec<u32>, start: usize, sources: usize) {
    if sources > 1 {
        let tail = out.get_mut(start..).unwrap_or_default();
        tail.sort_unstable();
        let mut last = None;
        let mut kept = start;
        for at in start..out.len() {
            let here = out.get(at).copied();
            if here != last {
                last = here;
                out.swap(kept, at);
                kept += 1;
            }
        }
        out.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    const GATEWAY: GatewayId = GatewayId::new(1);

    fn hub() -> Hub {
        Hub::new(GATEWAY, 100, 3)
    }

    fn members(hub: &Hub, audience: &Audience<'_>, except: &[u32]) -> Vec<u32> {
        let except: Vec<_> = except.iter().map(|c| ClientId { gateway: GATEWAY, connection: *c }).collect();
        let mut out = Vec::new();
        hub.resolve(audience, Reach::Open, &except, &mut out);
        out.sort_unstable();
        out
    }

    fn groups(names: &[&'static str]) -> Audience<'static> {
        Audience::Groups(names.iter().map(|n| Cow::Borrowed(*n)).collect())
    }

    #[test]
    fn a_client_in_two_listed_groups_is_meant_once() {
        let mut hub = hub();
        for client in 1..=3 {
            hub.open(client);
            hub.join(client, "a").unwrap();
        }
        hub.join(2, "b").unwrap();
        assert_eq!(members(&hub, &groups(&["a", "b"]), &[3]), [1, 2]);
        assert_eq!(members(&hub, &Audience::All, &[1]), [2, 3]);
    }

    #[test]
    fn a_departed_client_is_found_by_nobody_and_leaves_what_it_had() {
        let mut hub = hub();
        hub.open(1);
        hub.bind(1, "0");
        hub.join(1, "g").unwrap();
        hub.set_session(1, Some(r#"{"a":1}"#)).unwrap();
        assert!(hub.depart(1) && !hub.depart(1));
        assert!(members(&hub, &Audience::All, &[]).is_empty());
        assert!(members(&hub, &groups(&["g"]), &[]).is_empty());
        assert_eq!(hub.answer(&Query::CountClients(Audience::All)), Answer::Count(0));
        let left = hub.left(1).unwrap();
        assert_eq!(
            (left.uid.as_deref(), left.groups.len(), left.session.as_deref()),
            (Some("0"), 1, Some(r#"{"a":1}"#))
        );
        hub.remove(1);
        assert_eq!(hub.left(1), None);
    }

    #[test]
    fn a_client_that_upgrades_is_found_by_nobody_and_has_what_it_was_given_once_it_is_open() {
        let mut hub = hub();
        hub.expect(1);
        hub.bind(1, "u");
        hub.join(1, "g").unwrap();
        let id = ClientId { gateway: GATEWAY, connection: 1 };
        let fields = tidegate_base::ClientFields { uid: true, groups: true, session: false };
        for hidden in [Audience::All, groups(&["g"]), Audience::Clients(vec![id])] {
            assert!(members(&hub, &hidden, &[]).is_empty(), "{hidden:?}");
        }
        assert_eq!(hub.answer(&Query::CountByGroup(vec!["g".into()])), Answer::Counts(vec![0]));
        let by_id = Query::Select(Audience::Clients(vec![id]), fields);
        assert!(matches!(hub.answer(&by_id), Answer::Infos(infos) if infos[0].uid.as_deref() == Some("u")));
        hub.check_invariants().unwrap();
        hub.open(1);
        assert_eq!((members(&hub, &groups(&["g"]), &[]), hub.len()), (vec![1], 1));
        // Asked anew after its slot was lost, it begins anew.
        hub.expect(1);
        hub.check_invariants().unwrap();
        assert_eq!(hub.len(), 0);
    }

    #[test]
    fn limits_are_named() {
        let mut hub = hub();
        hub.open(1);
        for group in ["a", "b", "c", "c"] {
            hub.join(1, group).unwrap();
        }
        assert_eq!(hub.join(1, "d"), Err(HubError::TooManyGroups(3)));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
        assert!(matches!(hub.set_session(1, Some(&long)), Err(HubError::Session(_))));
    }

    proptest! {
        #[test]
        fn the_maps_agree_after_any_operations(ops in proptest::collection::vec((0..9u8, 0..6u32, "[a-d]"), 0..200)) {
            let mut hub = hub();
            for (op, client, name) in ops {
                match op {
                    0 => hub.open(client),
                    1 => hub.bind(client, &name),
                    2 => hub.unbind(client),
                    3 => { let _ = hub.join(client, &name); }
                    4 => hub.leave(client, &name),
                    5 => { hub.disband(&name); }
                    6 => { hub.depart(client); }
                    7 => hub.expect(client),
                    _ => hub.remove(client),
                }
                hub.check_invariants().map_err(TestCaseError::fail)?;
            }
        }
    }
}
