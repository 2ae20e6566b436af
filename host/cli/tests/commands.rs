//! The real binary, as a person or a script uses it.
#![expect(clippy::unwrap_used, reason = "a helper that fails has failed the test")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A private folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-cli-{}-{count}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs to its end.
    fn run(&self, line: &str) -> Output {
        tidegate(&self.0, line).output().unwrap()
    }

    /// What it prints, if all is well.
    fn says(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and error message.
    fn fails(&self, line: &str) -> (i32, String) {
        let output = self.run(line);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tidegate(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    command
}

/// A node that runs; killed when it is dropped.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    ready: Value,
}

impl Running {
    fn start(folder: &Folder, line: &str) -> Self {
        let mut child = tidegate(&folder.0, line).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(ready["event"], "ready");
        assert_eq!(ready["pid"], child.id());
        Self { child, lines, ready }
    }

    /// Asks it to stop: the rest of its output and its exit code.
    fn stop(mut self) -> (Vec<String>, Option<i32>) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let rest = self.lines.by_ref().map(Result::unwrap).collect();
        (rest, self.child.wait().unwrap().code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_kind_of_failure_has_its_exit_code_and_says_how_to_mend_it() {
    let folder = Folder::new();
    folder.write("wrong.toml", "[node]\nshard = 1\n");
    folder.write("gateway.toml", "[node]\nroles = [\"gateway\"]\n");
    folder.write("app.toml", "[[app]]\nname = \"a\"\nplugin = \"a.wasm\"\nlisten = [\"ws://127.0.0.1:0\"]\n");
    folder.write("a.wasm", "not wasm");
    folder.write("spec.toml", "slot = 1\n");
    for (line, code, says) in [
        ("", 64, "Usage"),
        ("upp", 64, "similar"),
        ("up --shard 1", 64, "--shards"),
        ("new Chat", 64, "a-z"),
        ("bench echo nonsense", 64, "ws://"),
        ("bench echo --seconds=-1", 64, "--seconds"),
        ("up", 78, "-c"),
        ("up -c wrong.toml", 78, "wrong.toml:2:1: node.shard: unknown key `shard`; did you mean `shards`?"),
        ("up -c gateway.toml", 78, "tidegate cert init"),
        ("gateway -c app.toml", 78, "tidegate cert init"),
        ("up -c app.toml", 65, "a.wasm"),
        ("build", 65, "tidegate new"),
        ("cert node worker w", 78, "tidegate cert init"),
        ("cert show", 78, "certs"),
        ("status", 69, "tidegate up"),
        ("nodes", 69, "tidegate up"),
        ("apps", 69, "tidegate up"),
        ("tenants", 69, "tidegate up"),
        ("tenants create Acme", 64, "a-z"),
        ("tenants create acme --slots-max many", 64, "whole number, or `none`"),
        ("tenants configure acme", 64, "--slots-max"),
        ("tenants delete acme", 64, "--yes"),
        ("tenants creat acme", 64, "create"),
        ("apps create acme/Chat", 64, "a-z"),
        ("apps create acme/chat --settings none.toml", 78, "none.toml"),
        (
            "apps create acme/chat --settings spec.toml",
            78,
            "spec.toml:1:1: slot: unknown key `slot`; did you mean",
        ),
        ("apps configure acme/chat", 64, "--settings"),
        ("apps delete acme/chat", 64, "--yes"),
        ("apps delete acme/chat --yes", 69, "tidegate up"),
        ("history Chat", 64, "a-z"),
        ("history chat --limit 0", 64, "1..=1000"),
        ("rollback chat", 69, "tidegate up"),
        ("rollback chat --to x", 64, "--to"),
        ("deploy", 64, "APP"),
        ("deploy chat", 65, "Cargo.toml"),
        ("deploy chat a.wasm", 65, "a.wasm: this is not a WebAssembly component"),
        ("deploy chat none.wasm", 65, "none.wasm"),
        ("deploy chat sha256:12", 64, "64 lower-case hex digits"),
        ("deploy chat -c app.toml", 64, "it does of: default/a"),
        ("deploy a -c app.toml", 65, "a.wasm"),
        ("deploy chat a.wasm --canary 100%", 64, "1% to 99%"),
        ("deploy chat a.wasm --canary 9% --for 1", 64, "30s"),
        ("deploy chat a.wasm --for 1s", 64, "--canary"),
        ("deploy chat a.wasm --cancel", 64, "cannot be used with"),
        ("deploy chat --cancel", 69, "tidegate up"),
        ("apps --register 127.0.0.1:1", 64, "--identity"),
        ("apps --register 127.0.0.1:1 --identity none", 78, "tidegate cert"),
        ("bench swap --app a", 64, "--module"),
        ("bench swap --app a --module one.wasm", 64, "v1=one.wasm"),
        ("bench swap --app a --module a=a.wasm", 64, "two at least"),
        ("bench swap --app a --module a=a.wasm --module b=a.wasm", 65, "not a WebAssembly component"),
        ("bench echo ws://127.0.0.1:1/ --rounds 1 --seconds 0.1", 69, "is the server running"),
    ] {
        let (got, error) = folder.fails(line);
        assert!(got == code && error.contains(says), "`{line}`: {got}, wanted {code} and {says:?}:\n{error}");
    }
}

#[test]
fn help_and_version_are_no_failure() {
    let folder = Folder::new();
    assert!(folder.says("--help").contains("Exit codes"));
    assert!(folder.says("--version").starts_with("tidegate "));
    let help = folder.says("bench --help");
    assert!(help.contains("broadcast") && !help.contains("yardstick"), "{help}");
}

#[test]
fn an_empty_file_runs_until_it_is_told_to_stop() {
    let folder = Folder::new();
    folder.write("tidegate.toml", "");
    let node = Running::start(&folder, "up --shards 1");
    assert_eq!(node.ready["complete"], true);
    let nodes: Value = serde_json::from_str(&folder.says("nodes --json")).unwrap();
    assert_eq!(nodes.as_array().unwrap().len(), 2);
    assert!(folder.says("status").contains("ready"));
    assert_eq!(folder.says("apps --json"), "[]\n");
    for line in ["history chat", "rollback chat --json", "deploy chat --cancel"] {
        let (code, error) = folder.fails(line);
        assert!(code == 64 && error.contains("default/chat"), "{line}: {code}: {error}");
    }
    let (code, error) = folder.fails("up");
    assert!(code == 78 && error.contains("another node runs"), "{code}: {error}");
    let (rest, code) = node.stop();
    assert_eq!((rest, code), (vec![r#"{"event":"stopped"}"#.to_owned()], Some(0)));
    assert_eq!(folder.fails("status").0, 69);
}

#[test]
fn a_cluster_starts_with_the_certificates_that_the_command_line_makes() {
    let folder = Folder::new();
    folder.says("cert init --cluster prod");
    folder.says("cert node register r");
    folder.says("cert node gateway g");
    folder.says("cert node worker w");
    folder.says("cert operator ann --days 2");
    let shown = folder.says("cert show");
    assert!(shown.contains("tidegate://prod/gateway/g") && shown.contains("1 days left"), "{shown}");
    for line in ["cert init", "cert node worker g"] {
        let (code, error) = folder.fails(line);
        assert!(code == 73 && error.contains("not overwritten"), "{line}: {error}");
    }

    let node = |name: &str, more: &str| {
        let text = format!(
            "[node]\ndata_dir = \"data/{name}\"\nshards = 1\n[cluster]\nidentity = \"certs/{name}\"\n{more}"
        );
        folder.write(&format!("{name}.toml"), &text);
    };
    node("r", "[register]\nlisten = \"127.0.0.1:0\"\n");
    let register = Running::start(&folder, "register -c r.toml");
    let at = register.ready["register"].as_str().unwrap().to_owned();
    node("g", &format!("registers = [\"{at}\"]\n"));
    node("w", "");
    let gateway = Running::start(&folder, "gateway -c g.toml");
    let worker = Running::start(&folder, &format!("up -c w.toml --registers {at}"));
    assert_eq!(
        (&gateway.ready["complete"], &worker.ready["complete"]),
        (&Value::Bool(true), &Value::Bool(true))
    );

    let listed = folder.says(&format!("nodes --register {at} --identity certs/ann"));
    let dialed = gateway.ready["gateway"].as_str().unwrap();
    assert!(listed.contains("worker   w") && listed.contains(dialed), "{listed}");
    let (code, error) = folder.fails(&format!("nodes --register {at} --identity certs/w"));
    assert!(code == 69 && error.contains("tidegate cert operator"), "{error}");
    let operator = format!("--register {at} --identity certs/ann");
    assert_eq!(folder.says(&format!("apps {operator}")), "");
    let (code, error) = folder.fails(&format!("history chat {operator}"));
    assert!(code == 64 && error.contains("no app default/chat; apps here: none"), "{code}: {error}");
    let (code, error) = folder.fails("apps -c g.toml");
    assert!(code == 69 && error.contains("this node is a gateway"), "{code}: {error}");
    let (code, error) = folder.fails("worker -c g.toml");
    assert!(code == 78 && error.contains("certificate of a gateway"), "{error}");
    for node in [worker, gateway, register] {
        assert_eq!(node.stop().1, Some(0));
    }
}

#[test]
fn a_new_project_is_made_once() {
    let folder = Folder::new();
    assert!(folder.says("new chat").contains("tidegate dev"));
    assert!(folder.0.join("chat/tidegate.toml").is_file());
    assert_eq!(folder.fails("new chat").0, 73);
}

#[test]
fn the_compile_child_refuses_to_be_called_by_hand() {
    assert_eq!(Folder::new().fails("compile-child").0, 64);
}
