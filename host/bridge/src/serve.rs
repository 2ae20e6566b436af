//! Sockets: what comes in goes to the pure part, and what it asks for to the backend.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tidegate_base::{AppName, Command, Digest, GatewayId, Query};
use tidegate_push::{Answered, Outcome, PushError, Pushed, Pusher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::conversation::{Conversation, Taken};
use crate::doors::{Doors, Place, Places};
use crate::question::Question;
use crate::register::{self, Said};
use crate::{BridgeSettings, NO_ADDRESS, Warnings, counters, packet};

/// What a backend answers later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a bridge is a bridge to.
pub trait Backend: Send + Sync + 'static {
    /// Gives commands to the clients that one gateway has of an app; see [`Pusher::push_to`].
    fn push<'a>(
        &'a self,
        gateway: GatewayId,
        app: &'a AppName,
        commands: &'a [Command<'a>],
    ) -> Later<'a, Result<Pushed, PushError>>;

    /// Asks one gateway about its clients of an app; see [`Pusher::ask_at`].
    fn ask<'a>(
        &'a self,
        gateway: GatewayId,
        app: &'a AppName,
        query: &'a Query,
    ) -> Later<'a, Result<Answered, PushError>>;
}

impl Backend for Pusher {
    fn push<'a>(
        &'a self,
        gateway: GatewayId,
        app: &'a AppName,
        commands: &'a [Command<'a>],
    ) -> Later<'a, Result<Pushed, PushError>> {
        Box::pin(self.push_to(gateway, app, commands))
    }

    fn ask<'a>(
        &'a self,
        gateway: GatewayId,
        app: &'a AppName,
        query: &'a Query,
    ) -> Later<'a, Result<Answered, PushError>> {
        Box::pin(self.ask_at(gateway, app, query))
    }
}

