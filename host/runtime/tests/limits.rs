//! What a plugin must not do, with a real guest that does it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::{CLIENT, Recorder, engine, module, start, text};
use tidegate_base::{CpuShare, MessageKind};
use tidegate_runtime::{
    CpuBudget, CpuUse, Engine, EngineSettings, Fault, Instance, Limits, LogLevel, SlowPool, SlowPoolSettings,
    StartError, Template,
};
use tokio::task::yield_now;

fn cpu(turn_cpu_ms: u64) -> Limits {
    Limits { turn_cpu_ms, ..Limits::default() }
}

/// A task that counts how often it gets to run.
fn count_progress() -> (Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let task = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    (count, task)
}

#[tokio::test]
async fn a_trap_is_told_with_the_functions_that_led_to_it() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    let fault = text(&mut plugin, "trap now").await.unwrap_err();
    let Fault::Trap { message, backtrace } = &fault else { panic!("{fault:?}") };
    assert!(message.contains("unreachable"), "{message}");
    assert!(backtrace.contains("runtime_guest::trap_here"), "{backtrace}");
    let log = host.log();
    assert!(log.iter().any(|(level, line)| *level == LogLevel::Warn && line.contains("told to trap: now")));
    assert!(!plugin.is_usable());
    assert_eq!(text(&mut plugin, "echo x").await, Err(Fault::Unusable));
    assert!(host.sent().is_empty());
}

#[tokio::test]
async fn an_exit_is_a_trap() {
    let engine = engine();
    let mut plugin = start(&engine, Recorder::default(), Limits::default()).await;
    let fault = text(&mut plugin, "exit").await.unwrap_err();
    // wasi-libc only tells success from failure.
    assert!(fault.to_string().contains("it exited with code 1"), "{fault}");
}

#[tokio::test]
async fn an_endless_loop_is_stopped_and_its_shard_goes_on() {
    let engine = engine();
    let pool = SlowPool::new(&SlowPoolSettings { threads: 1, ..SlowPoolSettings::default() }).unwrap();
    let mut plugin = start(&engine, Recorder::default(), cpu(200)).await;
    let (count, counter) = count_progress();
    let (fault, usable) = tokio::spawn(pool.movable(async move {
        let fault = text(&mut plugin, "spin").await.unwrap_err();
        (fault, plugin.is_usable())
    }))
    .await
    .unwrap();
    counter.abort();
    let Fault::CpuLimit { limit_ms: 200, backtrace } = &fault else { panic!("{fault:?}") };
    assert!(backtrace.contains("spin_forever"), "{backtrace}");
    assert!(!usable);
    assert_eq!(pool.stats().moved, 1);
    // On one thread it would have been polled once per slice: about 200 times. Here it has a thread for itself.
    assert!(count.load(Ordering::Relaxed) > 2_000, "{count:?}");
}

#[tokio::test]
async fn without_a_pool_an_endless_loop_is_stopped_and_lets_others_run_at_each_tick() {
    let engine = engine();
    let mut plugin = start(&engine, Recorder::default(), cpu(60)).await;
    let (count, counter) = count_progress();
    assert_eq!(text(&mut plugin, "spin").await.unwrap_err().label(), "cpu-limit");
    counter.abort();
    assert!(count.load(Ordering::Relaxed) >= 5, "{count:?}");
}

#[tokio::test]
async fn a_turn_overruns_its_cpu_limit_by_at_most_10_ms() {
    let engine = engine();
    let used = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    };
    let mut overruns = Vec::new();
    for _ in 0..5 {
        let mut plugin = start(&engine, Recorder::default(), cpu(50)).await;
        let before = used();
        assert_eq!(text(&mut plugin, "spin").await.unwrap_err().label(), "cpu-limit");
        overruns.push(used() - before - 50);
    }
    // CPU time, not time; but the thread that ticks may come late on a busy machine, so the median counts.
    overruns.sort_unstable();
    assert!((-2..=10).contains(&overruns[2]), "{overruns:?}");
}

