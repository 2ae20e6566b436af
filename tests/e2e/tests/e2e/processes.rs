//! The real binary: one process, and three with certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_harness::{Client, Process, eventually, tidegate};

/// A node and what it said when it was ready.
struct Node {
    process: Process,
    ready: Value,
}

impl Node {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let process = Process::start(folder, arguments);
        let ready = process.line("that it is ready", |line| {
            serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == "ready")
        });
        Self { process, ready }
    }

    fn listener(&self, protocol: &str) -> SocketAddr {
        let all = self.ready["listeners"].as_array().unwrap();
        let of = all.iter().find(|l| l["protocol"] == protocol).expect("a listener");
        of["address"].as_str().unwrap().parse().unwrap()
    }

    fn register(&self) -> String {
        self.ready["register"].as_str().unwrap().to_owned()
    }
}

/// A folder with the certificates and settings of a cluster that runs the `callbacks` plugin.
fn cluster_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let certificates: [&[&str]; 6] = [
        &["cert", "init"],
        &["cert", "node", "register", "register-1"],
        &["cert", "node", "gateway", "gateway-1"],
        &["cert", "node", "gateway", "gateway-2"],
        &["cert", "node", "worker", "worker-1"],
        &["cert", "operator", "ann"],
    ];
    for arguments in certificates {
        let made = run(folder.path(), arguments);
        assert_eq!(made.code, 0, "{arguments:?}: {}", made.stderr);
    }
    let wasm = tidegate_artifacts::plugin("callbacks");
    let settings = [
        ("register.toml", "[node]\ndata_dir = \"data/r\"\n[cluster]\nidentity = \"certs/register-1\"\n[register]\nlisten = \"127.0.0.1:0\"\n".to_owned()),
        ("gateway.toml", "[node]\ndata_dir = \"data/g1\"\n[cluster]\nidentity = \"certs/gateway-1\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"test\"\nlisten = [\"ws://127.0.0.1:0\"]\n".to_owned()),
        ("gateway-2.toml", "[node]\ndata_dir = \"data/g2\"\n[cluster]\nidentity = \"certs/gateway-2\"\n[gateway]\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"test\"\nlisten = [\"ws://127.0.0.1:0\"]\n".to_owned()),
        ("worker.toml", format!("[node]\ndata_dir = \"data/w1\"\n[cluster]\nidentity = \"certs/worker-1\"\n[[app]]\nname = \"test\"\nslots = 2\nplugin = \"{}\"\n", wasm.display())),
    ];
    for (name, text) in settings {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output = tidegate(folder).args(arguments).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test]
