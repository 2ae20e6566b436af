//! Requests to a service whose gateways and register are made up.

mod administration;
mod conforms;
mod played;
mod steering;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::HttpBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tidegate_base::{Answer, GatewayId, NodeName};
use tidegate_push::{Missing, Outcome, Why};
use tower::ServiceExt;

use self::played::Played;
use super::*;

/// Knows one token of each role of tenant acme and an operator's, reaches three clients with each command, and has no app `acme/none`.
#[derive(Debug)]
struct Fake {
    pushes: AtomicUsize,
    commands: Mutex<Vec<String>>,
    late: bool,
    /// Pushes wait for it.
    gate: tokio::sync::Semaphore,
    gated: bool,
    played: Played,
}

impl Default for Fake {
    fn default() -> Self {
        let (pushes, commands, played) = Default::default();
        Self { pushes, commands, late: false, gate: tokio::sync::Semaphore::new(0), gated: false, played }
    }
}

impl Backend for Fake {
    fn push<'a>(
        &'a self,
        app: &'a AppName,
        commands: &'a [Command<'a>],
    ) -> Later<'a, Result<Pushed, PushError>> {
        Box::pin(async move {
            if self.gated {
                self.gate.acquire().await.unwrap().forget();
            }
            if app.app() == "none" {
                return Err(PushError::NoSuchApp(app.clone()));
            }
            self.pushes.fetch_add(1, Ordering::Relaxed);
            self.commands.lock().extend(commands.iter().map(|command| format!("{command:?}")));
            let outcome = |command: &Command<'_>| match command {
                Command::Disband(_) => Outcome::Refused("the played gateway refuses".into()),
                _ => Outcome::Reached(3),
            };
            let missing =
                Missing { gateway: GatewayId::new(1), name: NodeName::new("g-2").unwrap(), why: Why::Late };
            Ok(Pushed {
                outcomes: commands.iter().map(outcome).collect(),
                missing: if self.late { vec![missing] } else { vec![] },
            })
        })
    }

    fn ask<'a>(&'a self, _: &'a AppName, query: &'a Query) -> Later<'a, Result<Answered, PushError>> {
        let answer = match query {
            Query::CountClients(_) | Query::CountUids(_) => Answer::Count(5),
            Query::ListClients(_) => Answer::Clients(vec![]),
            Query::ListUids(_) | Query::ListGroups(_) => Answer::Names(vec![]),
            Query::Select(..) => Answer::Infos(vec![]),
            Query::CountByGroup(groups) => Answer::Counts(vec![1; groups.len()]),
        };
        Box::pin(async move { Ok(Answered { answer, refused: None, missing: vec![] }) })
    }

    fn steering(&self) -> &dyn Steering {
        &self.played
    }

    fn token(&self, secret: &Digest) -> Option<Arc<Token>> {
        let is = |word: &str| *secret == Digest::of(word.as_bytes());
        let role = TokenRole::ALL.into_iter().find(|role| is(role.as_str()));
        let (role, tenant) = match is("operator") {
            true => (TokenRole::Admin, "*"),
            false => (role?, "acme"),
        };
        Some(Arc::new(Token {
            id: role.to_string(),
            tenant: tenant.parse().unwrap(),
            role,
            apps: vec![],
            note: String::new(),
            created_ms: 0,
        }))
    }
}

struct Server {
    fake: Arc<Fake>,
    router: Router,
}

fn server_with(fake: Fake, settings: AdminSettings) -> Server {
    let fake = Arc::new(fake);
    let names = Names::new(settings.listen, &[]);
    let router = Service::new(Arc::<Fake>::clone(&fake), names, settings).router();
    Server { fake, router }
}

fn server() -> Server {
    server_with(Fake::default(), AdminSettings::default())
}

impl Server {
    async fn call(&self, request: axum::http::request::Builder, body: &str) -> (u16, Value) {
        self.call_with(request, Body::from(body.to_owned())).await
    }

    async fn call_with(&self, request: axum::http::request::Builder, body: Body) -> (u16, Value) {
        let request = request.body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let expected = if status == 200 { "application/json" } else { crate::problem::CONTENT_TYPE };
        assert_eq!(kind, expected, "{body}");
        if status != 200 {
            assert!(body["status"] == status && body["type"].is_string() && body["title"].is_string());
            assert!(body["detail"].as_str().unwrap().len() > 10, "{body}");
        }
        (status, body)
    }

