use tidegate_base::UpgradeRequest;

use super::handshake::{AcceptKey, find_upgrade};
use super::{Origins, refusal, request};

/// Most headers in one request.
pub const HEADERS_MAX: usize = 100;

/// A whole request head. Borrows from the buffer that it was parsed from.
#[derive(Debug, Clone)]
pub struct Head<'b> {
    method: &'b str,
    target: &'b str,
    pub(super) minor_version: u8,
    headers: Vec<httparse::Header<'b>>,
    bytes: usize,
    upgrade: Option<AcceptKey>,
}

/// Parses the head at the front of `buf`, everything read so far. `None`: it has not ended, read more.
///
/// # Errors
/// Not HTTP, larger than `max_bytes`, more than [`HEADERS_MAX`] headers, or a WebSocket handshake against RFC 6455.
/// [`HeadError::respond`] has the answer.
pub fn parse_head(buf: &[u8], max_bytes: usize) -> Result<Option<Head<'_>>, HeadError> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut slots);
    // Without what lies beyond the limit, so that the outcome does not depend on how much was read at once.
    let status = parsed.parse(buf.get(..max_bytes).unwrap_or(buf)).map_err(|error| match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        other => HeadError::Malformed(other),
    })?;
    let httparse::Status::Complete(bytes) = status else {
        return if buf.len() >= max_bytes { Err(HeadError::TooLarge { limit: max_bytes }) } else { Ok(None) };
    };
    let mut head = Head {
        method: parsed.method.unwrap_or_default(),
        target: parsed.path.unwrap_or_default(),
        minor_version: parsed.version.unwrap_or_default(),
        headers: parsed.headers.to_vec(),
        bytes,
        upgrade: None,
    };
    head.upgrade = find_upgrade(&head)?;
    Ok(Some(head))
}

impl<'b> Head<'b> {
    /// The accept key if it asks for WebSocket and may have it; `None`: an ordinary HTTP request.
    pub const fn upgrade(&self) -> Option<AcceptKey> {
        self.upgrade
    }

    /// Its bytes, the empty line at the end included. What follows in the buffer are WebSocket frames or a body.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The method as sent (`GET`).
    pub const fn method(&self) -> &'b str {
        self.method
    }

    /// The path without the query, as sent. It starts with `/` if the request is for WebSocket; an ordinary one may
    /// have anything there (`OPTIONS *`).
    pub fn path(&self) -> &'b str {
        self.split_target().0
    }

    /// The query as sent, without the question mark.
    pub fn query(&self) -> Option<&'b str> {
        self.split_target().1
    }

    /// The first value of a header; the name in any case. `None` also if it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The `Host` header, port included.
    pub fn host(&self) -> Option<&'b str> {
        self.header("host")
    }

    /// The `Host` header, if there is exactly one.
    pub fn only_host(&self) -> Option<&'b str> {
        let mut hosts = self.values("host");
        let host = hosts.next().filter(|_| hosts.next().is_none())?;
        std::str::from_utf8(host).ok().map(str::trim)
    }

    /// Whether pages of the request's origin may connect. Clients that are no browsers send no `Origin` and are let in:
    /// they could send any.
    ///
    /// # Errors
    /// [`HeadError::OriginRefused`].
    pub fn check_origin(&self, allowed: &Origins) -> Result<(), HeadError> {
        let mut origins = self.values("origin");
        let is_allowed = match (origins.next(), origins.next(), allowed) {
            (None, ..) | (.., Origins::Any) => true,
            (Some(origin), None, _) => {
                std::str::from_utf8(origin).is_ok_and(|origin| allowed.allow(origin, self.host()))
            }
            _ => false,
        };
        if is_allowed { Ok(()) } else { Err(HeadError::OriginRefused) }
    }

    /// What the plugin gets to see. Costs an allocation or two per header: build it only if somebody looks.
    pub fn upgrade_request(&self) -> UpgradeRequest {
        request::build(self)
    }

    /// Every header with its raw value, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// The values of every header with this name, in order.
    pub(super) fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
        self.headers().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The comma-separated elements of every header with this name, trimmed, without empty ones and such that are not
    /// UTF-8.
    pub(super) fn elements<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b str> + 's {
        self.values(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|element| !element.is_empty())
    }

    fn split_target(&self) -> (&'b str, Option<&'b str>) {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        if path.starts_with('/') {
            return (path, query);
        }
        // A proxy's form, `http://host/path`.
        let path = match path.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| rest.split_at(at).1),
            None => path,
        };
        (path, query)
    }
}

/// Why a request head is refused. The text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Not HTTP/1.
    #[error("not an HTTP/1.1 request: {0}")]
    Malformed(httparse::Error),
    /// The head is too large.
    #[error("request head of more than {limit} bytes: send fewer or smaller headers and cookies")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Too many headers.
    #[error("request with more than {HEADERS_MAX} headers: send fewer")]
    TooManyHeaders,
    /// A handshake that a proxy cut.
    #[error(
        "WebSocket handshake without `Upgrade: websocket` and `Connection: Upgrade`: a proxy must pass them on"
    )]
    NotPassedOn,
    /// A handshake with another method.
    #[error("WebSocket handshake with another method: use GET")]
    NotGet,
    /// A handshake with HTTP/1.0.
    #[error("WebSocket handshake with HTTP/1.0: use HTTP/1.1")]
    OldHttp,
    /// A handshake whose target is no path.
    #[error("WebSocket handshake without a path: it starts with /")]
    NoPath,
    /// A handshake with a body.
    #[error("WebSocket handshake with a body: send none")]
    Body,
    /// A handshake without one host.
    #[error("WebSocket handshake without exactly one Host header")]
    Host,
    /// A request on a shared port that does not say for which host it is.
    #[error("request without exactly one Host header that is one: it says what the request is for")]
    NoHost,
    /// A handshake of another WebSocket version.
    #[error("WebSocket handshake without `Sec-WebSocket-Version: 13`: use this version")]
    Version,
    /// A handshake without a key.
    #[error("WebSocket handshake without one Sec-WebSocket-Key that is 16 bytes in base64")]
    Key,
    /// A page from elsewhere.
    #[error("pages of this origin may not connect (the listener's origins setting)")]
    OriginRefused,
}

impl HeadError {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooLarge { .. } | Self::TooManyHeaders => 431,
            Self::NotGet => 405,
            Self::Version => 426,
            Self::OriginRefused => 403,
            _ => 400,
        }
    }

    /// Appends the whole response. Flush it and close the connection.
    pub fn respond(&self, out: &mut Vec<u8>) {
        refusal(self.status(), &self.to_string(), out);
    }
}
