//! `dev`, `up`, `register`, `gateway`, `worker`: a node from its settings to the signal that ends it. The main thread
//! waits; the node has threads of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_base::Role;
use tidegate_node::config::{BuildOutput, Place, Precedence};
use tidegate_node::watch::Watch;
use tidegate_node::{Config, ConfigError, Node, Overrides};
use tidegate_runtime::{ChildCompiler, Compiler};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{DevArgs, UpArgs};
use crate::failure::{Failure, Outcome};
use crate::notify::Manager;
use crate::output::{Output, note};
use crate::watch;

/// A node may take so much longer to stop than its settings say: threads and links end after that.
const STOP_MORE: Duration = Duration::from_secs(5);
/// How long the line `ready` waits for the rest of the cluster.
const START_WAIT: Duration = Duration::from_secs(10);

pub(crate) fn dev(args: &DevArgs) -> Outcome {
    let overrides = args.node.overrides();
    let file = args.path.join("tidegate.toml");
    let mut config = if file.is_file() {
        Config::load(&file, std::env::vars_os(), &overrides)?
    } else {
        let text = settings_of_a_plugin(&args.path)?;
        Config::parse(&text, &file, std::env::vars_os(), &overrides)?
    };
    if !matches!(config.place, Place::AllInOne) {
        return Err(Failure::new(
            Failure::CONFIG,
            "these settings are those of a node of a cluster, and `dev` runs everything in one process: use `tidegate \
             up`, or leave [cluster] identity out",
        ));
    }
    // What its user has just written is not compiled at arm's length.
    config.worker.compiler = Compiler::InProcess;
    // What is on the disk, whatever was saved, deployed or rolled back before.
    config.precedence = Precedence::Settings;
    // Beside what the settings say of it: on loopback, with a token that lies in the data folder.
    config.admin.get_or_insert_default().for_dev = true;
    // Before the first build, so that nothing that is saved meanwhile is missed.
    let watch = Watch::new(&config).map_err(Failure::with(Failure::DATA))?;
    run(config, Output { json: args.node.json }, Some(watch))
}

pub(crate) fn up(args: &UpArgs, role: Option<Role>) -> Outcome {
    let overrides = Overrides {
        roles: role.map(|role| vec![role]).or_else(|| args.roles.clone()),
        name: args.name.clone(),
        registers: args.registers.clone(),
        identity: args.identity.clone(),
        ..args.node.overrides()
    };
    let mut config = Config::load(&args.config, std::env::vars_os(), &overrides)?;
    let program = std::env::current_exe().map_err(Failure::with(Failure::SOFTWARE))?;
    config.worker.compiler = Compiler::Child(ChildCompiler::new(program, "compile-child"));
    run(config, Output { json: args.node.json }, None)
}

/// What a folder without settings means: its plugin, on the usual port, with the page in `web` if there is one.
fn settings_of_a_plugin(folder: &Path) -> Result<String, Failure> {
    let folder = folder.canonicalize().map_err(|error| {
        let path = folder.display();
        Failure::new(Failure::USAGE, format!("{path}: {error}; name the folder of a plugin or an app"))
    })?;
    let name = app_name(&folder);
    let web = if folder.join("web").is_dir() { "web = \"web\"\n" } else { "" };
    Ok(format!("[[app]]\nname = \"{name}\"\nplugin = \".\"\nlisten = [\"ws://127.0.0.1:7272\"]\n{web}"))
}

/// A name for an app out of that of its folder: `01-Echo` is `echo`.
fn app_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain: String =
        name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let start = plain.find(|c: char| c.is_ascii_lowercase()).unwrap_or(plain.len());
    let short: String = plain.chars().skip(start).take(63).collect();
    if short.is_empty() { "app".to_owned() } else { short }
}

fn run(mut config: Config, output: Output, watch: Option<Watch>) -> Outcome {
    tidegate_telemetry::init_logging(&config.log);
    config.worker.build = BuildOutput::Stderr;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::with(Failure::SOFTWARE))?;
    let done = runtime.block_on(live(config, output, watch));
    // A build that a signal has cut short must not hold up the end.
    runtime.shutdown_background();
    done
}

