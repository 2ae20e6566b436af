//! Many apps on one node.

use serde_json::json;
use tidegate_harness::Client;

use crate::binary::{Node, run, said, wasm};

#[tokio::test]
async fn two_hundred_apps_of_one_module_on_a_shared_port_answer_each_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = wasm("callbacks");
    let app = |n: usize| {
        format!(
            "[[app]]\nname = \"app-{n}\"\nplugin = \"{plugin}\"\nroutes = [\"app-{n}.test\"]\n\
             settings = {{ own = \"the {n}th\" }}\n"
        )
    };
    let port = "[node]\nshards = 2\n[[listener]]\naddress = \"ws://127.0.0.1:0\"\n".to_owned();
    let settings: String = [port].into_iter().chain((0..200).map(app)).collect();
    std::fs::write(folder.path().join("tidegate.toml"), settings).unwrap();
    for start in ["the first time", "with what is stored of them"] {
        let node = Node::start(folder.path(), &["up", "-c", "tidegate.toml", "--json"]);
        let address = node.listener("ws");
        for n in (0..200).rev() {
            let mut client = Client::of_callbacks_at(address, &format!("app-{n}.test"), "/").await;
            assert_eq!(client.call("setting", json!({"key": "own"})).await, format!("the {n}th"), "{start}");
            client.close().await;
        }
        let apps = said(&run(folder.path(), &["apps", "--json"]));
        let apps = apps.as_array().unwrap();
        assert!(apps.len() == 200 && apps.iter().all(|app| app["stable"]["number"] == 1), "{start}");
        let status = said(&run(folder.path(), &["status", "--json"]));
        assert!(status["ready"] == true && status["apps"].as_array().unwrap().len() == 200, "{start}");
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[test]
fn bench_density_writes_apps_that_a_node_runs_and_hears_from_each_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let write =
        ["bench", "density", "--write", "many", "--distinct", "--listen", "127.0.0.1:0", "--apps", "3"];
    let wrote = run(folder.path(), &[&write[..], &["--module", &wasm("hostile")]].concat());
    assert_eq!(wrote.code, 0, "{}", wrote.stderr);
    assert!(wrote.stdout.contains("tidegate up -c many/tidegate.toml"), "{}", wrote.stdout);
    let node = Node::start(folder.path(), &["up", "-c", "many/tidegate.toml", "--json"]);
    let url = format!("ws://{}/", node.listener("ws"));
    let pid = node.process.id().to_string();
    let bench = |apps: &str| {
        let bench = ["bench", "density", &url, "--apps", apps, "--pid", &pid, "--baseline", "1000"];
        run(folder.path(), &[&bench[..], &["--seconds", "0.1", "--patience", "60", "--json"]].concat())
    };
    let measured = bench("3");
    assert_eq!(measured.code, 0, "{}", measured.stderr);
    let report = said(&measured);
    assert_eq!(report["apps"], 3);
    for figure in ["idle", "idle_cores", "first", "again", "used"] {
        assert!(!report[figure].is_null(), "{figure}: {report}");
    }
    let one_too_many = bench("4");
    assert_ne!(one_too_many.code, 0);
    let says = ["app-3 did not answer (3 of 4 did)", "404"];
    assert!(says.iter().all(|part| one_too_many.stderr.contains(part)), "{}", one_too_many.stderr);
    assert_eq!(node.process.terminate(), Some(0));
}
