//! Who is connected to an app on this gateway: clients, uids, groups, sessions.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use tidegate_base::session::{self, InvalidSession};
use tidegate_base::{Answer, Audience, ClientFields, ClientId, ClientInfo, GatewayId, Query};

/// The clients of one app on one gateway. A plain data structure: no I/O, no clock, no lock of its own.
///
/// Calling contract: `insert` when a client can be named; `depart` when it is to be gone for everybody else; `remove`
/// when its connection has ended, which returns what on-close reports. Every operation costs what it touches.
#[derive(Debug)]
pub struct Hub {
    gateway: GatewayId,
    session_bytes_max: usize,
    groups_per_client_max: usize,
    clients: FxHashMap<u32, Client>,
    departed: usize,
    uids: FxHashMap<Arc<str>, FxHashSet<u32>>,
    groups: FxHashMap<Arc<str>, FxHashSet<u32>>,
}

#[derive(Debug, Default)]
struct Client {
    uid: Option<Arc<str>>,
    groups: Vec<Arc<str>>,
    session: Option<Box<str>>,
    revision: u32,
    departed: bool,
}

/// What a removed client leaves.
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
            departed: 0,
            uids: FxHashMap::default(),
            groups: FxHashMap::default(),
        }
    }

    /// A client is there.
    pub fn insert(&mut self, client: u32) {
        self.clients.insert(client, Client::default());
    }

    /// How many clients are there.
    pub fn len(&self) -> usize {
        self.clients.len() - self.departed
    }

    /// Nobody finds the client any more; what it had is kept for [`Hub::remove`]. False: it was gone already.
    pub fn depart(&mut self, client: u32) -> bool {
        let Some(entry) = self.clients.get_mut(&client).filter(|c| !c.departed) else { return false };
        entry.departed = true;
        self.departed += 1;
        if let Some(uid) = &entry.uid {
            remove_member(&mut self.uids, uid, client);
        }
        for group in &entry.groups {
            remove_member(&mut self.groups, group, client);
        }
        true
    }

    /// The client's connection has ended.
    pub fn remove(&mut self, client: u32) -> Option<Departed> {
        self.depart(client);
        let entry = self.clients.remove(&client)?;
        self.departed -= 1;
        Some(Departed {
            uid: entry.uid.map(|u| u.to_string()),
            groups: entry.groups.iter().map(ToString::to_string).collect(),
            session: entry.session.map(Into::into),
        })
    }

    /// Binds a client to a uid, in place of the one it has.
    pub fn bind(&mut self, client: u32, uid: &str) {
        if self.live(client).is_none_or(|c| c.uid.as_deref() == Some(uid)) {
            return;
        }
        self.unbind(client);
        let uid = add_member(&mut self.uids, uid, client);
        if let Some(entry) = self.live(client) {
            entry.uid = Some(uid);
        }
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
        let group = add_member(&mut self.groups, group, client);
        if let Some(entry) = self.live(client) {
            entry.groups.push(group);
        }
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

    /// Takes everybody out of a group.
    pub fn disband(&mut self, group: &str) {
        for client in self.groups.remove(group).unwrap_or_default() {
            if let Some(entry) = self.clients.get_mut(&client) {
                entry.groups.retain(|g| &**g != group);
            }
        }
    }

    /// Replaces or removes a client's session. True: there was a client.
    ///
    /// # Errors
    /// The session is none, or too large.
    pub fn set_session(&mut self, client: u32, session: Option<&str>) -> Result<bool, HubError> {
        let limit = self.session_bytes_max;
        let Some(entry) = self.live(client) else { return Ok(false) };
        entry.session = session.map(|s| session::normalize(s, limit)).transpose()?.map(Into::into);
        entry.revision = entry.revision.wrapping_add(1);
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
        entry.revision = entry.revision.wrapping_add(1);
        Ok(true)
    }

    /// A client's session with its revision.
    pub fn session(&self, client: u32) -> Option<(u32, Option<&str>)> {
        self.clients.get(&client).map(|c| (c.revision, c.session.as_deref()))
    }

    /// Adds the clients of an audience, less the excepted, to `out`; each once, in no order.
    pub fn resolve(&self, audience: &Audience<'_>, except: &[ClientId], out: &mut Vec<u32>) {
        let start = out.len();
        match audience {
            Audience::All => out.extend(self.clients.iter().filter(|(_, c)| !c.departed).map(|(n, _)| *n)),
            Audience::Clients(clients) => {
                let here = clients.iter().filter(|c| c.gateway == self.gateway).map(|c| c.connection);
                out.extend(here.filter(|n| self.clients.get(n).is_some_and(|c| !c.departed)));
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
        let clients = |of: &Audience<'_>| {
            let mut clients = Vec::new();
            self.resolve(of, &[], &mut clients);
            clients
        };
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
            Query::Select(of, fields) => {
                Answer::Infos(clients(of).into_iter().filter_map(|c| self.info(c, *fields)).collect())
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
        self.clients.get_mut(&client).filter(|c| !c.departed)
    }

    /// Checks that the maps agree.
    ///
    /// # Errors
    /// The first disagreement.
    pub fn check_invariants(&self) -> Result<(), String> {
        let departed = self.clients.values().filter(|c| c.departed).count();
        if departed != self.departed {
            return Err(format!("{departed} clients have departed, {} are counted", self.departed));
        }
        for (index, what) in [(&self.uids, "uid"), (&self.groups, "group")] {
            for (name, members) in index {
                if members.is_empty() {
                    return Err(format!("{what} {name} has no member"));
                }
                for member in members {
                    let client = self.clients.get(member).filter(|c| !c.departed);
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
        let live = || self.clients.iter().filter(|(_, c)| !c.departed);
        let uids: usize = live().filter(|(_, c)| c.uid.is_some()).count();
        let groups: usize = live().map(|(_, c)| c.groups.len()).sum();
        let listed =
            |index: &FxHashMap<Arc<str>, FxHashSet<u32>>| index.values().map(FxHashSet::len).sum::<usize>();
        if uids != listed(&self.uids) || groups != listed(&self.groups) {
            return Err("a client names a uid or group that does not list it".into());
        }
        Ok(())
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
        hub.resolve(audience, &except, &mut out);
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
            hub.insert(client);
            hub.join(client, "a").unwrap();
        }
        hub.join(2, "b").unwrap();
        assert_eq!(members(&hub, &groups(&["a", "b"]), &[3]), [1, 2]);
        assert_eq!(members(&hub, &Audience::All, &[1]), [2, 3]);
    }

    #[test]
    fn a_departed_client_is_found_by_nobody_and_leaves_what_it_had() {
        let mut hub = hub();
        hub.insert(1);
        hub.bind(1, "0");
        hub.join(1, "g").unwrap();
        hub.set_session(1, Some(r#"{"a":1}"#)).unwrap();
        assert!(hub.depart(1) && !hub.depart(1));
        assert!(members(&hub, &Audience::All, &[]).is_empty());
        assert!(members(&hub, &groups(&["g"]), &[]).is_empty());
        assert_eq!(hub.answer(&Query::CountClients(Audience::All)), Answer::Count(0));
        let left = hub.remove(1).unwrap();
        assert_eq!(
            (left.uid.as_deref(), left.groups.len(), left.session.as_deref()),
            (Some("0"), 1, Some(r#"{"a":1}"#))
        );
        assert_eq!(hub.remove(1), None);
    }

    #[test]
    fn limits_are_named() {
        let mut hub = hub();
        hub.insert(1);
        for group in ["a", "b", "c", "c"] {
            hub.join(1, group).unwrap();
        }
        assert_eq!(hub.join(1, "d"), Err(HubError::TooManyGroups(3)));
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
        assert!(matches!(hub.set_session(1, Some(&long)), Err(HubError::Session(_))));
    }

    proptest! {
        #[test]
        fn the_maps_agree_after_any_operations(ops in proptest::collection::vec((0..8u8, 0..6u32, "[a-d]"), 0..200)) {
            let mut hub = hub();
            for (op, client, name) in ops {
                match op {
                    0 => if hub.session(client).is_none() { hub.insert(client) },
                    1 => hub.bind(client, &name),
                    2 => hub.unbind(client),
                    3 => { let _ = hub.join(client, &name); }
                    4 => hub.leave(client, &name),
                    5 => hub.disband(&name),
                    6 => { hub.depart(client); }
                    _ => { hub.remove(client); }
                }
                hub.check_invariants().map_err(TestCaseError::fail)?;
            }
        }
    }
}
