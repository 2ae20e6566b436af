//! What PHP's GatewayClient does, over plain sockets and by PHP itself, to a cluster of two gateways.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tidegate_harness::{Client, DEADLINE, eventually};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::binary::{Node, cluster_folder, wasm};

const SECRET: &str = "s3cret";

/// A cluster whose register has a bridge. The first gateway draws its id where the bridge finds it, the second one anywhere.
struct Cluster {
    folder: tempfile::TempDir,
    register: SocketAddr,
    gateways: Vec<Node>,
    _nodes: [Node; 2],
}

impl Cluster {
    async fn start() -> Self {
        let folder = cluster_folder();
        let at = folder.path();
        std::fs::write(at.join("bridge.secret"), format!("{SECRET}\n")).unwrap();
        append(&at.join("register.toml"), &bridge("test", "127.0.0.0/8:0"));
        let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
        let (address, port) = register.bridge();
        let settings = at.join("gateway.toml");
        let ids = format!("[gateway]\nclient_ids = \"127.0.0.0/8:{port}\"\n");
        let text = std::fs::read_to_string(&settings).unwrap().replace("[gateway]\n", &ids);
        std::fs::write(settings, text).unwrap();
        let registers = register.register();
        let gateways = ["gateway.toml", "gateway-2.toml"];
        let gateways = gateways.map(|file| Node::of_cluster(at, "gateway", file, &registers)).into();
        let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
        Self { register: address, gateways, _nodes: [register, worker], folder }
    }

    /// A client of each gateway, once the bridge reaches both.
    async fn clients(&self) -> [Client; 2] {
        let ann = Client::of_callbacks(self.gateways[0].listener("ws")).await;
        let bob = Client::of_callbacks(self.gateways[1].listener("ws")).await;
        let both = async {
            loop {
                let addresses = addresses(self.register).await;
                let mut counts = Vec::new();
                for address in &addresses {
                    // Until its gateway is linked, there is no answer.
                    counts.push(try_asked(*address, 24, 0, b"").await.unwrap_or_default());
                }
                if counts == [b"i:1;", b"i:1;"] {
                    return;
                }
            }
        };
        assert!(tokio::time::timeout(DEADLINE, both).await.is_ok(), "the bridge never reached both gateways");
        [ann, bob]
    }
}

fn append(file: &Path, more: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, text + more).unwrap();
}

fn bridge(app: &str, gateway: &str) -> String {
    format!(
        "[[bridge]]\napp = \"{app}\"\nregister = \"127.0.0.1:0\"\ngateway = \"{gateway}\"\n\
         secret = {{ file = \"bridge.secret\" }}\n"
    )
}

/// A packet with the secret's before it.
fn packets(command: u8, number: u32, ext: &[u8], body: &[u8]) -> Vec<u8> {
    let secret = format!("{{\"secret_key\":\"{SECRET}\"}}");
    [packet(202, 0, b"", secret.as_bytes()), packet(command, number, ext, body)].concat()
}

fn packet(command: u8, number: u32, ext: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(28 + ext.len() + body.len()).unwrap();
    let ext_len = u32::try_from(ext.len()).unwrap().to_be_bytes();
    let head = [&length.to_be_bytes()[..], &[command], &[0; 12], &number.to_be_bytes(), &[1, 0, 0], &ext_len];
    [&head.concat(), ext, body].concat()
}

async fn addresses(register: SocketAddr) -> Vec<SocketAddr> {
    let mut stream = tokio::io::BufReader::new(TcpStream::connect(register).await.unwrap());
    let line = format!("{{\"event\":\"worker_connect\",\"secret_key\":\"{SECRET}\"}}\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_line(&mut told).await.unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    told["addresses"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().parse().unwrap()).collect()
}

/// Where an id leads: what GatewayClient makes of its digits.
fn place(id: &str) -> (SocketAddr, u32) {
    let digits = |range| u32::from_str_radix(&id[range], 16).unwrap();
    let ip = std::net::Ipv4Addr::from(digits(0..8));
    (SocketAddr::new(ip.into(), u16::try_from(digits(8..12)).unwrap()), digits(12..20))
}

/// A command: written, and the connection closed.
async fn told(address: SocketAddr, command: u8, number: u32, ext: &[u8], body: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&packets(command, number, ext, body)).await.unwrap();
}

/// A question's answer. An error: the connection ended without one.
async fn try_asked(address: SocketAddr, command: u8, number: u32, ext: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&packets(command, number, ext, b"")).await?;
    let mut answer = vec![0; stream.read_u32().await? as usize];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn asked(address: SocketAddr, command: u8, number: u32, ext: &[u8]) -> Vec<u8> {
    try_asked(address, command, number, ext).await.unwrap()
}

