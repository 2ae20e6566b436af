//! Modules: stored, listed, limited, removed.

mod common;

use tidegate_base::Digest;
use tidegate_store::{
    Compaction, KEPT_FRESH_MS, Outcome, RemovedModule, Store, StoreError, StoreLimits, VersionUse,
};

use common::{app, deploy, folder, module, new, open, rolled_back, says};

#[test]
fn a_module_comes_back_whole_whatever_its_size() {
    let folder = folder();
    let store = open(folder.path());
    let sizes = [0, 1, 65_023, 65_024, 65_025, 130_048, 3_000_000];
    for size in sizes {
        let bytes = module(size as u64, size);
        let digest = store.put(&bytes, 1).unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert!(store.has(digest).unwrap());
        assert_eq!(store.get(digest).unwrap().as_deref(), Some(&*bytes));
    }
    let unknown = Digest::of(b"unknown");
    assert!(!store.has(unknown).unwrap());
    assert_eq!(store.get(unknown).unwrap(), None);
    drop(store);
    let store = open(folder.path());
    for size in sizes {
        let bytes = module(size as u64, size);
        assert_eq!(store.get(Digest::of(&bytes)).unwrap(), Some(bytes));
    }
}

#[test]
fn the_list_names_size_time_and_the_versions_that_have_a_module() {
    let folder = folder();
    let store = open(folder.path());
    let used = store.put(b"used", 10).unwrap();
    let unused = store.put(b"not used", 20).unwrap();
    store.put(b"used", 15).unwrap();
    store.put(b"not used", 5).unwrap();
    deploy(&store, &app("chat"), used, Outcome::Committed);
    deploy(&store, &app("acme/chat"), used, rolled_back());
    deploy(&store, &app("chat"), used, Outcome::Committed);
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.is_sorted_by_key(|module| module.digest));
    let of = |digest| listed.iter().find(|module| module.digest == digest).unwrap();
    assert_eq!((of(used).bytes, of(used).stored_ms), (4, 15));
    assert_eq!(
        (of(unused).bytes, of(unused).stored_ms),
        (8, 20),
        "a clock that goes back takes nothing away"
    );
    let uses = |name, number| VersionUse { app: app(name), number };
    assert_eq!(of(used).used_by, [uses("acme/chat", 1), uses("chat", 1), uses("chat", 2)]);
    assert_eq!(of(unused).used_by, []);
}

#[test]
fn limits_on_size_room_and_number_are_told() {
    let folder = folder();
    let limits = StoreLimits { module_bytes_max: 100, total_bytes_max: 150, modules_max: 3 };
    let store = Store::open(folder.path(), limits).unwrap();
    says(store.put(&[0; 101], 0), &["101 bytes", "limit of the store is 100", "opt-level"]);
    let first = store.put(&[1; 100], 0).unwrap();
    says(store.put(&[2; 51], 0), &["store.redb", "holds 100 bytes", "150", "51", "raise the limit"]);
    store.put(&[1; 100], 0).unwrap();
    store.put(&[3; 25], 0).unwrap();
    store.put(&[4; 25], 0).unwrap();
    says(store.put(&[], 0), &["store.redb", "holds 3 modules", "raise the limit"]);
    assert_eq!(store.get(first).unwrap(), Some(vec![1; 100]));
}

#[test]
fn what_nothing_keeps_is_removed_and_what_was_never_deployed_after_an_hour() {
    let folder = folder();
    let store = open(folder.path());
    let app = app("chat");
    let bytes = |number: u64| module(number, 1000 + number as usize);
    for number in 1..=12 {
        let digest = store.put(&bytes(number), 0).unwrap();
        deploy(&store, &app, digest, Outcome::Committed);
    }
    let refused = store.put(&bytes(13), 0).unwrap();
    deploy(&store, &app, refused, rolled_back());
    let running = store.put(&bytes(14), 0).unwrap();
    store.begin(&app, new(running)).unwrap();
    let fresh = store.put(&bytes(15), 1).unwrap();
    // Stored again, to be deployed again.
    store.put(&bytes(2), 1).unwrap();

    let collected = store.collect(2).unwrap();
    assert!(matches!(collected.compaction, Compaction::NotWorthwhile));
    let removed = |number| RemovedModule { digest: Digest::of(&bytes(number)), bytes: 1000 + number };
    let mut expected = [removed(1), removed(13)];
    expected.sort_by_key(|module| module.digest);
    assert_eq!(collected.modules, expected);
    assert_eq!(collected.bytes, 2014);
    for number in [1, 13] {
        assert_eq!(store.get(Digest::of(&bytes(number))).unwrap(), None);
    }
    for number in 2..=12 {
        assert_eq!(store.get(Digest::of(&bytes(number))).unwrap(), Some(bytes(number)));
    }
    assert!(store.has(running).unwrap() && store.has(fresh).unwrap());
    assert_eq!(store.history(&app, 100).unwrap().len(), 14, "histories stay");

    store.finish(&app, 14, rolled_back(), None).unwrap();
    let gone = |now| store.collect(now).unwrap().modules;
    assert_eq!(gone(KEPT_FRESH_MS), [removed(14)]);
    assert_eq!(gone(KEPT_FRESH_MS + 1).len(), 2, "two wait no more");
    store.forget(&app).unwrap();
    assert_eq!(gone(KEPT_FRESH_MS + 1).len(), 10);
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn a_damaged_module_is_told_and_mended_by_storing_it_again() {
    let folder = folder();
    let (bytes, other) = (module(1, 200_000), module(2, 200_000));
    let store = open(folder.path());
    let digest = store.put(&bytes, 0).unwrap();
    store.put(&other, 0).unwrap();
    let path = store.path().to_owned();
    drop(store);

    let mut file = std::fs::read(&path).unwrap();
    let needle = &bytes[100_000..100_032];
    let at = file.windows(needle.len()).position(|window| window == needle).unwrap();
    file[at + 5] ^= 1;
    std::fs::write(&path, file).unwrap();

    let store = open(folder.path());
    let error = says(store.get(digest), &[&digest.to_string(), "store.redb", "deploy the same module again"]);
    assert!(matches!(error, StoreError::DamagedModule { .. }));
    assert_eq!(store.get(Digest::of(&other)).unwrap(), Some(other));
    assert_eq!(store.put(&bytes, 0).unwrap(), digest);
    assert_eq!(store.get(digest).unwrap(), Some(bytes));
}
