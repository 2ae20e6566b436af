//! The compile child. A test without the usual harness, because its binary must be the child as well.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test or benchmark that cannot be set up has failed"
)]

mod support;

use std::ffi::OsString;
use std::process::ExitCode;

use support::{Recorder, engine, text};
use tidegate_runtime::{
    ChildCompiler, CompileError, CompileLimits, Compiler, Instance, Limits, LoadError, Modules, Template,
    compile,
};

const SUBCOMMAND: &str = "compile-module";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == SUBCOMMAND) {
        return compile::child_main(args);
    }
    let tests: [(&str, fn()); 6] = [
        ("a_module_that_a_child_compiled_runs", a_module_that_a_child_compiled_runs),
        ("what_is_no_component_is_explained", what_is_no_component_is_explained),
        ("a_child_that_takes_too_long_is_killed", a_child_that_takes_too_long_is_killed),
        ("a_child_without_memory_is_explained", a_child_without_memory_is_explained),
        ("a_child_that_writes_too_much_is_explained", a_child_that_writes_too_much_is_explained),
        ("a_program_that_is_not_there_is_named", a_program_that_is_not_there_is_named),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn child(limits: CompileLimits) -> ChildCompiler {
    let program = std::env::current_exe().expect("this program");
    ChildCompiler { limits, ..ChildCompiler::new(program, SUBCOMMAND) }
}

fn load_with(child: ChildCompiler, module: &[u8]) -> Result<tidegate_runtime::Module, CompileError> {
    Modules::new(engine(), Compiler::Child(child), None).load(module).map_err(|error| match error {
        LoadError::Compile { reason, .. } => reason,
        LoadError::Load { .. } => panic!("{error}"),
    })
}

fn a_module_that_a_child_compiled_runs() {
    let engine = engine();
    let modules = Modules::new(engine.clone(), Compiler::Child(child(CompileLimits::default())), None);
    let module = modules.load(support::guest()).expect("it compiles");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let template = Template::new(&engine, &module).expect("it links");
        let host = Recorder::default();
        let mut plugin =
            Instance::start(&template, host.clone(), Limits::default()).await.expect("it starts");
        text(&mut plugin, "echo from a child").await.expect("it runs");
        assert_eq!(host.sent(), ["from a child"]);
    });
}

fn what_is_no_component_is_explained() {
    let error = load_with(child(CompileLimits::default()), b"not wasm").unwrap_err();
    assert!(matches!(&error, CompileError::Module(reason) if !reason.is_empty()), "{error}");
    let error = load_with(child(CompileLimits::default()), b"\0asm\x01\0\0\0").unwrap_err();
    assert!(error.to_string().contains("tidegate build"), "{error}");
}

fn a_child_that_takes_too_long_is_killed() {
    let limits = CompileLimits { timeout_ms: 1, ..CompileLimits::default() };
    let error = load_with(child(limits), support::guest()).unwrap_err();
    assert!(matches!(error, CompileError::Timeout(1)), "{error}");
}

fn a_child_without_memory_is_explained() {
    let limits = CompileLimits { address_space_mib: 48, ..CompileLimits::default() };
    let error = load_with(child(limits), support::guest()).unwrap_err();
    assert!(matches!(error, CompileError::Died { .. } | CompileError::Module(_)), "{error}");
}

fn a_child_that_writes_too_much_is_explained() {
    let limits = CompileLimits { code_mib: 0, ..CompileLimits::default() };
    let error = load_with(child(limits), support::guest()).unwrap_err();
    assert!(matches!(error, CompileError::Died { .. }) && error.to_string().contains("code_mib"), "{error}");
}

fn a_program_that_is_not_there_is_named() {
    let child = ChildCompiler {
        program: "/nowhere/at/all".into(),
        args: vec![OsString::new()],
        ..child(CompileLimits::default())
    };
    let error = load_with(child, support::guest()).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
}
