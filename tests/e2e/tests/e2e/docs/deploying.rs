//! `docs/guide/deploying.md`, and what `docs/guide/http-api.md` shows of the same by HTTP.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tidegate_harness::{Client, DEADLINE};
use tokio::task::JoinHandle;

use super::{Block, block, here, root, runs};
use crate::binary::{Node, Operator, cluster_folder, run, said, wasm};
use crate::clients::is_there;

const PAGE: &str = "docs/guide/deploying.md";
const SLOTS: usize = 4;

/// The folder of a node beside that of the chat's plugin, as the guide has them.
struct Place {
    _folder: tempfile::TempDir,
    at: PathBuf,
    node: Node,
}

impl Place {
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("here");
        std::fs::create_dir(&at).unwrap();
        std::os::unix::fs::symlink(root().join("examples/02-chat-room/plugin"), folder.path().join("chat"))
            .unwrap();
        std::fs::copy(wasm("chat-room"), at.join("chat.wasm")).unwrap();
        let app = format!(
            "[[app]]\nname = \"chat\"\nplugin = \"../chat\"\nslots = {SLOTS}\nlisten = [\"ws://127.0.0.1:0\"]\n"
        );
        std::fs::write(at.join("tidegate.toml"), format!("{more}{app}")).unwrap();
        let node = Node::start(&at, &["up", "--json"]);
        Self { _folder: folder, at, node }
    }

    /// People who keep talking, some in each slot, so that a canary has something to be judged by.
    async fn talk(&self) -> Talk {
        let stop = Arc::new(AtomicBool::new(false));
        let mut people = Vec::new();
        while !self.has_people_in_each_slot() {
            // Each takes the emptier of two slots that are drawn.
            assert!(people.len() < 100 * SLOTS, "a slot gets nobody");
            let mut client = Client::connect(self.node.listener("ws")).await;
            asks_who_is_there(&mut client).await;
            let stop = Arc::clone(&stop);
            people.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    asks_who_is_there(&mut client).await;
                }
            }));
        }
        Talk { people, stop }
    }

    fn has_people_in_each_slot(&self) -> bool {
        let status = said(&run(&self.at, &["status", "--json"]));
        let slots = status["apps"][0]["clients_per_slot"].as_array().cloned().unwrap_or_default();
        slots.len() == SLOTS && slots.iter().all(|clients| clients.as_u64() > Some(0))
    }
}

