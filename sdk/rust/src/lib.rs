#![doc = include_str!("../README.md")]
//!
//! # Where to start
//! [`Plugin`] is what a plugin implements, [`gateway`] all that it can tell and ask, [`timers`], [`settings`], [`keys`] and the
//! log macros the rest. [`testing`] runs a plugin in a unit test.

mod answer;
mod audience;
mod client;
mod close;
mod error;
mod events;
pub mod gateway;
mod host;
mod id;
pub mod keys;
pub mod log;
mod message;
mod plugin;
mod session;
pub mod settings;
mod state;
mod targets;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod timers;
mod turn;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, clippy::all, reason = "generated")]
pub mod bindings;
#[cfg(target_family = "wasm")]
mod exports;

pub use answer::{Answer, Partial, WhateverAnswered};
pub use audience::{Audience, ClientInfo, Fields, Selection};
pub use client::Client;
pub use close::Close;
pub use error::{Error, Result};
pub use events::{
    Addresses, CloseInfo, CloseReason, StartInfo, StartReason, StopReason, Upgrade, UpgradeRequest,
};
pub use id::{ClientId, ParseClientIdError};
pub use message::{Message, MessageKind, Outgoing, Raw};
pub use plugin::Plugin;
/// For state and sessions: `#[derive(serde::Serialize)]` with `#[serde(crate = "tidegate::serde")]` spares a plugin a
/// dependency of its own.
pub use serde;
pub use session::{Session, SessionError, session};
pub use state::{Saved, State, StateError};
pub use targets::{IntoClients, IntoNames};
pub use tidegate_macros::plugin;
pub use turn::{current_client, fail};

/// For the attribute macro only.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::bindings;
    #[cfg(target_family = "wasm")]
    pub use crate::exports::{Exported, Instance};
    pub use crate::plugin::Callbacks;
}
