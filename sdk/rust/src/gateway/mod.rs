//! Clients, uids, groups and sessions of the whole cluster: GatewayWorker's `Lib\Gateway`.
//!
//! The core is an [`Audience`] and its verbs: `gateway::all()`, `gateway::client(id)`, `gateway::uid("7")`,
//! `gateway::group(["a", "b"])`, then `.send("hi")`, `.close()`, `.count()` and so on, with `.except(id)` in between
//! where something is sent. The functions named as GatewayWorker's are short forms of these, for those who know them;
//! `API.md` has the whole table.
//!
//! **Commands** (send, close, bind, join, session writes) return nothing: they are buffered and leave together when the
//! callback returns, or at the next query. A client that is gone by then is skipped. A bad argument (an empty group
//! name, a payload over the limit, a session that is no JSON object) fails the turn, and nothing that has not left yet
//! is sent. Limits, by default: a payload 1 MiB, all commands of a turn 16 MiB, a uid or group name 1 to 255 bytes, a
//! session 64 KiB. What only the client's gateway knows (that it is in 1,024 groups already, that the session of another
//! slot's client becomes too large) does not fail the turn: the gateway refuses that one command, counts it and logs it.
//!
//! **Queries** are commit points: what the turn asked for so far leaves first, so a plugin reads its own writes, and
//! stays done even if the turn fails later. They wait for the gateways for at most the app's query time (5 s by
//! default); see [`Answer`](crate::Answer) for what happens when one does not answer.

mod commands;
mod queries;

pub use commands::*;
pub use queries::*;

use crate::Audience;
use crate::targets::{IntoClients, IntoNames};

/// Every client of the app, on every gateway.
#[must_use]
pub const fn all() -> Audience {
    Audience::All
}

/// One client or several.
#[must_use]
pub fn client(clients: impl IntoClients) -> Audience {
    Audience::of_clients(clients)
}

/// Every client that is bound to this uid, or to one of these.
#[must_use]
pub fn uid(uids: impl IntoNames) -> Audience {
    Audience::of_uids(uids)
}

/// Every client that is in this group, or in one of these.
#[must_use]
pub fn group(groups: impl IntoNames) -> Audience {
    Audience::of_groups(groups)
}
