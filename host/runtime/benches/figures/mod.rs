//! What the benchmarks of instances share: a host for any plugin, a module from the command line, percentiles.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each benchmark uses a part of this module")]
#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot be set up has failed")]

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tidegate_base::{Addresses, Answer, Answered, Command, Protocol, Query};
use tidegate_runtime::{Compiler, Engine, LogLevel, Module, Modules, PluginHost};

/// A host that counts what is sent to clients, and lets everything else pass.
#[derive(Debug, Default)]
pub struct Counting {
    pub sent: u64,
}

impl PluginHost for Counting {
    fn command(&mut self, command: Command<'_>) {
        self.sent += u64::from(matches!(command, Command::SendTo(..)));
    }

    fn query(&mut self, _query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        Box::pin(std::future::ready(Answered { answer: Answer::Count(1), missing: Vec::new() }))
    }

    fn fail(&mut self, reason: &str) {
        panic!("the plugin failed its turn: {reason}");
    }

    fn addresses(&self) -> Option<Addresses> {
        let local = "127.0.0.1:80".parse().expect("an address");
        Some(Addresses { remote: local, local, protocol: Protocol::Ws })
    }

    fn session(&mut self) -> Option<&str> {
        None
    }

    fn set_timer(&mut self, _key: &str, _after: Duration, _every: Option<Duration>) {}

    fn cancel_timer(&mut self, _key: &str) {}

    fn log(&mut self, _level: LogLevel, _line: &str) {}

    fn setting(&self, _key: &str) -> Option<&str> {
        None
    }

    fn settings(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// The arguments without those of cargo.
pub fn arguments() -> impl Iterator<Item = String> {
    std::env::args().skip(1).filter(|argument| argument != "--bench")
}

/// The module that an argument names, compiled in this process.
pub fn module(engine: &Engine, path: Option<String>) -> Module {
    let modules = Modules::new(engine.clone(), Compiler::InProcess, None);
    match path.map(PathBuf::from) {
        Some(path) => {
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            modules.load(&bytes).expect("the module loads")
        }
        None => modules.load(super::support::guest()).expect("the guest loads"),
    }
}

/// CPU time of this thread so far, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    cpu_ns(rustix::time::ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process so far, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    cpu_ns(rustix::time::ClockId::ProcessCPUTime)
}

fn cpu_ns(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Percentiles of what was measured, in nanoseconds.
pub struct Figures(Vec<u64>);

impl Figures {
    pub fn of(mut nanos: Vec<u64>) -> Self {
        nanos.sort_unstable();
        Self(nanos)
    }

    fn at(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).map_or(f64::NAN, |nanos| *nanos as f64 / 1e3)
    }
}

/// A row of a Markdown table.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| self.at(percent));
        write!(f, "| {p50:.1} | {p90:.1} | {p99:.1} | {max:.1} |")
    }
}
