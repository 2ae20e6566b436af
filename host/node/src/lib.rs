//! Composition: configuration to roles to run to drain. The one place where roles meet.
//!
//! [`Config`] says what a node is, [`Node`] runs it: all roles in one process, joined in memory, or one role of a
//! cluster, joined to the others over QUIC. [`control`] and [`operator`] are how the command line asks a node and a
//! cluster how they do.
//!
//! Deliberately absent: arguments, signals and output, which are the binary's.

mod accept;
pub mod config;
pub mod control;
mod data_dir;
mod dial;
mod duty;
mod endpoints;
mod error;
mod gateways;
mod membership;
mod node;
pub mod operator;
mod plugins;
mod shards;
mod start;
pub mod status;
mod system;
#[cfg(test)]
mod testing;
mod versions;
pub mod watch;

pub use config::{Config, ConfigError, Overrides};
pub use data_dir::DataDirError;
pub use error::NodeError;
pub use node::Node;
pub use plugins::PluginError;

#[cfg(test)]
mod tests;
