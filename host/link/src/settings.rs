use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::error::LinkError;

/// What a link may use, and how long it waits.
///
/// Most bytes that one link can make this node hold: received and unread `min(max_lanes x lane_window, link_window)`;
/// sent and not acknowledged `send_window`; queued `lane_queue_bytes` per lane, of which credit and
/// [`LaneTx::poll_below`](crate::LaneTx::poll_below) keep the sum far smaller, and `control_queue_bytes`. A lane whose
/// peer reads on is limited by none of these but `lane_window` per round trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// Lanes that the peer may have open at once. Default 4,096.
    pub max_lanes: u32,
    /// Bytes that the peer may have sent on one lane before they are read. Default 1,250,000: 100 Mbit/s at a round
    /// trip of 100 ms; locally it is never the limit.
    pub lane_window: u32,
    /// The same for all lanes together. Default 256 MiB: some 200 lanes that nobody reads before they hold up others.
    pub link_window: u32,
    /// Bytes that QUIC keeps until the peer acknowledges them, for all lanes together. Default 10,000,000.
    pub send_window: u64,
    /// A lane whose queue would hold more is reset: the peer stopped reading. Default 256 MiB, four of the largest
    /// frames.
    pub lane_queue_bytes: usize,
    /// A link on which more bytes of control messages would wait is closed. Default 16 MiB.
    pub control_queue_bytes: usize,
    /// Silence after which a link is lost. Default 10 s.
    pub idle_timeout: Duration,
    /// A silent link sends a sign of life this often; less than a third of the idle timeout survives two lost packets.
    /// Default 3 s.
    pub keep_alive: Duration,
    /// The longest that a handshake may take, on both ends. Default 5 s.
    pub handshake_timeout: Duration,
    /// Wanted size of the UDP socket's buffers; the system gives what it allows. Default 4 MiB.
    pub socket_buffer_bytes: usize,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            max_lanes: 4096,
            lane_window: 1_250_000,
            link_window: 256 * 1024 * 1024,
            send_window: 10_000_000,
            lane_queue_bytes: 256 * 1024 * 1024,
            control_queue_bytes: 16 * 1024 * 1024,
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(5),
            socket_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}

impl LinkSettings {
    /// Segmentation offload and MTU discovery stay as QUIC has them by default: measured, nothing is gained by turning
    /// them.
    pub(crate) fn transport(&self) -> Result<Arc<TransportConfig>, LinkError> {
        let wrong = |what: &str| LinkError::Settings(what.into());
        if self.max_lanes == 0 || self.lane_window == 0 || self.link_window == 0 || self.send_window == 0 {
            return Err(wrong("max_lanes and the windows must be at least 1"));
        }
        if self.keep_alive.is_zero() || self.keep_alive >= self.idle_timeout {
            return Err(wrong("keep_alive must be shorter than idle_timeout, and not 0"));
        }
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| wrong("idle_timeout is too long"))?;
        let mut transport = TransportConfig::default();
        transport
            // One more for the control channel.
            .max_concurrent_bidi_streams(VarInt::from_u32(self.max_lanes.saturating_add(1)))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.lane_window))
            .receive_window(VarInt::from_u32(self.link_window))
            .send_window(self.send_window)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .datagram_receive_buffer_size(None);
        Ok(Arc::new(transport))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_together_and_nonsense_is_refused() {
        assert!(LinkSettings::default().transport().is_ok());
        let silent = LinkSettings { keep_alive: Duration::from_secs(10), ..LinkSettings::default() };
        assert!(silent.transport().unwrap_err().to_string().contains("keep_alive"));
        let closed = LinkSettings { lane_window: 0, ..LinkSettings::default() };
        assert!(closed.transport().is_err());
    }
}
