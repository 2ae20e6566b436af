//! `docs/guide/deploying.md`.

use super::{block, runs};
use crate::binary::{Node, run, wasm};

#[tokio::test]
async fn the_guide_to_deploying_looks_at_what_was_deployed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let app = format!(
        "[[app]]\nname = \"chat\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), app).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let deployed = run(at, &["deploy", "chat", &wasm("callbacks")]);
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    runs(&block("docs/guide/deploying.md", "tidegate apps"), at, &[("--show 7", "--show 1")]);
    assert_eq!(node.process.terminate(), Some(0));
}
