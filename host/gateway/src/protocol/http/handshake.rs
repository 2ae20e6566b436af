use base64::engine::{Engine, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use sha1::{Digest, Sha1};

use super::{Head, HeadError};

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
/// Characters of 16 bytes in base64.
const KEY_CHARS: usize = 24;
/// Characters of a SHA-1 in base64.
const ACCEPT_CHARS: usize = 28;

// Some clients make up 22 characters, so that the last one's unused bits are not zero. It harms nobody.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What proves to the client that its handshake was understood: the value of `Sec-WebSocket-Accept`. All that is needed
/// of the request while the plugin decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptKey([u8; ACCEPT_CHARS]);

impl AcceptKey {
    /// The answer to a `Sec-WebSocket-Key`, which is taken as it is.
    pub fn new(key: &[u8]) -> Self {
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        let mut text = [0; ACCEPT_CHARS];
        // 20 bytes make 28 characters always.
        let written = STANDARD.encode_slice(digest, &mut text);
        debug_assert_eq!(written, Ok(ACCEPT_CHARS));
        Self(text)
    }

    /// The text, ASCII.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Appends the response that makes the connection a WebSocket, with the chosen subprotocol if there is one. A browser
/// gives up unless it is one that it has offered: compare it with the request's `protocols` first.
///
/// # Errors
/// The subprotocol is not an HTTP token, and so cannot be one of those offered; nothing was appended.
pub fn accept_response(
    key: &AcceptKey,
    subprotocol: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), InvalidSubprotocol> {
    if let Some(name) = subprotocol.filter(|name| !is_token(name)) {
        return Err(InvalidSubprotocol(name.chars().take(80).collect()));
    }
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    out.extend_from_slice(b"Sec-WebSocket-Accept: ");
    out.extend_from_slice(key.as_bytes());
    if let Some(name) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
    Ok(())
}

/// A subprotocol that no client can have offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a WebSocket subprotocol: choose one that the client offers, or none")]
pub struct InvalidSubprotocol(String);

/// Whether the request asks for WebSocket, and how to answer.
pub(super) fn find_upgrade(head: &Head<'_>) -> Result<Option<AcceptKey>, HeadError> {
    let asks = has_element(head, "upgrade", "websocket") && has_element(head, "connection", "upgrade");
    if !asks {
        let is_cut = head.values("sec-websocket-key").next().is_some();
        return if is_cut { Err(HeadError::NotPassedOn) } else { Ok(None) };
    }
    if head.method() != "GET" {
        return Err(HeadError::NotGet);
    }
    if head.minor_version == 0 {
        return Err(HeadError::OldHttp);
    }
    if !head.path().starts_with('/') {
        return Err(HeadError::NoPath);
    }
    // A body would be read as frames: a way to smuggle them past a proxy.
    let has_length = head.values("content-length").any(|length| length != b"0");
    if has_length || head.values("transfer-encoding").next().is_some() {
        return Err(HeadError::Body);
    }
    only_value(head, "host").filter(|host| !host.is_empty()).ok_or(HeadError::Host)?;
    only_value(head, "sec-websocket-version")
        .filter(|version| *version == b"13")
        .ok_or(HeadError::Version)?;
    let key = only_value(head, "sec-websocket-key").filter(|key| is_key(key)).ok_or(HeadError::Key)?;
    Ok(Some(AcceptKey::new(key)))
}

/// Whether this is an HTTP token (RFC 9110), and so safe within a header.
pub(super) fn is_token(text: &str) -> bool {
    let is_token_char = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    !text.is_empty() && text.bytes().all(is_token_char)
}

fn has_element(head: &Head<'_>, name: &str, wanted: &str) -> bool {
    head.elements(name).any(|element| element.eq_ignore_ascii_case(wanted))
}

fn only_value<'b>(head: &Head<'b>, name: &str) -> Option<&'b [u8]> {
    let mut values = head.values(name);
    let only = values.next()?;
    values.next().is_none().then(|| only.trim_ascii())
}

fn is_key(key: &[u8]) -> bool {
    // 24 characters could be up to 18 bytes.
    let mut bytes = [0; KEY_CHARS / 4 * 3];
    key.len() == KEY_CHARS && LENIENT.decode_slice(key, &mut bytes) == Ok(KEY_BYTES)
}
