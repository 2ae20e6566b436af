//! What a plugin may reach is what its app is granted, each by name, and not the next thing over.

use std::path::Path;

use serde_json::json;
use tidegate_harness::Client;

use crate::binary::{Node, Operator, run, said, says, wasm};

const NEEDS: &[&str] = &["default/test", "wasi:config", "`config = true`", "[app.grants]"];
const ALL: &str = r#"Ok([("API_KEY", "hunter2"), ("TZ", "Europe/Berlin"), ("greeting", "hello")])"#;
const TAKEN_BACK: &str = r#"Err(Error::Upstream("not granted any more: `config = true`"))"#;

/// An app `test` with three settings, one of them secret, which runs this plugin and is granted this.
fn write_settings(folder: &Path, plugin: &str, grants: &str) {
    std::fs::write(folder.join("key"), "hunter2\n").unwrap();
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[[listener]]\naddress = \"ws://127.0.0.1:0\"\n[[app]]\nname = \"test\"\n\
         plugin = \"{plugin}\"\nroutes = [\"*\"]\n[app.settings]\ngreeting = \"hello\"\nTZ = \"Europe/Berlin\"\n\
         API_KEY = {{ file = \"key\" }}\n{grants}\n"
    );
    std::fs::write(folder.join("tidegate.toml"), text).unwrap();
}

#[tokio::test]
async fn a_plugin_that_needs_a_grant_runs_with_it_and_is_refused_without_by_the_line_to_add() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_settings(at, &wasm("versioned"), "");
    let node = Node::start(at, &["up", "--json"]);
    let operator = Operator::of_node(at);
    let mut client = Client::connect(node.listener("ws")).await;
    let ran = operator.run(&["deploy", "test", &wasm("granted")]);
    assert_eq!(ran.code, 70, "{}", ran.stderr);
    assert!(NEEDS.iter().all(|word| ran.stderr.contains(word)), "{}", ran.stderr);
    says(&mut client, "a", "v1 a").await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));

    write_settings(at, &wasm("versioned"), "[app.grants]\nconfig = true\nenvironment = [\"TZ\"]");
    let node = Node::start(at, &["up", "--json"]);
    let ran = operator.run(&["deploy", "test", &wasm("granted")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "config greeting", r#"Ok(Some("hello"))"#).await;
    says(&mut client, "config nothing", "Ok(None)").await;
    says(&mut client, "all", ALL).await;
    // Of the environment just what is named: neither another setting nor anything of the node's own.
    says(&mut client, "env TZ", r#"Some("Europe/Berlin")"#).await;
    for hidden in ["env greeting", "env API_KEY", "env PATH", "env HOME"] {
        says(&mut client, hidden, "None").await;
    }
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));

    // A node that would have to run it without the grant says so and does not start.
    write_settings(at, &wasm("granted"), "");
    let ran = run(at, &["up", "--json"]);
    assert!(ran.code == 65 && NEEDS.iter().all(|word| ran.stderr.contains(word)), "{}", ran.stderr);
}

#[test]
fn a_grant_that_makes_no_sense_is_told_with_its_place_and_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mistakes: [(&str, &[&str]); 4] = [
        ("environment = [\"HOME\"]", &["`HOME`", "[app.settings]"]),
        ("environment = [\"A=B\"]", &["A=B", "no name of an environment variable"]),
        ("config = \"yes\"", &["config", "boolean"]),
        ("sockets = true", &["sockets", "config", "environment"]),
    ];
    for (grant, words) in mistakes {
        write_settings(at, &wasm("versioned"), &format!("[app.grants]\n{grant}"));
        let ran = run(at, &["up", "--json"]);
        let words = [words, &["tidegate.toml"]].concat();
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{grant}: {}", ran.stderr);
        assert!(matches!(ran.code, 65 | 78), "{grant}: {} {}", ran.code, ran.stderr);
    }
}

#[tokio::test]
async fn grants_change_while_the_app_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_settings(at, &wasm("versioned"), "");
    let node = Node::start(at, &["up", "--json"]);
    let (shared, operator) = (node.listener("ws"), Operator::of_node(at));
    let run = |arguments: &[&str]| {
        let ran = operator.run(arguments);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        ran
    };
    let spec = |grants: &str| {
        let text = format!("routes = [\"chat.test\"]\n[settings]\nTZ = \"UTC\"\n{grants}\n");
        std::fs::write(at.join("chat.toml"), text).unwrap();
    };
    run(&["tenants", "create", "acme"]);
    spec("");
    run(&["apps", "create", "acme/chat", "--settings", "chat.toml"]);
    let ran = operator.run(&["deploy", "acme/chat", &wasm("granted")]);
    assert!(ran.code == 70 && ran.stderr.contains("`config = true`"), "{} {}", ran.code, ran.stderr);
    spec("[grants]\nconfig = true\nenvironment = [\"TZ\"]");
    run(&["apps", "configure", "acme/chat", "--settings", "chat.toml"]);
    run(&["deploy", "acme/chat", &wasm("granted")]);
    let mut client = Client::connect_to(shared, "/", &[("host", "chat.test")]).await.unwrap();
    says(&mut client, "config TZ", r#"Ok(Some("UTC"))"#).await;
    says(&mut client, "env TZ", r#"Some("UTC")"#).await;
    let listed = said(&run(&["apps", "--json"]));
    let app = listed.as_array().unwrap().iter().find(|app| app["app"] == "acme/chat").unwrap();
    let granted = &app["created"]["spec"]["grants"];
    assert_eq!(granted, &json!({ "config": true, "environment": ["TZ"], "keys": [] }), "{app}");

    // Taken back, it is gone at the next call, for the instance that runs as well.
    spec("");
    run(&["apps", "configure", "acme/chat", "--settings", "chat.toml"]);
    says(&mut client, "config TZ", TAKEN_BACK).await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}
