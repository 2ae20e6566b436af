//! Versions: for each app a numbered history, and the deployment that runs.

use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_base::{AppName, Digest};

use crate::Store;
use crate::engine::Failure;
use crate::error::StoreError;
use crate::modules::record_of;
use crate::record::{
    APPS_MAX, AppEntry, HISTORY_MAX, NewVersion, Origin, Outcome, PROGRESS_BYTES_MAX, REPORT_BYTES_MAX,
    REPORTS_MAX, Running, RunningEntry, VersionRecord, within,
};
use crate::tables::{self, APPS, AWAITED, MODULES, REPORTS, RUNNING, VERSIONS};

impl Store {
    /// Begins a deployment: it takes the app's next number. [`Origin::File`] also notes the module as the one that the
    /// settings file names.
    ///
    /// # Errors
    /// The app has a deployment that runs; the module is not in the store; `again` names no version with this module; a
    /// text is too long; there are too many apps; or the store fails.
    pub fn begin(&self, app: &AppName, new: NewVersion) -> Result<VersionRecord, StoreError> {
        new.check()?;
        self.engine.write(|transaction| self.begin_in(transaction, app, new))
    }

    /// Begins deployments of apps and commits them at once: all of them, or none. [`Origin::File`] as for
    /// [`begin`](Self::begin).
    ///
    /// # Errors
    /// As for [`begin`](Self::begin), of the first app that there is one with. Nothing has changed then.
    pub fn commit_all(&self, all: Vec<(AppName, NewVersion)>) -> Result<Vec<VersionRecord>, StoreError> {
        all.iter().try_for_each(|(_, new)| new.check())?;
        self.engine.write(|transaction| {
            let commit = |(app, new)| {
                let begun = self.begin_in(transaction, &app, new)?;
                self.finish_in(transaction, &app, begun.number, Outcome::Committed, None)
            };
            all.into_iter().map(commit).collect()
        })
    }

    /// Stores what the state machine of a running deployment wants to find after a crash; it replaces what it stored
    /// before.
    ///
    /// # Errors
    /// That deployment does not run, there are more than [`PROGRESS_BYTES_MAX`] bytes, or the store fails.
    pub fn set_progress(&self, app: &AppName, number: u32, progress: &[u8]) -> Result<(), StoreError> {
        within("the progress of a deployment", progress.len(), PROGRESS_BYTES_MAX)?;
        self.engine.write(|transaction| {
            let mut running = transaction.open_table(RUNNING)?;
            check_running(&running, app, number)?;
            insert(&mut running, app.as_str(), &RunningEntry { number, progress: progress.to_vec() })
        })
    }

    /// Ends a deployment, and with [`Outcome::Committed`] makes its version the current one.
    ///
    /// # Errors
    /// That deployment does not run, the report has more than [`REPORT_BYTES_MAX`] bytes, or the store fails. A reason
    /// that is too long is cut.
    pub fn finish(
        &self,
        app: &AppName,
        number: u32,
        outcome: Outcome,
        report: Option<&str>,
    ) -> Result<VersionRecord, StoreError> {
        within("the report of a deployment", report.map_or(0, str::len), REPORT_BYTES_MAX)?;
        self.engine.write(|transaction| self.finish_in(transaction, app, number, outcome, report))
    }

    /// The newest versions of an app, newest first, at most `limit`.
    ///
    /// # Errors
    /// The store fails.
    pub fn history(&self, app: &AppName, limit: usize) -> Result<Vec<VersionRecord>, StoreError> {
        let name = app.as_str();
        self.engine.read(|transaction| {
            let versions = transaction.open_table(VERSIONS)?;
            let reports = transaction.open_table(REPORTS)?;
            let newest_first = versions.range((name, 0)..=(name, u32::MAX))?.rev();
            let records = newest_first.take(limit).map(|entry| {
                let (key, value) = entry?;
                with_report(&reports, name, record_of(value.value(), name, key.value().1)?)
            });
            records.collect()
        })
    }

    /// One version of an app, if its history has it.
    ///
    /// # Errors
    /// The store fails.
    pub fn version(&self, app: &AppName, number: u32) -> Result<Option<VersionRecord>, StoreError> {
        let name = app.as_str();
        self.engine.read(|transaction| {
            let record = version(&transaction.open_table(VERSIONS)?, name, number)?;
            let reports = transaction.open_table(REPORTS)?;
            record.map(|record| with_report(&reports, name, record)).transpose()
        })
    }