    async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.call(request("POST", path), body).await
    }

    fn pushes(&self) -> usize {
        self.fake.pushes.load(Ordering::Relaxed)
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    let request = axum::http::Request::builder().method(method).uri(path);
    request.header(header::HOST, "localhost:7480").header(header::AUTHORIZATION, "Bearer push")
}

const SEND: &str = "/v1/apps/acme/chat/send";
const HELLO: &str = r#"{"to":"all","text":"hello"}"#;

fn kind(body: &Value) -> &str {
    body["type"].as_str().unwrap().rsplit(':').next().unwrap()
}

#[tokio::test]
async fn a_push_says_how_many_it_reached_and_who_is_missing() {
    let server = server_with(Fake { late: true, ..Fake::default() }, AdminSettings::default());
    let (status, body) = server.post(SEND, HELLO).await;
    let missing = json!([{"gateway": "000000000001", "name": "g-2", "why": "late"}]);
    assert_eq!((status, body), (200, json!({"reached": 3, "missing": missing})));
}

#[tokio::test]
async fn every_verb_takes_its_example() {
    let server = server();
    for verb in Verb::ALL {
        let (status, body) =
            server.post(&format!("/v1/apps/acme/chat/{}", verb.path()), verb.example()).await;
        let expected = if verb == Verb::Disband { 409 } else { 200 };
        assert_eq!(status, expected, "{verb:?}: {body}");
        let (status, body) = server.post(&format!("/v1/apps/acme/chat/{}", verb.path()), "{\"x\":").await;
        assert_eq!((status, kind(&body)), (400, "bad-body"), "{verb:?}");
    }
}

#[tokio::test]
async fn sessions_are_resources() {
    let server = server();
    let path = "/v1/apps/acme/chat/sessions/a1b2c3d4e5f600000001";
    for (method, body) in [("PUT", r#"{"a":1}"#), ("PATCH", r#"{"b":2}"#), ("DELETE", "")] {
        let (status, said) = server.call(request(method, path), body).await;
        assert_eq!((status, said), (200, json!({"reached": 3, "missing": []})), "{method}");
    }
    let commands = server.fake.commands.lock().join("\n");
    assert!(
        commands.contains("SetSession") && commands.contains("UpdateSession") && commands.contains("None")
    );
    let (status, body) = server.call(request("GET", path), "").await;
    assert_eq!((status, kind(&body)), (404, "no-such-path"));
    assert_eq!(server.call(request("GET", "/v1/apps/acme/chat/sessions/xyz"), "").await.0, 422);
}

#[tokio::test]
async fn nobody_gets_in_without_the_right_token_name_and_origin() {
    let server = server();
    let bare = || axum::http::Request::builder().method("POST").uri(SEND).header(header::HOST, "localhost");
    let with = |token: &str| bare().header(header::AUTHORIZATION, format!("Bearer {token}"));
    for (request, status, name) in [
        (bare(), 401, "unauthorized"),
        (with("wrong"), 401, "unauthorized"),
        (with(&"x".repeat(300)), 401, "unauthorized"),
        (bare().header(header::AUTHORIZATION, "Basic push"), 401, "unauthorized"),
        (with("deploy"), 403, "forbidden"),
        (with("admin"), 200, ""),
        (request("POST", SEND).header(header::ORIGIN, "http://evil.example.com"), 403, "foreign-origin"),
        (request("POST", SEND).header(header::ORIGIN, "http://localhost:7480"), 200, ""),
        (request("POST", "/v1/apps/other/chat/send"), 403, "forbidden"),
        (request("POST", "/v1/apps/acme/none/send"), 404, "no-such-app"),
        (request("POST", "/v1/apps/acme/chat/sned"), 404, "no-such-path"),
        (request("GET", SEND), 405, "no-such-method"),
        (request("GET", "/v1/apps/acme/chat/sned"), 404, "no-such-path"),
        (with("push").header("idempotency-key", "with a space"), 422, "invalid"),
        (bare().uri("/openapi.json"), 401, "unauthorized"),
        (bare().uri("/anything"), 401, "unauthorized"),
    ] {
        let (said, body) = server.call(request, HELLO).await;
        assert_eq!(said, status, "{body}");
        if status != 200 {
            assert_eq!(kind(&body), name);
        }
    }
    let foreign =
        axum::http::Request::builder().method("POST").uri(SEND).header(header::HOST, "evil.example.com");
    let (status, body) = server.call(foreign.header(header::AUTHORIZATION, "Bearer push"), HELLO).await;
    assert_eq!((status, kind(&body)), (421, "foreign-host"));
    assert_eq!(server.pushes(), 2, "nobody else was heard");
    assert_eq!(server.call(request("GET", "/openapi.json"), "").await.1["openapi"], "3.1.0");
}

#[tokio::test]
async fn who_knocks_too_often_is_turned_away() {
    let settings = AdminSettings { failures_per_s: 2, token_requests_per_s: 1, ..AdminSettings::default() };
    let server = server_with(Fake::default(), settings);
    let wrong = || request("POST", SEND);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut request = wrong();
        request.headers_mut().unwrap().remove(header::AUTHORIZATION);
        seen.push(server.call(request, HELLO).await.0);
    }
    assert!(seen.contains(&401) && seen.contains(&429), "{seen:?}");
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(server.post(SEND, HELLO).await.0);
    }
    assert!(seen.starts_with(&[200, 200]) && seen.contains(&429), "{seen:?}");
}

