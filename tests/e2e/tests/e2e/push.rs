//! Pushes from outside, by the HTTP API of a register or of an all-in-one.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_harness::{Client, DEADLINE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::binary::{Node, Operator, Ran, cluster_folder, run, said, stays_at, wasm};

/// Somebody who asks over HTTP, on one connection that stays.
struct Http {
    stream: TcpStream,
    headers: Vec<(String, String)>,
}

impl Http {
    async fn to(address: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut http = Self { stream, headers: Vec::new() };
        http.set("Host", &address.to_string());
        http.set("Authorization", &format!("Bearer {token}"));
        http
    }

    fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn unset(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let head = loop {
            assert!(self.stream.read_buf(&mut answer).await.unwrap() > 0, "the connection ended");
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8(answer[..head].to_vec()).unwrap().to_lowercase();
        let length = text.split("content-length: ").nth(1).expect("a length").lines().next().unwrap();
        let length: usize = length.parse().unwrap();
        while answer.len() < head + length {
            assert!(self.stream.read_buf(&mut answer).await.unwrap() > 0, "the connection ended");
        }
        let status = text.get(9..12).unwrap().parse().unwrap();
        (status, serde_json::from_slice(&answer[head..]).unwrap())
    }

    /// Asks the app `test` something.
    async fn post(&mut self, verb: &str, body: Value) -> (u16, Value) {
        self.ask("POST", &format!("/v1/apps/default/test/{verb}"), &body.to_string()).await
    }

    /// A command that every gateway has; says how many it reached.
    async fn reaches(&mut self, verb: &str, body: Value) -> u64 {
        let (status, said) = self.post(verb, body).await;
        assert_eq!((status, &said["missing"]), (200, &json!([])), "{verb}: {said}");
        said["reached"].as_u64().unwrap()
    }

    /// A question that every gateway answers.
    async fn asks(&mut self, verb: &str, body: Value, field: &str) -> Value {
        let (status, said) = self.post(verb, body).await;
        assert_eq!((status, &said["missing"]), (200, &json!([])), "{verb}: {said}");
        said[field].clone()
    }
}

fn done(ran: &Ran) -> &str {
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    ran.stdout.trim()
}

/// A cluster of a register with an HTTP API, two gateways and a worker.
struct Cluster {
    folder: tempfile::TempDir,
    register: Node,
    registers: String,
    gateways: Vec<Node>,
    _worker: Node,
}

impl Cluster {
    async fn start(more: &str) -> Self {
        let folder = cluster_folder();
        let at = folder.path();
        let settings = at.join("register.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, format!("{text}[admin]\nlisten = \"127.0.0.1:0\"\n{more}")).unwrap();
        let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
        let registers = register.register();
        let gateways = ["gateway.toml", "gateway-2.toml"];
        let gateways = gateways.map(|file| Node::of_cluster(at, "gateway", file, &registers)).into();
        let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
        Self { register, registers, gateways, _worker: worker, folder }
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn token(&self, arguments: &[&str]) -> String {
        let made = Operator::of_cluster(self.at(), &self.registers)
            .run(&[&["tokens", "create"], arguments].concat());
        done(&made).to_owned()
    }

