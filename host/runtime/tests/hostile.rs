//! Components that no compiler would make: bombs in their core modules, and bytes that are damaged.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use support::{CLIENT, Recorder, engine};
use tidegate_base::MessageKind;
use tidegate_runtime::{Compiler, Engine, Fault, Instance, Limits, Modules, StartError, Template};

/// A plugin of these core functions: `$start` runs while it is instantiated, `$message` for each message.
fn plugin(start: &str, message: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m
                (memory (export "mem") 1)
                (table $t 1 funcref)
                (type $sig (func))
                (global $free (mut i32) (i32.const 1024))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) global.get $free)
                (func $recurse call $recurse)
                (func $start {start})
                (func (export "on-message") (param i64 i32 i32 i32 i32) {message})
                (start $start))
            (core instance $c (instantiate $m))
            (import "tidegate:plugin/types@0.1.0" (instance $types
                (type $k (enum "text" "binary" "raw"))
                (export "message-kind" (type (eq $k)))))
            (alias export $types "message-kind" (type $kind))
            (func $on-message
                (param "gateway" u64) (param "connection" u32) (param "kind" $kind) (param "payload" (list u8))
                (canon lift (core func $c "on-message") (memory $c "mem") (realloc (func $c "realloc"))))
            (instance $message (export "on-message" (func $on-message)))
            (export "tidegate:plugin/message@0.1.0" (instance $message)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Grows its table until that is refused, and then traps.
const TABLE_BOMB: &str = "(loop $again
    (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
    unreachable";
/// Grows its memory until that is refused, and then traps.
const MEMORY_BOMB: &str = "(loop $again
    (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable";
const ENDLESS: &str = "(loop $again (br $again))";

fn limits() -> Limits {
    Limits { memory_mib: 16, turn_cpu_ms: 30, turn_wall_ms: 5_000 }
}

async fn started(engine: &Engine, bytes: &[u8]) -> Result<Instance<Recorder>, StartError> {
    let modules = Modules::new(engine.clone(), Compiler::InProcess, None);
    let template = Template::new(engine, &modules.load(bytes).unwrap()).unwrap();
    Instance::start(&template, Recorder::default(), limits()).await
}

/// What a message to a plugin of this function ends in. Then an innocent plugin of the same engine runs.
async fn fault_of(message: &str) -> Fault {
    let engine = engine();
    let mut plugin = started(&engine, &self::plugin("", message)).await.unwrap();
    let fault = plugin.on_message(CLIENT, MessageKind::Text, b"go").await.unwrap_err();
    assert!(!plugin.is_usable());
    goes_on(&engine).await;
    fault
}

/// What the start of a plugin of this function ends in.
async fn start_fault_of(start: &str) -> StartError {
    let engine = engine();
    let error = started(&engine, &plugin(start, "")).await.err().unwrap();
    goes_on(&engine).await;
    error
}

async fn goes_on(engine: &Engine) {
    let mut quiet = started(engine, &plugin("", "")).await.unwrap();
    quiet.on_message(CLIENT, MessageKind::Text, b"hello").await.unwrap();
}

#[tokio::test]
async fn a_table_bomb_is_refused_more_elements_and_traps() {
    let Fault::Trap { message, .. } = fault_of(TABLE_BOMB).await else { panic!("it should trap") };
    assert!(message.contains("unreachable"), "{message}");
    assert!(message.contains("table limit"), "{message}");
}

#[tokio::test]
async fn a_memory_bomb_is_refused_more_memory_and_traps() {
    let fault = fault_of(MEMORY_BOMB).await.to_string();
    assert!(fault.contains("memory limit 16 MiB"), "{fault}");
}

#[tokio::test]
async fn an_endless_recursion_ends_at_the_end_of_its_stack() {
    let fault = fault_of("call $recurse").await.to_string();
    assert!(fault.contains("stack exhausted"), "{fault}");
    // Hundreds of thousands of calls, of which some are told.
    assert!(fault.lines().count() < 50, "{}", fault.lines().count());
}

#[tokio::test]
async fn what_wasm_forbids_is_a_trap_that_says_what() {
    for (code, word) in [
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const -4)))", "out of bounds"),
        ("(call_indirect $t (type $sig) (i32.const 0))", "uninitialized"),
        ("(call_indirect $t (type $sig) (i32.const 99))", "out of bounds"),
    ] {
        let fault = fault_of(code).await.to_string();
        assert!(fault.contains(word), "{code}: {fault}");
    }
}

#[tokio::test]
async fn a_start_section_is_bounded_as_a_turn_is() {
    for (code, word) in [
        (ENDLESS, "turn_cpu_ms"),
        ("call $recurse", "stack exhausted"),
        (MEMORY_BOMB, "memory limit 16 MiB"),
        (TABLE_BOMB, "table limit"),
        ("unreachable", "unreachable"),
    ] {
        let error = start_fault_of(code).await;
        assert!(matches!(error, StartError::Fault(_)), "{code}: {error}");
        assert!(error.to_string().contains(word), "{code}: {error}");
    }
}

#[tokio::test]
async fn what_realloc_says_is_checked() {
    // A place for the payload that is none.
    let lies = plugin("(global.set $free (i32.const -16))", "");
    let engine = engine();
    let mut plugin = started(&engine, &lies).await.unwrap();
    let fault = plugin.on_message(CLIENT, MessageKind::Binary, &[7; 64]).await.unwrap_err().to_string();
    assert!(fault.contains("trapped"), "{fault}");
    goes_on(&engine).await;
}

#[tokio::test]
async fn a_small_plugin_that_is_cut_or_changed_at_any_byte_fails_with_a_reason_or_runs_within_its_limits() {
    let engine = engine();
    let modules = Modules::new(engine.clone(), Compiler::InProcess, None);
    let good = plugin("", ENDLESS);
    let cut = (0..good.len()).step_by(3).map(|at| good[..at].to_vec());
    let changed = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= [0x01, 0x20, 0xff][at % 3];
        bytes
    });
    let (mut refused, mut ran) = (0, 0);
    for bytes in cut.chain(changed) {
        let template = match modules.load(&bytes) {
            Ok(module) => Template::new(&engine, &module).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let started = match template {
            Ok(template) => {
                let limits = Limits { turn_cpu_ms: 5, ..limits() };
                Instance::start(&template, Recorder::default(), limits).await
            }
            Err(reason) => {
                assert!(reason.len() > 20, "{reason}");
                refused += 1;
                continue;
            }
        };
        let Ok(mut plugin) = started else { continue };
        let call = plugin.on_message(CLIENT, MessageKind::Text, b"hello");
        let ended = tokio::time::timeout(Duration::from_secs(60), call).await;
        assert!(ended.is_ok(), "a damaged plugin runs on and on");
        ran += 1;
    }
    assert!(refused > good.len() / 3 && ran > 0, "{refused} refused, {ran} ran, of {} bytes", good.len());
}
