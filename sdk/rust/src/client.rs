//! One client: everything that it can be told or asked.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::close::Close;
use crate::session;
use crate::targets::IntoNames;
use crate::{Addresses, Answer, ClientId, Outgoing, Result, gateway, host, turn};

/// The client of the current callback: a [`ClientId`], with all that an id can do, and what only its own turn can read
/// (its session and addresses, without asking a gateway). Keep [`Client::id`] for later turns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(ClientId);

impl Client {
    /// The id, which is good for as long as the client is there.
    #[must_use]
    pub const fn id(self) -> ClientId {
        self.0
    }

    /// The session, with this turn's own writes; none if there is none. Read locally: no commit point.
    ///
    /// # Errors
    /// What the session holds is not a `T`. Or this is a `Client` kept from another turn: ask for its session with
    /// [`gateway::get_session`].
    pub fn session<T: DeserializeOwned>(self) -> Result<Option<T>> {
        if !turn::is_current(self.0) {
            crate::bail!(
                "{self} is not the client of this turn: read its session with gateway::get_session({self})"
            );
        }
        Ok(session::current().read()?)
    }

    /// Where the connection ends; none if this is a `Client` kept from another turn.
    #[must_use]
    pub fn addresses(self) -> Option<Addresses> {
        turn::is_current(self.0).then(host::addresses).flatten()
    }

    pub(crate) const fn of_turn(id: ClientId) -> Self {
        Self(id)
    }
}

impl Deref for Client {
    type Target = ClientId;

    fn deref(&self) -> &ClientId {
        &self.0
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Client {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl From<Client> for ClientId {
    fn from(client: Client) -> Self {
        client.0
    }
}

impl From<&Client> for ClientId {
    fn from(client: &Client) -> Self {
        client.0
    }
}

impl From<&Self> for ClientId {
    fn from(client: &Self) -> Self {
        *client
    }
}

impl PartialEq<ClientId> for Client {
    fn eq(&self, other: &ClientId) -> bool {
        self.0 == *other
    }
}

impl PartialEq<Client> for ClientId {
    fn eq(&self, other: &Client) -> bool {
        *self == other.0
    }
}

// === Commands: they leave when the turn ends well or at the next query, and report nothing back ===

impl ClientId {
    /// Sends a message.
    pub fn send<'a>(self, message: impl Into<Outgoing<'a>>) {
        host::send_to_client(self, message.into());
    }

    /// Sends a value as JSON text. A value that JSON can't hold fails the turn.
    pub fn send_json(self, value: &impl Serialize) {
        if let Some(text) = crate::audience::json(value) {
            self.send(text);
        }
    }

    /// Closes the connection: what is queued is sent first. The client gets on_close with the reason `Plugin`.
    pub fn close(self) {
        gateway::client(self).close();
    }

    /// Closes the connection with a farewell (text or bytes do) or with a [`Close`] that says more.
    pub fn close_with<'a>(self, close: impl Into<Close<'a>>) {
        gateway::client(self).close_with(close);
    }

    /// Drops the connection at once; what is queued is discarded.
    pub fn destroy(self) {
        gateway::client(self).destroy();
    }

    /// Binds the client to a uid. A client has one uid (a new one replaces it), a uid any number of clients.
    pub fn bind_uid(self, uid: impl IntoNames) {
        gateway::bind_uid(self, uid);
    }

    /// Takes the client's uid away.
    pub fn unbind_uid(self) {
        gateway::unbind_uid(self);
    }

    /// Puts the client into a group or several. It may be in 1,024 by default; its gateway refuses more of them, see
    /// [`gateway::join_group`].
    pub fn join_group(self, groups: impl IntoNames) {
        gateway::join_group(self, groups);
    }

    /// Takes the client out of a group or several.
    pub fn leave_group(self, groups: impl IntoNames) {
        gateway::leave_group(self, groups);
    }

    /// Replaces the session. The value must be a JSON object (a struct, a map) of at most 64 KiB, or the turn fails.
    pub fn set_session(self, session: &impl Serialize) {
        gateway::set_session(self, session);
    }

    /// Merges a JSON object into the session: objects merge key by key, anything else replaces. The gateway merges, so
    /// concurrent updates of different keys both hold.
    pub fn update_session(self, patch: &impl Serialize) {
        gateway::update_session(self, patch);
    }

    /// Removes the session.
    pub fn clear_session(self) {
        gateway::clear_session(self);
    }
}

// === Queries: each is a commit point, the turn's commands so far leave first ===

impl ClientId {
    /// Whether the client is connected. A commit point.
    ///
    /// # Errors
    /// Its gateway did not answer in time.
    pub fn is_online(self) -> Answer<bool> {
        gateway::is_online(self)
    }

    /// The client's uid. A commit point.
    ///
    /// # Errors
    /// Its gateway did not answer in time.
    pub fn uid(self) -> Answer<Option<String>> {
        gateway::get_uid_by_client_id(self)
    }
}
