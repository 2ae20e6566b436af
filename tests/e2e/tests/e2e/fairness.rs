//! An app that takes all the CPU that it can get, beside one that does not. What takes how long is not looked at.

use serde_json::{Value, json};
use tidegate_harness::{Client, eventually};

use crate::binary::{Node, cluster_folder_of, run, said, wasm};

#[test]
fn bench_fairness_measures_a_quiet_app_beside_one_that_is_held_to_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = wasm("hostile");
    let app = |name: &str, more: &str| {
        format!("[[app]]\n{name}\nplugin = \"{plugin}\"\nlisten = [\"ws://127.0.0.1:0\"]\n{more}\n")
    };
    let quiet = app("tenant = \"quiet\"\nname = \"echo\"", "");
    let rogue = app("tenant = \"rogue\"\nname = \"loop\"", "slots = 2\nturn_cpu_ms = 200\ncpu_share = 0.2");
    let settings = format!("[node]\ndata_dir = \"data\"\n{quiet}{rogue}");
    std::fs::write(folder.path().join("tidegate.toml"), settings).unwrap();
    let node = Node::start(folder.path(), &["up", "--json"]);
    let status = || said(&run(folder.path(), &["status", "--json"]));

    let listeners = status()["addresses"]["listeners"].as_array().unwrap().clone();
    let url = |app: &str| {
        let of = listeners.iter().find(|listener| listener["app"] == app).expect("the app listens");
        of["url"].as_str().unwrap().to_owned()
    };
    let (quiet, rogue) = (url("quiet/echo"), url("rogue/loop"));
    let bench = ["bench", "fairness", &quiet, "--neighbour", &rogue, "--neighbour-connections", "4"];
    let short =
        ["--rounds", "2", "--warm-up", "0.3", "--seconds", "1", "--rate", "200", "--connections", "10"];
    let ran = run(folder.path(), &[&bench[..], &short, &["--rest", "600", "--json"]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report = said(&ran);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    for round in report["rounds"].as_array().unwrap() {
        assert!(round["provoked"].as_u64() >= Some(4), "{round}");
        for half in ["calm", "beside"] {
            assert!(round[half]["count"].as_u64() > Some(0), "{round}");
            for fault in ["lost", "reordered", "unexpected", "wrong", "closed"] {
                assert_eq!(round[half]["faults"][fault], json!(0), "{fault}: {round}");
            }
        }
    }

    let apps = status()["apps"].as_array().unwrap().clone();
    let slots = |app: &str| -> Value {
        apps.iter().find(|entry| entry["name"] == app).expect("the app")["slots"].clone()
    };
    let (quiet, rogue) = (slots("quiet/echo"), slots("rogue/loop"));
    assert_eq!((&quiet["throttled_ms"], &quiet["failed"]), (&json!(0), &json!(0)), "{quiet}");
    // Eight loops of 200 ms and more, of which a burst of 100 ms is free. How long that takes to earn says the machine.
    assert!(rogue["cpu_ms"].as_u64() > Some(1_000) && rogue["throttled_ms"].as_u64() > Some(0), "{rogue}");
    assert!(rogue["failed"].as_u64() >= Some(8), "{rogue}");
    assert_eq!(node.process.terminate(), Some(0));
}

#[test]
fn bench_fairness_measures_a_quiet_app_beside_one_that_is_flooded_in_a_cluster() {
    let folder = cluster_folder_of("hostile");
    let at = folder.path();
    let add = |file: &str, more: &str| {
        let text = std::fs::read_to_string(at.join(file)).unwrap();
        std::fs::write(at.join(file), format!("{text}[[app]]\nname = \"rogue\"\n{more}\n")).unwrap();
    };
    add("gateway.toml", "listen = [\"ws://127.0.0.1:0\"]");
    add("worker.toml", &format!("plugin = \"{}\"\ncpu_share = 0.05", wasm("hostile")));
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    let status = |data: &str| said(&run(at, &["status", "--data-dir", data, "--json"]));
    let listeners = status("data/g1")["addresses"]["listeners"].as_array().unwrap().clone();
    let url = |app: &str| {
        let of = listeners.iter().find(|listener| listener["app"] == app).expect("the app listens");
        of["url"].as_str().unwrap().to_owned()
    };
    let (quiet, rogue) = (url("default/test"), url("default/rogue"));
    let pid = worker.process.id().to_string();
    let bench = ["bench", "fairness", &quiet, "--neighbour", &rogue, "--greed", "flood", "--pid", &pid];
    let short =
        ["--rounds", "1", "--warm-up", "0.3", "--seconds", "1", "--rate", "200", "--connections", "10"];
    let flood = ["--neighbour-connections", "2", "--in-flight", "32", "--rest", "600", "--json"];
    let ran = run(at, &[&bench[..], &short, &flood].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report = said(&ran);
    assert_eq!(report["greed"], json!({ "kind": "flood", "payload": 64, "in_flight": 32 }));
    let round = &report["rounds"][0];
    assert!(round["provoked"].as_u64() >= Some(64), "{round}");
    for half in ["calm", "beside"] {
        assert!(round[half]["count"].as_u64() > Some(0), "{round}");
        for fault in ["lost", "reordered", "unexpected", "wrong", "closed"] {
            assert_eq!(round[half]["faults"][fault], json!(0), "{fault}: {round}");
        }
    }
    let apps = status("data/w1")["apps"].as_array().unwrap().clone();
    let slots = |app: &str| &apps.iter().find(|entry| entry["name"] == app).expect("the app")["slots"];
    // Each message was a turn, and its share of the processors held all the same.
    assert!(slots("default/rogue")["turns"].as_u64() >= round["provoked"].as_u64(), "{report}");
    assert_eq!(
        (&slots("default/test")["throttled_ms"], &slots("default/test")["failed"]),
        (&json!(0), &json!(0))
    );
    for node in [gateway, worker, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test]
async fn the_apps_of_a_tenant_share_its_cores_and_those_of_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = wasm("hostile");
    let app = |tenant: &str, name: &str| {
        format!(
            "[[app]]\ntenant = \"{tenant}\"\nname = \"{name}\"\nplugin = \"{plugin}\"\ncpu_share = 2\n\
             turn_cpu_ms = 300\nlisten = [\"ws://127.0.0.1:0\"]\n"
        )
    };
    let apps = [app("rogue", "loop"), app("rogue", "idle"), app("quiet", "echo")].concat();
    let tenant = "[[tenant]]\nname = \"rogue\"\ncpu_share = 0.05\n";
    std::fs::write(
        folder.path().join("tidegate.toml"),
        format!("[node]\ndata_dir = \"data\"\n{tenant}{apps}"),
    )
    .unwrap();
    let log = folder.path().join("log");
    let node = Node::logging(folder.path(), &["up", "--json"], std::fs::File::create(&log).unwrap());
    let status = || said(&run(folder.path(), &["status", "--json"]));
    let slots = |status: &Value, app: &str| {
        let apps = status["apps"].as_array().unwrap();
        apps.iter().find(|entry| entry["name"] == app).expect("the app")["slots"].clone()
    };
    let listeners = status()["addresses"]["listeners"].as_array().unwrap().clone();
    let of_loop = listeners.iter().find(|listener| listener["app"] == "rogue/loop").expect("it listens");
    let mut client = Client::connect_to(of_loop["address"].as_str().unwrap().parse().unwrap(), "/", &[])
        .await
        .expect("a client");

    // Each is 300 ms of CPU time, of which 100 are free once: the tenant is over its share most of the time.
    for _ in 0..10 {
        client.send("loop").await;
    }
    let both = || {
        let status = status();
        let throttled = |app: &str| slots(&status, app)["throttled"] == json!(true);
        (throttled("rogue/loop") && throttled("rogue/idle")).then_some(status)
    };
    let status = eventually("both apps wait", both).await;
    assert_eq!(slots(&status, "rogue/idle")["cpu_ms"], json!(0), "{status}");
    assert_eq!(slots(&status, "quiet/echo")["throttled"], json!(false), "{status}");
    let told = || std::fs::read_to_string(&log).unwrap().contains("its tenant has used up").then_some(());
    eventually("the log tells it", told).await;
    assert_eq!(node.process.terminate(), Some(0));
}
