//! Composition: configuration to roles to run to drain.

pub mod config;
#[cfg(test)]
mod testing;

pub use config::Config;