    /// What an app runs when no deployment of it does: the newest version that was committed.
    ///
    /// # Errors
    /// The store fails.
    pub fn current(&self, app: &AppName) -> Result<Option<VersionRecord>, StoreError> {
        let name = app.as_str();
        self.engine.read(|transaction| {
            let entry: Option<AppEntry> = value_of(&transaction.open_table(APPS)?, name, "entry")?;
            let Some(number) = entry.and_then(|entry| entry.current) else {
                return Ok(None);
            };
            let record = version(&transaction.open_table(VERSIONS)?, name, number)?
                .ok_or_else(|| Failure::Damaged(format!("version {number} of app {app} is missing")))?;
            with_report(&transaction.open_table(REPORTS)?, name, record).map(Some)
        })
    }

    /// The deployments that have not ended, by app. After a start these are the ones that a crash has interrupted.
    ///
    /// # Errors
    /// The store fails.
    pub fn running(&self) -> Result<Vec<Running>, StoreError> {
        self.engine.read(|transaction| {
            let versions = transaction.open_table(VERSIONS)?;
            let running = transaction.open_table(RUNNING)?;
            let all = running.iter()?.map(|entry| {
                let (key, value) = entry?;
                let app = tables::app(key.value())?;
                let entry: RunningEntry =
                    tables::decode(value.value(), || format!("the deployment of app {app}"))?;
                let RunningEntry { number, progress } = entry;
                let record = version(&versions, app.as_str(), number)?
                    .ok_or_else(|| Failure::Damaged(format!("version {number} of app {app} is missing")))?;
                Ok(Running { app, record, progress })
            });
            all.collect()
        })
    }

    /// The apps that the store knows, by name.
    ///
    /// # Errors
    /// The store fails.
    pub fn apps(&self) -> Result<Vec<AppName>, StoreError> {
        self.engine.read(|transaction| {
            let apps = transaction.open_table(APPS)?;
            apps.iter()?.map(|entry| tables::app(entry?.0.value())).collect()
        })
    }

    /// The module that the settings file named when it was last noted. As long as the file's plugin is still this one,
    /// the app runs its current version; when it has changed, the file's plugin is deployed.
    ///
    /// # Errors
    /// The store fails.
    pub fn file_digest(&self, app: &AppName) -> Result<Option<Digest>, StoreError> {
        self.engine.read(|transaction| {
            let entry: Option<AppEntry> = value_of(&transaction.open_table(APPS)?, app.as_str(), "entry")?;
            Ok(entry.and_then(|entry| entry.file))
        })
    }

    /// Notes the module that the settings file names, for when it needs no deployment. It need not be in the store.
    ///
    /// # Errors
    /// There are too many apps, or the store fails.
    pub fn set_file_digest(&self, app: &AppName, digest: Digest) -> Result<(), StoreError> {
        let name = app.as_str();
        self.engine.write(|transaction| {
            let mut apps = transaction.open_table(APPS)?;
            let entry = self.app_or_new(&apps, name)?;
            insert(&mut apps, name, &AppEntry { file: Some(digest), ..entry })
        })
    }

    /// Forgets an app and its history, so that its modules can go; if it comes back it begins with version 1. Nothing
    /// happens if it is not known.
    ///
    /// # Errors
    /// A deployment of it runs, or the store fails.
    pub fn forget(&self, app: &AppName) -> Result<(), StoreError> {
        self.engine.write(|transaction| forget(transaction, app))
    }

    /// [`begin`](Self::begin) as a part of a transaction.
    fn begin_in(
        &self,
        transaction: &WriteTransaction,
        app: &AppName,
        new: NewVersion,
    ) -> Result<VersionRecord, Failure> {
        let name = app.as_str();
        let mut apps = transaction.open_table(APPS)?;
        let mut versions = transaction.open_table(VERSIONS)?;
        let mut running = transaction.open_table(RUNNING)?;
        if let Some(RunningEntry { number, .. }) = value_of(&running, name, "deployment")? {
            return Err(StoreError::Busy { app: app.clone(), number }.into());
        }
        check_module(transaction, new.digest)?;
        if let Some(number) = new.again {
            check_again(&versions, app, number, new.digest)?;
        }
        let mut entry = self.app_or_new(&apps, name)?;
        let last = entry.last.checked_add(1);
        entry.last = last.ok_or_else(|| Failure::Damaged(format!("app {app} has no more numbers")))?;
        if new.origin == Origin::File {
            entry.file = Some(new.digest);
        }
        let record = VersionRecord {
            number: entry.last,
            digest: new.digest,
            at_ms: new.at_ms,
            by: new.by,
            note: new.note,
            again: new.again,
            origin: new.origin,
            outcome: None,
            report: None,
        };
        insert(&mut apps, name, &entry)?;
        insert(&mut running, name, &RunningEntry { number: entry.last, progress: new.progress })?;
        versions.insert((name, record.number), tables::encode(&record)?.as_slice())?;
        // From here on its versions keep the module, or nothing does.
        transaction.open_table(AWAITED)?.remove(new.digest.as_bytes())?;
        prune(transaction, &mut versions, name, &entry)?;
        Ok(record)
    }

