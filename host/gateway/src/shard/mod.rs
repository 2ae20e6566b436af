//! A shard of a gateway: one task that owns its listeners, its clients and the reading ends of its lanes.
//!
//! ```text
//!  epoll ---> sockets ---> codec ---> lanes (events)  ----> slots
//!  inbox ---> lanes (commands) ---> hub ---> batch  ---> sockets
//! ```
//!
//! Everything that is ready is handled first; then each lane is flushed once and each client is written once. Nothing
//! here waits, except in [`Shard::run`].

mod accept;
mod apply;
mod apps;
mod commands;
pub(crate) mod conn;
mod deadlines;
mod feed;
pub(crate) mod inbox;
mod lanes;
pub(crate) use self::lanes::tell;
mod lifecycle;
pub(crate) mod look;
mod outflow;
mod output;
#[cfg_attr(not(target_os = "linux"), path = "no_ring.rs")]
mod ring;
mod routing;
mod upgrade;

use std::future::Future;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use slab::Slab;
use tidegate_base::GatewayId;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::accept::Listener;
pub(crate) use self::accept::Serves;
use self::conn::{Conn, Phase};
use self::deadlines::{Deadlines, Due};
use self::inbox::{Inbox, RemoteOp, ShardMsg};
use self::lanes::LaneEnd;
use self::output::{Batch, Posted};
use self::ring::Ring;
use self::routing::Unrouted;
use crate::app::Lane;
use crate::counters;
use crate::pace::Clock;
use crate::registry::Registry;
use crate::settings::{ListenerSettings, Times};

/// Sockets looked at per round. Few enough that what the kernel and we keep of them is still in the cache when the
/// answers are written: with 64 an echo costs a tenth less than with 1024.
const EVENTS_PER_ROUND: usize = 64;
const SCRATCH_BYTES: usize = 64 * 1024;
/// Listeners have the tokens from here on, clients those below.
const LISTENER_TOKENS: usize = usize::MAX / 2;

/// Everything that one shard owns.
pub(crate) struct Shard {
    index: usize,
    gateway: GatewayId,
    registry: Arc<Registry>,
    /// The inboxes of all shards, its own included.
    inboxes: Arc<[Arc<Inbox>]>,
    poll: AsyncFd<mio::Poll>,
    ready: mio::Events,
    listeners: Slab<Listener>,
    conns: Slab<Conn>,
    by_client: FxHashMap<u32, usize>,
    next_client: u32,
    unrouted: Unrouted,
    lanes: Slab<LaneEnd>,
    batch: Batch,
    /// Writes many clients by one call; none where the kernel has no such thing.
    ring: Option<Ring>,
    may_ring: bool,
    posted: Vec<Posted>,
    taken: Vec<Option<usize>>,
    /// Lanes with events that are not handed to the link.
    dirty: Vec<Arc<Lane>>,
    /// Clients that may go on.
    resumed: Vec<usize>,
    /// Events of this round, counted once at its end: all shards of all gateways share that counter.
    events_sent: u64,
    /// What is left for the next round, so that nobody keeps the others waiting.
    left_over: Vec<LeftOver>,
    /// Operations for clients of other shards.
    remote: Vec<Vec<RemoteOp>>,
    deadlines: Deadlines,
    scratch: Box<[u8]>,
    clock: Clock,
    /// When this round began, on that clock.
    now: u64,
    resolved: Vec<u32>,
    stopping: bool,
    /// The shards of this gateway that may still have clients.
    serving: Arc<AtomicUsize>,
    /// It is stopping and has no clients: it is not one of those any more.
    emptied: bool,
}

/// Work that a round did not finish.
#[derive(Debug, Clone, Copy)]
enum LeftOver {
    /// A listener with more connections in its backlog.
    Accept(usize),
    /// A client with more to read.
    Read(u32),
}

/// What a shard needs to start.
pub(crate) struct ShardParts {
    pub index: usize,
    pub gateway: GatewayId,
    pub registry: Arc<Registry>,
    pub inboxes: Arc<[Arc<Inbox>]>,
    pub sockets: Vec<(Serves, ListenerSettings, std::net::TcpListener)>,
    /// Connections whose app is not known yet.
    pub unrouted_max: usize,
    /// Whether it may write by io_uring.
    pub io_uring: bool,
    pub times: Times,
    /// The number of shards, shared by them.
    pub serving: Arc<AtomicUsize>,
    pub clock: Clock,
}

