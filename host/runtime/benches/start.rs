//! How long an instance takes from its start to its first answers: compiled, linked, in the engine's pool.
//!
//! `cargo bench -p tidegate-runtime --bench start [-- MODULE.wasm [STARTS]]` prints microseconds as Markdown. The module is
//! to take any text; by default it is the guest of the runtime's tests.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has failed")]

mod figures;
#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use figures::{Counting, Figures, arguments, module, thread_cpu_ns};
use support::CLIENT;
use tidegate_base::{CpuShare, MessageKind};
use tidegate_runtime::{
    CpuBudget, Engine, EngineSettings, Instance, Limits, StartInfo, StartReason, Template,
};

const STARTS: usize = 5_000;
/// Not measured: the allocator, the pool and the caches get what they need.
const WARM_UP: usize = 200;
/// Starts in places of the pool that nobody has used yet.
const NEW_PLACES: usize = 500;

fn main() {
    let mut arguments = arguments();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let settings = EngineSettings { instances: (NEW_PLACES + 10) as u32, ..EngineSettings::default() };
    let engine = Engine::new(&settings).expect("an engine");
    let template = Template::new(&engine, &module(&engine, arguments.next())).expect("the module links");
    let starts = arguments.next().map_or(STARTS, |starts| starts.parse().expect("a number of starts"));
    runtime.block_on(async {
        let mut used = Times::default();
        for number in 0..WARM_UP + starts {
            let (instance, took) = start(&template).await;
            let began = Instant::now();
            drop(instance);
            let ended = nanos(began);
            if number >= WARM_UP {
                used.push(took, ended);
            }
        }
        used.print(&format!("{starts} starts, one at a time, in a place of the pool that was used before"));
        let (mut new, mut held) = (Times::default(), Vec::new());
        for _ in 0..NEW_PLACES {
            let (instance, took) = start(&template).await;
            held.push(instance);
            new.push(took, 0);
        }
        new.print(&format!("{NEW_PLACES} starts that stay, in places that nobody has used"));
    });
}

/// Nanoseconds from the beginning.
struct Took {
    /// The instance is there.
    made: u64,
    /// on-worker-start has returned.
    started: u64,
    /// The first message is answered.
    answered: u64,
    /// CPU time of all that.
    cpu: u64,
}

async fn start(template: &Template<Counting>) -> (Instance<Counting>, Took) {
    let budget = Arc::new(CpuBudget::new(CpuShare::MAX));
    let (began, cpu) = (Instant::now(), thread_cpu_ns());
    let starting = Instance::start_within(template, Counting::default(), Limits::default(), &budget);
    let mut instance = starting.await.expect("the plugin starts");
    let made = nanos(began);
    let info = StartInfo { slot: 0, slots: 1, worker: "bench".into(), version: 1, reason: StartReason::New };
    instance.on_worker_start(&info).await.expect("on-worker-start ends well");
    let started = nanos(began);
    instance.on_message(CLIENT, MessageKind::Text, b"echo hello").await.expect("the message is answered");
    let answered = nanos(began);
    (instance, Took { made, started, answered, cpu: thread_cpu_ns() - cpu })
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

#[derive(Default)]
struct Times {
    made: Vec<u64>,
    started: Vec<u64>,
    answered: Vec<u64>,
    cpu: Vec<u64>,
    ended: Vec<u64>,
}

impl Times {
    fn push(&mut self, took: Took, ended: u64) {
        self.made.push(took.made);
        self.started.push(took.started);
        self.answered.push(took.answered);
        self.cpu.push(took.cpu);
        self.ended.push(ended);
    }

    fn print(self, what: &str) {
        println!("{what}:\n\n| microseconds | p50 | p90 | p99 | max |\n| --- | --- | --- | --- | --- |");
        println!("| the instance is there {}", Figures::of(self.made));
        println!("| on-worker-start has returned {}", Figures::of(self.started));
        println!("| the first message is answered {}", Figures::of(self.answered));
        println!("| CPU until then {}", Figures::of(self.cpu));
        if self.ended.iter().any(|nanos| *nanos > 0) {
            println!("| to end it, besides {}", Figures::of(self.ended));
        }
        println!();
    }
}
