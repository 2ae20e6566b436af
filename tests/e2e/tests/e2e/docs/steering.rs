//! What the client libraries show of deployments and of administration.

use super::{block, here};
use crate::binary::{Node, run, wasm};
use crate::clients::{is_there, node, sdk, succeeds};

#[tokio::test]
async fn what_the_clients_show_of_steering_runs() {
    if is_there("python3", "TIDEGATE_REQUIRE_PYTHON") {
        let folder = tempfile::tempdir().unwrap();
        let (server, api, token) = steered(folder.path());
        let as_here: &[(&str, &str)] = &[("http://127.0.0.1:7480", &api), ("tg_...", &token)];
        let program = here(&block("sdk/python-client/README.md", "from pathlib").text, as_here);
        let mut python = std::process::Command::new("python3");
        python.current_dir(folder.path()).args(["-W", "error", "-c", &program]);
        python.env("PYTHONPATH", sdk("python-client").join("src")).env("PYTHONDONTWRITEBYTECODE", "1");
        shown(&succeeds(python));
        assert_eq!(server.process.terminate(), Some(0));
    }
    if node::is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let (server, api, token) = steered(at);
        let as_here: &[(&str, &str)] = &[("http://127.0.0.1:7480", &api)];
        let program = here(&block("sdk/js-client/README.md", "import { readFile }").text, as_here);
        std::fs::create_dir(at.join("node_modules")).unwrap();
        std::os::unix::fs::symlink(sdk("js-client"), at.join("node_modules/tidegate-client")).unwrap();
        std::fs::write(at.join("program.mjs"), program).unwrap();
        let mut javascript = std::process::Command::new("node");
        javascript.arg("program.mjs").current_dir(at).env("TIDEGATE_TOKEN", &token);
        shown(&succeeds(javascript));
        assert_eq!(server.process.terminate(), Some(0));
    }
}

/// A node with the app `chat` and a component to deploy, the address of its API, and an operator's token.
fn steered(at: &std::path::Path) -> (Node, String, String) {
    let settings = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"chat\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), settings).unwrap();
    std::fs::copy(wasm("callbacks"), at.join("chat.wasm")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let token = run(at, &["tokens", "create", "*", "--role", "admin"]).stdout.trim().to_owned();
    let api = format!("http://{}", node.admin());
    (node, api, token)
}

/// Version 1 is that of the settings.
fn shown(told: &str) {
    for expected in ["2 runs; 0 events lost", "committed", "acme/rooms", "default/chat"] {
        assert!(told.contains(expected), "{expected} is not in: {told}");
    }
}
