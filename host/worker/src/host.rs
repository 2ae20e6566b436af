//! What a plugin reaches through its host functions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{Addresses, Answered, Capability, Command, KeyError, Query};
use tidegate_runtime::{KeyBucket, LogLevel, PluginHost};

use crate::buckets::{self, Store};
use crate::core::SlotCore;
use crate::held::Held;
use crate::settings::WorkerApp;

/// What an instance reaches: the core of the slot that it serves, or, while it serves none, a place where what it asks
/// for is kept. When the instance goes, whatever happened to it, the core comes back to the slot.
#[derive(Debug)]
pub(crate) struct SlotHost {
    seat: Seat,
    home: Home,
    keys: Store,
}

#[derive(Debug)]
enum Seat {
    Serving(Box<SlotCore>),
    Held(Box<Held>),
    /// Only while it is dropped.
    Gone,
}

/// Where a core is while no instance has it.
pub(crate) type Home = Arc<Mutex<Option<Box<SlotCore>>>>;

impl SlotHost {
    /// Of an instance that serves the slot.
    pub fn serving(core: Box<SlotCore>, home: Home, keys: Store) -> Self {
        Self { seat: Seat::Serving(core), home, keys }
    }

    /// Of an instance that serves no slot.
    pub fn held(held: Held, keys: Store) -> Self {
        Self { seat: Seat::Held(Box::new(held)), home: Home::default(), keys }
    }

    /// The core, if it serves.
    pub fn core(&mut self) -> Option<&mut SlotCore> {
        match &mut self.seat {
            Seat::Serving(core) => Some(core),
            Seat::Held(_) | Seat::Gone => None,
        }
    }

    /// Where its effects are kept, if it serves no slot.
    pub fn kept(&mut self) -> Option<&mut Held> {
        match &mut self.seat {
            Seat::Held(held) => Some(held),
            Seat::Serving(_) | Seat::Gone => None,
        }
    }

    /// It serves from now on.
    pub fn serve(&mut self, core: Box<SlotCore>, home: Home) {
        self.home = home;
        self.seat = Seat::Serving(core);
    }

    /// It serves no more.
    pub fn hold(&mut self, held: Held) -> Option<Box<SlotCore>> {
        match std::mem::replace(&mut self.seat, Seat::Held(Box::new(held))) {
            Seat::Serving(core) => Some(core),
            Seat::Held(_) | Seat::Gone => None,
        }
    }

    fn log_line(&self, level: LogLevel, line: &str) {
        match &self.seat {
            Seat::Serving(core) => core.write_log(level, line),
            // Beside the slot's turns.
            Seat::Held(held) => held.log.write(&held.app, held.slot, 0, level, line),
            Seat::Gone => {}
        }
    }

    fn app(&self) -> Option<&WorkerApp> {
        match &self.seat {
            Seat::Serving(core) => Some(&core.app),
            Seat::Held(held) => Some(&held.app),
            Seat::Gone => None,
        }
    }
}

impl Drop for SlotHost {
    fn drop(&mut self) {
        if let Seat::Serving(core) = std::mem::replace(&mut self.seat, Seat::Gone) {
            *self.home.lock() = Some(core);
        }
    }
}

impl PluginHost for SlotHost {
    fn command(&mut self, command: Command<'_>) {
        match &mut self.seat {
            Seat::Serving(core) => core.command(&command),
            Seat::Held(held) => held.command(&command),
            Seat::Gone => {}
        }
    }

    fn query(&mut self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        match &mut self.seat {
            Seat::Serving(core) => core.query(query),
            Seat::Held(held) => held.query(query),
            Seat::Gone => Box::pin(std::future::pending()),
        }
    }

    fn fail(&mut self, reason: &str) {
        match &mut self.seat {
            Seat::Serving(core) => core.fail(reason),
            Seat::Held(held) => held.fail(reason),
            Seat::Gone => {}
        }
    }

    fn break_rule(&mut self, reason: &str) {
        match &mut self.seat {
            Seat::Serving(core) => core.break_rule(|| reason.into()),
            Seat::Held(held) => held.break_rule(|| reason.into()),
            Seat::Gone => {}
        }
    }

    fn broken_rule(&self) -> Option<&str> {
        match &self.seat {
            Seat::Serving(core) => core.broken_rule(),
            Seat::Held(held) => held.broken_rule(),
            Seat::Gone => None,
        }
    }

    fn addresses(&self) -> Option<Addresses> {
        let Seat::Serving(core) = &self.seat else { return None };
        core.addresses()
    }

    fn session(&mut self) -> Option<&str> {
        let Seat::Serving(core) = &self.seat else { return None };
        core.session()
    }

    fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>) {
        match &mut self.seat {
            Seat::Serving(core) => core.set_timer(key, after, every),
            Seat::Held(held) => held.set_timer(key, after, every),
            Seat::Gone => {}
        }
    }

    fn cancel_timer(&mut self, key: &str) {
        match &mut self.seat {
            Seat::Serving(core) => core.cancel_timer(key),
            Seat::Held(held) => held.cancel_timer(key),
            Seat::Gone => {}
        }
    }

    fn log(&mut self, level: LogLevel, line: &str) {
        self.log_line(level, line);
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.app()?.settings.get(key)
    }

    fn settings(&self) -> Vec<(String, String)> {
        self.app().map(|app| app.settings.all().to_vec()).unwrap_or_default()
    }

    fn is_granted(&self, capability: Capability) -> bool {
        self.app().is_some_and(|app| app.grants.has(capability))
    }

    fn has_bucket(&self, name: &str) -> bool {
        self.app().is_some_and(|app| app.grants.has_bucket(name))
    }

    // A held instance's keys are no effects that could be held back: what it changes is changed.
    fn bucket(&self, name: &str) -> Result<Arc<dyn KeyBucket>, KeyError> {
        let Some(app) = self.app() else { return Err(KeyError::NoSuchBucket { bucket: name.to_owned() }) };
        let opened = buckets::open(&self.keys, app, name);
        if let Err(error) = &opened {
            // What the plugin is told has no words.
            self.log_line(LogLevel::Warn, &error.to_string());
        }
        opened
    }

    fn environment(&self) -> Vec<(String, String)> {
        let Some(app) = self.app() else { return Vec::new() };
        let names = app.grants.environment.iter();
        names.filter_map(|name| Some((name.clone(), app.settings.get(name)?.to_owned()))).collect()
    }
}
