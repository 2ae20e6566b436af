//! Static files of apps, on their WebSocket ports: once a request turns out to be no upgrade, the connection is handed to
//! an ordinary HTTP server. On a shared port each request of it may be for another app.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HOST, LOCATION};
use hyper::http::uri::PathAndQuery;
use hyper::service::{Service, service_fn};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_http::services::ServeDir;
use tower_http::services::fs::ServeFileSystemResponseBody;

use crate::app::{App, Life};
use crate::registry::Registry;
use crate::routes::Host;

/// Connections of an app served at once for each shard of the gateway; more are closed.
const CONNECTIONS_MAX: usize = 512;

/// A folder of files.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    files: ServeDir,
    permits: Arc<Semaphore>,
}

/// Whose files are answered on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// This app's.
    App(Arc<App>),
    /// Those of the app that has the route, without the path of the route before their names.
    Routes(Arc<Registry>),
}

impl Web {
    pub fn new(folder: PathBuf, shards: usize) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX.saturating_mul(shards)));
        Self { files: ServeDir::new(folder), permits }
    }

    /// Serves a connection of which `read` has been read already. Call it on the shard's runtime.
    pub fn serve(&self, stream: mio::net::TcpStream, read: Vec<u8>, door: Door) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else { return };
        let stream = match TcpStream::from_std(stream.into()) {
            Ok(stream) => Replayed { read: read.into(), stream },
            Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
        };
        let service = service_fn(move |request| {
            let door = door.clone();
            async move { door.answer(request).await }
        });
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

impl Door {
    async fn answer(self, mut request: Request<Incoming>) -> io::Result<Response<Answer>> {
        let (app, prefix) = match self.open(&request) {
            Ok(found) => found,
            Err((status, text)) => return Ok(refusal(status, text)),
        };
        let Some(web) = &app.web else {
            return Ok(refusal(StatusCode::NOT_FOUND, "This app has no files."));
        };
        if !prefix.is_empty() {
            match below(request.uri(), &prefix) {
                Below::File(uri) => *request.uri_mut() = uri,
                Below::Folder(location) => return Ok(redirect(&location)),
            }
        }
        let answered = TowerToHyperService::new(web.files.clone()).call(request).await;
        let mut response = answered.unwrap_or_else(|never| match never {});
        prefix_location(response.headers_mut(), &prefix);
        Ok(response.map(|body| Answer::File(Box::pin(body))))
    }

    /// The app that a request is for, and the path of its route.
    fn open(&self, request: &Request<Incoming>) -> Result<(Arc<App>, String), (StatusCode, &'static str)> {
        let (app, prefix) = match self {
            Self::App(app) => (app.clone(), String::new()),
            Self::Routes(registry) => {
                const NO_HOST: (StatusCode, &str) =
                    (StatusCode::BAD_REQUEST, "The request has not exactly one Host header that is one.");
                const NO_ROUTE: (StatusCode, &str) = (
                    StatusCode::NOT_FOUND,
                    "There is nothing here: no app has a route for this host and path.",
                );
                let mut hosts = request.headers().get_all(HOST).iter();
                let host = hosts.next().filter(|_| hosts.next().is_none());
                let host = host.and_then(|host| Host::parse(host.to_str().ok()?)).ok_or(NO_HOST)?;
                let routes = registry.routes();
                let found = routes.find(&host, request.uri().path()).ok_or(NO_ROUTE)?;
                (found.to.clone(), found.prefix.to_owned())
            }
        };
        match app.life() {
            // Files need no version.
            Life::Active | Life::Empty => Ok((app, prefix)),
            life => Err((StatusCode::SERVICE_UNAVAILABLE, life.text())),
        }
    }
}

/// What is meant below the path of a route.
#[derive(Debug, PartialEq, Eq)]
enum Below {
    File(Uri),
    /// The route's path itself: pages name their files relative to it, so it must end with a slash.
    Folder(String),
}

fn below(uri: &Uri, prefix: &str) -> Below {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let rest = uri.path().strip_prefix(prefix).unwrap_or_default();
    match format!("{rest}{query}").parse::<PathAndQuery>() {
        // A file system has no two slashes in a row.
        Ok(path) if rest.starts_with('/') && !rest.starts_with("//") => Below::File(Uri::from(path)),
        _ => Below::Folder(format!("{prefix}/{query}")),
    }
}

/// Where a folder says that its name ends with a slash, the route's path comes before it.
fn prefix_location(headers: &mut HeaderMap, prefix: &str) {
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let whole = location.filter(|location| location.starts_with('/')).map(|path| format!("{prefix}{path}"));
    if let Some(location) = whole.and_then(|whole| whole.parse().ok()) {
        headers.insert(LOCATION, location);
    }
}

fn redirect(location: &str) -> Response<Answer> {
    let mut response = refusal(StatusCode::TEMPORARY_REDIRECT, "");
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::Text(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    let no_store = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
}

/// The body of an answer.
enum Answer {
    File(Pin<Box<ServeFileSystemResponseBody>>),
    Text(Bytes),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::File(body) => Poll::Ready(ready!(body.as_mut().poll_frame(cx))),
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::File(body) => body.is_end_stream(),
            Self::Text(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::File(body) => body.size_hint(),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(uri: &str, prefix: &str) -> Below {
        below(&uri.parse().unwrap(), prefix)
    }

    #[test]
    fn names_of_files_come_without_the_path_of_the_route() {
        assert_eq!(file("/chat/a/b.js?v=1", "/chat"), Below::File("/a/b.js?v=1".parse().unwrap()));
        assert_eq!(file("http://host/chat/", "/chat"), Below::File("/".parse().unwrap()));
        assert_eq!(file("/chat?x=1", "/chat"), Below::Folder("/chat/?x=1".into()));
        assert_eq!(file("/chat", "/chat"), Below::Folder("/chat/".into()));
        // It must not come back as the name of a host.
        assert_eq!(file("/chat//evil.example.com", "/chat"), Below::Folder("/chat/".into()));
    }

    #[test]
    fn a_folder_below_a_route_is_named_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "/a/".parse().unwrap());
        prefix_location(&mut headers, "/chat");
        assert_eq!(headers[LOCATION], "/chat/a/");
        headers.insert(LOCATION, "https://elsewhere/".parse().unwrap());
        prefix_location(&mut headers, "/chat");
        assert_eq!(headers[LOCATION], "https://elsewhere/");
    }
}
