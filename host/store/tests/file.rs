//! The file: private, of a known format, damaged or not.
#![allow(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use redb::{Database, TableDefinition};
use tidegate_base::Digest;
use tidegate_store::{Outcome, Store, StoreError, StoreLimits};

use common::{app, deploy, folder, module, new, open, says};

fn try_open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(folder, StoreLimits::default())
}

#[test]
fn the_file_is_made_for_its_user_only_and_refused_if_others_may_use_it() {
    let folder = folder();
    let store = open(folder.path());
    let path = store.path().to_owned();
    assert_eq!(path, folder.path().join("store.redb"));
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    says(try_open(folder.path()), &["store.redb", "its mode is 640", "chmod 600"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    open(folder.path());
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = folder();
    let path = folder.path().join(Store::FILE_NAME);
    says(try_open(&folder.path().join("missing")), &["missing", "No such file", "data_dir"]);
    fs::create_dir(&path).unwrap();
    says(try_open(folder.path()), &["store.redb", "directory"]);
    fs::remove_dir(&path).unwrap();
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    says(try_open(folder.path()), &["store.redb", "it is a link"]);
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn a_store_is_open_once() {
    let folder = folder();
    let store = open(folder.path());
    let error = says(try_open(folder.path()), &["store.redb", "in use", "stop the node", "data_dir"]);
    assert!(matches!(error, StoreError::Locked { .. }));
    drop(store);
    open(folder.path());
}

#[test]
fn a_file_of_a_newer_format_is_refused_and_stays_as_it_is() {
    let folder = folder();
    let store = open(folder.path());
    let digest = store.put(b"a", 0).unwrap();
    let path = store.path().to_owned();
    drop(store);
    let set_format = |format: u32| {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().insert("format", format).unwrap();
        transaction.commit().unwrap();
    };
    set_format(2);
    let error = says(try_open(folder.path()), &["store.redb", "format 2", "knows format 1", "newer"]);
    assert!(matches!(error, StoreError::NewerFormat { found: 2, known: 1, .. }));
    set_format(1);
    assert!(open(folder.path()).has(digest).unwrap());
    set_format(0);
    says(try_open(folder.path()), &["store.redb", "damaged", "names no format"]);
}

#[test]
fn a_file_of_something_else_is_told_and_left_alone() {
    let folder = folder();
    let path = folder.path().join(Store::FILE_NAME);
    let foreign = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        says(try_open(folder.path()), &["store.redb", "damaged", "move the file away", "deployed again"]);
        assert!(fs::read(&path).unwrap() == bytes);
    };
    foreign(b"hello");
    foreign(&module(1, 100_000));
    fs::remove_file(&path).unwrap();
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: TableDefinition<'_, &str, u32> = TableDefinition::new("birds");
    transaction.open_table(table).unwrap();
    transaction.commit().unwrap();
    drop(database);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    says(try_open(folder.path()), &["store.redb", "damaged"]);
    fs::write(&path, b"").unwrap();
    open(folder.path());
}

/// Everything that reads, then what writes: an error is fine, a wrong answer or a panic is not.
fn use_all(folder: &Path, bytes: &[u8], history: &[tidegate_store::VersionRecord]) -> Result<(), StoreError> {
    let chat = app("chat");
    let digest = Digest::of(bytes);
    let store = try_open(folder)?;
    let results = [
        store.get(digest).map(|found| assert!(found.is_none_or(|found| found == bytes))),
        store.history(&chat, 10).map(|found| assert!(found.iter().all(|record| history.contains(record)))),
        store.current(&chat).map(|found| assert!(found.is_none_or(|record| history.contains(&record)))),
        store.running().map(drop),
        store.list().map(drop),
        store.apps().map(drop),
        store.put(bytes, 0).map(drop),
        store.begin(&chat, new(digest)).map(drop),
        store.collect(u64::MAX).map(drop),
    ];
    results.into_iter().collect()
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_wrong_answer() {
    let whole = folder();
    let store = open(whole.path());
    let chat = app("chat");
    let bytes = module(1, 100_000);
    let digest = store.put(&bytes, 0).unwrap();
    deploy(&store, &chat, digest, Outcome::Committed);
    store.begin(&chat, new(digest)).unwrap();
    let history = store.history(&chat, 10).unwrap();
    drop(store);
    let good = fs::read(whole.path().join(Store::FILE_NAME)).unwrap();

    let damaged = folder();
    let path = damaged.path().join(Store::FILE_NAME);
    let (mut errors, mut fine) = (0, 0);
    for seed in 0..40 {
        let noise = module(seed, 64);
        let at =
            |index: usize| usize::from_le_bytes(noise[index..index + 8].try_into().unwrap()) % good.len();
        let mut bad = good.clone();
        match seed % 4 {
            0 => bad[at(0)] ^= 1 << (seed % 8),
            1 => bad.truncate(at(0)),
            2 => bad.iter_mut().skip(at(0)).take(4096).for_each(|byte| *byte = 0),
            _ => bad.iter_mut().skip(at(0) & !4095).zip(&noise).for_each(|(byte, noise)| *byte = *noise),
        }
        fs::write(&path, &bad).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        match use_all(damaged.path(), &bytes, &history) {
            Ok(()) | Err(StoreError::Busy { .. }) => fine += 1,
            Err(error) => {
                assert!(error.to_string().contains("damaged"), "{error}");
                errors += 1;
            }
        }
    }
    assert!(errors > 0 && fine > 0);
}