/// What all connections share.
pub(crate) struct Shared {
    settings: BridgeSettings,
    secret: Digest,
    backend: Arc<dyn Backend>,
    places: watch::Sender<Arc<Places>>,
    connections: Arc<Semaphore>,
    requests: Semaphore,
    started: Instant,
    warnings: Warnings,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Shared {
    pub fn new(
        settings: BridgeSettings,
        backend: Arc<dyn Backend>,
        places: watch::Sender<Arc<Places>>,
    ) -> Self {
        Self {
            secret: Digest::of(settings.secret.expose().as_bytes()),
            connections: Arc::new(Semaphore::new(settings.connections_max)),
            requests: Semaphore::new(settings.requests_max),
            started: Instant::now(),
            warnings: Warnings::default(),
            settings,
            backend,
            places,
        }
    }

    /// Where gateways are from now on; who listens to the Register is told if it changes.
    pub fn list(&self, gateways: &[GatewayId]) {
        let mut places = Places::clone(&self.places.borrow());
        for trouble in places.list(gateways) {
            tracing::error!(app = %self.settings.app, "{trouble}");
        }
        self.places.send_if_modified(|known| {
            let differs = **known != places;
            if differs {
                *known = Arc::new(places);
            }
            differs
        });
    }

    fn warn(&self, peer: SocketAddr, what: &dyn std::fmt::Display) {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if self.warnings.may(now) {
            tracing::warn!(%peer, app = %self.settings.app, "from a GatewayClient: {what}");
        } else {
            tracing::debug!(%peer, app = %self.settings.app, "from a GatewayClient: {what}");
        }
    }

    /// Gives what was taken, and answers. None: the connection ends, since there is no answer.
    async fn carry_out(&self, taken: Taken<'_>, place: Option<Place>, peer: SocketAddr) -> Option<Vec<u8>> {
        for refusal in &taken.refused {
            counters::REFUSED.inc();
            self.warn(peer, refusal);
        }
        if !taken.commands.is_empty() {
            self.give(&taken.commands, place, peer).await;
        }
        match taken.question {
            None => Some(Vec::new()),
            Some(question) => self.answer(question, place, peer).await,
        }
    }

    /// There is no answer to a command, whatever becomes of it.
    async fn give(&self, commands: &[Command<'_>], place: Option<Place>, peer: SocketAddr) {
        let Some(place) = place else { return counters::NOBODY.add(commands.len() as u64) };
        counters::COMMANDS.add(commands.len() as u64);
        let _room = self.requests.acquire().await;
        match self.backend.push(place.gateway, &self.settings.app, commands).await {
            Ok(pushed) => {
                for outcome in &pushed.outcomes {
                    if let Outcome::Refused(why) = outcome {
                        counters::REFUSED.inc();
                        self.warn(peer, why);
                    }
                }
                if let Some(missing) = pushed.missing.first() {
                    counters::MISSING.inc();
                    self.warn(peer, &format!("gateway {} did not answer: {:?}", missing.name, missing.why));
                }
            }
            Err(error) => {
                counters::REFUSED.add(commands.len() as u64);
                self.warn(peer, &error);
            }
        }
    }

    async fn answer(&self, question: Question, place: Option<Place>, peer: SocketAddr) -> Option<Vec<u8>> {
        let answer = match (place, &question.query) {
            (Some(place), Some(query)) => {
                let _room = self.requests.acquire().await;
                match self.backend.ask(place.gateway, &self.settings.app, query).await {
                    Ok(answered) if answered.missing.is_empty() => Some(answered.answer),
                    Ok(answered) => {
                        counters::MISSING.inc();
                        let why = answered.refused.unwrap_or_else(|| "it did not answer in time".into());
                        self.warn(peer, &format!("gateway {}: {why}", place.gateway));
                        return None;
                    }
                    // It went just now, or has no such app: it has no clients of it.
                    Err(PushError::NoGateway | PushError::NoSuchApp(_)) => None,
                    Err(error) => {
                        self.warn(peer, &error);
                        return None;
                    }
                }
            }
            _ => None,
        };
        counters::QUESTIONS.inc();
        packet::answer(&question.form.serialize(place, answer.as_ref()))
    }
}

/// Listens, without blocking.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Listens wherever gateways may be.
pub(crate) fn listen_at(doors: Doors) -> io::Result<Vec<TcpListener>> {
    match doors {
        Doors::Ports { ip, first, last } => {
            (first..=last).map(|port| listen(SocketAddrV4::new(ip, port).into())).collect()
        }
        // One socket for every address: those of gateways that are gone are answered too, instead of refused.
        Doors::Network(network) => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            #[cfg(target_os = "linux")]
            if network.is_loopback() {
                // So that no other machine even sees the port. Who may not say so still checks addresses, see `at_door`.
                if let Err(error) = socket.bind_device(Some(b"lo")) {
                    tracing::debug!(%error, "the bridge's port is not tied to the loopback interface");
                }
            }
            socket.bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, network.port()).into())?;
            Ok(vec![socket.listen(BACKLOG)?])
        }
    }
}

/// Accepts and answers for ever. Its connections end with it.
pub(crate) async fn serve(shared: Arc<Shared>, register: TcpListener, doors: Vec<TcpListener>) {
    let mut accepting = JoinSet::new();
    accepting.spawn(accept(Arc::clone(&shared), register, at_register));
    for door in doors {
        accepting.spawn(accept(Arc::clone(&shared), door, at_door));
    }
    while accepting.join_next().await.is_some() {}
}

