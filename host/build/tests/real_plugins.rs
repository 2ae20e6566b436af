//! Makes a project from the template and builds it with the real cargo, for the real target.

#![expect(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_base::Exports;
use tidegate_build::{
    BuildError, BuildRequest, Environment, Event, Progress, Watcher, Woken, build, create, inspect,
};

/// A folder outside of any checkout; gone at the end of the test.
struct Outside(PathBuf);

impl Outside {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Default)]
struct Log(Vec<String>);

impl Progress for Log {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Diagnostic(line) => self.0.push(line.to_owned()),
            other => self.0.push(format!("{other:?}")),
        }
    }
}

fn append(file: &Path, text: &str) {
    let old = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, old + text).unwrap();
}

#[test]
fn a_new_project_builds_and_is_built_again_only_when_something_changed() {
    let outside = Outside::new("build");
    let project = create("hello", &outside.0).unwrap().folder;
    let request = BuildRequest { out: Some(project.join("hello.wasm")), ..BuildRequest::new(&project) }
        .leaving_rustup_alone();
    let mut watcher = Watcher::new(&request).unwrap();
    let mut log = Log::default();
    let first = build(&request, &mut log).unwrap_or_else(|error| panic!("{error}\n{}", log.0.join("\n")));
    assert!(!first.cached);
    assert_eq!(first.package, "hello-plugin");
    assert_eq!(first.contract.exports, Exports::CONNECT.with(Exports::MESSAGE).with(Exports::CLOSE));
    assert_eq!(first.wasm, project.join("hello.wasm").canonicalize().unwrap());
    let inspection = inspect(&first.wasm).unwrap();
    assert_eq!((inspection.digest, inspection.size), (first.digest, first.size));

    let mut log = Log::default();
    let second = build(&request, &mut log).unwrap();
    assert!(second.cached);
    assert_eq!((second.digest, &second.contract), (first.digest, &first.contract));
    assert!(log.0.iter().all(|event| event.starts_with("Done")), "nothing runs: {:?}", log.0);

    assert_eq!(watcher.wait(Some(Instant::now())), Woken::Deadline, "a build is no change of the sources");

    let sdk = project.join(".tidegate/sdk/rust/src/lib.rs");
    append(&sdk, "\n// A change of a path dependency.\n");
    match watcher.wait(Some(Instant::now() + Duration::from_secs(60))) {
        Woken::Changed(change) => assert_eq!(change.paths, [sdk.canonicalize().unwrap()]),
        other => panic!("{other:?}"),
    }
    assert!(!build(&request, &mut Log::default()).unwrap().cached);

    append(&project.join("plugin/src/lib.rs"), "\nfn broken() { no_such_function() }\n");
    let mut log = Log::default();
    let error = build(&request, &mut log).unwrap_err();
    assert!(
        matches!(&error, BuildError::Compile { output, .. } if output.contains("no_such_function")),
        "{error}"
    );
    assert!(log.0.iter().any(|line| line.contains("cannot find function")), "{:?}", log.0);
}

#[test]
fn the_unit_test_of_a_new_project_passes_without_a_server() {
    let outside = Outside::new("unit");
    let project = create("hello", &outside.0).unwrap().folder;
    let mut command = Command::new("cargo");
    // The surrounding cargo would have this one build into its own folder.
    command.args(["test", "-q"]).current_dir(project.join("plugin")).env_clear();
    let kept = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"];
    let environment = Environment::current();
    command.envs(kept.iter().filter_map(|name| Some((name, environment.get(name)?))));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}