async fn live(config: Config, output: Output, watch: Option<Watch>) -> Outcome {
    let mut signals = Signals::new().map_err(Failure::with(Failure::SOFTWARE))?;
    // From the start: without anybody who listens it would end the process.
    let mut hang_up = signal(SignalKind::hangup()).map_err(Failure::with(Failure::SOFTWARE))?;
    // As well: a file that has reached a limit on its size is to be an error of the write, not the end of the node.
    let _file_size = signal(FILE_SIZE).map_err(Failure::with(Failure::SOFTWARE))?;
    let manager = Manager::of_this_process();
    let stop_wait = config.stop_wait;
    let node = tokio::select! {
        node = Node::start(config) => node?,
        _ = signals.next() => return Ok(()),
    };
    output.listening(node.addresses());
    if node.addresses().listeners.is_empty() && node.status().roles.contains(&Role::Gateway) {
        note("no app listens: add an [[app]] to the settings file");
    }
    let complete = tokio::select! {
        complete = node.wait_started(START_WAIT) => Some(complete),
        _ = signals.next() => None,
    };
    // None: it was stopped before it had started.
    if let Some(complete) = complete {
        if !complete {
            note("not linked to the whole cluster yet; it goes on trying");
        }
        output.ready(node.addresses(), complete);
        let status = if complete { "it takes part" } else { "not linked to the whole cluster yet" };
        manager.ready(status);
        let _watching = watch.map(|watch| watch::start(watch, &node, output)).transpose()?;
        serve(&node, &mut signals, &mut hang_up, &manager, status).await;
    }
    manager.stopping(stop_wait + STOP_MORE);
    note("stopping; a second signal ends it at once");
    tokio::select! {
        () = node.stop() => output.stopped(),
        number = signals.next() => std::process::exit(128 + number),
    }
    Ok(())
}

/// Until a signal ends it. A hang-up makes it read its certificates again.
async fn serve(node: &Node, signals: &mut Signals, hang_up: &mut Signal, manager: &Manager, status: &str) {
    loop {
        tokio::select! {
            _ = signals.next() => return,
            _ = hang_up.recv() => {
                manager.reloading();
                match node.reload_identity() {
                    Ok(()) => note("read the certificate again"),
                    Err(error) => note(format_args!("the certificate stays as it was: {error}")),
                }
                match node.reload_tls() {
                    Ok(()) if node.addresses().admin_tls => note("read the certificate of the HTTP API again"),
                    Ok(()) => {}
                    Err(error) => note(format_args!("the certificate of the HTTP API stays as it was: {error}")),
                }
                manager.ready(status);
            }
        }
    }
}

/// What the system sends when a file would grow beyond the limit of the process.
const FILE_SIZE: SignalKind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());

/// The signals that end a node, and whatever else runs until somebody ends it.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one that ends it.
    pub async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        kind.as_raw_value()
    }
}

/// Where the node keeps its files that these settings describe.
pub(crate) fn data_dir(file: Option<&PathBuf>) -> Result<PathBuf, ConfigError> {
    let usual = Path::new("tidegate.toml");
    let none = Overrides::default();
    match file {
        Some(file) => Ok(Config::load(file, std::env::vars_os(), &none)?.data_dir),
        None if usual.is_file() => Ok(Config::load(usual, std::env::vars_os(), &none)?.data_dir),
        None => Ok(Config::parse("", usual, std::env::vars_os(), &none)?.data_dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_gives_a_name_that_an_app_can_have() {
        for (folder, name) in [
            ("/x/01-echo", "echo"),
            ("/x/Chat Room", "chat-room"),
            ("/x/..", "app"),
            ("/", "app"),
            ("/x/123", "app"),
            ("/x/Ünï", "n-"),
        ] {
            assert_eq!(app_name(Path::new(folder)), name, "{folder}");
            tidegate_base::AppName::new(name).unwrap();
        }
    }

    #[test]
    fn a_plugin_without_settings_listens_on_the_usual_port() {
        let text = settings_of_a_plugin(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let config = Config::parse(&text, Path::new("/x/tidegate.toml"), [], &Overrides::default()).unwrap();
        assert_eq!(config.apps[0].name.as_str(), "default/cli");
        assert_eq!(config.apps[0].listeners[0].address.port(), 7272);
        assert_eq!(config.apps[0].web, None);
    }
}
