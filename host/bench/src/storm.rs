//! The connect storm: open, agree on WebSocket, close, again.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::codec::{Inbound, Incoming, Opcode};
use crate::dial::{Dialing, is_transient};
use crate::fleet::{Clock, seed, wait};
use crate::handshake::Keys;
use crate::loads::Tally;
use crate::measure::{Meter, Metered, Raw};
use crate::payload::put_masked;
use crate::procs::Probe;
use crate::url::Url;
use crate::{Error, Result};

const STALL_MAX: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(100);
// A port or a table is full now and then in a storm; a server that refuses this many in a row is down.
const REFUSED_IN_A_ROW_MAX: u32 = 100;
const NORMAL_CLOSURE: [u8; 2] = 1000u16.to_be_bytes();

/// Keeps `at_a_time` connections coming and going. A connect is counted when its server has closed it again, so
/// that the whole life is charged; its latency is from the SYN to the accepted handshake.
///
/// # Errors
/// [`Error::Stalled`] when nothing moves for 5 s; the last connection's error when 100 fail in a row; the probe's.
pub(crate) fn storm(
    url: &Url,
    at_a_time: u32,
    warm_up: Duration,
    span: Duration,
    probe: &Probe,
) -> Result<Raw> {
    let mut storm = Storm::new(url, at_a_time)?;
    let clock = storm.clock;
    storm.run(warm_up)?;
    storm.tally.open_window();
    let meter = Meter::start(probe, clock)?;
    storm.run(span)?;
    let Metered { seconds, server_cpu_ns, own_cpu_ns } = meter.stop()?;
    let Tally { counted, latency, lateness, faults } = storm.tally;
    Ok(Raw { counted, seconds, latency, lateness, faults, server_cpu_ns, own_cpu_ns })
}

struct Storm<'a> {
    url: &'a Url,
    poll: Poll,
    events: Events,
    ready: Vec<usize>,
    seats: Vec<Seat>,
    keys: Keys,
    clock: Clock,
    tally: Tally,
    moved_at: u64,
    refused_in_a_row: u32,
}

/// The connection at one place of the storm. A new one takes over the token: the old one left epoll with its socket.
enum Seat {
    Empty,
    Dialing(Dialing),
    Closing(Closing),
}

/// A WebSocket that was told to close.
struct Closing {
    stream: TcpStream,
    inbound: Inbound,
    out: Vec<u8>,
    sent: usize,
}

impl<'a> Storm<'a> {
    fn new(url: &'a Url, at_a_time: u32) -> Result<Storm<'a>> {
        let clock = Clock::start();
        Ok(Storm {
            url,
            poll: Poll::new().map_err(Error::io("creating an epoll instance"))?,
            events: Events::with_capacity(1024),
            ready: Vec::new(),
            seats: (0..at_a_time).map(|_| Seat::Empty).collect(),
            keys: Keys::new(seed()),
            clock,
            tally: Tally::new(),
            moved_at: clock.now(),
            refused_in_a_row: 0,
        })
    }

    fn run(&mut self, span: Duration) -> Result<()> {
        let until = self.clock.now() + span.as_nanos() as u64;
        while self.clock.now() < until {
            self.fill()?;
            wait(&mut self.poll, &mut self.events, TICK)?;
            self.ready.clear();
            self.ready.extend(self.events.iter().map(|event| event.token().0));
            for place in 0..self.ready.len() {
                self.moved_at = self.clock.now();
                self.advance(self.ready[place])?;
            }
            if self.clock.now() - self.moved_at > STALL_MAX.as_nanos() as u64 {
                return Err(Error::Stalled { what: "a connect storm", after: STALL_MAX });
            }
        }
        Ok(())
    }

    /// Begins a connection at every empty place.
    fn fill(&mut self) -> Result<()> {
        for index in 0..self.seats.len() {
            if !matches!(self.seats[index], Seat::Empty) {
                continue;
            }
            match Dialing::start(self.url, &mut self.keys, self.clock.now()) {
                Ok(mut dialing) => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let registered =
                        self.poll.registry().register(&mut dialing.stream, Token(index), interest);
                    registered.map_err(Error::io("watching a connection"))?;
                    self.seats[index] = Seat::Dialing(dialing);
                }
                Err(error) => self.refused(error)?,
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize) -> Result<()> {
        let Some(seat) = self.seats.get_mut(index) else { return Ok(()) };
        if let Seat::Dialing(dialing) = seat {
            match dialing.advance() {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(error) => {
                    *seat = Seat::Empty;
                    return self.refused(error);
                }
            }
        }
        *seat = match std::mem::replace(seat, Seat::Empty) {
            Seat::Dialing(dialing) => {
                self.tally.latency.record(self.clock.now().saturating_sub(dialing.started));
                Seat::Closing(Closing::new(dialing))
            }
            other => other,
        };
        let done = match seat {
            Seat::Closing(closing) => closing.advance(),
            _ => false,
        };
        if done {
            *seat = Seat::Empty;
            self.tally.counted += 1;
            self.refused_in_a_row = 0;
        }
        Ok(())
    }

    fn refused(&mut self, error: Error) -> Result<()> {
        self.refused_in_a_row += 1;
        if self.refused_in_a_row > REFUSED_IN_A_ROW_MAX {
            return Err(error);
        }
        self.tally.faults.close(|| error.to_string());
        Ok(())
    }
}

impl Closing {
    fn new(dialing: Dialing) -> Closing {
        let (stream, leftover) = dialing.finish();
        let mut closing = Closing { stream, inbound: Inbound::default(), out: Vec::new(), sent: 0 };
        put_masked(&mut closing.out, Opcode::Close, &NORMAL_CLOSURE);
        // A greeting may stand behind the answer; what it says does not matter here.
        let _ = closing.inbound.feed(&leftover, |_| ());
        closing
    }

    /// Whether the connection has ended: by the server's close frame, by the end of its stream, or by a reset.
    fn advance(&mut self) -> bool {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) => return !is_transient(&error),
            }
        }
        let mut chunk = [0; 4096];
        loop {
            let read = match self.stream.read(&mut chunk) {
                Ok(0) => return true,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return !is_transient(&error),
            };
            let mut closed = false;
            let fed = self
                .inbound
                .feed(&chunk[..read], |incoming| closed |= matches!(incoming, Incoming::Close(_)));
            if closed || fed.is_err() {
                return true;
            }
        }
    }
}
