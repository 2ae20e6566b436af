//! What tests need to tell a story: a cluster of real gateways and workers with a real plugin, clients that speak
//! WebSocket by somebody else's code, and processes of the real binary.
//!
//! A failing helper panics: in a test that is the report.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper that fails has failed the test"
)]

mod browser;
mod client;
mod cluster;
mod log;
mod process;
mod raw_ws;
mod shards;
mod silent;
mod swap;

pub use browser::{Browser, Page};
pub use client::{Client, RawClient};
pub use cluster::{Cluster, ClusterBuilder, LinkKind, component, held, is_loaded};
pub use log::complaints;
pub use process::{Process, binary, tidegate};
pub use raw_ws::{RawWs, masked, upgrade_request};
pub use shards::Shards;
pub use silent::SilentGateway;
pub use swap::Swapper;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: it is a bound, not an expectation.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `check` has a value, looking again after a short while.
pub async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < until, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