async fn register_gateways_and_worker_run_as_processes_of_their_own() {
    let folder = cluster_folder();
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::start(at, &["gateway", "-c", "gateway.toml", "--registers", &registers, "--json"]);
    let worker = Node::start(at, &["worker", "-c", "worker.toml", "--registers", &registers, "--json"]);

    let mut client = Client::of_callbacks(gateway.listener("ws")).await;
    client.send("over QUIC").await;
    assert_eq!(client.text().await, "over QUIC");

    let nodes = run(at, &["nodes", "--register", &registers, "--identity", "certs/ann"]);
    assert_eq!(nodes.code, 0, "{}", nodes.stderr);
    for name in ["register-1", "gateway-1", "worker-1"] {
        assert!(nodes.stdout.contains(name) || name == "register-1", "{name} in {}", nodes.stdout);
    }

    // The register dies: what flows goes on flowing.
    let address = register.register();
    register.process.kill();
    client.send("without a register").await;
    assert_eq!(client.text().await, "without a register");

    // It is back, and a new node joins.
    let text = std::fs::read_to_string(at.join("register.toml")).unwrap().replace("127.0.0.1:0", &address);
    std::fs::write(at.join("register.toml"), text).unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let second = Node::start(at, &["gateway", "-c", "gateway-2.toml", "--registers", &registers, "--json"]);
    let mut other = Client::of_callbacks(second.listener("ws")).await;
    assert_eq!(other.call("get_all_client_count", json!({})).await, 2);
    let both = json!({"to": {"clients": [client.id(), other.id()]}, "message": "both"});
    other.call("send", both).await;
    assert_eq!(client.text().await, "both");

    assert_eq!(worker.process.terminate(), Some(0));
    client.send("while no worker is there").await;
    let worker = Node::start(at, &["worker", "-c", "worker.toml", "--registers", &registers, "--json"]);
    assert_eq!(client.text().await, "while no worker is there");

    for node in [second, gateway, worker, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test]
async fn a_killed_gateway_costs_its_clients_their_on_close_and_nobody_else_anything() {
    let folder = cluster_folder();
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::start(at, &["gateway", "-c", "gateway.toml", "--registers", &registers, "--json"]);
    let second = Node::start(at, &["gateway", "-c", "gateway-2.toml", "--registers", &registers, "--json"]);
    let worker = Node::start(at, &["worker", "-c", "worker.toml", "--registers", &registers, "--json"]);

    let mut watcher = Client::of_callbacks(gateway.listener("ws")).await;
    watcher.call("join_group", json!({"groups": ["observers"]})).await;
    let lost = Client::of_callbacks(second.listener("ws")).await;
    let id = lost.id().to_owned();
    watcher.json_where(|v| v["event"] == "connect" && v["client"] == id.as_str()).await;
    second.process.kill();
    let event = watcher.json_where(|v| v["event"] == "close").await;
    assert_eq!((event["client"].as_str(), event["reason"].as_str()), (Some(&*id), Some("gateway-lost")));
    drop((register, worker, gateway));
}

#[test]
fn a_node_with_the_certificate_of_another_role_is_refused() {
    let folder = cluster_folder();
    let refused = run(folder.path(), &["gateway", "-c", "worker.toml"]);
    assert_eq!(refused.code, 78, "{}", refused.stderr);
    assert!(refused.stderr.contains("worker"), "{}", refused.stderr);
}

#[test]
fn wrong_settings_are_named_with_file_line_key_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("[node]\nnmae = \"x\"\n", ["tidegate.toml", "2", "nmae", "name"]),
        ("[[app]]\nname = \"Chat\"\n", ["tidegate.toml", "2", "Chat", "a-z"]),
        (
            "[[app]]\nname = \"chat\"\nlisten = [\"http://127.0.0.1:1\"]\n",
            ["tidegate.toml", "3", "http", "ws://"],
        ),
        ("[node]\nshards = \"two\"\n", ["tidegate.toml", "2", "shards", "whole number"]),
        ("[node\n", ["tidegate.toml", "1", "node", "]"]),
    ];
    for (text, named) in cases {
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let ran = run(folder.path(), &["up"]);
        assert_eq!(ran.code, 78, "{text}: {}", ran.stderr);
        for word in named {
            assert!(ran.stderr.contains(word), "{text:?} should name {word}: {}", ran.stderr);
        }
    }
    assert_eq!(run(folder.path(), &["up", "--no-such-flag"]).code, 64);
}

#[test]
fn a_new_project_is_made_built_and_checked_outside_the_checkout() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["new", "my-chat"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let project: PathBuf = folder.path().join("my-chat");
    let built = run(&project, &["build", "--json"]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let result: Value = serde_json::from_str(&built.stdout).expect("JSON");
    assert!(result.to_string().contains("message"), "{result}");
    let again = run(&project, &["build", "--json"]);
    let again: Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!(again["unchanged"], true, "{again}");
    assert_ne!(run(folder.path(), &["new", "my-chat"]).code, 0, "it must not overwrite");
    assert_ne!(run(folder.path(), &["new", "My Chat"]).code, 0, "it is no name");
}

#[tokio::test]
async fn an_all_in_one_answers_on_its_control_socket_and_says_goodbye_to_clients() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = tidegate_artifacts::plugin("callbacks");
    let text = format!(
        "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\", \"text://127.0.0.1:0\"]\n",
        wasm.display()
    );
    std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
    let node = Node::start(folder.path(), &["up", "--json"]);
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    let clients = eventually("the client is counted", || {
        let status = run(folder.path(), &["status", "--json"]);
        assert_eq!(status.code, 0, "{}", status.stderr);
        status.stdout.contains("tidegate_gateway_connections_accepted_total").then_some(status.stdout)
    })
    .await;
    assert!(clients.contains("default/test"), "{clients}");
    assert_eq!(node.process.terminate(), Some(0));
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1001));
}

