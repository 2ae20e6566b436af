//! What is kept, and the removal of the rest.

use std::collections::HashSet;
use std::fs;

use redb::{ReadableTable, WriteTransaction};
use tidegate_base::Digest;

use crate::Store;
use crate::engine::Failure;
use crate::error::StoreError;
use crate::modules::{entry_of, record_of, remove_chunks};
use crate::record::{AppEntry, Outcome, VersionRecord};
use crate::tables::{self, APPS, AWAITED, CHUNKS, MODULES, VERSIONS};

/// The modules of so many of an app's newest committed versions are kept, to go back to.
pub const KEPT_COMMITTED: usize = 10;
/// A module that was stored less than this many milliseconds ago is kept while no deployment of it has begun since: one
/// may be about to.
pub const KEPT_FRESH_MS: u64 = 60 * 60 * 1000;

/// Compacting moves all that is stored. It is worthwhile from this much on that is free, if that is also more than what is
/// used.
const COMPACT_FREE_BYTES_MIN: u64 = 64 << 20;

/// What [`Store::collect`] did.
#[derive(Debug)]
pub struct Collected {
    /// The modules that are gone, by digest.
    pub modules: Vec<RemovedModule>,
    /// Their bytes together.
    pub bytes: u64,
    /// Whether the disk has them back.
    pub compaction: Compaction,
}

/// A module that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedModule {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// What became of the room that removed modules took.
#[derive(Debug)]
pub enum Compaction {
    /// It stays in the file, for the next modules.
    NotWorthwhile,
    /// The disk has it back.
    Done {
        /// The size of the file before, in bytes.
        before: u64,
        /// Its size now, in bytes.
        after: u64,
    },
    /// It stays in the file, since compacting failed. The modules are gone all the same.
    Failed(StoreError),
}

impl Store {
    /// Removes every module that nothing keeps. Kept are, of each app, the modules of its newest [`KEPT_COMMITTED`]
    /// committed versions, of the current one, of the one that is being deployed, and of those since the current one
    /// whose deployment ended mixed, as slots may run them; and every module stored in the last [`KEPT_FRESH_MS`] of
    /// which no deployment has begun since. Histories stay.
    ///
    /// It may compact the file, for seconds per GiB, and all other calls wait for that.
    ///
    /// # Errors
    /// The store fails; nothing is removed.
    pub fn collect(&self, now_ms: u64) -> Result<Collected, StoreError> {
        self.collect_and_compact(now_ms, COMPACT_FREE_BYTES_MIN)
    }

    fn collect_and_compact(&self, now_ms: u64, free_min: u64) -> Result<Collected, StoreError> {
        let (modules, left) = self.engine.write(|transaction| remove_modules(transaction, now_ms))?;
        let bytes = modules.iter().map(|module| module.bytes).sum();
        let compaction = if modules.is_empty() {
            Compaction::NotWorthwhile
        } else {
            self.compact_if_worthwhile(left, free_min)
        };
        Ok(Collected { modules, bytes, compaction })
    }

    fn compact_if_worthwhile(&self, module_bytes: u64, free_min: u64) -> Compaction {
        let size = || {
            let metadata = fs::metadata(self.path());
            metadata
                .map(|metadata| metadata.len())
                .map_err(|error| StoreError::Io { path: self.path().to_owned(), error })
        };
        let compacted = size().and_then(|before| {
            if !is_worthwhile(before, module_bytes, free_min) {
                return Ok(Compaction::NotWorthwhile);
            }
            self.engine.compact()?;
            size().map(|after| Compaction::Done { before, after })
        });
        compacted.unwrap_or_else(Compaction::Failed)
    }
}

fn is_worthwhile(file_bytes: u64, module_bytes: u64, free_min: u64) -> bool {
    let free = file_bytes.saturating_sub(module_bytes);
    free >= free_min && free > module_bytes
}

/// The modules that are gone, and the bytes of those that stay.
fn remove_modules(transaction: &WriteTransaction, now_ms: u64) -> Result<(Vec<RemovedModule>, u64), Failure> {
    let kept = kept_by_versions(transaction)?;
    let mut modules = transaction.open_table(MODULES)?;
    let mut awaited = transaction.open_table(AWAITED)?;
    let (mut removed, mut left) = (Vec::new(), 0_u64);
    for entry in modules.iter()? {
        let (key, value) = entry?;
        let digest = Digest::from_bytes(*key.value());
        let entry = entry_of(value.value(), digest);
        let bytes = entry.as_ref().map_or(0, |entry| entry.bytes);
        let young = entry.is_some_and(|entry| now_ms.saturating_sub(entry.stored_ms) < KEPT_FRESH_MS);
        let fresh = young && awaited.get(digest.as_bytes())?.is_some();
        if fresh || kept.contains(&digest) {
            left = left.saturating_add(bytes);
        } else {
            removed.push(RemovedModule { digest, bytes });
        }
    }
    let mut chunks = transaction.open_table(CHUNKS)?;
    for RemovedModule { digest, .. } in &removed {
        modules.remove(digest.as_bytes())?;
        awaited.remove(digest.as_bytes())?;
        remove_chunks(&mut chunks, *digest)?;
    }
    Ok((removed, left))
}

