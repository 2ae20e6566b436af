//! The buckets of keys that an app is granted: what its plugin keeps survives everything, and nobody else sees it.

use std::path::Path;

use tidegate_harness::{Client, eventually};

use crate::binary::{Node, Operator, cluster_folder_of, run, said, says, wasm};

const FULL: &str = "error: the app's buckets would have";

/// An app `test` that runs a plugin and is granted this.
fn write_settings(folder: &Path, plugin: &str, more: &str) {
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[[listener]]\naddress = \"ws://127.0.0.1:0\"\n\
         [[app]]\nname = \"test\"\nplugin = \"{plugin}\"\nroutes = [\"*\"]\n{more}\n"
    );
    std::fs::write(folder.join("tidegate.toml"), text).unwrap();
}

fn up(folder: &Path) -> Node {
    Node::start(folder, &["up", "--json"])
}

async fn asked(client: &mut Client, text: &str) -> String {
    client.send(text).await;
    client.text().await
}

#[tokio::test]
async fn a_plugin_keeps_keys_over_turns_swaps_and_kills_and_reaches_no_bucket_but_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_settings(at, &wasm("keys"), "slots = 2\n[app.grants]\nkeys = [\"one\", \"two\"]");
    let node = up(at);
    let mut client = Client::connect(node.listener("ws")).await;
    for (text, answer) in [
        ("one get a", "None"),
        ("one set a 1", "()"),
        ("one get a", "Some(\"1\")"),
        ("one exists a", "true"),
        ("one exists b", "false"),
        ("one increment a 41", "42"),
        ("one increment b -1", "-1"),
        ("one append log x", "x"),
        ("one append log y", "xy"),
        ("one race r", "Some(\"2\") true Some(\"3\")"),
        ("one delete r", "()"),
        ("one list", "a,b,log"),
        ("one list a", "b,log"),
        ("two list", ""),
        ("two many x y", "[Some(\"X\"), Some(\"Y\"), None] y"),
        ("two fill 2500", "2501"),
        // A handle lives from turn to turn.
        ("hold two", "held"),
        ("held get 00007", "Some(\"v\")"),
    ] {
        says(&mut client, text, answer).await;
    }
    // What is not granted, and what breaks a rule, is an error that says so; the turn goes on.
    for (text, words) in [
        ("three get a", "`keys` in [app.grants]"),
        ("../one get a", "granted no bucket"),
        ("one increment log 1", "no whole number"),
        ("one get ", "1 to 512 are allowed"),
        ("one large l 1048577", "1048576 are allowed"),
    ] {
        let answer = asked(&mut client, text).await;
        assert!(answer.starts_with("error: ") && answer.contains(words), "{text}: {answer}");
    }
    // A turn that fails takes nothing back that it has set, and says nothing.
    client.send("one set failed yes !").await;
    says(&mut client, "one get failed", "Some(\"yes\")").await;

    // Both slots, which are two instances, have the same keys; the next version has them too.
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = Client::connect(node.listener("ws")).await;
        says(&mut other, "one get a", "Some(\"42\")").await;
        others.push(other);
    }
    let operator = Operator::of_node(at);
    let ran = operator.run(&["deploy", "test", &wasm("keys")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    says(&mut client, "one get a", "Some(\"42\")").await;
    let logs = operator.run(&["logs", "test"]);
    assert!(logs.stdout.contains("refused in save: true, in restore: true"), "{}", logs.stdout);

    let status = said(&run(at, &["status", "--data-dir", "data", "--json"]));
    assert_eq!(status["apps"][0]["slots"]["keys"], 2505, "{status}");
    for counter in ["changes", "reads", "reads_cached", "commits"] {
        let count = &status["counters"][format!("tidegate_keys_{counter}_total")];
        assert!(count.as_u64() > Some(2), "{counter}: {count}");
    }

    // Whatever was confirmed is there after a kill.
    says(&mut client, "one set last kept-4", "()").await;
    drop((client, others));
    node.process.kill();
    let mut before = "kept-4".to_owned();
    for round in 5..8 {
        let node = up(at);
        let mut client = Client::connect(node.listener("ws")).await;
        says(&mut client, "one get last", &format!("{:?}", Some(&before))).await;
        before = format!("kept-{round}");
        says(&mut client, &format!("one set last {before}"), "()").await;
        node.process.kill();
    }
    let node = up(at);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "one get last", "Some(\"kept-7\")").await;
    says(&mut client, "two list 02498", "02499,y").await;
    drop(client);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn what_is_full_is_told_and_a_turn_that_waits_for_ever_is_ended_while_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let more = "slots = 2\nturn_wall_ms = 400\nturn_cpu_ms = 60000\nkeys_bytes_max = 5000\n[app.grants]\nkeys = [\"one\"]";
    write_settings(at, &wasm("keys"), more);
    let node = up(at);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "one large a 4999", "()").await;
    let full = asked(&mut client, "one set b x").await;
    assert!(full.starts_with(FULL) && full.contains("`keys_bytes_max`"), "{full}");
    says(&mut client, "one large a 10", "()").await;
    says(&mut client, "one set b x", "()").await;

    // It waits for key after key; the thread is free meanwhile, and the wall clock ends it.
    let mut other = Client::connect(node.listener("ws")).await;
    client.send("one for-ever n").await;
    let first: i64 = loop {
        let said = asked(&mut other, "one increment n 0").await;
        match said.parse() {
            Ok(0) => {}
            Ok(n) => break n,
            Err(_) => panic!("{said}"),
        }
    };
    assert!(first > 0);
    let status = || said(&run(at, &["status", "--data-dir", "data", "--json"]));
    let restarted = || (status()["apps"][0]["slots"]["restarts"] == 1).then_some(());
    eventually("another instance serves", restarted).await;
    says(&mut client, "one get b", "Some(\"x\")").await;
    drop((client, other));
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn a_bucket_is_given_and_taken_at_run_time_and_a_later_app_of_the_same_name_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_settings(at, &wasm("versioned"), "");
    let node = up(at);
    let (shared, operator) = (node.listener("ws"), Operator::of_node(at));
    let does = |arguments: &[&str]| {
        let ran = operator.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    };
    let spec = |app: &str, more: &str| {
        std::fs::write(at.join("app.toml"), format!("routes = [\"{app}.test\"]\n{more}\n")).unwrap();
    };
    does(&["tenants", "create", "acme"]);
    does(&["tenants", "create", "rival"]);
    spec("chat", "");
    does(&["apps", "create", "acme/chat", "--settings", "app.toml"]);
    let refused = operator.run(&["deploy", "acme/chat", &wasm("keys")]);
    assert_eq!(refused.code, 70, "{}", refused.stderr);
    assert!(refused.stderr.contains("`keys = [\"default\"]`"), "{}", refused.stderr);
    let granted = "[grants]\nkeys = [\"one\"]";
    spec("chat", granted);
    does(&["apps", "configure", "acme/chat", "--settings", "app.toml"]);
    does(&["deploy", "acme/chat", &wasm("keys")]);
    spec("other", granted);
    does(&["apps", "create", "rival/chat", "--settings", "app.toml"]);
    does(&["deploy", "rival/chat", &wasm("keys")]);

    let mut client = Client::connect_to(shared, "/", &[("host", "chat.test")]).await.unwrap();
    let mut rival = Client::connect_to(shared, "/", &[("host", "other.test")]).await.unwrap();
    says(&mut client, "one set secret hunter2", "()").await;
    // The bucket of the same name of another tenant's app.
    says(&mut rival, "one list", "").await;
    says(&mut rival, "one get secret", "None").await;

    // Taken back, an open bucket is closed at the next call; given again, all is there.
    says(&mut client, "hold one", "held").await;
    spec("chat", "[grants]\nkeys = [\"two\"]");
    does(&["apps", "configure", "acme/chat", "--settings", "app.toml"]);
    says(&mut client, "held get secret", "error: the bucket is not granted any more").await;
    spec("chat", &format!("keys_bytes_max = 10\n{granted}"));
    does(&["apps", "configure", "acme/chat", "--settings", "app.toml"]);
    says(&mut client, "held get secret", "Some(\"hunter2\")").await;
    let full = asked(&mut client, "held set b x").await;
    assert!(full.starts_with(FULL) && full.contains("10 are allowed"), "{full}");

    drop(client);
    does(&["apps", "delete", "acme/chat", "--yes"]);
    spec("chat", granted);
    does(&["apps", "create", "acme/chat", "--settings", "app.toml"]);
    does(&["deploy", "acme/chat", &wasm("keys")]);
    let mut client = Client::connect_to(shared, "/", &[("host", "chat.test")]).await.unwrap();
    says(&mut client, "one list", "").await;
    says(&mut client, "one get secret", "None").await;
    drop((client, rival));
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn in_a_cluster_an_app_with_keys_names_its_one_worker_or_is_refused_with_the_reason() {
    let folder = cluster_folder_of("keys");
    let at = folder.path();
    let text = std::fs::read_to_string(at.join("worker.toml")).unwrap();
    let granted = format!("{text}[app.grants]\nkeys = [\"one\"]\n");
    std::fs::write(at.join("worker.toml"), &granted).unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let worker = ["worker", "-c", "worker.toml", "--registers", &registers, "--json"];
    let refused = run(at, &worker);
    assert_eq!(refused.code, 65, "{}", refused.stderr);
    assert!(refused.stderr.contains("`require = [\"NAME\"]`"), "{}", refused.stderr);

    // Its own name is one of its labels.
    std::fs::write(at.join("worker.toml"), granted.replace("[[app]]", "[[app]]\nrequire = [\"worker-1\"]"))
        .unwrap();
    let worker = Node::start(at, &worker);
    let text = std::fs::read_to_string(at.join("gateway.toml")).unwrap();
    let shared = "[[listener]]\naddress = \"ws://127.0.0.1:0\"\n";
    std::fs::write(at.join("gateway.toml"), format!("{text}{shared}")).unwrap();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let mut client = Client::connect(gateway.port_of(Some("default/test"))).await;
    says(&mut client, "one increment a 1", "1").await;
    drop(client);

    // One that is made at run time: its deployment is refused with the reason, until it names a worker.
    let operator = Operator::of_cluster(at, &registers);
    let does = |arguments: &[&str]| {
        let ran = operator.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    };
    let spec = |require: &str| {
        let text = format!("routes = [\"made.test\"]\n{require}\n[grants]\nkeys = [\"one\"]\n");
        std::fs::write(at.join("app.toml"), text).unwrap();
    };
    does(&["tenants", "create", "acme"]);
    spec("");
    does(&["apps", "create", "acme/made", "--settings", "app.toml"]);
    let refused = operator.run(&["deploy", "acme/made", &wasm("keys")]);
    assert_eq!(refused.code, 70, "{}", refused.stderr);
    assert!(refused.stderr.contains("`require = [\"NAME\"]`"), "{}", refused.stderr);
    spec("require = [\"worker-1\"]");
    does(&["apps", "configure", "acme/made", "--settings", "app.toml"]);
    does(&["deploy", "acme/made", &wasm("keys")]);
    let shared = gateway.port_of(None);
    let mut client = Client::connect_to(shared, "/", &[("host", "made.test")]).await.unwrap();
    says(&mut client, "one get a", "None").await;
    says(&mut client, "one increment a 7", "7").await;
    drop(client);
    for node in [gateway, worker, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}
