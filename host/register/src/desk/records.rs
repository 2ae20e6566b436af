//! How deployments are written down: the machine's records as the store's versions, and back.

use tidegate_base::AppName;
use tidegate_store::{NewVersion, Origin, Outcome as Stored, Running, Store, StoreError, VersionRecord};
use tidegate_wire::control::VersionRef;
use tidegate_wire::report::{Outcome, SwapReport};
use tidegate_wire::request::{EntryState, HistoryEntry, Refusal};

use super::refusal;
use crate::deployment::{Record, RecordState};

/// What a machine of deployments goes on from.
pub(super) type Records = Vec<(AppName, Record)>;

/// A record that is not written down.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Why.
    pub reason: String,
    /// The same for whoever wanted the deployment.
    pub refusal: Box<Refusal>,
    /// The store holds something else than the machine believes: read it again.
    pub stale: bool,
}

impl From<StoreError> for Unwritten {
    fn from(error: StoreError) -> Self {
        Self { reason: error.to_string(), refusal: Box::new(refusal::of_store(error)), stale: false }
    }
}

impl Unwritten {
    /// The store may hold anything.
    pub fn stale(reason: String) -> Self {
        let refusal = Box::new(Refusal::Store { reason: reason.clone() });
        Self { reason, refusal, stale: true }
    }
}

/// Of each app its newest version, the one that is current and the one that is being deployed: what matters of it.
pub(super) fn load(store: &Store) -> Result<Records, StoreError> {
    let mut records = Vec::new();
    for app in store.apps()? {
        let newest = store.history(&app, 1)?.into_iter().next();
        for version in [newest, store.current(&app)?].into_iter().flatten() {
            if let Some(outcome) = &version.outcome {
                let state = RecordState::Ended(of_stored(outcome));
                records.push((app.clone(), record_of(version, state)));
            }
        }
    }
    records.extend(store.running()?.into_iter().map(restored));
    Ok(records)
}

/// Writes a record down; durable when it returns. What is there already is not an error: an earlier call may have failed
/// after it was.
pub(super) fn write(store: &Store, app: &AppName, record: &Record) -> Result<(), Unwritten> {
    let number = record.version.number;
    match &record.state {
        RecordState::Prepare => begin(store, app, record),
        RecordState::Canary | RecordState::Switch | RecordState::Back { .. } => {
            let error = match store.set_progress(app, number, &progress(record)?) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match store.version(app, number) {
                // A commit that could not be written, it seemed, and was given up: it stands.
                Ok(Some(VersionRecord { outcome: Some(Stored::Committed), .. })) => {
                    Err(Unwritten::stale(format!("version {number} of app {app} is committed already")))
                }
                _ => Err(error.into()),
            }
        }
        RecordState::Ended(outcome) => finish(store, app, record, outcome),
    }
}

/// A line of a history as it is told. `running` is what the machine knows of the deployment that goes on.
pub(super) fn entry(version: VersionRecord, running: Option<&Record>) -> HistoryEntry {
    let running = running.filter(|record| record.version.number == version.number);
    let report: Option<SwapReport> =
        version.report.as_deref().and_then(|report| serde_json::from_str(report).ok());
    let canary = match (&report, running) {
        (Some(report), _) => report.canary.as_ref().map(|canary| canary.asked),
        (None, running) => running.and_then(|record| record.canary),
    };
    let state = match &version.outcome {
        Some(outcome) => EntryState::Ended(of_stored(outcome)),
        None => EntryState::Running(running.map_or("ending", |record| record.state.as_str()).to_owned()),
    };
    HistoryEntry {
        version: VersionRef { number: version.number, digest: version.digest },
        again: version.again,
        by: version.by,
        note: version.note,
        at_ms: version.at_ms,
        canary,
        state,
        report: report.map(Box::new),
    }
}

fn begin(store: &Store, app: &AppName, record: &Record) -> Result<(), Unwritten> {
    let number = record.version.number;
    let new = NewVersion {
        digest: record.version.digest,
        at_ms: record.at_ms,
        by: record.by.clone(),
        note: record.note.clone(),
        again: record.again,
        origin: if record.again.is_some() { Origin::Rollback } else { Origin::Deploy },
        progress: progress(record)?,
    };
    match store.begin(app, new) {
        Ok(begun) if begun.number == number => Ok(()),
        Ok(begun) => {
            let reason = format!("it was to be version {number}");
            store.finish(app, begun.number, Stored::RolledBack { reason }, None)?;
            Err(another_number(app, begun.number))
        }
        Err(error) => {
            let version = store.version(app, number);
            let is_there = |found: &VersionRecord| {
                found.outcome.is_none()
                    && found.digest == record.version.digest
                    && found.at_ms == record.at_ms
            };
            match (version, error) {
                (Ok(Some(found)), _) if is_there(&found) => Ok(()),
                (_, StoreError::Busy { number, .. }) => Err(another_number(app, number)),
                (_, error) => Err(error.into()),
            }
        }
    }
}

fn finish(store: &Store, app: &AppName, record: &Record, outcome: &Outcome) -> Result<(), Unwritten> {
    let number = record.version.number;
    let report = record.report.as_ref().and_then(|report| serde_json::to_string(report).ok());
    let error = match store.finish(app, number, to_stored(outcome), report.as_deref()) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match store.version(app, number) {
        Ok(Some(VersionRecord { outcome: Some(found), .. }))
            if std::mem::discriminant(&found) == std::mem::discriminant(&to_stored(outcome)) =>
        {
            Ok(())
        }
        _ => Err(error.into()),
    }
}

