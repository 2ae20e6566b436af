//! `tidegate top`: in a terminal, which tmux plays, and for scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tidegate_harness::{Client, binary, eventually};

use crate::binary::{Node, cluster_folder, run, said, wasm};

/// A terminal of 80 by 24 with a shell in it. It is gone when this is dropped.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// None: there is no tmux, and none is required.
    fn open(folder: &Path) -> Option<Self> {
        let version = Command::new("tmux").arg("-V").output();
        if !version.is_ok_and(|version| version.status.success()) {
            let required = std::env::var("TIDEGATE_REQUIRE_TMUX").is_ok_and(|value| value == "1");
            assert!(!required, "TIDEGATE_REQUIRE_TMUX=1, but there is no tmux on the PATH");
            println!("skipped: no tmux on the PATH");
            return None;
        }
        let terminal = Self { socket: folder.join("tmux") };
        let size = ["-x", "80", "-y", "24"];
        terminal.tmux(&[&["-f", "/dev/null", "new-session", "-d"], &size[..], &["env PS1='$ ' sh"]].concat());
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(arguments).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = tmux.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by their names in tmux.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Waits until the screen is as wanted, and gives it.
    async fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let looked = eventually(what, || {
            last = self.tmux(&["capture-pane", "-p"]);
            wanted(&last).then(|| last.clone())
        });
        looked.await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}

/// A node with two apps, and a client of the first.
async fn node_with_two_apps(at: &Path) -> (Node, Client) {
    let app = |name: &str| {
        format!(
            "[[app]]\nname = \"{name}\"\nplugin = \"{}\"\nlisten = [\"ws://127.0.0.1:0\"]\n",
            wasm("callbacks")
        )
    };
    std::fs::write(at.join("tidegate.toml"), app("test") + &app("other")).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let client = Client::of_callbacks(node.listener("ws")).await;
    (node, client)
}

#[tokio::test]
async fn top_shows_a_node_its_tenants_and_its_apps_in_a_terminal_and_leaves_it_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let Some(terminal) = Terminal::open(at) else { return };
    let (node, _client) = node_with_two_apps(at).await;
    let top =
        format!("cd {} && {} top --interval 200ms; echo left with $?", at.display(), binary().display());
    let apps = |screen: &str| screen.contains("default/test") && screen.contains("default/other");

    terminal.types(&top);
    terminal.press(&["Enter"]);
    let screen = terminal.shows("the apps", |screen| apps(screen) && screen.contains("turns/s")).await;
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines[0].starts_with("1 node, 2 apps, 1 client;"), "{screen}");
    assert!(
        lines[2].starts_with("APP ") && lines[2].contains(" CLIENTS ") && lines[2].contains(" T99 "),
        "{screen}"
    );
    assert!(lines[23].contains("q quit"), "{screen}");
    terminal.press(&["Tab"]);
    terminal.shows("the node", |screen| screen.contains("NODE ") && screen.contains("ready")).await;
    terminal.press(&["Tab"]);
    terminal.shows("the tenant", |screen| screen.contains("TENANT ") && screen.contains("\ndefault ")).await;
    terminal.press(&["Tab"]);
    terminal.types("/oth");
    terminal
        .shows("one of the apps", |screen| screen.contains("/oth_") && !screen.contains("default/test"))
        .await;
    terminal.press(&["Escape"]);
    terminal.shows("both again", apps).await;

    terminal.press(&["q"]);
    let before = |screen: &str| screen.contains("left with 0") && !screen.contains("q quit");
    terminal.shows("the shell as it was", before).await;
    // Who is ended from outside leaves nothing behind either: what is typed is seen again.
    terminal
        .types(&format!("clear; sh -c 'echo $$ > pid; exec {} top'; echo left with $?", binary().display()));
    terminal.press(&["Enter"]);
    terminal.shows("the apps", apps).await;
    let id = std::fs::read_to_string(at.join("pid")).unwrap();
    assert!(Command::new("kill").arg(id.trim()).status().unwrap().success());
    terminal.shows("the shell as it was", before).await;
    terminal.types("echo it works: $((40 + 2))");
    terminal.press(&["Enter"]);
    terminal
        .shows("that it echoes", |screen| screen.contains("echo it works") && screen.contains("it works: 42"))
        .await;
    drop(terminal);
    assert_eq!(node.process.terminate(), Some(0));
}

