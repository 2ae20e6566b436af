//! Steering by the HTTP API, with curl as anybody has it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tidegate_harness::{Client, eventually};

use crate::binary::{Node, run, said, says, wasm};

/// Who asks by curl, with a token.
struct Curl {
    base: String,
    token: String,
}

impl Curl {
    fn of(node: &Node, folder: &Path, arguments: &[&str]) -> Self {
        let made = said(&run(folder, &[&["tokens", "create"], arguments, &["--json"]].concat()));
        let token = made["secret"].as_str().unwrap().to_owned();
        Self { base: format!("http://{}", node.admin()), token }
    }

    /// Its exit code and what came.
    fn raw(&self, method: &str, path: &str, more: &[&str]) -> (i32, String) {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "120", "--fail-with-body", "-X", method])
            .args(["-H", &format!("Authorization: Bearer {}", self.token)])
            .args(more)
            .arg(format!("{}{path}", self.base))
            .output()
            .expect("curl is installed");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).unwrap())
    }

    /// One answer in JSON.
    fn ask(&self, method: &str, path: &str, more: &[&str]) -> Value {
        let (_, text) = self.raw(method, path, more);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"))
    }

    fn deploys(&self, query: &str, file: &str) -> (i32, String) {
        let body = format!("@{file}");
        let more = ["-H", "Content-Type: application/wasm", "--data-binary", &body];
        self.raw("POST", &format!("/v1/apps/default/test/deployments{query}"), &more)
    }
}

fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap().rsplit(':').next().unwrap()
}

/// An all-in-one with the HTTP API that runs the `versioned` plugin in two slots.
fn start(folder: &Path) -> Node {
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"test\"\nslots = 2\n\
         plugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("versioned")
    );
    std::fs::write(folder.join("tidegate.toml"), text).unwrap();
    Node::start(folder, &["up", "--json"])
}

