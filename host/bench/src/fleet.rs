//! Many WebSocket clients on one epoll loop.
//!
//! Edge-triggered: a read that does not fill the buffer has emptied the socket, so there is no second one. Each
//! read is answered with at most one write. Nothing is allocated per message: reads go into one shared buffer,
//! and a client's output buffer keeps its capacity.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::codec::{Inbound, Incoming, Opcode};
use crate::dial::{Dialing, is_transient};
use crate::handshake::Keys;
use crate::loads::{Load, Outbox, Quiet};
use crate::options::AT_A_TIME;
use crate::payload::put_masked;
use crate::stats::Nanos;
use crate::url::Url;
use crate::{Error, Result};

const SCRATCH_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
// Unsent bytes of one client beyond which an open loop or a broadcast adds no more.
const BACKLOG_BYTES_MAX: usize = 4 * 1024 * 1024;
const DIAL_STALL_MAX: Duration = Duration::from_secs(10);
const TIMER: Token = Token(usize::MAX);

/// Nanoseconds since a common beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { began: Instant::now() }
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

/// The clients and their loop. Open them with [`Fleet::open`], then [`Fleet::kick`] a load once and
/// [`Fleet::turn`] until done. Client `i` of a load is the i-th connection opened.
#[derive(Debug)]
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    dirty: Vec<usize>,
    scratch: Box<[u8]>,
    clock: Clock,
    timer: Option<OwnedFd>,
    spin: bool,
}

#[derive(Debug)]
struct Client {
    /// `None` once it has ended.
    stream: Option<TcpStream>,
    inbound: Inbound,
    out: Vec<u8>,
    sent: usize,
    dirty: bool,
}

/// Why a connection ended, in words for the report.
type Ended = String;

impl Fleet {
    /// Opens `count` connections, 64 at a time. Returns the time each took, TCP and handshake.
    ///
    /// # Errors
    /// The first connection that is refused, breaks or is closed again ends it all.
    pub(crate) fn open(url: &Url, count: u32, clock: Clock) -> Result<(Fleet, Nanos)> {
        let mut fleet = Fleet {
            poll: Poll::new().map_err(Error::io("creating an epoll instance"))?,
            events: Events::with_capacity(EVENTS_MAX),
            clients: Vec::with_capacity(count as usize),
            dirty: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            clock,
            timer: None,
            spin: false,
        };
        let took = fleet.dial_all(url, count)?;
        Ok((fleet, took))
    }

    /// Whether to busy-wait instead of sleeping.
    pub(crate) fn set_spin(&mut self, spin: bool) {
        self.spin = spin;
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Has every client send this text, ahead of what [`Fleet::kick`] has it send.
    pub(crate) fn greet(&mut self, text: &str) {
        for client in &mut self.clients {
            put_masked(&mut client.out, Opcode::Text, text.as_bytes());
        }
    }

    /// Lets every client send what it begins with.
    pub(crate) fn kick<L: Load>(&mut self, load: &mut L) {
        for (index, client) in self.clients.iter_mut().enumerate() {
            let now = self.clock.now();
            if client.stream.is_some() {
                load.refill(index, now, &mut client.out);
                let flushed = client.flush();
                client.settle(index, flushed, load);
            }
        }
        self.pump(load);
    }

    /// Waits for events, at most until `until`, and handles them.
    ///
    /// # Errors
    /// [`Error::Io`] if epoll fails, [`Error::Closed`] if too few connections are left for the load.
    pub(crate) fn turn<L: Load>(&mut self, load: &mut L, until: u64) -> Result<()> {
        let timeout = self.timeout(load.next_due(), until)?;
        wait(&mut self.poll, &mut self.events, timeout)?;
        for event in &self.events {
            let index = event.token().0;
            let Some(client) = self.clients.get_mut(index) else { continue };
            let mut result = Ok(());
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let drain = event.is_read_closed() || event.is_error();
                result = client.receive(index, load, &mut self.scratch, self.clock, drain);
            }
            // Also after a broken read: a pong or a closing frame may still get out.
            let flushed = client.flush();
            client.settle(index, result.and(flushed), load);
        }
        self.pump(load);
        if load.is_alive() {
            return Ok(());
        }
        let faults = &load.tally().faults;
        Err(Error::Closed { closed: faults.closed, reason: faults.first_close.clone().unwrap_or_default() })
    }

    fn pump<L: Load>(&mut self, load: &mut L) {
        let now = self.clock.now();
        load.pump(now, &mut Clients { clients: &mut self.clients, dirty: &mut self.dirty });
        for index in self.dirty.drain(..) {
            let client = &mut self.clients[index];
            client.dirty = false;
            let flushed = client.flush();
            client.settle(index, flushed, load);
        }
    }

