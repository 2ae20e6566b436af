//! What is confirmed survives: a killed process, a full disk. Each story has a second process: this test binary again,
//! told by the environment to play a part.
#![allow(clippy::unwrap_used, reason = "outside of `#[test]` functions, but for tests only")]

mod common;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tidegate_base::Digest;
use tidegate_store::{NewVersion, Outcome, Store, StoreError, StoreLimits};

use common::{app, folder, module, new, open, says};

/// Where the second process has its store; only it has this.
const FOLDER: &str = "TIDEGATE_STORE_TEST_FOLDER";

/// What stands before a number that the second process writes when the step of this number is confirmed.
const CONFIRMED: &str = "confirmed ";

fn part() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// This binary with only the test that plays the part, begun by a shell that has run `before`.
fn second_process(before: &str, part: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{before} exec \"$0\" --exact {part} --nocapture"));
    command.arg(env::current_exe().unwrap()).env(FOLDER, folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn confirm(number: u32) {
    // Not `println!`, whose words the test harness may keep to itself.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{CONFIRMED}{number}").unwrap();
    out.flush().unwrap();
}

fn confirmed(child: &mut Child) -> impl Iterator<Item = u32> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.strip_prefix(CONFIRMED)?.parse().ok())
}

fn module_of(number: u32) -> Vec<u8> {
    module(u64::from(number), 70_000)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_second_process_deploys_until_it_is_killed() {
    let Some(folder) = part() else { return };
    let store = open(&folder);
    let app = app("chat");
    for running in store.running().unwrap() {
        store.finish(&running.app, running.record.number, Outcome::Committed, None).unwrap();
    }
    loop {
        let next = store.history(&app, 1).unwrap().first().map_or(1, |record| record.number + 1);
        let digest = store.put(&module_of(next), 0).unwrap();
        let progress = vec![1; next as usize];
        let record = store.begin(&app, NewVersion { progress, ..new(digest) }).unwrap();
        assert_eq!(record.number, next);
        store.set_progress(&app, next, &[2]).unwrap();
        store.finish(&app, next, Outcome::Committed, Some("{}")).unwrap();
        confirm(next);
    }
}

#[test]
fn what_was_confirmed_is_there_after_a_kill_and_nothing_is_there_by_half() {
    let folder = folder();
    let app = app("chat");
    let mut before = 0;
    for round in 0..5 {
        let mut child =
            second_process("", "a_second_process_deploys_until_it_is_killed", folder.path()).spawn().unwrap();
        // The one after these is killed wherever it is.
        let last = confirmed(&mut child).nth(round % 3).expect("the second process deploys");
        kill(child);
        assert!(last > before);

        let store = open(folder.path());
        let history = store.history(&app, usize::MAX).unwrap();
        let newest = history.first().unwrap().number;
        assert!(newest >= last);
        assert_eq!(history.len(), newest as usize);
        for record in &history {
            assert_eq!(store.get(record.digest).unwrap(), Some(module_of(record.number)));
            if record.number <= last {
                assert_eq!(record.outcome, Some(Outcome::Committed));
                assert_eq!(record.report.as_deref(), Some("{}"));
            }
        }
        let running = store.running().unwrap();
        let open_records = history.iter().filter(|record| record.outcome.is_none());
        assert!(open_records.eq(running.iter().map(|running| &running.record)));
        for running in &running {
            assert_eq!(running.record.number, newest);
            assert!(running.progress == [2] || running.progress == vec![1; newest as usize]);
        }
        let current = store.current(&app).unwrap().unwrap().number;
        assert_eq!(current, newest - running.len() as u32);
        before = last;
    }
}

#[test]
fn a_second_process_holds_the_store_until_it_is_killed() {
    let Some(folder) = part() else { return };
    let store = open(&folder);
    confirm(0);
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(store);
}

#[test]
fn a_store_that_another_process_holds_is_refused_until_that_is_gone() {
    let folder = folder();
    let mut child = second_process("", "a_second_process_holds_the_store_until_it_is_killed", folder.path())
        .spawn()
        .unwrap();
    assert_eq!(confirmed(&mut child).next(), Some(0));
    let refused = Store::open(folder.path(), StoreLimits::default());
    assert!(matches!(
        says(refused, &["store.redb", "another process", "stop the node"]),
        StoreError::Locked { .. }
    ));
    kill(child);
    open(folder.path());
}

#[test]
fn a_second_process_comes_to_the_end_of_its_disk() {
    let Some(folder) = part() else { return };
    let store = open(&folder);
    let app = app("chat");
    let digest = store.put(&module_of(1), 0).unwrap();
    store.begin(&app, new(digest)).unwrap();
    for _ in 0..3 {
        let full = store.put(&module(2, 8 << 20), 0);
        let error = says(full, &["no room", "store.redb", "make room", "still there", "no restart"]);
        assert!(matches!(error, StoreError::Full { .. }));
        assert_eq!(store.get(digest).unwrap(), Some(module_of(1)), "reading goes on");
        assert_eq!(store.running().unwrap().len(), 1);
    }
    store.set_progress(&app, 1, &[9]).unwrap();
    store.finish(&app, 1, Outcome::Committed, None).unwrap();
    assert!(!store.has(Digest::of(&module(2, 8 << 20))).unwrap());
    confirm(1);
}

#[test]
fn a_full_disk_is_told_and_the_store_goes_on_when_something_fits_again() {
    let folder = folder();
    // Without the trap the limit would kill. 4,096 blocks are 2 MiB, for some shells 4.
    let limited = "trap '' XFSZ; ulimit -f 4096;";
    let mut child = second_process(limited, "a_second_process_comes_to_the_end_of_its_disk", folder.path())
        .spawn()
        .unwrap();
    assert_eq!(confirmed(&mut child).last(), Some(1));
    assert!(child.wait().unwrap().success());
    let store = open(folder.path());
    assert_eq!(store.current(&app("chat")).unwrap().unwrap().digest, Digest::of(&module_of(1)));
    let large = store.put(&module(2, 8 << 20), 0).unwrap();
    assert!(store.get(large).unwrap().is_some());
}
