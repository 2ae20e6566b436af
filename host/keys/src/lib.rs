//! The buckets of keys that apps are granted: what a store of them promises ([`Keys`]), and the embedded one
//! ([`Embedded`]), which keeps them in one file of the worker.
//!
//! What every store promises, and its conformance suite (`tests/conformance`) checks:
//! - **Durable**: a change that was answered well survives whatever happens to the process and, as far as the disk keeps its
//!   word, to the machine. A change that failed or was never answered happened as a whole or not at all.
//! - **Atomic and in order**: all of one [`KeyOp`](tidegate_base::KeyOp) happens at one moment, between the asking and the
//!   answer. Whoever asks after an answer sees what was answered, or something newer.
//! - **Apart**: nothing of an app is ever seen by another, nor by a later app of the same name.
//! - **Bounded**: an app has no more bytes than it may; one call has the limits of [`tidegate_base::limits`].

mod apply;
mod backlog;
mod cache;
pub mod counters;
mod embedded;
mod mailbox;
mod space;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidegate_base::{AppName, KeyAnswer, KeyError, KeyOp, KeyValue};

pub use embedded::{Embedded, EmbeddedSettings, OpenError};
pub use space::Space;

/// An answer, later. Dropping it takes no change back: it happens or not.
pub type Pending = Pin<Box<dyn Future<Output = Result<KeyAnswer, KeyError>> + Send>>;

/// A store of keys. Calls never block.
pub trait Keys: fmt::Debug + Send + Sync + 'static {
    /// Whether all workers of a cluster see the same keys. If not, an app with keys is to run on one of them.
    fn is_shared(&self) -> bool;

    /// What stands for the keys of an app that was born then: 0, if it stands in a settings file. As long as somebody holds
    /// it, it is the same one.
    fn space(&self, app: &AppName, born: u64) -> Arc<Space>;

    /// A key's value, or that it has none, if that is at hand. None: [`Keys::ask`].
    fn peek(&self, space: &Space, bucket: &str, key: &str) -> Option<Option<KeyValue>>;

    /// Asks, or changes something. The form of `op` is checked already.
    fn ask(&self, space: &Arc<Space>, bucket: &Arc<str>, op: KeyOp) -> Pending;

    /// Forgets the keys of apps that were made at run time and are not among these any more, by the register's list of this
    /// revision. Later.
    fn retain(&self, revision: u64, apps: BTreeSet<AppName>);
}
