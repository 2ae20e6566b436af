//! What cannot be deployed: it is told, and leaves nothing behind.

use std::path::Path;

use tidegate_harness::Client;

use super::start_versioned;
use crate::binary::{Node, Operator, cluster_folder_of, run, says, wasm};
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

#[tokio::test]
async fn a_module_larger_than_its_apps_may_be_is_refused_also_if_another_app_runs_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let good = std::fs::read(wasm("versioned-twin")).unwrap();
    std::fs::write(at.join("large.wasm"), padded(&good, 3 << 20)).unwrap();
    let write = |max: &str| {
        let text = format!(
            "[node]\ndata_dir = \"data\"\n[[app]]\nname = \"test\"\nplugin = \"{0}\"\nlisten = [\"ws://127.0.0.1:0\"]\n\
             {max}\n[[app]]\nname = \"other\"\nplugin = \"{0}\"\nlisten = [\"text://127.0.0.1:0\"]\n",
            wasm("versioned")
        );
        std::fs::write(at.join("tidegate.toml"), text).unwrap();
    };
    write("module_bytes_max = 3000000");
    let node = Node::start(at, &["up", "--json"]);
    let operator = Operator::of_node(at);
    let mut client = Client::connect(node.listener("ws")).await;
    let is_refused = || {
        let ran = operator.run(&["deploy", "test", "large.wasm"]);
        let words = ["default/test", "bytes", "`module_bytes_max` is 3000000"];
        assert!(ran.code == 70 && words.iter().all(|word| ran.stderr.contains(word)), "{}", ran.stderr);
    };
    is_refused();
    // Compiled for another app, it is not checked and compiled again, but measured.
    let ran = operator.run(&["deploy", "other", "large.wasm"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    is_refused();
    says(&mut client, "a", "v1 a").await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));

    // So it is when it is loaded from the cache, and when a node starts with less than what runs.
    write("module_bytes_max = 3000001");
    let node = Node::start(at, &["up", "--json"]);
    let ran = operator.run(&["deploy", "test", "large.wasm"]);
    assert!(ran.code == 70 && ran.stderr.contains("3000001"), "{}", ran.stderr);
    assert_eq!(node.process.terminate(), Some(0));
    write("module_bytes_max = 3");
    let ran = run(at, &["up", "--json"]);
    assert!(ran.code == 65 && ran.stderr.contains("`module_bytes_max` is 3:"), "{} {}", ran.code, ran.stderr);
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
