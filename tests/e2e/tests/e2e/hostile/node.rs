//! Attacks on the real binary: what an operator who deploys them is told.

use std::path::Path;

use tidegate_harness::{Client, component};

use super::{Quiet, modules};
use crate::binary::{Node, run, wasm};
use crate::support::padded;

/// Settings of an all-in-one with an app of a quiet tenant and the hostile app of another one.
fn write_settings(folder: &Path, hostile: &str) {
    let text = format!(
        "[node]\ndata_dir = \"data\"\n\
         [[app]]\nname = \"chat\"\ntenant = \"quiet\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n\
         [[app]]\nname = \"bomb\"\ntenant = \"rogue\"\nplugin = \"{}\"\nlisten = [\"text://127.0.0.1:0\"]\n{hostile}",
        wasm("callbacks"),
        wasm("hostile"),
    );
    std::fs::write(folder.join("tidegate.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_modules_are_refused_with_what_is_wrong_while_the_quiet_tenant_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_settings(at, "[app.settings]\nstart = \"loop\"\n");
    let node = Node::start(at, &["up", "--json"]);
    let quiet = Quiet::start(node.listener("ws")).await;
    let good = component("hostile");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let files: [(&str, Vec<u8>, i32, &[&str]); 6] = [
        ("huge.wasm", padded(&good, 40 << 20), 65, &["huge.wasm", "the limit"]),
        ("cut.wasm", good[..good.len() / 3].to_vec(), 65, &["cut.wasm"]),
        ("flipped.wasm", flipped, 65, &["flipped.wasm"]),
        ("older.wasm", modules::of_contract(&good, "0.0.1"), 65, &["older.wasm", "0.0.1", "0.1"]),
        ("newer.wasm", modules::of_contract(&good, "0.2.0"), 65, &["newer.wasm", "0.2.0", "0.1"]),
        ("loops.wasm", padded(&good, 10), 70, &["on-worker-start", "turn_cpu_ms"]),
    ];
    for (name, bytes, code, words) in files {
        std::fs::write(at.join(name), bytes).unwrap();
        let folder = at.to_owned();
        let deploy = move || run(&folder, &["deploy", "rogue/bomb", name]);
        let ran = tokio::task::spawn_blocking(deploy).await.unwrap();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, code, "{name}: {said}");
        for word in words {
            assert!(said.contains(word), "{name} should name {word}: {said}");
        }
        quiet.goes_on().await;
    }
    quiet.end().await;
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    assert_eq!(client.drain().await, Vec::<serde_json::Value>::new());
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_start_never_returns_keeps_no_other_tenant_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let settings = "turn_wall_ms = 500\n[app.settings]\nsince = \"1\"\nstart = \"loop\"\n";
    write_settings(at, settings);
    let log = std::fs::File::create(at.join("log")).unwrap();
    let node = Node::logging(at, &["up", "--json"], log);
    let quiet = Quiet::start(node.listener("ws")).await;
    quiet.goes_on().await;
    let log = std::fs::read_to_string(at.join("log")).unwrap();
    for word in ["rogue/bomb", "on-worker-start", "turn_cpu_ms"] {
        assert!(log.contains(word), "{word} in {log}");
    }
    // A version that starts brings the app up.
    let ran = run(at, &["deploy", "rogue/bomb", &wasm("callbacks")]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    quiet.end().await;
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn a_node_on_which_nothing_starts_names_the_app_and_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    for (start, limit) in [("loop", "turn_cpu_ms"), ("sleep", "turn_wall_ms")] {
        let text = format!(
            "[node]\ndata_dir = \"data\"\n[[app]]\nname = \"bomb\"\ntenant = \"rogue\"\nplugin = \"{}\"\n\
             listen = [\"text://127.0.0.1:0\"]\nturn_wall_ms = 500\n[app.settings]\nsince = \"1\"\nstart = \"{start}\"\n",
            wasm("hostile"),
        );
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let ran = run(folder.path(), &["up"]);
        assert_ne!(ran.code, 0);
        for word in ["rogue/bomb", "on-worker-start", limit] {
            assert!(ran.stderr.contains(word), "{start} should name {word}: {}", ran.stderr);
        }
    }
}
