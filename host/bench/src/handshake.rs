//! The opening handshake (RFC 6455, 4), both sides, as pure functions.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::url::Url;

/// The longest request or response head accepted, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Makes the `Sec-WebSocket-Key`s of one run: all different, from a seed.
#[derive(Debug)]
pub(crate) struct Keys {
    state: u64,
}

impl Keys {
    pub(crate) fn new(seed: u64) -> Keys {
        Keys { state: seed }
    }

    /// The next key, 16 bytes in base64.
    pub(crate) fn next(&mut self) -> String {
        let mut bytes = [0; 16];
        let (low, high) = bytes.split_at_mut(8);
        low.copy_from_slice(&self.word().to_le_bytes());
        high.copy_from_slice(&self.word().to_le_bytes());
        STANDARD.encode(bytes)
    }

    // SplitMix64. Keys only have to differ: nothing rests on their being hard to guess.
    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

/// The client's upgrade request.
pub(crate) fn request(url: &Url, key: &str) -> Vec<u8> {
    let (host, path) = (&url.host, &url.path);
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Where the head at the front of `bytes` ends, or `None` while it is incomplete.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Checks the server's answer; the error says what is wrong with it.
pub(crate) fn check_response(head: &[u8], key: &str) -> Result<(), String> {
    let head = std::str::from_utf8(head).map_err(|_| "its answer is not HTTP".to_owned())?;
    let status = head.lines().next().unwrap_or_default();
    if !(status.starts_with("HTTP/1.1 101 ") || status == "HTTP/1.1 101") {
        return Err(format!("it answered {status:?} instead of 101 Switching Protocols"));
    }
    let is = |name, value: &str| {
        header(head, name)
            .is_some_and(|got| got.split(',').any(|part| part.trim().eq_ignore_ascii_case(value)))
    };
    if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        return Err("its answer lacks `Upgrade: websocket` or `Connection: Upgrade`".to_owned());
    }
    if header(head, "sec-websocket-accept") != Some(&accept(key)) {
        return Err("its Sec-WebSocket-Accept does not match the key".to_owned());
    }
    Ok(())
}

/// The server's answer to a request head, or `None` if that is no WebSocket upgrade.
pub(crate) fn response(head: &[u8]) -> Option<Vec<u8>> {
    let key = header(std::str::from_utf8(head).ok()?, "sec-websocket-key")?;
    let accept = accept(key);
    let text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some(text.into_bytes())
}

fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_of_the_rfc_comes_out() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn our_response_satisfies_our_request() {
        let url = Url { addr: "127.0.0.1:1".parse().unwrap(), host: "h:1".to_owned(), path: "/x".to_owned() };
        let mut keys = Keys::new(7);
        let (key, other) = (keys.next(), keys.next());
        assert_ne!(key, other);
        let request = request(&url, &key);
        assert_eq!(head_end(&request), Some(request.len()));
        assert_eq!(head_end(&request[..request.len() - 1]), None);
        let answer = response(&request).unwrap();
        assert_eq!(check_response(&answer, &key), Ok(()));
        assert!(check_response(&answer, &other).unwrap_err().contains("Accept"));
    }

    #[test]
    fn other_answers_are_refused_with_what_they_said() {
        let not_found = check_response(b"HTTP/1.1 404 Not Found\r\n\r\n", "k").unwrap_err();
        assert!(not_found.contains("404 Not Found"), "{not_found}");
        let bare = check_response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "k").unwrap_err();
        assert!(bare.contains("Upgrade"), "{bare}");
        assert!(check_response(&[0xff, 0xfe], "k").is_err());
        assert_eq!(response(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), None);
    }
}
