//! The paths, and the server behind them: few connections, each short.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tidegate_http::{Connections, Running, Server};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::{Health, Source, family};

/// Connections at a time; more wait in the system's backlog.
pub const CONNECTIONS_MAX: usize = 32;

/// Who scrapes comes again.
const LIMITS: Connections = Connections {
    max: CONNECTIONS_MAX,
    head_within: Duration::from_secs(5),
    life: Some(Duration::from_secs(60)),
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    running: Running,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Listens, and tells whoever asks what this source says, on this runtime.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn start(listen: SocketAddr, source: Arc<dyn Source>, runtime: &Handle) -> io::Result<Self> {
        Self::start_within(LIMITS, listen, source, runtime)
    }

    fn start_within(
        limits: Connections,
        listen: SocketAddr,
        source: Arc<dyn Source>,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let _within = runtime.enter();
        let listener = tidegate_http::listen(listen)?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/startup", get(startup))
            .route("/health/ready", get(ready))
            .with_state(source);
        let server = Server { router, limits, tls: None };
        let (running, serving) = tidegate_http::serve(listener, server, || ());
        Ok(Self { address, running, task: runtime.spawn(serving) })
    }

    /// Takes no connection any more, and waits until what is asked is answered, at most so long.
    pub async fn stop(&self, at_most: Duration) {
        if !self.running.stop(at_most).await {
            tracing::warn!("those who watch this node were cut: they were not answered in time");
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn metrics(State(source): State<Arc<dyn Source>>) -> Response {
    ([(CONTENT_TYPE, TEXT)], family::text(source.families())).into_response()
}

async fn startup(State(source): State<Arc<dyn Source>>) -> Response {
    match source.health() {
        Health::Starting(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Health::Ready | Health::NotReady(_) => "started\n".into_response(),
    }
}

async fn ready(State(source): State<Arc<dyn Source>>) -> Response {
    match source.health() {
        Health::Ready => "ready\n".into_response(),
        Health::Starting(why) | Health::NotReady(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use super::*;
    use crate::{Family, Kind};

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    struct Fake(Mutex<Health>);

    impl Source for Fake {
        fn families(&self) -> Vec<Family> {
            vec![Family::new(Kind::Gauge, "tidegate_test_up", "Up.").with(&[], 1.0)]
        }

        fn health(&self) -> Health {
            self.0.lock().unwrap().clone()
        }
    }

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn it_tells_numbers_and_health_and_says_why_it_is_not_ready() {
        let source = Arc::new(Fake(Mutex::new(Health::Starting("plugins are compiled".into()))));
        let exporter = Exporter::start(ANY_PORT, Arc::clone(&source) as _, &Handle::current()).unwrap();
        let asked = |path: &'static str| {
            let address = exporter.address();
            tokio::task::spawn_blocking(move || get(address, path))
        };
        let scraped = asked("/metrics").await.unwrap();
        assert!(scraped.starts_with("HTTP/1.1 200 ") && scraped.contains(TEXT), "{scraped}");
        assert!(scraped.contains("\ntidegate_test_up 1\n"), "{scraped}");
        let cases = [
            (Health::Starting("plugins are compiled".into()), 503, 503, "plugins are compiled\n"),
            (Health::Ready, 200, 200, "ready\n"),
            (Health::NotReady("it is stopping".into()), 200, 503, "it is stopping\n"),
        ];
        for (health, startup, ready, says) in cases {
            *source.0.lock().unwrap() = health;
            assert!(asked("/health/live").await.unwrap().starts_with("HTTP/1.1 200 "));
            let answer = asked("/health/startup").await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {startup} ")), "{answer}");
            let answer = asked("/health/ready").await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {ready} ")) && answer.ends_with(says), "{answer}");
        }
        assert!(asked("/nothing").await.unwrap().starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn connections_that_say_nothing_lose_their_places() {
        let source = Arc::new(Fake(Mutex::new(Health::Ready)));
        let limits = Connections { head_within: Duration::from_millis(20), ..LIMITS };
        let exporter = Exporter::start_within(limits, ANY_PORT, source, &Handle::current()).unwrap();
        let address = exporter.address();
        let silent: Vec<_> =
            (0..CONNECTIONS_MAX).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let answer = tokio::task::spawn_blocking(move || get(address, "/health/live")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(silent);
    }
}
