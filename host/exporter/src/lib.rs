//! What a node measures and how it does, by HTTP: Prometheus text, and health for whoever starts, stops and balances.
//!
//! ```text
//!   GET /metrics          every Family of the Source, every listed counter, and the process, as Prometheus text 0.0.4
//!   GET /health/live      200 as long as the process answers
//!   GET /health/startup   200 once it has started, 503 before
//!   GET /health/ready     200 while it does what it is there for; else 503, and the body says why not
//! ```
//!
//! Nobody needs a token here, and nothing can be changed: it is to listen where only those who operate the node come.

mod family;
mod process;
mod server;

pub use family::{Family, Kind, text};
pub use process::ProcessUse;
pub use server::{CONNECTIONS_MAX, Exporter};

/// What is measured. Asked for each scrape, on the thread of the server: it must not block for long.
pub trait Source: Send + Sync + 'static {
    /// All there is to tell now, each name once.
    fn families(&self) -> Vec<Family>;

    /// How it does now.
    fn health(&self) -> Health;
}

/// How a node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does not yet do what it is there for; why.
    Starting(String),
    /// It does.
    Ready,
    /// It did, and does not now; why.
    NotReady(String),
}
