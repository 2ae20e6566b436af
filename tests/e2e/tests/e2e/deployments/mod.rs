//! Deployments to the real binary: what goes right, and everything on the way that can go wrong.

mod bench;
mod canary;
mod disk;
mod kills;
mod refusals;
mod traffic;

use std::path::Path;

use serde_json::json;
use tidegate_harness::Client;

use crate::binary::{Node, Operator, cluster_folder_of, run, said, says, stays_at, wasm};

/// The settings of an all-in-one that runs this plugin in so many slots.
fn write_settings(folder: &Path, plugin: &str, slots: u32) {
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[[app]]\nname = \"test\"\nslots = {slots}\nplugin = \"{}\"\n\
         listen = [\"ws://127.0.0.1:0\"]\n",
        wasm(plugin)
    );
    std::fs::write(folder.join("tidegate.toml"), text).unwrap();
}

/// An all-in-one that runs the `versioned` plugin in so many slots.
fn start_versioned(folder: &Path, slots: u32) -> (Node, Operator) {
    write_settings(folder, "versioned", slots);
    (Node::start(folder, &["up", "--json"]), Operator::of_node(folder))
}

#[tokio::test]
async fn an_operator_deploys_to_a_cluster_whose_register_dies_and_whose_worker_starts_anew() {
    let folder = cluster_folder_of("versioned");
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    let operator = Operator::of_cluster(at, &registers);
    let mut client = Client::connect(gateway.listener("ws")).await;
    says(&mut client, "hello", "v1 hello").await;

    let v2 = wasm("versioned-v2");
    let report = said(&operator.run(&["deploy", "test", &v2, "--json"]));
    assert_eq!((&report["switched"], &report["clients"]["closed"]), (&json!(2), &json!(0)), "{report}");
    says(&mut client, "mine", "v2 mine 1").await;

    // One that does not start changes nothing, and the deployer hears why.
    let refused = operator.run(&["deploy", "test", &wasm("versioned-start-traps")]);
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
    stays_at(at, &registers);
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);

    // A worker that starts with the old file runs the new version before it takes the client.
    assert_eq!(worker.process.terminate(), Some(0));
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    says(&mut client, "b", "v2 b").await;
    let history = operator.run(&["history", "test"]);
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
    write_settings(at, "versioned", 1);
    let node = Node::start(at, &["up", "--json"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "a", "v1 a").await;
    let v2 = wasm("versioned-v2");
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

    write_settings(at, "versioned-twin", 1);
    let node = Node::start(at, &["up", "--json"]);
    let apps = run(at, &["apps"]);
    assert!(apps.stdout.contains("version 4"), "{}", apps.stdout);
    assert_eq!(node.process.terminate(), Some(0));
}
