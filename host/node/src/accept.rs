//! A gateway's links over QUIC: workers dial it, and so does a register with an HTTP API, to push.

use std::sync::Arc;

use parking_lot::RwLock;
use tidegate_base::Role;
use tidegate_gateway::Gateway;
use tidegate_link::{Endpoint, Incoming};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The gateway, until it stops.
pub(crate) type SharedGateway = Arc<RwLock<Option<Gateway>>>;

/// Handshakes at a time; who dials meanwhile is turned away and dials again.
const HANDSHAKES_MAX: usize = 256;
/// The code of a link that is closed because its peer has nothing to do with a gateway.
const NO_WORKER: u32 = tidegate_link::code::FIRST_FREE;

/// Accepts links until the endpoint is closed, and spreads them over the shards.
pub(crate) async fn accept(endpoint: Endpoint, gateway: SharedGateway, shards: Vec<Handle>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut next = (0..shards.len()).cycle();
    while let Some(incoming) = endpoint.accept().await {
        let (Ok(permit), Some(home)) = (Arc::clone(&room).try_acquire_owned(), next.next()) else {
            incoming.refuse();
            continue;
        };
        if let Some(shard) = shards.get(home) {
            // Awaited on the shard, the connection lives there.
            shard.spawn(admit(incoming, permit, Arc::clone(&gateway), home));
        }
    }
}

async fn admit(incoming: Incoming, permit: OwnedSemaphorePermit, gateway: SharedGateway, home: usize) {
    // One that fails was logged by the endpoint.
    let Ok(link) = incoming.accept().await else { return };
    drop(permit);
    let role = link.peer().role;
    if !matches!(role, Role::Worker | Role::Register) {
        let reason = format!(
            "only workers and registers dial a gateway, this is the certificate of {}: check [cluster] registers and addresses",
            link.peer()
        );
        tracing::warn!("{reason}");
        return link.close(NO_WORKER, &reason);
    }
    match gateway.read().as_ref() {
        // A register has no slots, and a worker gives no commands but by its slots: each by its certificate.
        Some(gateway) if role == Role::Register => gateway.add_pusher(link, home),
        Some(gateway) => gateway.add_link(link, home),
        None => link.close(0, "the gateway is stopping"),
    }
}
