//! Apps, versions and deployments.

use axum::http::request::Builder;

use super::conforms::conforms;
use super::*;

const DEPLOY: &str = "/v1/apps/acme/chat/deployments";

fn deployer(method: &str, path: &str) -> Builder {
    let request = axum::http::Request::builder().method(method).uri(path);
    request.header(header::HOST, "localhost:7480").header(header::AUTHORIZATION, "Bearer deploy")
}

fn upload(path: &str) -> Builder {
    deployer("POST", path).header(header::CONTENT_TYPE, "application/wasm")
}

impl Server {
    async fn ask(&self, request: Builder, body: &str) -> (u16, String) {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.ask(deployer("GET", path), "").await;
        (status, serde_json::from_str(&body).unwrap())
    }

    fn orders(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.played.orders.lock())
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn who_may_deploy_sees_the_apps_of_its_tenant_and_no_others() {
    let server = server();
    let (status, apps) = server.get("/v1/apps").await;
    conforms("Apps", &apps);
    let names: Vec<_> = apps["apps"].as_array().unwrap().iter().map(|it| it["app"].clone()).collect();
    assert_eq!((status, names), (200, vec![json!("acme/chat"), json!("acme/game")]));
    let (status, app) = server.get("/v1/apps/acme/chat").await;
    conforms("App", &app);
    assert_eq!((status, &app["health"]["turns"]), (200, &json!(5)), "{app}");
    assert_eq!(app["created"]["spec"]["slots"], 2);
    for (path, status, name) in [
        ("/v1/apps/globex/secret", 403, "forbidden"),
        ("/v1/apps/acme/none", 404, "no-such-app"),
        ("/v1/apps/acme/none/versions", 404, "no-such-app"),
        ("/v1/apps/acme/chat/versions?limit=0", 422, "invalid"),
        ("/v1/apps/acme/chat/versions/9", 404, "no-such-version"),
        ("/v1/apps/acme/chat/versions/x", 404, "no-such-path"),
        ("/v1/apps/acme/game/deployments/current", 404, "not-deploying"),
        ("/v1/apps/%ff/chat", 404, "no-such-path"),
    ] {
        let (said, problem) = server.get(path).await;
        assert_eq!((said, kind(&problem)), (status, name), "{path}: {problem}");
        assert!(path.contains("globex") || !problem.to_string().contains("globex"), "{problem}");
        conforms("Problem", &problem);
    }
    let (status, problem) = server.call(request("GET", "/v1/apps"), "").await;
    assert_eq!((status, kind(&problem)), (403, "forbidden"));
    assert!(problem["detail"].as_str().unwrap().contains("--role deploy"), "{problem}");
}

#[tokio::test]
async fn histories_are_told_without_reports_and_a_version_with_its_own() {
    let server = server();
    let (status, versions) = server.get("/v1/apps/acme/chat/versions?limit=2").await;
    conforms("Versions", &versions);
    assert_eq!((status, versions["versions"].as_array().unwrap().len()), (200, 2));
    assert!(versions["versions"][0].get("report").is_none(), "{versions}");
    let (status, version) = server.get("/v1/apps/acme/chat/versions/2").await;
    conforms("Version", &version);
    assert_eq!((status, &version["report"]["outcome"]), (200, &json!("committed")));
    let (status, deploying) = server.get("/v1/apps/acme/chat/deployments/current").await;
    conforms("Deploying", &deploying);
    assert_eq!((status, &deploying["deploying"]["doing"]), (200, &json!("preparing")));
}

#[tokio::test]
async fn an_upload_is_deployed_and_every_piece_of_news_is_a_line() {
    let server = server();
    let (status, text) = server.ask(upload(DEPLOY), "\0asm").await;
    let said = lines(&text);
    said.iter().for_each(|line| conforms("News", line));
    let kinds: Vec<_> = said.iter().map(|line| line["news"].as_str().unwrap()).collect();
    let all = ["started", "worker", "canary", "switching", "failed", "going-back", "not-stored", "ended"];
    assert_eq!((status, &kinds[..]), (200, &all[..]), "{text}");
    assert_eq!(said[7]["outcome"], "committed");
    assert_eq!(server.orders(), ["deploy 4 bytes to acme/chat by token deploy, None"]);
}

#[tokio::test]
async fn who_waits_for_the_end_or_for_nothing_gets_one_answer() {
    let server = server();
    let ask = async |query: &str| {
        let (status, body) = server.ask(upload(&format!("{DEPLOY}?{query}")), "\0asm").await;
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let (status, ended) = ask("wait=end").await;
    conforms("News", &ended);
    assert_eq!((status, &ended["outcome"]), (200, &json!("committed")));
    let (status, problem) = ask("wait=end&note=worse+than+before").await;
    assert_eq!((status, kind(&problem)), (409, "rolled-back"));
    assert!(problem["detail"].as_str().unwrap().contains("worse than before"), "{problem}");
    let (status, begun) = ask("wait=none&note=slow").await;
    conforms("News", &begun);
    assert_eq!((status, &begun["news"]), (202, &json!("started")));
    // Refused is refused, however one waits; and what fails when it has begun is told as the last line.
    for wait in ["wait=end&", "wait=none&", ""] {
        let (status, problem) = ask(&format!("{wait}note=busy")).await;
        assert_eq!((status, kind(&problem)), (409, "deploying"), "{problem}");
    }
    let (status, text) = server.ask(upload(&format!("{DEPLOY}?note=late")), "\0asm").await;
    let last = lines(&text).pop().unwrap();
    conforms("News", &last);
    assert_eq!((status, &last["news"], &last["problem"]["status"]), (200, &json!("refused"), &json!(500)));
}

#[tokio::test]
async fn what_is_there_already_is_deployed_by_its_name() {
    let server = server();
    let ask = async |query: &str, body: &str| {
        let path = format!("{DEPLOY}?wait=end{query}");
        let request = deployer("POST", &path).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        server.ask(request, body).await.0
    };
    let digest = Digest::of(b"x");
    assert_eq!(ask("&canary=25&events_min=5", &format!(r#"{{"digest":"sha256:{digest}"}}"#)).await, 200);
    assert_eq!(ask("", r#"{"version":1}"#).await, 200);
    let first = Digest::of(&1_u32.to_le_bytes()).to_string();
    let canary = "Some(Canary { percent: 25, for_ms: 30000, events_min: 5 })";
    assert_eq!(
        server.orders(),
        [
            format!("deploy sha256:{} to acme/chat by token deploy, {canary}", &digest.to_string()[..6]),
            format!("deploy sha256:{} to acme/chat by token deploy, None", &first[..6]),
        ]
    );
    assert_eq!(ask("", r#"{"version":9}"#).await, 404);
    assert_eq!(ask("", r#"{"digest":"x"}"#).await, 422);
    assert_eq!(ask("&canary_ms=5000", r#"{"version":1}"#).await, 422);
    for wrong in ["{}", "[]", "\"version\"", r#"{"version":1,"digest":"x"}"#, ""] {
        assert_eq!(ask("", wrong).await, 400, "{wrong}");
    }
    assert_eq!(server.orders(), Vec::<String>::new());
}

#[tokio::test]
async fn uploads_are_of_a_kind_a_size_and_a_number_that_is_taken() {
    let server = server();
    let (status, text) = server.ask(deployer("POST", DEPLOY), "\0asm").await;
    assert!(status == 415 && text.contains("Content-Type: application/wasm"), "{text}");
    let (status, text) = server.ask(upload(DEPLOY).header(header::CONTENT_LENGTH, 33 << 20), "").await;
    assert!(status == 413 && text.contains("the limit is 33554432"), "{text}");
    let too_large = "x".repeat((32 << 20) + 1);
    assert_eq!(server.ask(upload(DEPLOY), &too_large).await.0, 413);
    assert_eq!(server.ask(upload("/v1/apps/globex/secret/deployments"), "x").await.0, 403);
    let pushes = request("POST", DEPLOY).header(header::CONTENT_TYPE, "application/wasm");
    assert_eq!(server.ask(pushes, "x").await.0, 403);
    assert_eq!(server.orders(), Vec::<String>::new());
}

#[tokio::test]
async fn rolling_back_and_cancelling_are_orders_too() {
    let server = server();
    let path = "/v1/apps/acme/chat/rollback";
    assert_eq!(server.ask(deployer("POST", path), "").await.0, 200);
    let (status, text) = server.ask(deployer("POST", path), r#"{"to":1,"note":"worse"}"#).await;
    assert_eq!((status, &lines(&text).pop().unwrap()["outcome"]), (200, &json!("rolled-back")));
    let current = "/v1/apps/acme/chat/deployments/current";
    let (status, text) = server.ask(deployer("DELETE", current), "").await;
    conforms("Cancelled", &serde_json::from_str(&text).unwrap());
    assert_eq!(status, 202);
    let of_game = deployer("DELETE", "/v1/apps/acme/game/deployments/current");
    assert_eq!(server.ask(of_game, "").await.0, 404);
    assert_eq!(
        server.orders(),
        [
            "roll acme/chat back to None",
            "roll acme/chat back to Some(1)",
            "cancel acme/chat by token deploy",
            "cancel acme/game by token deploy"
        ]
    );
    assert_eq!(server.ask(deployer("POST", path), "[1]").await.0, 400);
}

#[tokio::test]
async fn answers_to_pushes_and_questions_are_what_the_description_says() {
    let server = server_with(Fake { late: true, ..Fake::default() }, AdminSettings::default());
    for verb in Verb::ALL.into_iter().filter(|verb| *verb != Verb::Disband) {
        let example: Value = serde_json::from_str(verb.example()).unwrap();
        conforms(crate::schemas::of_verb(verb), &example);
        let (_, said) = server.post(&format!("/v1/apps/acme/chat/{}", verb.path()), verb.example()).await;
        let schema = match verb {
            Verb::Batch => "Results",
            _ if verb.is_command() => "Reached",
            _ => "Answer",
        };
        conforms(schema, &said);
    }
}
