//! `docs/guide/push.md`.

use serde_json::{Value, json};
use tidegate_harness::Client;

use super::{block, here, runs, text};
use crate::binary::{Node, run, said, wasm};
use crate::clients::{is_there, pushes_reach};

const PAGE: &str = "docs/guide/push.md";

/// What a request with curl is answered.
fn ask(api: &str, token: &str, path: &str, body: &str) -> (u16, Value) {
    let output = std::process::Command::new("curl")
        .args(["-sS", "-w", "\n%{http_code}", "-H", &format!("Authorization: Bearer {token}"), "-d", body])
        .arg(format!("{api}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {text}")))
}

/// The paths and bodies of the table of the whole API.
fn rows(page: &str) -> Vec<(String, String)> {
    let cell =
        |cell: &str| cell.trim().strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).map(str::to_owned);
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split(" | ").collect();
        let [_, path, body] = cells[..] else { return None };
        let body = cell(body).filter(|body| body.starts_with('{'))?;
        Some((cell(path)?, body))
    });
    rows.collect()
}

#[tokio::test]
async fn the_guide_to_pushes_does_what_it_says() {
    if !is_there("curl", "TIDEGATE_REQUIRE_CURL") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let settings = here(&block(PAGE, "# in the settings").text, &[("127.0.0.1:7480", "127.0.0.1:0")]);
    let app = format!(
        "[[app]]\nname = \"chat\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), settings + &app).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let (address, api) = (node.admin().to_string(), format!("http://{}", node.admin()));
    let made = run(at, &["tokens", "create", "default"]);
    std::fs::write(at.join("token"), &made.stdout).unwrap();
    let token = made.stdout.trim();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::of_callbacks(node.listener("ws")).await;
        client.call("join_group", json!({"groups": ["room-1"]})).await;
        clients.push(client);
    }
    pushes_reach(at, &api, "chat", 3).await;

    // Three are in the room, as the guide's answer says.
    runs(&block(PAGE, "$ export TIDEGATE_TOKEN"), at, &[("127.0.0.1:7480", &address)]);
    assert_eq!(run(at, &["tenants", "create", "acme"]).code, 0);
    let revoked =
        said(&run(at, &["tokens", "create", "acme", "--json"]))["token"]["id"].as_str().unwrap().to_owned();
    runs(&block(PAGE, "$ tidegate tokens create acme"), at, &[("0a1b2c3d4e5f", &revoked)]);

    let page = text(PAGE);
    let ids = [
        ("a1b2c3d4e5f600000001", clients[0].id().to_owned()),
        ("a1b2c3d4e5f600000002", clients[1].id().to_owned()),
    ];
    let ids = ids.each_ref().map(|(there, id)| (*there, &**id));
    let (status, batch) =
        ask(&api, token, "/v1/apps/default/chat/batch", &here(&block(PAGE, "{\"commands\"").text, &ids));
    let answer = page.split_once("It answers `").and_then(|(_, rest)| rest.split('`').next()).unwrap();
    assert_eq!((status, batch), (200, serde_json::from_str(answer).unwrap()));

    let (status, mut problem) =
        ask(&api, token, "/v1/apps/default/nothing/send", r#"{"to":"all","text":"x"}"#);
    let mut shown: Value = serde_json::from_str(&block(PAGE, "{\"type\"").text).unwrap();
    assert!(problem["detail"].take().as_str().unwrap().len() > 20);
    shown["detail"].take();
    assert_eq!((u64::from(status), &problem), (shown["status"].as_u64().unwrap(), &shown));

    let rows = rows(&page);
    assert!(rows.len() > 35, "{rows:?}");
    for (path, body) in rows {
        let (status, answer) = ask(&api, token, &format!("/v1/apps/default/chat/{path}"), &here(&body, &ids));
        assert_eq!((status, &answer["missing"]), (200, &json!([])), "{path} {body}: {answer}");
    }
    assert_eq!(node.process.terminate(), Some(0));
}
