//! Builds the plugins that tests run: fixtures, examples and first-party plugins.
//!
//! A build script would be the usual place, but it would wait for cargo's lock on the target folder, which the
//! surrounding cargo holds. So a plugin is built when a test first asks for it, as a user's plugin would be
//! (`tidegate_build`), into `guest/` of the target folder. Tests of one process share the result; processes take turns
//! by a file lock, and the second one finds everything unchanged.

mod layout;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tidegate_build::{BuildError, BuildRequest, Event, Progress, build};

pub use layout::Plugin;

/// The component of a plugin by its name: `tests/fixtures/NAME`, `examples/NN-NAME` or `plugins/NAME`; of a fixture's
/// variant, `tests/fixtures/FIXTURE/variants/NAME`, by `FIXTURE-NAME`. Built if it has changed.
///
/// # Panics
/// There is no such plugin, or it does not build; the message has what the compiler said.
#[expect(clippy::panic, reason = "a test that has no plugin to run has failed")]
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    // Held during the build: another thread that wants the same plugin waits, and cargo builds one at a time anyway.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let result = built.entry(name.to_owned()).or_insert_with(|| build_named(name)).clone();
    drop(built);
    result.unwrap_or_else(|reason| panic!("plugin `{name}`: {reason}"))
}

/// The examples, in their order. Each has to be run by an end-to-end test.
pub fn examples() -> Vec<Plugin> {
    layout::examples(&layout::root())
}

/// The plugins that exist only for tests, in order of name.
pub fn fixtures() -> Vec<Plugin> {
    layout::fixtures(&layout::root())
}

/// The first-party plugins that ship with the platform, in order of name.
pub fn first_party() -> Vec<Plugin> {
    layout::first_party(&layout::root())
}

fn build_named(name: &str) -> Result<PathBuf, String> {
    let plugin = layout::find(&layout::root(), name)?;
    let target_dir = layout::target_dir().join("guest");
    let components = target_dir.join("components");
    let lock = lock(&target_dir).map_err(|error| format!("cannot lock {}: {error}", target_dir.display()))?;
    // A folder of its own for the results: packages of the same name would overwrite each other in cargo's.
    let out = components.join(format!("{}-{}.wasm", plugin.kind, plugin.name));
    let request =
        BuildRequest { target_dir: Some(target_dir), out: Some(out), ..BuildRequest::new(&plugin.folder) }
            .leaving_rustup_alone();
    let mut diagnostics = Diagnostics::default();
    let result = build(&request, &mut diagnostics);
    drop(lock);
    match result {
        Ok(built) => Ok(built.wasm),
        Err(error @ BuildError::Compile { .. }) => Err(format!("{error}\n{}", diagnostics.0)),
        Err(error) => Err(error.to_string()),
    }
}

/// Goes with its handle, also when the process is killed.
fn lock(folder: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let file =
        File::options().create(true).truncate(false).write(true).open(folder.join("artifacts.lock"))?;
    file.lock()?;
    Ok(file)
}

/// What the compiler says, for the message of a failed test.
#[derive(Default)]
struct Diagnostics(String);

impl Diagnostics {
    /// More is not read by anybody.
    const BYTES_MAX: usize = 64 << 10;
}

impl Progress for Diagnostics {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Diagnostic(line) = event
            && self.0.len() + line.len() < Self::BYTES_MAX
        {
            self.0.push_str(line);
            self.0.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_built_once_however_many_threads_ask() {
        let paths: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| plugin("echo"))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(paths.iter().all(|path| *path == paths[0]));
        assert!(tidegate_build::inspect(&paths[0]).is_ok());
    }

    #[test]
    fn versions_of_a_plugin_are_components_that_hand_state_over() {
        let inspect = |name| tidegate_build::inspect(&plugin(name)).unwrap();
        let (first, second) = (inspect("versioned"), inspect("versioned-v2"));
        assert_ne!(first.digest, second.digest);
        for version in [first, second] {
            let callbacks: Vec<_> = version.contract.exports.names().collect();
            assert!(callbacks.ends_with(&["save", "restore"]), "{callbacks:?}");
        }
    }

    #[test]
    fn a_real_component_that_is_cut_or_changed_is_refused_or_read_but_never_a_panic() {
        let bytes = std::fs::read(plugin("echo")).unwrap();
        let whole = tidegate_contract::check(&bytes).unwrap();
        for part in 0..100 {
            let at = bytes.len() * part / 100;
            // A cut between two sections may take away nothing but debug names.
            if let Ok(cut) = tidegate_contract::check(&bytes[..at]) {
                assert_eq!(cut, whole);
            }
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            let _ = tidegate_contract::check(&changed);
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let result = std::panic::catch_unwind(|| plugin("no-such-plugin"));
        let message = result.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("no-such-plugin") && message.contains("echo"), "{message}");
    }
}