    /// [`finish`](Self::finish) as a part of a transaction.
    fn finish_in(
        &self,
        transaction: &WriteTransaction,
        app: &AppName,
        number: u32,
        outcome: Outcome,
        report: Option<&str>,
    ) -> Result<VersionRecord, Failure> {
        let name = app.as_str();
        let mut running = transaction.open_table(RUNNING)?;
        check_running(&running, app, number)?;
        running.remove(name)?;
        let mut versions = transaction.open_table(VERSIONS)?;
        let mut record = version(&versions, name, number)?
            .ok_or_else(|| Failure::Damaged(format!("version {number} of app {app} is missing")))?;
        record.outcome = Some(outcome.cut());
        versions.insert((name, number), tables::encode(&record)?.as_slice())?;
        if record.outcome == Some(Outcome::Committed) {
            let mut apps = transaction.open_table(APPS)?;
            let mut entry = self.app_or_new(&apps, name)?;
            entry.current = Some(number);
            insert(&mut apps, name, &entry)?;
        }
        if let Some(report) = report {
            let mut reports = transaction.open_table(REPORTS)?;
            reports.insert((name, number), tables::encode(&report)?.as_slice())?;
        }
        record.report = report.map(str::to_owned);
        Ok(record)
    }

    fn app_or_new(
        &self,
        apps: &Table<'_, &'static str, &'static [u8]>,
        name: &str,
    ) -> Result<AppEntry, Failure> {
        match value_of(apps, name, "entry")? {
            Some(entry) => Ok(entry),
            None if apps.len()? >= u64::from(APPS_MAX) => {
                Err(StoreError::TooManyApps { path: self.path().to_owned(), max: APPS_MAX }.into())
            }
            None => Ok(AppEntry::default()),
        }
    }
}

/// [`Store::forget`] as a part of a transaction.
pub(crate) fn forget(transaction: &WriteTransaction, app: &AppName) -> Result<(), Failure> {
    let name = app.as_str();
    let running = transaction.open_table(RUNNING)?;
    if let Some(RunningEntry { number, .. }) = value_of(&running, name, "deployment")? {
        return Err(StoreError::Busy { app: app.clone(), number }.into());
    }
    transaction.open_table(APPS)?.remove(name)?;
    let all = (name, 0)..=(name, u32::MAX);
    transaction.open_table(VERSIONS)?.retain_in(all.clone(), |_, _| false)?;
    Ok(transaction.open_table(REPORTS)?.retain_in(all, |_, _| false)?)
}

type Versions<'a> = Table<'a, (&'static str, u32), &'static [u8]>;

/// What a table has for an app.
fn value_of<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    app: &str,
    what: &str,
) -> Result<Option<T>, Failure> {
    let value = table.get(app)?;
    value.map(|value| tables::decode(value.value(), || format!("the {what} of app {app}"))).transpose()
}

fn insert<T: Serialize>(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    app: &str,
    record: &T,
) -> Result<(), Failure> {
    table.insert(app, tables::encode(record)?.as_slice())?;
    Ok(())
}

fn version(
    versions: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    app: &str,
    number: u32,
) -> Result<Option<VersionRecord>, Failure> {
    versions.get((app, number))?.map(|value| record_of(value.value(), app, number)).transpose()
}

fn with_report(
    reports: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    app: &str,
    mut record: VersionRecord,
) -> Result<VersionRecord, Failure> {
    let number = record.number;
    if let Some(report) = reports.get((app, number))? {
        let what = || format!("the report of version {number} of app {app}");
        record.report = Some(tables::decode(report.value(), what)?);
    }
    Ok(record)
}

