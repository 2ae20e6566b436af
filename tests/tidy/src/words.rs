//! What never appears: in code, in tests, in any file.

use crate::repo::File;
use crate::source::Source;

/// A word of Rust code that is refused, where, and why.
struct Banned {
    word: &'static str,
    place: fn(&Source) -> bool,
    reason: &'static str,
}

const BANNED: [Banned; 12] = [
    Banned { word: "unbounded_channel", place: anywhere, reason: "every queue is bounded and has a policy" },
    Banned { word: "unbounded", place: anywhere, reason: "every queue is bounded and has a policy" },
    Banned { word: "mpsc::channel()", place: anywhere, reason: "std's is unbounded: use sync_channel" },
    Banned { word: "todo!", place: anywhere, reason: "what is not there is not there" },
    Banned { word: "unimplemented!", place: anywhere, reason: "what is not there is not there" },
    Banned { word: "dbg!", place: anywhere, reason: "left over" },
    Banned { word: "#[ignore", place: anywhere, reason: "assert what holds today, or remove the test" },
    Banned { word: "thread::sleep", place: story, reason: "a test waits for what happens, not for time" },
    Banned { word: "time::sleep", place: story, reason: "a test waits for what happens, not for time" },
    Banned { word: "Instant::now", place: pure, reason: "time comes in as an argument" },
    Banned { word: "SystemTime::now", place: pure, reason: "time comes in as an argument" },
    Banned { word: "std::fs", place: pure, reason: "no I/O here" },
];

fn anywhere(_: &Source) -> bool {
    true
}

/// The tests across crates. Fixtures are guests: one that sleeps is what a test is about. The harness has the loops that
/// look again after a while, so that no test needs one.
fn story(source: &Source) -> bool {
    let in_folder = |folder: &str| source.path.starts_with(folder);
    in_folder("tests/") && !in_folder("tests/fixtures/") && !in_folder("tests/harness/")
}

/// The crates that hold plain state machines.
fn pure(source: &Source) -> bool {
    ["host/base/src/", "host/contract/src/", "host/wire/src/"]
        .iter()
        .any(|crates| source.path.starts_with(crates))
}

fn banned_words(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        for Banned { word, reason, .. } in BANNED.iter().filter(|banned| (banned.place)(source)) {
            let places = source.words(word).into_iter();
            broken.extend(places.map(|at| format!("{}:{}: {word}: {reason}", source.path, source.line(at))));
        }
    }
    broken
}

/// Where one person's machine keeps things. In parts, so that this file does not hold them.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Paths that exist on one machine only. A web address may have such a part.
fn machine_paths(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for File { path, text } in files {
        for (at, line) in text.lines().enumerate() {
            let found = MACHINE_PATHS.iter().find(|machine| begins_a_path(line, machine));
            broken.extend(found.map(|found| format!("{path}:{}: {found}", at + 1)));
        }
    }
    broken
}

fn begins_a_path(line: &str, machine: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-}".contains(c);
    line.match_indices(machine).any(|(at, _)| !line[..at].ends_with(inside))
}

const INDEX: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Lock files that name another source than crates.io: nobody else could build from those.
fn foreign_sources(files: &[File]) -> Vec<String> {
    let mut broken = Vec::new();
    for File { path, text } in files.iter().filter(|file| file.path.ends_with("Cargo.lock")) {
        let sources = text.lines().filter_map(|line| line.strip_prefix("source = "));
        let foreign = sources.filter(|source| source.trim_matches('"') != INDEX);
        broken.extend(foreign.map(|source| format!("{path}: {source}")));
    }
    broken
}

mod tests {
    use super::*;
    use crate::repo::{files, refuse, sources};

    #[test]
    fn banned_words_are_nowhere_in_the_code() {
        refuse("Words that the house rules refuse:", &banned_words(&sources()));
    }

    #[test]
    fn no_file_names_a_path_of_one_machine() {
        refuse("Paths that exist on one machine only:", &machine_paths(&files()));
    }

    #[test]
    fn lock_files_name_crates_io_alone() {
        let files = files();
        assert!(files.iter().any(|file| file.path == "Cargo.lock"));
        refuse("Sources that are not crates.io:", &foreign_sources(&files));
    }

    #[test]
    fn every_banned_word_is_found_where_it_is_banned() {
        for banned in &BANNED {
            let text = format!("fn f() {{ {} }}", banned.word);
            let path = if (banned.place)(&Source::read("host/wire/src/a.rs", "")) {
                "host/wire/src/a.rs"
            } else {
                "tests/e2e/tests/a.rs"
            };
            let found = banned_words(&[Source::read(path, &text)]);
            let expected = format!("{path}:1: {}: {}", banned.word, banned.reason);
            assert!(found.contains(&expected), "{found:?}");
        }
    }

    #[test]
    fn comments_strings_and_other_places_may_hold_banned_words() {
        let fine = [
            ("host/a/src/b.rs", "// dbg!\nfn f() { g(\"todo!\"); std::thread::sleep(x); Instant::now() }"),
            ("tests/fixtures/sleeper/src/lib.rs", "fn f() { std::thread::sleep(x) }"),
            ("host/a/src/c.rs", "fn f() { mpsc::channel(16); my_unbounded_thing() }"),
        ];
        assert!(banned_words(&fine.map(|(path, text)| Source::read(path, text))).is_empty());
    }

    #[test]
    fn machine_paths_are_found_and_parts_of_addresses_are_not() {
        let bad = format!("see\n({}x)", MACHINE_PATHS[0]);
        let fine = format!("https://example.org{}x and target{}x", MACHINE_PATHS[0], MACHINE_PATHS[2]);
        assert_eq!(
            machine_paths(&[File::new("a", &bad), File::new("b", &fine)]),
            [format!("a:2: {}", MACHINE_PATHS[0])]
        );
    }

    #[test]
    fn a_foreign_source_in_a_lock_file_is_found() {
        let lock = format!("source = \"{INDEX}\"\nsource = \"registry+https://mirror.example/index\"\n");
        assert_eq!(foreign_sources(&[File::new("x/Cargo.lock", &lock)]).len(), 1);
    }
}
