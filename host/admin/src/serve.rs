//! Connections: how many, and for how long they may be silent.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::counters;
use crate::settings::AdminSettings;

/// Accepts and answers for ever; dropping it ends the accepting, and the connections end with their runtime.
pub(crate) async fn serve(listener: TcpListener, router: Router, settings: AdminSettings) {
    let room = Arc::new(Semaphore::new(settings.connections_max));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) => {
                counters::CONNECTIONS.inc();
                tokio::spawn(talk(connection, router.clone(), settings.idle_wait, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "the HTTP API does not accept");
                // Out of descriptors, most likely: it passes.
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn talk(connection: TcpStream, router: Router, idle_wait: Duration, permit: OwnedSemaphorePermit) {
    // A socket without it works too.
    let _ = connection.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // From the last answer on: also the longest that a connection may be silent.
        .header_read_timeout(idle_wait)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended");
    }
    drop(permit);
}

const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What is read ahead of one connection: the head of a request, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
