//! The callbacks of the contract.

use tidegate_base::Exports;

use crate::ContractError;
use crate::version::{InterfaceName, Version};

/// The WIT package of the contract.
pub(crate) const PACKAGE: &str = "tidegate:plugin";

/// A callback of the contract. Each is an interface of its own with a single function, because WIT has no optional
/// exports.
#[derive(Debug, PartialEq, Eq)]
pub struct Callback {
    /// Its bit in a set of exports.
    pub export: Exports,
    /// The name of its interface, such as `worker-start`.
    pub interface: &'static str,
    /// The name of its function, such as `on-worker-start`; `save` and `restore` are called as their interfaces are.
    pub function: &'static str,
    /// The function's parameters and result; of a compound type only the kind.
    pub signature: &'static str,
}

/// Every callback, in the order of the contract.
pub const CALLBACKS: [Callback; 9] = [
    Callback {
        export: Exports::WORKER_START,
        interface: "worker-start",
        function: "on-worker-start",
        signature: "(record)",
    },
    Callback {
        export: Exports::CONNECT,
        interface: "connect",
        function: "on-connect",
        signature: "(u64, u32)",
    },
    Callback {
        export: Exports::WEBSOCKET_CONNECT,
        interface: "websocket-connect",
        function: "on-websocket-connect",
        signature: "(u64, u32, record) -> variant",
    },
    Callback {
        export: Exports::MESSAGE,
        interface: "message",
        function: "on-message",
        signature: "(u64, u32, enum, list<u8>)",
    },
    Callback {
        export: Exports::CLOSE,
        interface: "close",
        function: "on-close",
        signature: "(u64, u32, record)",
    },
    Callback { export: Exports::TIMER, interface: "timer", function: "on-timer", signature: "(string)" },
    Callback {
        export: Exports::WORKER_STOP,
        interface: "worker-stop",
        function: "on-worker-stop",
        signature: "(enum)",
    },
    Callback { export: Exports::SAVE, interface: "save", function: "save", signature: "() -> list<u8>" },
    Callback { export: Exports::RESTORE, interface: "restore", function: "restore", signature: "(list<u8>)" },
];

/// The callback that an export stands for; `None` if the export is not of this contract.
pub(crate) fn classify(
    name: &str,
    newest: &mut Option<Version>,
) -> Result<Option<&'static Callback>, ContractError> {
    let Some(parsed) = InterfaceName::parse(name).filter(|parsed| parsed.package == PACKAGE) else {
        return Ok(None);
    };
    parsed.check_contract(name, newest)?;
    match CALLBACKS.iter().find(|callback| callback.interface == parsed.interface) {
        Some(callback) => Ok(Some(callback)),
        None => Err(ContractError::UnknownExport { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_exports_of_the_base_in_their_order() {
        let ours: Vec<_> = CALLBACKS.iter().map(|callback| (callback.export, callback.interface)).collect();
        assert_eq!(ours, Exports::NAMES);
        let named_after_interface = |callback: &Callback| match callback.interface {
            "save" | "restore" => callback.function == callback.interface,
            interface => callback.function == format!("on-{interface}"),
        };
        assert!(CALLBACKS.iter().all(named_after_interface));
    }
}
