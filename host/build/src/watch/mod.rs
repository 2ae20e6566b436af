//! Tells when a plugin's sources have changed.
//!
//! Events of the system make it quick, a look at the files makes it certain: an event only says that it is worth looking,
//! and what counts is what is different from the last time. So it makes no difference how an editor saves, and without
//! events, or where they get lost, it is the same but for a moment's delay.
//!
//! ```text
//!  Hints (events | clock) -> Snapshot::take -> different? -> quiet for 100 ms? -> Change
//! ```

mod hints;
mod packages;
mod snapshot;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use crate::pipeline::Places;
use crate::stamp::{INPUTS_MAX, Stamp, State, state_of};
use crate::{BuildError, BuildRequest};
use hints::Hints;
use snapshot::Snapshot;

/// Files that change within so much time of each other are one change.
const QUIET: Duration = Duration::from_millis(100);

/// A change is told after so much time even if files still change.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Watches the sources of one plugin: every file that a build of it would read. That is its package's and its path
/// dependencies' sources, manifests and lock files, the settings of cargo and rustup in the folders above, and whatever
/// else the last build read. Folders of build results, hidden files and what editors write beside a file do not count.
///
/// Changes count from [`Watcher::new`], then from the last [`Woken::Changed`]: make it *before* a build, and what is
/// saved while the build runs is the next change.
///
/// [`Watcher::wait`] blocks its thread; [`Watcher::stopper`] ends it from another. It costs a look at the files' times
/// every 2 s, about a millisecond for a hundred files.
///
/// ```no_run
/// # use tidegate_build::{BuildRequest, Watcher, Woken};
/// let request = BuildRequest::new("my-app");
/// let mut watcher = Watcher::new(&request)?;
/// while let Woken::Changed(change) = watcher.wait(None) {
///     println!("{} files have changed", change.paths.len());
/// }
/// # Ok::<(), tidegate_build::BuildError>(())
/// ```
pub struct Watcher {
    places: Places,
    /// The stamp of the last build, as it was when it was read, and what is in it.
    stamp: State,
    recorded: BTreeMap<PathBuf, State>,
    /// What the next change is a change of.
    base: Snapshot,
    hints: Hints,
    stop: Arc<AtomicBool>,
}

/// What ended [`Watcher::wait`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Woken {
    /// Sources have changed and are quiet again.
    Changed(Change),
    /// The deadline has come. A change that has not been told yet will be told by the next call.
    Deadline,
    /// [`WatchStop::stop`] was called; every later call returns this at once.
    Stopped,
}

/// A change of a plugin's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The files that were written, made or removed, sorted; at least one.
    pub paths: Vec<PathBuf>,
}

/// Ends [`Watcher::wait`] from another thread.
#[derive(Debug, Clone)]
pub struct WatchStop {
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

/// Why a watcher has no events of the system and looks at the files twice a second instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The user's limit of inotify watches or instances is reached.
    #[error(
        "the system has no file watches left, so sources are looked at twice a second; other programs of yours use them: \
         raise the limits with `sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=1024`"
    )]
    OutOfWatches,
    /// The system has no such events, or not here.
    #[error("no events of the file system ({reason}), so sources are looked at twice a second")]
    NoEvents {
        /// What the system said.
        reason: String,
    },
    /// The packages have more sources than are watched.
    #[error(
        "the plugin and its path dependencies have more than {INPUTS_MAX} source files; those beyond are not watched: \
         build by hand when they change"
    )]
    TooManyFiles,
}

impl WatchStop {
    /// Makes [`Watcher::wait`] return [`Woken::Stopped`], now and from now on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // A hint that waits already does as well.
        let _ = self.wake.try_send(());
    }
}

impl Watcher {
    /// Watches the plugin that a request would build. Changes count from now on.
    ///
    /// # Errors
    /// Those of [`crate::build()`] that concern the request's path: there must be a plugin. A system without events is
    /// no error: see [`Watcher::limits`].
    pub fn new(request: &BuildRequest) -> Result<Self, BuildError> {
        Self::with_hints(request, Hints::new())
    }

    fn with_hints(request: &BuildRequest, hints: Hints) -> Result<Self, BuildError> {
        let places = Places::of(request)?;
        let mut watcher = Self {
            places,
            stamp: None,
            recorded: BTreeMap::new(),
            base: Snapshot::default(),
            hints,
            stop: Arc::default(),
        };
        watcher.base = watcher.look();
        Ok(watcher)
    }

    /// Waits until sources have changed and been quiet for 100 ms (at most 2 s), at most until `deadline`; without one,
    /// for ever. The first change is told even if the deadline comes while it settles.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Woken {
        loop {
            if self.stop.load(Ordering::Acquire) {
                return Woken::Stopped;
            }
            let seen = self.look();
            if !seen.changes_since(&self.base, &self.recorded).is_empty()
                && let Some(change) = self.settle(seen)
            {
                return Woken::Changed(change);
            }
            if self.stop.load(Ordering::Acquire) {
                return Woken::Stopped;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Woken::Deadline;
            }
            self.hints.wait(deadline);
        }
    }

    /// Ends [`Watcher::wait`] from another thread.
    pub fn stopper(&self) -> WatchStop {
        WatchStop { stop: Arc::clone(&self.stop), wake: self.hints.waker() }
    }

    /// In what way this watcher is less than it could be, in words for its user: it has no events, or there are too many
    /// files. This may change with any call of [`Watcher::wait`].
    pub fn limits(&self) -> Option<&WatchError> {
        if self.base.is_cut { Some(&WatchError::TooManyFiles) } else { self.hints.polls() }
    }

    /// Waits until nothing changes any more, and says what has; nothing if all is as it was again, or at a stop.
    fn settle(&mut self, mut seen: Snapshot) -> Option<Change> {
        let latest = Instant::now() + SETTLE_MAX;
        loop {
            self.hints.settle(QUIET, latest);
            let now = self.look();
            let quiet = now == seen || Instant::now() >= latest;
            seen = now;
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if quiet {
                break;
            }
        }
        let paths = seen.changes_since(&self.base, &self.recorded);
        self.base = seen;
        (!paths.is_empty()).then_some(Change { paths })
    }

    fn look(&mut self) -> Snapshot {
        let stamp = state_of(&self.places.stamp);
        if stamp != self.stamp {
            self.stamp = stamp;
            self.recorded = Stamp::recorded(&self.places.stamp, &self.places.project.folder);
        }
        let folder = &self.places.project.folder;
        let seen = Snapshot::take(folder, &self.recorded);
        // Somebody may have written into a new folder before it was watched.
        if self.hints.cover(seen.folders.iter()) { Snapshot::take(folder, &self.recorded) } else { seen }
    }
}

#[cfg(test)]
mod tests;
