//! Mutual TLS 1.3 for one handshake: made of the identity as it is now, so that a reload needs no restart, and with a
//! verdict that says in words why a peer was refused.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use tidegate_base::Role;

use crate::certs::{NodeUri, Snapshot, parse_leaf};
use crate::error::LinkError;
use crate::refusal::explain;

/// What checking the peer's certificate found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Who the peer is.
    pub accepted: Option<NodeUri>,
    /// Why it was refused.
    pub refused: Option<String>,
}

/// Filled in by the handshake, read after it.
pub(crate) type SharedVerdict = Arc<Mutex<Verdict>>;

/// The protocol and its version.
const ALPN: &[u8] = b"tidegate/1";

/// ring, with the cipher first that costs least where AES is in hardware.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites =
            vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// For dialing a node that must have the role.
pub(crate) fn client(
    identity: &Snapshot,
    role: Role,
) -> Result<(QuicClientConfig, SharedVerdict), LinkError> {
    let verdict = SharedVerdict::default();
    let check = ServerCheck {
        chain: Arc::clone(&identity.servers),
        expect: Expect { own: identity.uri.clone(), role: Some(role), verdict: Arc::clone(&verdict) },
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the certificates, and with them what a reload or an expiry changed.
    config.resumption = Resumption::disabled();
    Ok((QuicClientConfig::try_from(config).map_err(unusable)?, verdict))
}

/// For accepting a node of any role.
pub(crate) fn server(identity: &Snapshot) -> Result<(QuicServerConfig, SharedVerdict), LinkError> {
    let verdict = SharedVerdict::default();
    let check = ClientCheck {
        chain: Arc::clone(&identity.clients),
        expect: Expect { own: identity.uri.clone(), role: None, verdict: Arc::clone(&verdict) },
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(check))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((QuicServerConfig::try_from(config).map_err(unusable)?, verdict))
}

/// What the peer must be, beyond having a certificate of the CA.
#[derive(Debug)]
struct Expect {
    own: NodeUri,
    /// None: any.
    role: Option<Role>,
    verdict: SharedVerdict,
}

impl Expect {
    /// `chain` is what checking the certificate against the CA found.
    fn judge<T>(&self, leaf: &CertificateDer<'_>, chain: Result<T, Error>) -> Result<T, Error> {
        let uri = parse_leaf(leaf).map(|(uri, _)| uri);
        let mut verdict = self.verdict.lock();
        let refused = match &uri {
            // First: a wrong role also fails the check of the name, and this says it better.
            Ok(uri) if self.role.is_some_and(|role| role != uri.role()) => {
                let wanted = self.role.map_or("node", Role::as_str);
                Some(format!("a {wanted} was dialed, but {uri} answered: check the address in the settings"))
            }
            Ok(uri) => match &chain {
                Err(error) => Some(explain(error, &uri.to_string())),
                Ok(_) if uri.cluster() != self.own.cluster() => Some(format!(
                    "{uri} is of another cluster than this node ({}): check the address in the settings",
                    self.own
                )),
                Ok(_) => None,
            },
            Err(reason) => Some(match &chain {
                Err(error) => explain(error, "a stranger"),
                Ok(_) => reason.clone(),
            }),
        };
        let Some(refused) = refused else {
            verdict.accepted = uri.ok();
            return chain;
        };
        verdict.refused = Some(refused);
        Err(match chain {
            Err(error) => error,
            Ok(_) => Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure),
        })
    }
}

#[derive(Debug)]
struct ServerCheck {
    chain: Arc<WebPkiServerVerifier>,
    expect: Expect,
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.expect.judge(leaf, self.chain.verify_server_cert(leaf, rest, name, ocsp, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct ClientCheck {
    chain: Arc<dyn ClientCertVerifier>,
    expect: Expect,
}

impl ClientCertVerifier for ClientCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.expect.judge(leaf, self.chain.verify_client_cert(leaf, rest, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn unusable(error: impl std::fmt::Display) -> LinkError {
    LinkError::Identity(error.to_string().into())
}
