//! What a plugin may import, and from whom it comes.

use serde::{Deserialize, Serialize};
use tidegate_base::Capability;

use crate::callback::PACKAGE;
use crate::version::{InterfaceName, Version};
use crate::{CONTRACT_VERSION, ContractError};

/// An interface that a component imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The full name, such as `wasi:io/streams@0.2.6`.
    pub name: String,
    /// Who answers it.
    pub provider: Provider,
}

/// Who answers an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The base that every plugin gets: `wasi:cli`, `wasi:clocks`, `wasi:filesystem` (empty), `wasi:io`,
    /// `wasi:random`.
    Base,
    /// The contract: `tidegate:plugin`.
    Contract,
    /// The host, for apps that are granted this.
    Grant(Capability),
}

/// The functions of each host interface of the contract; `types` has none.
pub(crate) const HOST_INTERFACES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("turn", &["fail", "addresses", "session"]),
    (
        "gateway",
        &[
            "send-to-client",
            "send",
            "close",
            "destroy",
            "bind",
            "unbind",
            "join",
            "leave",
            "disband",
            "set-session",
            "update-session",
        ],
    ),
    (
        "query",
        &[
            "count-clients",
            "count-uids",
            "list-clients",
            "list-uids",
            "list-groups",
            "select",
            "count-by-group",
        ],
    ),
    ("timers", &["set", "cancel"]),
    ("log", &["write"]),
    ("settings", &["get", "all"]),
];

/// The interfaces of WASI 0.2 that are linked for every plugin. The filesystem has no directories and the environment
/// no variables; a standard library imports them all the same.
const BASE: &[(&str, &[&str])] = &[
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"]),
    ("wasi:filesystem", &["preopens", "types"]),
    ("wasi:io", &["error", "poll", "streams"]),
    ("wasi:random", &["insecure", "insecure-seed", "random"]),
];

/// The interface of [`Capability::Config`].
pub const WASI_CONFIG: &str = "wasi:config/store@0.2.0-rc.1";

/// The interfaces of [`Capability::Keys`]: buckets, what happens to a key at once, and several keys in one call.
pub const WASI_KEYVALUE: WasiKeyvalue = WasiKeyvalue {
    store: "wasi:keyvalue/store@0.2.0-draft2",
    atomics: "wasi:keyvalue/atomics@0.2.0-draft2",
    batch: "wasi:keyvalue/batch@0.2.0-draft2",
};

/// The names of [`WASI_KEYVALUE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WasiKeyvalue {
    /// `store`.
    pub store: &'static str,
    /// `atomics`.
    pub atomics: &'static str,
    /// `batch`.
    pub batch: &'static str,
}

/// Interfaces that the host answers for apps that are granted what they stand for, by their full names: drafts of WASI are
/// compatible with nothing else.
const GRANTED: &[(&str, Capability)] = &[
    (WASI_CONFIG, Capability::Config),
    (WASI_KEYVALUE.store, Capability::Keys),
    (WASI_KEYVALUE.atomics, Capability::Keys),
    (WASI_KEYVALUE.batch, Capability::Keys),
];

/// Packages that would need a grant, and what they are for. This version has no such grant yet.
const GRANTABLE: &[(&str, &str)] =
    &[("wasi:http", "outgoing HTTP requests"), ("wasi:sockets", "network sockets")];

/// Decide who answers an import. `functions` are those that the component takes from it.
pub(crate) fn classify<'a>(
    name: &str,
    functions: impl IntoIterator<Item = &'a str>,
    newest: &mut Option<Version>,
) -> Result<Import, ContractError> {
    let Some(parsed) = InterfaceName::parse(name) else {
        return Err(ContractError::NotGrantable { name: name.to_owned() });
    };
    let provider = if parsed.package == PACKAGE {
        check_host_interface(name, &parsed, functions, newest)?;
        Provider::Contract
    } else if let Some(capability) = capability(name) {
        Provider::Grant(capability)
    } else {
        check_base(name, &parsed)?;
        Provider::Base
    };
    Ok(Import { name: name.to_owned(), provider })
}

/// What an app has to be granted so that its plugin may import this interface, given by its full name.
pub fn capability(import: &str) -> Option<Capability> {
    GRANTED.iter().find(|(name, _)| *name == import).map(|(_, capability)| *capability)
}

