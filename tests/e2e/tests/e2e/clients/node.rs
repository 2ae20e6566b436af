//! `sdk/js-client`.

use std::sync::OnceLock;

use serde_json::json;
use tidegate_harness::Browser;

use super::{Cluster, is_there, sdk, succeeds};
use crate::binary::{Node, wasm};

/// Whether there is Node, with what compiles the client; the first who asks installs and compiles it.
pub fn is_ready() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| {
        if !is_there("node", "TIDEGATE_REQUIRE_NODE") || !is_there("npm", "TIDEGATE_REQUIRE_NODE") {
            return false;
        }
        let npm = |arguments: &[&str]| {
            let mut npm = std::process::Command::new("npm");
            npm.current_dir(sdk("js-client")).args(arguments).stdin(std::process::Stdio::null());
            succeeds(npm);
        };
        npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        npm(&["run", "build"]);
        true
    })
}

#[tokio::test]
async fn the_javascript_client_does_everything_that_the_api_describes_and_connections_come_back() {
    if !is_ready() {
        return;
    }
    let cluster = Cluster::start().await;
    let mut tests = cluster.command("npm", &sdk("js-client"));
    tests.args(["run", "test:compiled"]);
    let told = succeeds(tests);
    assert!(told.contains("# fail 0") && told.contains("# skipped 0"), "{told}");
}

#[tokio::test]
async fn the_javascript_client_connects_in_a_browser() {
    if !is_ready() {
        return;
    }
    let Some(browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\nweb = \"{}\"\n",
        wasm("callbacks"),
        sdk("js-client").join("dist").display()
    );
    std::fs::write(folder.path().join("tidegate.toml"), settings).unwrap();
    let node = Node::start(folder.path(), &["up", "--json"]);
    let mut page = browser.open(&format!("http://{}/connection.js", node.listener("ws"))).await;
    page.until("location.pathname === '/connection.js'").await;
    let echoed = "import('/connection.js').then(({ Connection }) => new Promise((resolve) => {
        const connection = new Connection({ url: `ws://${location.host}/` });
        const heard = [];
        connection.on('message', (data) => {
            heard.push(data);
            if (heard.length < 2) return;
            connection.close();
            resolve(`${heard[1]} ${connection.state}`);
        });
        connection.send('hello');
    }))";
    assert_eq!(page.evaluate(echoed).await, json!("hello closed"));
    drop(browser);
    assert_eq!(node.process.terminate(), Some(0));
}