impl Shard {
    /// A shard that listens. Call it on the runtime that will run it.
    pub fn new(parts: ShardParts) -> std::io::Result<Self> {
        let poll = mio::Poll::new()?;
        let lengths = [
            (Due::Handshake, parts.times.handshake),
            (Due::Decision, parts.times.decision),
            (Due::Slot, parts.times.slot),
            (Due::Linger, parts.times.linger),
            (Due::Accept, Duration::from_millis(100)),
            (Due::Pace, Duration::from_millis(10)),
            (Due::OutPace, Duration::from_millis(10)),
            (Due::AppEnd, parts.times.app_end),
        ];
        let shards = parts.inboxes.len();
        let mut shard = Self {
            index: parts.index,
            gateway: parts.gateway,
            registry: parts.registry,
            poll: readable(poll)?,
            ready: mio::Events::with_capacity(EVENTS_PER_ROUND),
            listeners: Slab::new(),
            conns: Slab::new(),
            by_client: FxHashMap::default(),
            next_client: (shards + parts.index) as u32,
            unrouted: Unrouted::new(parts.unrouted_max),
            lanes: Slab::new(),
            batch: Batch::default(),
            ring: None,
            may_ring: parts.io_uring,
            posted: Vec::new(),
            taken: Vec::new(),
            dirty: Vec::new(),
            resumed: Vec::new(),
            left_over: Vec::new(),
            remote: (0..shards).map(|_| Vec::new()).collect(),
            deadlines: Deadlines::new(lengths),
            scratch: vec![0; SCRATCH_BYTES].into(),
            clock: parts.clock,
            now: 0,
            resolved: Vec::new(),
            stopping: false,
            serving: parts.serving,
            emptied: false,
            events_sent: 0,
            inboxes: parts.inboxes,
        };
        for (serves, settings, socket) in parts.sockets {
            shard.listen(serves, settings, socket)?;
        }
        Ok(shard)
    }

