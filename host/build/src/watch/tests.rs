//! Real files, changed as editors do it, with events and without.

use super::*;
use crate::files::testing::TempDir;

const MANIFEST: &str = "[package]\nname = \"p\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nsdk = { path = \"../sdk\" }\n";

struct Sources(TempDir);

impl Sources {
    fn new() -> Self {
        let dir = TempDir::new();
        dir.write("p/Cargo.toml", MANIFEST);
        dir.write("p/src/lib.rs", "one");
        dir.write("sdk/Cargo.toml", "[package]\nname = \"sdk\"\n");
        dir.write("sdk/src/lib.rs", "sdk");
        Self(dir)
    }

    fn request(&self) -> BuildRequest {
        BuildRequest::new(self.0.path().join("p"))
    }

    /// One that has events and one that has none.
    fn watchers(&self) -> [Watcher; 2] {
        let polling = Hints::polling(WatchError::OutOfWatches);
        [Watcher::new(&self.request()).unwrap(), Watcher::with_hints(&self.request(), polling).unwrap()]
    }

    fn write(&self, name: &str, text: &str) {
        self.0.write(name, text);
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.0.path().join(from), self.0.path().join(to)).unwrap();
    }

    /// The next change, as paths relative to the folder of everything.
    fn changed(&self, watcher: &mut Watcher) -> Vec<String> {
        let change = match watcher.wait(far()) {
            Woken::Changed(change) => change,
            other => panic!("{other:?} instead of a change"),
        };
        let relative = |path: &PathBuf| path.strip_prefix(self.0.path()).unwrap().display().to_string();
        change.paths.iter().map(relative).collect()
    }
}

/// Comes only if a test fails.
fn far() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(30))
}

fn now() -> Option<Instant> {
    Some(Instant::now())
}

#[test]
fn a_saved_source_is_a_change_and_told_once() {
    let sources = Sources::new();
    for (mut watcher, text) in sources.watchers().into_iter().zip(["another one", "and another one"]) {
        sources.changed_by(&mut watcher, || sources.write("p/src/lib.rs", text), &["p/src/lib.rs"]);
        assert_eq!(watcher.wait(now()), Woken::Deadline);
    }
}

#[test]
fn nothing_is_told_as_long_as_nothing_counts() {
    let sources = Sources::new();
    for mut watcher in sources.watchers() {
        assert_eq!(watcher.wait(now()), Woken::Deadline);
        sources.write("p/target/debug/x.rs", "built");
        sources.write("p/src/.lib.rs.swp", "vim");
        sources.write("p/src/lib.rs~", "backup");
        sources.write("p/README.md", "text");
        // What is written after it is seen after it, so the look at it has seen those too.
        sources.changed_by(&mut watcher, || sources.write("p/src/a.rs", "a"), &["p/src/a.rs"]);
        std::fs::remove_file(sources.0.path().join("p/src/a.rs")).unwrap();
        assert_eq!(sources.changed(&mut watcher), ["p/src/a.rs"]);
    }
}

#[test]
fn several_files_saved_at_once_are_one_change() {
    let sources = Sources::new();
    for (mut watcher, text) in sources.watchers().into_iter().zip(["longer", "longer still"]) {
        let save_all = || {
            for name in ["p/src/lib.rs", "p/src/other.rs", "p/Cargo.lock", "sdk/src/lib.rs"] {
                sources.write(name, text);
            }
        };
        let all = ["p/Cargo.lock", "p/src/lib.rs", "p/src/other.rs", "sdk/src/lib.rs"];
        sources.changed_by(&mut watcher, save_all, &all);
    }
}

#[test]
fn editors_that_write_beside_and_rename_over_are_seen() {
    let sources = Sources::new();
    for (mut watcher, text) in sources.watchers().into_iter().zip(["by vim", "by vim again"]) {
        let save = || {
            sources.rename("p/src/lib.rs", "p/src/lib.rs~");
            sources.write("p/src/4913", "");
            sources.write("p/src/lib.rs", text);
            std::fs::remove_file(sources.0.path().join("p/src/4913")).unwrap();
        };
        sources.changed_by(&mut watcher, save, &["p/src/lib.rs"]);
        let save = || {
            sources.write("p/src/lib.rs.tmp", &text.repeat(2));
            sources.rename("p/src/lib.rs.tmp", "p/src/lib.rs");
        };
        sources.changed_by(&mut watcher, save, &["p/src/lib.rs"]);
    }
}