fn check_host_interface<'a>(
    name: &str,
    parsed: &InterfaceName<'_>,
    functions: impl IntoIterator<Item = &'a str>,
    newest: &mut Option<Version>,
) -> Result<(), ContractError> {
    parsed.check_contract(name, newest)?;
    let Some((_, known)) = HOST_INTERFACES.iter().find(|(interface, _)| *interface == parsed.interface)
    else {
        return Err(ContractError::UnknownImport { name: name.to_owned() });
    };
    match functions.into_iter().find(|function| !known.contains(function)) {
        Some(function) => {
            Err(ContractError::UnknownFunction { name: name.to_owned(), function: function.to_owned() })
        }
        None => Ok(()),
    }
}

fn check_base(name: &str, parsed: &InterfaceName<'_>) -> Result<(), ContractError> {
    let granted = GRANTED.iter().filter_map(|(known, _)| Some((*known, InterfaceName::parse(known)?)));
    if let Some((known, _)) = granted.into_iter().find(|(_, known)| known.package == parsed.package) {
        return Err(ContractError::AnotherVersion { name: name.to_owned(), known });
    }
    if let Some((package, purpose)) = GRANTABLE.iter().find(|(package, _)| *package == parsed.package) {
        return Err(ContractError::NotGranted { name: name.to_owned(), package, purpose });
    }
    let in_base = BASE
        .iter()
        .any(|(package, interfaces)| *package == parsed.package && interfaces.contains(&parsed.interface));
    if !in_base {
        return Err(ContractError::NotGrantable { name: name.to_owned() });
    }
    match parsed.version.and_then(|text| text.parse::<Version>().ok()) {
        Some(Version { major: 0, minor: 2, .. }) => Ok(()),
        _ => Err(ContractError::WrongWasiVersion { name: name.to_owned() }),
    }
}

/// The interfaces of the contract that can be imported, for messages.
pub(crate) fn known_host_interfaces() -> String {
    let names: Vec<_> = HOST_INTERFACES.iter().map(|(interface, _)| *interface).collect();
    format!("{} of {PACKAGE}@{CONTRACT_VERSION}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(name: &str) -> Result<Import, ContractError> {
        super::classify(name, [], &mut None)
    }

    #[test]
    fn the_base_of_wasi_is_granted_to_everybody_in_any_patch_version() {
        for (package, interfaces) in BASE {
            for interface in *interfaces {
                for patch in ["0", "6", "12"] {
                    let import = classify(&format!("{package}/{interface}@0.2.{patch}")).unwrap();
                    assert_eq!(import.provider, Provider::Base);
                }
            }
        }
    }

    #[test]
    fn another_version_of_wasi_is_refused() {
        for name in ["wasi:io/poll@0.3.0", "wasi:io/poll@0.2.0-rc-2023-12-05", "wasi:io/poll"] {
            assert!(matches!(classify(name), Err(ContractError::WrongWasiVersion { .. })), "{name}");
        }
    }

    #[test]
    fn what_would_need_a_grant_is_refused_by_name() {
        for name in ["wasi:http/outgoing-handler@0.2.3", "wasi:sockets/tcp@0.2.0", "wasi:sockets/udp@0.2.0"] {
            let error = classify(name).unwrap_err();
            assert!(matches!(error, ContractError::NotGranted { .. }), "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn what_can_be_granted_is_taken_in_the_version_that_the_host_has() {
        let import = classify("wasi:config/store@0.2.0-rc.1").unwrap();
        assert_eq!(import.provider, Provider::Grant(Capability::Config));
        for name in [WASI_KEYVALUE.store, WASI_KEYVALUE.atomics, WASI_KEYVALUE.batch] {
            assert_eq!(classify(name).unwrap().provider, Provider::Grant(Capability::Keys));
        }
        let error = classify("wasi:keyvalue/store@0.2.0-draft").unwrap_err().to_string();
        assert!(error.contains("0.2.0-draft2"), "{error}");
        for name in ["wasi:config/runtime@0.2.0", "wasi:config/store@0.2.0-draft", "wasi:config/store"] {
            let error = classify(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("0.2.0-rc.1"), "{error}");
        }
    }

    #[test]
    fn anything_else_is_an_import_that_no_app_can_be_granted() {
        for name in [
            "run",
            "wasi:nn/graph@0.2.0",
            "wasi:cli/run@0.2.0",
            "acme:db/sql",
            "",
            "a:b",
            "unlocked-dep=<a:b>",
        ] {
            assert!(matches!(classify(name), Err(ContractError::NotGrantable { .. })), "{name}");
        }
    }
}
