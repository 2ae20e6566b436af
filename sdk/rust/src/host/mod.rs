//! The host functions, in the SDK's own types: bound to the contract in a guest, to the fake gateway of
//! [`testing`](crate::testing) in a native build. Both modules have the same functions.

#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::*;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::*;
