//! The plugin that a node's own settings name becomes a version, when the register runs in the same node.

use bytes::Bytes;
use tidegate_base::{AppName, Digest};
use tidegate_store::{NewVersion, Origin, Outcome, Store, StoreError, VersionRecord};
use tidegate_wire::control::VersionRef;

use super::disk;

/// What an app runs when its node starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The version; number 0 if the register has no store.
    pub version: VersionRef,
    /// Its module.
    pub module: Bytes,
}

/// What an app runs when its node starts, if the version that ran last is not what its settings name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precedence {
    /// What ran last, as long as the settings name the same plugin as they did: they are older than what was deployed.
    #[default]
    Deployed,
    /// What the settings name, always: who works at a source wants to see what is on the disk.
    Settings,
}

impl Adopted {
    /// Nobody numbers versions.
    pub(super) fn unnumbered(module: Bytes) -> Self {
        Self { version: VersionRef { number: 0, digest: Digest::of(&module) }, module }
    }
}

/// [`Adopted`], and whether it is a version that was not there before.
#[derive(Debug)]
pub(super) struct Found {
    pub adopted: Adopted,
    pub changed: bool,
}

/// Either what ran last, or the settings' plugin: as the next version, committed at once since nothing runs yet.
pub(super) fn adopt(
    store: &Store,
    app: &AppName,
    module: Bytes,
    precedence: Precedence,
    now_ms: u64,
) -> Result<Found, StoreError> {
    let digest = Digest::of(&module);
    let mut interrupted = close_own(store, app)?;
    let goes_on = match precedence {
        Precedence::Deployed => store.file_digest(app)? == Some(digest),
        Precedence::Settings => {
            interrupted |= close_running(store, app)?;
            let runs = store.current(app)?.is_some_and(|current| current.digest == digest);
            if runs {
                store.set_file_digest(app, digest)?;
            }
            runs
        }
    };
    let mut note = "the plugin that the settings name";
    if goes_on {
        match current(store, app, digest, &module)? {
            Current::Runs(adopted) => return Ok(Found { adopted, changed: interrupted }),
            Current::Lost => {
                note = "the plugin that the settings name, as the module of the current version is lost"
            }
            Current::None => {}
        }
    }
    close_running(store, app)?;
    disk::put(store, &module, now_ms)?;
    let new = NewVersion {
        digest,
        at_ms: now_ms,
        by: "settings".to_owned(),
        note: note.to_owned(),
        again: None,
        origin: Origin::File,
        progress: Vec::new(),
    };
    let begun = store.begin(app, new)?;
    let record = store.finish(app, begun.number, Outcome::Committed, None)?;
    let version = version_of(&record);
    tracing::info!(%app, %version, "{note} is the next version");
    Ok(Found { adopted: Adopted { version, module }, changed: true })
}

enum Current {
    /// This is what runs.
    Runs(Adopted),
    /// There is a current version, but its module is damaged or gone.
    Lost,
    /// Nothing was committed yet.
    None,
}

fn current(store: &Store, app: &AppName, file: Digest, module: &Bytes) -> Result<Current, StoreError> {
    let Some(record) = store.current(app)? else { return Ok(Current::None) };
    let version = version_of(&record);
    if record.digest == file {
        return Ok(Current::Runs(Adopted { version, module: module.clone() }));
    }
    match store.get(record.digest) {
        Ok(Some(module)) => Ok(Current::Runs(Adopted { version, module: module.into() })),
        Ok(None) => {
            tracing::error!(%app, %version, "the store has lost a module: the app starts with its settings' plugin");
            Ok(Current::Lost)
        }
        Err(error @ StoreError::DamagedModule { .. }) => {
            tracing::error!(%app, %version, "{error}; the app starts with its settings' plugin");
            Ok(Current::Lost)
        }
        Err(error) => Err(error),
    }
}

/// A version of the settings whose commit a crash has prevented is committed now. True: there was one.
fn close_own(store: &Store, app: &AppName) -> Result<bool, StoreError> {
    let running = store.running()?.into_iter().find(|running| running.app == *app);
    let Some(own) = running.filter(|running| running.record.origin == Origin::File) else { return Ok(false) };
    store.finish(app, own.record.number, Outcome::Committed, None)?;
    Ok(true)
}

/// Whoever wants what the settings name does not want what was being deployed when the node ended. True: there was
/// something.
fn close_running(store: &Store, app: &AppName) -> Result<bool, StoreError> {
    let Some(running) = store.running()?.into_iter().find(|running| running.app == *app) else {
        return Ok(false);
    };
    let reason = "the node was started anew, to run the plugin that its settings name".to_owned();
    store.finish(app, running.record.number, Outcome::RolledBack { reason }, None)?;
    Ok(true)
}

fn version_of(record: &VersionRecord) -> VersionRef {
    VersionRef { number: record.number, digest: record.digest }
}
