//! What the guides show of plugins: whole ones, parts of some, and the making of a new one.

use std::path::Path;
use std::process::Command;

use tidegate_harness::{Client, binary};

use super::{Block, block, here, root, runs};
use crate::binary::{Node, run, said};
use crate::clients::succeeds;

/// A package with these tests, each in a file of its own, beside the repository's SDK.
fn package(at: &Path, tests: &[(&str, String)]) {
    std::fs::create_dir_all(at.join("src")).unwrap();
    std::fs::create_dir(at.join("tests")).unwrap();
    std::fs::write(at.join("src/lib.rs"), "").unwrap();
    let manifest = format!(
        "[workspace]\n[package]\nname = \"shown\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n\
         tidegate-sdk = {{ path = \"{}\" }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\nserde_json = \"1\"\n",
        root().join("sdk/rust").display()
    );
    std::fs::write(at.join("Cargo.toml"), manifest).unwrap();
    // The versions that the examples are built with.
    let lock = std::fs::read_to_string(root().join("examples/02-chat-room/plugin/Cargo.lock")).unwrap();
    std::fs::write(at.join("Cargo.lock"), lock.replace("name = \"chat-room\"", "name = \"shown\"")).unwrap();
    for (name, text) in tests {
        std::fs::write(at.join("tests").join(name).with_extension("rs"), text).unwrap();
    }
}

/// A cargo that knows nothing of the one that runs the tests.
fn cargo(at: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let is_outer = name.to_str().is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME");
        if is_outer {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(at).env("CARGO_TARGET_DIR", root().join("target/guest-native"));
    cargo
}

const COMPARED: &str = r##"
#[test]
fn what_somebody_says_goes_to_the_room() {
    let mut gateway = testing::start::<Chat>();
    let ann = gateway.connect();
    gateway.text(ann, r#"{"type":"login","name":"Ann","room":"r"}"#);
    gateway.text(ann, r#"{"type":"say","text":"hi"}"#);
    let heard = gateway.received(ann);
    assert_eq!(heard.last().unwrap(), r#"{"from":"Ann","text":"hi","type":"say"}"#);
}
"##;

const SPEAKER: &str = r#"
use std::time::Duration;
use tidegate::*;

#[derive(Default)]
struct MyApp;

#[tidegate::plugin]
impl Plugin for MyApp {
    fn on_message(&mut self, _: Client, message: Message) -> Result {
        gateway::all().send(format!("Ann said {message}"));
        Ok(())
    }
}

#[test]
fn it_does_what_it_says() {
"#;

/// Each line of a block as a statement.
fn statements(block: &Block) -> String {
    block.text.lines().map(|line| format!("let _ = {};\n", line.split("//").next().unwrap().trim())).collect()
}

#[test]
fn the_rust_of_the_guides_compiles_and_does_what_it_says() {
    const PLUGIN: &str = "docs/guide/plugin.md";
    let plugin = |uses: &str, body: &str| {
        format!(
            "use tidegate::*;\n{uses}\n#[tidegate::plugin]\nimpl Plugin for Chat {{\n\
             fn on_message(&mut self, client: Client, _: Message) -> Result {{ let _ = client; Ok(()) }}\n{body}}}\n\
             #[test]\nfn it_starts() {{ testing::start::<Chat>(); }}\n"
        )
    };
    let state = block(PLUGIN, "#[derive(Default, Serialize").text;
    let (state, methods) = state.split_once("// in `impl Plugin for Chat`:").unwrap();
    let of_api = |first: &str| block("docs/guide/gateway-api.md", first);
    let answers = here(
        &of_api("let here =").text,
        &[
            ("Ok(uids) => ...,", "Ok(uids) => drop(uids),"),
            ("} ) => ...,", ""),
            ("missing }) => ...,", "missing }) => drop((value, missing)),"),
        ],
    );
    let api = |body: &str| {
        let uses = "#[derive(Default)]\nstruct Chat;\n#[allow(unused_variables, dead_code, reason = \"an example\")]\n";
        plugin(
            &format!(
                "{uses}fn asks(id: ClientId) -> Result {{\nlet (ids, uids, groups) = ([id], [\"ann\"], [\"room\"]);\n{body}\nOk(())\n}}\n"
            ),
            "",
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let testing = format!("{SPEAKER}{}}}\n", block(PLUGIN, "let mut gateway = testing").text);
    let tests = [
        ("compared", block("docs/guide/coming-from-gatewayworker.md", "use serde::").text + COMPARED),
        ("state", plugin(&format!("use tidegate::serde::{{Deserialize, Serialize}};\n{state}"), methods)),
        ("testing", testing),
        ("audiences", api(&statements(&of_api("gateway::all()")))),
        ("answers", api(&answers)),
    ];
    package(folder.path(), &tests);
    let mut all = cargo(folder.path());
    all.args(["test", "--quiet"]);
    let told = succeeds(all);
    // A package without them would be as content.
    assert_eq!(told.matches("1 passed").count(), tests.len(), "{told}");
}

#[tokio::test]
async fn a_new_plugin_is_made_run_and_tested_as_the_guide_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let shown = block("docs/guide/plugin.md", "tidegate new my-app");
    let mut commands = shown.shown().into_iter().map(|shown| shown.command);
    let of = |command: Option<String>| Block { text: command.unwrap(), ..shown.clone() };
    runs(&of(commands.next()), at, &[]);
    assert_ne!(run(at, &["new", "my-app"]).code, 0, "it must not overwrite");
    assert_ne!(run(at, &["new", "My Chat"]).code, 0, "it is no name");
    let project = at.join("my-app");
    assert!(said(&run(&project, &["build", "--json"])).to_string().contains("message"));
    assert_eq!(said(&run(&project, &["build", "--json"]))["unchanged"], true);

    let dev = commands.next().unwrap();
    let dev = dev.split('#').next().unwrap().trim().strip_prefix("tidegate ").unwrap().to_owned();
    let settings = at.join("my-app/tidegate.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    assert!(text.contains(":7272"), "{text}");
    std::fs::write(&settings, text.replace(":7272", ":0")).unwrap();
    let words: Vec<&str> = dev.split(' ').chain(["--json"]).collect();
    let node = Node::start(at, &words);
    let mut client = Client::connect(node.listener("ws")).await;
    client.send("hello").await;
    assert!(!client.text().await.is_empty());
    assert_eq!(node.process.terminate(), Some(0));

    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let tests = commands.next().unwrap();
    assert!(tests.starts_with("cd my-app/plugin && cargo test"), "{tests}");
    let mut tested = cargo(&at.join("my-app/plugin"));
    tested.args(["test"]).env("PATH", path);
    let told = succeeds(tested);
    let ran = |line: &str| line.starts_with("test result: ok.") && !line.contains(" 0 passed");
    assert!(told.lines().any(ran), "{told}");
}
