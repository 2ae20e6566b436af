//! A worker's links over QUIC: one for each gateway and shard, for as long as the gateway is listed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tidegate_base::Role;
use tidegate_link::redial::Redial;
use tidegate_worker::Worker;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::endpoints::Endpoints;
use crate::gateways::Gateways;
use crate::membership::View;

/// The worker, until it stops.
pub(crate) type SharedWorker = Arc<RwLock<Option<Worker>>>;

/// Follows the directory: dials gateways that come, lets go of those that went.
#[derive(Debug)]
pub(crate) struct Dialer {
    shared: Arc<Shared>,
    following: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    worker: SharedWorker,
    /// One per shard.
    shards: Vec<Endpoints>,
    gateways: Mutex<Gateways>,
    /// Something about a link has changed.
    changed: Notify,
    dialing: Mutex<HashMap<(SocketAddr, usize), JoinHandle<()>>>,
    /// Counts up when the directory has changed.
    listing: watch::Sender<u64>,
}

impl Dialer {
    /// Starts on the current runtime.
    pub fn start(worker: SharedWorker, shards: Vec<Endpoints>, view: watch::Receiver<View>) -> Self {
        let shared = Arc::new(Shared {
            worker,
            shards,
            gateways: Mutex::default(),
            changed: Notify::new(),
            dialing: Mutex::default(),
            listing: watch::Sender::new(0),
        });
        let following = tokio::spawn(follow(Arc::clone(&shared), view));
        Self { shared, following }
    }

    /// Whether every listed gateway is linked to every shard.
    pub fn all_linked(&self) -> bool {
        let shards = u32::try_from(self.shared.shards.len()).unwrap_or(u32::MAX);
        self.shared.gateways.lock().all_linked(shards)
    }

    /// Dials no more, and closes every link.
    pub async fn stop(&self) {
        self.following.abort();
        let dialing = std::mem::take(&mut *self.shared.dialing.lock());
        dialing.values().for_each(JoinHandle::abort);
        for shard in &self.shared.shards {
            shard.close().await;
        }
    }
}

async fn follow(shared: Arc<Shared>, mut view: watch::Receiver<View>) {
    shared.list(&view.borrow_and_update().clone());
    loop {
        let due = shared.gateways.lock().timeout();
        tokio::select! {
            changed = view.changed() => {
                if changed.is_err() {
                    return;
                }
                let view = view.borrow_and_update().clone();
                shared.list(&view);
            }
            () = shared.changed.notified() => {}
            () = until(due) => shared.declare_lost(),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn list(self: &Arc<Self>, view: &View) {
        let of = |node: &tidegate_wire::control::NodeInfo| {
            (node.role == Role::Gateway).then_some(())?;
            node.address.zip(node.gateway)
        };
        let listed: Vec<_> = view.nodes.iter().filter_map(of).collect();
        let mut gateways = self.gateways.lock();
        gateways.list(Instant::now(), view.register_lives, &listed);
        let mut dialing = self.dialing.lock();
        for address in gateways.wanted() {
            for (shard, endpoints) in self.shards.iter().enumerate() {
                dialing.entry((address, shard)).or_insert_with(|| {
                    let task = dial(Arc::downgrade(self), address, shard, self.listing.subscribe());
                    endpoints.handle().spawn(task)
                });
            }
        }
        drop((gateways, dialing));
        self.listing.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether a dial is over because its gateway is not listed. If so it is forgotten at the same moment, so that a
    /// gateway that returns is dialed anew.
    fn leaves(&self, address: SocketAddr, shard: usize) -> bool {
        let gateways = self.gateways.lock();
        let leaves = !gateways.is_wanted(address);
        if leaves {
            self.dialing.lock().remove(&(address, shard));
        }
        leaves
    }

    fn declare_lost(&self) {
        let lost = self.gateways.lock().poll(Instant::now());
        let worker = self.worker.read();
        for id in lost {
            tracing::warn!(gateway = %id, "a gateway is lost: its clients are closed");
            if let Some(worker) = worker.as_ref() {
                worker.gateway_gone(id);
            }
        }
    }
}

/// Keeps the link of one shard to one gateway, until the gateway is not listed and the link is down.
async fn dial(shared: Weak<Shared>, address: SocketAddr, shard: usize, mut listing: watch::Receiver<u64>) {
    let endpoint = {
        let Some(shared) = shared.upgrade() else { return };
        shared.shards.get(shard).map(|endpoints| endpoints.to_dial(address))
    };
    let mut redial = match endpoint {
        Some(Ok(endpoint)) => Redial::new(endpoint, address, Role::Gateway),
        Some(Err(error)) => {
            tracing::error!(%address, "a gateway cannot be dialed until the directory changes: {error}");
            if let Some(shared) = shared.upgrade() {
                shared.dialing.lock().remove(&(address, shard));
            }
            return;
        }
        None => return,
    };
    loop {
        let link = tokio::select! {
            // A gateway that left is not dialed once more.
            biased;
            () = until_unlisted(&shared, address, shard, &mut listing) => return,
            link = redial.connected() => link,
        };
        {
            let Some(shared) = shared.upgrade() else { return };
            let worker = shared.worker.read();
            let Some(worker) = worker.as_ref() else { return };
            worker.add_link(link.clone(), shard);
            shared.gateways.lock().link_up(address);
            shared.changed.notify_one();
        }
        let end = link.closed().await;
        drop(link);
        let Some(shared) = shared.upgrade() else { return };
        {
            let mut gateways = shared.gateways.lock();
            if tidegate_worker::is_stopped(&end) {
                gateways.stopped(address);
            }
            gateways.link_down(Instant::now(), address);
        }
        shared.changed.notify_one();
    }
}

async fn until_unlisted(
    shared: &Weak<Shared>,
    address: SocketAddr,
    shard: usize,
    listing: &mut watch::Receiver<u64>,
) {
    loop {
        listing.borrow_and_update();
        if shared.upgrade().is_none_or(|shared| shared.leaves(address, shard)) {
            return;
        }
        if listing.changed().await.is_err() {
            return;
        }
    }
}