#[tokio::test]
async fn a_key_makes_a_repetition_harmless_and_stands_for_one_body() {
    let server = server();
    let keyed = |key: &str| request("POST", SEND).header("Idempotency-Key", key);
    let first = server.call(keyed("one"), HELLO).await;
    assert_eq!((first.0, server.pushes()), (200, 1));
    assert_eq!(server.call(keyed("one"), HELLO).await, first);
    assert_eq!(server.pushes(), 1);
    let (status, body) = server.call(keyed("one"), r#"{"to":"all","text":"other"}"#).await;
    assert_eq!((status, kind(&body)), (422, "key-reused"));
    assert_eq!(server.call(keyed("two"), HELLO).await.0, 200);
    // Another app, another key.
    let other = request("POST", "/v1/apps/acme/game/send").header("Idempotency-Key", "one");
    assert_eq!(server.call(other, HELLO).await.0, 200);
    assert_eq!(server.pushes(), 3);
    // What was not done can be done with the same key.
    let none = || request("POST", "/v1/apps/acme/none/send").header("Idempotency-Key", "one");
    assert_eq!(server.call(none(), HELLO).await.0, 404);
    assert_eq!(server.call(none(), "{\"to\":\"all\",\"text\":\"x\"}").await.0, 404);
    assert_eq!(server.call(keyed(&"x".repeat(256)), HELLO).await.0, 422);
}

#[tokio::test]
async fn a_push_with_a_key_goes_on_when_its_client_goes_away() {
    let server = server_with(Fake { gated: true, ..Fake::default() }, AdminSettings::default());
    let keyed = || request("POST", SEND).header("Idempotency-Key", "one");
    let gone = tokio::time::timeout(Duration::from_millis(20), server.call(keyed(), HELLO)).await;
    assert!(gone.is_err());
    let (status, body) = server.call(keyed(), HELLO).await;
    assert_eq!((status, kind(&body)), (409, "key-in-use"));
    server.fake.gate.add_permits(1);
    while server.call(keyed(), HELLO).await.0 != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.pushes(), 1);
}

#[tokio::test]
async fn bodies_batches_and_requests_at_a_time_are_bounded() {
    let settings =
        AdminSettings { body_bytes_max: 300, batch_max: 2, requests_max: 1, ..AdminSettings::default() };
    let server = server_with(Fake { gated: true, ..Fake::default() }, settings);
    server.fake.gate.add_permits(1);
    let long = format!(r#"{{"to":"all","text":"{}"}}"#, "x".repeat(300));
    let (status, body) = server.post(SEND, &long).await;
    assert_eq!((status, kind(&body)), (413, "too-large"));
    let batch =
        |n: usize| format!(r#"{{"commands":[{}]}}"#, vec![r#"{"disband":{"group":"g"}}"#; n].join(","));
    let (status, body) = server.post("/v1/apps/acme/chat/batch", &batch(3)).await;
    assert_eq!((status, kind(&body)), (413, "too-large"));
    let (status, body) = server.post("/v1/apps/acme/chat/batch", &batch(2)).await;
    let refused = json!({"refused": "the played gateway refuses"});
    assert_eq!((status, body), (200, json!({"results": [refused, refused], "missing": []})));
    // The gate is shut: the first one waits, and the second finds no room.
    let (first, second) = tokio::join!(server.post(SEND, HELLO), async {
        let second = server.post(SEND, HELLO).await;
        server.fake.gate.add_permits(1);
        second
    });
    assert_eq!((first.0, second.0, kind(&second.1)), (200, 503, "busy"));
}

/// The body of somebody who goes silent before its end.
struct Stalls(Option<Bytes>);

impl HttpBody for Stalls {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |part| Poll::Ready(Some(Ok(Frame::data(part)))))
    }
}

