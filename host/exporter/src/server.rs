//! The HTTP server: few connections, each short.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::{Health, Source, family};

/// Connections at a time; more wait in the system's backlog.
pub const CONNECTIONS_MAX: usize = 32;
/// So long a client has for its request's head: who only holds a place loses it.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// So long a connection may live; who scrapes comes again.
const CONNECTION_WITHIN: Duration = Duration::from_secs(60);
/// After a connection could not be accepted, as when files have run out.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Serves what comes to `listener`, on this runtime.
    ///
    /// # Errors
    /// The system refuses to serve it without blocking.
    pub fn start(listener: TcpListener, source: Arc<dyn Source>, runtime: &Handle) -> io::Result<Self> {
        Self::start_with(listener, source, runtime, HEAD_WITHIN)
    }

    fn start_with(
        listener: TcpListener,
        source: Arc<dyn Source>,
        runtime: &Handle,
        head_within: Duration,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _within = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/startup", get(startup))
            .route("/health/ready", get(ready))
            .with_state(source);
        Ok(Self { address, task: runtime.spawn(serve(listener, router, head_within)) })
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

async fn serve(listener: tokio::net::TcpListener, router: Router, head_within: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    connection(stream, router, head_within).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the metrics could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, head_within: Duration) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that goes away or says nonsense is no error of ours.
    let _ = tokio::time::timeout(CONNECTION_WITHIN, served).await;
}

async fn metrics(State(source): State<Arc<dyn Source>>) -> Result<Response, Infallible> {
    Ok(match family::text(source.families()) {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    })
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
    use std::sync::Mutex;

    use super::*;
    use crate::{Family, Kind};

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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let exporter = Exporter::start(listener, Arc::clone(&source) as _, &Handle::current()).unwrap();
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let soon = Duration::from_millis(20);
        let exporter = Exporter::start_with(listener, source, &Handle::current(), soon).unwrap();
        let address = exporter.address();
        let silent: Vec<_> =
            (0..CONNECTIONS_MAX).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let answer = tokio::task::spawn_blocking(move || get(address, "/health/live")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(silent);
    }
}
