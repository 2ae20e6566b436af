//! What a plugin may export and import; checks a component against it.
//!
//! A plugin is a WebAssembly component. [`check`] reads its bytes once, validates them, and answers with the
//! [`Contract`] that the component follows: which callbacks it exports and which interfaces it imports. Anything
//! that the host could not run is refused here, with a message that a person who writes their first plugin can act
//! on, so that neither a build nor a deployment has to find it out from an engine's link error.
//!
//! The names come from the package `tidegate:plugin` in `sdk/wit`; a test holds the tables of this crate against that
//! file.
//!
//! Invariants: nothing here does I/O, compiles or runs code, and no input makes it panic. The work is linear in the
//! size of the component, which [`Limits`] bounds.

mod callback;
mod component;
mod error;
mod import;
mod version;

use serde::{Deserialize, Serialize};
use tidegate_base::Exports;

pub use callback::{CALLBACKS, Callback};
pub use error::ContractError;
pub use import::{Import, Provider, WASI_CONFIG, WASI_KEYVALUE, WasiKeyvalue, capability};
pub use version::Version;

/// The version of `tidegate:plugin` that this host speaks. A plugin may be built against any patch version of the
/// same minor version.
pub const CONTRACT_VERSION: Version = Version { major: 0, minor: 1, patch: 0 };

/// The limits that a component is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The size of the component in bytes. Default: 32 MiB, some ten times what a large plugin in Rust takes.
    pub component_bytes_max: usize,
    /// How many imports and exports the component may have, each. Default: 256; the whole contract and the base of
    /// WASI have less than 50.
    pub names_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { component_bytes_max: 32 << 20, names_max: 256 }
    }
}

/// What a checked component exports and imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The newest version of `tidegate:plugin` that the component names.
    pub version: Version,
    /// The callbacks that it exports. An event whose callback is missing is never sent to it.
    pub exports: Exports,
    /// The interfaces that it imports, in the order of the component.
    pub imports: Vec<Import>,
    /// Exports that have nothing to do with the contract, such as `wasi:cli/run`. The host never calls them.
    pub other_exports: Vec<String>,
}

/// Check a component with the default [`Limits`].
///
/// # Errors
/// See [`ContractError`]: each variant says what is wrong and how to mend it.
pub fn check(bytes: &[u8]) -> Result<Contract, ContractError> {
    check_with(bytes, &Limits::default())
}

/// Check a component with limits of your own.
///
/// # Errors
/// See [`ContractError`].
pub fn check_with(bytes: &[u8], limits: &Limits) -> Result<Contract, ContractError> {
    if bytes.len() > limits.component_bytes_max {
        return Err(ContractError::TooLarge { size: bytes.len(), limit: limits.component_bytes_max });
    }
    let shape = component::read(bytes, limits.names_max)?;
    let mut newest = None;
    let imports = shape
        .imports
        .iter()
        .map(|name| import::classify(name, shape.functions_of_import(name), &mut newest))
        .collect::<Result<Vec<_>, _>>()?;
    let (exports, other_exports) = collect_exports(&shape, &mut newest)?;
    if !exports.has(Exports::MESSAGE) {
        let is_program = other_exports.iter().any(|name| name.starts_with("wasi:cli/run"));
        return Err(ContractError::NoMessage { is_program });
    }
    check_state(exports)?;
    Ok(Contract { version: newest.unwrap_or(CONTRACT_VERSION), exports, imports, other_exports })
}

fn collect_exports(
    shape: &component::Shape,
    newest: &mut Option<Version>,
) -> Result<(Exports, Vec<String>), ContractError> {
    let mut exports = Exports::empty();
    let mut others = Vec::new();
    for name in &shape.exports {
        match callback::classify(name, newest)? {
            Some(callback) => {
                check_signature(shape, name, callback)?;
                exports = exports.with(callback.export);
            }
            None => others.push(name.clone()),
        }
    }
    Ok((exports, others))
}

/// State that is saved and never restored, or the other way round, is a mistake that a swap would show too late.
fn check_state(exports: Exports) -> Result<(), ContractError> {
    match (exports.has(Exports::SAVE), exports.has(Exports::RESTORE)) {
        (true, false) => Err(ContractError::HalfState { has: "save", lacks: "restore" }),
        (false, true) => Err(ContractError::HalfState { has: "restore", lacks: "save" }),
        _ => Ok(()),
    }
}

fn check_signature(shape: &component::Shape, name: &str, callback: &Callback) -> Result<(), ContractError> {
    let found = shape.signature(name, callback.function);
    if found.as_deref() == Some(callback.signature) {
        return Ok(());
    }
    Err(ContractError::WrongSignature {
        name: name.to_owned(),
        function: callback.function,
        expected: callback.signature,
        found: found.unwrap_or_else(|| "no such function".to_owned()),
    })
}

#[cfg(test)]
mod tests;
