//! Runs cargo on a plugin and finds what it made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::process::{self, RunError, Stream, Tail};
use crate::project::Project;
use crate::toolchain::Toolchain;
use crate::{BuildError, Environment, Event, Profile, Progress, TARGET};

/// A cold build with every dependency is done in a few minutes even on a small machine.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// The verbs of cargo's status lines that are worth a person's while.
const VERBS: [&str; 7] =
    ["Adding", "Blocking", "Downloaded", "Downloading", "Locking", "Unpacking", "Updating"];

/// What to compile and how.
pub(crate) struct Job<'a> {
    pub(crate) project: &'a Project,
    pub(crate) profile: Profile,
    pub(crate) target_dir: Option<&'a Path>,
}

/// Compile a plugin; the path of the component that cargo made.
pub(crate) fn compile(
    job: &Job<'_>,
    environment: &Environment,
    toolchain: &Toolchain,
    progress: &mut dyn Progress,
) -> Result<PathBuf, BuildError> {
    let mut command = toolchain.apply(environment).command("cargo");
    command
        .current_dir(&job.project.folder)
        .arg("build")
        .args(["--lib", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .args(["--color", if progress.wants_colour() { "always" } else { "never" }])
        .args(["--config", "term.progress.when='never'"])
        .arg("--manifest-path")
        .arg(&job.project.manifest);
    if job.profile == Profile::Release {
        command.arg("--release");
    }
    if let Some(target_dir) = job.target_dir {
        command.arg("--target-dir").arg(target_dir);
    }
    let mut component = None;
    let mut tail = Tail::default();
    let status = process::run(command, LIMIT, |stream, line| match stream {
        Stream::Out => component = component_of(line, &job.project.manifest).or(component.take()),
        Stream::Err => report(line, &mut tail, progress),
    });
    match status {
        Ok(status) if status.success() => {
            component.ok_or_else(|| BuildError::NotCdylib { manifest: job.project.manifest.clone() })
        }
        Ok(_) => Err(BuildError::Compile { package: job.project.package.clone(), output: tail.text() }),
        Err(RunError::Io(error)) => Err(BuildError::RunCargo(error)),
        Err(RunError::TimedOut(limit)) => Err(BuildError::TimedOut { minutes: limit.as_secs() / 60 }),
    }
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    crate_types: Vec<String>,
}

/// The component that a line of cargo's JSON messages announces, if it is that of this package.
fn component_of(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Message = serde_json::from_str(line).ok()?;
    let is_component = message.reason == "compiler-artifact"
        && message.manifest_path.as_deref() == Some(manifest)
        && message.target?.crate_types.iter().any(|kind| kind == "cdylib");
    if !is_component {
        return None;
    }
    message.filenames.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// Sort a line of cargo's standard error into events.
fn report(line: &str, tail: &mut Tail, progress: &mut dyn Progress) {
    let plain = strip_colours(line);
    let Some((verb, rest)) = status_of(&plain) else {
        tail.push(&plain);
        progress.event(Event::Diagnostic(line));
        return;
    };
    match verb {
        "Compiling" => progress.event(Event::Compiling { package: rest }),
        "Blocking" => progress.event(Event::Waiting(rest)),
        _ if VERBS.contains(&verb) => progress.event(Event::Cargo(plain.trim_start())),
        _ => {}
    }
}

/// Cargo right-aligns the verbs of its status lines at the 12th column.
fn status_of(line: &str) -> Option<(&str, &str)> {
    let (verb, rest) = line.split_at_checked(12)?;
    let (verb, rest) = (verb.trim_start(), rest.strip_prefix(' ')?);
    let capital = verb.starts_with(|first: char| first.is_ascii_uppercase());
    (capital && verb.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some((verb, rest))
}

/// Without the escape sequences that set colours.
fn strip_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Log(Vec<String>);

    impl Progress for Log {
        fn event(&mut self, event: Event<'_>) {
            self.0.push(format!("{event:?}"));
        }
    }

    fn events(line: &str) -> Vec<String> {
        let mut log = Log::default();
        report(line, &mut Tail::default(), &mut log);
        log.0
    }

    #[test]
    fn status_lines_become_events_with_and_without_colours() {
        let compiling = [r#"Compiling { package: "serde v1.0.0" }"#];
        assert_eq!(events("   Compiling serde v1.0.0"), compiling);
        assert_eq!(events("\x1b[1m\x1b[92m   Compiling\x1b[0m serde v1.0.0"), compiling);
        assert_eq!(events("    Updating crates.io index"), [r#"Cargo("Updating crates.io index")"#]);
        assert_eq!(events("    Blocking waiting for file lock"), [r#"Waiting("waiting for file lock")"#]);
        assert!(events("    Finished `release` profile").is_empty());
    }

    #[test]
    fn diagnostics_pass_as_they_are() {
        for line in
            ["error[E0425]: no such thing", " --> src/lib.rs:3:5", "12 |     Some code", "", "  |     ^^^ é"]
        {
            assert_eq!(events(line), [format!("{:?}", Event::Diagnostic(line))]);
        }
    }

    #[test]
    fn only_the_component_of_the_plugin_itself_is_taken() {
        let message = |manifest: &str, kind: &str, reason: &str| {
            format!(
                r#"{{"reason":"{reason}","manifest_path":"{manifest}","target":{{"crate_types":["{kind}"],"name":"x"}},
                   "filenames":["/t/libx.rlib","/t/x.wasm"],"fresh":true}}"#
            )
        };
        let find = |line: &str| component_of(line, Path::new("/p/Cargo.toml"));
        let artifact = "compiler-artifact";
        assert_eq!(find(&message("/p/Cargo.toml", "cdylib", artifact)), Some("/t/x.wasm".into()));
        assert_eq!(find(&message("/q/Cargo.toml", "cdylib", artifact)), None);
        assert_eq!(find(&message("/p/Cargo.toml", "lib", artifact)), None);
        assert_eq!(find(&message("/p/Cargo.toml", "cdylib", "build-finished")), None);
        assert_eq!(find("not json"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_the_sorting_panic(line in "(\u{1b}\\[)?.{0,20}(\u{1b}\\[[0-9;]*m?)?.{0,20}") {
            events(&line);
        }
    }
}