fn kept_by_versions(transaction: &WriteTransaction) -> Result<HashSet<Digest>, Failure> {
    let apps = transaction.open_table(APPS)?;
    let versions = transaction.open_table(VERSIONS)?;
    let mut all = HashSet::new();
    for entry in apps.iter()? {
        let (key, value) = entry?;
        let app = key.value();
        let entry: AppEntry = tables::decode(value.value(), || format!("the entry of app {app}"))?;
        let mut keeping = Keeping::new(entry.current);
        for record in versions.range((app, 0)..=(app, u32::MAX))?.rev() {
            let (key, value) = record?;
            let record = record_of(value.value(), app, key.value().1)?;
            if keeping.keeps(&record) {
                all.insert(record.digest);
            }
        }
    }
    Ok(all)
}

/// Which versions of one app keep their modules. It is asked from the newest to the oldest.
struct Keeping {
    current: Option<u32>,
    committed: usize,
}

impl Keeping {
    fn new(current: Option<u32>) -> Self {
        Self { current, committed: 0 }
    }

    fn keeps(&mut self, record: &VersionRecord) -> bool {
        match &record.outcome {
            None => true,
            Some(Outcome::Committed) => {
                self.committed += 1;
                self.committed <= KEPT_COMMITTED || self.current == Some(record.number)
            }
            Some(Outcome::Mixed { .. }) => self.current.is_none_or(|current| record.number > current),
            Some(Outcome::RolledBack { .. }) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreLimits;
    use crate::record::Origin;

    fn record(number: u32, outcome: Option<Outcome>) -> VersionRecord {
        VersionRecord {
            number,
            digest: Digest::of(&number.to_be_bytes()),
            at_ms: 0,
            by: String::new(),
            note: String::new(),
            again: None,
            origin: Origin::Deploy,
            outcome,
            report: None,
        }
    }

    fn kept(current: Option<u32>, newest_first: &[VersionRecord]) -> Vec<u32> {
        let mut keeping = Keeping::new(current);
        newest_first.iter().filter(|record| keeping.keeps(record)).map(|record| record.number).collect()
    }

    #[test]
    fn ten_committed_versions_keep_their_modules() {
        let records: Vec<_> = (1..=14).rev().map(|number| record(number, Some(Outcome::Committed))).collect();
        assert_eq!(kept(Some(14), &records), (5..=14).rev().collect::<Vec<_>>());
    }

    #[test]
    fn what_runs_or_may_run_keeps_its_module_and_what_was_rolled_back_does_not() {
        let reason = || "r".to_owned();
        let records = [
            record(6, None),
            record(5, Some(Outcome::Mixed { reason: reason() })),
            record(4, Some(Outcome::RolledBack { reason: reason() })),
            record(3, Some(Outcome::Committed)),
            record(2, Some(Outcome::Mixed { reason: reason() })),
            record(1, Some(Outcome::Committed)),
        ];
        assert_eq!(kept(Some(3), &records), [6, 5, 3, 1]);
        let never_committed = [record(1, Some(Outcome::Mixed { reason: reason() }))];
        assert_eq!(kept(None, &never_committed), [1]);
    }

    #[test]
    fn compacting_is_worthwhile_when_most_of_a_large_file_is_free() {
        let worthwhile = |file, modules| is_worthwhile(file, modules, COMPACT_FREE_BYTES_MIN);
        assert!(!worthwhile(63 << 20, 0));
        assert!(worthwhile(65 << 20, 0));
        assert!(!worthwhile(1 << 30, 900 << 20));
        assert!(worthwhile(1 << 30, 400 << 20));
    }

    #[test]
    fn a_file_that_is_mostly_free_gives_its_room_back() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::open(folder.path(), StoreLimits::default()).unwrap();
        let store = open();
        for number in 0..8 {
            store.put(&vec![number; 1 << 20], 0).unwrap();
        }
        let kept = store.put(&vec![9; 1 << 20], KEPT_FRESH_MS).unwrap();
        let collected = store.collect_and_compact(KEPT_FRESH_MS, 1 << 20).unwrap();
        assert_eq!((collected.modules.len(), collected.bytes), (8, 8 << 20));
        let Compaction::Done { before, after } = collected.compaction else {
            panic!("{:?}", collected.compaction);
        };
        assert!(before > 9 << 20 && after < 3 << 20, "{before} {after}");
        assert_eq!(store.path().metadata().unwrap().len(), after);
        let again = store.collect_and_compact(KEPT_FRESH_MS, 1).unwrap();
        assert!(matches!(again.compaction, Compaction::NotWorthwhile), "nothing was removed");
        assert_eq!(store.get(kept).unwrap(), Some(vec![9; 1 << 20]));
        drop(store);
        assert_eq!(open().get(kept).unwrap(), Some(vec![9; 1 << 20]));
    }
}