    /// Serves until it is told to stop and every client is gone.
    pub async fn run(mut self) {
        // A ring belongs to the thread that makes it, which is this one only from here on.
        self.ring = self.may_ring.then(Ring::new).flatten();
        let sleep = tokio::time::sleep(Duration::from_secs(3600));
        tokio::pin!(sleep);
        let (mut messages, mut ready_lanes) = (Vec::new(), Vec::new());
        std::future::poll_fn(|cx| {
            let now = Instant::now();
            self.now = self.clock.at(now);
            let inbox = self.own_inbox().take(&mut messages, &mut ready_lanes, cx.waker());
            messages.drain(..).for_each(|message| self.on_message(message));
            ready_lanes.drain(..).for_each(|lane| self.read_lane(lane));
            self.go_on();
            let sockets = self.poll_sockets(cx);
            self.expire(now);
            self.flush();
            if self.stopping && self.is_done() {
                return Poll::Ready(());
            }
            if inbox || sockets || !self.left_over.is_empty() {
                // The slots of this thread run before the next round.
                cx.waker().wake_by_ref();
            } else if let Some(next) = self.deadlines.next() {
                sleep.as_mut().reset(next.into());
                if sleep.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            Poll::Pending
        })
        .await;
    }

    fn own_inbox(&self) -> Arc<Inbox> {
        self.inboxes.get(self.index).cloned().unwrap_or_default()
    }

    /// Handles the sockets that are ready. False: none is, and the task wakes when one will be.
    fn poll_sockets(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ready = std::mem::replace(&mut self.ready, mio::Events::with_capacity(0));
        // Only `Pending` leaves the waker behind, so an answer without sockets (those it was about are handled
        // already) must not end this.
        while let Poll::Ready(readiness) = self.poll.poll_read_ready_mut(cx) {
            let polled = readiness.and_then(|mut guard| {
                let polled = guard.get_inner_mut().poll(&mut ready, Some(Duration::ZERO));
                // Fewer than asked for: the next one makes the descriptor readable again.
                if polled.is_ok() && ready.iter().count() < EVENTS_PER_ROUND {
                    guard.clear_ready();
                }
                polled
            });
            match polled {
                Ok(()) if ready.is_empty() => {}
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "cannot wait for sockets");
                    break;
                }
            }
        }
        let any = !ready.is_empty();
        ready.iter().for_each(|event| self.on_socket(event));
        ready.clear();
        self.ready = ready;
        any
    }

    fn on_socket(&mut self, event: &mio::event::Event) {
        let token = event.token().0;
        if token >= LISTENER_TOKENS {
            return self.accept(token - LISTENER_TOKENS);
        }
        let Some(conn) = self.conns.get_mut(token) else { return };
        if event.is_error() {
            return self.end(token, tidegate_base::CloseReason::Network);
        }
        if event.is_writable() && !conn.out.is_empty() && !conn.is.held {
            self.write_more(token);
        }
        if event.is_read_closed() {
            self.on_read_closed(token);
        } else if event.is_readable() {
            self.on_readable(token);
        }
    }

    /// What the last round left over.
    fn go_on(&mut self) {
        for left in std::mem::take(&mut self.left_over) {
            match left {
                LeftOver::Accept(listener) => self.accept(listener),
                LeftOver::Read(client) => self.each(&[client], Self::pump),
            }
        }
    }

    fn on_message(&mut self, message: ShardMsg) {
        match message {
            ShardMsg::Lane(new) => self.add_lane(*new),
            ShardMsg::CommandLane(new) => self.add_command_lane(*new),
            ShardMsg::Bound(clients, lane) => self.on_bound(&clients, &lane),
            ShardMsg::Rebind(clients) => self.each(&clients, |shard, key| {
                if let Some(conn) = shard.conns.get_mut(key) {
                    conn.is.binding = false;
                }
                shard.pump(key);
            }),
            ShardMsg::Resume(clients) => self.each(&clients, |shard, key| shard.resume(key)),
            ShardMsg::LaneGone(lane, unread) => self.on_lane_gone(&lane, unread),
            ShardMsg::Exports(lane) => self.clients_of(&lane).into_iter().for_each(|key| self.pump(key)),
            ShardMsg::Listen(app, sockets) => self.listen_for(&app, sockets),
            ShardMsg::AppEnds(app, epoch) => self.end_app(&app, epoch),
            ShardMsg::AppIsOver(app) => self.lose_lanes(&app),
            ShardMsg::Ops(ops) => ops.into_iter().for_each(|op| self.apply_remote(op)),
            ShardMsg::Look(look) => self.look(*look),
            ShardMsg::Stop => self.stop(),
            // Looking at it was all that was wanted.
            ShardMsg::Emptied => {}
        }
    }

    fn each(&mut self, clients: &[u32], mut call: impl FnMut(&mut Self, usize)) {
        for client in clients {
            if let Some(key) = self.by_client.get(client).copied() {
                call(self, key);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((due, client, stamp)) = self.deadlines.pop(now) {
            match due {
                Due::Accept => self.accept(client as usize),
                Due::AppEnd => self.app_end_is_due(client, stamp),
                _ => {
                    if let Some(key) = self.by_client.get(&client).copied() {
                        self.on_due(due, key, stamp, now);
                    }
                }
            }
        }
    }

    /// Hands out everything that this round produced.
    fn flush(&mut self) {
        // Going on may produce events and output again, so it comes first.
        while let Some(key) = self.resumed.pop() {
            self.pump(key);
        }
        self.write_touched();
        self.batch.clear();
        // Writing may end clients, which sends events.
        while let Some(lane) = self.dirty.pop() {
            lane.flush();
        }
        if self.events_sent > 0 {
            counters::EVENTS.add(std::mem::take(&mut self.events_sent));
        }
        self.flush_remote();
    }

    /// Hands over what is for clients of other shards. Also ahead of any other message that must not overtake it.
    fn flush_remote(&mut self) {
        for (shard, ops) in self.remote.iter_mut().enumerate() {
            if let Some(inbox) = self.inboxes.get(shard).filter(|_| !ops.is_empty()) {
                inbox.push(ShardMsg::Ops(std::mem::take(ops)));
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        for listener in self.listeners.drain() {
            listener.close(self.poll.get_ref());
        }
        let keys: Vec<usize> = self.conns.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.say_goodbye(key);
        }
    }

    /// Nobody is left on any shard, since their events come back on the lanes of all, and every event is done.
    fn is_done(&mut self) -> bool {
        if !self.conns.is_empty() {
            return false;
        }
        self.leave();
        self.serving.load(Ordering::Acquire) == 0 && self.lanes.iter().all(|(_, lane)| lane.is_quiet())
    }

    /// It has no clients and gets none. The last shard to say so wakes the others, which waited for it.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.emptied, true) && self.serving.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inboxes.iter().for_each(|inbox| inbox.push(ShardMsg::Emptied));
        }
    }

    fn shard_of(&self, client: u32) -> usize {
        client as usize % self.inboxes.len().max(1)
    }

    fn mark_dirty(&mut self, lane: &Arc<Lane>) {
        if !lane.dirty.swap(true, Ordering::Relaxed) {
            self.dirty.push(lane.clone());
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // It was aborted or has panicked: the others must not wait for it.
        self.leave();
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("index", &self.index)
            .field("clients", &self.conns.len())
            .finish_non_exhaustive()
    }
}

/// The shard's own epoll, watched by the runtime's.
#[expect(unsafe_code, reason = "AsyncFd asks its caller to vouch for the descriptor")]
fn readable(poll: mio::Poll) -> std::io::Result<AsyncFd<mio::Poll>> {
    // SAFETY: `mio::Poll` owns its descriptor: it stays open and the same for as long as the AsyncFd owns the Poll,
    // and nothing here takes the Poll out of it or replaces it.
    unsafe { AsyncFd::register_with_interest(poll, Interest::READABLE) }.map_err(Into::into)
}

/// The client's address as seen by the kernel, or none if it is gone already.
fn local_addr(socket: &impl AsFd) -> Option<std::net::SocketAddr> {
    socket2::SockRef::from(socket).local_addr().ok()?.as_socket()
}

fn is_open(conn: &Conn) -> bool {
    matches!(conn.phase, Phase::Open)
}
