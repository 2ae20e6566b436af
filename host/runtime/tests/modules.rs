//! Modules and their cache on disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::fs;
use std::path::PathBuf;

use support::engine;
use tidegate_base::Digest;
use tidegate_runtime::{CacheSettings, Compiler, Engine, ModuleCache, Modules};

/// A directory that is removed with the test.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn modules(engine: &Engine, directory: &Temporary) -> Modules {
    let cache = ModuleCache::open(CacheSettings::new(&directory.0)).unwrap();
    Modules::new(engine.clone(), Compiler::InProcess, Some(cache))
}

#[test]
fn a_cached_module_that_was_altered_is_found_out_and_compiled_anew() {
    let name = format!("tidegate-modules-{}", std::process::id());
    let directory = Temporary(std::env::temp_dir().join(name));
    let engine = engine();
    drop(modules(&engine, &directory).load(support::guest()).unwrap());
    let files = || fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let [file] = files().try_into().unwrap();
    let good = fs::read(&file).unwrap();

    // Code that somebody has changed must never run: it is removed before it is loaded.
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x80;
    fs::write(&file, bad).unwrap();
    drop(modules(&engine, &directory).load(support::guest()).unwrap());
    let [file] = files().try_into().unwrap();
    let again = fs::read(&file).unwrap();
    assert_eq!(again.len(), good.len());
    assert_eq!(again[..16], good[..16]);

    // An intact one is loaded as it is: nothing writes it again.
    let written = fs::metadata(&file).unwrap().len();
    drop(modules(&engine, &directory).load(support::guest()).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().len(), written);
    assert_eq!(files().len(), 1);
}

#[test]
fn what_was_compiled_before_is_loaded_without_its_bytes() {
    let name = format!("tidegate-compiled-{}", std::process::id());
    let directory = Temporary(std::env::temp_dir().join(name));
    let engine = engine();
    let digest = Digest::of(support::guest());
    assert!(modules(&engine, &directory).load_compiled(digest).is_none());
    let first = modules(&engine, &directory);
    let module = first.load(support::guest()).unwrap();
    assert!(first.load_compiled(digest).is_some(), "somebody holds it");
    let later = modules(&engine, &directory);
    let again = later.load_compiled(digest).unwrap();
    assert_eq!((again.digest(), again.exports()), (module.digest(), module.exports()));
    assert!(later.is_loaded(digest) && later.load_compiled(Digest::of(b"another")).is_none());
}
