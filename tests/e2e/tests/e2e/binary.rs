//! Nodes that are processes of the real binary, and those who operate them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;
use tidegate_harness::{Client, DEADLINE, Process, eventually, tidegate};
use tokio::sync::mpsc;

/// Lines of news that nobody has looked at yet; a command with more of them waits.
const NEWS_MAX: usize = 256;

/// A node and what it said when it was ready.
pub struct Node {
    pub process: Process,
    ready: Value,
}

impl Node {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::of(Process::start(folder, arguments))
    }

    /// A node whose log goes to a file.
    pub fn logging(folder: &Path, arguments: &[&str], log: File) -> Self {
        Self::of(Process::logging(folder, arguments, log.into()))
    }

    fn of(process: Process) -> Self {
        let ready = process.line("that it is ready", |line| {
            serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == "ready")
        });
        Self { process, ready }
    }

    /// A role of a cluster, by its settings file.
    pub fn of_cluster(folder: &Path, role: &str, file: &str, registers: &str) -> Self {
        Self::start(folder, &[role, "-c", file, "--registers", registers, "--json"])
    }

    pub fn listener(&self, protocol: &str) -> SocketAddr {
        let all = self.ready["listeners"].as_array().unwrap();
        let of = all.iter().find(|l| l["protocol"] == protocol).expect("a listener");
        of["address"].as_str().unwrap().parse().unwrap()
    }

    /// The port of an app, or the one that apps share.
    pub fn port_of(&self, app: Option<&str>) -> SocketAddr {
        let all = self.ready["listeners"].as_array().unwrap();
        let of = all.iter().find(|listener| listener["app"].as_str() == app).expect("a listener");
        of["address"].as_str().unwrap().parse().unwrap()
    }

    /// Where it tells its numbers.
    pub fn metrics(&self) -> SocketAddr {
        self.ready["metrics"].as_str().unwrap().parse().unwrap()
    }

    /// Where its HTTP API is.
    pub fn admin(&self) -> SocketAddr {
        self.ready["admin"].as_str().unwrap().parse().unwrap()
    }

    /// The Register of its bridge, and the first port at which gateways are for PHP.
    pub fn bridge(&self) -> (SocketAddr, u16) {
        let bridge = &self.ready["bridges"][0];
        let port = u16::try_from(bridge["ports"][0].as_u64().unwrap()).unwrap();
        (bridge["register"].as_str().unwrap().parse().unwrap(), port)
    }

    pub fn register(&self) -> String {
        self.ready["register"].as_str().unwrap().to_owned()
    }
}

/// A folder with the certificates and settings of a cluster that runs the `callbacks` plugin.
pub fn cluster_folder() -> tempfile::TempDir {
    cluster_folder_of("callbacks")
}

