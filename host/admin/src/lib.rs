//! The HTTP API: pushes to the clients of apps, questions about them, and deployments, from programs outside of the cluster.
//!
//! ```text
//!  POST /v1/apps/{tenant}/{app}/send   names -> token -> rates -> body -> commands --> Backend (a pusher)
//!  {"to": ..., "text": "hello"}                                <- reached, missing ---
//!
//!  POST /v1/apps/{tenant}/{app}/deployments    names -> token -> rates -> module --> Steering (the register's deployer)
//!  (a component)                               <- a line of JSON for each piece of news ---
//! ```
//!
//! The last parts of the first paths are `verb`'s, all others `operation`'s: both are tables, by which requests are routed and
//! of which `openapi` makes the description.
//!
//! Nothing is answered without a token. What is not done is told by a problem document ([`problem`]) that says what, where
//! and how to mend it.

mod administer;
mod body;
mod counters;
mod deeds;
mod guard;
mod idempotency;
mod intake;
mod news;
mod openapi;
mod operation;
pub mod problem;
mod queries;
mod query;
mod refused;
mod reply;
mod schemas;
mod service;
mod settings;
mod steer;
pub mod steering;
mod upload;
mod verb;
mod watching;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_http::{Connections, Running, Server};
pub use tidegate_http::{Tls, TlsError, TlsFile};

use crate::guard::Names;
use crate::problem::{Kind, Problem};
use crate::service::Service;
pub use crate::service::{Backend, Later};
pub use crate::settings::AdminSettings;

/// The API, listening. It answers while the future runs that it came with.
#[derive(Debug, Clone)]
pub struct Admin {
    address: SocketAddr,
    running: Running,
}

impl Admin {
    /// Listens, by TLS if there is a certificate. Within a tokio runtime, on which the future must run too; dropping the
    /// future ends the accepting.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(
        settings: AdminSettings,
        tls: Option<Tls>,
        backend: Arc<dyn Backend>,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        let listener = tidegate_http::listen(settings.listen)?;
        let address = listener.local_addr()?;
        let names = Names::new(address, &settings.hosts);
        // Also the longest that a connection may be silent between two requests.
        let limits =
            Connections { max: settings.connections_max, head_within: settings.idle_wait, life: None };
        let router = Service::new(backend, names, settings).router();
        let detail =
            "this port speaks TLS: ask https:// instead of http://, by a name that its certificate has";
        let to_plain: Arc<[u8]> = Problem::new(Kind::PlainHttp, detail).to_json().into();
        let server = Server { router, limits, tls: tls.map(|tls| (tls, to_plain)) };
        let (running, serving) = tidegate_http::serve(listener, server, || counters::CONNECTIONS.inc());
        Ok((Self { address, running }, serving))
    }

    /// Takes no connection any more, closes those on which nothing is asked, and waits until what is asked on the others is
    /// answered, at most so long. Says whether all of it was.
    pub async fn stop(&self, at_most: Duration) -> bool {
        self.running.stop(at_most).await
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