/// What `deploy` and its kind say as JSON.
fn said(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

/// A folder with the settings of an all-in-one, or of a cluster's worker, whose plugin has versions.
fn versioned_settings(folder: &Path) -> String {
    let wasm = tidegate_artifacts::plugin("versioned");
    let worker = std::fs::read_to_string(folder.join("worker.toml")).unwrap();
    let callbacks = tidegate_artifacts::plugin("callbacks");
    worker.replace(&callbacks.display().to_string(), &wasm.display().to_string())
}

async fn says(client: &mut Client, text: &str, answer: &str) {
    client.send(text).await;
    assert_eq!(client.text().await, answer);
}

#[tokio::test]
async fn an_operator_deploys_to_a_cluster_whose_register_dies_and_whose_worker_starts_anew() {
    let folder = cluster_folder();
    let at = folder.path();
    std::fs::write(at.join("worker.toml"), versioned_settings(at)).unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::start(at, &["gateway", "-c", "gateway.toml", "--registers", &registers, "--json"]);
    let worker = Node::start(at, &["worker", "-c", "worker.toml", "--registers", &registers, "--json"]);
    let operator = |arguments: &[&str]| {
        let to = ["--register", &registers, "--identity", "certs/ann"];
        run(at, &[arguments, &to].concat())
    };
    let mut client = Client::connect(gateway.listener("ws")).await;
    says(&mut client, "hello", "v1 hello").await;

    let v2 = tidegate_artifacts::plugin("versioned-v2").display().to_string();
    let report = said(&operator(&["deploy", "test", &v2, "--json"]));
    assert_eq!((&report["switched"], &report["clients"]["closed"]), (&json!(2), &json!(0)), "{report}");
    says(&mut client, "mine", "v2 mine 1").await;

    // One that does not start changes nothing, and the deployer hears why.
    let traps = tidegate_artifacts::plugin("versioned-start-traps").display().to_string();
    let refused = operator(&["deploy", "test", &traps]);
    assert_eq!(refused.code, 70);
    assert!(
        refused.stdout.contains("on-worker-start") && refused.stdout.contains("panic"),
        "{}",
        refused.stdout
    );
    says(&mut client, "mine", "v2 mine 1").await;

    // The register dies and comes back at its address: it knows what was deployed.
    register.process.kill();
    says(&mut client, "a", "v2 a").await;
    let text = std::fs::read_to_string(at.join("register.toml")).unwrap().replace("127.0.0.1:0", &registers);
    std::fs::write(at.join("register.toml"), text).unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);

    // A worker that starts with the old file runs the new version before it takes the client.
    assert_eq!(worker.process.terminate(), Some(0));
    let worker = Node::start(at, &["worker", "-c", "worker.toml", "--registers", &registers, "--json"]);
    says(&mut client, "b", "v2 b").await;
    let history = operator(&["history", "test"]);
    assert!(
        history.stdout.contains("committed") && history.stdout.contains("rolled back"),
        "{}",
        history.stdout
    );
    for node in [worker, gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test]
async fn what_was_deployed_to_an_all_in_one_stays_over_restarts_until_its_settings_change() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let settings = |plugin: &str| {
        let wasm = tidegate_artifacts::plugin(plugin);
        format!(
            "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
            wasm.display()
        )
    };
    std::fs::write(at.join("tidegate.toml"), settings("versioned")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v1 a").await;
    let v2 = tidegate_artifacts::plugin("versioned-v2").display().to_string();
    let report = said(&run(at, &["deploy", "test", &v2, "--json"]));
    assert_eq!(report["version"]["number"], 2, "{report}");
    says(&mut client, "mine", "v2 mine 1").await;
    // Version 1 cannot read what version 2 keeps: the way back is refused, and says so.
    let back = run(at, &["rollback", "test"]);
    assert_eq!(back.code, 70);
    assert!(back.stdout.contains("schema"), "{}", back.stdout);
    says(&mut client, "mine", "v2 mine 1").await;
    assert_eq!(run(at, &["deploy", "nobody", &v2]).code, 64);
    assert_eq!(node.process.terminate(), Some(0));

    let node = Node::start(at, &["up", "--json"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v2 a").await;
    assert_eq!(node.process.terminate(), Some(0));

    std::fs::write(at.join("tidegate.toml"), settings("versioned-twin")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let apps = run(at, &["apps"]);
    assert!(apps.stdout.contains("version 4"), "{}", apps.stdout);
    assert_eq!(node.process.terminate(), Some(0));
}
