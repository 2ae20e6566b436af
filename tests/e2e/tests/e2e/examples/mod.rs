//! The examples do what their READMEs say, built and run as a new user would: in one process, as three, and in a real
//! browser.

mod cluster;
mod promises;
mod shop;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_harness::{Browser, Process};

/// An example that runs with `tidegate dev`, its own settings but for the ports.
struct Example {
    process: Process,
    ready: Value,
    folder: tempfile::TempDir,
}

impl Example {
    /// `plugin`: the source folder, as `dev` builds it, or a component that is built already.
    fn start(name: &str, plugin: &Path) -> Self {
        let source = root().join("examples").join(name);
        let settings = std::fs::read_to_string(source.join("tidegate.toml")).unwrap();
        let mut text = String::new();
        for line in settings.lines() {
            let absolute = |key: &str, path: &str| format!("{key} = \"{}\"", source.join(path).display());
            let line = match line {
                "plugin = \"plugin\"" => format!("plugin = \"{}\"", plugin.display()),
                "web = \"web\"" => absolute("web", "web"),
                // A page of a port that is chosen later.
                line if line.starts_with("origins = ") => "origins = \"any\"".to_owned(),
                line => line.to_owned(),
            };
            text.push_str(&without_ports(&line));
            text.push('\n');
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let process = Process::start(folder.path(), &["dev", "--json"]);
        let ready = process.line("that it is ready", |line| {
            serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == "ready")
        });
        Self { process, ready, folder }
    }

    fn address(&self, protocol: &str) -> SocketAddr {
        let all = self.ready["listeners"].as_array().unwrap();
        all.iter().find(|l| l["protocol"] == protocol).unwrap()["address"].as_str().unwrap().parse().unwrap()
    }

