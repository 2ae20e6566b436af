//! The tokens of the HTTP API, in the store.
#![allow(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]

mod common;

use common::{app, folder, open, says};
use tidegate_base::{Digest, Label, TOKEN_NOTE_BYTES_MAX, Token, TokenRole};
use tidegate_store::CatalogChange;

fn token(tenant: &str, note: &str) -> Token {
    Token {
        id: "a1b2c3d4e5f6".into(),
        tenant: tenant.parse().unwrap(),
        role: TokenRole::Push,
        apps: vec![app("acme/chat")],
        note: note.into(),
        created_ms: 7,
    }
}

#[test]
fn tokens_survive_a_restart_and_a_revoked_one_does_not() {
    let folder = folder();
    let store = open(folder.path());
    assert!(store.tokens().unwrap().is_empty());
    let [one, two] = [Digest::of(b"one"), Digest::of(b"two")];
    store.add_token(one, &token("acme", "web shop")).unwrap();
    store.add_token(two, &token("acme", "")).unwrap();
    assert!(store.remove_token(two).unwrap());
    assert!(!store.remove_token(two).unwrap());
    drop(store);
    assert_eq!(open(folder.path()).tokens().unwrap(), [(one, token("acme", "web shop"))]);
}

#[test]
fn a_tenant_that_goes_takes_its_tokens_along() {
    let folder = folder();
    let store = open(folder.path());
    let [one, two] = [Digest::of(b"one"), Digest::of(b"two")];
    store.add_token(one, &token("acme", "")).unwrap();
    store.add_token(two, &token("other", "")).unwrap();
    let tenants = vec![(Label::new("acme").unwrap(), None)];
    store.change_catalog(&CatalogChange { revision: 1, tenants, apps: Vec::new() }).unwrap();
    assert_eq!(store.tokens().unwrap(), [(two, token("other", ""))]);
}

#[test]
fn a_note_that_is_too_long_is_refused() {
    let folder = folder();
    let store = open(folder.path());
    let long = token("acme", &"x".repeat(TOKEN_NOTE_BYTES_MAX + 1));
    says(store.add_token(Digest::of(b"one"), &long), &["note", "256"]);
    assert!(store.tokens().unwrap().is_empty());
}
