//! The embedded store keeps what every store promises, over restarts, kills and failures as well.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "outside of `#[test]` functions, but for tests only"
)]

mod conformance;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use conformance::Bucket;
use proptest::prelude::*;
use tidegate_base::{AppName, KeyAnswer, KeyOp};
use tidegate_keys::{Embedded, EmbeddedSettings, Keys, OpenError};
use tokio::runtime::{Builder, Runtime};

fn open(folder: &Path, cache_bytes: u64) -> Arc<dyn Keys> {
    Arc::new(Embedded::open(folder, EmbeddedSettings { cache_bytes }).unwrap())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

#[test]
fn it_keeps_what_every_store_promises_with_much_memory_and_with_next_to_none() {
    let folder = tempfile::tempdir().unwrap();
    for (name, cache_bytes) in [("much", 32 << 20), ("little", 2000)] {
        runtime().block_on(conformance::check(&open(folder.path(), cache_bytes), name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_asked_in_whatever_order_it_is_like_a_map(
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 0..60),
        cache_bytes in prop::sample::select(vec![1000_u64, 1 << 20]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        runtime().block_on(conformance::like_a_map(&open(folder.path(), cache_bytes), "t/app", &steps));
    }
}

#[test]
fn keys_are_there_after_a_restart_and_those_of_a_deleted_app_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["t/kept", "t/deleted", "t/fixed"];
    runtime().block_on(async {
        let keys = open(folder.path(), 1 << 20);
        for (name, born) in names.into_iter().zip([3, 4, 0]) {
            Bucket::of(&keys, name, born, "b").set("k", name).await.unwrap();
        }
    });
    let is_there = |name: &'static str, born| {
        let keys = open(folder.path(), 1 << 20);
        runtime().block_on(async { Bucket::of(&keys, name, born, "b").get("k").await.is_some() })
    };
    assert!(is_there("t/kept", 3) && is_there("t/deleted", 4) && is_there("t/fixed", 0));
    let retain = |revision, apps: &[&str]| {
        let keys = open(folder.path(), 1 << 20);
        keys.retain(revision, apps.iter().map(|name| AppName::new(name).unwrap()).collect::<BTreeSet<_>>());
    };
    retain(5, &["t/kept"]);
    assert!(is_there("t/kept", 3) && !is_there("t/deleted", 4) && is_there("t/fixed", 0));
    // A register that has lost its store knows nothing, at a revision of before.
    retain(4, &[]);
    retain(0, &[]);
    assert!(is_there("t/kept", 3));
    retain(6, &[]);
    assert!(!is_there("t/kept", 3) && is_there("t/fixed", 0));
}

#[test]
fn one_process_has_the_file_and_a_second_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 1000);
    let second = Embedded::open(folder.path(), EmbeddedSettings::default()).unwrap_err();
    assert!(matches!(second, OpenError::File(_)) && second.to_string().contains("keys.redb"), "{second}");
    drop(first);
    drop(open(folder.path(), 1000));
    std::fs::write(folder.path().join("keys.redb"), [7; 5000]).unwrap();
    let damaged = Embedded::open(folder.path(), EmbeddedSettings::default()).unwrap_err().to_string();
    assert!(damaged.contains("empty buckets"), "{damaged}");
}

/// How many times a writer is killed.
const ROUNDS: usize = 200;
/// Keys that each round's writer writes again and again.
const WRITERS: usize = 8;

/// Says which changes were confirmed, until it is killed. Not a test of its own: it is what the next one kills.
#[test]
fn writer_that_is_killed() {
    let Some(folder) = std::env::var_os("TIDEGATE_KEYS_FOLDER") else { return };
    let keys = open(Path::new(&folder), 1 << 20);
    runtime().block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let bucket = Bucket::of(&keys, "t/killed", 1, "b");
            writers.spawn(async move {
                loop {
                    let increment = KeyOp::Increment { key: writer.to_string(), by: 1 };
                    let Ok(KeyAnswer::Number(now)) = bucket.ask(increment).await else { break };
                    println!("confirmed {writer} {now}");
                }
            });
        }
        while writers.join_next().await.is_some() {}
    });
}

#[test]
fn no_key_is_lost_after_its_change_was_confirmed_however_often_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut confirmed = [0_i64; WRITERS];
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_that_is_killed", "--nocapture"])
            .env("TIDEGATE_KEYS_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        // Sooner or later, so that it is killed at all moments of a commit.
        let most = 1 + round * 7 % 60;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: &str| {
            let mut words = line.split_whitespace();
            if let (Some("confirmed"), Some(writer), Some(now)) = (words.next(), words.next(), words.next()) {
                let (writer, now): (usize, i64) = (writer.parse().unwrap(), now.parse().unwrap());
                assert!(now > confirmed[writer], "round {round}: {now} again, after {confirmed:?}");
                confirmed[writer] = now;
                seen += 1;
            }
            seen
        };
        while note(&lines.next().expect("the writer writes on")) < most {}
        child.kill().unwrap();
        // What it had said before it died.
        for line in lines {
            note(&line);
        }
        child.wait().unwrap();
    }
    let keys = open(folder.path(), 1 << 20);
    runtime().block_on(async {
        let bucket = Bucket::of(&keys, "t/killed", 1, "b");
        for (writer, confirmed) in confirmed.into_iter().enumerate() {
            let text = String::from_utf8(bucket.get(&writer.to_string()).await.unwrap()).unwrap();
            let now: i64 = text.parse().unwrap();
            // Each died with one change more on its way at most, in each round.
            assert!(
                now >= confirmed && now <= confirmed + ROUNDS as i64,
                "{now}, {confirmed} were confirmed"
            );
        }
    });
}

/// Sets large values until there is no room, then looks whether all that was confirmed can be read and whether a key
/// that was deleted makes room. Not a test of its own: it is what the next one starts.
#[test]
fn writer_without_room() {
    let Some(folder) = std::env::var_os("TIDEGATE_KEYS_FULL") else { return };
    let keys = open(Path::new(&folder), 1000);
    runtime().block_on(async {
        let bucket = Bucket::of(&keys, "t/full", 1, "b");
        let value = |n: usize| vec![n as u8; 60_000];
        let mut count = 0;
        let error = loop {
            match bucket.set(&count.to_string(), value(count)).await {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("no room"), "{error}");
        for n in 0..count {
            assert_eq!(bucket.get(&n.to_string()).await, Some(value(n)), "{n}");
        }
        for n in 0..count / 2 {
            bucket.ask(KeyOp::Delete(vec![n.to_string()])).await.unwrap();
        }
        for n in 0..count / 4 {
            bucket.set(&n.to_string(), value(n)).await.unwrap();
        }
        println!("\nconfirmed {count}");
    });
}

#[test]
fn a_full_disk_is_told_loses_nothing_and_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4000; exec \"$0\" --exact writer_without_room --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("TIDEGATE_KEYS_FULL", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let count = said.lines().find_map(|line| line.strip_prefix("confirmed ")).unwrap();
    let count: usize = count.parse().unwrap();
    assert!(count > 8, "{count}");
    let keys = open(folder.path(), 1000);
    runtime().block_on(async {
        let bucket = Bucket::of(&keys, "t/full", 1, "b");
        for n in 0..count {
            let there = bucket.get(&n.to_string()).await.is_some();
            assert_eq!(there, n < count / 4 || n >= count / 2, "{n} of {count}");
        }
    });
}
