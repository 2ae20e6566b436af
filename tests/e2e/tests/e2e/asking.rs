//! What operators see of all nodes, asked through the register.

use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_harness::Client;

use crate::binary::{Node, cluster_folder, run, said};

#[tokio::test]
async fn the_status_of_every_node_is_told_from_anywhere_and_one_that_hangs_costs_only_its_own() {
    let folder = cluster_folder();
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let start = |role, file| Node::of_cluster(at, role, file, &registers);
    let gateways = [start("gateway", "gateway.toml"), start("gateway", "gateway-2.toml")];
    let workers = [start("worker", "worker.toml"), start("worker", "worker-2.toml")];
    let _client = Client::of_callbacks(gateways[1].listener("ws")).await;

    let from_outside = ["status", "--register", &registers, "--identity", "certs/ann", "--json"];
    for asked in [&from_outside[..], &["status", "--all", "--data-dir", "data/r", "--json"]] {
        let all = said(&run(at, asked));
        let names: Vec<_> = all.as_array().unwrap().iter().map(|of| of["node"].as_str().unwrap()).collect();
        assert_eq!(names, ["register-1", "gateway-1", "gateway-2", "worker-1", "worker-2"]);
        for (place, of) in all.as_array().unwrap().iter().enumerate() {
            assert_eq!((&of["answer"]["node"], &of["missing"]), (&of["node"], &Value::Null), "{of}");
            let clients = if place == 2 { 1 } else { 0 };
            assert_eq!(of["answer"]["apps"][0]["clients"].as_u64().unwrap_or(0), clients, "{of}");
        }
    }
    let one = run(at, &["status", "--node", "worker-2", "--data-dir", "data/r"]);
    assert!(one.code == 0 && one.stdout.starts_with("worker-2 (worker), ready"), "{}", one.stdout);
    let none = run(at, &["status", "--node", "worker-3", "--data-dir", "data/r"]);
    assert!(none.code == 64 && none.stderr.contains("worker-2"), "{}", none.stderr);
    // Only a register knows the others.
    let of_worker = run(at, &["status", "--all", "--data-dir", "data/w1"]);
    assert!(of_worker.code == 69 && of_worker.stderr.contains("--register"), "{}", of_worker.stderr);

    workers[0].process.freeze();
    let began = Instant::now();
    let all = run(at, &["status", "--all", "--data-dir", "data/r"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(all.stdout.contains("worker-1 (worker) is missing: it did not answer within"), "{}", all.stdout);
    assert!(all.stdout.contains("worker-2 (worker), ready"), "{}", all.stdout);
}
