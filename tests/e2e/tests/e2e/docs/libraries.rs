//! What the client libraries show of themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tidegate_harness::Client;

use super::{block, here, runs};
use crate::binary::{Node, run, wasm};
use crate::clients::{is_there, node, pushes_reach, sdk, succeeds};

#[tokio::test]
async fn what_the_clients_show_of_themselves_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let settings = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"chat\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), settings).unwrap();
    let server = Node::start(at, &["up", "--json"]);
    let api = format!("http://{}", server.admin());
    let token = run(at, &["tokens", "create", "default"]).stdout.trim().to_owned();
    std::fs::write(at.join("token"), &token).unwrap();
    let mut ann = Client::of_callbacks(server.listener("ws")).await;
    ann.call("join_group", json!({"groups": ["room-1"]})).await;
    ann.call("bind_uid", json!({"uid": "ann"})).await;
    pushes_reach(at, &api, "chat", 1).await;
    assert_eq!(ann.text().await, "hello");

    let as_here: &[(&str, &str)] = &[("http://127.0.0.1:7480", &api), ("tg_...", &token)];
    if is_there("python3", "TIDEGATE_REQUIRE_PYTHON") {
        let python = installed_by_pip(at);
        let program = here(&block("sdk/python-client/README.md", "from tidegate_client").text, as_here);
        let mut python = Command::new(python);
        python.args(["-W", "error", "-c", &program]);
        let told = succeeds(python);
        assert!(told.contains("1 clients; every gateway has it") && told.contains("'ann': True"), "{told}");
        heard(&mut ann).await;
    }
    if node::is_ready() {
        let program = here(&block("sdk/js-client/README.md", "import { Tidegate }").text, as_here);
        std::fs::write(at.join("package.json"), "{}").unwrap();
        let install = block("sdk/js-client/README.md", "$ npm install");
        runs(&install, at, &[("./sdk/js-client", &sdk("js-client").display().to_string())]);
        std::fs::write(at.join("program.mjs"), program.replace("order-66", "order-67")).unwrap();
        let mut javascript = Command::new("node");
        javascript.arg("program.mjs").current_dir(at).env("TIDEGATE_TOKEN", &token);
        succeeds(javascript);
        heard(&mut ann).await;
    }
    assert_eq!(server.process.terminate(), Some(0));
}

/// A Python of its own that has the client as its document says to install it.
fn installed_by_pip(at: &Path) -> PathBuf {
    // What builds the package is not left behind in the repository.
    let copy = at.join("sdk/python-client");
    let mut commands = [Command::new("cp"), Command::new("python3")];
    std::fs::create_dir(at.join("sdk")).unwrap();
    commands[0].arg("-r").arg(sdk("python-client")).arg(&copy);
    commands[1].args(["-m", "venv"]).arg(at.join("venv"));
    for command in commands {
        succeeds(command);
    }
    let pip = at.join("venv/bin/pip").display().to_string();
    runs(
        &block("sdk/python-client/README.md", "$ pip install"),
        at,
        &[("pip install", &format!("{pip} install -q"))],
    );
    at.join("venv/bin/python")
}

/// What both send to Ann.
async fn heard(ann: &mut Client) {
    assert_eq!(ann.text().await, "hello");
    assert_eq!(ann.next().await.unwrap().into_data().as_ref(), [0, 1]);
    for text in ["first", "second", "paid"] {
        assert_eq!(ann.text().await, text);
    }
}
