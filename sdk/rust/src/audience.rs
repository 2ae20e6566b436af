//! Who is meant, and the verbs on them.

use serde::Serialize;

use crate::answer::answer;
use crate::close::Close;
use crate::targets::{IntoClients, IntoNames, owned};
use crate::{Answer, Client, ClientId, Outgoing, Session, host};

/// Who is meant: a set of clients, so a client that fits twice is meant once. A client, uid or group that does not
/// exist adds nobody. At most 65,536 entries.
///
/// Made by [`gateway::all`](crate::gateway::all), [`client`](crate::gateway::client), [`uid`](crate::gateway::uid) and
/// [`group`](crate::gateway::group), each of which takes one or several; a [`ClientId`] or [`Client`] converts into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Every client of the app, on every gateway.
    All,
    /// These clients.
    Clients(Vec<ClientId>),
    /// Every client that is bound to one of these uids.
    Uids(Vec<String>),
    /// Every client that is in one of these groups.
    Groups(Vec<String>),
}

// === Commands: they leave when the turn ends well or at the next query, and report nothing back ===

impl Audience {
    /// The audience less some clients, one or several.
    pub fn except(self, clients: impl IntoClients) -> Selection {
        Selection { to: self, except: clients.into_clients().collect() }
    }

    /// Sends one copy to each.
    pub fn send<'a>(self, message: impl Into<Outgoing<'a>>) {
        Selection::from(self).send(message);
    }

    /// Sends a value as JSON text. A value that JSON can't hold fails the turn.
    pub fn send_json(self, value: &impl Serialize) {
        Selection::from(self).send_json(value);
    }

    /// Closes them: what is queued for them is sent first. Each gets on_close with the reason `Plugin`.
    pub fn close(self) {
        Selection::from(self).close();
    }

    /// Closes them with a farewell (text or bytes do) or with a [`Close`] that says more.
    pub fn close_with<'a>(self, close: impl Into<Close<'a>>) {
        Selection::from(self).close_with(close);
    }

    /// Drops their connections at once; what is queued for them is discarded.
    pub fn destroy(self) {
        Selection::from(self).destroy();
    }
}

// === Queries: each is a commit point, the turn's commands so far leave first ===

impl Audience {
    /// How many clients there are. A commit point.
    ///
    /// # Errors
    /// A gateway did not answer in time.
    pub fn count(self) -> Answer<u64> {
        answer(host::count_clients(self))
    }

    /// How many different uids the clients have. A commit point.
    ///
    /// # Errors
    /// A gateway did not answer in time.
    pub fn count_uids(self) -> Answer<u64> {
        answer(host::count_uids(self))
    }

    /// The clients. Of listed clients, those that are online. A commit point.
    ///
    /// # Errors
    /// A gateway did not answer in time.
    pub fn client_ids(self) -> Answer<Vec<ClientId>> {
        answer(host::list_clients(self))
    }

    /// The different uids of the clients, in order of name. A commit point.
    ///
    /// # Errors
    /// A gateway did not answer in time.
    pub fn uids(self) -> Answer<Vec<String>> {
        answer(host::list_uids(self))
    }

    /// The different groups that the clients are in, in order of name. A commit point.
    ///
    /// # Errors
    /// A gateway did not answer in time.
    pub fn groups(self) -> Answer<Vec<String>> {
        answer(host::list_groups(self))
    }

    /// The named parts of each client. A commit point.
    ///
    /// # Errors
    /// A gateway did not answer in time.
    pub fn select(self, fields: Fields) -> Answer<Vec<ClientInfo>> {
        answer(host::select(self, fields))
    }
}

impl From<ClientId> for Audience {
    fn from(client: ClientId) -> Self {
        Self::Clients(vec![client])
    }
}

impl From<Client> for Audience {
    fn from(client: Client) -> Self {
        Self::from(client.id())
    }
}

impl Audience {
    pub(crate) fn of_clients(clients: impl IntoClients) -> Self {
        Self::Clients(clients.into_clients().collect())
    }

    pub(crate) fn of_uids(uids: impl IntoNames) -> Self {
        Self::Uids(owned(uids))
    }

    pub(crate) fn of_groups(groups: impl IntoNames) -> Self {
        Self::Groups(owned(groups))
    }
}

/// An [`Audience`] less some clients: what can be done to it, but not asked of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "nothing is sent until a verb such as send() is called"]
pub struct Selection {
    to: Audience,
    except: Vec<ClientId>,
}

impl Selection {
    /// Less these clients, too.
    pub fn except(mut self, clients: impl IntoClients) -> Self {
        self.except.extend(clients.into_clients());
        self
    }

    /// Sends one copy to each.
    pub fn send<'a>(self, message: impl Into<Outgoing<'a>>) {
        let message = message.into();
        if let (Audience::Clients(clients), true) = (&self.to, self.except.is_empty())
            && let [client] = clients.as_slice()
        {
            return host::send_to_client(*client, message);
        }
        host::send(self.to, self.except, message);
    }

    /// Sends a value as JSON text. A value that JSON can't hold fails the turn.
    pub fn send_json(self, value: &impl Serialize) {
        if let Some(text) = json(value) {
            self.send(text);
        }
    }

    /// Closes them: what is queued for them is sent first. Each gets on_close with the reason `Plugin`.
    pub fn close(self) {
        self.close_with(Close::new());
    }

    /// Closes them with a farewell (text or bytes do) or with a [`Close`] that says more.
    pub fn close_with<'a>(self, close: impl Into<Close<'a>>) {
        host::close(self.to, self.except, close.into());
    }

    /// Drops their connections at once; what is queued for them is discarded.
    pub fn destroy(self) {
        host::destroy(self.to, self.except);
    }
}

impl From<Audience> for Selection {
    fn from(to: Audience) -> Self {
        Self { to, except: Vec::new() }
    }
}

/// The parts of a client that [`Audience::select`] reads: add up what is wanted, as in `Fields::UID | Fields::SESSION`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fields {
    pub(crate) uid: bool,
    pub(crate) groups: bool,
    pub(crate) session: bool,
}

impl Fields {
    /// Just who they are.
    pub const NONE: Self = Self { uid: false, groups: false, session: false };
    /// The uid.
    pub const UID: Self = Self { uid: true, ..Self::NONE };
    /// The groups.
    pub const GROUPS: Self = Self { groups: true, ..Self::NONE };
    /// The session.
    pub const SESSION: Self = Self { session: true, ..Self::NONE };
    /// Everything.
    pub const ALL: Self = Self { uid: true, groups: true, session: true };
}

impl std::ops::BitOr for Fields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            uid: self.uid || other.uid,
            groups: self.groups || other.groups,
            session: self.session || other.session,
        }
    }
}

/// A client as [`Audience::select`] reports it. A part that was not asked for is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientInfo {
    /// Who.
    pub client: ClientId,
    /// Its uid.
    pub uid: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its session.
    pub session: Session,
}

pub(crate) fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value)
        .map_err(|error| {
            crate::turn::fail(&format!("send_json: the value cannot be written as JSON: {error}"))
        })
        .ok()
}
