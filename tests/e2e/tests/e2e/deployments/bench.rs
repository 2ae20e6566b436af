//! `bench swap` in short: every message of every connection is accounted for. What takes how long is not looked at.

use serde_json::{Value, json};

use super::start_versioned;
use crate::binary::{Node, Operator, cluster_folder_of, said, wasm};

const SWAPS: u64 = 12;

/// Swaps under this load, each with a little state, and looks at what came of every message.
fn every_swap_holds(operator: &Operator, gateway: &Node, load: &[&str]) {
    let url = format!("ws://{}/", gateway.listener("ws"));
    let modules = ["versioned", "versioned-twin"].map(wasm);
    let modules = [format!("v1={}", modules[0]), format!("twin={}", modules[1])];
    let swaps = SWAPS.to_string();
    let bench = ["bench", "swap", &url, "--app", "test", "--module", &modules[0], "--module", &modules[1]];
    // The limits are there to end a run that hangs.
    let rest = ["--swaps", &swaps, "--warm-up", "100ms", "--pause", "0ms", "--give-up", "60s", "--json"];
    let ran = operator.run(&[&bench[..], &rest, &["--first", "ballast 65536"], load].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report = said(&ran);
    let audit = &report["audit"];
    assert!(audit["sent"].as_u64() > Some(1_000) && audit["sent"] == audit["answered"], "{audit}");
    for fault in ["lost", "repeated", "reordered", "backward", "strange", "wrong", "unknown", "closed"] {
        assert_eq!(audit[fault], json!(0), "{fault}: {audit}");
    }
    assert_eq!((&report["held"], &report["failure"]), (&json!(true), &Value::Null));
    let swaps = report["swaps"].as_array().unwrap();
    assert_eq!(swaps.len() as u64, SWAPS);
    for swap in swaps {
        let told = &swap["report"];
        assert_eq!(told["outcome"], "committed");
        assert_eq!(told["audit"], json!({"lost": 0, "repeated": 0, "reordered": 0}));
        assert_eq!(
            (&told["clients"]["before"], &told["clients"]["closed"]),
            (&json!(100), &json!(0)),
            "{told}"
        );
        assert!(told["state_bytes"].as_u64() >= Some(65_536) && told["switched"] == told["slots"], "{told}");
    }
}

#[test]
fn bench_swap_holds_at_full_load_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let (node, operator) = start_versioned(folder.path(), 2);
    every_swap_holds(&operator, &node, &["--in-flight", "4"]);
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn bench_swap_holds_with_separate_processes_over_quic() {
    let folder = cluster_folder_of("versioned");
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let workers =
        ["worker.toml", "worker-2.toml"].map(|file| Node::of_cluster(at, "worker", file, &registers));
    let operator = Operator::of_cluster(at, &registers);
    every_swap_holds(&operator, &gateway, &["--rate", "3000"]);
    let [first, second] = workers;
    for node in [first, second, gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}
