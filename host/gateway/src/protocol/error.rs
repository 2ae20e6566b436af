use tidegate_base::CloseCode;

/// How a client broke its protocol or a limit. The client is to blame, so this is worth a debug line, not an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A reserved bit is set though no extension was agreed on.
    #[error("WebSocket frame with reserved bits set (first byte {first:#04x}): no extension was agreed on")]
    ReservedBits {
        /// The frame's first byte.
        first: u8,
    },
    /// An opcode that RFC 6455 reserves.
    #[error("WebSocket frame with the reserved opcode {opcode:#x}: use 0, 1, 2, 8, 9 or 10")]
    ReservedOpcode {
        /// The opcode.
        opcode: u8,
    },
    /// A close, ping or pong without the FIN bit.
    #[error("fragmented WebSocket control frame (opcode {opcode:#x}): only messages may have fragments")]
    FragmentedControl {
        /// The opcode.
        opcode: u8,
    },
    /// A close, ping or pong of more than 125 bytes.
    #[error("WebSocket control frame (opcode {opcode:#x}) of more than 125 bytes")]
    LongControl {
        /// The opcode.
        opcode: u8,
    },
    /// A continuation of nothing.
    #[error("WebSocket continuation frame without a message that it continues")]
    NothingToContinue,
    /// A new message before the last fragment of the one before.
    #[error("WebSocket message begun before the fragmented one before it has ended")]
    MessageInsideMessage,
    /// A client's frame without a mask.
    #[error("unmasked WebSocket frame: a client must mask every frame")]
    Unmasked,
    /// A length in more bytes than it needs, or with its highest bit set.
    #[error("WebSocket length {length} not in its shortest form, or beyond 63 bits")]
    InvalidLength {
        /// The length as read.
        length: u64,
    },
    /// A close frame with one byte.
    #[error("WebSocket close frame with half a code: it has 0 or at least 2 bytes")]
    ShortClose,
    /// A close code that must not be on the wire.
    #[error("WebSocket close code {code} must not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999")]
    InvalidCloseCode {
        /// The code.
        code: u16,
    },
    /// Text that is not UTF-8; for WebSocket also in a close reason.
    #[error("text that is not UTF-8 (first wrong byte at {at})")]
    InvalidUtf8 {
        /// How many bytes of the message, line or reason are right.
        at: usize,
    },
    /// A message above [`Limits::payload_bytes_max`](super::Limits::payload_bytes_max).
    #[error("message of {bytes} bytes or more, the app allows {limit} (payload_bytes_max)")]
    TooBig {
        /// How large it is at least.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// A length prefix that is smaller than itself.
    #[error("frame with length {length}: the length counts its own 4 bytes, so it is at least 4")]
    ShortFrame {
        /// The length as read.
        length: u32,
    },
}

impl ProtocolError {
    /// The WebSocket close code to close with.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 { .. } => CloseCode::INVALID_UTF8,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL,
        }
    }
}