#[tokio::test]
async fn a_pipeline_deploys_watches_and_rolls_back_with_curl_under_a_connected_client() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let node = start(at);
    let curl = Curl::of(&node, at, &["default", "--role", "deploy"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "hello", "v1 hello").await;
    let app = curl.ask("GET", "/v1/apps/default/test", &[]);
    assert_eq!((&app["stable"]["number"], &app["workers"][0]["slots"]), (&json!(1), &json!([1, 1])), "{app}");

    // Line by line.
    let (code, text) = curl.deploys("?note=from+a+pipeline", &wasm("versioned-twin"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert_eq!(
        (code, &first["news"], &last["outcome"]),
        (0, &json!("started"), &json!("committed")),
        "{text}"
    );
    assert_eq!(last["report"]["clients"]["closed"], 0, "{last}");
    says(&mut client, "a", "twin a").await;

    // One that is rolled back fails the pipeline, and the client hears nothing of it.
    let (code, text) = curl.deploys("?wait=end", &wasm("versioned-start-traps"));
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, kind(&problem)), (22, "rolled-back"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("on-worker-start"), "{problem}");
    says(&mut client, "b", "twin b").await;

    // What is no plugin is refused in the words of the command line.
    std::fs::write(at.join("none.wasm"), b"\0asm nothing").unwrap();
    let none = at.join("none.wasm").display().to_string();
    let (_, text) = curl.deploys("", &none);
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((kind(&problem), &problem["status"]), ("bad-module", &json!(422)), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("the module is refused: "), "{problem}");

    // Back to the first one, then to the second by its number.
    let back = curl.ask("POST", "/v1/apps/default/test/rollback?wait=end", &["-d", "{\"to\":1}"]);
    assert_eq!(back["outcome"], "committed", "{back}");
    says(&mut client, "c", "v1 c").await;
    let json = ["-H", "Content-Type: application/json", "-d", "{\"version\":2}"];
    let begun = curl.ask("POST", "/v1/apps/default/test/deployments?wait=none", &json);
    assert_eq!(begun["version"]["number"], 5, "{begun}");
    let ended = || {
        let version = curl.ask("GET", "/v1/apps/default/test/versions/5", &[]);
        version["report"].is_object().then_some(version)
    };
    let version = eventually("the deployment has ended", ended).await;
    assert_eq!(version["state"]["ended"], "committed", "{version}");
    assert!(version["by"].as_str().unwrap().starts_with("token "), "{version}");
    says(&mut client, "d", "twin d").await;

    let versions = curl.ask("GET", "/v1/apps/default/test/versions", &[]);
    let numbers: Vec<_> =
        versions["versions"].as_array().unwrap().iter().map(|it| &it["version"]["number"]).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    assert_eq!(kind(&curl.ask("GET", "/v1/apps/default/test/deployments/current", &[])), "not-deploying");
    assert_eq!(kind(&curl.ask("DELETE", "/v1/apps/default/test/deployments/current", &[])), "not-deploying");
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn a_canary_that_waits_is_seen_and_cancelled_by_http() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let node = start(at);
    let curl = Curl::of(&node, at, &["default", "--role", "admin", "--app", "test"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "hello", "v1 hello").await;
    let (code, text) = curl.deploys("?wait=none&canary=50&canary_ms=600000", &wasm("versioned-v2"));
    assert_eq!(code, 0, "{text}");
    let on_canary = || {
        let current = curl.ask("GET", "/v1/apps/default/test/deployments/current", &[]);
        let slots = current["workers"][0]["slots"].as_array()?.clone();
        (slots.iter().filter(|slot| **slot == 2).count() == 1).then_some(current)
    };
    let current = eventually("a slot runs the canary", on_canary).await;
    assert_eq!(current["deploying"]["version"]["number"], 2, "{current}");
    // One at a time.
    let (_, text) = curl.deploys("?wait=end", &wasm("versioned-v2"));
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(kind(&problem), "deploying", "{problem}");
    assert_eq!(curl.ask("DELETE", "/v1/apps/default/test/deployments/current", &[])["cancelled"], true);
    let gone = || {
        let current = curl.ask("GET", "/v1/apps/default/test/deployments/current", &[]);
        current["type"].is_string().then_some(current)
    };
    assert_eq!(kind(&eventually("it has gone back", gone).await), "not-deploying");
    let app = curl.ask("GET", "/v1/apps/default/test", &[]);
    assert_eq!((&app["stable"]["number"], &app["workers"][0]["slots"]), (&json!(1), &json!([1, 1])), "{app}");
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn an_operators_script_makes_a_tenant_and_its_admin_makes_an_app_within_its_quotas() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let node = start(at);
    let refused = run(at, &["tokens", "create", "acme", "--role", "admin"]);
    assert!(refused.code != 0 && refused.stderr.contains("there is no tenant acme"), "{}", refused.stderr);
    let operator = Curl::of(&node, at, &["*", "--role", "admin"]);
    let made = operator.ask("POST", "/v1/tenants/acme", &["-d", r#"{"apps_max":1}"#]);
    assert_eq!(made["troubles"], json!([]), "{made}");

    let admin = Curl::of(&node, at, &["acme", "--role", "admin"]);
    assert_eq!(kind(&admin.ask("PATCH", "/v1/tenants/acme", &["-d", r#"{"apps_max":9}"#])), "forbidden");
    let made = admin.ask("POST", "/v1/apps/acme/one", &["-d", r#"{"slots":1}"#]);
    assert_eq!(made["apps"], json!(["acme/one"]), "{made}");
    assert_eq!(kind(&admin.ask("POST", "/v1/apps/acme/two", &[])), "quota");
    assert_eq!(kind(&admin.ask("PUT", "/v1/apps/acme/one", &["-d", r#"{"slots":0}"#])), "invalid");
    assert_eq!(kind(&admin.ask("DELETE", "/v1/apps/default/test", &[])), "forbidden");
    let tenants = admin.ask("GET", "/v1/tenants", &[]);
    let tenant = json!([{"tenant": "acme", "apps": 1}]);
    let seen =
        json!([{"tenant": tenants["tenants"][0]["tenant"], "apps": tenants["tenants"][0]["usage"]["apps"]}]);
    assert_eq!((seen, tenants["tenants"].as_array().unwrap().len()), (tenant, 1), "{tenants}");
    let apps = admin.ask("GET", "/v1/apps", &[]);
    assert!(!apps.to_string().contains("default/test"), "{apps}");

    let body = format!("@{}", wasm("versioned"));
    let more = ["-H", "Content-Type: application/wasm", "--data-binary", &body];
    let ended = admin.ask("POST", "/v1/apps/acme/one/deployments?wait=end", &more);
    assert_eq!(ended["outcome"], "committed", "{ended}");
    assert_eq!(kind(&operator.ask("DELETE", "/v1/apps/default/test", &[])), "fixed");
    assert_eq!(operator.ask("GET", "/v1/status", &[])["ready"], true);
    operator.ask("DELETE", "/v1/tenants/acme", &[]);
    let (_, text) = admin.raw("GET", "/v1/apps", &[]);
    assert!(text.contains("unauthorized"), "its tokens go with it: {text}");
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn connections_and_logs_of_an_app_are_read_with_curl() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let node = start(at);
    let curl = Curl::of(&node, at, &["default", "--role", "admin"]);
    let mut client = Client::connect(node.listener("ws")).await;
    says(&mut client, "hello", "v1 hello").await;
    let found = curl.ask("GET", "/v1/apps/default/test/connections?limit=5", &[]);
    let first = &found["connections"][0];
    assert_eq!(
        (&found["total"], &found["missing"], &first["state"]),
        (&json!(1), &json!([]), &json!("open"))
    );
    let id = first["client"].as_str().unwrap();
    let same = curl.ask("GET", &format!("/v1/apps/default/test/connections?client={id}"), &[]);
    assert_eq!(same["connections"][0]["remote"], first["remote"], "{same}");

    let before = curl.ask("GET", "/v1/apps/default/test/logs", &[]);
    let next = before["next"].as_str().unwrap().to_owned();
    client.send("trap").await;
    let behind = eventually("the trap is in the log", || {
        let behind = curl.ask("GET", &format!("/v1/apps/default/test/logs?level=error&after={next}"), &[]);
        (behind["lines"] != json!([])).then_some(behind)
    })
    .await;
    let line = &behind["lines"][0];
    assert!(line["text"].as_str().unwrap().contains("ended its instance"), "{behind}");
    assert_eq!((&line["by_plugin"], &behind["missed"]), (&json!(false), &json!(0)));
    let next = behind["next"].as_str().unwrap();
    let nothing = curl.ask("GET", &format!("/v1/apps/default/test/logs?level=error&after={next}"), &[]);
    assert_eq!((&nothing["lines"], &nothing["missed"]), (&json!([]), &json!(0)), "{nothing}");
}
