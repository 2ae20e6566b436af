//! What an engine assumes of the kernel. Alone in its binary: mappings are the whole process's.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use support::{Recorder, module, text};
use tidegate_runtime::{Engine, EngineSettings, Instance, Limits, Template};

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn an_instance_needs_no_more_mappings_than_the_engine_counts_with() {
    const INSTANCES: usize = 200;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    support::guest();
    let before = mappings();
    let settings = EngineSettings { instances: 200, memory_mib: 64 };
    let engine = Engine::new(&settings).unwrap();
    let template = Template::new(&engine, &module(&engine)).unwrap();
    let mut plugins = Vec::new();
    runtime.block_on(async {
        for _ in 0..INSTANCES {
            let mut plugin =
                Instance::start(&template, Recorder::default(), Limits::default()).await.unwrap();
            text(&mut plugin, "grow 1").await.unwrap();
            plugins.push(plugin);
        }
    });
    let each = (mappings() - before) / INSTANCES;
    println!("{each} mappings each");
    assert!(each <= 12, "{each}");
}
