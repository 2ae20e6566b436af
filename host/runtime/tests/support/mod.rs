//! What the runtime's tests share: the guest of `tests/guest`, and a host that records what it is asked for.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of this module")]

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Command as Process;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{
    Addresses, Answer, Answered, ClientId, Command, GatewayId, MessageKind, Protocol, Query,
};
use tidegate_runtime::{
    Compiler, Engine, EngineSettings, Instance, Limits, LogLevel, Module, Modules, PluginHost, Template,
};

/// The guest's component, built once per process; cargo's own lock orders processes.
pub fn guest() -> &'static [u8] {
    static GUEST: LazyLock<Vec<u8>> = LazyLock::new(build_guest);
    &GUEST
}

fn build_guest() -> Vec<u8> {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("TIDEGATE_GUEST_TARGET")
        .map_or_else(|| runtime.join("../../target/guest-runtime"), Into::into);
    let mut build = Process::new("cargo");
    // The cargo that runs this test has set variables for its own build.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO") && name_text != "CARGO_HOME" || name_text.starts_with("RUST") {
            build.env_remove(&name);
        }
    }
    let prepared = Process::new("rustup").args(["run", "tidegate-guest", "rustc", "--version"]).output();
    if prepared.is_ok_and(|output| output.status.success()) {
        build.env("RUSTUP_TOOLCHAIN", "tidegate-guest");
    }
    let output = build
        .args(["build", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .current_dir(runtime.join("tests/guest"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(target.join("wasm32-wasip2/release/runtime_guest.wasm")).expect("the guest is there")
}

pub fn engine() -> Engine {
    Engine::new(&EngineSettings { instances: 20, memory_mib: 256 }).expect("an engine")
}

/// The guest, compiled once per process.
pub fn module(engine: &Engine) -> Module {
    Modules::new(engine.clone(), Compiler::InProcess, None).load(guest()).expect("the guest compiles")
}

pub const CLIENT: ClientId = ClientId { gateway: GatewayId::new(0x0123_4567_89ab), connection: 7 };

/// What a [`Recorder`] was asked for.
#[derive(Default)]
pub struct Record {
    pub commands: Vec<String>,
    pub sent: Vec<String>,
    pub queries: Vec<Query>,
    pub failures: Vec<String>,
    pub log: Vec<(LogLevel, String)>,
    pub threads: Vec<String>,
    pub answers: VecDeque<Answer>,
}

pub type Wait = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A host that writes everything down.
#[derive(Clone, Default)]
pub struct Recorder {
    pub record: Arc<Mutex<Record>>,
    /// What a query waits for.
    pub wait: Option<Wait>,
    pub addresses: Option<Addresses>,
}

impl Recorder {
    pub fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.record.lock().sent)
    }

    pub fn log(&self) -> Vec<(LogLevel, String)> {
        std::mem::take(&mut self.record.lock().log)
    }

    pub fn failures(&self) -> Vec<String> {
        std::mem::take(&mut self.record.lock().failures)
    }
}

impl PluginHost for Recorder {
    fn command(&mut self, command: Command<'_>) {
        let mut record = self.record.lock();
        record.threads.push(std::thread::current().name().unwrap_or("").to_owned());
        if let Command::SendTo(client, message) = &command
            && *client == CLIENT
            && message.kind == MessageKind::Text
        {
            let text = String::from_utf8(message.payload.to_vec()).expect("text");
            record.sent.push(text);
        } else {
            record.commands.push(format!("{command:?}"));
        }
    }

    fn query(&mut self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let answer = {
            let mut record = self.record.lock();
            record.threads.push(std::thread::current().name().unwrap_or("").to_owned());
            record.queries.push(query);
            record.answers.pop_front().unwrap_or(Answer::Count(42))
        };
        let wait = self.wait.clone();
        Box::pin(async move {
            if let Some(wait) = wait {
                wait().await;
            }
            Answered { answer, missing: vec![GatewayId::new(9)] }
        })
    }

    fn fail(&mut self, reason: &str) {
        self.record.lock().failures.push(reason.to_owned());
    }

    fn addresses(&self) -> Option<Addresses> {
        self.addresses
    }

    fn session(&mut self) -> Option<&str> {
        self.addresses.map(|_| r#"{"a":1}"#)
    }

    fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>) {
        self.record.lock().commands.push(format!("timer {key} {after:?} {every:?}"));
    }

    fn cancel_timer(&mut self, key: &str) {
        self.record.lock().commands.push(format!("cancel {key}"));
    }

    fn log(&mut self, level: LogLevel, line: &str) {
        self.record.lock().log.push((level, line.to_owned()));
    }

    fn setting(&self, key: &str) -> Option<&str> {
        (key == "colour").then_some("red")
    }

    fn settings(&self) -> Vec<(String, String)> {
        vec![("colour".to_owned(), "red".to_owned()), ("size".to_owned(), "3".to_owned())]
    }
}

pub fn addresses() -> Addresses {
    Addresses {
        remote: "192.0.2.1:1234".parse().expect("an address"),
        local: "[::1]:80".parse().expect("an address"),
        protocol: Protocol::Ws,
    }
}

/// The guest with a recorder.
pub async fn start(engine: &Engine, host: Recorder, limits: Limits) -> Instance<Recorder> {
    let template = Template::new(engine, &module(engine)).expect("the guest links");
    Instance::start(&template, host, limits).await.expect("the guest starts")
}

pub async fn text(instance: &mut Instance<Recorder>, text: &str) -> Result<(), tidegate_runtime::Fault> {
    instance.on_message(CLIENT, MessageKind::Text, text.as_bytes()).await
}
