use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_base::Role;

use crate::certs::{Identity, role_host};
use crate::code;
use crate::error::LinkError;
use crate::handshake::Handshake;
use crate::link::Link;
use crate::refusal::Muffler;
use crate::settings::LinkSettings;
use crate::tls;
use crate::udp::UdpSocket;

/// A node's UDP socket: dials other nodes, and accepts them unless the node is an operator. Clones share it.
///
/// Its packets are received on the runtime on which it was bound; each connection is driven on the runtime on which it
/// was dialed or accepted.
#[derive(Debug, Clone)]
pub struct Endpoint {
    socket: quinn::Endpoint,
    shared: Arc<Shared>,
}

impl Endpoint {
    /// Binds a socket; port 0 lets the system choose. An IPv6 address that is unspecified takes IPv4 too.
    ///
    /// # Errors
    /// The address cannot be had, the identity or a setting cannot be used, or there is no tokio runtime.
    pub fn bind(addr: SocketAddr, identity: &Identity, settings: &LinkSettings) -> Result<Self, LinkError> {
        tokio::runtime::Handle::try_current().map_err(|_| LinkError::NoRuntime)?;
        let transport = settings.transport()?;
        if identity.not_after() < SystemTime::now() {
            tracing::warn!(
                "the certificate of {} has expired, other nodes will refuse it; make a new one with `tidegate cert node`",
                identity.uri()
            );
        }
        let server = match identity.uri().role() {
            // Nobody dials an operator, and its certificate could not answer.
            Role::Operator => None,
            Role::Register | Role::Gateway | Role::Worker => Some(server_config(identity, &transport)?),
        };
        let failed =
            |error: std::io::Error| LinkError::Bind { address: addr, reason: error.to_string().into() };
        let socket = bind_udp(addr, settings.socket_buffer_bytes).map_err(failed)?;
        let config = endpoint_config(identity, socket.local_addr().map_err(failed)?)?;
        let socket = Arc::new(UdpSocket::new(socket).map_err(failed)?);
        let socket =
            quinn::Endpoint::new_with_abstract_socket(config, server.clone(), socket, Arc::new(TokioRuntime))
                .map_err(failed)?;
        let shared = Shared {
            identity: identity.clone(),
            settings: settings.clone(),
            transport,
            server,
            muffler: Mutex::default(),
        };
        Ok(Self { socket, shared: Arc::new(shared) })
    }

    /// The address with the port that the system chose.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.socket.local_addr().map_err(|error| LinkError::Lost(error.to_string().into()))
    }

    /// The next node that dials; none once the endpoint is closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        let dialed = self.socket.accept().await?;
        Some(Incoming { dialed, shared: Arc::clone(&self.shared) })
    }

    /// Dials a node that must have the role. The connection is driven on the runtime on which this is called.
    ///
    /// # Errors
    /// Nobody answers in [`LinkSettings::handshake_timeout`], one of the two nodes refuses the other (the error says
    /// who, why and how to mend it), or the endpoint is closed.
    pub async fn connect(&self, addr: SocketAddr, role: Role) -> Result<Link, LinkError> {
        let shared = &*self.shared;
        let (crypto, verdict) = tls::client(&shared.identity.current(), role)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::clone(&shared.transport));
        let dialing = self
            .socket
            .connect_with(config, addr, role_host(role))
            .map_err(|error| LinkError::Dial { address: addr, reason: error.to_string().into() })?;
        let own = shared.identity.uri();
        Handshake { address: addr, own, role: Some(role), verdict, settings: &shared.settings }
            .run(Ok(dialing))
            .await
    }

    /// Closes every link and sees to it that the peers are told once: for whoever has nothing to wait for, as a command
    /// that has its answer. A peer that the packet does not reach finds out by its idle timeout.
    pub async fn hang_up(&self) {
        // All of it is sent when the connections' tasks have run once; they end only after three round trips' time.
        self.close_within(HANG_UP_WAIT, b"done").await;
    }

    /// Closes every link and waits until the peers have been told, at most three seconds.
    pub async fn close(&self) {
        self.close_within(CLOSE_WAIT, b"the node is stopping").await;
    }

    async fn close_within(&self, wait: Duration, reason: &'static [u8]) {
        self.socket.close(VarInt::from_u32(code::ENDPOINT_CLOSED), reason);
        // Peers that are not told find out by the idle timeout.
        let _ = tokio::time::timeout(wait, self.socket.wait_idle()).await;
    }
}

