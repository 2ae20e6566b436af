//! Composition: configuration to roles to run to drain. The one place where roles meet.
//!
//! [`Config`] says what a node is, [`Node`] runs it: all roles in one process, joined in memory, or one role of a
//! cluster, joined to the others over QUIC. [`control`] and [`operator`] are how the command line asks a node and a
//! cluster how they do, [`inquiry`] how it asks all nodes, [`steer`] how it deploys to either, and [`requests`] what all of
//! them ask of a register.
//!
//! Deliberately absent: arguments, signals and output, which are the binary's.

mod accept;
mod answers;
mod apps;
pub mod config;
pub mod control;
mod data_dir;
mod dial;
mod duty;
mod endpoints;
mod error;
mod gateways;
pub mod inquiry;
mod membership;
mod metrics;
mod node;
pub mod operator;
pub mod outside;
mod plugins;
mod ports;
pub mod requests;
mod shards;
mod start;
pub mod status;
pub mod steer;
mod system;
mod tenants;
#[cfg(test)]
mod testing;
mod versions;
pub mod watch;

pub use config::{Config, ConfigError, Overrides};
pub use data_dir::DataDirError;
pub use error::NodeError;
pub use node::Node;
pub use plugins::PluginError;
pub use tidegate_register::deployer::ModuleRef;

#[cfg(test)]
mod tests;
