//! Plugin source to component: toolchain, cargo, checks; carries the SDK for new projects.
//!
//! - [`build()`] turns a plugin's folder into a checked WebAssembly component. It finds or sets up a toolchain for
//!   `wasm32-wasip2` ([`toolchain`]), runs cargo in a clean [`Environment`], checks the component against the contract
//!   and remembers what it was made of, so that the next build of an unchanged plugin runs nothing at all.
//! - [`create`] writes a new plugin project from a template. The SDK is compiled into this crate and unpacked beside the
//!   plugin, so a project works without a checkout of Tidegate.
//! - [`Watcher`] tells when a plugin's sources have changed.
//! - [`inspect`] says what a component is: digest, size, callbacks, imports.
//!
//! ```text
//!  folder -> locate -> stamp fresh? --yes----------------------------------------> Built
//!                          | no                                                      ^
//!                          +-> toolchain -> cargo build -> contract::check -> stamp -+
//! ```
//!
//! Everything here blocks: it runs compilers. Callers on an async runtime use a blocking thread. What happens meanwhile
//! goes to a [`Progress`].

mod cargo;
mod environment;
mod error;
mod files;
mod inspect;
mod pipeline;
mod process;
mod progress;
mod project;
mod scaffold;
mod stamp;
pub mod toolchain;
mod watch;

pub use environment::Environment;
pub use error::BuildError;
pub use inspect::{Inspection, inspect};
pub use pipeline::{BuildRequest, Built, Profile, build};
pub use progress::{Event, Progress, Silent, Terminal};
pub use scaffold::{Created, NewError, create};
pub use tidegate_base::Digest;
pub use watch::{Change, WatchError, WatchStop, Watcher, Woken};

/// The target that plugins are compiled for.
pub const TARGET: &str = "wasm32-wasip2";
