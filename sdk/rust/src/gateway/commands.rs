use serde::Serialize;

use super::{all, client, group, uid};
use crate::close::Close;
use crate::targets::{IntoClients, IntoNames};
use crate::{ClientId, Outgoing, host, session, turn};

// === Sending ===

/// Sends to every client of the app. Less some of them: `gateway::all().except(ids).send(message)`; to some of them:
/// `gateway::client(ids).send(message)`.
pub fn send_to_all<'a>(message: impl Into<Outgoing<'a>>) {
    all().send(message);
}

/// Sends to one client. The cheapest way for one client.
pub fn send_to_client<'a>(client: impl Into<ClientId>, message: impl Into<Outgoing<'a>>) {
    host::send_to_client(client.into(), message.into());
}

/// Sends to the client of the current callback. Fails the turn if it has none.
pub fn send_to_current_client<'a>(message: impl Into<Outgoing<'a>>) {
    if let Some(id) = turn::current_id("send_to_current_client") {
        id.send(message);
    }
}

/// Sends to every client of a uid or of several. Nothing is sent to gateways that have none of them.
pub fn send_to_uid<'a>(uids: impl IntoNames, message: impl Into<Outgoing<'a>>) {
    uid(uids).send(message);
}

/// Sends to every client of a group or of several, one copy each. Less some of them:
/// `gateway::group(groups).except(ids).send(message)`.
pub fn send_to_group<'a>(groups: impl IntoNames, message: impl Into<Outgoing<'a>>) {
    group(groups).send(message);
}

// === Closing ===

/// Closes a client or several: what is queued for them is sent first. Each gets on_close with the reason `Plugin`.
pub fn close_client(clients: impl IntoClients) {
    client(clients).close();
}

/// Closes a client or several with a farewell (text or bytes do) or with a [`Close`] that says more.
pub fn close_client_with<'a>(clients: impl IntoClients, close: impl Into<Close<'a>>) {
    client(clients).close_with(close);
}

/// Closes the client of the current callback. Fails the turn if it has none.
pub fn close_current_client() {
    close_current_client_with(Close::new());
}

/// Closes the client of the current callback with a farewell or a [`Close`]. Fails the turn if it has none.
pub fn close_current_client_with<'a>(close: impl Into<Close<'a>>) {
    if let Some(id) = turn::current_id("close_current_client") {
        id.close_with(close);
    }
}

/// Drops the connection of a client or of several at once; what is queued for them is discarded.
pub fn destroy_client(clients: impl IntoClients) {
    client(clients).destroy();
}

/// Drops the connection of the current callback's client. Fails the turn if it has none.
pub fn destroy_current_client() {
    if let Some(id) = turn::current_id("destroy_current_client") {
        id.destroy();
    }
}

// === Uids and groups ===

/// Binds a client or several to a uid. A client has one uid (a new one replaces it), a uid any number of clients.
/// Exactly one uid, another number of them fails the turn.
pub fn bind_uid(clients: impl IntoClients, uid: impl IntoNames) {
    let mut uids = uid.into_names();
    let (Some(uid), None) = (uids.next(), uids.next()) else {
        return turn::fail("bind_uid: a client has exactly one uid; give one");
    };
    clients.into_clients().for_each(|id| host::bind(id, uid.as_ref()));
}

/// Takes the uid of a client or of several away.
pub fn unbind_uid(clients: impl IntoClients) {
    clients.into_clients().for_each(host::unbind);
}

/// Puts a client or several into a group or several.
///
/// A client may be in 1,024 groups by default (`groups_per_client_max`). How many it is in is known to its gateway alone,
/// so a group too many does not fail the turn: the gateway refuses that one, counts it
/// (`tidegate_gateway_commands_refused_total`) and logs the reason, at most once in 10 seconds for each app.
pub fn join_group(clients: impl IntoClients, groups: impl IntoNames) {
    each(clients, groups, host::join);
}

/// Takes a client or several out of a group or several.
pub fn leave_group(clients: impl IntoClients, groups: impl IntoNames) {
    each(clients, groups, host::leave);
}

/// Takes everybody out of a group or of several.
pub fn ungroup(groups: impl IntoNames) {
    groups.into_names().for_each(|name| host::disband(name.as_ref()));
}

// === Sessions ===

/// Replaces a client's session. The value must be a JSON object (a struct, a map), or the turn fails.
pub fn set_session(client: impl Into<ClientId>, session: &impl Serialize) {
    if let Some(json) = session::object("set_session", session) {
        host::set_session(client.into(), Some(&json));
    }
}

/// Merges a JSON object into a client's session, as PHP's `array_replace_recursive` does: objects merge key by key,
/// anything else replaces. The gateway merges, so concurrent updates of different keys both hold.
pub fn update_session(client: impl Into<ClientId>, patch: &impl Serialize) {
    if let Some(json) = session::object("update_session", patch) {
        host::update_session(client.into(), &json);
    }
}

/// Removes a client's session.
pub fn clear_session(client: impl Into<ClientId>) {
    host::set_session(client.into(), None);
}

fn each(clients: impl IntoClients, groups: impl IntoNames, verb: impl Fn(ClientId, &str)) {
    let groups: Vec<_> = groups.into_names().collect();
    for id in clients.into_clients() {
        groups.iter().for_each(|name| verb(id, name.as_ref()));
    }
}