#[tokio::test]
async fn the_id_that_a_client_was_told_leads_php_to_it() {
    let cluster = Cluster::start().await;
    let [mut ann, mut bob] = cluster.clients().await;
    let addresses = addresses(cluster.register).await;
    // Its gateway drew its id for the bridge: the id itself is where to go.
    let (at, number) = place(ann.id());
    assert!(addresses.contains(&at), "{at} {addresses:?}");
    told(at, 12, number, b"ann", b"").await;
    told(at, 5, number, b"", b"by her id").await;
    assert_eq!(ann.text().await, "by her id");
    assert_eq!(asked(at, 25, 0, br#"{"fields":["uid"],"where":[]}"#).await.escape_ascii().to_string(), {
        format!("a:1:{{i:{number};a:1:{{s:3:\\\"uid\\\";s:3:\\\"ann\\\";}}}}")
    });
    // The other one did not: every gateway is asked for it, and its own one knows it.
    let uid = format!("client:{}", bob.id());
    let mut found = Vec::new();
    for address in &addresses {
        let answer = String::from_utf8(asked(*address, 15, 0, uid.as_bytes()).await).unwrap();
        if let Some(number) = answer.strip_prefix("a:1:{i:0;i:").and_then(|rest| rest.strip_suffix(";}")) {
            found.push((*address, number.parse::<u32>().unwrap()));
        } else {
            assert_eq!(answer, "a:0:{}");
        }
    }
    let [(at, number)] = found[..] else { panic!("{found:?}") };
    told(at, 5, number, b"", b"by a look-up").await;
    assert_eq!(bob.text().await, "by a look-up");
    // A gateway that is gone has nobody, and says so.
    let gone = SocketAddr::new("127.1.2.3".parse().unwrap(), at.port());
    assert_eq!(asked(gone, 11, 1, b"").await, b"i:0;");
    told(gone, 5, number, b"", b"to nobody").await;
    drop(cluster.folder);
}