#[tokio::test]
async fn a_turn_that_runs_on_after_it_broke_a_rule_is_stopped_and_the_rule_is_the_reason() {
    let engine = engine();
    let host = Recorder { rule: Some("one too many".to_owned()), ..Recorder::default() };
    let pool = SlowPool::new(&SlowPoolSettings { threads: 1, ..SlowPoolSettings::default() }).unwrap();
    let mut plugin = start(&engine, host, cpu(600_000)).await;
    let spin = async move { (text(&mut plugin, "reply-spin x").await.unwrap_err(), plugin.is_usable()) };
    let (fault, usable) = tokio::spawn(pool.movable(spin)).await.unwrap();
    let Fault::Rule { reason, backtrace } = &fault else { panic!("{fault:?}") };
    assert_eq!((reason.as_str(), fault.label(), usable), ("one too many", "rule", false));
    assert!(backtrace.contains("spin_forever"), "{backtrace}");
    assert!(fault.to_string().starts_with("one too many; "), "{fault}");
}

#[tokio::test]
async fn a_turn_that_ends_after_it_broke_a_rule_keeps_its_instance() {
    let engine = engine();
    let host = Recorder { rule: Some("one too many".to_owned()), ..Recorder::default() };
    let mut plugin = start(&engine, host, cpu(50)).await;
    for _ in 0..1000 {
        text(&mut plugin, "echo x").await.unwrap();
    }
    assert!(plugin.is_usable());
}

#[tokio::test]
async fn a_turn_that_fails_by_its_own_word_may_run_on() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), cpu(40)).await;
    assert_eq!(text(&mut plugin, "fail-spin I give up").await.unwrap_err().label(), "cpu-limit");
    assert_eq!(host.failures(), ["I give up"]);
}

#[tokio::test]
async fn cpu_bound_turns_share_the_pool_and_each_ends_on_its_shard() {
    let engine = engine();
    let pool = SlowPool::new(&SlowPoolSettings { threads: 2, ..SlowPoolSettings::default() }).unwrap();
    let here = std::thread::current().name().unwrap_or("").to_owned();
    let mut tasks = Vec::new();
    for _ in 0..6 {
        let host = Recorder::default();
        let mut plugin = start(&engine, host.clone(), cpu(10_000)).await;
        tasks.push(tokio::spawn(pool.movable(async move {
            text(&mut plugin, "burn 30000000").await.unwrap();
            let home = std::thread::current().name().unwrap_or("").to_owned();
            (host, home)
        })));
    }
    for task in tasks {
        let (host, home) = task.await.unwrap();
        assert_eq!(home, here);
        assert_eq!(host.sent().len(), 1);
        // What the plugin asked for while it was away was asked for there.
        assert!(host.record.lock().threads[0].starts_with("tidegate-slow"));
    }
    assert!(pool.stats().moved >= 6);
}

#[tokio::test]
async fn a_turn_that_computes_and_asks_in_turns_asks_from_its_shard() {
    let engine = engine();
    let pool = SlowPool::new(&SlowPoolSettings { threads: 2, ..SlowPoolSettings::default() }).unwrap();
    let here = std::thread::current().name().unwrap_or("").to_owned();
    let host = Recorder { wait: Some(Arc::new(|| Box::pin(yield_now()))), ..Recorder::default() };
    let mut plugin = start(&engine, host.clone(), cpu(10_000)).await;
    tokio::spawn(pool.movable(async move { text(&mut plugin, "ask-burn 8 10000000").await }))
        .await
        .unwrap()
        .unwrap();
    let record = host.record.lock();
    assert_eq!(record.queries.len(), 8);
    assert!(record.threads[..8].iter().all(|thread| *thread == here), "{:?}", record.threads);
    assert!(pool.stats().moved >= 2);
}

#[tokio::test]
async fn waiting_for_a_query_costs_no_cpu_time() {
    let engine = engine();
    let wait = || tokio::time::sleep(Duration::from_millis(2));
    let host = Recorder { wait: Some(Arc::new(move || Box::pin(wait()))), ..Recorder::default() };
    let mut plugin = start(&engine, host.clone(), cpu(100)).await;
    // Waits that take twice the CPU limit together, with a little work between.
    text(&mut plugin, "ask-burn 100 1000").await.unwrap();
    assert_eq!(host.sent(), ["done"]);
}

