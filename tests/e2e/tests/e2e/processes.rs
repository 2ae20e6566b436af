//! The real binary: one process, and three with certificates.

use serde_json::json;
use tidegate_harness::{Client, eventually};

use crate::binary::{Node, cluster_folder, run};

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

#[tokio::test]
async fn a_worker_runs_the_apps_of_its_file_whose_labels_it_has_and_says_what_it_does_not_run() {
    let folder = cluster_folder();
    let at = folder.path();
    let text = std::fs::read_to_string(at.join("worker.toml")).unwrap();
    let more = "\n[worker]\nlabels = [\"eu\"]\n\n[[app]]\nname = \"trained\"\nplugin = \"none.wasm\"\nrequire = [\"eu\", \"gpu\"]\n";
    let text = text.replace("[[app]]", "[[app]]\nrequire = [\"eu\"]");
    std::fs::write(at.join("worker.toml"), text + more).unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::start(at, &["gateway", "-c", "gateway.toml", "--registers", &registers, "--json"]);
    let worker = Node::start(at, &["worker", "-c", "worker.toml", "--registers", &registers, "--json"]);
    let mut client = Client::of_callbacks(gateway.listener("ws")).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "hello");
    let status = run(at, &["status", "--data-dir", "data/w1"]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    assert!(status.stdout.contains("not here: it requires gpu"), "{}", status.stdout);
    for node in [gateway, worker, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
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
