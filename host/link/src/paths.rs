//! What the network does to the links of this process. Asked now and then by whoever watches a node; a link pays nothing for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{NodeName, Role};

use crate::link::WeakLink;

/// How a link over QUIC does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStats {
    /// No other link of this process has or had it.
    pub number: u64,
    /// What is at the other end.
    pub peer_role: Role,
    /// Its name.
    pub peer: NodeName,
    /// Round-trip time, smoothed.
    pub rtt: Duration,
    /// Bytes that may be on their way at a time.
    pub congestion_window_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that were lost.
    pub lost_packets: u64,
}

/// The links of the node with this name that are open, the oldest first. Those in memory have no path and are left out.
pub fn paths_of(own: &NodeName) -> Vec<PathStats> {
    let listed = LISTED.lock();
    listed.iter().filter(|link| link.own == *own).filter_map(Listed::stats).collect()
}

/// A link is open.
pub(crate) fn list(own: &NodeName, link: WeakLink) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut listed = LISTED.lock();
    // As many as there are links: those that have ended are let go of here.
    listed.retain(|listed| listed.link.upgrade().is_some_and(|link| link.close_error().is_none()));
    listed.push(Listed { own: own.clone(), number: NEXT.fetch_add(1, Ordering::Relaxed), link });
}

static LISTED: Mutex<Vec<Listed>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Listed {
    own: NodeName,
    number: u64,
    link: WeakLink,
}

impl Listed {
    fn stats(&self) -> Option<PathStats> {
        let link = self.link.upgrade()?;
        let path = link.path()?;
        Some(PathStats {
            number: self.number,
            peer_role: link.peer().role,
            peer: link.peer().name.clone(),
            rtt: path.rtt,
            congestion_window_bytes: path.cwnd,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
        })
    }
}