fn check_module(transaction: &WriteTransaction, digest: Digest) -> Result<(), Failure> {
    let known = transaction.open_table(MODULES)?.get(digest.as_bytes())?.is_some();
    if known { Ok(()) } else { Err(StoreError::UnknownModule { digest }.into()) }
}

fn check_again(versions: &Versions<'_>, app: &AppName, number: u32, digest: Digest) -> Result<(), Failure> {
    match version(versions, app.as_str(), number)? {
        Some(record) if record.digest == digest => Ok(()),
        _ => Err(StoreError::UnknownVersion { app: app.clone(), number, digest }.into()),
    }
}

fn check_running(
    running: &Table<'_, &'static str, &'static [u8]>,
    app: &AppName,
    number: u32,
) -> Result<(), Failure> {
    match value_of(running, app.as_str(), "deployment")? {
        Some(RunningEntry { number: found, .. }) if found == number => Ok(()),
        _ => Err(StoreError::NotRunning { app: app.clone(), number }.into()),
    }
}

/// Drops the oldest records beyond the limit, but never those of the current and the newest version; and old reports.
fn prune(
    transaction: &WriteTransaction,
    versions: &mut Versions<'_>,
    app: &str,
    entry: &AppEntry,
) -> Result<(), Failure> {
    let mut numbers = Vec::new();
    for record in versions.range((app, 0)..=(app, u32::MAX))? {
        numbers.push(record?.0.value().1);
    }
    let surplus = numbers.len().saturating_sub(HISTORY_MAX);
    let oldest = numbers.into_iter().filter(|number| Some(*number) != entry.current && *number != entry.last);
    let mut reports = transaction.open_table(REPORTS)?;
    for number in oldest.take(surplus) {
        versions.remove((app, number))?;
        reports.remove((app, number))?;
    }
    let newest = entry.last.saturating_sub(REPORTS_MAX);
    Ok(reports.retain_in((app, 0)..=(app, newest), |_, _| false)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreLimits;

    #[test]
    fn histories_are_bounded_and_keep_the_current_version() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreLimits::default()).unwrap();
        let digest = store.put(b"a", 0).unwrap();
        let [chat, other] = ["chat", "chats"].map(|name| AppName::new(name).unwrap());
        let new = || NewVersion {
            digest,
            at_ms: 0,
            by: String::new(),
            note: String::new(),
            again: None,
            origin: Origin::Deploy,
            progress: Vec::new(),
        };
        store.begin(&other, new()).unwrap();
        let record = store.begin(&chat, new()).unwrap();
        store.finish(&chat, 1, Outcome::RolledBack { reason: String::new() }, None).unwrap();
        // What a thousand deployments leave, in one transaction; the second was committed.
        let last = HISTORY_MAX as u32 + 1;
        let filled = store.engine.write(|transaction| {
            let mut versions = transaction.open_table(VERSIONS)?;
            let mut reports = transaction.open_table(REPORTS)?;
            for number in 2..=last {
                let key = (chat.as_str(), number);
                let record = VersionRecord { number, ..record.clone() };
                versions.insert(key, tables::encode(&record)?.as_slice())?;
                reports.insert(key, tables::encode(&"{}")?.as_slice())?;
            }
            let entry = AppEntry { last, current: Some(2), file: None };
            insert(&mut transaction.open_table(APPS)?, chat.as_str(), &entry)
        });
        filled.unwrap();

        let newest = store.begin(&chat, new()).unwrap().number;
        assert_eq!(newest, last + 1);
        let history = store.history(&chat, usize::MAX).unwrap();
        let numbers: Vec<_> = history.iter().map(|record| record.number).collect();
        assert_eq!(numbers.len(), HISTORY_MAX);
        assert_eq!(numbers.last(), Some(&2));
        assert_eq!(numbers[HISTORY_MAX - 2], 4, "1 and 3 were the oldest");
        assert_eq!(store.current(&chat).unwrap().unwrap().number, 2);
        let reported = history.iter().filter(|record| record.report.is_some());
        let reported: Vec<_> = reported.map(|record| record.number).collect();
        let newest_reported = newest + 1 - REPORTS_MAX..newest;
        assert_eq!(reported, newest_reported.rev().collect::<Vec<_>>());
        assert_eq!(store.history(&other, 10).unwrap().len(), 1);
    }
}
