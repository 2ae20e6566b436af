//! HTTP connections of a node's own servers, the API and the metrics: how many at a time, and for how long. What is asked and
//! answered is a router's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What connections may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// So many at a time; more wait in the system's backlog.
    pub max: usize,
    /// From when it was accepted, and from each answer on: so long it may take for the head of its next request. Who only
    /// holds a place loses it.
    pub head_within: Duration,
    /// So long one may live, whatever it does. None: as long as it asks.
    pub life: Option<Duration>,
}

/// Listens, without blocking. Within a tokio runtime.
///
/// # Errors
/// The address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Accepts and answers for ever, and says of each connection that it came; dropping it ends the accepting, and the
/// connections end with their runtime.
pub async fn serve(listener: TcpListener, router: Router, limits: Connections, came: impl Fn()) {
    let places = Arc::new(Semaphore::new(limits.max));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                came();
                let router = router.clone();
                tokio::spawn(async move {
                    talk(stream, router, limits).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection cannot be accepted");
                // Out of descriptors, most likely: it passes.
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn talk(stream: TcpStream, router: Router, limits: Connections) {
    // A socket without it works too.
    let _ = stream.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let ended = match limits.life {
        None => served.await,
        Some(life) => tokio::time::timeout(life, served).await.unwrap_or(Ok(())),
    };
    // A client that goes away or says nonsense is no error of ours.
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What is read ahead of one connection: the head of a request, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
