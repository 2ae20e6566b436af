use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use quinn::{Connection, VarInt};
use tidegate_base::{NodeName, Role};

use crate::control::{ControlRx, ControlTx};
use crate::error::LinkError;
use crate::lane::{LaneRx, LaneTx};
use crate::memory::MemoryEnd;
use crate::settings::LinkSettings;
use crate::{paths, quic};

/// Who is at the other end of a link: over QUIC what its certificate says, checked against the cluster's CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is. Whoever accepts links checks that it may be here.
    pub role: Role,
    /// Its name.
    pub name: NodeName,
    /// Where its packets come from; none in memory.
    pub address: Option<SocketAddr>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)?;
        match self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

/// One end of one link between two nodes: a QUIC connection or one half of a [`memory_pair`](crate::memory_pair).
///
/// Clones are cheap and are the same end. The link closes when [`close`](Self::close) is called, when the peer closes
/// it, when it breaks, or when the last clone, lane and control half of one end are dropped.
#[derive(Debug, Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

impl Link {
    pub(crate) fn over_quic(
        own: &NodeName,
        peer: Peer,
        connection: Connection,
        control: (LaneTx, LaneRx),
        settings: &LinkSettings,
    ) -> Self {
        let carrier = Carrier::Quic { connection, closed_here: Mutex::new(None) };
        let link = Self::new(peer, carrier, control, settings);
        paths::list(own, WeakLink(Arc::downgrade(&link.inner)));
        link
    }

    pub(crate) fn in_memory(
        peer: Peer,
        end: Arc<MemoryEnd>,
        control: (LaneTx, LaneRx),
        settings: &LinkSettings,
    ) -> Self {
        Self::new(peer, Carrier::Memory(end), control, settings)
    }

    fn new(peer: Peer, carrier: Carrier, control: (LaneTx, LaneRx), settings: &LinkSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                peer,
                carrier,
                control: Mutex::new(Some(control)),
                lane_queue_bytes: settings.lane_queue_bytes,
                control_queue_bytes: settings.control_queue_bytes,
            }),
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.inner.peer
    }

    /// Opens a lane; waits while [`LinkSettings::max_lanes`](crate::LinkSettings::max_lanes) of the peer are open.
    ///
    /// Over QUIC the peer sees it only when something is sent on it, so the opener sends first; and the task that
    /// writes it runs on the tokio runtime from which this is called.
    ///
    /// # Errors
    /// The link is closed.
    pub async fn open_lane(&self) -> Result<(LaneTx, LaneRx), LinkError> {
        match &self.inner.carrier {
            Carrier::Memory(end) => end.open_lane().await,
            Carrier::Quic { connection, .. } => {
                let (send, recv) = connection.open_bi().await.map_err(|error| self.error(&error))?;
                Ok(quic::lane(send, recv, self.inner.lane_queue_bytes))
            }
        }
    }

    /// The next lane that the peer opened, in its order. Cancel-safe. As for [`open_lane`](Self::open_lane), the task
    /// that writes it runs on the runtime from which this is called.
    ///
    /// # Errors
    /// The link is closed.
    pub async fn accept_lane(&self) -> Result<(LaneTx, LaneRx), LinkError> {
        match &self.inner.carrier {
            Carrier::Memory(end) => end.accept_lane().await,
            Carrier::Quic { connection, .. } => {
                let (send, recv) = connection.accept_bi().await.map_err(|error| self.error(&error))?;
                Ok(quic::lane(send, recv, self.inner.lane_queue_bytes))
            }
        }
    }

    /// The link's one control channel, for whoever asks first at this end.
    pub fn take_control(&self) -> Option<(ControlTx, ControlRx)> {
        let (send, recv) = self.inner.control.lock().take()?;
        let bytes_max = self.inner.control_queue_bytes;
        Some((ControlTx::new(send, self.clone(), bytes_max), ControlRx::new(recv, self.clone())))
    }

    /// Waits for the link's end and says why it came. Any number of tasks may wait. Cancel-safe.
    pub async fn closed(&self) -> LinkError {
        match &self.inner.carrier {
            Carrier::Memory(end) => end.closed().await,
            Carrier::Quic { connection, .. } => {
                let error = connection.closed().await;
                self.error(&error)
            }
        }
    }

    /// Why the link has ended; none while it lives.
    pub fn close_error(&self) -> Option<LinkError> {
        match &self.inner.carrier {
            Carrier::Memory(end) => end.close_error(),
            Carrier::Quic { connection, .. } => connection.close_reason().map(|error| self.error(&error)),
        }
    }

    /// Closes the link and all of its lanes at once; bytes on their way may be lost. The peer hears the code (the
    /// caller's own from [`code::FIRST_FREE`](crate::code::FIRST_FREE) on) and the reason, of which QUIC carries about
    /// 1 KB. Only the first close counts.
    pub fn close(&self, code: u32, reason: &str) {
        match &self.inner.carrier {
            Carrier::Memory(end) => end.close(code, reason),
            Carrier::Quic { connection, closed_here } => {
                closed_here.lock().get_or_insert_with(|| (code, reason.into()));
                connection.close(VarInt::from_u32(code), reason.as_bytes());
            }
        }
    }

    /// What the network does to it; none in memory, or once it has ended.
    pub(crate) fn path(&self) -> Option<quinn::PathStats> {
        match &self.inner.carrier {
            Carrier::Quic { connection, .. } if connection.close_reason().is_none() => {
                Some(connection.stats().path)
            }
            Carrier::Quic { .. } | Carrier::Memory(_) => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn steal_control(&self) -> (LaneTx, LaneRx) {
        self.inner.control.lock().take().unwrap()
    }

    fn error(&self, error: &quinn::ConnectionError) -> LinkError {
        match &self.inner.carrier {
            Carrier::Quic { closed_here, .. } => quic::link_error(error, closed_here.lock().as_ref()),
            Carrier::Memory(_) => quic::link_error(error, None),
        }
    }
}

/// A link as somebody knows it who does not keep it open.
#[derive(Debug)]
pub(crate) struct WeakLink(Weak<Inner>);

impl WeakLink {
    /// The link, unless nobody has it any more.
    pub(crate) fn upgrade(&self) -> Option<Link> {
        self.0.upgrade().map(|inner| Link { inner })
    }
}

#[derive(Debug)]
struct Inner {
    peer: Peer,
    carrier: Carrier,
    control: Mutex<Option<(LaneTx, LaneRx)>>,
    lane_queue_bytes: usize,
    control_queue_bytes: usize,
}

#[derive(Debug)]
enum Carrier {
    Quic { connection: Connection, closed_here: Mutex<Option<(u32, Arc<str>)>> },
    Memory(Arc<MemoryEnd>),
}
