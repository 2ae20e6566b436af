//! The server: connections, and the way of a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::lines::Lines;
use crate::retry::{LONGEST, pause};
use crate::{App, Error, Problem};

/// A server with Tidegate's HTTP API: a register, or a node that runs everything. Clones share connections.
#[derive(Debug, Clone)]
pub struct Tidegate {
    shared: Arc<Shared>,
}

/// How a server is asked.
#[derive(Debug)]
pub struct Builder {
    address: String,
    token: String,
    timeout: Duration,
    retries: u32,
    connections: usize,
    tls: Option<rustls::ClientConfig>,
}

#[derive(Debug)]
struct Shared {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: String,
    authorization: HeaderValue,
    timeout: Duration,
    retries: u32,
    room: Arc<Semaphore>,
}

/// A request, which may be sent several times.
#[derive(Debug)]
pub(crate) struct Asked {
    pub method: Method,
    /// From the first slash on.
    pub path: String,
    pub body: Option<Value>,
    pub key: Option<String>,
    /// Nothing happens if it is carried out twice, or it has a key.
    pub harmless: bool,
}

/// A request as it is sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub method: Method,
    pub path: String,
    /// Its media type, and its bytes.
    pub content: Option<(&'static str, Bytes)>,
    pub key: Option<String>,
    pub harmless: bool,
    /// The answer is lines that come one by one.
    pub lines: bool,
    /// Another time for the whole call.
    pub timeout: Option<Duration>,
}

/// A good answer.
enum Answered {
    Whole { status: u16, body: Bytes },
    Lines(Lines),
}

impl From<Asked> for Outgoing {
    fn from(Asked { method, path, body, key, harmless }: Asked) -> Self {
        let content = body.map(|body| ("application/json", body.to_string().into()));
        Self { method, path, content, key, harmless, lines: false, timeout: None }
    }
}

impl Tidegate {
    /// The server at `http://HOST:PORT`, or `https://`, perhaps with a path before the API's own, and a token for it.
    ///
    /// # Errors
    /// The address or the token is none; for `https://` the machine's certificate authorities cannot be read.
    pub fn new(address: &str, token: &str) -> Result<Self, Error> {
        Self::builder(address, token).build()
    }

    /// As [`new`](Self::new), with other settings.
    #[must_use]
    pub fn builder(address: &str, token: &str) -> Builder {
        Builder {
            address: address.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
            timeout: Duration::from_secs(30),
            retries: 3,
            connections: 16,
            tls: None,
        }
    }

    /// An app, to push to and to ask about. Apps that name no tenant are of `default`.
    #[must_use]
    pub fn app(&self, tenant: &str, name: &str) -> App {
        App::new(self.clone(), format!("/v1/apps/{}/{}", escaped(tenant), escaped(name)))
    }

