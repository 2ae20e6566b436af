//! What the client libraries show of themselves.

use serde_json::json;
use tidegate_harness::Client;

use super::{block, here};
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
        let program = here(&block("sdk/python-client/README.md", "from tidegate_client").text, as_here);
        let mut python = std::process::Command::new("python3");
        python.args(["-W", "error", "-c", &program]);
        python.env("PYTHONPATH", sdk("python-client").join("src")).env("PYTHONDONTWRITEBYTECODE", "1");
        let told = succeeds(python);
        assert!(told.contains("1 clients; every gateway has it") && told.contains("'ann': True"), "{told}");
        heard(&mut ann).await;
    }
    if node::is_ready() {
        let program = here(&block("sdk/js-client/README.md", "import { Tidegate }").text, as_here);
        std::fs::create_dir(at.join("node_modules")).unwrap();
        std::os::unix::fs::symlink(sdk("js-client"), at.join("node_modules/tidegate-client")).unwrap();
        std::fs::write(at.join("program.mjs"), program.replace("order-66", "order-67")).unwrap();
        let mut javascript = std::process::Command::new("node");
        javascript.arg("program.mjs").current_dir(at).env("TIDEGATE_TOKEN", &token);
        succeeds(javascript);
        heard(&mut ann).await;
    }
    assert_eq!(server.process.terminate(), Some(0));
}

/// What both send to Ann.
async fn heard(ann: &mut Client) {
    assert_eq!(ann.text().await, "hello");
    assert_eq!(ann.next().await.unwrap().into_data().as_ref(), [0, 1]);
    for text in ["first", "second", "paid"] {
        assert_eq!(ann.text().await, text);
    }
}
