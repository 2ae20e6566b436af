//! Asks rustup for the target.

use std::path::Path;
use std::time::Duration;

use crate::process::{self, RunError, Tail};
use crate::{Environment, TARGET};

/// The target is some 20 MB. Behind a firewall rustup would try for many minutes.
const LIMIT: Duration = Duration::from_secs(120);

/// Run `rustup target add` for the toolchain with this sysroot; the reason if it fails.
pub(super) fn add_target(environment: &Environment, sysroot: &Path) -> Result<(), String> {
    // Rustup adds components only to toolchains that it installed, which it names by their folder.
    let name = sysroot.file_name().unwrap_or_default();
    let installed = environment.rustup_home().map(|home| home.join("toolchains").join(name));
    if !installed.is_some_and(|folder| folder.is_dir()) {
        return Err(format!("the Rust in {} is not one that rustup installed", sysroot.display()));
    }
    let mut command = environment.command("rustup");
    command.args(["target", "add", TARGET, "--toolchain"]).arg(name);
    let mut tail = Tail::default();
    match process::run(command, LIMIT, |_, line| tail.push(line)) {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(tail.text()),
        Err(RunError::Io(error)) => Err(format!("rustup does not run: {error}")),
        Err(RunError::TimedOut(limit)) => Err(format!("it was not done after {} s", limit.as_secs())),
    }
}
