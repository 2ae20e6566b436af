//! What these tests share.
#![allow(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::Path;

use tidegate_base::{AppName, Digest};
use tidegate_store::{NewVersion, Origin, Outcome, Store, StoreError, StoreLimits, VersionRecord};

pub fn open(folder: &Path) -> Store {
    Store::open(folder, StoreLimits::default()).unwrap()
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub fn new(digest: Digest) -> NewVersion {
    NewVersion {
        digest,
        at_ms: 7,
        by: "ada".to_owned(),
        note: String::new(),
        again: None,
        origin: Origin::Deploy,
        progress: Vec::new(),
    }
}

/// Begins and ends a deployment.
pub fn deploy(store: &Store, app: &AppName, digest: Digest, outcome: Outcome) -> VersionRecord {
    let number = store.begin(app, new(digest)).unwrap().number;
    store.finish(app, number, outcome, None).unwrap()
}

pub fn rolled_back() -> Outcome {
    Outcome::RolledBack { reason: "it trapped".to_owned() }
}

/// Bytes that do not compress and are nowhere else.
pub fn module(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// The message of an error, which names all of these.
pub fn says<T: std::fmt::Debug>(result: Result<T, StoreError>, words: &[&str]) -> StoreError {
    let error = result.unwrap_err();
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    error
}
