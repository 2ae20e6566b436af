//! The Register protocol: one JSON object a line. Who says `worker_connect` with the secret hears where gateways are.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};
use tidegate_base::Digest;

/// Longest line that is read.
pub(crate) const LINE_BYTES_MAX: usize = 4096;

/// What somebody said to the Register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It wants to know where gateways are, now and whenever that changes.
    WorkerConnect,
    /// It is still there.
    Ping,
}

/// Why a line is no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    #[error("this is no request for a Register: one JSON object with an `event` in each line")]
    Malformed,
    #[error(
        "a GatewayWorker Gateway cannot join here: this Register is that of Tidegate's bridge for GatewayClient"
    )]
    Gateway,
    #[error("the secret is another one: `secret` in [[bridge]] and Gateway::$secretKey must be the same")]
    Secret,
    #[error("a line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    secret_key: String,
}

#[derive(Serialize)]
struct Broadcast {
    event: &'static str,
    addresses: Vec<String>,
}

/// The first line of these bytes, without its end, and how many bytes it takes.
pub(crate) fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, BadLine> {
    let line = bytes.iter().take(LINE_BYTES_MAX).position(|b| *b == b'\n');
    match line.and_then(|end| bytes.get(..end).map(|line| (line, end + 1))) {
        None if bytes.len() >= LINE_BYTES_MAX => Err(BadLine::TooLong),
        found => Ok(found),
    }
}

/// What a line says.
pub(crate) fn read(line: &[u8], secret: &Digest) -> Result<Said, BadLine> {
    let line: Line = serde_json::from_slice(line).map_err(|_| BadLine::Malformed)?;
    match line.event.as_str() {
        "ping" => Ok(Said::Ping),
        // Digests are compared: how long it takes says nothing of the secret.
        "worker_connect" if Digest::of(line.secret_key.as_bytes()) == *secret => Ok(Said::WorkerConnect),
        "worker_connect" => Err(BadLine::Secret),
        "gateway_connect" => Err(BadLine::Gateway),
        _ => Err(BadLine::Malformed),
    }
}

/// The line that tells where gateways are.
pub(crate) fn broadcast(addresses: &[SocketAddrV4]) -> Vec<u8> {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let line = Broadcast { event: "broadcast_addresses", addresses };
    // Texts: nothing in it can fail.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_knows_the_secret_hears_where_gateways_are() {
        let secret = Digest::of(b"key");
        let line = |text: &str| read(text.as_bytes(), &secret);
        assert_eq!(line(r#"{"event":"worker_connect","secret_key":"key"}"#), Ok(Said::WorkerConnect));
        assert_eq!(line(r#"{"event":"worker_connect","secret_key":"kez"}"#), Err(BadLine::Secret));
        assert_eq!(line(r#"{"event":"worker_connect"}"#), Err(BadLine::Secret));
        assert_eq!(line(r#"{"event":"ping"}"#), Ok(Said::Ping));
        let gateway = r#"{"event":"gateway_connect","address":"1.2.3.4:5","secret_key":"key"}"#;
        assert_eq!(line(gateway), Err(BadLine::Gateway));
        for bad in ["", "[]", "{}", r#"{"event":"x"}"#, r#"{"event":1}"#] {
            assert_eq!(line(bad), Err(BadLine::Malformed), "{bad}");
        }
    }

    #[test]
    fn addresses_are_a_list_in_one_line() {
        let told = broadcast(&["127.0.0.1:2900".parse().unwrap(), "127.0.0.1:2901".parse().unwrap()]);
        let line =
            "{\"event\":\"broadcast_addresses\",\"addresses\":[\"127.0.0.1:2900\",\"127.0.0.1:2901\"]}\n";
        assert_eq!(String::from_utf8(told).unwrap(), line);
        assert_eq!(broadcast(&[]), b"{\"event\":\"broadcast_addresses\",\"addresses\":[]}\n");
    }

    #[test]
    fn lines_are_taken_one_by_one_and_have_an_end() {
        assert_eq!(split(b"ab\ncd\n"), Ok(Some((&b"ab"[..], 3))));
        assert_eq!(split(b"ab"), Ok(None));
        assert_eq!(split(&[b'x'; LINE_BYTES_MAX]), Err(BadLine::TooLong));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = split(&bytes);
            let _ = read(&bytes, &Digest::of(b""));
        }
    }
}
