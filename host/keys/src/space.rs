//! The keys of one app, as those who ask for them hold it.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tidegate_base::{AppName, KeyUsage, limits};
use tidegate_store::SpaceId;

/// What stands for the keys of one app.
pub struct Space {
    /// Unlike that of any other in this process.
    pub(crate) number: u64,
    app: AppName,
    born: u64,
    bytes_max: AtomicU64,
    keys: AtomicU64,
    bytes: AtomicU64,
    /// In the file, from the first use on.
    pub(crate) id: OnceLock<SpaceId>,
    /// Held while that is found, so that what it held at first is noted before any change of it.
    pub(crate) finding: Mutex<()>,
}

impl Space {
    pub(crate) fn new(app: AppName, born: u64) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            app,
            born,
            bytes_max: AtomicU64::new(limits::KEYS_BYTES_MAX),
            keys: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            id: OnceLock::new(),
            finding: Mutex::new(()),
        }
    }

    /// Whose keys they are.
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// When the app was made, as a revision of the register's list; 0: it stands in a settings file.
    pub fn born(&self) -> u64 {
        self.born
    }

    /// How many bytes all keys and values may have. What is there stays.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Sets how many bytes all keys and values may have, from the next change on.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// What they were after the last change in this process.
    pub fn usage(&self) -> KeyUsage {
        KeyUsage { keys: self.keys.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    pub(crate) fn note_usage(&self, usage: KeyUsage) {
        self.keys.store(usage.keys, Ordering::Relaxed);
        self.bytes.store(usage.bytes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("app", &self.app).field("born", &self.born).finish_non_exhaustive()
    }
}
