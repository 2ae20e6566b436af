//! The plugins that a node's own settings name become versions, when the register runs in the same node.

use std::collections::HashSet;

use bytes::Bytes;
use tidegate_base::{AppName, Digest};
use tidegate_store::{NewVersion, Origin, Outcome, Store, StoreError, VersionRecord};
use tidegate_wire::control::VersionRef;

use super::disk;

/// The plugin that a node's settings name for an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The app.
    pub app: AppName,
    /// The module's name.
    pub digest: Digest,
    /// The module. Apps with the same one share its bytes.
    pub module: Bytes,
}

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
    pub(super) fn unnumbered(Named { digest, module, .. }: Named) -> Self {
        Self { version: VersionRef { number: 0, digest }, module }
    }
}

/// What apps run, in the order in which they were named, and whether that is something else than the store had before.
#[derive(Debug)]
pub(super) struct Found {
    pub adopted: Vec<Adopted>,
    pub changed: bool,
}

/// For each app either what ran last, or the settings' plugin: as the next version, committed at once since nothing runs
/// yet. All of these are written down together, so that ten thousand apps cost one write.
pub(super) fn adopt(
    store: &Store,
    named: Vec<Named>,
    precedence: Precedence,
    now_ms: u64,
) -> Result<Found, StoreError> {
    let mut found = Found { adopted: Vec::with_capacity(named.len()), changed: false };
    let (mut new, mut stored) = (Vec::new(), HashSet::new());
    for Named { app, digest, module } in named {
        let note = match goes_on(store, &app, digest, &module, precedence, &mut found.changed)? {
            Current::Runs(adopted) => {
                found.adopted.push(adopted);
                continue;
            }
            Current::Lost => {
                "the plugin that the settings name, as the module of the current version is lost"
            }
            Current::None => "the plugin that the settings name",
        };
        close_running(store, &app)?;
        if stored.insert(digest) {
            disk::put(store, &module, now_ms)?;
        }
        new.push((found.adopted.len(), app, note));
        found.adopted.push(Adopted { version: VersionRef { number: 0, digest }, module });
    }
    found.changed |= !new.is_empty();
    commit(store, &mut found.adopted, new, now_ms)?;
    Ok(found)
}

/// What an app goes on with. None: its settings' plugin is to be the next version. Whether something was closed is added to
/// `changed`.
fn goes_on(
    store: &Store,
    app: &AppName,
    digest: Digest,
    module: &Bytes,
    precedence: Precedence,
    changed: &mut bool,
) -> Result<Current, StoreError> {
    *changed |= close_own(store, app)?;
    let is_noted = store.file_digest(app)? == Some(digest);
    let goes_on = match precedence {
        Precedence::Deployed => is_noted,
        Precedence::Settings => {
            *changed |= close_running(store, app)?;
            let runs = store.current(app)?.is_some_and(|current| current.digest == digest);
            if runs && !is_noted {
                store.set_file_digest(app, digest)?;
            }
            runs
        }
    };
    if goes_on { current(store, app, digest, module) } else { Ok(Current::None) }
}

/// Commits the plugins of the settings at these places as the next versions of their apps.
fn commit(
    store: &Store,
    adopted: &mut [Adopted],
    new: Vec<(usize, AppName, &str)>,
    now_ms: u64,
) -> Result<(), StoreError> {
    if new.is_empty() {
        return Ok(());
    }
    let version = |(at, app, note): &(usize, AppName, &str)| {
        let new = NewVersion {
            digest: adopted.get(*at)?.version.digest,
            at_ms: now_ms,
            by: "settings".to_owned(),
            note: (*note).to_owned(),
            again: None,
            origin: Origin::File,
            progress: Vec::new(),
        };
        Some((app.clone(), new))
    };
    let records = store.commit_all(new.iter().filter_map(version).collect())?;
    for ((at, app, note), record) in new.into_iter().zip(records) {
        let version = version_of(&record);
        tracing::info!(%app, %version, "{note} is the next version");
        if let Some(adopted) = adopted.get_mut(at) {
            adopted.version = version;
        }
    }
    Ok(())
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
