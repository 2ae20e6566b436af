use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::misuse;
use crate::{
    Addresses, Audience, ClientId, ClientInfo, CloseInfo, CloseReason, Message, MessageKind, Session,
};

/// The largest session, in bytes of JSON.
pub(super) const SESSION_BYTES_MAX: usize = 64 * 1024;
/// How many groups a client may be in.
const GROUPS_MAX: usize = 1024;

/// A session.
pub(super) type Object = Map<String, Value>;

/// How a client was closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Why.
    pub why: CloseReason,
    /// The close code that the plugin gave; 0 if it did not close the client or destroyed it.
    pub code: u16,
    /// The close reason that the plugin gave.
    pub reason: String,
}

/// A client that is gone and whose on_close has not run yet.
pub(super) struct Closing {
    pub(super) id: ClientId,
    pub(super) info: CloseInfo,
    pub(super) session: Option<Object>,
}

/// One client, as its gateway knows it.
pub(super) struct FakeClient {
    pub(super) uid: Option<String>,
    pub(super) groups: BTreeSet<String>,
    pub(super) session: Option<Object>,
    pub(super) addresses: Addresses,
    pub(super) subprotocol: Option<String>,
    // Not let in yet: it has state, but cannot be sent to or found.
    pending: bool,
}

/// The clients of all gateways.
#[derive(Default)]
pub(super) struct Cluster {
    gateways: BTreeMap<u64, Gateway>,
    clients: BTreeMap<ClientId, FakeClient>,
    inboxes: BTreeMap<ClientId, Vec<Message>>,
    closed: BTreeMap<ClientId, Closed>,
}

#[derive(Default)]
struct Gateway {
    connections: u32,
    silent: bool,
}

impl Cluster {
    pub(super) fn add_client(&mut self, gateway: u64, protocol: &str) -> ClientId {
        let state = self.gateways.entry(gateway).or_default();
        state.connections += 1;
        let Some(id) = ClientId::new(gateway, state.connections) else {
            misuse(&format!("gateway {gateway:#x} has more than 48 bits"))
        };
        let addresses = Addresses {
            remote: format!("192.0.2.1:{}", 10_000 + state.connections % 50_000),
            local: "198.51.100.1:7272".into(),
            protocol: protocol.into(),
        };
        let client = FakeClient {
            uid: None,
            groups: BTreeSet::new(),
            session: None,
            addresses,
            subprotocol: None,
            pending: true,
        };
        self.clients.insert(id, client);
        id
    }

    pub(super) fn admit(&mut self, id: ClientId, subprotocol: Option<String>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.pending = false;
            client.subprotocol = subprotocol;
        }
    }

    pub(super) fn forget(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    pub(super) fn remove(&mut self, id: ClientId, reason: CloseReason) -> Option<Closing> {
        self.close(id, Closed { why: reason, code: 0, reason: String::new() })
    }

    pub(super) fn silence(&mut self, gateway: u64, silent: bool) {
        self.gateways.entry(gateway).or_default().silent = silent;
    }

    pub(super) fn set_addresses(&mut self, id: ClientId, addresses: Addresses) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.addresses = addresses;
        }
    }

    pub(super) fn client(&self, id: ClientId) -> Option<&FakeClient> {
        self.clients.get(&id)
    }

    pub(super) fn is_open(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| !client.pending)
    }

    pub(super) fn closed(&self, id: ClientId) -> Option<&Closed> {
        self.closed.get(&id)
    }

    pub(super) fn take_received(&mut self, id: ClientId) -> Vec<Message> {
        self.inboxes.get_mut(&id).map(std::mem::take).unwrap_or_default()
    }
}

// === Commands ===

impl Cluster {
    pub(super) fn meant(&self, to: &Audience, except: &[ClientId]) -> Vec<ClientId> {
        let fits = |id: &ClientId, client: &FakeClient| match to {
            Audience::All => true,
            Audience::Clients(ids) => ids.contains(id),
            Audience::Uids(uids) => client.uid.as_ref().is_some_and(|uid| uids.contains(uid)),
            Audience::Groups(groups) => groups.iter().any(|group| client.groups.contains(group)),
        };
        let meant = |(id, client): &(&ClientId, &FakeClient)| {
            !client.pending && fits(id, client) && !except.contains(id)
        };
        self.clients.iter().filter(meant).map(|(id, _)| *id).collect()
    }