    fn stop(self) {
        assert_eq!(self.process.terminate(), Some(0));
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Tests run side by side, so every port is a free one.
fn without_ports(line: &str) -> String {
    let mut text = line.to_owned();
    let mut from = 0;
    while let Some(at) = text[from..].find("127.0.0.1:").map(|at| from + at + "127.0.0.1:".len()) {
        let digits = text[at..].chars().take_while(char::is_ascii_digit).count();
        text.replace_range(at..at + digits, "0");
        from = at + 1;
    }
    text
}

#[tokio::test]
async fn echo_of_01_echo_answers_on_every_protocol_that_it_listens_on() {
    let example = Example::start("01-echo", &tidegate_artifacts::plugin("echo"));
    promises::echo(example.address("ws"), example.address("text")).await;
    example.stop();
}

#[tokio::test]
async fn two_windows_of_02_chat_room_talk_in_a_browser() {
    let Some(browser) = Browser::start().await else { return };
    let example = Example::start("02-chat-room", &root().join("examples/02-chat-room/plugin"));
    let page = format!("http://{}/", example.address("ws"));
    let mut ann = browser.open(&format!("{page}?name=Ann#lobby")).await;
    ann.until("document.documentElement.dataset.state === 'online'").await;
    let mut bob = browser.open(&format!("{page}?name=Bob#lobby")).await;
    bob.until("document.documentElement.dataset.state === 'online'").await;
    bob.until("document.querySelectorAll('#people li').length === 2").await;
    say(&mut ann, "Hello <b>Bob</b>, the tide is in.").await;
    bob.until("document.querySelector('#log').innerText.includes('Hello <b>Bob</b>, the tide is in.')").await;
    say(&mut bob, "And the gate holds.").await;
    ann.until("document.querySelector('#log').innerText.includes('And the gate holds.')").await;
    let pictures = root().join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    ann.screenshot(&pictures.join("chat-ann.png")).await;
    bob.screenshot(&pictures.join("chat-bob.png")).await;
    drop(browser);
    example.stop();
}

#[tokio::test]
async fn each_attack_of_globex_of_05_two_tenants_costs_globex_a_turn_and_acme_nothing() {
    let example = Example::start("05-two-tenants", &tidegate_artifacts::plugin("two-tenants"));
    promises::two_tenants(example.address("ws")).await;
    example.stop();
}

#[tokio::test]
async fn the_page_of_05_two_tenants_shows_that_acme_goes_on_while_globex_hangs() {
    let Some(browser) = Browser::start().await else { return };
    let example = Example::start("05-two-tenants", &tidegate_artifacts::plugin("two-tenants"));
    let mut page = browser.open(&format!("http://{}/", example.address("ws"))).await;
    for section in ["acme", "globex"] {
        page.until(&format!("document.querySelector('#{section} .now').textContent.endsWith(' ms')")).await;
    }
    page.evaluate(
        "document.querySelector('#again').click(), document.querySelector('[data-attack=loop]').click()",
    )
    .await;
    page.until("document.querySelector('#globex').dataset.late === 'true'").await;
    page.until("document.querySelector('#acme').dataset.late === 'false'").await;
    let pictures = root().join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    page.screenshot(&pictures.join("two-tenants.png")).await;
    page.evaluate("document.querySelector('#again').click()").await;
    let reconnects = page.evaluate("document.querySelector('#globex .reconnects').textContent").await;
    assert_eq!(reconnects, "0");
    drop(browser);
    example.stop();
}

async fn say(page: &mut tidegate_harness::Page, text: &str) {
    let text = json!(text).to_string();
    let script = format!(
        "(() => {{ const draft = document.querySelector('#draft'); draft.value = {text}; \
         draft.dispatchEvent(new Event('input', {{bubbles: true}})); \
         document.querySelector('#composer').requestSubmit(); }})()"
    );
    page.evaluate(&script).await;
}

#[tokio::test]
async fn state_of_03_state_lives_as_long_as_it_says() {
    let example = Example::start("03-state", &tidegate_artifacts::plugin("state"));
    promises::state(example.address("ws")).await;
    example.stop();
}

#[tokio::test]
async fn the_counter_of_04_hot_swap_counts_for_everybody() {
    let example = Example::start("04-hot-swap", &tidegate_artifacts::plugin("hot-swap"));
    promises::hot_swap(example.address("ws")).await;
    example.stop();
}

/// A copy of an example's plugin that can be changed; it uses the SDK of this checkout.
fn copy_of_plugin(example: &str) -> tempfile::TempDir {
    let source = root().join("examples").join(example).join("plugin");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    for file in ["Cargo.lock", "src/lib.rs"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    let manifest = std::fs::read_to_string(source.join("Cargo.toml")).unwrap();
    let sdk = root().join("sdk/rust").display().to_string();
    std::fs::write(folder.path().join("Cargo.toml"), manifest.replace("../../../sdk/rust", &sdk)).unwrap();
    folder
}

#[tokio::test]
async fn the_page_of_04_hot_swap_stays_connected_while_its_code_is_changed_twice() {
    let Some(browser) = Browser::start().await else { return };
    let plugin = copy_of_plugin("04-hot-swap");
    let example = Example::start("04-hot-swap", plugin.path());
    let upgrades = root().join("examples/04-hot-swap/upgrades");
    let mut page = browser.open(&format!("http://{}/", example.address("ws"))).await;
    page.until("document.querySelector('#code').innerText === 'v1'").await;
    let mut clicks = 0;
    for code in ["v1", "v2", "v3"] {
        if code != "v1" {
            // Saved as an editor does it: beside, then in its place.
            let (new, source) = (plugin.path().join("src/new"), plugin.path().join("src/lib.rs"));
            std::fs::copy(upgrades.join(code).join("lib.rs"), &new).unwrap();
            std::fs::rename(new, source).unwrap();
            page.until(&format!("document.querySelector('#code').innerText === '{code}'")).await;
        }
        for _ in 0..3 {
            page.evaluate("document.querySelector('#click').click()").await;
            clicks += 1;
            page.until(&format!("Number(document.querySelector('#total').innerText) >= {clicks}")).await;
        }
        page.until("document.querySelector('#reconnects').innerText === '0'").await;
    }
    page.until("document.querySelector('#changes').innerText === '2'").await;
    page.until("document.querySelectorAll('#scores li').length === 1").await;
    let pictures = root().join("target/screenshots");
    std::fs::create_dir_all(&pictures).unwrap();
    page.screenshot(&pictures.join("hot-swap.png")).await;

    // Version 2 cannot read what version 3 keeps: it is refused, and version 3 goes on.
    std::fs::copy(upgrades.join("v2/lib.rs"), plugin.path().join("src/lib.rs")).unwrap();
    let ended = example.process.line("how the way back ended", |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let outcome = event["report"]["outcome"].to_string();
        (event["event"] == "deployed" && !outcome.contains("ommitted")).then_some(outcome)
    });
    assert!(ended.contains("schema"), "{ended}");
    page.evaluate("document.querySelector('#click').click()").await;
    page.until(&format!("Number(document.querySelector('#total').innerText) > {clicks}")).await;
    page.until("document.querySelector('#code').innerText === 'v3'").await;
    page.until("document.querySelector('#reconnects').innerText === '0'").await;
    drop(browser);
    example.stop();
}
