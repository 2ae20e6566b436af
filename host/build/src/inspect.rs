//! Says what a component is.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use tidegate_contract::{CALLBACKS, Contract, Provider};

use crate::{BuildError, Digest};

/// What a component is. Its text form is for people, a few lines without an end of line at the end.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it exports and imports.
    pub contract: Contract,
}

/// Read a component's file and check it against the contract.
///
/// # Errors
/// [`BuildError::Io`] if the file cannot be read, [`BuildError::Contract`] if no host would run it.
pub fn inspect(wasm: &Path) -> Result<Inspection, BuildError> {
    let bytes = std::fs::read(wasm).map_err(BuildError::io("read", wasm))?;
    let contract = tidegate_contract::check(&bytes)
        .map_err(|error| BuildError::Contract { wasm: wasm.to_owned(), error })?;
    Ok(Inspection { digest: Digest::of(&bytes), size: bytes.len() as u64, contract })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contract { version, exports, imports, other_exports } = &self.contract;
        let callbacks: Vec<_> = CALLBACKS
            .iter()
            .filter(|callback| exports.has(callback.export))
            .map(|callback| callback.function)
            .collect();
        let imported = |provider| {
            let names = imports.iter().filter(|import| import.provider == provider);
            names.map(|import| import.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "digest     sha256:{}", self.digest)?;
        writeln!(f, "size       {} bytes", self.size)?;
        writeln!(f, "contract   tidegate:plugin@{version}")?;
        writeln!(f, "callbacks  {}", callbacks.join(", "))?;
        writeln!(f, "imports    {}", imported(Provider::Contract))?;
        write!(f, "base       {}", imported(Provider::Base))?;
        let needed = imports.iter().filter_map(|import| match import.provider {
            Provider::Grant(capability) => Some(capability),
            Provider::Base | Provider::Contract => None,
        });
        for capability in needed.collect::<BTreeSet<_>>() {
            let names = imported(Provider::Grant(capability));
            write!(f, "\nneeds      `{}` in [app.grants], for {names}", capability.line())?;
        }
        if !other_exports.is_empty() {
            write!(f, "\nunused     {}", other_exports.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{Capability, Exports};
    use tidegate_contract::{CONTRACT_VERSION, Import};

    use super::*;
    use crate::files::testing::TempDir;

    #[test]
    fn the_text_names_callbacks_and_imports() {
        let import = |name: &str, provider| Import { name: name.to_owned(), provider };
        let inspection = Inspection {
            digest: Digest::of(b""),
            size: 42,
            contract: Contract {
                version: CONTRACT_VERSION,
                exports: Exports::MESSAGE.with(Exports::CLOSE),
                imports: vec![
                    import("wasi:io/poll@0.2.6", Provider::Base),
                    import("tidegate:plugin/log@0.1.0", Provider::Contract),
                    import("wasi:keyvalue/store@0.2.0-draft2", Provider::Grant(Capability::Keys)),
                    import("wasi:config/store@0.2.0-rc.1", Provider::Grant(Capability::Config)),
                    import("wasi:keyvalue/batch@0.2.0-draft2", Provider::Grant(Capability::Keys)),
                ],
                other_exports: Vec::new(),
            },
        };
        let text = inspection.to_string();
        assert!(text.contains("callbacks  on-message, on-close"), "{text}");
        assert!(text.contains("imports    tidegate:plugin/log@0.1.0"), "{text}");
        let needs = "needs      `config = true` in [app.grants], for wasi:config/store@0.2.0-rc.1";
        let keys = "needs      `keys = [\"default\"]` in [app.grants], for wasi:keyvalue/store@0.2.0-draft2, \
                    wasi:keyvalue/batch@0.2.0-draft2";
        assert!(text.ends_with(&format!("base       wasi:io/poll@0.2.6\n{needs}\n{keys}")), "{text}");
    }

    #[test]
    fn a_refused_component_is_named_with_its_file() {
        let dir = TempDir::new();
        let error = inspect(&dir.write("x.wasm", "hello")).unwrap_err().to_string();
        assert!(error.contains("x.wasm") && error.contains("not a WebAssembly component"), "{error}");
    }
}
