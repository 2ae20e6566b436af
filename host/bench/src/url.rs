//! `ws://host:port/path` of what clients connect to, and `http://host:port` of the HTTP API.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::{Error, Result};

/// A target's address, resolved once so that no name lookup falls into a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) addr: SocketAddr,
    /// `host:port` as written, for the `Host` header.
    pub(crate) host: String,
    /// Path and query, at least `/`.
    pub(crate) path: String,
}

impl Url {
    pub(crate) fn parse(url: &str) -> Result<Url> {
        let wrong = |why: &str| Error::Url { url: url.to_owned(), why: why.to_owned() };
        if url.starts_with("wss://") {
            return Err(wrong("TLS is not supported, it would measure the cipher"));
        }
        let rest = url.strip_prefix("ws://").ok_or_else(|| wrong("it does not begin with ws://"))?;
        Url::parse_rest(rest, wrong)
    }

    pub(crate) fn parse_http(url: &str) -> Result<Url> {
        let wrong = |why: &str| Error::HttpUrl { url: url.to_owned(), why: why.to_owned() };
        if url.starts_with("https://") {
            return Err(wrong("TLS is not supported, it would measure the cipher"));
        }
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("it does not begin with http://"))?;
        Url::parse_rest(rest, wrong)
    }

    fn parse_rest(rest: &str, wrong: impl Fn(&str) -> Error) -> Result<Url> {
        if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            return Err(wrong("it contains a space, a control character or a fragment"));
        }
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let addr = host
            .to_socket_addrs()
            .map_err(|error| wrong(&format!("its host does not resolve ({error})")))?
            .next()
            .ok_or_else(|| wrong("its host has no address"))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { addr, host, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_address_is_taken_apart() {
        let url = Url::parse("ws://127.0.0.1:7272/chat?room=1").unwrap();
        assert_eq!(
            (url.addr.port(), url.host.as_str(), url.path.as_str()),
            (7272, "127.0.0.1:7272", "/chat?room=1")
        );
    }

    #[test]
    fn port_and_path_may_be_left_out_and_ipv6_works() {
        let url = Url::parse("ws://127.0.0.1").unwrap();
        assert_eq!((url.addr.port(), url.path.as_str()), (80, "/"));
        assert_eq!(Url::parse("ws://[::1]:9/").unwrap().addr, "[::1]:9".parse().unwrap());
    }

    #[test]
    fn addresses_that_cannot_be_dialled_say_why() {
        for (url, why) in [
            ("127.0.0.1:7272", "begin with ws://"),
            ("wss://127.0.0.1/", "TLS"),
            ("ws://127.0.0.1:1/a b", "space"),
            ("ws://:1:2:3/", "resolve"),
        ] {
            let error = Url::parse(url).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