    /// How long to sleep in epoll. Its milliseconds are too coarse for an open loop, so a timer wakes it at `due`.
    fn timeout(&mut self, due: Option<u64>, until: u64) -> Result<Duration> {
        let now = self.clock.now();
        let wake = due.unwrap_or(until).min(until);
        if self.spin || wake <= now {
            return Ok(Duration::ZERO);
        }
        if let Some(due) = due.filter(|due| *due < until) {
            self.arm(due - now)?;
        }
        Ok(Duration::from_nanos(until - now))
    }

    fn arm(&mut self, nanos: u64) -> Result<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => none.insert(new_timer(&self.poll)?),
        };
        let value =
            Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)
            .map_err(Error::io("arming a timer"))?;
        Ok(())
    }

    fn dial_all(&mut self, url: &Url, count: u32) -> Result<Nanos> {
        let mut dialer = Dialer { keys: Keys::new(seed()), quiet: Quiet::new(count), took: Nanos::new() };
        let mut dialing: Vec<Option<Dialing>> = Vec::with_capacity(count as usize);
        let mut opened = 0;
        while opened < count as usize {
            while dialing.len() < (opened + AT_A_TIME as usize).min(count as usize) {
                dialing.push(Some(self.dial(url, &mut dialer.keys, dialing.len())?));
                self.clients.push(Client::empty());
            }
            wait(&mut self.poll, &mut self.events, DIAL_STALL_MAX)?;
            if self.events.is_empty() {
                return Err(Error::Stalled { what: "opening connections", after: DIAL_STALL_MAX });
            }
            for event in &self.events {
                let index = event.token().0;
                let Some(client) = self.clients.get_mut(index) else { continue };
                opened += usize::from(dialer.advance(&mut dialing[index], client, self.clock)?);
                if client.stream.is_some() {
                    let received =
                        client.receive(index, &mut dialer.quiet, &mut self.scratch, self.clock, false);
                    let ended = received.and(client.flush());
                    ended.map_err(|reason| Error::Closed { closed: 1, reason })?;
                }
            }
        }
        Ok(dialer.took)
    }

    fn dial(&self, url: &Url, keys: &mut Keys, index: usize) -> Result<Dialing> {
        let mut dialing = Dialing::start(url, keys, self.clock.now())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut dialing.stream, Token(index), interest);
        registered.map_err(Error::io("watching a connection"))?;
        Ok(dialing)
    }
}

/// A seed for handshake keys that differs from run to run.
pub(crate) fn seed() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (now.tv_nsec as u64) << 32 ^ now.tv_sec as u64 ^ u64::from(std::process::id()) << 20
}

/// Polls; a signal counts as an event-less wake-up.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, timeout: Duration) -> Result<()> {
    match poll.poll(events, Some(timeout)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other.map_err(Error::io("waiting for events")),
    }
}

fn new_timer(poll: &Poll) -> Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)
        .map_err(Error::io("creating a timer"))?;
    // Edge-triggered and armed anew each time, so that it need not be read.
    let registered = poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE);
    registered.map_err(Error::io("watching a timer"))?;
    Ok(timer)
}

struct Dialer {
    keys: Keys,
    quiet: Quiet,
    took: Nanos,
}

impl Dialer {
    /// Turns a finished `dialing` into `client`; `true` if it did.
    fn advance(&mut self, dialing: &mut Option<Dialing>, client: &mut Client, clock: Clock) -> Result<bool> {
        let ready = match dialing {
            Some(dialing) => dialing.advance()?,
            None => false,
        };
        let Some(done) = dialing.take_if(|_| ready) else { return Ok(false) };
        self.took.record(clock.now().saturating_sub(done.started));
        let (stream, leftover) = done.finish();
        client.stream = Some(stream);
        client
            .take(&leftover, |_| self.quiet.tally().faults.foreign += 1)
            .map_err(|reason| Error::Closed { closed: 1, reason })?;
        Ok(true)
    }
}

impl Client {
    fn empty() -> Client {
        Client { stream: None, inbound: Inbound::default(), out: Vec::new(), sent: 0, dirty: false }
    }

