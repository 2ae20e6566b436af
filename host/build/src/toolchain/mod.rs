//! A toolchain that compiles for `wasm32-wasip2`: found, or set up.
//!
//! In this order:
//!
//! 1. the active Rust toolchain, if it has the target's standard library;
//! 2. the one that an earlier build made out of Debian packages;
//! 3. `rustup target add wasm32-wasip2`, which must be quick;
//! 4. a new one out of Debian packages, for machines that reach package registries but not rustup's servers. It takes
//!    a few minutes, once.
//!
//! `TIDEGATE_GUEST_TOOLCHAIN=debian` leaves out step 3, `TIDEGATE_GUEST_TOOLCHAIN=rustup` steps 2 and 4.

mod debian;
mod rustup;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Environment, Event, Progress, TARGET, process};

/// The variable that chooses where a missing toolchain comes from.
pub const VARIABLE: &str = "TIDEGATE_GUEST_TOOLCHAIN";

/// To print a path or a version takes milliseconds; rustup may look at a few files before.
const PROBE_LIMIT: Duration = Duration::from_secs(30);

/// A compiler with the standard library of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The sysroot of the active toolchain, whose cargo is used.
    host: PathBuf,
    /// The folder of the toolchain made out of Debian packages, if that compiles.
    debian: Option<PathBuf>,
}

impl Toolchain {
    /// The compiler's executable.
    pub fn rustc(&self) -> PathBuf {
        self.debian.as_deref().unwrap_or(&self.host).join("bin/rustc")
    }

    /// Whether it was made out of Debian packages.
    pub fn is_debian(&self) -> bool {
        self.debian.is_some()
    }

    /// An environment in which cargo uses this toolchain.
    pub fn apply(&self, environment: &Environment) -> Environment {
        // Rustup takes a folder as the name of a toolchain; without rustup the variable means nothing.
        let environment = environment.clone().with("RUSTUP_TOOLCHAIN", &self.host);
        match &self.debian {
            Some(_) => environment.with("RUSTC", self.rustc()),
            None => environment,
        }
    }
}

/// Why there is no toolchain for plugins.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// No rustc or no cargo.
    #[error(
        "{program} is not installed or does not work, and a plugin is compiled on this machine; install Rust from \
         https://rustup.rs and open a new terminal"
    )]
    NoRust {
        /// `rustc` or `cargo`.
        program: &'static str,
    },
    /// A value of `TIDEGATE_GUEST_TOOLCHAIN` that means nothing.
    #[error("{VARIABLE}={value} means nothing; use `rustup` or `debian`, or unset it for what works best")]
    UnknownChoice {
        /// The value.
        value: String,
    },
    /// Rustup could not add the target.
    #[error(
        "rustup could not add the target {TARGET}: {reason}; run `rustup target add {TARGET}` to see more, or set \
         {VARIABLE}=debian on Debian 12 or later"
    )]
    Rustup {
        /// What rustup said last, or why it did not run.
        reason: String,
    },
    /// The toolchain could not be made out of Debian packages.
    #[error(
        "could not make a toolchain for {TARGET} out of Debian packages: {reason}. Where rustup reaches its servers, \
         `rustup target add {TARGET}` is all it takes"
    )]
    Debian {
        /// What went wrong, and the mend.
        reason: String,
    },
    /// Neither way worked.
    #[error(
        "no standard library for {TARGET}. Rustup could not add it: {rustup}. Debian packages could not replace it: \
         {debian}. Connect to the network and build again, or run `rustup target add {TARGET}`"
    )]
    Neither {
        /// Why rustup could not.
        rustup: String,
        /// Why Debian packages could not.
        debian: String,
    },
}

/// Find a toolchain for a plugin in `folder` (a `rust-toolchain.toml` there counts), or set one up.
///
/// Safe to call from several processes at once: one sets up, the others wait for it.
///
/// # Errors
/// See [`ToolchainError`].
pub fn ensure(
    environment: &Environment,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Toolchain, ToolchainError> {
    let choice = Choice::of(environment.get(VARIABLE))?;
    let host = sysroot(environment, folder)?;
    let ready = |debian| Ok(Toolchain { host: host.clone(), debian });
    if has_std(&host) {
        return ready(None);
    }
    let store = debian::Store::of(environment);
    if choice != Choice::Rustup
        && let Some(made) = store.as_ref().and_then(|store| store.find(&host))
    {
        return ready(Some(made));
    }
    let make = |progress: &mut dyn Progress| match &store {
        Some(store) => store.make(environment, &host, progress),
        None => Err("neither HOME nor XDG_DATA_HOME says where to keep it".to_owned()),
    };
    if choice == Choice::Debian {
        return ready(Some(make(progress).map_err(|reason| ToolchainError::Debian { reason })?));
    }
    progress.event(Event::Toolchain("rustup target add wasm32-wasip2"));
    let rustup = match rustup::add_target(environment, &host) {
        Ok(()) if has_std(&host) => return ready(None),
        Ok(()) => "it reports success, but there is no standard library".to_owned(),
        Err(reason) => reason,
    };
    if choice == Choice::Rustup {
        return Err(ToolchainError::Rustup { reason: rustup });
    }
    progress.event(Event::Toolchain("rustup cannot add it, trying Debian packages"));
    ready(Some(make(progress).map_err(|debian| ToolchainError::Neither { rustup, debian })?))
}

/// Where a missing toolchain may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Any,
    Rustup,
    Debian,
}

impl Choice {
    fn of(value: Option<&OsStr>) -> Result<Self, ToolchainError> {
        match value.map(OsStr::to_string_lossy).as_deref() {
            None => Ok(Self::Any),
            Some("rustup") => Ok(Self::Rustup),
            Some("debian") => Ok(Self::Debian),
            Some(value) => Err(ToolchainError::UnknownChoice { value: value.to_owned() }),
        }
    }
}

/// The folder of the toolchain that is active in `folder`.
fn sysroot(environment: &Environment, folder: &Path) -> Result<PathBuf, ToolchainError> {
    if !environment.has_program("cargo") {
        return Err(ToolchainError::NoRust { program: "cargo" });
    }
    let mut command = environment.command("rustc");
    command.args(["--print", "sysroot"]).current_dir(folder);
    process::output(command, PROBE_LIMIT)
        .map(|path| PathBuf::from(path.trim_end()))
        .filter(|path| path.is_dir())
        .ok_or(ToolchainError::NoRust { program: "rustc" })
}

/// Whether a sysroot has the standard library of the target.
fn has_std(sysroot: &Path) -> bool {
    let folder = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

#[cfg(test)]
mod tests;