/// A folder with the certificates and settings of a cluster of one register, two gateways and two workers that runs this
/// plugin in two slots of each worker.
pub fn cluster_folder_of(plugin: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let certificates: [&[&str]; 7] = [
        &["cert", "init"],
        &["cert", "node", "register", "register-1"],
        &["cert", "node", "gateway", "gateway-1"],
        &["cert", "node", "gateway", "gateway-2"],
        &["cert", "node", "worker", "worker-1"],
        &["cert", "node", "worker", "worker-2"],
        &["cert", "operator", "ann"],
    ];
    for arguments in certificates {
        let made = run(folder.path(), arguments);
        assert_eq!(made.code, 0, "{arguments:?}: {}", made.stderr);
    }
    let wasm = tidegate_artifacts::plugin(plugin);
    let node = |data: &str, identity: &str| {
        format!("[node]\ndata_dir = \"data/{data}\"\n[cluster]\nidentity = \"certs/{identity}\"\n")
    };
    let app = "[[app]]\nname = \"test\"\n";
    let listens = format!("[gateway]\nlisten = \"127.0.0.1:0\"\n{app}listen = [\"ws://127.0.0.1:0\"]\n");
    let runs = format!("{app}slots = 2\nplugin = \"{}\"\n", wasm.display());
    let settings = [
        ("register.toml", node("r", "register-1") + "[register]\nlisten = \"127.0.0.1:0\"\n"),
        ("gateway.toml", node("g1", "gateway-1") + &listens),
        ("gateway-2.toml", node("g2", "gateway-2") + &listens),
        ("worker.toml", node("w1", "worker-1") + &runs),
        ("worker-2.toml", node("w2", "worker-2") + &runs),
    ];
    for (name, text) in settings {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// From now on the register of this folder listens where it listened before.
pub fn stays_at(folder: &Path, address: &str) {
    let settings = folder.join("register.toml");
    let text = std::fs::read_to_string(&settings).unwrap().replace("127.0.0.1:0", address);
    std::fs::write(settings, text).unwrap();
}

/// What a command came to.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output = tidegate(folder).args(arguments).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What `deploy` and its kind say as JSON.
pub fn said(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}{}", ran.stdout, ran.stderr))
}

pub async fn says(client: &mut Client, text: &str, answer: &str) {
    client.send(text).await;
    assert_eq!(client.text().await, answer);
}

/// A component of the repository, as an argument.
pub fn wasm(plugin: &str) -> String {
    tidegate_artifacts::plugin(plugin).display().to_string()
}

/// Who operates the app `test` of a node or of a cluster.
pub struct Operator {
    folder: PathBuf,
    whom: Vec<String>,
}

impl Operator {
    /// Of the node whose settings are in this folder.
    pub fn of_node(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), whom: Vec::new() }
    }

    /// Of a cluster, by its register.
    pub fn of_cluster(folder: &Path, register: &str) -> Self {
        let whom = ["--register", register, "--identity", "certs/ann"].map(str::to_owned).to_vec();
        Self { folder: folder.to_owned(), whom }
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.folder, &self.with(arguments))
    }

    /// Starts a command that takes its time.
    pub fn start(&self, arguments: &[&str]) -> Going {
        Going::start(&self.folder, &self.with(arguments))
    }

    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let whom = self.whom.iter().map(String::as_str);
        arguments.iter().copied().chain(whom).collect()
    }

    /// The history, the oldest first.
    pub fn history(&self) -> Vec<Value> {
        let mut entries = said(&self.run(&["history", "test", "--json"])).as_array().unwrap().clone();
        entries.reverse();
        entries
    }

    /// The number of each deployment, and how it ended in a word, or how far it is.
    pub fn outcomes(&self) -> Vec<(u64, String)> {
        let outcome = |entry: &Value| {
            let state = &entry["state"];
            let word = match (&state["ended"], &state["running"]) {
                (Value::String(word), _) | (_, Value::String(word)) => word.clone(),
                (Value::Object(ended), _) => ended.keys().next().unwrap().clone(),
                _ => panic!("{entry}"),
            };
            (entry["version"]["number"].as_u64().unwrap(), word)
        };
        self.history().iter().map(outcome).collect()
    }

    /// Why this version did not commit.
    pub fn reason(&self, number: u64) -> String {
        let history = self.history();
        let entry = history.iter().find(|entry| entry["version"]["number"] == number).expect("the version");
        let ended = entry["state"]["ended"].as_object().expect("an end with a reason");
        ended.values().next().unwrap()["reason"].as_str().unwrap().to_owned()
    }

    /// The app as `apps` shows it; none while nobody answers.
    pub fn app(&self) -> Option<Value> {
        let ran = self.run(&["apps", "--json"]);
        let apps = (ran.code == 0).then(|| said(&ran))?;
        apps.as_array()?.iter().find(|app| app["app"] == "default/test").cloned()
    }

    /// Waits until nothing is being deployed and so many slots all run the stable version; says which that is.
    pub async fn settled(&self, slots: usize) -> u64 {
        eventually("every slot runs the stable version, and nothing is being deployed", || {
            let app = self.app()?;
            let stable = app["stable"]["number"].as_u64().unwrap_or_default();
            let of_worker = app["workers"].as_array()?.iter().flat_map(|it| it["slots"].as_array().unwrap());
            let run: Vec<_> = of_worker.map(Value::as_u64).collect();
            let settled = run.len() == slots && run.iter().all(|slot| *slot == Some(stable));
            (settled && app["deploying"].is_null()).then_some(stable)
        })
        .await
    }
}

/// A command that goes on. It is killed when this is dropped.
pub struct Going {
    child: Child,
    news: mpsc::Receiver<String>,
    stdout: Option<JoinHandle<String>>,
    heard: String,
}

impl Going {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = tidegate(folder);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (stderr, mut stdout) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        let (tx, news) = mpsc::channel(NEWS_MAX);
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            lines.map(|line| tx.blocking_send(line)).take_while(Result::is_ok).for_each(drop);
        });
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        Self { child, news, stdout: Some(stdout), heard: String::new() }
    }

    /// Waits until it tells news with this word.
    pub async fn tells(&mut self, word: &str) {
        loop {
            let line = self.line().await;
            let line = line.unwrap_or_else(|| panic!("it never told `{word}`, but: {}", self.heard));
            if line.contains(word) {
                return;
            }
        }
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ran {
        while self.line().await.is_some() {}
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Ran { code, stdout, stderr: std::mem::take(&mut self.heard) }
    }

    /// Kills it.
    pub fn kill(self) {}

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(DEADLINE, self.news.recv()).await.expect("news, or its end")?;
        self.heard.push_str(&line);
        self.heard.push('\n');
        Some(line)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
