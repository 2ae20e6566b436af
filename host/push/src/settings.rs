use std::time::Duration;

/// What a pusher may use, and how long it waits.
///
/// Most memory: for each gateway `lanes_max` lanes, each with `unsent_bytes_max` (and one call more) of what was not sent
/// and 64 bytes for each of `in_flight_max` things that wait for their answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushSettings {
    /// How long a call waits for gateways; a tenth of it for one that has let a whole wait pass without a word, until it says
    /// something. Default: 5 s.
    pub wait: Duration,
    /// Commands and queries of one app that one gateway has not answered; it counts as busy beyond. Default: 65,536.
    pub in_flight_max: usize,
    /// Bytes for one gateway of one app that are not sent; it counts as busy beyond. Default: 16 MiB.
    pub unsent_bytes_max: usize,
    /// Lanes to one gateway: apps that somebody pushes to at a time. Default: 1,024.
    pub lanes_max: usize,
    /// A lane that was not used for so long is closed. Default: 60 s.
    pub idle: Duration,
}

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(5),
            in_flight_max: 65_536,
            unsent_bytes_max: 16 * 1024 * 1024,
            lanes_max: 1024,
            idle: Duration::from_secs(60),
        }
    }
}
