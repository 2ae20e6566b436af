//! One client connection.

use std::collections::VecDeque;
use std::sync::Arc;

use mio::net::TcpStream;
use tidegate_base::{Addresses, CloseInfo, CloseReason};
use tidegate_wire::{EventNo, Unfinished};

use super::output::{Mark, OutQueue};
use crate::app::{App, Lane};
use crate::pace::ClientPace;
use crate::protocol::Codec;
use crate::protocol::http::AcceptKey;

/// A client connection, owned by its shard. Idle, it holds no buffer.
#[derive(Debug)]
pub(crate) struct Conn {
    /// None once the connection has ended.
    pub stream: Option<TcpStream>,
    pub client: u32,
    /// None: it is not known yet which one it is for.
    pub app: Option<Arc<App>>,
    pub listener: usize,
    pub addresses: Addresses,
    pub phase: Phase,
    pub codec: Codec,
    /// Bytes that were read and are not decoded: the beginning of a frame, or whole frames that wait for credit.
    pub partial: Vec<u8>,
    /// How many bytes `partial` must have to get further.
    pub needed: usize,
    pub out: OutQueue,
    pub mark: Mark,
    pub lane: Option<Arc<Lane>>,
    /// Events that a leaving slot did not read; they go first.
    pub stash: Option<VecDeque<Unfinished>>,
    /// The on-close event that is still to be sent.
    pub farewell: Option<Box<CloseInfo>>,
    /// The weight of its events that are not done.
    pub in_flight: u32,
    /// Heartbeats in a row without a word.
    pub misses: u8,
    /// The event that its session was last sent with.
    pub session_event: Option<EventNo>,
    /// When it came, on the gateway's clock.
    pub since_s: u32,
    /// Counts its waits, so that the deadline of an earlier one is not taken for one of the wait of now.
    pub waits: u16,
    /// How fast it speaks, and is spoken to.
    pub pace: ClientPace,
    pub is: Flags,
}

/// Where a connection is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its HTTP head comes.
    Head,
    /// Its upgrade request waits for a slot, and then for the plugin's decision.
    Upgrading { key: AcceptKey, head_bytes: usize, asked: bool },
    /// Events and messages flow.
    Open,
    /// The last bytes go out; what it still says is not listened to.
    Closing(CloseReason),
    /// The connection has ended.
    Ended,
}

/// What else is true of a connection.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, one byte each")]
pub(crate) struct Flags {
    /// The socket may have bytes.
    pub readable: bool,
    /// It is on its lane's list of clients that wait for credit.
    pub paused: bool,
    /// It has as many events under way as one client may.
    pub capped: bool,
    /// It, or all clients of its app, spoke too fast: it is not read for a while.
    pub throttled: bool,
    /// It, or all clients of its app, got too much: what is for it is queued for a while.
    pub held: bool,
    /// It waits for a slot or for a lane to open.
    pub binding: bool,
    /// A deadline runs for what it waits for now.
    pub timed: bool,
    /// Its end of the connection is shut: reading goes on until there is nothing.
    pub ending: bool,
    /// Its slot knows it.
    pub attached: bool,
    /// Some slot has had an event of it: on-close is owed.
    pub seen: bool,
    /// on-connect is owed.
    pub connect: bool,
    /// It ever had a session.
    pub session: bool,
    /// Its slot has not seen the newest session.
    pub session_news: bool,
    /// It said something since the last heartbeat.
    pub heard: bool,
    /// Our side of the connection is shut.
    pub shut: bool,
}

impl Conn {
    /// Whether what is for it can be noted in the batch. Else it is queued: nothing may overtake what waits already.
    #[inline]
    pub fn may_note(&self) -> bool {
        self.out.is_empty() && !self.is.held
    }

    /// What it waited for is there, or it waits for something else now.
    pub fn end_wait(&mut self) {
        self.waits = self.waits.wrapping_add(1);
        self.is.timed = false;
    }
}
