//! The environment that cargo, rustc and their helpers are started in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A snapshot of environment variables, without those that would leak one build into another.
///
/// Tidegate is itself often started by cargo (`cargo run`, `cargo test`), which sets dozens of variables for its own
/// build: with them a plugin would land in the wrong target folder, be compiled with the host's flags or by the wrong
/// toolchain. What says where registries are and how the network is reached stays.
#[derive(Debug, Clone)]
pub struct Environment {
    vars: BTreeMap<OsString, OsString>,
}

/// Variables of cargo that describe the machine, not a build.
const CARGO_KEPT: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

impl Environment {
    /// That of this process, scrubbed.
    pub fn current() -> Self {
        Self::from_vars(std::env::vars_os())
    }

    /// These variables, scrubbed.
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { vars: vars.into_iter().filter(|(name, _)| is_kept(name)).collect() }
    }

    /// Set a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    /// The value of a variable; an empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The folder for data of this user: `$XDG_DATA_HOME/tidegate`, else `~/.local/share/tidegate`. `None` if neither
    /// variable is an absolute path.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        let absolute = |name| self.get(name).map(Path::new).filter(|path| path.is_absolute());
        let base = match absolute("XDG_DATA_HOME") {
            Some(data) => data.to_owned(),
            None => absolute("HOME")?.join(".local/share"),
        };
        Some(base.join("tidegate"))
    }

    /// The folder of rustup's own settings.
    pub(crate) fn rustup_home(&self) -> Option<PathBuf> {
        match self.get("RUSTUP_HOME") {
            Some(home) => Some(home.into()),
            None => self.get("HOME").map(|home| Path::new(home).join(".rustup")),
        }
    }

    /// A command that starts in this environment and no other. The program is looked up in its `PATH`.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.vars);
        command
    }

    /// Whether a program is in the `PATH`.
    pub(crate) fn has_program(&self, program: &str) -> bool {
        let path = self.get("PATH").unwrap_or_default();
        std::env::split_paths(path).any(|folder| folder.join(program).is_file())
    }
}

fn is_kept(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return true };
    if name.starts_with("CARGO") {
        return CARGO_KEPT.iter().any(|kept| name == *kept || kept.ends_with('_') && name.starts_with(kept));
    }
    let of_rustc = name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || name == "RUSTFLAGS";
    let of_rustup = name.starts_with("RUSTUP_TOOLCHAIN") || name == "RUST_RECURSION_COUNT";
    !(of_rustc || of_rustup)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(vars: &[&str]) -> Vec<String> {
        let environment = Environment::from_vars(vars.iter().map(|name| (name.into(), "x".into())));
        environment.vars.into_keys().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn what_a_surrounding_cargo_sets_is_dropped() {
        let set = [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_DIR",
            "CARGO_TARGET_WASM32_WASIP2_LINKER",
            "RUSTC",
            "RUSTC_BOOTSTRAP",
            "RUSTC_WRAPPER",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "RUSTUP_TOOLCHAIN_SOURCE",
            "RUST_RECURSION_COUNT",
        ];
        assert!(names(&set).is_empty());
    }

    #[test]
    fn what_describes_the_machine_stays() {
        let set = [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_MINE_INDEX",
            "HOME",
            "PATH",
            "RUSTUP_DIST_SERVER",
            "RUSTUP_HOME",
            "RUST_BACKTRACE",
        ];
        assert_eq!(names(&set), set);
    }

    #[test]
    fn data_lives_under_xdg_or_home_and_nowhere_relative() {
        let environment = |vars: &[(&str, &str)]| {
            Environment::from_vars(vars.iter().map(|(name, value)| (name.into(), value.into())))
        };
        let xdg = environment(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(xdg.data_dir().unwrap(), Path::new("/x/tidegate"));
        let home = environment(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]);
        assert_eq!(home.data_dir().unwrap(), Path::new("/h/.local/share/tidegate"));
        assert_eq!(environment(&[("HOME", "")]).data_dir(), None);
    }
}
