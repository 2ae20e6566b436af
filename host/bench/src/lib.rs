//! Load generator, WebSocket clients and yardsticks behind `tidegate bench`.
//!
//! Three layers, each usable without the one above:
//!
//! ```text
//!  table ──> run (paired rounds) ──> loads: echo, open, broadcast │ idle, connect
//!  swap (audited) ──────────────────────┤
//!  fairness (beside a neighbour) ───────┤
//!  density (many apps that idle)        │
//!  push (HTTP API, a loop of its own)   │
//!                                      │ pure: what to send, what came back
//!                                    fleet: one epoll loop over N WebSocket clients
//!                                      │
//!                                    codec, handshake, payload: pure bytes
//! ```
//!
//! The figure to trust is server CPU per message, read from `/proc` for the process ids of
//! [`Target::pids`]: it holds on a noisy machine where a rate does not. With [`Options::yardstick`] a bare
//! epoll server runs in the same minutes on the same machine, and each figure is also a ratio to it.

mod codec;
mod conduct;
mod density;
mod dial;
mod error;
mod fairness;
mod fleet;
mod flight;
mod handshake;
mod idle;
mod limits;
mod loads;
mod machine;
mod measure;
mod options;
mod payload;
mod procs;
mod push;
mod report;
mod stats;
mod storm;
mod swap;
mod table;
mod url;
pub mod yardstick;

pub use conduct::run;
pub use density::{Baseline, DensityOptions, DensityPlan, DensityReport, Footprint, density, write_density};
pub use error::Error;
pub use fairness::{FairnessOptions, FairnessReport, FairnessRound, Greed, fairness};
pub use options::{MessageKind, Options, Target, Work, YardstickCommand};
pub use push::{PushOptions, PushReport, PushRow, push};
pub use report::{Measured, Memory, Ratios, Report, Round, Unit};
pub use stats::{Faults, Latency, Spread};
pub use swap::{
    Audit, Deployed, MemoryAt, MemoryTrend, Pace, Slope, SwapOptions, SwapRecord, SwapReport, SwapTimes, swap,
};
pub use table::{Reach, Row, SetUp, Table, TableOptions, table};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;