#[tokio::test]
async fn work_between_waits_adds_up() {
    let engine = engine();
    let mut plugin = start(
        &engine,
        Recorder { wait: Some(Arc::new(|| Box::pin(yield_now()))), ..Recorder::default() },
        cpu(50),
    )
    .await;
    // Each piece ends within a tick or so, and there is no end of them.
    assert_eq!(text(&mut plugin, "ask-burn 4000000000 100000").await.unwrap_err().label(), "cpu-limit");
}

#[tokio::test]
async fn a_wait_that_never_ends_is_given_up() {
    let engine = engine();
    let host = Recorder { wait: Some(Arc::new(|| Box::pin(std::future::pending()))), ..Recorder::default() };
    let limits = Limits { turn_wall_ms: 50, ..Limits::default() };
    let mut plugin = start(&engine, host, limits).await;
    assert_eq!(text(&mut plugin, "count").await, Err(Fault::WallLimit { limit_ms: 50 }));
    assert!(!plugin.is_usable());
}

#[tokio::test]
async fn a_plugin_may_sleep_within_its_wall_clock() {
    let engine = engine();
    let limits = Limits { turn_cpu_ms: 50, turn_wall_ms: 1_000, ..Limits::default() };
    let mut plugin = start(&engine, Recorder::default(), limits).await;
    text(&mut plugin, "sleep 100").await.unwrap();
    assert_eq!(text(&mut plugin, "sleep 3600000").await.unwrap_err().label(), "wall-limit");
}

#[tokio::test]
async fn a_dropped_turn_leaves_the_instance_unusable() {
    let engine = engine();
    let host = Recorder { wait: Some(Arc::new(|| Box::pin(std::future::pending()))), ..Recorder::default() };
    let mut plugin = start(&engine, host, Limits::default()).await;
    tokio::select! {
        biased;
        result = text(&mut plugin, "count") => panic!("{result:?}"),
        () = yield_now() => {}
    }
    assert!(!plugin.is_usable());
    assert_eq!(text(&mut plugin, "echo x").await, Err(Fault::Unusable));
}

#[tokio::test]
async fn memory_over_the_limit_is_refused_and_told() {
    let (engine, host) = (engine(), Recorder::default());
    let limits = Limits { memory_mib: 16, turn_cpu_ms: 10_000, ..Limits::default() };
    let mut plugin = start(&engine, host.clone(), limits).await;
    text(&mut plugin, "grow 4").await.unwrap();
    text(&mut plugin, "grow 400").await.unwrap();
    assert_eq!(host.sent(), ["true", "false"]);
    assert!(plugin.is_usable() && plugin.memory_bytes() < 16 << 20);
    let fault = text(&mut plugin, "balloon").await.unwrap_err();
    let Fault::Trap { message, .. } = &fault else { panic!("{fault:?}") };
    assert!(message.contains("memory limit 16 MiB"), "{message}");
}

