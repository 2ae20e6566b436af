use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_base::{GatewayId, NodeName, Role};
use tidegate_link::{Link, Peer, memory_pair};
use tidegate_wire::control::Control;
use tidegate_wire::frame::Kind;
use tidegate_wire::{FrameError, RawFrame};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{Cluster, DEADLINE};

/// A gateway that is linked to one worker, reads everything and answers nothing, as one that hangs.
#[derive(Debug)]
pub struct SilentGateway {
    id: GatewayId,
    link: Link,
    asked: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl SilentGateway {
    /// Links a silent gateway to a worker. When this returns, every slot of the worker knows it.
    pub async fn join(cluster: &Cluster, worker: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0x0051_0000_0001);
        let id = GatewayId::new(NEXT.fetch_add(1, Ordering::Relaxed));
        let peer = |role, name: &str| Peer { role, name: NodeName::new(name).unwrap(), address: None };
        let (to_gateway, link) =
            memory_pair(peer(Role::Gateway, "silent"), peer(Role::Worker, &format!("worker-{worker}")));
        let node = cluster.workers[worker].as_ref().expect("a worker");
        assert_eq!(node.links[0].len(), 1, "a silent gateway has one link: use one shard");
        node.worker.add_link(to_gateway, 0);
        let (control, mut from_worker) = link.take_control().expect("its control channel");
        control.send(Control::Gateway { id }.to_bytes()).expect("a worker that listens");
        let slots = tokio::time::timeout(DEADLINE, from_worker.recv()).await.expect("the worker's slots");
        slots.expect("the worker's slots");
        let (told, asked) = mpsc::channel(1024);
        let lanes = link.clone();
        let task = tokio::spawn(async move {
            while let Ok((tx, mut rx)) = lanes.accept_lane().await {
                let told = told.clone();
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    while let Ok(more) = rx.recv().await {
                        bytes.extend_from_slice(&more);
                        for _ in 0..take_queries(&mut bytes).expect("whole frames") {
                            let _ = told.send(()).await;
                        }
                    }
                    drop(tx);
                });
            }
            drop((control, from_worker));
        });
        Self { id, link, asked, task }
    }

    /// Its id as clients' ids begin with it.
    pub fn id(&self) -> GatewayId {
        self.id
    }

    /// Waits until a slot asks it something.
    pub async fn asked(&mut self) {
        tokio::time::timeout(DEADLINE, self.asked.recv()).await.expect("a query").expect("a link");
    }

    /// Breaks its link.
    pub fn cut(self) {
        self.link.close(0, "cut");
        self.task.abort();
    }
}

/// Takes the whole frames out of `bytes`, and counts the queries among them.
fn take_queries(bytes: &mut Vec<u8>) -> Result<usize, FrameError> {
    let (mut at, mut queries) = (0, 0);
    while let Some((frame, used)) = RawFrame::split(&bytes[at..])? {
        queries += usize::from(frame.kind == Kind::Query);
        at += used;
    }
    bytes.drain(..at);
    Ok(queries)
}