#[tokio::test]
async fn top_tells_scripts_rates_and_figures_and_wants_a_terminal_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let (node, mut client) = node_with_two_apps(&at).await;
    let told = {
        let at = at.clone();
        tokio::task::spawn_blocking(move || said(&run(&at, &["top", "--json", "--interval", "300ms"])))
    };
    // Somebody is busy as long as it looks.
    while !told.is_finished() {
        client.call("get_all_client_count", json!({})).await;
    }
    let told = told.await.unwrap();
    assert!(told["interval_ms"].as_u64().unwrap() >= 300, "{told}");
    let app = told["apps"].as_array().unwrap().iter().find(|app| app["app"] == "default/test").unwrap();
    assert!(
        app["turns_per_s"].as_f64().unwrap() > 1.0 && app["events_per_s"].as_f64().unwrap() > 1.0,
        "{told}"
    );
    assert!(app["turn_p99_us"].as_u64().is_some() && app["clients"] == 1 && app["failed"] == 0, "{told}");
    assert!(
        told["nodes"][0]["ready"] == true && told["nodes"][0]["memory_bytes"].as_u64().unwrap() > 1 << 20,
        "{told}"
    );
    assert!(told["nodes"][0]["cpu_cores"].as_f64().unwrap() > 0.0, "{told}");
    assert_eq!((&told["tenants"][0]["tenant"], &told["tenants"][0]["apps"]), (&json!("default"), &json!(2)));

    let once = run(&at, &["top", "--once", "--interval", "100ms", "--filter", "OTHER"]);
    let lines: Vec<_> = once.stdout.lines().collect();
    assert_eq!((once.code, lines.len()), (0, 2), "{}{}", once.stdout, once.stderr);
    assert!(lines[0].starts_with("APP ") && lines[1].starts_with("default/other "), "{}", once.stdout);
    let none = run(&at, &["top"]);
    assert!(none.code == 64 && none.stderr.contains("--once"), "{}", none.stderr);
    assert_eq!(node.process.terminate(), Some(0));
    let gone = run(&at, &["top", "--once"]);
    assert!(gone.code == 69 && gone.stderr.contains("no node runs"), "{}", gone.stderr);
}

#[tokio::test]
async fn top_shows_every_node_of_a_cluster_and_which_of_them_is_silent() {
    let folder = cluster_folder();
    let at = folder.path();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    let mut client = Client::of_callbacks(gateway.listener("ws")).await;
    client.call("get_all_client_count", json!({})).await;

    let asked = ["top", "--json", "--interval", "100ms"];
    let by_operator = ["--register", &registers, "--identity", "certs/ann"];
    for whom in [&by_operator[..], &["-c", "register.toml"]] {
        let told = said(&run(at, &[&asked, whom].concat()));
        let nodes = told["nodes"].as_array().unwrap();
        let named: Vec<_> = nodes.iter().map(|it| (&it["node"], &it["role"], &it["ready"])).collect();
        let (yes, names) = (json!(true), ["register-1", "gateway-1", "worker-1"].map(|name| json!(name)));
        let roles = ["register", "gateway", "worker"].map(|role| json!(role));
        let expected: Vec<_> = names.iter().zip(&roles).map(|(name, role)| (name, role, &yes)).collect();
        assert_eq!(named, expected, "{told}");
        // The clients are the gateway's, the slots the worker's.
        let app = &told["apps"][0];
        assert_eq!(
            (&app["app"], &app["clients"], &app["slots"]),
            (&json!("default/test"), &json!(1), &json!(2))
        );
    }
    // Who is no register knows itself alone.
    let told = said(&run(at, &[&asked[..], &["--data-dir", "data/w1"]].concat()));
    assert_eq!(told["nodes"].as_array().unwrap().len(), 1, "{told}");
    worker.process.freeze();
    let once = run(at, &["top", "--once", "--interval", "100ms", "--view", "nodes", "-c", "register.toml"]);
    let of_worker = once.stdout.lines().find(|line| line.starts_with("worker-1 ")).unwrap_or_default();
    assert!(once.code == 0 && of_worker.contains(" silent "), "{}{}", once.stdout, once.stderr);
}
