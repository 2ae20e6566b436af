//! What one turn costs: on-message with a payload of 64 bytes, and one send-to-client into a buffer.
//!
//! `cargo bench -p tidegate-runtime` prints the best and the median of 20 rounds, in nanoseconds.

#[path = "../tests/support/mod.rs"]
mod support;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use support::{CLIENT, engine, module};
use tidegate_base::{Addresses, Answered, Command, MessageKind, Query};
use tidegate_runtime::{Instance, Limits, LogLevel, PluginHost, SlowPool, SlowPoolSettings, Template};

const TURNS: u32 = 200_000;
const ROUNDS: usize = 20;

struct Buffer(Vec<u8>);

impl PluginHost for Buffer {
    fn command(&mut self, command: Command<'_>) {
        if let Command::SendTo(_, message) = command {
            self.0.extend_from_slice(message.payload);
        }
    }

    fn query(&mut self, _query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        Box::pin(std::future::pending())
    }

    fn fail(&mut self, _reason: &str) {}

    fn addresses(&self) -> Option<Addresses> {
        None
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

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let engine = engine();
    let template = Template::new(&engine, &module(&engine)).expect("the guest links");
    let pool = SlowPool::new(&SlowPoolSettings::default()).expect("a pool");
    runtime.block_on(async {
        for bytes in [0, 64, 1024, 16 * 1024] {
            let host = Buffer(Vec::with_capacity(1 << 20));
            let plugin = Instance::start(&template, host, Limits::default()).await.expect("the guest starts");
            tokio::spawn(pool.movable(rounds(plugin, bytes))).await.expect("the rounds end");
        }
    });
    println!("{:?}", pool.stats());
}

async fn rounds(mut plugin: Instance<Buffer>, bytes: usize) {
    let payload = vec![7; bytes];
    let mut nanos = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for n in 0..TURNS {
            plugin.on_message(CLIENT, MessageKind::Binary, &payload).await.expect("a turn");
            if n % 32 == 31 {
                plugin.host().0.clear();
            }
        }
        nanos.push(start.elapsed().as_nanos() / u128::from(TURNS));
        tokio::task::yield_now().await;
    }
    nanos.sort_unstable();
    println!("a turn with {bytes} bytes: best {} ns, median {} ns", nanos[0], nanos[ROUNDS / 2]);
}