    pub(super) fn send(&mut self, id: ClientId, kind: MessageKind, payload: &[u8]) {
        let message = match kind {
            MessageKind::Text => Message::Text(String::from_utf8_lossy(payload).into_owned()),
            MessageKind::Binary | MessageKind::Raw => Message::Binary(payload.to_vec()),
        };
        self.inboxes.entry(id).or_default().push(message);
    }

    pub(super) fn close(&mut self, id: ClientId, how: Closed) -> Option<Closing> {
        let client = self.clients.remove(&id)?;
        let info = CloseInfo {
            reason: how.why,
            uid: client.uid,
            groups: client.groups.into_iter().collect(),
            session: session(client.session.as_ref()),
        };
        self.closed.insert(id, how);
        Some(Closing { id, info, session: client.session })
    }

    pub(super) fn set_uid(&mut self, id: ClientId, uid: Option<String>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.uid = uid;
        }
    }

    pub(super) fn join(&mut self, id: ClientId, group: String) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        if client.groups.len() >= GROUPS_MAX && !client.groups.contains(&group) {
            return Err(format!("{id} is in {GROUPS_MAX} groups already and can't join {group:?}"));
        }
        client.groups.insert(group);
        Ok(())
    }

    pub(super) fn leave(&mut self, id: ClientId, group: &str) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.groups.remove(group);
        }
    }

    pub(super) fn disband(&mut self, group: &str) {
        for client in self.clients.values_mut() {
            client.groups.remove(group);
        }
    }

    pub(super) fn set_session(&mut self, id: ClientId, session: Option<Object>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.session = session;
        }
    }

    pub(super) fn update_session(&mut self, id: ClientId, patch: Object) -> Result<(), String> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        client.session = Some(merged(client.session.as_ref(), patch)?);
        Ok(())
    }
}

// === Queries ===

impl Cluster {
    /// The clients of an audience on the gateways that answer, and the gateways that do not.
    pub(super) fn query(&self, of: &Audience) -> (Vec<ClientInfo>, Vec<u64>) {
        let silent = |gateway| self.gateways.get(&gateway).is_some_and(|gateway| gateway.silent);
        let mut found = self.meant(of, &[]);
        found.retain(|id| !silent(id.gateway()));
        // Listed clients are asked of their own gateways, everything else of all of them.
        let asked: BTreeSet<u64> = match of {
            Audience::Clients(ids) => ids.iter().map(|id| id.gateway()).collect(),
            _ => self.gateways.keys().copied().collect(),
        };
        let missing = asked.into_iter().filter(|gateway| silent(*gateway)).collect();
        (found.into_iter().filter_map(|id| self.info(id)).collect(), missing)
    }

    fn info(&self, id: ClientId) -> Option<ClientInfo> {
        let client = self.clients.get(&id)?;
        Some(ClientInfo {
            client: id,
            uid: client.uid.clone(),
            groups: client.groups.iter().cloned().collect(),
            session: session(client.session.as_ref()),
        })
    }
}

/// A patch merged into a session, or why it can't be.
pub(super) fn merged(session: Option<&Object>, patch: Object) -> Result<Object, String> {
    let mut merged = session.cloned().unwrap_or_default();
    merge(&mut merged, patch);
    let bytes = Value::Object(merged.clone()).to_string().len();
    if bytes > SESSION_BYTES_MAX {
        return Err(format!("the merged session has {bytes} bytes, at most {SESSION_BYTES_MAX} are allowed"));
    }
    Ok(merged)
}

fn merge(into: &mut Object, patch: Object) {
    for (key, new) in patch {
        match (into.get_mut(&key), new) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, new) => {
                into.insert(key, new);
            }
        }
    }
}

fn session(object: Option<&Object>) -> Session {
    Session::of_host(object.map(|object| Value::Object(object.clone()).to_string()))
}