fn another_number(app: &AppName, number: u32) -> Unwritten {
    let reason = format!("the history of app {app} has gone on to version {number} meanwhile; deploy again");
    Unwritten::stale(reason)
}

/// What a register that starts anew goes on from.
fn progress(record: &Record) -> Result<Vec<u8>, Unwritten> {
    serde_json::to_vec(record).map_err(|error| Unwritten::stale(error.to_string()))
}

fn restored(running: Running) -> (AppName, Record) {
    let Running { app, record: version, progress } = running;
    let known = serde_json::from_slice(&progress).ok().filter(|record: &Record| {
        (record.version.number, record.version.digest) == (version.number, version.digest)
            && !matches!(record.state, RecordState::Ended(_))
    });
    let record = known.unwrap_or_else(|| {
        // Another release wrote it. The way back is always there.
        let reason = "the register was started anew, and cannot read how far the deployment was".to_owned();
        record_of(version, RecordState::Back { reason })
    });
    (app, record)
}

fn record_of(version: VersionRecord, state: RecordState) -> Record {
    Record {
        version: VersionRef { number: version.number, digest: version.digest },
        again: version.again,
        by: version.by,
        note: version.note,
        at_ms: version.at_ms,
        canary: None,
        state,
        report: None,
    }
}

fn of_stored(outcome: &Stored) -> Outcome {
    match outcome {
        Stored::Committed => Outcome::Committed,
        Stored::RolledBack { reason } => Outcome::RolledBack { reason: reason.clone() },
        Stored::Mixed { reason } => Outcome::Mixed { reason: reason.clone() },
    }
}

fn to_stored(outcome: &Outcome) -> Stored {
    match outcome {
        Outcome::Committed => Stored::Committed,
        Outcome::RolledBack { reason } => Stored::RolledBack { reason: reason.clone() },
        Outcome::Mixed { reason } => Stored::Mixed { reason: reason.clone() },
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::Digest;
    use tidegate_store::StoreLimits;
    use tidegate_wire::control::Canary;

    use super::*;

    fn chat() -> AppName {
        AppName::new("chat").unwrap()
    }

    fn with_store(test: impl FnOnce(&Store, Record)) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreLimits::default()).unwrap();
        let digest = store.put(b"a", 0).unwrap();
        let record = Record {
            version: VersionRef { number: 1, digest },
            again: None,
            by: "ann".into(),
            note: String::new(),
            at_ms: 5,
            canary: Some(Canary { percent: 10, for_ms: 1000, events_min: 1 }),
            state: RecordState::Prepare,
            report: None,
        };
        test(&store, record);
    }

    #[test]
    fn each_state_of_a_deployment_is_found_again() {
        with_store(|store, record| {
            let back = RecordState::Back { reason: "r".into() };
            for state in [RecordState::Prepare, RecordState::Canary, RecordState::Switch, back] {
                let record = Record { state, ..record.clone() };
                write(store, &chat(), &record).unwrap();
                assert_eq!(load(store).unwrap(), [(chat(), record)]);
            }
            let ended = Record { state: RecordState::Ended(Outcome::Committed), ..record };
            write(store, &chat(), &ended).unwrap();
            let found = load(store).unwrap();
            assert!(
                found.iter().all(|(_, found)| found.state == ended.state && found.version == ended.version)
            );
        });
    }

    #[test]
    fn what_is_there_already_is_written() {
        with_store(|store, record| {
            write(store, &chat(), &record).unwrap();
            write(store, &chat(), &record).unwrap();
            let outcome = |reason: &str| Outcome::RolledBack { reason: reason.into() };
            for reason in ["r", "again"] {
                let ended = Record { state: RecordState::Ended(outcome(reason)), ..record.clone() };
                write(store, &chat(), &ended).unwrap();
            }
            let other = Record { state: RecordState::Ended(Outcome::Committed), ..record };
            assert!(!write(store, &chat(), &other).unwrap_err().stale);
        });
    }

    #[test]
    fn a_deployment_that_nobody_knows_of_is_told_and_the_store_is_read_again() {
        with_store(|store, record| {
            write(store, &chat(), &record).unwrap();
            let other = Record { at_ms: 6, ..record.clone() };
            let unwritten = write(store, &chat(), &other).unwrap_err();
            assert!(unwritten.stale && unwritten.reason.contains("version 1"), "{unwritten:?}");
            assert_eq!(load(store).unwrap(), [(chat(), record)]);
        });
    }

    #[test]
    fn a_commit_that_was_written_after_all_stands() {
        with_store(|store, record| {
            write(store, &chat(), &record).unwrap();
            let ended = Record { state: RecordState::Ended(Outcome::Committed), ..record.clone() };
            write(store, &chat(), &ended).unwrap();
            let back = Record { state: RecordState::Back { reason: "r".into() }, ..record };
            assert!(write(store, &chat(), &back).unwrap_err().stale);
        });
    }

    #[test]
    fn a_deployment_that_cannot_be_read_goes_back() {
        with_store(|store, record| {
            write(store, &chat(), &record).unwrap();
            for progress in [b"".as_slice(), b"{}", b"\xff"] {
                store.set_progress(&chat(), 1, progress).unwrap();
                let (_, found) = load(store).unwrap().pop().unwrap();
                assert!(matches!(found.state, RecordState::Back { .. }) && found.version == record.version);
            }
            let digest = Digest::of(b"other");
            let strange = Record { version: VersionRef { number: 1, digest }, ..record };
            store.set_progress(&chat(), 1, &progress(&strange).unwrap()).unwrap();
            assert!(matches!(load(store).unwrap()[0].1.state, RecordState::Back { .. }));
        });
    }
}
