//! WebSocket frames of a server (RFC 6455), without extensions.

mod decoder;
mod encode;
mod head;
mod mask;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub(super) use encode::{encode, encode_close, encode_control, head_len};
pub(super) use head::Opcode;

/// Longest payload of a control frame, in bytes.
const CONTROL_BYTES_MAX: usize = 125;
