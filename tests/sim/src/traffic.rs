//! Events and their answers: clients and gateways on one side, slots on the other, lanes between them, and a ledger of
//! what has really happened.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod ledger;
pub(crate) mod outbox;
pub(crate) mod slot;
pub(crate) mod stamp;
