use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How the HTTP API is set up.
///
/// Most memory: `connections_max` connections of some 20 KB; `requests_max` bodies of `body_bytes_max`, and as much again
/// while their commands are encoded; `keys_max` answers, 16 MiB of them at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens. Default: 127.0.0.1:7480.
    pub listen: SocketAddr,
    /// Names besides those of loopback and the address itself by which it may be called, without ports.
    pub hosts: Vec<String>,
    /// Largest body of a request. Default: 1 MiB.
    pub body_bytes_max: usize,
    /// Most commands in a batch. Default: 1,000.
    pub batch_max: usize,
    /// Connections at a time; more wait to be accepted. Default: 1,024.
    pub connections_max: usize,
    /// Requests that are being answered at a time; more are refused. Default: 512.
    pub requests_max: usize,
    /// How long a request may take to come in. Default: 10 s.
    pub read_wait: Duration,
    /// How long a connection may have nothing to say between two requests. Default: 60 s.
    pub idle_wait: Duration,
    /// Requests a second with one token, twice as many at once; 0: no limit. Default: 0.
    pub token_requests_per_s: u64,
    /// Requests a second without a token that is known; more are turned away without a word about the token. Default: 10.
    pub failures_per_s: u64,
    /// How long an idempotency key is remembered. Default: 10 minutes.
    pub key_keep: Duration,
    /// Idempotency keys that are remembered. Default: 10,000.
    pub keys_max: usize,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7480),
            hosts: Vec::new(),
            body_bytes_max: 1024 * 1024,
            batch_max: 1000,
            connections_max: 1024,
            requests_max: 512,
            read_wait: Duration::from_secs(10),
            idle_wait: Duration::from_secs(60),
            token_requests_per_s: 0,
            failures_per_s: 10,
            key_keep: Duration::from_secs(600),
            keys_max: 10_000,
        }
    }
}
