//! The host functions, in the SDK's own types: bound to the contract in a guest, to the fake gateway of
//! [`testing`](crate::testing) in a native build. Both have the same functions.

#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_family = "wasm")]
mod wasm_keys;
#[cfg(target_family = "wasm")]
pub(crate) use {wasm::*, wasm_keys::*};

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
mod native_keys;
#[cfg(not(target_family = "wasm"))]
pub(crate) use {native::*, native_keys::*};
