//! Says when it is worth looking: at events of the system, or every now and then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use notify::{Config, ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::WatchError;

/// How often to look although there was no event: files outside of the watched folders, network file systems and
/// shares of virtual machines send none.
const LOOK_WITH_EVENTS: Duration = Duration::from_secs(2);

/// How often to look when there are no events at all. One look takes about a millisecond.
const LOOK_WITHOUT_EVENTS: Duration = Duration::from_millis(500);

/// Where hints come from. A hint may be too many or too few: what has changed, only a look tells.
pub(super) struct Hints {
    source: Source,
    /// A hint that waits; more than one say no more.
    inbox: Receiver<()>,
    wake: SyncSender<()>,
}

enum Source {
    Events {
        watcher: RecommendedWatcher,
        /// The folders, and which folder of that name it was: one that was made anew must be watched anew.
        watched: BTreeMap<PathBuf, u64>,
    },
    Polling(WatchError),
}

impl Hints {
    /// Hints by events if the system has them.
    pub(super) fn new() -> Self {
        let (wake, inbox) = sync_channel(1);
        let hint = wake.clone();
        let on_event = move |event: notify::Result<Event>| {
            // Also at an error, such as lost events: then it is all the more worth looking. Reading is no event, or
            // each look would be the cause of the next.
            if !event.is_ok_and(|event| event.kind.is_access() && !is_written(&event)) {
                let _ = hint.try_send(());
            }
        };
        let source = match RecommendedWatcher::new(on_event, Config::default()) {
            Ok(watcher) => Source::Events { watcher, watched: BTreeMap::new() },
            Err(error) => Source::Polling(WatchError::of(&error)),
        };
        Self { source, inbox, wake }
    }

    /// Hints by the clock alone.
    #[cfg(test)]
    pub(super) fn polling(reason: WatchError) -> Self {
        let (wake, inbox) = sync_channel(1);
        Self { source: Source::Polling(reason), inbox, wake }
    }

    /// Have events of just these folders. Whether some are new: what happened in them before is not hinted at.
    pub(super) fn cover<'a>(&mut self, folders: impl Iterator<Item = &'a PathBuf> + Clone) -> bool {
        let Source::Events { watcher, watched } = &mut self.source else { return false };
        let wanted: BTreeMap<PathBuf, u64> =
            folders.map(|folder| (folder.clone(), identity(folder))).collect();
        let stale = watched.iter().filter(|(folder, which)| wanted.get(*folder) != Some(which));
        let stale: Vec<PathBuf> = stale.map(|(folder, _)| folder.clone()).collect();
        for folder in stale {
            // Fails if the folder is gone, and its watch with it.
            let _ = watcher.unwatch(&folder);
            watched.remove(&folder);
        }
        let mut some_new = false;
        for (folder, which) in wanted {
            if watched.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder, which);
                    some_new = true;
                }
                // Gone in the meantime: the next look will not find it.
                Err(_) if !folder.exists() => {}
                Err(error) => {
                    self.source = Source::Polling(WatchError::of(&error));
                    return false;
                }
            }
        }
        some_new
    }

    /// Wait for a hint or for the time to look without one, at most until `deadline`.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        let look = match &self.source {
            Source::Events { .. } => LOOK_WITH_EVENTS,
            Source::Polling(_) => LOOK_WITHOUT_EVENTS,
        };
        let left = deadline.map_or(look, |deadline| deadline.saturating_duration_since(Instant::now()));
        let _ = self.inbox.recv_timeout(look.min(left));
    }

    /// Wait until there is no hint for `quiet`, at most until `deadline`. By the clock alone: just for `quiet`.
    pub(super) fn settle(&self, quiet: Duration, deadline: Instant) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.inbox.recv_timeout(quiet.min(left)).is_err() {
                return;
            }
        }
    }

    /// What gives a hint.
    pub(super) fn waker(&self) -> SyncSender<()> {
        self.wake.clone()
    }

    /// Why there are no events.
    pub(super) fn polls(&self) -> Option<&WatchError> {
        match &self.source {
            Source::Events { .. } => None,
            Source::Polling(reason) => Some(reason),
        }
    }
}

impl WatchError {
    fn of(error: &notify::Error) -> Self {
        match &error.kind {
            ErrorKind::MaxFilesWatch => Self::OutOfWatches,
            ErrorKind::Io(error) if is_out_of(error) => Self::OutOfWatches,
            _ => Self::NoEvents { reason: error.to_string() },
        }
    }
}

fn is_written(event: &Event) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// What inotify says when this user has too many instances of it (EMFILE) or watches (ENOSPC).
fn is_out_of(error: &std::io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENOSPC: i32 = 28;
    cfg!(target_os = "linux") && matches!(error.raw_os_error(), Some(EMFILE | ENOSPC))
}

#[cfg(unix)]
fn identity(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder).map_or(0, |metadata| metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Path) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_watches_is_told_from_other_troubles() {
        let of = |error: notify::Error| WatchError::of(&error).to_string();
        for error in [
            notify::Error::new(ErrorKind::MaxFilesWatch),
            notify::Error::io(std::io::Error::from_raw_os_error(24)),
            notify::Error::io(std::io::Error::from_raw_os_error(28)),
        ] {
            let text = of(error);
            assert!(text.contains("fs.inotify.max_user_watches"), "{text}");
        }
        let text = of(notify::Error::generic("no such thing here"));
        assert!(text.contains("no such thing here") && text.contains("twice a second"), "{text}");
    }
}