/// Speaks through a script of PHP, which speaks to the bridge.
struct Php {
    child: Child,
    calls: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Php {
    /// None: there is no PHP here, and nobody insists.
    fn start(register: SocketAddr) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("php/client.php");
        let child = Command::new("php")
            .arg(script)
            .args([&register.to_string(), SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            let required = std::env::var("TIDEGATE_REQUIRE_PHP").is_ok_and(|value| value == "1");
            assert!(!required, "TIDEGATE_REQUIRE_PHP=1, but there is no php on the PATH");
            println!("skipped: no php on the PATH");
            return None;
        };
        let calls = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, calls, answers })
    }

    fn call(&mut self, call: &str, args: Value) -> Value {
        let line = json!({"call": call, "args": args}).to_string();
        writeln!(self.calls, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut said: Value =
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{call} {args}: {answer}"));
        assert!(said.get("error").is_none(), "{call} {args}: {said}");
        said["value"].take()
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn php_calls_every_method_once_and_gets_what_it_knows() {
    let cluster = Cluster::start().await;
    let [mut ann, mut bob] = cluster.clients().await;
    let Some(mut php) = Php::start(cluster.register) else { return };
    assert_eq!(php.call("addresses", json!([])).as_array().unwrap().len(), 2);
    let a = ann.id().to_owned();
    let b =
        php.call("getClientIdByUid", json!([format!("client:{}", bob.id())]))[0].as_str().unwrap().to_owned();
    php.call("ping", json!([]));

    // Sending.
    php.call("sendToAll", json!(["to all"]));
    php.call("sendToAll", json!(["to some", [&a, &b]]));
    php.call("sendToAll", json!(["but bob", null, [&b]]));
    php.call("sendToAll", json!(["to nobody", []]));
    php.call("sendToClient", json!([&b, "to bob é"]));
    php.call("sendToClient", json!([&b, 42]));
    php.call("sendToClient", json!([&b, {"no": "text"}]));
    php.call("sendToClient", json!([&b, "end"]));
    for text in ["to all", "to some", "but bob"] {
        assert_eq!(ann.text().await, text);
    }
    for text in ["to all", "to some", "to bob é", "42", "end"] {
        assert_eq!(bob.text().await, text);
    }

    // Uids.
    php.call("bindUid", json!([&a, "ann"]));
    php.call("bindUid", json!([&b, 7]));
    assert_eq!(php.call("getClientIdByUid", json!(["ann"])), json!([&a]));
    assert_eq!(php.call("getClientIdByUid", json!([7])), json!([&b]));
    assert_eq!(php.call("getUidByClientId", json!([&b])), "7");
    assert_eq!(php.call("isUidOnline", json!(["ann"])), 1);
    assert_eq!(php.call("isUidOnline", json!(["eve"])), 0);
    let batch = php.call("batchGetClientIdByUid", json!([["ann", 7, "eve"]]));
    assert_eq!(batch, json!({"ann": [&a], "7": [&b], "eve": []}));
    let online = php.call("isUidsOnline", json!([["ann", 7, "eve"]]));
    assert_eq!(online, json!({"ann": 1, "7": 1, "eve": 0}));
    assert_eq!(php.call("getAllUidList", json!([])), json!(["7", "ann"]));
    php.call("sendToUid", json!([["ann", 7], "uids"]));
    php.call("sendToUid", json!(["ann", "uid"]));
    assert_eq!((ann.text().await, ann.text().await), ("uids".into(), "uid".into()));
    assert_eq!(bob.text().await, "uids");

    // Groups.
    for (id, group) in [(&a, "room"), (&b, "room"), (&b, "9")] {
        php.call("joinGroup", json!([id, group]));
    }
    assert_eq!(php.call("getClientIdCountByGroup", json!(["room"])), 2);
    let counts = php.call("batchGetClientIdCountByGroup", json!([["room", 9, "none"]]));
    assert_eq!(counts, json!({"room": 2, "9": 1, "none": 0}));
    assert_eq!(php.call("getClientIdListByGroup", json!([9])), json!([&b]));
    assert_eq!(php.call("getUidListByGroup", json!(["room"])), json!(["7", "ann"]));
    assert_eq!(php.call("getAllGroupIdList", json!([])), json!([9, "room"]));
    let groups = php.call("select", json!([["groups"], {"uid": [7]}]));
    assert_eq!(groups, json!({(b.clone()): {"groups": {"room": "room", "9": "9"}}}));
    php.call("sendToGroup", json!([["room", 9], "twice for bob"]));
    php.call("sendToGroup", json!(["room", "not for ann", [&a]]));
    php.call("leaveGroup", json!([&b, 9]));
    assert_eq!(php.call("getClientIdCountByGroup", json!([9])), 0);
    for text in ["twice for bob", "twice for bob", "not for ann"] {
        assert_eq!(bob.text().await, text);
    }

    // Sessions.
    let session = json!({
        "name": "Ann é",
        "n": -5,
        "ratio": 0.5,
        "whole": 1.0,
        "ok": true,
        "none": null,
        "list": [1, [2, {"deep": ["x", {"y": {}}]}]],
        "map": {"7": "seven", "k": {"z": 1}},
    });
    php.call("setSession", json!([&a, session]));
    let mut kept = session.clone();
    // PHP has one empty array.
    kept["list"][1][1]["deep"][1]["y"] = json!([]);
    assert_eq!(php.call("getSession", json!([&a])), kept);
    assert_eq!(ann.call("get_session", json!({"client": &a})).await, kept);
    php.call("updateSession", json!([&a, {"map": {"k": {"w": 2}}, "n": 6}]));
    kept["map"]["k"]["w"] = json!(2);
    kept["n"] = json!(6);
    assert_eq!(php.call("getSession", json!([&a])), kept);
    let sessions = php.call("getAllClientSessions", json!([]));
    assert_eq!(sessions[&a], kept);
    let sessions = php.call("getClientSessionsByGroup", json!(["room"]));
    assert_eq!((sessions.as_object().unwrap().len(), &sessions[&a]), (2, &kept));
    php.call("setSocketSession", json!([&a, ""]));
    assert_eq!(php.call("getSession", json!([&a])), json!([]));

    // Coming and going.
    php.call("unbindUid", json!([&b, "whatever"]));
    assert_eq!(php.call("getUidByClientId", json!([&b])), Value::Null);
    php.call("ungroup", json!(["room"]));
    assert_eq!(php.call("getAllGroupIdList", json!([])), json!([]));
    let mut all = php.call("getAllClientIdList", json!([])).as_array().unwrap().clone();
    all.sort_by_key(ToString::to_string);
    let mut both = [json!(a), json!(b)];
    both.sort_by_key(ToString::to_string);
    assert_eq!((php.call("getAllClientIdCount", json!([])), &all[..]), (json!(2), &both[..]));
    assert_eq!(php.call("isOnline", json!([&a])), 1);
    php.call("closeClient", json!([&a, "bye"]));
    assert_eq!(ann.text().await, "bye");
    assert_eq!(ann.closed().await.map(|(code, _)| code), Some(1000));
    php.call("destoryClient", json!([&b]));
    assert_eq!(bob.closed().await, None);
    eventually("both are gone", || (php.call("getAllClientIdCount", json!([])) == 0).then_some(())).await;
    assert_eq!(php.call("isOnline", json!([&a])), 0);
    assert_eq!(php.call("getSession", json!([&a])), Value::Null);
}

#[tokio::test]
async fn an_all_in_one_has_a_bridge_at_a_port_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("bridge.secret"), SECRET).unwrap();
    let app = format!(
        "[[app]]\nname = \"test\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
        wasm("callbacks")
    );
    std::fs::write(at.join("tidegate.toml"), app + &bridge("test", "127.0.0.1:0")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let mut client = Client::of_callbacks(node.listener("ws")).await;
    let (register, port) = node.bridge();
    let gateways = addresses(register).await;
    assert_eq!(gateways, [SocketAddr::from(([127, 0, 0, 1], port))]);
    told(gateways[0], 6, 0, b"", b"hello").await;
    assert_eq!(client.text().await, "hello");
    assert_eq!(node.process.terminate(), Some(0));
}
