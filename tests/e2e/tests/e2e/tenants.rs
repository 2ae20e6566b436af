//! Tenants and apps that are made, changed, suspended and removed while everything runs.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tidegate_harness::{Client, eventually};
use tokio_tungstenite::tungstenite::Error;

use crate::binary::{Node, Operator, Ran, cluster_folder, said, stays_at, wasm};

const HOST: &str = "chat.acme.test";
const SECRET: &str = "hunter2-of-acme";

/// A folder with the settings of an all-in-one that has a shared port and an app of its own.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[[listener]]\naddress = \"ws://127.0.0.1:0\"\n\
         [[app]]\nname = \"own\"\ntenant = \"file\"\nplugin = \"{}\"\nlisten = [\"text://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
    folder
}

/// Writes a settings file of the app, with a secret.
fn write_spec(folder: &Path, more: &str) {
    std::fs::write(folder.join("key"), format!("{SECRET}\n")).unwrap();
    let text = format!(
        "slots = 2\nroutes = [\"{HOST}\"]\n{more}\n[settings]\nkey = {{ file = \"key\" }}\ngreeting = \"hello\"\n"
    );
    std::fs::write(folder.join("chat.toml"), text).unwrap();
}

/// It is done, and nothing that was said has the secret in it.
fn done(ran: Ran) -> Ran {
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET), "{}{}", ran.stdout, ran.stderr);
    ran
}

/// It is refused with this code and all of these words.
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is not in: {}", ran.stderr);
    }
}

/// The status with which a client is refused.
async fn status(address: SocketAddr) -> u16 {
    match Client::connect_to(address, "/", &[("host", HOST)]).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => 101,
    }
}

/// What a client is told that is refused.
async fn refusal(address: SocketAddr) -> String {
    match Client::connect_to(address, "/", &[("host", HOST)]).await {
        Err(Error::Http(response)) => {
            assert!(response.status() != 503 || response.headers().contains_key("retry-after"));
            String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned()
        }
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

async fn chats(client: &mut Client) {
    client.send("over a shared port").await;
    assert_eq!(client.text().await, "over a shared port");
}

fn apps(operator: &Operator) -> Vec<Value> {
    said(&done(operator.run(&["apps", "--json"]))).as_array().unwrap().clone()
}

#[tokio::test]
async fn an_app_is_made_deployed_suspended_resumed_configured_and_deleted_while_its_node_runs() {
    let folder = folder();
    let at = folder.path();
    let log = at.join("log");
    let node = Node::logging(at, &["up", "--json"], std::fs::File::create(&log).unwrap());
    let (shared, operator) = (node.listener("ws"), Operator::of_node(at));
    let run = |arguments: &[&str]| done(operator.run(arguments));
    assert_eq!(status(shared).await, 404);
    run(&["tenants", "create", "acme", "--slots-max", "4"]);
    write_spec(at, "");
    let made = run(&["apps", "create", "acme/chat", "--settings", "chat.toml"]);
    assert!(made.stdout.contains("tidegate deploy acme/chat") && made.stderr.is_empty(), "{}", made.stderr);
    // Nobody can serve its clients: they are told, and do not wait.
    const NOTHING: &str = "Nothing was deployed to this app yet: try again later.";
    assert_eq!(refusal(shared).await, NOTHING);
    let failed = operator.run(&["deploy", "acme/chat", &wasm("versioned-start-traps")]);
    assert_ne!(failed.code, 0);
    assert_eq!(refusal(shared).await, NOTHING);
    let report = said(&run(&["deploy", "acme/chat", &wasm("callbacks"), "--json"]));
    assert_eq!((&report["version"]["number"], &report["switched"]), (&json!(2), &json!(2)), "{report}");
    let mut client = Client::of_callbacks_at(shared, HOST, "/").await;
    chats(&mut client).await;
    assert_eq!(client.call("setting", json!({"key": "key"})).await, SECRET);
    let listed = run(&["apps"]).stdout + &run(&["tenants"]).stdout + &run(&["tenants", "--json"]).stdout;
    assert!(listed.contains("acme/chat") && listed.contains("2 of 4 slots"), "{listed}");
    let app = apps(&operator).into_iter().find(|app| app["app"] == "acme/chat").unwrap();
    assert_eq!(app["created"]["spec"]["settings"]["key"], "hidden", "{app}");
    assert_eq!(app["created"]["spec"]["routes"], json!([HOST]));

    run(&["apps", "suspend", "acme/chat"]);
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1013));
    assert_eq!(status(shared).await, 503);
    refused(&operator.run(&["deploy", "acme/chat", &wasm("callbacks")]), 69, &["suspended", "apps resume"]);
    run(&["apps", "resume", "acme/chat"]);
    let mut client = Client::of_callbacks_at(shared, HOST, "/").await;
    chats(&mut client).await;

    write_spec(at, "payload_bytes_max = 4096");
    run(&["apps", "configure", "acme/chat", "--settings", "chat.toml"]);
    chats(&mut client).await;
    client.send("x".repeat(4097)).await;
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1009));

    let mut client = Client::of_callbacks_at(shared, HOST, "/").await;
    run(&["tenants", "suspend", "acme"]);
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1013));
    run(&["tenants", "resume", "acme"]);
    let mut client = Client::of_callbacks_at(shared, HOST, "/").await;
    run(&["apps", "delete", "acme/chat", "--yes"]);
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1013));
    assert_eq!(status(shared).await, 404);
    assert!(apps(&operator).iter().all(|app| app["app"] != "acme/chat"));
    refused(&operator.run(&["history", "acme/chat"]), 64, &["no app acme/chat", "file/own"]);
    // One of the same name is another one.
    run(&["apps", "create", "acme/chat", "--settings", "chat.toml"]);
    let report = said(&run(&["deploy", "acme/chat", &wasm("callbacks"), "--json"]));
    assert_eq!(report["version"]["number"], 1, "{report}");
    run(&["tenants", "delete", "acme", "--yes"]);
    assert_eq!(apps(&operator).len(), 1);
    assert_eq!(node.process.terminate(), Some(0));
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains(SECRET) && log.contains("create an app"), "{log}");
}