async fn asks_who_is_there(client: &mut Client) {
    client.send(r#"{"type":"who"}"#).await;
    client.json_where(|said| said["type"] == "who" || said["type"] == "error").await;
}

struct Talk {
    people: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Talk {
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for person in self.people {
            person.await.unwrap();
        }
    }
}

/// What of a line does not depend on the machine: its words, with each number and digest as a mark.
fn shape(line: &str) -> String {
    let marks = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_number = bare.bytes().any(|b| b.is_ascii_digit()) && bare.parse::<f64>().is_ok();
        if is_number || word.contains("sha256:") {
            "#".to_owned()
        } else {
            word.trim_end_matches('s').to_owned()
        }
    };
    line.split_whitespace().map(marks).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_to_deploying_does_what_it_says() {
    let place = Place::start("");
    let at = &*place.at;
    let operator = Operator::of_node(at);
    let first = said(&run(at, &["history", "chat", "--json"]))[0]["version"]["digest"].clone();
    let digest = format!("sha256:{}", first.as_str().unwrap().trim_start_matches("sha256:"));
    runs(&block(PAGE, "tidegate deploy chat   "), at, &[("sha256:9f86d081...", &digest)]);

    let talk = place.talk().await;
    let canary = block(PAGE, "tidegate deploy chat chat.wasm --canary");
    runs(&canary, at, &[("--for 30s", "--for 1s --events-min 20")]);
    let mut going = operator.start(&["deploy", "chat", "chat.wasm", "--canary", "25%", "--for", "600s"]);
    going.tells("canary").await;
    let cancel = block(PAGE, "tidegate deploy chat --cancel");
    let (first, rest) = cancel.text.split_once('\n').unwrap();
    let of = |text: &str| Block { text: text.to_owned(), ..cancel.clone() };
    runs(&of(first), at, &[]);
    // It says that it turns round, not that it is back.
    assert_eq!(going.end().await.code, 70);
    runs(&of(rest), at, &[("--to 4", "--to 1")]);
    talk.end().await;

    let report = run(at, &["deploy", "chat", "chat.wasm"]).stdout;
    let label = |line: &str| line.get(..13).map(|label| label.trim().to_owned()).unwrap_or_default();
    let labels: Vec<_> = report.lines().map(label).collect();
    for line in block(PAGE, "app          default/chat").text.lines().filter(|line| *line != "...") {
        assert!(labels.contains(&label(line)), "a report has no {line:?}: {report}");
    }
    runs(&block(PAGE, "tidegate apps"), at, &[("--show 7", "--show 1")]);
    let apps = run(at, &["apps"]).stdout;
    let shown = block(PAGE, "default/chat  version 6").text;
    let until_health = |line: &str| shape(line.split(" overruns").next().unwrap());
    assert_eq!(until_health(&apps), until_health(&shown), "{apps}");
    converses(at, &block(PAGE, "-> {\"request\"").text);
    assert_eq!(place.node.process.terminate(), Some(0));
}

/// Says what stands behind `->` to the node's socket, and gets answers that begin as what stands behind `<-`, in that order.
fn converses(at: &Path, conversation: &str) {
    let module = std::fs::read(at.join("chat.wasm")).unwrap();
    let mut lines = conversation.lines();
    let (request, bytes) =
        lines.next().and_then(|line| line.strip_prefix("-> ")?.split_once("   and ")).unwrap();
    let shown = bytes.split(' ').next().unwrap();
    let mut socket = UnixStream::connect(at.join("data/control.sock")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    writeln!(socket, "{}", request.replace(shown, &module.len().to_string())).unwrap();
    socket.write_all(&module).unwrap();
    let told: Vec<String> = BufReader::new(socket).lines().map(Result::unwrap).collect();
    let mut rest = told.iter();
    for line in lines {
        // What a line is about: `{"news":{"Started":{` or `{"deployed":{"app"`. How often there is nothing to say is up to time.
        let about: String = line.trim_start_matches("<- ").split_inclusive('"').take(4).collect();
        let is_about = |told: &&String| told.starts_with(&about);
        assert!(about == "\"waiting\"" || rest.any(|told| is_about(&told)), "no {about} in {told:?}");
    }
}

#[tokio::test]
async fn the_guide_to_deploying_asks_a_cluster_by_its_register() {
    let folder = cluster_folder();
    let at = folder.path();
    std::fs::copy(wasm("callbacks"), at.join("chat.wasm")).unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    let operator = Operator::of_cluster(at, &registers);
    tidegate_harness::eventually("the register knows the app", || operator.app()).await;
    let as_here: &[(&str, &str)] = &[("deploy chat ", "deploy test "), ("10.0.0.1:7010", &registers)];
    runs(&block(PAGE, "tidegate deploy chat chat.wasm --register"), at, as_here);
    assert_eq!(operator.outcomes(), [(1, "committed".to_owned())]);
    for node in [gateway, worker, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_to_steering_by_http_does_what_it_says() {
    const PAGE: &str = "docs/guide/http-api.md";
    if !is_there("curl", "TIDEGATE_REQUIRE_CURL") {
        return;
    }
    let place = Place::start("[admin]\nlisten = \"127.0.0.1:0\"\n");
    let at = &*place.at;
    let address = place.node.admin().to_string();
    let as_here: &[(&str, &str)] = &[("127.0.0.1:7480", &address)];
    runs(&block(PAGE, "$ export TIDEGATE_TOKEN"), at, as_here);
    runs(&block(PAGE, "$ tidegate tokens create '*'"), at, as_here);

    let talk = place.talk().await;
    let shown = block(PAGE, "$ curl -N").shown().remove(0);
    let token = run(at, &["tokens", "create", "default", "--role", "deploy"]).stdout.trim().to_owned();
    let rest = format!(
        "?canary=25&canary_ms=1000&events_min=20' -sS -H 'Authorization: Bearer {token}' -H 'Content-Type: application/wasm'"
    );
    let command = here(&shown.command, &[("?canary=25 ...", &rest), ("http://", "'http://"), as_here[0]]);
    let told = std::process::Command::new("bash").args(["-c", &command]).current_dir(at).output().unwrap();
    talk.end().await;
    let told = String::from_utf8(told.stdout).unwrap();
    let told: Vec<Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{told}"))).collect();
    let keys = |line: &Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for line in shown.output.lines().filter(|line| *line != "..." && !line.contains("\"waiting\"")) {
        let line: Value = serde_json::from_str(&line.replace("{...}", "{}")).unwrap();
        let found = told.iter().find(|told| told["news"] == line["news"]);
        assert_eq!(found.map(keys), Some(keys(&line)), "{told:?}");
    }
    assert_eq!(told.last().unwrap()["outcome"], "committed");
    assert_eq!(place.node.process.terminate(), Some(0));
}
