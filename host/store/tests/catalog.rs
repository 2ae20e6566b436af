//! Tenants and apps that were made at run time, in the store.
#![allow(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]

mod common;

use common::{app, deploy, folder, module, new, open, says};
use tidegate_base::Label;
use tidegate_store::{CATALOG_RECORD_BYTES_MAX, CatalogChange, CatalogRecords, KEPT_FRESH_MS, Outcome};

fn acme() -> Label {
    Label::new("acme").unwrap()
}

fn made(revision: u64) -> CatalogChange {
    let tenants = vec![(acme(), Some(b"quotas".to_vec()))];
    CatalogChange { revision, tenants, apps: vec![(app("acme/chat"), Some(b"spec".to_vec()))] }
}

#[test]
fn tenants_and_apps_survive_a_restart() {
    let folder = folder();
    let store = open(folder.path());
    assert_eq!(store.catalog().unwrap(), CatalogRecords::default());
    store.change_catalog(&made(1)).unwrap();
    drop(store);
    let found = open(folder.path()).catalog().unwrap();
    assert_eq!((found.revision, found.tenants), (1, vec![(acme(), b"quotas".to_vec())]));
    assert_eq!(found.apps, [(app("acme/chat"), b"spec".to_vec())]);
}

#[test]
fn an_app_that_goes_takes_its_history_along_and_its_modules_are_collected() {
    let folder = folder();
    let store = open(folder.path());
    store.change_catalog(&made(1)).unwrap();
    let (chat, other) = (app("acme/chat"), app("other"));
    let [digest, kept] = [1, 2].map(|seed| store.put(&module(seed, 100), 0).unwrap());
    deploy(&store, &chat, digest, Outcome::Committed);
    deploy(&store, &other, kept, Outcome::Committed);
    let gone = CatalogChange { revision: 2, tenants: Vec::new(), apps: vec![(chat.clone(), None)] };
    store.change_catalog(&gone).unwrap();
    assert!(store.history(&chat, 9).unwrap().is_empty() && store.current(&chat).unwrap().is_none());
    let collected = store.collect(KEPT_FRESH_MS).unwrap().modules;
    assert_eq!(collected.iter().map(|module| module.digest).collect::<Vec<_>>(), [digest]);
    assert_eq!(store.history(&other, 9).unwrap().len(), 1);
    assert_eq!(store.begin(&other, new(kept)).unwrap().number, 2);
    assert!(store.catalog().unwrap().apps.is_empty());
}

#[test]
fn a_change_is_refused_as_a_whole() {
    let folder = folder();
    let store = open(folder.path());
    store.change_catalog(&made(5)).unwrap();
    says(store.change_catalog(&made(5)), &["revision 5"]);
    let digest = store.put(b"a", 0).unwrap();
    store.begin(&app("acme/chat"), new(digest)).unwrap();
    let gone =
        CatalogChange { revision: 6, tenants: vec![(acme(), None)], apps: vec![(app("acme/chat"), None)] };
    says(store.change_catalog(&gone), &["acme/chat", "being deployed"]);
    let large = vec![0; CATALOG_RECORD_BYTES_MAX + 1];
    let large = CatalogChange { revision: 6, tenants: vec![(acme(), Some(large))], apps: Vec::new() };
    says(store.change_catalog(&large), &["262145 bytes"]);
    let found = store.catalog().unwrap();
    assert_eq!((found.revision, found.tenants.len(), found.apps.len()), (5, 1, 1));
}
