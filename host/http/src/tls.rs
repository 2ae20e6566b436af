//! The certificate of a server, which can be renewed while it answers.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A certificate with its key, from two files. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Arc<Files>,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// The certificate, and those between it and its authority's.
    Cert,
    /// Its private key.
    Key,
}

/// Why files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// Which of them.
    pub file: TlsFile,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it, and how to mend it.
    pub reason: String,
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// What clients are shown.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl Tls {
    /// Reads the files, both PEM.
    ///
    /// # Errors
    /// One of them cannot be read or used, or they do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Arc::new(Files { cert: cert.to_owned(), key: key.to_owned() });
        let provider = Arc::new(ring::default_provider());
        let shown = Arc::new(Shown(RwLock::new(Arc::new(files.read(&provider)?))));
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| files.wrong(TlsFile::Cert, error.to_string()))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, shown, config: Arc::new(config) })
    }

    /// Reads the files again, for the handshakes to come.
    ///
    /// # Errors
    /// As for [`load`](Self::load); what is shown then stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = self.files.read(self.config.crypto_provider())?;
        *self.shown.0.write() = Arc::new(new);
        Ok(())
    }

    /// Shakes hands. None: it was plain HTTP, and was told this document.
    pub(crate) async fn meet(
        &self,
        stream: TcpStream,
        to_plain: &[u8],
    ) -> io::Result<Option<TlsStream<TcpStream>>> {
        let mut first = [0];
        // A request begins with its method, a handshake with 22.
        if stream.peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_uppercase) {
            refuse(stream, to_plain).await?;
            return Ok(None);
        }
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await.map(Some)
    }
}

impl Files {
    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let cert = self.text(TlsFile::Cert)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert).collect();
        let chain = chain.map_err(|error| self.wrong(TlsFile::Cert, format!("{error}: {CERT_MEND}")))?;
        if chain.is_empty() {
            return Err(self.wrong(TlsFile::Cert, format!("it holds no certificate: {CERT_MEND}")));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.text(TlsFile::Key)?).map_err(|error| {
            self.wrong(TlsFile::Key, format!("it holds no private key ({error}): {KEY_MEND}"))
        })?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let cert = self.cert.display();
                self.wrong(TlsFile::Key, format!("it is not the key of {cert}: restore the pair"))
            }
            // It is the certificate that is parsed to compare the two.
            rustls::Error::InvalidCertificate(why) => {
                self.wrong(TlsFile::Cert, format!("its first certificate is none ({why:?}): {CERT_MEND}"))
            }
            other => self.wrong(TlsFile::Key, format!("{other}: {KEY_MEND}")),
        })
    }

    fn text(&self, file: TlsFile) -> Result<Vec<u8>, TlsError> {
        let path = self.path(file);
        let mut text = Vec::new();
        let opened = File::open(path).and_then(|open| {
            let mode = open.metadata()?.permissions().mode();
            open.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
            Ok(mode)
        });
        let mode = opened.map_err(|error| {
            self.wrong(file, format!("it cannot be read: {error}; name a PEM file that this user may read"))
        })?;
        if file == TlsFile::Key && mode & 0o007 != 0 {
            tracing::warn!("{} can be read by everybody; run `chmod o= ` on it", path.display());
        }
        Ok(text)
    }

    fn path(&self, file: TlsFile) -> &Path {
        match file {
            TlsFile::Cert => &self.cert,
            TlsFile::Key => &self.key,
        }
    }

    fn wrong(&self, file: TlsFile, reason: String) -> TlsError {
        TlsError { file, path: self.path(file).to_owned(), reason }
    }
}

/// Tells whoever speaks plain HTTP.
async fn refuse(mut stream: TcpStream, document: &[u8]) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        document.len()
    );
    stream.write_all(&[head.as_bytes(), document].concat()).await?;
    stream.shutdown().await?;
    // What it still sends is taken: else the system would cut the answer off with the connection.
    let mut rest = [0; 4096];
    let mut left = crate::HEAD_BYTES_MAX;
    while left > 0 {
        match stream.read(&mut rest).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

const CERT_MEND: &str =
    "it has to be PEM, the server's certificate first, then those between it and its authority's";
const KEY_MEND: &str = "it has to be PEM (PKCS#8, PKCS#1 or SEC1), without a passphrase";
/// More than any chain of certificates needs.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
