//! Each example as three processes with certificates: the commands of its README, its own settings files but for the ports.

use std::path::Path;

use tidegate_harness::RawClient;

use super::shop::Shop;
use super::{promises, root, without_ports};
use crate::binary::{Node, run};
use crate::clients::pushes_reach;

/// An example's register, gateway and worker.
struct Three {
    register: Node,
    gateway: Node,
    worker: Node,
    /// What a token was written to.
    token: Option<String>,
    folder: tempfile::TempDir,
}

impl Three {
    /// Runs what the README says to run in `cluster/`, line by line. The plugin was built before, as `build` does it.
    fn start(name: &str, plugin: &str) -> Self {
        let example = root().join("examples").join(name);
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("cluster");
        copy_settings(&example.join("cluster"), &at);
        if example.join("web").exists() {
            copy_files(&example.join("web"), &folder.path().join("web"));
        }
        let readme = std::fs::read_to_string(example.join("README.md")).unwrap();
        let (_, readme) =
            readme.split_once("As three processes").or(readme.split_once("as three processes")).unwrap();
        let commands = readme.lines().filter_map(|line| line.strip_prefix("    tidegate "));
        let (mut register, mut token) = (None::<Node>, None);
        for command in commands {
            let command = command.split('#').next().unwrap();
            let arguments: Vec<_> = command.split_ascii_whitespace().collect();
            match arguments[..] {
                ["build", "..", "-o", wasm] => {
                    std::fs::copy(tidegate_artifacts::plugin(plugin), at.join(wasm)).unwrap();
                }
                ["cert", ..] => {
                    let made = run(&at, &arguments);
                    assert_eq!(made.code, 0, "{arguments:?}: {}", made.stderr);
                }
                ["up", "-c", file] => register = Some(up(&at, file, &[])),
                ["tokens", "create", .., ">", file] => {
                    let registers =
                        register.as_ref().expect("the README starts the register first").register();
                    let made = token_by(&at, &arguments, &registers);
                    std::fs::write(at.join(file), &made).unwrap();
                    token = Some(made);
                }
                _ => panic!("a command that this story does not know: {arguments:?}"),
            }
        }
        let register = register.expect("the README starts the register");
        let registers = register.register();
        let [gateway, worker] =
            ["gateway.toml", "worker.toml"].map(|file| up(&at, file, &["--registers", &registers]));
        Self { register, gateway, worker, token, folder }
    }

    fn stop(self) {
        for node in [self.worker, self.gateway, self.register] {
            assert_eq!(node.process.terminate(), Some(0));
        }
    }
}

/// Makes a token as this command says, of the register that runs.
fn token_by(at: &Path, arguments: &[&str], registers: &str) -> String {
    let mut arguments: Vec<_> = arguments.iter().copied().take_while(|word| *word != ">").collect();
    let address = arguments.iter().position(|word| *word == "--register").unwrap() + 1;
    arguments[address] = registers;
    let made = run(at, &arguments);
    assert_eq!(made.code, 0, "{arguments:?}: {}", made.stderr);
    made.stdout.trim().to_owned()
}

fn up(at: &Path, file: &str, more: &[&str]) -> Node {
    Node::start(at, &[&["up", "-c", file, "--json"], more].concat())
}

fn copy_settings(from: &Path, to: &Path) {
    copy_files(from, to);
    for file in ["register.toml", "gateway.toml", "worker.toml"] {
        let text = std::fs::read_to_string(from.join(file)).unwrap();
        std::fs::write(to.join(file), without_ports(&text)).unwrap();
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in
        std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn echo_of_01_echo_answers_as_three_processes() {
    let three = Three::start("01-echo", "echo");
    promises::echo(three.gateway.listener("ws"), three.gateway.listener("text")).await;
    three.stop();
}

#[tokio::test]
async fn people_of_02_chat_room_talk_as_three_processes_and_get_the_page() {
    let three = Three::start("02-chat-room", "chat-room");
    let ws = three.gateway.listener("ws");
    promises::chat_room(ws, three.gateway.listener("text")).await;
    let mut raw = RawClient::connect(ws).await;
    raw.send(format!("GET / HTTP/1.1\r\nhost: {ws}\r\nconnection: close\r\n\r\n").as_bytes()).await;
    let page = String::from_utf8(raw.until(b"</html>").await).unwrap();
    let own = std::fs::read_to_string(root().join("examples/02-chat-room/web/index.html")).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with(own.trim_end()), "{page}");
    three.stop();
}

#[tokio::test]
async fn state_of_03_state_lives_as_long_as_it_says_as_three_processes() {
    let three = Three::start("03-state", "state");
    promises::state(three.gateway.listener("ws")).await;
    three.stop();
}

#[tokio::test]
async fn the_counter_of_04_hot_swap_counts_for_everybody_as_three_processes() {
    let three = Three::start("04-hot-swap", "hot-swap");
    promises::hot_swap(three.gateway.listener("ws")).await;
    three.stop();
}

#[tokio::test]
async fn attacks_of_globex_of_05_two_tenants_cost_acme_nothing_as_three_processes() {
    let three = Three::start("05-two-tenants", "two-tenants");
    promises::two_tenants(three.gateway.listener("ws")).await;
    three.stop();
}

#[tokio::test]
async fn the_shop_of_06_push_tells_every_device_as_three_processes() {
    let three = Three::start("06-push", "push");
    let (ws, token) = (three.gateway.listener("ws"), three.token.as_deref().unwrap());
    let Some(shop) = Shop::start(three.register.admin(), token, ws) else { return };
    let at = three.folder.path().join("cluster");
    pushes_reach(&at, &format!("http://{}", three.register.admin()), "push", 0).await;
    shop.tells_every_device(ws).await;
    three.stop();
}
