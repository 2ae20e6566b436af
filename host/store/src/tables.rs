//! The tables of the file, and the form of their values.
//!
//! A value is the first [`CHECK_BYTES`] of the SHA-256 of what follows, then the record in postcard. The file has
//! checksums of its own, but they are looked at after a crash only; ours are looked at with every read, so that a damaged
//! record is told and never believed. Modules have their digests.

use redb::{TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_base::{AppName, Digest};

use crate::engine::{Failure, Layout};

/// The file of a register: it reads little and seldom, and a module it reads once. A larger cache would just fill with the
/// history, kilobyte by kilobyte, over thousands of deployments.
pub(crate) static LAYOUT: Layout = Layout { format: FORMAT, cache_bytes: 4 << 20, create };

const FORMAT: u32 = 1;
/// Where [`META`] has the format.
pub(crate) const FORMAT_KEY: &str = "format";

pub(crate) const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
/// Digest -> `ModuleEntry`.
pub(crate) const MODULES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("modules");
/// Digest -> nothing: stored, and no deployment of it has begun since. Only writers look at it, which make it if it is
/// not there.
pub(crate) const AWAITED: TableDefinition<'_, &[u8; 32], ()> = TableDefinition::new("awaited");
/// Digest and number from 0 -> bytes.
pub(crate) const CHUNKS: TableDefinition<'_, (&[u8; 32], u32), &[u8]> = TableDefinition::new("chunks");
/// App -> `AppEntry`.
pub(crate) const APPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("apps");
/// App and number -> `VersionRecord` without its report.
pub(crate) const VERSIONS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("versions");
/// App and number -> the report, a string.
pub(crate) const REPORTS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("reports");
/// App -> `RunningEntry`.
pub(crate) const RUNNING: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("running");

/// [`REVISION_KEY`] -> the revision of the last change of tenants and apps. As the two below, made by the first change.
pub(crate) const CATALOG: TableDefinition<'_, &str, u64> = TableDefinition::new("catalog");
/// Where [`CATALOG`] has the revision.
pub(crate) const REVISION_KEY: &str = "revision";
/// Tenant -> bytes.
pub(crate) const TENANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tenants");
/// App that was made at run time -> bytes.
pub(crate) const SPECS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("specs");

/// Digest of the secret -> `Token`. Made by the first token.
pub(crate) const TOKENS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("tokens");

/// A module is stored in pieces: the file's pages grow by powers of two, so one page for a whole module would waste up
/// to half of it. A piece, its key and the page's head just fit into 64 KiB.
pub(crate) const CHUNK_BYTES: usize = (64 << 10) - 512;

pub(crate) const CHECK_BYTES: usize = 8;

fn create(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(MODULES)?;
    transaction.open_table(CHUNKS)?;
    transaction.open_table(APPS)?;
    transaction.open_table(VERSIONS)?;
    transaction.open_table(REPORTS)?;
    transaction.open_table(RUNNING)?;
    Ok(())
}

/// A record as it stands in the file.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, Failure> {
    let bytes = postcard::to_extend(record, vec![0; CHECK_BYTES]);
    // Only a type that postcard has no form for fails, and there is none here.
    let mut bytes = bytes.map_err(|error| Failure::Damaged(format!("a record has no form: {error}")))?;
    if let Some((check, body)) = bytes.split_first_chunk_mut() {
        *check = check_of(body);
    }
    Ok(bytes)
}

/// The record, if it is what was written. `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T, Failure> {
    checked(bytes).ok_or_else(|| Failure::Damaged(format!("{} is not what was written", what())))
}

/// The app that a key names.
pub(crate) fn app(key: &str) -> Result<AppName, Failure> {
    AppName::new(key).map_err(|_| Failure::Damaged(format!("{key:?} stands for an app")))
}

fn checked<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (check, body) = bytes.split_first_chunk()?;
    if *check != check_of(body) {
        return None;
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Some(record),
        _ => None,
    }
}

/// What stands before a record, so that a damaged one is told.
pub(crate) fn check_of(body: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Digest::of(body);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{AppEntry, ModuleEntry, Origin, Outcome, RunningEntry, VersionRecord};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn body<T: Serialize>(record: &T) -> String {
        hex(&encode(record).ok().unwrap()[CHECK_BYTES..])
    }

    #[test]
    fn the_bytes_of_records_are_those_of_format_1() {
        assert_eq!(FORMAT, 1);
        let digest = Digest::from_bytes([7; 32]);
        let sevens = "07".repeat(32);
        let record = VersionRecord {
            number: 300,
            digest,
            at_ms: 5,
            by: "a".into(),
            note: "b".into(),
            again: Some(2),
            origin: Origin::Rollback,
            outcome: Some(Outcome::Mixed { reason: "c".into() }),
            report: None,
        };
        assert_eq!(body(&record), format!("ac02{sevens}05016101620102020102016300"));
        assert_eq!(body(&Outcome::Committed), "00");
        assert_eq!(body(&Outcome::RolledBack { reason: "c".into() }), "010163");
        assert_eq!(body(&[Origin::File, Origin::Deploy]), "0001");
        assert_eq!(
            body(&AppEntry { last: 3, current: Some(2), file: Some(digest) }),
            format!("03010201{sevens}")
        );
        assert_eq!(body(&RunningEntry { number: 3, progress: vec![9, 8] }), "03020908");
        assert_eq!(body(&ModuleEntry { bytes: 1, stored_ms: 2 }), "0102");
        let whole = encode(&ModuleEntry { bytes: 1, stored_ms: 2 }).ok().unwrap();
        assert_eq!(hex(&whole), "a12871fee210fb860102");
    }

    proptest! {
        #[test]
        fn a_changed_byte_or_a_cut_is_noticed(number: u32, progress: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let entry = RunningEntry { number, progress };
            let good = encode(&entry).ok().unwrap();
            prop_assert_eq!(checked(&good), Some(entry));
            let at = at.index(good.len());
            prop_assert_eq!(checked::<RunningEntry>(&good[..at]), None);
            let mut bad = good;
            bad[at] ^= flip;
            prop_assert_eq!(checked::<RunningEntry>(&bad), None);
        }
    }
}
