use std::io;
use std::path::{Path, PathBuf};

use tidegate_base::{AppName, Digest};

use crate::keys::KeyFile;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file open.
    #[error(
        "the store {} is in use by another process: stop the node that runs with this data folder, or name another \
         folder as `data_dir` in [node]",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Others may read or write the file, or it is none.
    #[error("the store {} is not private: {reason}; run `chmod 600` on it, and `chown` it to the user of the node", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer Tidegate has written the file.
    #[error(
        "the store {} has format {found}, and this version of Tidegate knows format {known}: run the version that wrote \
         it or a newer one, or name another folder as `data_dir` in [node]",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// The file does not hold what was written, or is no store.
    #[error(
        "the store {} is damaged: {what}; stop the node and put a copy of the file back, or move the file away: {}",
        path.display(), without(path)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The disk is full, or a quota or a limit on the size of files is reached.
    #[error(
        "there is no room to write the store {}: {error}; make room on its disk, or raise the quota or the limit on \
         file sizes: what was stored before is still there, and no restart is needed",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file system refuses.
    #[error(
        "the store {} cannot be used: {error}; mend the disk or the rights, or name another folder as `data_dir` in [node]",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A module's bytes are not those that its digest names.
    #[error(
        "the module sha256:{digest} in the store {} is damaged: deploy the same module again, which replaces it",
        path.display()
    )]
    DamagedModule {
        /// The module.
        digest: Digest,
        /// The file.
        path: PathBuf,
    },
    /// A module is larger than the limit.
    #[error(
        "the module has {bytes} bytes, the limit of the store is {max}; build it with `tidegate build`, and in \
         Cargo.toml under [profile.release] set `opt-level = \"s\"`, `lto = true` and `strip = true`"
    )]
    ModuleTooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// [`StoreLimits::module_bytes_max`](crate::StoreLimits::module_bytes_max).
        max: u64,
    },
    /// All modules together would be larger than the limit.
    #[error(
        "the store {} holds {used} bytes of modules and may hold {max}, so {bytes} more have no room: modules that no \
         app's last versions use are removed from time to time and an hour after they came; remove apps that are gone, \
         or raise the limit",
        path.display()
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// The size of the new module in bytes.
        bytes: u64,
        /// The bytes of all modules that are stored.
        used: u64,
        /// [`StoreLimits::total_bytes_max`](crate::StoreLimits::total_bytes_max).
        max: u64,
    },
    /// There are as many modules as there may be.
    #[error(
        "the store {} holds {max} modules, as many as it may: modules that no app's last versions use are removed from \
         time to time and an hour after they came; remove apps that are gone, or raise the limit",
        path.display()
    )]
    TooManyModules {
        /// The file.
        path: PathBuf,
        /// [`StoreLimits::modules_max`](crate::StoreLimits::modules_max).
        max: u32,
    },
    /// A version cannot begin without its module.
    #[error(
        "the module sha256:{digest} is not in the store: upload it first, as `tidegate deploy` does with a .wasm file"
    )]
    UnknownModule {
        /// The module.
        digest: Digest,
    },
    /// The history has no such version with such a module.
    #[error(
        "app {app} has no version {number} with the module sha256:{digest}: `tidegate history` lists the versions that \
         there are"
    )]
    UnknownVersion {
        /// The app.
        app: AppName,
        /// The version that was named.
        number: u32,
        /// The module that it should have.
        digest: Digest,
    },
    /// A deployment of the app runs.
    #[error("version {number} of app {app} is being deployed: wait for its end, then try again")]
    Busy {
        /// The app.
        app: AppName,
        /// The version that is being deployed.
        number: u32,
    },
    /// No such deployment runs.
    #[error(
        "version {number} of app {app} is not being deployed: it has ended, or never began; `tidegate history` shows it"
    )]
    NotRunning {
        /// The app.
        app: AppName,
        /// The version.
        number: u32,
    },
    /// A text is longer than its limit.
    #[error("{what} has {bytes} bytes, {max} are allowed: shorten it")]
    TooLong {
        /// Which one.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There are as many apps as there may be.
    #[error("the store {} knows {max} apps, as many as it may: remove apps that are gone", path.display())]
    TooManyApps {
        /// The file.
        path: PathBuf,
        /// [`APPS_MAX`](crate::APPS_MAX).
        max: u32,
    },
    /// There are as many tenants as there may be.
    #[error("the store {} knows {max} tenants, as many as it may: delete tenants that are gone", path.display())]
    TooManyTenants {
        /// The file.
        path: PathBuf,
        /// [`TENANTS_MAX`](crate::TENANTS_MAX).
        max: u32,
    },
    /// There are as many tokens as there may be.
    #[error("the store {} knows {max} tokens, as many as it may: revoke tokens that nobody uses", path.display())]
    TooManyTokens {
        /// The file.
        path: PathBuf,
        /// [`TOKENS_MAX`](crate::TOKENS_MAX).
        max: u32,
    },
    /// Tenants and apps have changed meanwhile.
    #[error("tenants and apps are at revision {found} already, and this was to be {revision}: try again")]
    OldCatalog {
        /// Of the change.
        revision: u64,
        /// Of the last change.
        found: u64,
    },
}

/// What is so when a damaged file is moved away.
fn without(path: &Path) -> &'static str {
    match path.file_name().is_some_and(|name| name == KeyFile::FILE_NAME) {
        true => "then its apps start with empty buckets",
        false => {
            "then apps start with the plugins that the settings name, and what was deployed is deployed again"
        }
    }
}
