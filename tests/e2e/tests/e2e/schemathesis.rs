//! The running server against its own description: Schemathesis reads `/openapi.json`, asks for everything that stands there, right
//! and wrong, and looks whether the answers are those that it promises.

use std::path::Path;
use std::process::Command;

use crate::binary::{Node, run, wasm};
use crate::clients::{is_there, succeeds};

/// Its settings and what goes with them.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis");
/// What would leave nothing to ask about.
const ENDS: &str = "^(delete|suspend)-(app|tenant)$";

/// One of its runs: with this token, about this tenant and its app `test`, and with these arguments besides.
fn asks_everything(folder: &Path, node: &Node, token: &str, tenant: &str, more: &[&str]) {
    let settings = std::fs::read_to_string(format!("{FOLDER}/schemathesis.toml")).unwrap();
    let names = format!("[parameters]\n\"path.tenant\" = \"{tenant}\"\n\"path.app\" = \"test\"\n");
    std::fs::write(folder.join("schemathesis.toml"), format!("{settings}\n{names}")).unwrap();
    let mut asking = Command::new("schemathesis");
    asking.current_dir(folder).env("SCHEMATHESIS_HOOKS", format!("{FOLDER}/hooks.py"));
    asking.args(["run", &format!("http://{}/openapi.json", node.admin())]);
    asking.args(["--header", &format!("Authorization: Bearer {token}")]);
    asking.args(["--seed", "1", "--max-examples", "8", "--phases", "examples,coverage,fuzzing"]);
    asking.args(["--request-timeout", "30", "--continue-on-failure", "--no-color"]).args(more);
    let told = succeeds(asking);
    assert!(told.contains("Test cases:") && !told.contains("Tested: 0"), "{told}");
}

#[test]
fn the_server_answers_as_its_description_says() {
    if !is_there("schemathesis", "TIDEGATE_REQUIRE_SCHEMATHESIS") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Who asks without a token is told so each time; and a canary, which would wait for traffic, needs a second slot.
    let settings = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\nfailures_per_s = 0\n\
         [[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), settings).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let token = |tenant: &str| {
        let made = run(at, &["tokens", "create", tenant, "--role", "admin"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        made.stdout.trim().to_owned()
    };
    let (of_tenant, of_operator) = (token("default"), token("*"));
    asks_everything(at, &node, &of_tenant, "default", &["--exclude-operation-id-regex", ENDS]);
    asks_everything(at, &node, &of_operator, "default", &["--exclude-operation-id-regex", ENDS]);
    // A tenant and an app that may come and go.
    for arguments in [&["tenants", "create", "acme"][..], &["apps", "create", "acme/test"]] {
        let made = run(at, arguments);
        assert_eq!(made.code, 0, "{}", made.stderr);
    }
    let comes_and_goes = "^(create|delete|suspend|resume)-(app|tenant)$";
    asks_everything(at, &node, &of_operator, "acme", &["--include-operation-id-regex", comes_and_goes]);
    assert_eq!(node.process.terminate(), Some(0));
}