#[tokio::test]
async fn what_was_made_in_a_cluster_outlives_its_register_and_reaches_who_joins() {
    let folder = cluster_folder();
    let at = folder.path();
    for file in ["gateway.toml", "gateway-2.toml"] {
        let text = std::fs::read_to_string(at.join(file)).unwrap();
        std::fs::write(at.join(file), text + "[[listener]]\naddress = \"ws://127.0.0.1:0\"\n").unwrap();
    }
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    let operator = Operator::of_cluster(at, &registers);
    let run = |arguments: &[&str]| done(operator.run(arguments));
    run(&["tenants", "create", "acme"]);
    write_spec(at, "");
    let made = run(&["apps", "create", "acme/chat", "--settings", "chat.toml"]);
    assert!(made.stderr.is_empty(), "{}", made.stderr);
    let report = said(&run(&["deploy", "acme/chat", &wasm("callbacks"), "--json"]));
    assert_eq!((&report["workers"], &report["switched"]), (&json!(1), &json!(2)), "{report}");
    let mut client = Client::of_callbacks_at(gateway.listener("ws"), HOST, "/").await;
    chats(&mut client).await;

    // The register dies: all goes on. It is back, and knows all.
    register.process.kill();
    chats(&mut client).await;
    stays_at(at, &registers);
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let second = Node::of_cluster(at, "gateway", "gateway-2.toml", &registers);
    let other_worker = Node::of_cluster(at, "worker", "worker-2.toml", &registers);
    let mut other = Client::of_callbacks_at(second.listener("ws"), HOST, "/").await;
    assert_eq!(other.call("get_all_client_count", json!({})).await, 2);
    assert_eq!(other.call("setting", json!({"key": "key"})).await, SECRET);
    let both_run_it = || {
        let app = apps(&operator).into_iter().find(|app| app["app"] == "acme/chat")?;
        let of_worker = app["workers"].as_array()?.iter().flat_map(|it| it["slots"].as_array().unwrap());
        (of_worker.filter(|slot| **slot == 1).count() == 4).then_some(())
    };
    eventually("both workers run it", both_run_it).await;

    run(&["apps", "suspend", "acme/chat"]);
    for client in [&mut client, &mut other] {
        assert_eq!(client.closed().await.map(|(code, _)| code), Some(1013));
    }
    for gateway in [&gateway, &second] {
        assert_eq!(status(gateway.listener("ws")).await, 503);
    }
    run(&["apps", "delete", "acme/chat", "--yes"]);
    assert_eq!(status(gateway.listener("ws")).await, 404);
    let refusal = operator.run(&["apps", "create", "test", "--settings", "chat.toml"]);
    refused(&refusal, 78, &["app default/test stands in the settings file of"]);
    for node in [other_worker, second, worker, gateway, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test]
async fn quotas_names_and_slips_of_the_pen_are_refused_with_the_way_to_mend_them() {
    let folder = folder();
    let at = folder.path();
    let node = Node::start(at, &["up", "--json"]);
    let operator = Operator::of_node(at);
    let run = |arguments: &[&str]| done(operator.run(arguments));
    run(&["tenants", "create", "acme", "--slots-max", "3", "--connections-max", "1000"]);
    write_spec(at, "");
    let create = ["apps", "create", "acme/chat", "--settings", "chat.toml"];
    let too_many = ["tenant acme may have 1000 connections", "1000000", "--connections-max 1000000"];
    refused(&operator.run(&create), 77, &too_many);
    write_spec(at, "connections_max = 400");
    run(&create);
    refused(&operator.run(&create), 73, &["an app acme/chat already", "apps configure acme/chat"]);
    let other = ["apps", "create", "acme/other", "--settings", "chat.toml"];
    refused(
        &operator.run(&other),
        77,
        &["3 slots", "it would have 4", "tenants configure acme --slots-max 4"],
    );
    run(&["tenants", "configure", "acme", "--slots-max", "none"]);
    refused(&operator.run(&other), 73, &[HOST, "taken by another app"]);
    let lower = operator.run(&["tenants", "configure", "acme", "--connections-max", "399"]);
    refused(&lower, 77, &["400 connections already", "cannot be 399"]);

    refused(
        &operator.run(&["apps", "create", "acne/chat"]),
        64,
        &["no tenant acne", "acme", "tenants create"],
    );
    for command in ["suspend", "resume"] {
        refused(&operator.run(&["apps", command, "file/own"]), 78, &["settings file", "edit the file"]);
    }
    refused(&operator.run(&["apps", "delete", "file/own", "--yes"]), 78, &["settings file of"]);
    refused(&operator.run(&["tenants", "delete", "file", "--yes"]), 78, &["with app file/own"]);
    refused(&operator.run(&["apps", "delete", "acme/chat"]), 64, &["--yes"]);

    // Of two that make the same app at once one does.
    std::fs::write(at.join("small.toml"), "connections_max = 10\nroutes = [\"small.test\"]\n").unwrap();
    let both = ["apps", "create", "acme/small", "--settings", "small.toml"];
    let (one, other) = tokio::join!(operator.start(&both).end(), operator.start(&both).end());
    let mut codes = [one.code, other.code];
    codes.sort_unstable();
    assert_eq!(codes, [0, 73], "{}{}", one.stderr, other.stderr);

    // What nobody can reach is told, and so is what a worker has no room for.
    std::fs::write(at.join("large.toml"), "connections_max = 10\nslots = 90000\n").unwrap();
    let large = run(&["apps", "create", "acme/large", "--settings", "large.toml"]);
    assert!(large.stderr.contains("`routes`") && large.stderr.contains("`instances`"), "{}", large.stderr);
    assert_eq!(node.process.terminate(), Some(0));
}
