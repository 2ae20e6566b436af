use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, prlimit, waitpid,
};
use serde_json::Value;

/// The real `tidegate`, built once per test run with the tests' own profile.
pub fn binary() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT
        .get_or_init(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            // What the surrounding `cargo test` says of this package is not of that build, and some build scripts
            // run anew when it changes.
            let of_this_package = |name: &str| {
                ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                    .iter()
                    .any(|start| name.starts_with(start))
            };
            let mut build = Command::new(cargo);
            for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
                if of_this_package(&name) {
                    build.env_remove(&name);
                }
            }
            let built = build
                .args([
                    "build",
                    "--release",
                    "--quiet",
                    "--bin",
                    "tidegate",
                    "--message-format=json-render-diagnostics",
                ])
                .current_dir(&root)
                .stderr(Stdio::inherit())
                .output()
                .expect("cargo runs");
            assert!(built.status.success(), "the binary does not build");
            let lines = String::from_utf8_lossy(&built.stdout).into_owned();
            let path = lines.lines().find_map(|line| {
                let message: Value = serde_json::from_str(line).ok()?;
                let is_ours = message["target"]["name"] == "tidegate";
                is_ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
            });
            path.expect("cargo names the binary")
        })
        .clone()
}

/// A command that runs the real `tidegate` in this folder. Building a plugin, it leaves the machine's toolchains as they
/// are, unless the tests' own environment says where a missing one comes from.
pub fn tidegate(folder: &Path) -> Command {
    const TOOLCHAIN: &str = "TIDEGATE_GUEST_TOOLCHAIN";
    let mut command = Command::new(binary());
    command.current_dir(folder);
    if std::env::var_os(TOOLCHAIN).is_none_or(|choice| choice.is_empty()) {
        command.env(TOOLCHAIN, "debian");
    }
    command
}

/// `dev` builds a plugin before it is ready, next to other builds.
const BUILD_DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

/// A process of the real binary. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `tidegate` with these arguments in this folder. It logs to where this process does.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::logging(folder, arguments, Stdio::inherit())
    }

    /// Starts `tidegate` with these arguments in this folder, with another place for its log.
    pub fn logging(folder: &Path, arguments: &[&str], log: Stdio) -> Self {
        let mut child = tidegate(folder)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("its output");
        let (tx, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line of its output for which `wanted` has a value.
    pub fn line<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        loop {
            match self.lines.recv_timeout(BUILD_DEADLINE) {
                Ok(line) => {
                    if let Some(value) = wanted(&line) {
                        return value;
                    }
                }
                Err(_) => panic!("it never printed {what}"),
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its files may grow to so many bytes from now on, as if the disk were full there; None: as large as they like.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        // What it has from this process, and may not raise.
        let maximum = getrlimit(Resource::Fsize).maximum;
        self.limit(Rlimit { current: bytes.or(maximum), maximum });
    }

    /// As [`limit_file_size`](Self::limit_file_size), and it holds for good.
    pub fn limit_file_size_for_good(&self, bytes: u64) {
        self.limit(Rlimit { current: Some(bytes), maximum: Some(bytes) });
    }

    fn limit(&self, limit: Rlimit) {
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("a limit of its own");
    }

    /// Stops it in its tracks: it answers nothing and ends nothing.
    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("a process of its own");
        // The signal stops its threads one by one: on a busy machine, one could still answer after it was sent.
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("a process of its own");
    }

    fn pid(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// Asks it to stop and waits for its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        self.child.wait().expect("it was started").code()
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
