//! Why a component is refused.

use crate::CONTRACT_VERSION;
use crate::import::known_host_interfaces;

/// Why a component is refused. Every message says what is wrong and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// Larger than the limit.
    #[error(
        "the component has {size} bytes, the limit is {limit}; build it with `tidegate build`, and in Cargo.toml under \
         [profile.release] set `opt-level = \"s\"`, `lto = true` and `strip = true`"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not WebAssembly in its binary form.
    #[error(
        "this is not a WebAssembly component: {found}; name the .wasm file that `tidegate build` writes, or a plugin's \
         folder"
    )]
    NotWasm {
        /// What it seems to be.
        found: &'static str,
    },
    /// A core module, as made for `wasm32-unknown-unknown` or `wasm32-wasip1`.
    #[error(
        "this is a core WebAssembly module, and a plugin is a component; build it with `tidegate build`, which uses \
         the target wasm32-wasip2 (wasm32-unknown-unknown and wasm32-wasip1 make core modules)"
    )]
    CoreModule,
    /// Invalid or truncated bytes, or a feature that the host's engine has switched off.
    #[error(
        "the component is broken at byte {offset}: {reason}; build it again with `tidegate build`, and if it was \
         copied or downloaded, compare its size with the original"
    )]
    Broken {
        /// Where, in bytes from the start.
        offset: usize,
        /// What the validator found there.
        reason: String,
    },
    /// More imports or exports than the limit.
    #[error("the component has more than {limit} imports or exports; a plugin has less than 50")]
    TooManyNames {
        /// The limit.
        limit: usize,
    },
    /// The required callback is missing.
    #[error("the plugin has no on-message, the one callback that every plugin must have; {}", no_message_hint(*is_program))]
    NoMessage {
        /// It exports `wasi:cli/run`: it was built from a `main.rs`.
        is_program: bool,
    },
    /// Built against another version of the contract.
    #[error(
        "`{name}`: the plugin was built against version {found} of the plugin contract, this Tidegate speaks \
         {CONTRACT_VERSION}; {}", wrong_version_hint(*newer)
    )]
    WrongVersion {
        /// The import or export.
        name: String,
        /// Its version as written.
        found: String,
        /// Whether the plugin is the newer one.
        newer: bool,
    },
    /// An export of `tidegate:plugin` that is no callback.
    #[error(
        "the plugin exports `{name}`, which is not a callback of the plugin contract {CONTRACT_VERSION}; if a newer \
         SDK has it, update Tidegate, else remove the export"
    )]
    UnknownExport {
        /// The export.
        name: String,
    },
    /// A callback whose type is not that of the contract.
    #[error(
        "`{name}`: {function} must be a function of the type {expected}, found {found}; rebuild the plugin with the \
         SDK or the WIT files of the plugin contract {CONTRACT_VERSION}"
    )]
    WrongSignature {
        /// The export.
        name: String,
        /// The callback's function.
        function: &'static str,
        /// Its type in the contract.
        expected: &'static str,
        /// Its type in the component.
        found: String,
    },
    /// One of the two callbacks that hand state over, without the other.
    #[error(
        "the plugin exports `{has}` but not `{lacks}`: a swap hands state over from `save` of the old version to \
         `restore` of the new one; implement both or none"
    )]
    HalfState {
        /// The callback that is there.
        has: &'static str,
        /// The one that is missing.
        lacks: &'static str,
    },
    /// An interface of `tidegate:plugin` that the host does not have.
    #[error(
        "the plugin imports `{name}`, which this Tidegate does not have (it has {}); update Tidegate, or build the \
         plugin with the SDK of this version",
        known_host_interfaces()
    )]
    UnknownImport {
        /// The import.
        name: String,
    },
    /// A function of `tidegate:plugin` that the host does not have.
    #[error(
        "the plugin calls `{function}` of `{name}`, which this Tidegate (plugin contract {CONTRACT_VERSION}) does not \
         have; update Tidegate, or build the plugin with the SDK of this version"
    )]
    UnknownFunction {
        /// The import.
        name: String,
        /// The function.
        function: String,
    },
    /// A package that can be granted, in an interface or version that the host does not have.
    #[error(
        "the plugin imports `{name}`, but of that package this Tidegate has just `{known}`: build the plugin with that one, or \
         remove the code or the dependency that uses the other"
    )]
    AnotherVersion {
        /// The import.
        name: String,
        /// What there is.
        known: &'static str,
    },
    /// A capability that needs a grant, which this version cannot give.
    #[error(
        "the plugin imports `{name}` ({purpose}), and no app can be granted {package} in this version of Tidegate; \
         remove the code or the dependency that uses it"
    )]
    NotGranted {
        /// The import.
        name: String,
        /// Its package.
        package: &'static str,
        /// What it is for.
        purpose: &'static str,
    },
    /// Something that the host never provides.
    #[error(
        "the plugin imports `{name}`, an import that no app can be granted; a plugin may import tidegate:plugin and, \
         of WASI 0.2, cli, clocks, filesystem, io and random: remove the code or the dependency that needs more"
    )]
    NotGrantable {
        /// The import.
        name: String,
    },
    /// WASI in another version than 0.2.
    #[error(
        "the plugin imports `{name}`, this Tidegate provides WASI 0.2; build it for the target wasm32-wasip2, as \
         `tidegate build` does"
    )]
    WrongWasiVersion {
        /// The import.
        name: String,
    },
}

fn no_message_hint(is_program: bool) -> &'static str {
    if is_program {
        "this component was built from a main.rs and is a program: move the code to src/lib.rs, set `crate-type = \
         [\"cdylib\"]` under [lib] in Cargo.toml, and implement `fn on_message` there under #[tidegate::plugin]"
    } else {
        "implement `fn on_message` in the block that has #[tidegate::plugin] (a function outside of the block is not \
         exported)"
    }
}

fn wrong_version_hint(newer: bool) -> &'static str {
    if newer {
        "update Tidegate, or build the plugin with the SDK of this version"
    } else {
        "build the plugin with the SDK of this version, or run an older Tidegate"
    }
}
