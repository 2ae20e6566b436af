//! What to swap, how often, under which load.

use std::time::Duration;

use serde::Serialize;

use crate::options::{IN_FLIGHT_BYTES_MAX, PAYLOAD_BYTES_MAX, Target, within};
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::url::Url;
use crate::{Error, Result};

const FIRST_BYTES_MAX: usize = 64 << 10;
const SWAPS_MAX: u32 = 100_000;
const LIMIT_MAX: Duration = Duration::from_secs(3600);

/// A run of [`crate::swap`]: a load, and swaps under it. [`SwapOptions::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct SwapOptions {
    /// The server whose code is swapped. Its plugin must answer each text message `M` with `VERSION M`: a word that
    /// is another one after each swap, of 1 to 64 bytes without a space, a space, and the message.
    pub target: Target,
    /// Connections, 1 to 1,000,000; 100 usually.
    pub connections: u32,
    /// How they send; 2,000 messages a second usually.
    pub pace: Pace,
    /// Payload of a message in bytes, 16 to 1 MiB; 64 usually.
    pub payload: u32,
    /// A text that each connection sends once, ahead of the load, to bring the app into the state that is to be swapped;
    /// of at most 64 KiB. The answer to it counts as a message that the server sent by itself.
    pub first: Option<String>,
    /// Swaps that are measured, 1 to 100,000; 100 usually.
    pub swaps: u32,
    /// Swaps before those that are audited as all are, but neither timed nor weighed; none usually.
    pub warm_up_swaps: u32,
    /// Load before the first swap, at most 1 hour; 1 s usually.
    pub warm_up: Duration,
    /// From the end of a swap to the next command at least, at most 1 hour; 200 ms usually. A longer swap is
    /// followed by a calm window of its own length whatever this says.
    pub pause: Duration,
    /// A swap that takes longer ends the run as a failure; 10 ms to 1 hour, 60 s usually.
    pub swap_limit: Duration,
    /// A message without an answer for so long is given up: it counts as lost unless its answer comes after all.
    /// 10 ms to 1 hour, 10 s usually. It is also how long the end of the run waits for the last answers.
    pub give_up: Duration,
}

/// How the load sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Pace {
    /// A fixed rate: a message is due at its time whatever became of the one before, and its latency counts from
    /// then.
    Open {
        /// Messages a second over all connections, 1 to 10,000,000.
        rate: u32,
    },
    /// Full load: every connection sends the next message when one is back.
    Closed {
        /// Messages under way on each connection, 1 to 65,536.
        in_flight: u32,
    },
}

impl SwapOptions {
    /// 100 swaps of `target`'s code under 2,000 messages a second of 64 bytes over 100 connections.
    pub fn new(target: Target) -> SwapOptions {
        SwapOptions {
            target,
            connections: 100,
            pace: Pace::Open { rate: 2_000 },
            payload: 64,
            first: None,
            swaps: 100,
            warm_up_swaps: 0,
            warm_up: Duration::from_secs(1),
            pause: Duration::from_millis(200),
            swap_limit: Duration::from_secs(60),
            give_up: Duration::from_secs(10),
        }
    }

    /// Checks every range and resolves the target's address.
    pub(super) fn check(&self) -> Result<Url> {
        within("connections", self.connections, 1, 1_000_000)?;
        within("payload", self.payload, PAYLOAD_BYTES_MIN as u32, PAYLOAD_BYTES_MAX as u32)?;
        within("swaps", self.swaps, 1, SWAPS_MAX)?;
        within("warm-up-swaps", self.warm_up_swaps, 0, SWAPS_MAX)?;
        let first = self.first.as_ref().map_or(0, String::len);
        if first > FIRST_BYTES_MAX {
            return Err(Error::option("first", "must be a text of at most 64 KiB"));
        }
        match self.pace {
            Pace::Open { rate } => within("rate", rate, 1, 10_000_000)?,
            Pace::Closed { in_flight } => {
                within("in-flight", in_flight, 1, 65_536)?;
                if in_flight as usize * self.payload as usize > IN_FLIGHT_BYTES_MAX {
                    return Err(Error::option("in-flight", "times `payload` must stay within 64 MiB"));
                }
            }
        }
        for (name, value) in [("warm-up", self.warm_up), ("pause", self.pause)] {
            if value > LIMIT_MAX {
                return Err(Error::option(name, "must be at most 3600 seconds"));
            }
        }
        for (name, value) in [("swap-limit", self.swap_limit), ("give-up", self.give_up)] {
            if !(Duration::from_millis(10)..=LIMIT_MAX).contains(&value) {
                return Err(Error::option(name, "must be 0.01 to 3600 seconds"));
            }
        }
        Url::parse(&self.target.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> SwapOptions {
        SwapOptions::new(Target { url: "ws://127.0.0.1:1/".to_owned(), pids: Vec::new() })
    }

    #[test]
    fn the_usual_values_are_within_their_ranges() {
        usual().check().unwrap();
        SwapOptions { pace: Pace::Closed { in_flight: 16 }, ..usual() }.check().unwrap();
    }

    #[test]
    fn each_option_out_of_range_is_named() {
        for (options, name) in [
            (SwapOptions { connections: 0, ..usual() }, "`connections`"),
            (SwapOptions { payload: 15, ..usual() }, "`payload`"),
            (SwapOptions { first: Some("x".repeat(FIRST_BYTES_MAX + 1)), ..usual() }, "`first`"),
            (SwapOptions { swaps: 0, ..usual() }, "`swaps`"),
            (SwapOptions { warm_up_swaps: SWAPS_MAX + 1, ..usual() }, "`warm-up-swaps`"),
            (SwapOptions { pace: Pace::Open { rate: 0 }, ..usual() }, "`rate`"),
            (SwapOptions { pace: Pace::Closed { in_flight: 0 }, ..usual() }, "`in-flight`"),
            (
                SwapOptions { pace: Pace::Closed { in_flight: 65_536 }, payload: 4096, ..usual() },
                "`in-flight`",
            ),
            (SwapOptions { warm_up: Duration::MAX, ..usual() }, "`warm-up`"),
            (SwapOptions { pause: Duration::MAX, ..usual() }, "`pause`"),
            (SwapOptions { swap_limit: Duration::ZERO, ..usual() }, "`swap-limit`"),
            (SwapOptions { give_up: Duration::MAX, ..usual() }, "`give-up`"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
