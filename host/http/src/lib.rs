//! HTTP connections of a node's own servers, the API and the metrics: how many at a time, for how long, by TLS or not, and how
//! they end. What is asked and answered is a router's. And, for the command line, a connection to such a server ([`dial`]).

pub mod dial;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

pub use tls::{Tls, TlsError, TlsFile};

/// What connections may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// So many at a time, those that shake hands among them; more wait in the system's backlog.
    pub max: usize,
    /// From when it was accepted, and from each answer on: so long it may take for the head of its next request. Who only
    /// holds a place loses it. Hands are shaken within ten seconds, and within this.
    pub head_within: Duration,
    /// So long one may live, whatever it does. None: as long as it asks.
    pub life: Option<Duration>,
}

/// What answers, and to whom.
#[derive(Debug, Clone)]
pub struct Server {
    /// The paths.
    pub router: Router,
    /// What its connections may take.
    pub limits: Connections,
    /// By TLS, with the problem document that whoever speaks plain HTTP gets.
    pub tls: Option<(Tls, Arc<[u8]>)>,
}

/// A server that answers. Clones are of the same; it ends when the last of them is gone.
#[derive(Debug, Clone)]
pub struct Running {
    stop: Arc<watch::Sender<bool>>,
}

impl Running {
    /// Takes no connection any more, closes those on which nothing is asked, and waits until what is asked on the others is
    /// answered: at most so long. Says whether all of it was; the rest ends with the runtime.
    pub async fn stop(&self, at_most: Duration) -> bool {
        self.stop.send_replace(true);
        // Every connection holds a receiver, and so does who accepts them.
        tokio::time::timeout(at_most, self.stop.closed()).await.is_ok()
    }
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

/// Accepts and answers while the future runs, and says of each connection that it came. Dropping the future ends the
/// accepting at once, and lets the connections be.
pub fn serve(
    listener: TcpListener,
    server: Server,
    came: impl Fn() + Send + 'static,
) -> (Running, impl Future<Output = ()> + Send + 'static) {
    let (stop, stopping) = watch::channel(false);
    (Running { stop: Arc::new(stop) }, accept(listener, server, came, Stopping(stopping)))
}

/// Hears that the server is to end.
#[derive(Clone)]
struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Cancel-safe.
    async fn heard(&mut self) {
        // Nobody is left who could say so: that is an end too.
        let _ = self.0.wait_for(|stops| *stops).await;
    }
}

async fn accept(listener: TcpListener, server: Server, came: impl Fn(), mut stopping: Stopping) {
    let places = Arc::new(Semaphore::new(server.limits.max));
    loop {
        let next = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((place, listener.accept().await))
        };
        let next = tokio::select! {
            // First: who comes when it ends is not taken any more.
            biased;
            () = stopping.heard() => return,
            next = next => next,
        };
        let Some((place, accepted)) = next else { return };
        match accepted {
            Ok((stream, _)) => {
                came();
                let (server, stopping) = (server.clone(), stopping.clone());
                tokio::spawn(async move {
                    meet(stream, server, stopping).await;
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

/// One connection.
async fn meet(stream: TcpStream, server: Server, mut stopping: Stopping) {
    // A socket without it works too.
    let _ = stream.set_nodelay(true);
    let Server { router, limits, tls } = server;
    let Some((tls, to_plain)) = tls else { return talk(stream, router, limits, stopping).await };
    let within = limits.head_within.min(HANDSHAKE_MAX);
    let shaken = tokio::select! {
        // Nothing was asked yet.
        () = stopping.heard() => return,
        shaken = tokio::time::timeout(within, tls.meet(stream, &to_plain)) => shaken,
    };
    match shaken {
        Ok(Ok(Some(stream))) => talk(stream, router, limits, stopping).await,
        Ok(Ok(None)) => tracing::debug!("plain HTTP was spoken to a port with TLS"),
        Ok(Err(error)) => tracing::debug!(%error, "hands were not shaken"),
        Err(_) => tracing::debug!("hands were not shaken in time"),
    }
}

async fn talk<S>(stream: S, router: Router, limits: Connections, mut stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_within)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let served = async {
        tokio::select! {
            served = connection.as_mut() => return served,
            () = stopping.heard() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
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
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What is read ahead of one connection: the head of a request, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
