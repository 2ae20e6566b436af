use tidegate_base::{CloseCode, MessageKind, Protocol};

use super::{frame, text, ws};

/// Appends one message as a listener with `protocol` sends it.
///
/// - [`MessageKind::Raw`]: the bytes as they are, whatever the protocol.
/// - `ws`: one unmasked frame of the kind. The payload of text must be UTF-8, which is for the caller to know.
/// - `text`: the payload and a newline; newlines inside are sent as they are, so the client reads several lines.
/// - `frame`: the length and the payload.
/// - `tcp`: the bytes as they are.
#[inline]
pub fn encode(protocol: Protocol, kind: MessageKind, payload: &[u8], out: &mut Vec<u8>) {
    match (protocol, kind) {
        (_, MessageKind::Raw) | (Protocol::Tcp, _) => out.extend_from_slice(payload),
        (Protocol::Ws, MessageKind::Text) => ws::encode(ws::Opcode::Text, payload, out),
        (Protocol::Ws, MessageKind::Binary) => ws::encode(ws::Opcode::Binary, payload, out),
        (Protocol::Text, _) => text::encode(payload, out),
        (Protocol::Frame, _) => frame::encode(payload, out),
    }
}

/// How many bytes [`encode`] appends for a payload of `payload_bytes`.
#[inline]
pub const fn encoded_len(protocol: Protocol, kind: MessageKind, payload_bytes: usize) -> usize {
    let head = match (protocol, kind) {
        (_, MessageKind::Raw) | (Protocol::Tcp, _) => 0,
        (Protocol::Ws, _) => ws::head_len(payload_bytes),
        (Protocol::Text, _) => 1,
        (Protocol::Frame, _) => frame::HEAD_BYTES,
    };
    payload_bytes.saturating_add(head)
}

/// Appends a WebSocket close frame; nothing for other protocols, which have no such thing.
///
/// A reason above 123 bytes is cut between characters. A code that must not be on the wire
/// ([`CloseCode::is_valid_on_the_wire`]) makes a close frame without code and reason.
pub fn encode_close(protocol: Protocol, code: CloseCode, reason: &str, out: &mut Vec<u8>) {
    if protocol == Protocol::Ws {
        ws::encode_close(code, reason, out);
    }
}

/// Appends a WebSocket ping. A payload above 125 bytes is cut.
pub fn encode_ping(payload: &[u8], out: &mut Vec<u8>) {
    ws::encode_control(ws::Opcode::Ping, payload, out);
}

/// Appends a WebSocket pong; its payload is the ping's. A payload above 125 bytes is cut.
pub fn encode_pong(payload: &[u8], out: &mut Vec<u8>) {
    ws::encode_control(ws::Opcode::Pong, payload, out);
}
