//! The turn that runs: whose it is and how it fails.

use std::cell::Cell;

use crate::{Client, ClientId, Error, host};

thread_local! {
    static CURRENT: Cell<Option<ClientId>> = const { Cell::new(None) };
}

/// The client whose event the current callback handles; none in a turn without a client (start, timer, stop).
#[must_use]
pub fn current_client() -> Option<Client> {
    CURRENT.get().map(Client::of_turn)
}

/// Fails the current turn: what has not left yet is dropped when the callback returns. Returning an error from the
/// callback does the same and is the usual way. The reason is cut at 4 KiB.
pub fn fail(reason: &str) {
    host::fail(reason);
}

/// Runs a callback in the turn of `client`; an error fails the turn and gives `None`.
pub(crate) fn run<T>(client: Option<ClientId>, callback: impl FnOnce() -> Result<T, Error>) -> Option<T> {
    CURRENT.set(client);
    let result = callback();
    CURRENT.set(None);
    result.map_err(|error| fail(&format!("{error:#}"))).ok()
}

pub(crate) fn current_id(what: &str) -> Option<ClientId> {
    let id = CURRENT.get();
    if id.is_none() {
        fail(&format!("{what}: this turn has no current client; name one with gateway::client(id)"));
    }
    id
}

pub(crate) fn is_current(id: ClientId) -> bool {
    CURRENT.get() == Some(id)
}