#[tokio::test]
async fn a_plugin_that_needs_more_than_its_limit_does_not_start() {
    let engine = engine();
    let template = Template::new(&engine, &module(&engine)).unwrap();
    let limits = Limits { memory_mib: 1, ..Limits::default() };
    let error = Instance::start(&template, Recorder::default(), limits).await.err().unwrap();
    assert!(
        matches!(error, StartError::Memory(_)) && error.to_string().contains("memory limit 1 MiB"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_pool_of_instances_is_told() {
    let engine = Engine::new(&EngineSettings { instances: 2, memory_mib: 64 }).unwrap();
    let template = Template::new(&engine, &module(&engine)).unwrap();
    let mut plugins = Vec::new();
    for _ in 0..2 {
        plugins.push(Instance::start(&template, Recorder::default(), Limits::default()).await.unwrap());
    }
    let error = Instance::start(&template, Recorder::default(), Limits::default()).await.err().unwrap();
    assert!(matches!(error, StartError::NoRoom(_)), "{error}");
    plugins.pop();
    Instance::start(&template, Recorder::default(), Limits::default()).await.unwrap();
}

#[tokio::test]
async fn the_engine_is_idle_when_no_plugin_runs() {
    let engine = engine();
    let host = Recorder::default();
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    for _ in 0..3 {
        while !engine.is_idle() {
            std::thread::yield_now();
        }
        text(&mut plugin, "echo x").await.unwrap();
    }
    // Asleep or not, an endless loop after it is stopped.
    while !engine.is_idle() {
        std::thread::yield_now();
    }
    assert_eq!(text(&mut plugin, "spin").await.unwrap_err().label(), "cpu-limit");
}

#[tokio::test]
async fn many_turns_of_many_instances_mix() {
    let engine = engine();
    let mut tasks = Vec::new();
    for n in 0..8 {
        let host = Recorder::default();
        let mut plugin = start(&engine, host.clone(), Limits::default()).await;
        tasks.push(tokio::spawn(async move {
            for m in 0..200 {
                let payload = format!("echo {n}-{m}");
                plugin.on_message(CLIENT, MessageKind::Text, payload.as_bytes()).await.unwrap();
                assert_eq!(host.sent(), [format!("{n}-{m}")]);
                yield_now().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

/// What an endless loop of the share's app has used when it was stopped, and how long it was kept waiting.
async fn spin_within(share: CpuShare, limits: Limits, pool: Option<SlowPool>) -> (Fault, CpuUse) {
    let (engine, budget) = (engine(), Arc::new(CpuBudget::new(share)));
    let template = Template::new(&engine, &module(&engine)).unwrap();
    let mut plugin = Instance::start_within(&template, Recorder::default(), limits, &budget).await.unwrap();
    let spin = async move { text(&mut plugin, "spin").await.unwrap_err() };
    let fault = match pool {
        Some(pool) => tokio::spawn(pool.movable_of(&budget, spin)).await.unwrap(),
        None => spin.await,
    };
    (fault, budget.usage())
}

#[tokio::test]
async fn a_turn_over_its_apps_budget_waits_and_that_is_neither_cpu_nor_wall_time_of_its_own() {
    for pool in [None, Some(SlowPool::new(&SlowPoolSettings::default()).unwrap())] {
        // 130 ms of CPU at a hundredth of a core, of which 100 are the burst: three seconds until the rest is earned, which begin
        // with the turn, so that it waits for longer than a second on a machine that is busy too.
        let limits = Limits { turn_cpu_ms: 130, turn_wall_ms: 1_000, ..Limits::default() };
        let (fault, used) = spin_within(CpuShare::MIN, limits, pool).await;
        assert!(matches!(fault, Fault::CpuLimit { limit_ms: 130, .. }), "{fault:?}");
        assert!(used.used >= Duration::from_millis(125), "{used:?}");
        assert!(used.throttles >= 2 && used.throttled >= Duration::from_millis(1_000), "{used:?}");
    }
}

#[tokio::test]
async fn a_turn_within_its_apps_budget_never_waits() {
    let limits = Limits { turn_cpu_ms: 100, ..Limits::default() };
    let (fault, used) = spin_within(CpuShare::from_millis(4_000), limits, None).await;
    assert_eq!(fault.label(), "cpu-limit");
    assert_eq!((used.throttles, used.throttled), (0, Duration::ZERO));
}

#[tokio::test]
async fn many_short_turns_are_charged_as_one_long_one_is() {
    let (engine, budget) = (engine(), Arc::new(CpuBudget::new(CpuShare::MAX)));
    let template = Template::new(&engine, &module(&engine)).unwrap();
    let mut plugin =
        Instance::start_within(&template, Recorder::default(), cpu(10_000), &budget).await.unwrap();
    let thread = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let before = thread();
    // Each a fraction of a tick long.
    while thread() - before < Duration::from_millis(1_500) {
        text(&mut plugin, "burn 20000").await.unwrap();
    }
    let (used, charged) = (thread() - before, budget.usage().used);
    // The thread does little but run the guest. It is a sample, of a few hundred ticks.
    assert!(charged > used / 2 && charged < used * 5 / 4, "{charged:?} of {used:?}");
}
