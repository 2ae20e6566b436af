//! Static files of an app, on its WebSocket port: once a request turns out to be no upgrade, the connection is handed
//! to an ordinary HTTP server.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_http::services::ServeDir;

/// Connections of an app served at once for each shard of the gateway; more are closed.
const CONNECTIONS_MAX: usize = 512;

/// A folder of files.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    files: ServeDir,
    permits: Arc<Semaphore>,
}

impl Web {
    pub fn new(folder: PathBuf, shards: usize) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX.saturating_mul(shards)));
        Self { files: ServeDir::new(folder), permits }
    }

    /// Serves a connection of which `read` has been read already. Call it on the shard's runtime.
    pub fn serve(&self, stream: mio::net::TcpStream, read: Vec<u8>) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
        let stream = match TcpStream::from_std(stream.into()) {
            Ok(stream) => Replayed { read: read.into(), stream },
            Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
        };
        let service = TowerToHyperService::new(self.files.clone());
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a web connection ended");
            }
            drop(permit);
        });
    }
}

/// A stream whose first bytes were read by somebody else.
struct Replayed {
    read: bytes::Bytes,
    stream: TcpStream,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.read.len().min(buf.remaining());
        buf.put_slice(self.read.get(..n).unwrap_or_default());
        self.read.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
