use std::collections::BTreeMap;

use super::turn::World;
use super::{FakeGateway, misuse};
use crate::plugin::Callbacks;
use crate::{Plugin, StartInfo, StartReason};

/// The gateway that clients connect to unless a test says otherwise.
pub(super) const FIRST_GATEWAY: u64 = 1;

/// How to start a plugin in a test: its settings and its slot.
#[derive(Clone, Debug)]
pub struct Setup {
    settings: BTreeMap<String, String>,
    buckets: Vec<String>,
    start: StartInfo,
}

impl Setup {
    /// No settings, and slot 0 of 1 of a new app on a worker called `test`.
    #[must_use]
    pub fn new() -> Self {
        let start =
            StartInfo { slot: 0, slots: 1, worker: "test".into(), version: 1, reason: StartReason::New };
        Self { settings: BTreeMap::new(), buckets: Vec::new(), start }
    }

    /// One setting of the app.
    #[must_use]
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Grants a bucket of keys, which is empty.
    #[must_use]
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.buckets.push(name.into());
        self
    }

    /// What on_worker_start learns.
    #[must_use]
    pub fn start_info(mut self, start: StartInfo) -> Self {
        self.start = start;
        self
    }

    /// Starts the plugin.
    ///
    /// # Panics
    /// The plugin has no `#[tidegate::plugin]`, or its `on_worker_start` fails.
    #[must_use]
    pub fn start<P: Plugin>(self) -> FakeGateway<P> {
        match self.try_start() {
            Ok(gateway) => gateway,
            Err(reason) => misuse(&format!("on_worker_start fails: {reason}")),
        }
    }

    /// Starts the plugin.
    ///
    /// # Errors
    /// Its `on_worker_start` fails, for this reason: a real instance would not start.
    ///
    /// # Panics
    /// The plugin has no `#[tidegate::plugin]`.
    pub fn try_start<P: Plugin>(self) -> Result<FakeGateway<P>, String> {
        attributed::<P>();
        let world = World::new(self.settings, self.buckets, P::CALLBACKS.has(Callbacks::TIMER));
        let mut gateway = FakeGateway { plugin: P::default(), world, start: self.start.clone() };
        if P::CALLBACKS.has(Callbacks::WORKER_START) {
            gateway.turn(None, |plugin| plugin.on_worker_start(self.start));
        }
        match gateway.failures().pop() {
            Some(reason) => Err(reason),
            None => Ok(gateway),
        }
    }
}

/// Fails the test if the attribute macro has not seen the plugin.
#[track_caller]
pub(super) fn attributed<P: Plugin>() {
    if P::CALLBACKS == Callbacks::UNKNOWN {
        misuse(
            "write #[tidegate::plugin] above the block `impl Plugin for …`: it says which callbacks there are",
        );
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}