    /// Waits until both gateways answer.
    async fn linked(&self, http: &mut Http) {
        let both = async {
            loop {
                let (status, said) = http.post("count", json!({"of": "all"})).await;
                if status == 200 && said["missing"] == json!([]) && said["count"] == 2 {
                    return;
                }
            }
        };
        let linked = tokio::time::timeout(DEADLINE, both).await;
        assert!(linked.is_ok(), "the gateways were never linked to the register");
    }
}

#[tokio::test]
async fn every_verb_reaches_clients_of_two_gateways_and_every_question_is_answered_by_both() {
    let cluster = Cluster::start("").await;
    let token = cluster.token(&["default"]);
    let mut http = Http::to(cluster.register.admin(), &token).await;
    let mut ann = Client::of_callbacks(cluster.gateways[0].listener("ws")).await;
    let mut bob = Client::of_callbacks(cluster.gateways[1].listener("ws")).await;
    let (a, b) = (ann.id().to_owned(), bob.id().to_owned());
    cluster.linked(&mut http).await;

    assert_eq!(http.reaches("send", json!({"to": "all", "text": "to all"})).await, 2);
    assert_eq!((ann.text().await, bob.text().await), ("to all".into(), "to all".into()));
    assert_eq!(http.reaches("send", json!({"to": "all", "except": &a, "text": "but ann"})).await, 1);
    assert_eq!(http.reaches("send", json!({"to": {"client": &a}, "base64": "aGk="})).await, 1);
    assert_eq!(ann.next().await.unwrap().into_data().as_ref(), b"hi");
    assert_eq!(bob.text().await, "but ann");

    assert_eq!(http.reaches("bind", json!({"client": &a, "uid": "ann"})).await, 1);
    assert_eq!(http.reaches("bind", json!({"client": &b, "uid": 7})).await, 1);
    assert_eq!(http.reaches("join", json!({"clients": [&a, &b], "groups": ["room", "other"]})).await, 2);
    assert_eq!(http.reaches("send", json!({"to": {"groups": ["room", "other"]}, "text": "room"})).await, 2);
    assert_eq!(http.reaches("send", json!({"to": {"uids": ["ann", 7]}, "text": "uids"})).await, 2);
    for client in [&mut ann, &mut bob] {
        assert_eq!((client.text().await, client.text().await), ("room".into(), "uids".into()));
    }
    assert_eq!(http.reaches("leave", json!({"client": &b, "group": "other"})).await, 1);

    let of = |groups: &str| json!({"of": {"groups": [groups]}});
    assert_eq!(http.asks("count", of("room"), "count").await, 2);
    assert_eq!(http.asks("count-uids", json!({"of": "all"}), "count").await, 2);
    let counts = http.asks("count-by-group", json!({"groups": ["room", "other", "none"]}), "counts").await;
    assert_eq!(counts, json!({"room": 2, "other": 1, "none": 0}));
    assert_eq!(http.asks("clients", of("other"), "clients").await, json!([&a]));
    assert_eq!(http.asks("uids", of("room"), "uids").await, json!(["7", "ann"]));
    assert_eq!(http.asks("groups", json!({"of": {"client": &a}}), "groups").await, json!(["other", "room"]));
    let online = http.asks("online", json!({"uids": ["ann", "eve"]}), "online").await;
    assert_eq!(online, json!({"ann": true, "eve": false}));
    let gone = "00000000000000000001";
    let online = http.asks("online", json!({"clients": [&b, gone]}), "online").await;
    assert_eq!(online, json!({(b.clone()): true, (gone): false}));

    let session = format!("/v1/apps/default/test/sessions/{a}");
    assert_eq!(http.ask("PUT", &session, r#"{"n":1,"deep":{"x":1}}"#).await.1["reached"], 1);
    assert_eq!(http.ask("PATCH", &session, r#"{"deep":{"y":2}}"#).await.1["reached"], 1);
    let (_, read) = http.ask("GET", &session, "").await;
    assert_eq!(read["client"]["session"], json!({"n": 1, "deep": {"x": 1, "y": 2}}), "{read}");
    assert_eq!(ann.call("session", json!({})).await, json!({"n": 1, "deep": {"x": 1, "y": 2}}));
    let select =
        http.asks("select", json!({"of": {"uid": "ann"}, "fields": ["uid", "groups"]}), "clients").await;
    assert_eq!(select[0]["uid"], "ann");
    assert_eq!(http.ask("DELETE", &session, "").await.1["reached"], 1);
    assert_eq!(http.ask("PUT", &session, "[]").await.0, 409);
    assert_eq!(http.reaches("unbind", json!({"client": &b})).await, 1);

    let batch = json!({"commands": [
        {"join": {"client": &b, "group": "late"}},
        {"send": {"to": {"group": "late"}, "text": "first"}},
        {"disband": {"group": "late"}},
        {"send": {"to": {"group": "late"}, "text": "nobody"}},
        {"send": {"to": "all", "text": "second"}},
    ]});
    let (status, said) = http.post("batch", batch).await;
    let reached: Vec<_> =
        said["results"].as_array().unwrap().iter().map(|it| it["reached"].clone()).collect();
    assert_eq!((status, reached), (200, [1, 1, 1, 0, 2].map(Value::from).to_vec()), "{said}");
    assert_eq!((bob.text().await, bob.text().await), ("first".into(), "second".into()));
    assert_eq!(ann.text().await, "second");

    let close = json!({"to": {"client": &a}, "code": 4001, "reason": "kicked", "farewell": {"text": "bye"}});
    assert_eq!(http.reaches("close", close).await, 1);
    assert_eq!(ann.text().await, "bye");
    assert_eq!(ann.closed().await, Some((4001, "kicked".to_owned())));
    assert_eq!(http.reaches("destroy", json!({"to": "all"})).await, 1);
    assert_eq!(bob.closed().await, None);
    assert_eq!(http.reaches("send", json!({"to": {"client": &a}, "text": "to nobody"})).await, 0);
}

#[tokio::test]
async fn a_frozen_gateway_is_named_in_time_and_the_other_gets_the_message() {
    let cluster = Cluster::start("push_wait_ms = 2000\n").await;
    let token = cluster.token(&["default"]);
    let mut http = Http::to(cluster.register.admin(), &token).await;
    let mut ann = Client::of_callbacks(cluster.gateways[0].listener("ws")).await;
    let _bob = Client::of_callbacks(cluster.gateways[1].listener("ws")).await;
    cluster.linked(&mut http).await;
    cluster.gateways[1].process.freeze();
    let (status, said) = http.post("send", json!({"to": "all", "text": "who is there?"})).await;
    assert_eq!((status, &said["reached"]), (200, &json!(1)), "{said}");
    let missing = said["missing"].as_array().unwrap();
    assert_eq!(
        (missing.len(), &missing[0]["name"], &missing[0]["why"]),
        (1, &json!("gateway-2"), &json!("late"))
    );
    assert_eq!(ann.text().await, "who is there?");
    // Now that it is known to hang, nobody waits for it as long again.
    let asked = Instant::now();
    for _ in 0..3 {
        let (_, said) = http.post("count", json!({"of": "all"})).await;
        assert_eq!((&said["count"], &said["missing"][0]["name"]), (&json!(1), &json!("gateway-2")), "{said}");
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn tokens_are_for_their_tenant_role_and_apps_until_they_are_revoked_and_outlive_the_register() {
    let cluster = Cluster::start("").await;
    let token = cluster.token(&["default", "--app", "test", "--note", "web shop"]);
    let mut http = Http::to(cluster.register.admin(), &token).await;
    let mut ann = Client::of_callbacks(cluster.gateways[0].listener("ws")).await;
    let _bob = Client::of_callbacks(cluster.gateways[1].listener("ws")).await;
    cluster.linked(&mut http).await;
    let operator = Operator::of_cluster(cluster.at(), &cluster.registers);
    let hello = || json!({"to": "all", "text": "hello"});

    let nobody = operator.run(&["tokens", "create", "acme"]);
    assert!(nobody.code != 0 && nobody.stderr.contains("there is no tenant acme"), "{}", nobody.stderr);
    done(&operator.run(&["tenants", "create", "acme"]));
    let others = [
        (cluster.token(&["acme"]), 403, "forbidden"),
        (cluster.token(&["default", "--role", "deploy"]), 403, "forbidden"),
        (cluster.token(&["default", "--app", "other"]), 403, "forbidden"),
        ("tg_nonsense".to_owned(), 401, "unauthorized"),
    ];
    for (other, status, kind) in others {
        let mut http = Http::to(cluster.register.admin(), &other).await;
        let (said, problem) = http.post("send", hello()).await;
        assert_eq!((said, &problem["status"]), (status, &json!(status)), "{problem}");
        assert_eq!(problem["type"], format!("urn:tidegate:problem:{kind}"));
    }
    http.set("Host", "evil.example.com");
    assert_eq!(http.post("send", hello()).await.0, 421);
    http.set("Host", "localhost");
    http.set("Origin", "http://evil.example.com");
    assert_eq!(http.post("send", hello()).await.0, 403);
    http.unset("Origin");

    let listed = said(&operator.run(&["tokens", "--json"]));
    assert_eq!(listed.as_array().unwrap().len(), 4, "{listed}");
    assert!(!listed.to_string().contains("tg_"), "{listed}");
    let of_shop = listed.as_array().unwrap().iter().find(|token| token["note"] == "web shop").unwrap();
    let id = of_shop["id"].as_str().unwrap().to_owned();

    // The register starts again: the token holds, and the gateways are found again.
    stays_at(cluster.at(), &cluster.registers);
    let Cluster { folder, register, registers, gateways, _worker } = cluster;
    register.process.kill();
    let register = Node::start(folder.path(), &["register", "-c", "register.toml", "--json"]);
    let cluster = Cluster { folder, register, registers, gateways, _worker };
    let mut http = Http::to(cluster.register.admin(), &token).await;
    cluster.linked(&mut http).await;
    assert_eq!(http.reaches("send", hello()).await, 2);
    assert_eq!(ann.text().await, "hello", "what nobody was allowed to push has not come");

    done(&operator.run(&["tokens", "revoke", &id]));
    assert_eq!(http.post("send", hello()).await.0, 401);
    assert_eq!(operator.run(&["tokens", "revoke", &id]).code, 64);
}

#[tokio::test]
async fn an_all_in_one_takes_pushes_of_bounded_size_and_repeats_none_with_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\nbody_bytes_max = 1000\nbatch_max = 3\n\
         [[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\npayload_bytes_max = 500\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), text).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    let made = said(&run(at, &["tokens", "create", "default", "--json"]));
    let secret = made["secret"].as_str().unwrap();
    let mut http = Http::to(node.admin(), secret).await;

    let text = |length: usize| json!({"to": "all", "text": "x".repeat(length)});
    let (status, problem) = http.post("send", text(600)).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:tidegate:problem:refused")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("payload_bytes_max"), "{problem}");
    let one = json!({"send": {"to": "all", "text": "x"}});
    assert_eq!(http.post("batch", json!({"commands": [one, one, one, one]})).await.0, 413);
    let path = "/v1/apps/default/none/send";
    let (status, problem) = http.ask("POST", path, r#"{"to":"all","text":"x"}"#).await;
    assert_eq!((status, &problem["type"]), (404, &json!("urn:tidegate:problem:no-such-app")), "{problem}");

    http.set("Idempotency-Key", "order-66");
    let once = || json!({"to": "all", "text": "once"});
    assert_eq!(http.reaches("send", once()).await, 1);
    assert_eq!(http.reaches("send", once()).await, 1);
    assert_eq!(http.post("send", text(10)).await.0, 422);
    http.unset("Idempotency-Key");
    assert_eq!(http.reaches("send", json!({"to": "all", "text": "twice"})).await, 1);
    assert_eq!((client.text().await, client.text().await), ("once".into(), "twice".into()));

    // A body that is too large is read to its end all the same: the refusal comes over, and the connection goes on.
    for length in [2000, 20_000_000] {
        assert_eq!(http.post("send", text(length)).await.0, 413);
    }
    assert_eq!(http.reaches("send", json!({"to": "all", "text": "still here"})).await, 1);
    assert_eq!(client.text().await, "still here");

    std::fs::write(at.join("token"), secret).unwrap();
    let pushed = run(at, &["push", "test", "by hand", "--all", "--token-file", "token"]);
    assert_eq!(done(&pushed), "reached 1");
    assert_eq!(client.text().await, "by hand");
    let refused = run(at, &["push", "test", "by hand", "--all"]);
    assert_eq!(refused.code, 77, "{}", refused.stderr);
    assert!(refused.stderr.contains("tidegate tokens create default"), "{}", refused.stderr);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn dev_lays_a_token_where_its_user_alone_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = format!(
        "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), text).unwrap();
    let node = Node::start(at, &["dev", ".", "--json"]);
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    let file = at.join("data/admin.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let reached = || {
        let pushed = run(at, &["push", "test", "hello", "--uid", "nobody", "--json"]);
        (pushed.code == 0).then(|| said(&pushed))
    };
    assert_eq!(eventually("the API answers", reached).await, json!({"reached": 0, "missing": []}));
    assert_eq!(done(&run(at, &["push", "test", "hello", "--client", client.id()])), "reached 1");
    assert_eq!(client.text().await, "hello");
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn a_register_that_stops_answers_what_it_was_asked_and_lets_nobody_in() {
    let cluster = Cluster::start("push_wait_ms = 3000\n").await;
    let token = cluster.token(&["default"]);
    let address = cluster.register.admin();
    let mut http = Http::to(address, &token).await;
    let _ann = Client::of_callbacks(cluster.gateways[0].listener("ws")).await;
    let _bob = Client::of_callbacks(cluster.gateways[1].listener("ws")).await;
    cluster.linked(&mut http).await;
    let mut idle = Http::to(address, &token).await;
    idle.post("count", json!({"of": "all"})).await;
    let asked = || {
        let status = said(&run(cluster.at(), &["status", "-c", "register.toml", "--json"]));
        status["counters"]["tidegate_admin_requests_total"].as_u64().unwrap()
    };
    let before = asked();
    // It takes the whole wait: there is time to stop meanwhile.
    cluster.gateways[1].process.freeze();
    let pushed = tokio::spawn(async move {
        let answer = http.post("send", json!({"to": "all", "text": "the last"})).await;
        (answer, http.stream.read_u8().await.is_err())
    });
    eventually("the push is under way", || (asked() > before).then_some(())).await;

    let Cluster { folder: _folder, register, gateways: _gateways, _worker, .. } = cluster;
    let stopped = tokio::task::spawn_blocking(move || register.process.terminate());
    assert!(idle.stream.read_u8().await.is_err(), "who has asked nothing is let go of");
    let refused = || std::net::TcpStream::connect(address).is_err().then_some(());
    eventually("nobody is let in", refused).await;
    assert!(!pushed.is_finished(), "it is still being answered");
    let ((status, said), has_ended) = pushed.await.unwrap();
    assert_eq!(
        (status, &said["reached"], &said["missing"][0]["why"]),
        (200, &json!(1), &json!("late")),
        "{said}"
    );
    assert!(has_ended, "the connection ends with the answer");
    assert_eq!(stopped.await.unwrap(), Some(0));
}
