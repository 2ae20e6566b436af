use serde::{Deserialize, Serialize};

/// Why a client is gone, as `on-close` tells it. Metric label and log field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum CloseReason {
    /// The client closed the connection.
    Client = 0,
    /// A plugin closed it.
    Plugin = 1,
    /// The client did not answer the heartbeat.
    Heartbeat = 2,
    /// The client read too slowly and its outgoing queue was full.
    Slow = 3,
    /// The client broke the protocol or a limit.
    Protocol = 4,
    /// The connection broke.
    Network = 5,
    /// The gateway shuts down.
    Shutdown = 6,
    /// The client's gateway is lost.
    GatewayLost = 7,
}

impl CloseReason {
    /// Every reason, in the order of its number.
    pub const ALL: [Self; 8] = [
        Self::Client,
        Self::Plugin,
        Self::Heartbeat,
        Self::Slow,
        Self::Protocol,
        Self::Network,
        Self::Shutdown,
        Self::GatewayLost,
    ];

    /// The reason with this number.
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
            Self::Heartbeat => "heartbeat",
            Self::Slow => "slow",
            Self::Protocol => "protocol",
            Self::Network => "network",
            Self::Shutdown => "shutdown",
            Self::GatewayLost => "gateway-lost",
        }
    }
}

/// A WebSocket close code (RFC 6455 section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The gateway goes away: connect again, to another one if there is.
    pub const GOING_AWAY: Self = Self(1001);
    /// The client broke the WebSocket protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// A text message was not UTF-8.
    pub const INVALID_UTF8: Self = Self(1007);
    /// The client broke a rule that is not about the protocol, such as the heartbeat.
    pub const POLICY: Self = Self(1008);
    /// A message was larger than the app allows.
    pub const TOO_BIG: Self = Self(1009);
    /// Something failed inside.
    pub const INTERNAL: Self = Self(1011);
    /// No worker took the client in time: connect again later.
    pub const TRY_AGAIN: Self = Self(1013);
    /// The client read too slowly.
    pub const SLOW: Self = Self(4008);

    /// Whether a plugin may close with it: 1000 or an application's 3000 to 4999.
    pub const fn is_for_plugins(self) -> bool {
        matches!(self.0, 1000 | 3000..=4999)
    }

    /// Whether a peer may put it on the wire.
    pub const fn is_valid_on_the_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_close_reasons_are_stable() {
        let names: Vec<_> = CloseReason::ALL.iter().map(|r| (*r as u8, r.as_str())).collect();
        assert_eq!(
            names,
            [
                (0, "client"),
                (1, "plugin"),
                (2, "heartbeat"),
                (3, "slow"),
                (4, "protocol"),
                (5, "network"),
                (6, "shutdown"),
                (7, "gateway-lost")
            ]
        );
        assert!(CloseReason::ALL.iter().all(|r| CloseReason::from_u8(*r as u8) == Some(*r)));
        assert_eq!(CloseReason::from_u8(8), None);
    }

    #[test]
    fn reserved_close_codes_never_go_on_the_wire() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(!CloseCode(code).is_valid_on_the_wire(), "{code}");
        }
        assert!(CloseCode::SLOW.is_valid_on_the_wire() && CloseCode::SLOW.is_for_plugins());
    }
}
