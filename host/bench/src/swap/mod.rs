//! Swaps code under load and proves from numbered messages what became of each.
//!
//! ```text
//!  swap() ── Run: the load's loop ──────────────── Deployer: a thread that calls `deploy`, and weighs
//!              │ SwapLoad: what to send
//!              ├── Ledger    every message: answered, lost, repeated, out of order
//!              ├── Turnover  every answer: by old or new code
//!              └── Gaps      every wait: in a swap's window, or in a calm one
//! ```
//!
//! The lower row is pure: it gets numbers, words and times.

mod deployer;
mod gaps;
mod jitter;
mod ledger;
mod load;
mod options;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod text;
mod trend;
mod turnover;

pub use deployer::Deployed;
pub use options::{Pace, SwapOptions};
pub use report::{Audit, SwapRecord, SwapReport, SwapTimes};
pub use run::swap;
pub use trend::{MemoryAt, MemoryTrend, Slope};