/// A node that dials, before anything is known about it.
#[derive(Debug)]
pub struct Incoming {
    dialed: quinn::Incoming,
    shared: Arc<Shared>,
}

impl Incoming {
    /// Where its packets come from; not proven yet.
    pub fn address(&self) -> SocketAddr {
        self.dialed.remote_address()
    }

    /// Does the handshake and checks that the node belongs to the cluster. What role it has is for the caller to check.
    ///
    /// May be awaited on another runtime than the endpoint's, for instance a shard's: the connection is then driven
    /// there, and so are the lanes that are opened or accepted there.
    ///
    /// # Errors
    /// One of the two nodes refuses the other, which is also logged (not more than once in 10 s for one address), or the
    /// handshake takes too long.
    pub async fn accept(self) -> Result<Link, LinkError> {
        let (address, shared) = (self.address(), Arc::clone(&self.shared));
        let linked = self.handshake().await;
        if let Err(error) = &linked {
            if shared.muffler.lock().may_log(address.ip(), Instant::now()) {
                tracing::warn!(%address, "a node was not linked: {error}");
            } else {
                tracing::debug!(%address, "a node was not linked: {error}");
            }
        }
        linked
    }

    /// Turns the node away without a look at it, for instance because this node is stopping.
    pub fn refuse(self) {
        self.dialed.refuse();
    }

    async fn handshake(self) -> Result<Link, LinkError> {
        let (address, shared) = (self.address(), &*self.shared);
        let (crypto, verdict) = tls::server(&shared.identity.current())?;
        let Some(mut config) = shared.server.clone() else {
            return Err(LinkError::Lost("this endpoint accepts no links".into()));
        };
        config.crypto = Arc::new(crypto);
        let own = shared.identity.uri();
        let accepting = self.dialed.accept_with(Arc::new(config));
        Handshake { address, own, role: None, verdict, settings: &shared.settings }.run(accepting).await
    }
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    settings: LinkSettings,
    transport: Arc<TransportConfig>,
    /// Everything but the certificates, which are put in at each handshake.
    server: Option<quinn::ServerConfig>,
    muffler: Mutex<Muffler>,
}

fn server_config(
    identity: &Identity,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ServerConfig, LinkError> {
    let (crypto, _) = tls::server(&identity.current())?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::clone(transport))
        .max_incoming(WAITING_DIALS_MAX)
        .incoming_buffer_size_total(WAITING_BYTES_MAX);
    Ok(config)
}

/// A node that was killed and runs again at its address, with its key, ends the links of its earlier life at their next
/// packet: it proves by a stateless reset that it does not know them. So what such a proof is made of comes from the
/// key, and is the same in both lives.
///
/// It comes from the address as well: the endpoints of one node must not prove anything about each other's links.
fn endpoint_config(identity: &Identity, bound: SocketAddr) -> Result<EndpointConfig, LinkError> {
    let reset = identity
        .current()
        .derive(&format!("tidegate stateless reset {bound}"))
        .map_err(|error| LinkError::Identity(error.to_string().into()))?;
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset)));
    // QUIC's own generator marks its ids, and an endpoint answers only ids with the mark of its own life. Without a mark
    // it answers what it does not know at most every 20 ms.
    config.cid_generator(|| Box::<LinkIds>::default());
    Ok(config)
}

/// Connection ids that say nothing: a keyed hash of a counter.
#[derive(Debug, Default)]
struct LinkIds {
    key: RandomState,
    count: u64,
}

impl ConnectionIdGenerator for LinkIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.count = self.count.wrapping_add(1);
        ConnectionId::new(&self.key.hash_one(self.count).to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn bind_udp(addr: SocketAddr, buffer_bytes: usize) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    // Best effort: the system caps them without an error, and a small buffer only costs speed.
    for set in [socket.set_recv_buffer_size(buffer_bytes), socket.set_send_buffer_size(buffer_bytes)] {
        if let Err(error) = set {
            tracing::debug!(%addr, "the socket's buffers keep their size: {error}");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

const CLOSE_WAIT: Duration = Duration::from_secs(3);
const HANG_UP_WAIT: Duration = Duration::from_millis(2);
/// Dials that wait for `accept`; more are turned away.
const WAITING_DIALS_MAX: usize = 1024;
/// What they may have sent by then, together.
const WAITING_BYTES_MAX: u64 = 16 * 1024 * 1024;
