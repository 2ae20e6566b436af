//! The yardstick's event loop.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;

use super::Kind;
use crate::codec::{FrameError, Header, MESSAGE_BYTES_MAX, Opcode, apply_mask, put_frame};
use crate::handshake::{HEAD_BYTES_MAX, head_end, response};
use crate::{Error, Result};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SCRATCH_BYTES: usize = 256 * 1024;
// Unsent bytes of one connection; a client that reads slower than that is cut.
const PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A bound yardstick; [`Server::run`] serves.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    addr: SocketAddr,
    listener: TcpListener,
    poll: Poll,
    waker: Arc<Waker>,
    connections: Slab<Connection>,
    scratch: Box<[u8]>,
    /// Answers of one read (echo) or of one round of events (broadcast).
    out: Vec<u8>,
}

/// Ends [`Server::run`] from another thread.
#[derive(Clone, Debug)]
pub struct Stop {
    waker: Arc<Waker>,
}

impl Stop {
    /// Makes [`Server::run`] return soon.
    pub fn stop(&self) {
        // Fails only when the loop is gone, which is what is asked for.
        let _ = self.waker.wake();
    }
}

// An idle connection holds no heap memory: both buffers are empty between whole frames.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    agreed: bool,
    /// A request head or frame that has not come whole yet.
    carry: Vec<u8>,
    /// What the socket did not take; while there is some, nothing more is read.
    pending: Vec<u8>,
    /// Whether epoll reports room in the socket; asked for only while something is pending.
    watches_room: bool,
}

/// The connection is over; for whatever reason, it is closed.
struct Over;

