//! Codes with which a link or a lane ends. 0 to 15 are this crate's own, the rest is the caller's.

/// Link: its last handle was dropped.
pub const DROPPED: u32 = 0;
/// Link: the node's endpoint is closing.
pub const ENDPOINT_CLOSED: u32 = 1;
/// Link: the peer reads control messages too slowly, and too many bytes of them have piled up.
pub const CONTROL_OVERFLOW: u32 = 2;
/// Link: what came on the control channel is no message.
pub const CONTROL_BROKEN: u32 = 3;
/// Lane: its holder called `reset`.
pub const LANE_RESET: u32 = 4;
/// Lane: the peer reads it too slowly, and too many bytes have piled up.
pub const LANE_OVERFLOW: u32 = 5;
/// Lane: the runtime that wrote it has stopped.
pub const LANE_ORPHANED: u32 = 6;

/// The lowest code that callers may give a meaning of their own.
pub const FIRST_FREE: u32 = 16;

/// What a code of this crate says about a lane that the peer ended with it.
pub(crate) fn lane_reason(code: u64) -> String {
    match u32::try_from(code) {
        Ok(LANE_RESET) => "the peer reset the lane".into(),
        Ok(LANE_OVERFLOW) => {
            "the peer gave the lane up: too many bytes waited for this node to read them".into()
        }
        Ok(LANE_ORPHANED) => "the part of the peer that wrote the lane has stopped".into(),
        _ => format!("the peer ended the lane with code {code}"),
    }
}
