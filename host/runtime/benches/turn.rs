//! What one turn costs: on-message with a payload of 64 bytes, and one send-to-client into a buffer.
//!
//! `cargo test --release -p tidegate-runtime --bench turn` prints the best and the median of 20 rounds, in nanoseconds.
#![expect(clippy::expect_used, reason = "a test or benchmark that cannot be set up has failed")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use support::{Buffer, CLIENT, engine, module};
use tidegate_base::MessageKind;
use tidegate_runtime::{Instance, Limits, SlowPool, SlowPoolSettings, Template};

const TURNS: u32 = 200_000;
const ROUNDS: usize = 20;

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
