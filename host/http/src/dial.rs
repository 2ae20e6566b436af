//! A connection to a server, by TLS or not, for a program that waits. It blocks.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Where a server is: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// By TLS.
    pub tls: bool,
    /// `HOST:PORT`, or without the port if it is the usual one.
    pub authority: String,
}

/// Bytes in both directions.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The host is unknown, nobody listens there, or it is no TLS that is spoken.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The certificates of authorities cannot be used.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There are no certificates of authorities.
    #[error("this machine has no list of certificate authorities: name the file of the server's with --ca")]
    NoAuthorities,
    /// The server's certificate is not trusted.
    #[error("{0}")]
    Untrusted(String),
}

impl Place {
    /// None: it is no such address.
    pub fn parse(url: &str) -> Option<Self> {
        let (tls, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let strange = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
        (!authority.is_empty() && !authority.contains(strange))
            .then(|| Self { tls, authority: authority.to_owned() })
    }

    fn host(&self) -> &str {
        self.split().0
    }

    fn split(&self) -> (&str, u16) {
        let usual = if self.tls { 443 } else { 80 };
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(usual)),
            _ => (&*self.authority, usual),
        };
        (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
    }
}

/// Connects, and by TLS shakes hands: with these authorities, or those of the machine. Each step takes at most so long.
///
/// # Errors
/// See [`DialError`].
pub fn dial(place: &Place, authorities: Option<&Path>, step: Duration) -> Result<Box<dyn Stream>, DialError> {
    let (host, port) = place.split();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, step) {
            Ok(stream) => {
                stream.set_read_timeout(Some(step))?;
                stream.set_write_timeout(Some(step))?;
                return if place.tls { shake(place, stream, authorities) } else { Ok(Box::new(stream)) };
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

fn shake(
    place: &Place,
    mut stream: TcpStream,
    authorities: Option<&Path>,
) -> Result<Box<dyn Stream>, DialError> {
    let roots = match authorities {
        Some(path) => read(path)?,
        None => of_this_machine()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(place.host().to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(|error| explained(error, place))?;
    }
    Ok(Box::new(StreamOwned::new(tls, stream)))
}

/// What a failed handshake means for its user.
fn explained(error: io::Error, place: &Place) -> DialError {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(why)) => DialError::Untrusted(untrusted(why, place)),
        Some(rustls::Error::InvalidMessage(_)) => DialError::Untrusted(format!(
            "what listens there speaks no TLS: is it http://{}?",
            place.authority
        )),
        _ => DialError::Io(error),
    }
}

fn untrusted(why: &CertificateError, place: &Place) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is of an authority that is not known here: name the file with that authority's certificate \
             with --ca"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "its certificate is not for {}: name it as the certificate does, with --api https://NAME:PORT",
            place.host()
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it, and let the node read it again (kill -HUP)".to_owned()
        }
        // As `openssl req -x509` makes them, if it is not told otherwise.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority, not of a server: make one for the server (for openssl: -addext \
             basicConstraints=CA:FALSE)"
                .to_owned()
        }
        other => format!("its certificate is not trusted: {other}"),
    }
}

fn read(path: &Path) -> Result<RootCertStore, DialError> {
    let wrong = |reason: String| DialError::Authorities { path: path.to_owned(), reason };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(AUTHORITIES_BYTES_MAX).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&text) {
        roots
            .add(cert.map_err(|error| wrong(error.to_string()))?)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate: it has to be PEM".to_owned()));
    }
    Ok(roots)
}

/// What the machine's own programs trust.
fn of_this_machine() -> Result<RootCertStore, DialError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = USUAL.iter().map(PathBuf::from).find(|path| path.is_file());
    let path = named.or(usual).ok_or(DialError::NoAuthorities)?;
    let mut text = Vec::new();
    let wrong = |error: io::Error| DialError::Authorities { path: path.clone(), reason: error.to_string() };
    let file = std::fs::File::open(&path).map_err(wrong)?;
    file.take(AUTHORITIES_BYTES_MAX).read_to_end(&mut text).map_err(wrong)?;
    let mut roots = RootCertStore::empty();
    // Among hundreds one may be of a kind that is not known here.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).filter_map(Result::ok));
    Ok(roots)
}

/// Where distributions keep them.
const USUAL: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const AUTHORITIES_BYTES_MAX: u64 = 16 * 1024 * 1024;
