//! What the runtime's tests share: the guest of `tests/guest`, and a host that records what it is asked for.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of this module")]
#![allow(clippy::expect_used, clippy::panic, reason = "outside of `#[test]` functions, but for tests only")]

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_base::{
    Addresses, Answer, Answered, ClientId, Command, GatewayId, MessageKind, Protocol, Query,
};
use tidegate_build::{BuildRequest, Event, Progress, build};
use tidegate_runtime::{
    Compiler, Engine, EngineSettings, Instance, Limits, LogLevel, Module, Modules, PluginHost, Template,
};

/// The guest's component, built once per process if it has changed.
pub fn guest() -> &'static [u8] {
    static GUEST: LazyLock<Vec<u8>> = LazyLock::new(build_guest);
    &GUEST
}

fn build_guest() -> Vec<u8> {
    struct Quiet;
    impl Progress for Quiet {
        fn event(&mut self, _event: Event<'_>) {}
    }
    let running = std::env::current_exe().expect("this program");
    // A file that cargo writes into every target folder.
    let target = running.ancestors().find(|folder| folder.join(".rustc_info.json").is_file());
    let request = BuildRequest {
        target_dir: target.map(|target| target.join("guest")),
        ..BuildRequest::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest")).leaving_rustup_alone()
    };
    let built = build(&request, &mut Quiet).expect("the guest builds");
    std::fs::read(built.wasm).expect("the guest is there")
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
    /// Each command breaks a rule, and this is it.
    pub rule: Option<String>,
    pub broke_rule: bool,
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
        self.broke_rule = self.rule.is_some();
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

    fn broken_rule(&self) -> Option<&str> {
        self.rule.as_deref().filter(|_| self.broke_rule)
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

/// Copies what is sent into a buffer, as a worker does.
pub struct Buffer(pub Vec<u8>);

impl PluginHost for Buffer {
    fn command(&mut self, command: Command<'_>) {
        if let Command::SendTo(_, message) = command {
            self.0.extend_from_slice(message.payload);
        }
    }

    fn query(&mut self, _query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        Box::pin(std::future::pending())
    }

    fn fail(&mut self, reason: &str) {
        panic!("{reason}");
    }

    fn addresses(&self) -> Option<Addresses> {
        None
    }

    fn session(&mut self) -> Option<&str> {
        None
    }

    fn set_timer(&mut self, _key: &str, _after: Duration, _every: Option<Duration>) {}

    fn cancel_timer(&mut self, _key: &str) {}

    fn log(&mut self, _level: LogLevel, line: &str) {
        panic!("{line}");
    }

    fn setting(&self, _key: &str) -> Option<&str> {
        None
    }

    fn settings(&self) -> Vec<(String, String)> {
        Vec::new()
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