impl Server {
    /// Binds `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Io`] when the address cannot be had.
    pub fn bind(kind: Kind, addr: SocketAddr) -> Result<Server> {
        let mut listener = TcpListener::bind(addr).map_err(Error::io("binding the yardstick's address"))?;
        let addr = listener.local_addr().map_err(Error::io("reading the yardstick's address"))?;
        let poll = Poll::new().map_err(Error::io("creating an epoll instance"))?;
        let registered = poll.registry().register(&mut listener, LISTENER, Interest::READABLE);
        registered.map_err(Error::io("watching the yardstick's port"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(Error::io("creating a waker"))?;
        Ok(Server {
            kind,
            addr,
            listener,
            poll,
            waker: Arc::new(waker),
            connections: Slab::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            out: Vec::new(),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A handle that ends [`Server::run`].
    pub fn stop_handle(&self) -> Stop {
        Stop { waker: Arc::clone(&self.waker) }
    }

    /// Serves until [`Stop::stop`].
    ///
    /// # Errors
    /// [`Error::Io`] if epoll fails.
    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::io("waiting for events"))?,
            }
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => self.accept(),
                    Token(index) => self.serve(index, event.is_writable(), event.is_read_closed()),
                }
            }
            if self.kind == Kind::Broadcast && !self.out.is_empty() {
                self.broadcast();
            }
        }
    }

    fn accept(&mut self) {
        // An error is WouldBlock, or one connection's own trouble, or no files left; the next event tries again.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let _ = stream.set_nodelay(true);
            let slot = self.connections.vacant_entry();
            if self.poll.registry().register(&mut stream, Token(slot.key()), Interest::READABLE).is_ok() {
                slot.insert(Connection::new(stream));
            }
        }
    }

    #[inline]
    fn serve(&mut self, index: usize, writable: bool, drain: bool) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let flushed = if writable { connection.flush() } else { Ok(()) };
        let read =
            flushed.and_then(|()| connection.receive(self.kind, &mut self.scratch, &mut self.out, drain));
        let watched = read.and_then(|()| connection.watch(self.poll.registry(), index));
        if watched.is_err() {
            self.connections.remove(index);
        }
    }

    fn broadcast(&mut self) {
        let (out, registry) = (&self.out, self.poll.registry());
        self.connections.retain(|index, connection| {
            !connection.agreed
                || connection.send(out).and_then(|()| connection.watch(registry, index)).is_ok()
        });
        self.out.clear();
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection { stream, agreed: false, carry: Vec::new(), pending: Vec::new(), watches_room: false }
    }

    /// Has epoll say when there is room again, while something is pending.
    #[inline]
    fn watch(&mut self, registry: &Registry, index: usize) -> Result<(), Over> {
        let wanted = !self.pending.is_empty();
        if wanted == self.watches_room {
            return Ok(());
        }
        self.watches_room = wanted;
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        registry.reregister(&mut self.stream, Token(index), interest).map_err(|_| Over)
    }

    /// Reads until the socket is empty (a short read says so), unless unsent answers hold it up.
    #[inline]
    fn receive(
        &mut self,
        kind: Kind,
        scratch: &mut [u8],
        out: &mut Vec<u8>,
        drain: bool,
    ) -> Result<(), Over> {
        while self.pending.is_empty() {
            let read = match self.stream.read(scratch) {
                Ok(0) => return Err(Over),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Over),
            };
            let handled = self.take(kind, &mut scratch[..read], out);
            if kind != Kind::Broadcast && !out.is_empty() {
                let sent = self.send(out);
                out.clear();
                sent?;
            }
            handled?;
            if read < scratch.len() && !drain {
                return Ok(());
            }
        }
        Ok(())
    }

    #[inline]
    fn take(&mut self, kind: Kind, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<(), Over> {
        if self.agreed && self.carry.is_empty() {
            let used = self.frames(kind, bytes, out)?;
            self.carry.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.carry.extend_from_slice(bytes);
        if !self.agreed && !self.agree()? {
            return Ok(());
        }
        let mut carry = std::mem::take(&mut self.carry);
        let used = self.frames(kind, &mut carry, out)?;
        if used < carry.len() {
            carry.drain(..used);
            self.carry = carry;
        }
        Ok(())
    }

    fn agree(&mut self) -> Result<bool, Over> {
        let Some(end) = head_end(&self.carry) else {
            return if self.carry.len() > HEAD_BYTES_MAX { Err(Over) } else { Ok(false) };
        };
        let answer = response(&self.carry[..end]).ok_or(Over)?;
        self.carry.drain(..end);
        self.agreed = true;
        self.send(&answer)?;
        Ok(true)
    }

    /// Handles the whole frames at the front of `bytes`, returns their length. Fragments are answered as they
    /// come, each with its own FIN and opcode.
    #[inline]
    fn frames(&mut self, kind: Kind, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<usize, Over> {
        let mut at = 0;
        while let Some(header) = Header::parse(&bytes[at..])? {
            let start = at + header.header_len;
            let Some(payload) = bytes.get_mut(start..start + header.payload_len) else { break };
            apply_mask(payload, header.mask.ok_or(Over)?);
            match header.opcode {
                Opcode::Text | Opcode::Binary | Opcode::Continuation if kind == Kind::Idle => {}
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    Header { mask: None, ..header }.put(out);
                    out.extend_from_slice(payload);
                }
                Opcode::Ping => self.control(kind, Opcode::Pong, payload, out)?,
                Opcode::Pong => {}
                Opcode::Close => {
                    self.control(kind, Opcode::Close, payload, out)?;
                    return Err(Over);
                }
            }
            at = start + header.payload_len;
        }
        Ok(at)
    }

    /// Answers behind what was answered before; a broadcaster's `out` is for all, so it answers at once.
    fn control(&mut self, kind: Kind, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Over> {
        if kind != Kind::Broadcast {
            put_frame(out, opcode, None, payload);
            return Ok(());
        }
        let mut frame = Vec::with_capacity(128);
        put_frame(&mut frame, opcode, None, payload);
        self.send(&frame)
    }

    /// Writes what the socket takes and keeps the rest.
    #[inline]
    fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        let mut sent = 0;
        while self.pending.is_empty() && sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
        self.pending.extend_from_slice(&bytes[sent..]);
        if self.pending.len() > PENDING_BYTES_MAX { Err(Over) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Over> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.send(&pending)
    }
}

impl From<FrameError> for Over {
    fn from(_: FrameError) -> Over {
        Over
    }
}

// A frame that the parser lets through always fits the read path's buffers.
const _: () = assert!(MESSAGE_BYTES_MAX < PENDING_BYTES_MAX);
