//! Why a build fails.

use std::path::{Path, PathBuf};

use crate::toolchain::ToolchainError;
use tidegate_contract::ContractError;

/// Why a build fails. Every message says what is wrong, where, and how to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The path does not exist.
    #[error("{} does not exist; name a plugin's folder, the one with its Cargo.toml", path.display())]
    NotFound {
        /// The path that was given.
        path: PathBuf,
    },
    /// The folder has no plugin.
    #[error(
        "{} has neither a Cargo.toml nor a folder plugin/ with one; name a plugin's folder, or make a new one with \
         `tidegate new NAME`", path.display()
    )]
    NoManifest {
        /// The folder that was given.
        path: PathBuf,
    },
    /// The path is a file, but not a Cargo.toml.
    #[error("{} is a file; to build a plugin name its folder (a .wasm file is built already)", path.display())]
    NotSource {
        /// The file that was given.
        path: PathBuf,
    },
    /// The manifest is a workspace without a package of its own.
    #[error(
        "{} has no [package]: it is a workspace, not a plugin; name the folder of the plugin inside of it",
        manifest.display()
    )]
    NoPackage {
        /// The manifest.
        manifest: PathBuf,
    },
    /// The manifest is not valid TOML.
    #[error("{}: {reason}", manifest.display())]
    BadManifest {
        /// The manifest.
        manifest: PathBuf,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// The package does not make a component.
    #[error(
        "{} does not make a component: add these two lines to it, and put the code into src/lib.rs\n\n    [lib]\n    \
         crate-type = [\"cdylib\"]\n", manifest.display()
    )]
    NotCdylib {
        /// The manifest.
        manifest: PathBuf,
    },
    /// No toolchain for plugins.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// Cargo failed; what it and rustc said went to the progress.
    #[error("cargo could not build the plugin {package}; its messages above say where and why")]
    Compile {
        /// The plugin's package.
        package: String,
        /// The last lines that cargo and rustc wrote.
        output: String,
    },
    /// Cargo could not be run.
    #[error("cannot run cargo: {0}; install Rust from https://rustup.rs and open a new terminal")]
    RunCargo(#[source] std::io::Error),
    /// Cargo took too long.
    #[error(
        "cargo did not finish in {minutes} minutes and was stopped; run `cargo build` in the plugin's folder to see why"
    )]
    TimedOut {
        /// The limit.
        minutes: u64,
    },
    /// The component is not one that a host would run.
    #[error("{}: {error}", wasm.display())]
    Contract {
        /// The component.
        wasm: PathBuf,
        /// What is wrong with it.
        #[source]
        error: ContractError,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// Such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        error: std::io::Error,
    },
}

impl BuildError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { action, path, error }
    }
}