async fn accept<F>(
    shared: Arc<Shared>,
    listener: TcpListener,
    talk: fn(Arc<Shared>, TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut talking = JoinSet::new();
    loop {
        while talking.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                // After it has come: a port where nobody is holds no place of the others. Never closed.
                let Ok(place) = Arc::clone(&shared.connections).acquire_owned().await else { return };
                counters::CONNECTIONS.inc();
                // A socket without it works too.
                let _ = stream.set_nodelay(true);
                let talk = talk(Arc::clone(&shared), stream, peer);
                talking.spawn(async move {
                    // Who goes away is no error of ours.
                    if let Err(error) = talk.await {
                        tracing::debug!(%peer, %error, "a connection to a bridge ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to a bridge cannot be accepted");
                // Out of descriptors, most likely: it passes.
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Somebody who wants to know where gateways are.
async fn at_register(shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let reached = match stream.local_addr()?.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().unwrap_or(NO_ADDRESS),
    };
    let mut places = shared.places.subscribe();
    let (mut bytes, mut is_known) = (BytesMut::new(), false);
    // Until here the secret must have come, whatever else does.
    let first = tokio::time::Instant::now() + FIRST_WAIT;
    loop {
        while let Some((line, used)) = match register::split(&bytes) {
            Ok(found) => found,
            Err(bad) => return turn_away(&shared, stream, peer, bad).await,
        } {
            match register::read(line, &shared.secret) {
                Ok(Said::Ping) => {}
                Ok(Said::WorkerConnect) => {
                    is_known = true;
                    places.mark_changed();
                }
                Err(bad) => return turn_away(&shared, stream, peer, bad).await,
            }
            bytes.advance(used);
        }
        let until = if is_known { tokio::time::Instant::now() + shared.settings.idle_wait } else { first };
        tokio::select! {
            read = timeout_at(until, stream.read_buf(&mut bytes)) => match read {
                Ok(Ok(more)) if more > 0 => {}
                Ok(ended) => return ended.map(drop),
                Err(_) => return Ok(()),
            },
            changed = places.changed(), if is_known => {
                if changed.is_err() {
                    return Ok(());
                }
                let line = register::broadcast(&places.borrow_and_update().addresses(reached));
                send(&mut stream, &line, shared.settings.idle_wait).await?;
            }
        }
    }
}

async fn turn_away(
    shared: &Shared,
    mut stream: TcpStream,
    peer: SocketAddr,
    bad: register::BadLine,
) -> io::Result<()> {
    counters::ENDED.inc();
    shared.warn(peer, &bad);
    if bad == register::BadLine::Secret {
        return Ok(());
    }
    send(&mut stream, format!("{bad}\n").as_bytes(), FIRST_WAIT).await
}

/// Somebody who speaks to a gateway.
async fn at_door(shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(door) = stream.local_addr()? else { return Ok(()) };
    if !shared.places.borrow().has(door) {
        return Ok(());
    }
    let mut conversation = Conversation::new(shared.secret, shared.settings.frame_bytes_max);
    let mut bytes = BytesMut::new();
    // Until here something whole must have come.
    let mut until = tokio::time::Instant::now() + FIRST_WAIT;
    loop {
        loop {
            let place = shared.places.borrow().at(door);
            let taken = match conversation.take(&bytes, place) {
                Ok(taken) => taken,
                Err(ending) => {
                    counters::ENDED.inc();
                    shared.warn(peer, &ending);
                    return Ok(());
                }
            };
            let used = taken.bytes;
            if used == 0 {
                break;
            }
            let Some(answer) = shared.carry_out(taken, place, peer).await else { return Ok(()) };
            bytes.advance(used);
            send(&mut stream, &answer, shared.settings.idle_wait).await?;
            if conversation.is_known() {
                until = tokio::time::Instant::now() + shared.settings.idle_wait;
            }
        }
        if bytes.is_empty() && bytes.capacity() > KEPT_BYTES {
            bytes = BytesMut::new();
        }
        bytes.reserve(READ_BYTES);
        match timeout_at(until, stream.read_buf(&mut bytes)).await {
            Ok(Ok(more)) if more > 0 => {}
            Ok(ended) => return ended.map(drop),
            Err(_) => return Ok(()),
        }
    }
}

/// Writes all of it, if it is read within this time.
async fn send(stream: &mut TcpStream, bytes: &[u8], within: Duration) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    match tokio::time::timeout(within, stream.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// How long it may take to say the secret, as in the original.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const BACKLOG: u32 = 1024;
const READ_BYTES: usize = 4096;
/// A connection that has nothing to say keeps no more.
const KEPT_BYTES: usize = 64 * 1024;
