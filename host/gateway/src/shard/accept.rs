//! Listeners.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use tidegate_base::{Addresses, Protocol};

use super::conn::{Conn, Flags, Phase};
use super::deadlines::Due;
use super::look::seconds;
use super::{LISTENER_TOKENS, LeftOver, Shard, local_addr};
use crate::app::App;
use crate::counters;
use crate::pace::ClientPace;
use crate::protocol::Codec;
use crate::settings::ListenerSettings;

/// Connections taken per round, so that a storm of them does not starve those who are in. What is left waits for the
/// next round, which follows at once.
const ACCEPTS_PER_ROUND: usize = 256;

/// Whose clients connect to a port.
#[derive(Debug, Clone)]
pub(crate) enum Serves {
    /// Those of one app.
    App(Arc<App>),
    /// Those of every app that has a route; which one is known when the request is there.
    Routes,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub serves: Serves,
    pub settings: ListenerSettings,
    /// Where clients connect to; none if that is any address of this machine.
    local: Option<SocketAddr>,
    socket: TcpListener,
}

impl Listener {
    pub fn new(
        serves: Serves,
        settings: ListenerSettings,
        socket: std::net::TcpListener,
        poll: &mio::Poll,
        token: mio::Token,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Accepted sockets have it from their listener: one call less for each.
        socket2::SockRef::from(&socket).set_tcp_nodelay(true)?;
        let local = socket.local_addr().ok().filter(|local| !local.ip().is_unspecified());
        let mut socket = TcpListener::from_std(socket);
        poll.registry().register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { serves, settings, local, socket })
    }

    /// Stops listening.
    pub fn close(mut self, poll: &mio::Poll) {
        // Closing the descriptor deregisters it as well.
        let _ = poll.registry().deregister(&mut self.socket);
    }
}

impl Shard {
    /// Listens.
    pub(super) fn listen(
        &mut self,
        serves: Serves,
        settings: ListenerSettings,
        socket: std::net::TcpListener,
    ) -> io::Result<()> {
        let entry = self.listeners.vacant_entry();
        let token = mio::Token(LISTENER_TOKENS + entry.key());
        entry.insert(Listener::new(serves, settings, socket, self.poll.get_ref(), token)?);
        Ok(())
    }

    /// Takes connections until none waits, or enough for now.
    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = self.listeners.get(number) else { return };
            if let Serves::App(app) = &listener.serves
                && !app.pace.admits(&app.limits.rates, self.now)
            {
                // They wait in the backlog.
                counters::ACCEPTS_THROTTLED.inc();
                return self.deadlines.set(Due::Accept, number as u32, 0, Instant::now());
            }
            match listener.socket.accept() {
                Ok((stream, remote)) => self.admit(number, stream, remote),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The client went away while it waited.
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; raise the limit of open files (ulimit -n)?");
                    return self.deadlines.set(Due::Accept, number as u32, 0, Instant::now());
                }
            }
        }
        // More may wait in the backlog, and the kernel will not say so again.
        self.left_over.push(LeftOver::Accept(number));
    }

    fn admit(&mut self, number: usize, mut stream: TcpStream, remote: SocketAddr) {
        let Some(listener) = self.listeners.get(number) else { return };
        let (serves, protocol, local) = (listener.serves.clone(), listener.settings.protocol, listener.local);
        let Some(next_client) = self.next_client.checked_add(self.inboxes.len() as u32) else {
            tracing::error!("connection numbers are used up: restart this gateway, it gets a fresh id");
            return counters::REFUSED.inc();
        };
        let app = match serves {
            Serves::App(app) if !self.takes(&app, protocol) => return counters::REFUSED.inc(),
            Serves::App(app) => Some(app),
            Serves::Routes => {
                self.make_room();
                None
            }
        };
        let client = std::mem::replace(&mut self.next_client, next_client);
        let entry = self.conns.vacant_entry();
        let key = entry.key();
        let both = Interest::READABLE | Interest::WRITABLE;
        let ready =
            self.poll.get_ref().registry().register(&mut stream, mio::Token(key), both).and_then(|()| {
                local.or_else(|| local_addr(&stream)).ok_or_else(|| io::ErrorKind::NotConnected.into())
            });
        let Ok(local) = ready else {
            app.iter().for_each(|app| {
                app.exit();
            });
            return;
        };
        match &app {
            Some(app) => app.count(self.index, |counts| &counts.opened, 1),
            None => self.unrouted.add(client),
        }
        entry.insert(Conn {
            stream: Some(stream),
            client,
            app,
            listener: number,
            addresses: Addresses { remote, local, protocol },
            phase: Phase::Head,
            codec: Codec::new(protocol),
            partial: Vec::new(),
            needed: 1,
            out: Default::default(),
            mark: Default::default(),
            lane: None,
            stash: None,
            farewell: None,
            in_flight: 0,
            misses: 0,
            session_event: None,
            since_s: seconds(self.now),
            waits: 0,
            pace: ClientPace::default(),
            is: Flags::default(),
        });
        self.by_client.insert(client, key);
        counters::ACCEPTED.inc();
        if protocol == Protocol::Ws {
            // The request is read when the socket says that it is there.
            self.deadlines.set(Due::Handshake, client, 0, Instant::now());
        } else {
            self.open(key);
        }
    }

    /// Whether an app takes one more connection on a port of its own; it is counted then.
    fn takes(&self, app: &App, protocol: Protocol) -> bool {
        // Who speaks HTTP is told why it is not served.
        if protocol != Protocol::Ws && app.refuses().is_some() {
            return false;
        }
        if !app.admit() {
            return false;
        }
        app.pace.admitted(&app.limits.rates, self.now);
        true
    }
}
