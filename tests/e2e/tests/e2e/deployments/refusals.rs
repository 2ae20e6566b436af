//! What cannot be deployed: it is told, and leaves nothing behind.

use std::path::Path;

use tidegate_harness::Client;

use super::start_versioned;
use crate::binary::{Node, Operator, cluster_folder_of, says, wasm};
use crate::support::padded;

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_what_where_and_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (node, operator) = start_versioned(at, 1);
    let mut client = Client::connect(node.listener("ws")).await;
    let good = std::fs::read(wasm("versioned-twin")).unwrap();
    let core = b"\0asm\x01\0\0\0";
    let empty = b"\0asm\x0d\0\x01\0";
    // A custom section as large as it takes: a component that would run, if it were not too large.
    let padded = padded(&good, 80 << 20);
    let files: [(&str, &[u8], &[&str]); 5] = [
        ("text.wasm", b"not wasm at all", &["tidegate build"]),
        ("cut.wasm", &good[..good.len() / 2], &["tidegate build"]),
        ("core.wasm", core, &["core", "component"]),
        ("empty.wasm", empty, &["on-message"]),
        ("large.wasm", &padded, &["the limit", "opt-level"]),
    ];
    for (name, bytes, words) in files {
        std::fs::write(at.join(name), bytes).unwrap();
        let ran = operator.run(&["deploy", "test", name]);
        assert_eq!(ran.code, 65, "{name}: {}", ran.stderr);
        for word in [&[name], words].concat() {
            assert!(ran.stderr.contains(word), "{name} should name {word}: {}", ran.stderr);
        }
    }
    let (twin, unknown) = (wasm("versioned-twin"), format!("sha256:{}", "ab".repeat(32)));
    let named: [(&[&str], i32, &[&str]); 5] = [
        (&["deploy", "test", "no/such.wasm"], 65, &["no/such.wasm"]),
        (&["deploy", "nobody", &twin], 64, &["default/nobody", "default/test"]),
        (&["deploy", "test", &unknown], 64, &[&unknown, ".wasm file"]),
        (&["deploy", "test", "sha256:abc"], 64, &["sha256:abc", "64"]),
        (&["rollback", "test", "--to", "99"], 64, &["default/test", "99", "tidegate history"]),
    ];
    for (arguments, code, words) in named {
        let ran = operator.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{arguments:?} should name {word}: {}", ran.stderr);
        }
    }
    let ran = operator.run(&["rollback", "test"]);
    assert!(ran.code == 64 && ran.stderr.contains("no earlier version"), "{} {}", ran.code, ran.stderr);

    assert_eq!(operator.outcomes(), [(1, "committed".to_owned())]);
    says(&mut client, "a", "v1 a").await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn a_program_that_sends_no_plugin_is_refused_by_the_node_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), 1);
    let question = r#"{"request":"deploy","app":"test","bytes":4}"#;
    let answer = asked(folder.path(), &format!("{question}\nwasm"));
    assert!(answer.contains("bad-module") && answer.contains("tidegate build"), "{answer}");
    let question = r#"{"request":"deploy","app":"test","bytes":99999999999}"#;
    let answer = asked(folder.path(), &format!("{question}\n"));
    assert!(answer.contains("bad-module") && answer.contains("the limit"), "{answer}");
    let answer = asked(folder.path(), "{\"request\":\"deploy\",\"app\":\"test\",\"bytes\":400}\nwasm");
    assert!(answer.contains("transfer"), "{answer}");
    assert_eq!(operator.outcomes().len(), 1);
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn an_app_of_a_cluster_to_which_nothing_was_deployed_has_no_way_back() {
    let folder = cluster_folder_of("versioned");
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let operator = Operator::of_cluster(at, &register.register());
    let ran = operator.run(&["rollback", "test"]);
    assert!(ran.code == 64 && ran.stderr.contains("there is no app"), "{} {}", ran.code, ran.stderr);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &register.register());
    let ran = operator.run(&["rollback", "test"]);
    assert!(ran.code == 64 && ran.stderr.contains("no earlier version"), "{} {}", ran.code, ran.stderr);
    let ran = operator.run(&["rollback", "test", "--to", "1"]);
    assert!(ran.code == 64 && ran.stderr.contains("no version 1"), "{} {}", ran.code, ran.stderr);
    assert!(operator.history().is_empty());
    drop((worker, register));
}

/// What a node's control socket answers to these bytes, after which nothing more comes.
fn asked(folder: &Path, question: &str) -> String {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    let mut stream = std::os::unix::net::UnixStream::connect(folder.join("data/control.sock")).unwrap();
    stream.write_all(question.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