#[test]
fn folders_that_appear_or_are_made_anew_are_watched_too() {
    let sources = Sources::new();
    let mut watcher = Watcher::new(&sources.request()).unwrap();
    sources.changed_by(&mut watcher, || sources.write("p/src/deep/mod.rs", "a"), &["p/src/deep/mod.rs"]);
    sources.changed_by(&mut watcher, || sources.write("p/src/deep/mod.rs", "bb"), &["p/src/deep/mod.rs"]);
    std::fs::remove_dir_all(sources.0.path().join("p/src/deep")).unwrap();
    assert_eq!(sources.changed(&mut watcher), ["p/src/deep/mod.rs"]);
    sources.changed_by(&mut watcher, || sources.write("p/src/deep/mod.rs", "ccc"), &["p/src/deep/mod.rs"]);
    sources.changed_by(&mut watcher, || sources.write("p/src/deep/mod.rs", "dddd"), &["p/src/deep/mod.rs"]);
}

#[test]
fn a_new_path_dependency_is_watched_from_then_on() {
    let sources = Sources::new();
    let mut watcher = Watcher::new(&sources.request()).unwrap();
    sources.write("more/Cargo.toml", "[package]\n");
    sources.write("more/src/lib.rs", "m");
    let manifest = format!("{MANIFEST}more = {{ path = \"../more\" }}\n");
    assert!(watcher.wait(now()) == Woken::Deadline, "nothing depends on it yet");
    sources.write("p/Cargo.toml", &manifest);
    assert!(sources.changed(&mut watcher).contains(&"p/Cargo.toml".to_owned()));
    sources.changed_by(&mut watcher, || sources.write("more/src/lib.rs", "changed"), &["more/src/lib.rs"]);
}

#[test]
fn what_is_saved_before_the_wait_counts_from_when_the_watcher_was_made() {
    let sources = Sources::new();
    for (mut watcher, text) in sources.watchers().into_iter().zip(["early", "earlier"]) {
        sources.write("p/src/lib.rs", text);
        // Even a deadline that is over does not hide it.
        assert!(matches!(watcher.wait(now()), Woken::Changed(_)));
    }
}

#[test]
fn a_watcher_is_stopped_from_another_thread_and_stays_so() {
    let sources = Sources::new();
    for mut watcher in sources.watchers() {
        let stop = watcher.stopper();
        let waits = std::thread::spawn(move || {
            let woken = watcher.wait(far());
            (woken, watcher.wait(far()))
        });
        stop.stop();
        assert_eq!(waits.join().unwrap(), (Woken::Stopped, Woken::Stopped));
    }
}

#[test]
fn a_watcher_says_why_it_only_looks_now_and_then() {
    let sources = Sources::new();
    let [events, polls] = sources.watchers();
    assert_eq!((events.limits(), polls.limits()), (None, Some(&WatchError::OutOfWatches)));
}

#[test]
fn a_folder_without_a_plugin_cannot_be_watched() {
    let dir = TempDir::new();
    assert!(matches!(Watcher::new(&BuildRequest::new(dir.path())), Err(BuildError::NoManifest { .. })));
}

impl Sources {
    /// A change made by another thread while the watcher waits. Changes that come in pieces may be told in pieces, if
    /// the machine is slow enough: what counts is that all of them are told, and nothing else.
    fn changed_by(&self, watcher: &mut Watcher, change: impl FnOnce() + Send, want: &[&str]) {
        std::thread::scope(|scope| {
            scope.spawn(change);
            let mut told = std::collections::BTreeSet::new();
            while told.len() < want.len() {
                told.extend(self.changed(watcher));
            }
            assert_eq!(told.iter().map(String::as_str).collect::<Vec<_>>(), want);
        });
    }
}