#[tokio::test]
async fn who_goes_silent_in_a_body_that_is_too_large_is_told_its_size_and_not_its_pace() {
    let (body_bytes_max, read_wait) = (300, Duration::from_millis(1));
    let server =
        server_with(Fake::default(), AdminSettings { body_bytes_max, read_wait, ..AdminSettings::default() });
    for (length, expected) in [(299, (408, "too-slow")), (301, (413, "too-large"))] {
        let body = Body::new(Stalls(Some(vec![b' '; length].into())));
        let (status, told) = server.call_with(request("POST", SEND), body).await;
        assert_eq!((status, kind(&told)), expected, "{length}");
    }
}

/// What GatewayClient 3.1.1 has.
const PHP_METHODS: [&str; 41] = [
    "sendToAll",
    "sendToClient",
    "sendToUid",
    "sendToGroup",
    "closeClient",
    "destoryClient",
    "bindUid",
    "unbindUid",
    "joinGroup",
    "leaveGroup",
    "ungroup",
    "setSession",
    "setSocketSession",
    "updateSession",
    "isOnline",
    "isUidOnline",
    "isUidsOnline",
    "getSession",
    "getClientIdByUid",
    "batchGetClientIdByUid",
    "getUidByClientId",
    "getAllClientSessions",
    "getClientSessionsByGroup",
    "getAllClientInfo",
    "getClientInfoByGroup",
    "getAllClientIdCount",
    "getAllClientCount",
    "getClientIdCountByGroup",
    "getClientCountByGroup",
    "batchGetClientIdCountByGroup",
    "getAllClientIdList",
    "getClientIdListByGroup",
    "getAllUidList",
    "getAllUidCount",
    "getUidListByGroup",
    "getUidCountByGroup",
    "getAllGroupIdList",
    "getAllGroupUidList",
    "getAllGroupUidCount",
    "getAllGroupClientIdList",
    "getAllGroupClientIdCount",
];

#[tokio::test]
async fn every_method_of_gateway_client_has_a_line_in_the_guide_and_its_request_is_understood() {
    let guide = include_str!("../../../../docs/guide/push.md");
    let server = server();
    let mut listed = std::collections::BTreeSet::new();
    for row in guide.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 4) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, php, verb, body, _] = cells[..] else { panic!("{row}") };
        if !body.starts_with('{') {
            continue;
        }
        listed.insert(php.split('(').next().unwrap());
        let (status, said) = server.post(&format!("/v1/apps/acme/chat/{verb}"), body).await;
        // The played gateway lets no group be disbanded.
        assert!(status == 200 || verb == "disband", "{row}: {said}");
    }
    assert_eq!(listed, PHP_METHODS.into_iter().collect());
}

#[test]
fn the_guide_has_every_kind_of_problem_and_every_default() {
    let guide = include_str!("../../../../docs/guide/push.md");
    let steering = include_str!("../../../../docs/guide/http-api.md");
    for kind in Kind::ALL {
        let (name, status) = (format!("`{}`", kind.name()), kind.status().to_string());
        let told =
            guide.lines().chain(steering.lines()).any(|line| line.contains(&name) && line.contains(&status));
        assert!(told, "{name} {status}");
    }
    let defaults = AdminSettings::default();
    let millis = |time: Duration| time.as_millis() as usize;
    for (key, value) in [
        ("batch_max", defaults.batch_max),
        ("connections_max", defaults.connections_max),
        ("requests_max", defaults.requests_max),
        ("read_wait_ms", millis(defaults.read_wait)),
        ("idle_wait_ms", millis(defaults.idle_wait)),
        ("push_wait_ms", millis(tidegate_push::PushSettings::default().wait)),
        ("key_keep_ms", millis(defaults.key_keep)),
        ("keys_max", defaults.keys_max),
        ("failures_per_s", defaults.failures_per_s as usize),
        ("token_requests_per_s", defaults.token_requests_per_s as usize),
    ] {
        let row = guide.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).expect(key);
        assert_eq!(row.split('|').nth(2).unwrap().trim().replace(',', ""), value.to_string(), "{key}");
    }
    for operation in Operation::ALL {
        let facts = operation.facts();
        let path = facts.path.replace("{tenant}", "TENANT").replace("{app}", "APP").replace("{number}", "N");
        let row = format!("| `{}` | `{path}", facts.method.name().to_uppercase());
        assert!(steering.lines().any(|line| line.starts_with(&row)), "{row}");
    }
    assert!(guide.contains("| `body_bytes_max` | 1 MiB |") && defaults.body_bytes_max == 1 << 20);
}
