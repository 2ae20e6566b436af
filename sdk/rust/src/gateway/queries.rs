use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::{all, client, group, uid};
use crate::answer::{answer, map};
use crate::targets::{IntoClients, IntoNames, owned};
use crate::{Answer, Audience, ClientId, ClientInfo, Fields, Result, Session, host};

/// How many names one question may list.
const NAMES_MAX: usize = 65_536;

// === One client ===

/// Whether a client is connected. A commit point.
///
/// # Errors
/// Its gateway did not answer in time.
pub fn is_online(id: impl Into<ClientId>) -> Answer<bool> {
    map(client(id.into()).count(), |count| count > 0)
}

/// A client's uid; none if it has none or is not online. A commit point.
///
/// # Errors
/// Its gateway did not answer in time.
pub fn get_uid_by_client_id(id: impl Into<ClientId>) -> Answer<Option<String>> {
    let found = client(id.into()).select(Fields::UID);
    map(found, |clients| clients.into_iter().find_map(|client| client.uid))
}

/// A client's session as a `T`; none if it has none or is not online. A commit point; the current client's session is
/// read without one by [`session`](crate::session()).
///
/// # Errors
/// Its gateway did not answer in time, or what the session holds is not a `T`.
pub fn get_session<T: DeserializeOwned>(id: impl Into<ClientId>) -> Result<Option<T>> {
    let found = client(id.into()).select(Fields::SESSION)?;
    Ok(found.first().map(|client| client.session.read()).transpose()?.flatten())
}

// === Uids ===

/// Whether a client of this uid (of one of these) is connected. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn is_uid_online(uids: impl IntoNames) -> Answer<bool> {
    map(uid(uids).count(), |count| count > 0)
}

/// Which of these uids have a client that is connected; every asked uid is in the answer. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn is_uids_online(uids: impl IntoNames) -> Answer<BTreeMap<String, bool>> {
    map(batch_get_client_id_by_uid(uids), |found| {
        found.into_iter().map(|(uid, clients)| (uid, !clients.is_empty())).collect()
    })
}

/// The clients of a uid (of several). A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_client_id_by_uid(uids: impl IntoNames) -> Answer<Vec<ClientId>> {
    uid(uids).client_ids()
}

/// The clients of each of these uids; every asked uid is in the answer. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn batch_get_client_id_by_uid(uids: impl IntoNames) -> Answer<BTreeMap<String, Vec<ClientId>>> {
    let asked = owned(uids);
    let mut by_uid: BTreeMap<_, _> = asked.iter().map(|uid| (uid.clone(), Vec::new())).collect();
    map(Audience::Uids(asked).select(Fields::UID), |clients| {
        for found in clients {
            if let Some(list) = found.uid.and_then(|uid| by_uid.get_mut(&uid)) {
                list.push(found.client);
            }
        }
        by_uid
    })
}

/// Every uid that has a client, in order of name. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_uid_list() -> Answer<Vec<String>> {
    all().uids()
}

/// How many uids have a client. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_uid_count() -> Answer<u64> {
    all().count_uids()
}

/// The uids of the clients of a group (of several), in order of name. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_uid_list_by_group(groups: impl IntoNames) -> Answer<Vec<String>> {
    group(groups).uids()
}

/// How many uids the clients of a group (of several) have. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_uid_count_by_group(groups: impl IntoNames) -> Answer<u64> {
    group(groups).count_uids()
}

// === Clients ===

/// How many clients there are. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_client_count() -> Answer<u64> {
    all().count()
}

/// How many clients a group (several together) has. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_client_count_by_group(groups: impl IntoNames) -> Answer<u64> {
    group(groups).count()
}

/// How many clients each of these groups has; every asked group is in the answer. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn batch_get_client_id_count_by_group(groups: impl IntoNames) -> Answer<BTreeMap<String, u64>> {
    counts(owned(groups), Vec::new())
}

/// Every client. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_client_id_list() -> Answer<Vec<ClientId>> {
    all().client_ids()
}

/// The clients of a group (of several). A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_client_id_list_by_group(groups: impl IntoNames) -> Answer<Vec<ClientId>> {
    group(groups).client_ids()
}

/// Which of these clients are connected. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_online_client_ids(clients: impl IntoClients) -> Answer<Vec<ClientId>> {
    client(clients).client_ids()
}

/// The session of every client, to be read as a type with [`Session::read`]. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_client_sessions() -> Answer<BTreeMap<ClientId, Session>> {
    sessions(all())
}

/// The session of every client of a group (of several). A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_client_sessions_by_group(groups: impl IntoNames) -> Answer<BTreeMap<ClientId, Session>> {
    sessions(group(groups))
}

// === Groups ===

/// Every group that has a client, in order of name. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_group_id_list() -> Answer<Vec<String>> {
    all().groups()
}

/// The uids in each group. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_group_uid_list() -> Answer<BTreeMap<String, BTreeSet<String>>> {
    by_group(Fields::GROUPS | Fields::UID, |uids: &mut BTreeSet<String>, client| {
        uids.extend(client.uid.clone())
    })
}

/// How many uids are in each group. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_group_uid_count() -> Answer<BTreeMap<String, u64>> {
    map(get_all_group_uid_list(), |groups| {
        groups.into_iter().map(|(group, uids)| (group, uids.len() as u64)).collect()
    })
}

/// The clients in each group. A commit point.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_group_client_id_list() -> Answer<BTreeMap<String, Vec<ClientId>>> {
    by_group(Fields::GROUPS, |clients: &mut Vec<ClientId>, client| clients.push(client.client))
}

/// How many clients are in each group. A commit point. It asks for the groups, then for their sizes: a group that
/// empties in between is left out.
///
/// # Errors
/// A gateway did not answer in time.
pub fn get_all_group_client_id_count() -> Answer<BTreeMap<String, u64>> {
    let counted = match all().groups() {
        Ok(groups) => counts(groups, Vec::new()),
        Err(partial) => counts(partial.value, partial.missing),
    };
    map(counted, |mut counts| {
        counts.retain(|_, count| *count > 0);
        counts
    })
}

fn sessions(of: Audience) -> Answer<BTreeMap<ClientId, Session>> {
    map(of.select(Fields::SESSION), |clients| {
        clients.into_iter().map(|found| (found.client, found.session)).collect()
    })
}

fn counts(groups: Vec<String>, mut missing: Vec<u64>) -> Answer<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for some in groups.chunks(NAMES_MAX) {
        let (counted, silent) = host::count_by_group(some);
        sizes.extend(some.iter().cloned().zip(counted));
        missing.extend(silent.into_iter().filter(|gateway| !missing.contains(gateway)).collect::<Vec<_>>());
    }
    answer((sizes, missing))
}

fn by_group<M: Default>(
    fields: Fields,
    mut add: impl FnMut(&mut M, &ClientInfo),
) -> Answer<BTreeMap<String, M>> {
    map(all().select(fields), |clients| {
        let mut groups: BTreeMap<String, M> = BTreeMap::new();
        for found in &clients {
            for name in &found.groups {
                if !groups.contains_key(name) {
                    groups.insert(name.clone(), M::default());
                }
                if let Some(members) = groups.get_mut(name) {
                    add(members, found);
                }
            }
        }
        groups
    })
}
