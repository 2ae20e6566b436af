//! `docs/guide/tenants.md`.

use super::{block, runs};
use crate::binary::{Node, wasm};

const PAGE: &str = "docs/guide/tenants.md";

#[tokio::test]
async fn the_guide_to_tenants_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let app = format!(
        "[[app]]\nname = \"other\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), app).unwrap();
    std::fs::write(at.join("chat.toml"), block(PAGE, "# chat.toml").text).unwrap();
    std::fs::create_dir(at.join("secrets")).unwrap();
    std::fs::write(at.join("secrets/acme.key"), "key\n").unwrap();
    std::fs::copy(tidegate_artifacts::plugin("callbacks"), at.join("chat.wasm")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    runs(&block(PAGE, "tidegate tenants create acme"), at, &[]);
    assert_eq!(node.process.terminate(), Some(0));
}
