//! By how much a turn exceeds its CPU limit before it is stopped, on a machine that is idle else, and with every core kept
//! busy by other processes: CPU time of the whole process but the thread that interrupts guests, whose time stands in rows
//! of its own. It ticks each millisecond for as long as the turn lasts, however little of that the turn gets a core.
//!
//! `cargo bench -p tidegate-runtime --bench overrun [-- MODULE.wasm [TEXT [TURNS]]]` prints microseconds as Markdown. The
//! module is to loop for ever when it gets the text; by default it is the guest of the runtime's tests.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot be set up has failed")]

mod figures;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use figures::{Counting, Figures, arguments, module, process_cpu_ns};
use support::CLIENT;
use tidegate_base::MessageKind;
use tidegate_runtime::{
    Engine, EngineSettings, Fault, Instance, Limits, SlowPool, SlowPoolSettings, Template,
};

const TURNS: usize = 200;
/// What makes this program keep a core busy until its input ends.
const BURN: &str = "--burn";

fn main() {
    if std::env::args().any(|argument| argument == BURN) {
        return burn();
    }
    let mut arguments = arguments();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let engine = Engine::new(&EngineSettings { instances: 4, memory_mib: 64 }).expect("an engine");
    let template = Template::new(&engine, &module(&engine, arguments.next())).expect("the module links");
    let text = arguments.next().unwrap_or_else(|| "spin".to_owned());
    let turns = arguments.next().map_or(TURNS, |turns| turns.parse().expect("a number of turns"));
    let pool = SlowPool::new(&SlowPoolSettings::default()).expect("a pool");
    let limit_ms = Limits::default().turn_cpu_ms;
    println!("CPU time beyond {limit_ms} ms, {turns} turns each\n");
    println!("| microseconds | p50 | p90 | p99 | max |\n| --- | --- | --- | --- | --- |");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (what, burners) in [("alone", 0), ("every core busy", cores)] {
        let burners: Vec<_> = (0..burners).map(|_| Burner::start()).collect();
        let turns = overruns(template.clone(), text.clone(), turns);
        let (over, ticks) =
            runtime.block_on(async { tokio::spawn(pool.movable(turns)).await.expect("the turns end") });
        drop(burners);
        println!("| {what} {}", Figures::of(over));
        println!("| {what}: the ticker meanwhile {}", Figures::of(ticks));
    }
}

/// Nanoseconds of CPU time that each turn used beyond its limit, and that the ticker used meanwhile.
async fn overruns(template: Template<Counting>, text: String, turns: usize) -> (Vec<u64>, Vec<u64>) {
    let limits = Limits { turn_wall_ms: 600_000, ..Limits::default() };
    let (mut over, mut ticks) = (Vec::with_capacity(turns), Vec::with_capacity(turns));
    for _ in 0..turns {
        let starting = Instance::start(&template, Counting::default(), limits);
        let mut instance = starting.await.expect("the plugin starts");
        let before = (process_cpu_ns(), ticker_cpu_ns());
        let ended = instance.on_message(CLIENT, MessageKind::Text, text.as_bytes()).await;
        let (process, ticker) = (process_cpu_ns() - before.0, ticker_cpu_ns() - before.1);
        match ended {
            Err(Fault::CpuLimit { .. }) => {
                over.push((process - ticker).saturating_sub(limits.turn_cpu_ms * 1_000_000));
                ticks.push(ticker);
            }
            other => panic!("the plugin is to loop for ever when it gets {text:?}, and did not: {other:?}"),
        }
    }
    (over, ticks)
}

/// CPU time of the engine's ticker so far, in nanoseconds; to its last sleep, which is where it nearly always is.
fn ticker_cpu_ns() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let of = |thread: PathBuf, what| std::fs::read_to_string(thread.join(what)).expect("about a thread");
    let mut paths = threads.map(|thread| thread.expect("a thread").path());
    let ticker = paths.find(|thread| of(thread.clone(), "comm").trim() == "tidegate-ticker");
    let about = of(ticker.expect("the engine's ticker"), "schedstat");
    let cpu = about.split_ascii_whitespace().next().and_then(|cpu| cpu.parse().ok());
    cpu.expect("its CPU time")
}

/// A process that keeps a core busy.
struct Burner(Child);

impl Burner {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        Self(command.arg(BURN).stdin(Stdio::piped()).spawn().expect("this program starts once more"))
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Until whoever started this is gone or has had enough.
fn burn() {
    let input = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    while !input.is_finished() {
        for n in 0..100_000_u64 {
            std::hint::black_box(n);
        }
    }
}