    /// Reads until the socket is empty, hands on what came, and lets the load answer each read.
    /// With `drain` it reads on after a short read, because the end of the stream is waiting behind the data.
    #[inline]
    fn receive<L: Load>(
        &mut self,
        index: usize,
        load: &mut L,
        scratch: &mut [u8],
        clock: Clock,
        drain: bool,
    ) -> Result<(), Ended> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let read = match stream.read(scratch) {
                Ok(0) => return Err("the stream ended".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            };
            let now = clock.now();
            self.take(&scratch[..read], |payload| load.on_message(index, payload, now))?;
            load.refill(index, now, &mut self.out);
            if read < scratch.len() && !drain {
                return Ok(());
            }
        }
    }

    /// Handles received bytes: messages go to `sink`, pings are answered, a close ends the connection.
    #[inline]
    fn take(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), Ended> {
        let mut closed = None;
        let Client { inbound, out, .. } = self;
        let fed = inbound.feed(bytes, |incoming| match incoming {
            Incoming::Message(payload) => sink(payload),
            Incoming::Ping(payload) => put_masked(out, Opcode::Pong, payload),
            Incoming::Close(code) => closed = Some(code),
        });
        fed.map_err(|error| format!("the server sent {error}"))?;
        match closed {
            None => Ok(()),
            Some(Some(code)) => Err(format!("close code {code}")),
            Some(None) => Err("a close frame without a code".to_owned()),
        }
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Ended> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.sent < self.out.len() {
            match stream.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_transient(&error) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Buries the client if `result` says that its connection ended.
    #[inline]
    fn settle<L: Load>(&mut self, index: usize, result: Result<(), Ended>, load: &mut L) {
        let Err(reason) = result else { return };
        if self.stream.take().is_some() {
            *self = Client { dirty: self.dirty, ..Client::empty() };
            load.tally().faults.close(|| reason);
            load.on_closed(index);
        }
    }
}

/// The fleet's clients as a load's outbox.
struct Clients<'a> {
    clients: &'a mut [Client],
    dirty: &'a mut Vec<usize>,
}

impl Outbox for Clients<'_> {
    #[inline]
    fn buffer(&mut self, index: usize) -> Option<&mut Vec<u8>> {
        let client = self.clients.get_mut(index)?;
        if client.stream.is_none() || client.out.len() - client.sent > BACKLOG_BYTES_MAX {
            return None;
        }
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(index);
        }
        Some(&mut client.out)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Blocking};

    use super::*;
    use crate::codec::{Header, apply_mask, put_frame};
    use crate::handshake::{head_end, response};
    use crate::loads::Echo;
    use crate::options::MessageKind;

    /// Reads one frame of the client, unmasked.
    fn read_frame(stream: &mut Blocking) -> (Opcode, Vec<u8>) {
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        let header = loop {
            stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
            if let Some(header) = Header::parse(&bytes).unwrap() {
                break header;
            }
        };
        let mut payload = vec![0; header.payload_len];
        stream.read_exact(&mut payload).unwrap();
        apply_mask(&mut payload, header.mask.unwrap());
        (header.opcode, payload)
    }

    /// Agrees, pings before the client could speak, echoes two messages in fragments cut at every byte with a ping
    /// between, and goes away.
    fn awkward_server(listener: TcpListener) {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while head_end(&head).is_none() {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut answer = response(&head).unwrap();
        put_frame(&mut answer, Opcode::Text, None, b"welcome");
        put_frame(&mut answer, Opcode::Ping, None, b"early");
        stream.write_all(&answer).unwrap();
        assert_eq!(read_frame(&mut stream), (Opcode::Pong, b"early".to_vec()));
        for _ in 0..2 {
            let (opcode, payload) = read_frame(&mut stream);
            let (first, rest) = payload.split_at(20);
            let fragment = |fin, opcode, payload: &[u8]| {
                let mut frame = Vec::new();
                Header { fin, opcode, mask: None, header_len: 0, payload_len: payload.len() }.put(&mut frame);
                [&frame, payload].concat()
            };
            let parts = [
                fragment(false, opcode, first),
                fragment(true, Opcode::Ping, b"late"),
                fragment(true, Opcode::Continuation, rest),
            ];
            parts.concat().chunks(1).for_each(|byte| stream.write_all(byte).unwrap());
            assert_eq!(read_frame(&mut stream), (Opcode::Pong, b"late".to_vec()));
        }
        let mut close = Vec::new();
        put_frame(&mut close, Opcode::Close, None, &1001u16.to_be_bytes());
        stream.write_all(&close).unwrap();
    }

    #[test]
    fn fragments_pings_and_single_bytes_are_handled_and_a_close_is_reported() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
        let server = std::thread::spawn(move || awkward_server(listener));
        let (mut fleet, took) = Fleet::open(&url, 1, Clock::start()).unwrap();
        assert!(took.summary().is_some());
        let mut load = Echo::new(0, 1, 1, 64, MessageKind::Text);
        fleet.kick(&mut load);
        let closed = loop {
            if let Err(error) = fleet.turn(&mut load, fleet.clock().now() + 10_000_000_000) {
                break error.to_string();
            }
        };
        server.join().unwrap();
        assert!(closed.contains("close code 1001"), "{closed}");
        let tally = load.tally();
        assert_eq!((tally.counted, tally.faults.closed, tally.faults.wrong), (2, 1, 0));
    }
}
