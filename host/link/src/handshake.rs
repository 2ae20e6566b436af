//! What happens between the first packet and a usable link, at both ends.
//!
//! In TLS 1.3 the dialing end is through with its handshake before the other end has looked at its certificate. So the
//! dialer opens the control channel with a greeting and has a link only when the greeting is answered: a refusal is
//! then the error of the dial, not a link that breaks at once.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Connecting, Connection, ConnectionError, RecvStream, SendStream, TransportErrorCode, VarInt};
use tidegate_base::Role;

use crate::certs::NodeUri;
use crate::code;
use crate::error::LinkError;
use crate::link::{Link, Peer};
use crate::quic;
use crate::refusal::explain_alert;
use crate::settings::LinkSettings;
use crate::tls::SharedVerdict;

/// One handshake, and what its errors need to say.
pub(crate) struct Handshake<'a> {
    pub address: SocketAddr,
    pub own: NodeUri,
    /// The role that was dialed; none at the accepting end.
    pub role: Option<Role>,
    pub verdict: SharedVerdict,
    pub settings: &'a LinkSettings,
}

impl Handshake<'_> {
    /// Bounded in time. Dropping it gives the connection up. What starts a handshake can already fail.
    pub(crate) async fn run(self, started: Result<Connecting, ConnectionError>) -> Result<Link, LinkError> {
        let waited = self.settings.handshake_timeout;
        let greeted = async {
            let connection = started?.await?;
            match self.role {
                Some(_) => dial(connection).await,
                None => accept(connection).await,
            }
        };
        match tokio::time::timeout(waited, greeted).await {
            Ok(Ok(greeted)) => self.link(greeted),
            Ok(Err(failure)) => Err(self.explain(failure)),
            Err(_) => Err(match self.role {
                Some(role) => LinkError::NoAnswer { address: self.address, role, waited },
                None => LinkError::Lost(
                    format!("{} began a handshake and did not end it within {waited:?}", self.address).into(),
                ),
            }),
        }
    }

    fn link(self, greeted: Greeted) -> Result<Link, LinkError> {
        let Some(uri) = self.verdict.lock().accepted.take() else {
            // TLS would have failed before; a link without a name must never be.
            return Err(LinkError::Untrusted { address: self.address, reason: "it has no name".into() });
        };
        let address = greeted.connection.remote_address();
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let peer = Peer { role: uri.role(), name: uri.name().clone(), address: Some(address) };
        // Control must not wait behind what the lanes have queued. Fails only if the stream is closed already.
        let _ = greeted.send.set_priority(CONTROL_PRIORITY);
        let control = quic::lane(greeted.send, greeted.recv, self.settings.lane_queue_bytes);
        Ok(Link::over_quic(self.own.name(), peer, greeted.connection, control, self.settings))
    }

    fn explain(&self, failure: Failure) -> LinkError {
        let address = self.address;
        let untrusted = |reason: Arc<str>| LinkError::Untrusted { address, reason };
        if let Some(refused) = self.verdict.lock().refused.take() {
            return untrusted(refused.into());
        }
        match failure {
            Failure::Greeting(what) => LinkError::Lost(what.into()),
            Failure::Connection(ConnectionError::TransportError(error)) => match alert(error.code) {
                Some(CERTIFICATE_REQUIRED) => untrusted(
                    "it presented no certificate: make one with `tidegate cert node` from the cluster's CA"
                        .into(),
                ),
                Some(NO_APPLICATION_PROTOCOL) => untrusted(
                    "it does not speak this version of the protocol: upgrade the older of the two nodes"
                        .into(),
                ),
                Some(_) => untrusted(error.reason.into()),
                None => LinkError::Lost(error.to_string().into()),
            },
            Failure::Connection(ConnectionError::ConnectionClosed(close)) => match alert(close.error_code) {
                Some(alert) => LinkError::Refused { address, reason: explain_alert(alert, &self.own).into() },
                None => LinkError::Lost(close.to_string().into()),
            },
            Failure::Connection(error) => quic::link_error(&error, None),
        }
    }
}

struct Greeted {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

enum Failure {
    Connection(ConnectionError),
    Greeting(&'static str),
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

async fn dial(connection: Connection) -> Result<Greeted, Failure> {
    let (mut send, mut recv) = connection.open_bi().await?;
    greet(&connection, &mut send).await?;
    hear_greeting(&connection, &mut recv).await?;
    Ok(Greeted { connection, send, recv })
}

async fn accept(connection: Connection) -> Result<Greeted, Failure> {
    let (mut send, mut recv) = connection.accept_bi().await?;
    hear_greeting(&connection, &mut recv).await?;
    greet(&connection, &mut send).await?;
    Ok(Greeted { connection, send, recv })
}

async fn greet(connection: &Connection, send: &mut SendStream) -> Result<(), Failure> {
    send.write_all(&GREETING).await.map_err(|_| stream_failure(connection))
}

async fn hear_greeting(connection: &Connection, recv: &mut RecvStream) -> Result<(), Failure> {
    let mut heard = [0; GREETING.len()];
    recv.read_exact(&mut heard).await.map_err(|_| stream_failure(connection))?;
    if heard == GREETING {
        return Ok(());
    }
    let what = "the peer did not greet as a Tidegate node does";
    connection.close(VarInt::from_u32(code::CONTROL_BROKEN), what.as_bytes());
    Err(Failure::Greeting(what))
}

fn stream_failure(connection: &Connection) -> Failure {
    connection.close_reason().map_or(
        Failure::Greeting("the peer ended the control channel before it greeted"),
        Failure::Connection,
    )
}

/// The TLS alert in a transport error's code.
fn alert(code: TransportErrorCode) -> Option<u8> {
    match u64::from(code).checked_sub(0x100) {
        Some(alert) => u8::try_from(alert).ok(),
        None => None,
    }
}

/// Lanes have 0.
const CONTROL_PRIORITY: i32 = 1;
/// An empty control message.
const GREETING: [u8; 4] = [0; 4];
/// RFC 8446: the alert of a node that got no certificate.
const CERTIFICATE_REQUIRED: u8 = 116;
/// RFC 7301: the alert of a node that shares no protocol.
const NO_APPLICATION_PROTOCOL: u8 = 120;