    /// The server's description of its API, OpenAPI 3.1.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn openapi(&self) -> Result<Value, Error> {
        let path = "/openapi.json".to_owned();
        self.ask(Asked { method: Method::GET, path, body: None, key: None, harmless: true }).await
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&self, asked: impl Into<Outgoing>) -> Result<T, Error> {
        match self.tried(&asked.into()).await? {
            Answered::Whole { status, body } => {
                serde_json::from_slice(&body).map_err(|_| unexpected(status, &body))
            }
            Answered::Lines(_) => Err(unexpected(200, b"lines that nobody asked for")),
        }
    }

    /// Asks for lines that come one by one.
    pub(crate) async fn watch(&self, asked: Outgoing) -> Result<Lines, Error> {
        match self.tried(&Outgoing { lines: true, ..asked }).await? {
            Answered::Lines(lines) => Ok(lines),
            Answered::Whole { status, body } => Err(unexpected(status, &body)),
        }
    }

    async fn tried(&self, outgoing: &Outgoing) -> Result<Answered, Error> {
        let until = Instant::now() + outgoing.timeout.unwrap_or(self.shared.timeout);
        let mut tries = 0;
        loop {
            let error = match self.try_once(outgoing, until).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = pause(&error, tries, outgoing.harmless, random::<1>()[0]);
            match pause {
                Some(pause) if tries < self.shared.retries && Instant::now() + pause < until => {
                    tries += 1;
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn try_once(&self, outgoing: &Outgoing, until: Instant) -> Result<Answered, Error> {
        let shared = &*self.shared;
        let busy = || unreachable(false, "all connections were busy: raise `connections`");
        let room = Arc::clone(&shared.room).acquire_owned();
        // Never closed, so it is the time that is up.
        let permit = tokio::time::timeout_at(until, room).await.map_err(|_| busy())?;
        let permit = permit.map_err(|_| busy())?;
        let request = shared.request(outgoing)?;
        let answered = async {
            let response = shared.client.request(request).await.map_err(|error| {
                let why = error_chain(&error);
                unreachable(!error.is_connect(), &why)
            })?;
            let (parts, body) = response.into_parts();
            if outgoing.lines && parts.status.is_success() {
                return Ok(Answered::Lines(Lines::new(body, permit, until)));
            }
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| unreachable(true, &error.to_string()))?.to_bytes();
            let status = parts.status.as_u16();
            if parts.status.is_success() {
                return Ok(Answered::Whole { status, body });
            }
            Err(refused(status, &parts.headers, &body))
        };
        tokio::time::timeout_at(until, answered).await.map_err(|_| unreachable(true, "the time was up"))?
    }
}

impl Builder {
    /// For a whole call, pauses and further tries included. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a request is tried again. Default: 3.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// How many requests may be under way, each with a connection; more wait. Default: 16, at least 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How servers at `https://` are trusted. Default: by the certificate authorities of this machine.
    #[must_use]
    pub fn tls(mut self, tls: rustls::ClientConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Servers at `https://` are trusted by these certificate authorities alone: PEM, one or more.
    ///
    /// # Errors
    /// There is no certificate in it, or one that is broken.
    pub fn authorities(self, pem: &[u8]) -> Result<Self, Error> {
        let broken =
            |why: String| Error::Authorities(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| broken(error.to_string()))?;
            roots.add(certificate).map_err(|error| broken(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(broken("there is no certificate in the PEM that was given".to_owned()));
        }
        Ok(self.tls(trusting(roots)?))
    }

    /// The server. Nothing is connected before something is asked.
    ///
    /// # Errors
    /// As [`Tidegate::new`].
    pub fn build(self) -> Result<Tidegate, Error> {
        let wrong = |why: &str| Error::Address { address: self.address.clone(), why: why.to_owned() };
        let uri: Uri = self.address.parse().map_err(|error| wrong(&format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(wrong("it has no scheme, or no host"));
        }
        if uri.query().is_some() || uri.authority().is_some_and(|of| of.as_str().contains('@')) {
            return Err(wrong("it has a query or a user"));
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", self.token)).map_err(|_| Error::Token)?;
        authorization.set_sensitive(true);
        let is_tls = uri.scheme_str() == Some("https");
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        let tls = match self.tls {
            Some(tls) => tls,
            None if is_tls => by_this_machine()?,
            None => trusting(rustls::RootCertStore::empty())?,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(self.connections)
            .build(connector);
        Ok(Tidegate {
            shared: Arc::new(Shared {
                client,
                address: self.address,
                authorization,
                timeout: self.timeout,
                retries: self.retries,
                room: Arc::new(Semaphore::new(self.connections)),
            }),
        })
    }
}

impl Shared {
    fn request(&self, asked: &Outgoing) -> Result<Request<Full<Bytes>>, Error> {
        let accept = if asked.lines { "application/x-ndjson" } else { "application/json" };
        let mut request = Request::builder()
            .method(asked.method.clone())
            .uri(format!("{}{}", self.address, asked.path))
            .header(AUTHORIZATION, &self.authorization)
            .header(ACCEPT, accept);
        if let Some((kind, _)) = asked.content {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(key) = &asked.key {
            request = request.header("Idempotency-Key", key);
        }
        let content = asked.content.as_ref().map(|(_, content)| content.clone());
        let made = request.body(Full::new(content.unwrap_or_default()));
        made.map_err(|error| unreachable(false, &format!("the request cannot be made: {error}")))
    }
}

/// What an answer that is no success says.
fn refused(status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    let text = |name| headers.get(name).and_then(|value| HeaderValue::to_str(value).ok());
    let kind = text(CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    if kind == Some("application/problem+json")
        && let Ok(mut problem) = serde_json::from_slice::<Problem>(body)
    {
        let after = text(RETRY_AFTER)
            .and_then(|after| after.parse().ok())
            .map_or(Duration::ZERO, Duration::from_secs);
        problem.retry_after = after.min(LONGEST);
        return problem.into();
    }
    unexpected(status, body)
}

pub(crate) fn unexpected(status: u16, body: &[u8]) -> Error {
    Error::Unexpected { status, text: String::from_utf8_lossy(body).chars().take(200).collect() }
}

fn by_this_machine() -> Result<rustls::ClientConfig, Error> {
    use hyper_rustls::ConfigBuilderExt;
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Authorities(std::io::Error::other(error)))?;
    Ok(builder.with_native_roots().map_err(Error::Authorities)?.with_no_client_auth())
}

fn trusting(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, Error> {
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Authorities(std::io::Error::other(error)))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

pub(crate) fn unreachable(sent: bool, why: &str) -> Error {
    Error::Unreachable { sent, why: why.to_owned() }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A part of a path.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Random bytes; of a machine that has none, zeros.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = getrandom::fill(&mut bytes);
    bytes
}

/// The server closes a connection that is silent for 60 s: one that may be about to end is not used again.
const IDLE_MAX: Duration = Duration::from_secs(45);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_tokens_that_are_none_are_refused() {
        for address in ["127.0.0.1:7480", "ftp://x", "http://", "http://a:b@x", "http://x?y", ""] {
            assert!(matches!(Tidegate::new(address, "tg_x"), Err(Error::Address { .. })), "{address}");
        }
        assert!(matches!(Tidegate::new("http://x", "a\nb"), Err(Error::Token)));
        Tidegate::new("https://push.example.com/under/a/path/", "tg_x").unwrap();
    }

    #[test]
    fn parts_of_paths_are_escaped() {
        assert_eq!(escaped("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
