//! A disk that is full: the node may not make any file larger, which fails its writes as a full disk does.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use tidegate_harness::Client;

use super::traffic::Traffic;
use super::write_settings;
use crate::binary::{Going, Node, Operator, Ran, says, wasm};
use crate::support::padded;

/// Less than every file that a node keeps open for writing.
const NOTHING: u64 = 4096;

/// An all-in-one with two slots. Its log is on that disk too, and has grown already.
fn start(folder: &Path) -> (Node, Operator) {
    write_settings(folder, "versioned", 2);
    let mut log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    log.write_all(&[b'\n'; 2 * NOTHING as usize]).unwrap();
    (Node::logging(folder, &["up", "--json"], log), Operator::of_node(folder))
}

fn assert_no_room(ran: &Ran) {
    assert_eq!(ran.code, 70, "{}{}", ran.stdout, ran.stderr);
    for word in ["no room", "store.redb", "File too large", "make room"] {
        assert!(ran.stderr.contains(word), "{word} in {}", ran.stderr);
    }
}

fn outcomes(operator: &Operator, expected: &[&str]) {
    let numbered = (1..).zip(expected.iter().map(|word| (*word).to_owned())).collect::<Vec<_>>();
    assert_eq!(operator.outcomes(), numbered);
}

#[tokio::test]
async fn a_module_that_cannot_be_stored_is_refused_and_taken_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, operator) = start(at);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v1 a").await;
    let large = padded(&std::fs::read(wasm("versioned-twin")).unwrap(), 8 << 20);
    std::fs::write(at.join("large.wasm"), large).unwrap();

    // The log may grow: only modules are too large.
    let stored = std::fs::metadata(at.join("data/store.redb")).unwrap().len();
    node.process.limit_file_size(Some(stored));
    for _ in 0..2 {
        assert_no_room(&operator.run(&["deploy", "test", "large.wasm"]));
        says(&mut client, "count", "v1 count 1").await;
    }
    outcomes(&operator, &["committed"]);

    // No restart is needed.
    node.process.limit_file_size(None);
    let ran = operator.run(&["deploy", "test", "large.wasm"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    says(&mut client, "mine", "twin mine 1").await;
    outcomes(&operator, &["committed", "committed"]);

    // What was stored while there was no room, and after it, is whole.
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
    let node = Node::start(at, &["up", "--json"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "twin a").await;
    outcomes(&operator, &["committed", "committed"]);
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn a_deployment_whose_beginning_cannot_be_written_down_has_never_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start(folder.path());
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v1 a").await;
    assert_eq!(operator.run(&["deploy", "test", &wasm("versioned-twin")]).code, 0);
    says(&mut client, "b", "twin b").await;

    node.process.limit_file_size(Some(NOTHING));
    assert_no_room(&operator.run(&["rollback", "test"]));
    says(&mut client, "c", "twin c").await;
    node.process.limit_file_size(None);
    outcomes(&operator, &["committed", "committed"]);
    let ran = operator.run(&["rollback", "test"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    says(&mut client, "mine", "v1 mine 3").await;
    outcomes(&operator, &["committed", "committed", "committed"]);
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}

/// A canary of which nothing can be written down any more once clients use it: it goes back.
async fn canary_on_a_full_disk(at: &Path) -> (Node, Operator, Traffic, Going) {
    let (node, operator) = start(at);
    let traffic = Traffic::start(node.listener("ws"), 4, 2).await;
    let twin = wasm("versioned-twin");
    let arguments = ["deploy", "test", &twin, "--canary", "50%", "--for", "2s", "--events-min", "20"];
    let mut going = operator.start(&arguments);
    going.tells("canary: 1 of 2").await;
    node.process.limit_file_size(Some(NOTHING));
    going.tells("going back: the register cannot write down the deployment").await;
    (node, operator, traffic, going)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_cannot_be_written_down_any_more_goes_back_and_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator, traffic, going) = canary_on_a_full_disk(folder.path()).await;
    // Whoever asked does not wait for the disk.
    let ran = going.end().await;
    assert_eq!(ran.code, 70, "{}{}", ran.stdout, ran.stderr);
    for word in ["rolled back", "store.redb", "make room"] {
        assert!(ran.stdout.contains(word), "{word} in {}", ran.stdout);
    }
    let run = operator.app().unwrap()["workers"][0]["slots"].clone();
    assert_eq!(run, json!([1, 1]));

    node.process.limit_file_size(None);
    assert_eq!(operator.settled(2).await, 1);
    outcomes(&operator, &["committed", "rolled-back"]);
    assert!(operator.reason(2).contains("make room"), "{}", operator.reason(2));
    for heard in traffic.stop().await {
        assert!(heard.is_whole(&["v1"]) || heard.is_whole(&["v1", "twin", "v1"]), "{:?}", heard.answers);
    }
    assert_eq!(operator.run(&["deploy", "test", &wasm("versioned-twin")]).code, 0);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_on_a_full_disk_takes_its_deployment_up_when_it_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, operator, traffic, going) = canary_on_a_full_disk(at).await;
    drop(traffic.stop().await);
    node.process.kill();
    drop(going);
    let node = Node::start(at, &["up", "--json"]);
    assert_eq!(operator.settled(2).await, 1);
    outcomes(&operator, &["committed", "rolled-back"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v1 a").await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn a_node_within_a_limit_on_its_files_compiles_what_fits_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start(folder.path());
    node.process.limit_file_size_for_good(16 << 20);
    let ran = operator.run(&["deploy", "test", &wasm("versioned-twin")]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn compiled_modules_that_cannot_be_kept_cost_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, operator) = start(at);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v1 a").await;
    let cache = at.join("data/modules");
    std::fs::rename(&cache, at.join("data/away")).unwrap();
    std::fs::write(&cache, "no folder").unwrap();
    let ran = operator.run(&["deploy", "test", &wasm("versioned-twin")]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    says(&mut client, "mine", "twin mine 1").await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}
