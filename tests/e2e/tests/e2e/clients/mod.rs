//! The client libraries of `sdk/`: their own tests, run against a real cluster of a register, two gateways and a worker.

pub mod node;
mod python;
mod rust;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use tidegate_harness::{Client, eventually};

use crate::binary::{Node, Operator, cluster_folder, run, said, wasm};
use crate::certified::{self, certify};

/// A cluster with an HTTP API, and tokens for it: one that pushes, and an operator's.
pub struct Cluster {
    register: Node,
    gateways: Vec<Node>,
    _worker: Node,
    token: String,
    tls: bool,
    operator: String,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::speaking(false).await
    }

    /// One whose API speaks TLS.
    pub async fn start_tls() -> Self {
        Self::speaking(true).await
    }

    async fn speaking(tls: bool) -> Self {
        let folder = cluster_folder();
        let at = folder.path();
        certify(at);
        let more = if tls { certified::SETTINGS } else { "" };
        let settings = at.join("register.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, format!("{text}[admin]\nlisten = \"127.0.0.1:0\"\n{more}")).unwrap();
        let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
        let registers = register.register();
        let gateways: Vec<_> = ["gateway.toml", "gateway-2.toml"]
            .map(|file| Node::of_cluster(at, "gateway", file, &registers))
            .into();
        let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
        let operator = Operator::of_cluster(at, &registers);
        let made = |arguments: &[&str]| {
            let made = operator.run(&[&["tokens", "create"], arguments].concat());
            assert_eq!(made.code, 0, "{}", made.stderr);
            made.stdout.trim().to_owned()
        };
        let (token, operator) = (made(&["default"]), made(&["*", "--role", "admin"]));
        let cluster = Self { register, gateways, _worker: worker, token, tls, operator, folder };
        cluster.linked().await;
        cluster
    }

    /// Waits until the app answers on both gateways and the register reaches both.
    async fn linked(&self) {
        let at = self.folder.path();
        let mut clients = Vec::new();
        for gateway in &self.gateways {
            clients.push(Client::of_callbacks(gateway.listener("ws")).await);
        }
        std::fs::write(at.join("token"), &self.token).unwrap();
        pushes_reach(at, &self.url(), "test", 2).await;
    }

    fn url(&self) -> String {
        match self.tls {
            true => format!("https://localhost:{}", self.register.admin().port()),
            false => format!("http://{}", self.register.admin()),
        }
    }

    /// A command that finds the cluster in its environment.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let websockets: Vec<String> =
            self.gateways.iter().map(|gateway| ws(gateway.listener("ws"))).collect();
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env("TIDEGATE_API", self.url())
            .env("TIDEGATE_TOKEN", &self.token)
            .env("TIDEGATE_OPERATOR_TOKEN", &self.operator)
            .env("TIDEGATE_MODULE", wasm("callbacks"))
            .env("TIDEGATE_APP", "test")
            .env("TIDEGATE_WS", websockets.join(","))
            .stdin(Stdio::null());
        if self.tls {
            command.env("TIDEGATE_CA", self.folder.path().join("api-ca.pem"));
        }
        command
    }
}

/// Waits until a push to all clients of an app reaches so many and misses no gateway. The token is in the file `token`, whoever
/// vouches for an API with TLS in `api-ca.pem`.
pub async fn pushes_reach(at: &Path, api: &str, app: &str, clients: u64) {
    let reach = || {
        let pushed = run(
            at,
            &[
                "push",
                app,
                "hello",
                "--all",
                "--api",
                api,
                "--token-file",
                "token",
                "--ca",
                "api-ca.pem",
                "--json",
            ],
        );
        (pushed.code == 0 && said(&pushed) == json!({"reached": clients, "missing": []})).then_some(())
    };
    eventually("a push reaches every gateway", reach).await;
}

fn ws(address: SocketAddr) -> String {
    format!("ws://{address}/")
}

/// A folder of `sdk/`.
pub fn sdk(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk").join(name).canonicalize().unwrap()
}

/// Runs a command to its end, which must be a good one; gives what it wrote.
pub fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {told}");
    told
}

/// Whether a program is there; if not, its variable must not say that it has to be.
pub fn is_there(program: &str, variable: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        let required = std::env::var(variable).is_ok_and(|value| value == "1");
        assert!(!required, "{variable}=1, but there is no {program} on the PATH");
        println!("skipped: no {program} on the PATH");
    }
    found
}
