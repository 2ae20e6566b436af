//! What to run, against what, for how long.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::codec::MESSAGE_BYTES_MAX;
use crate::payload::PAYLOAD_BYTES_MIN;
use crate::url::Url;
use crate::{Error, Result};

/// How many connections are opened at a time, unless the work says otherwise: a server's accept queue holds more.
pub(crate) const AT_A_TIME: u32 = 64;

pub(crate) const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;
// Bytes that a closed loop may have under way on one connection; the client buffers them when the server is slow.
pub(crate) const IN_FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;
const SPAN_MIN: Duration = Duration::from_millis(10);
const SPAN_MAX: Duration = Duration::from_secs(3600);

/// One benchmark run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The load.
    pub work: Work,
    /// The server to load.
    pub target: Target,
    /// With a command, each round is followed by the same work against a bare server started with it.
    pub yardstick: Option<YardstickCommand>,
    /// How often to measure; 1 to 1000. [`Work::Idle`] is always measured once, because a server's allocator
    /// keeps what the first round made it ask for.
    pub rounds: u32,
    /// Load before each measured span, so that caches, buffers and congestion windows are warm. At most 1 hour.
    pub warm_up: Duration,
    /// How long each round measures; 10 ms to 1 hour. For [`Work::Idle`]: how long the connections are held.
    pub span: Duration,
    /// Threads of the load generator, 1 to 64; each drives its share of the connections. More than one only
    /// helps [`Work::Echo`] and [`Work::Open`], on a machine with cores to spare; the others run on one.
    pub threads: u32,
    /// Text or binary messages.
    pub kind: MessageKind,
}

/// A server and the processes to charge for it.
#[derive(Clone, Debug)]
pub struct Target {
    /// `ws://host:port/path`.
    pub url: String,
    /// Process ids whose CPU time and memory count as the server's: gateway and worker, for example. Empty if
    /// the server is on another machine; then those figures are left out.
    pub pids: Vec<u32>,
}

/// The kind of WebSocket message sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// UTF-8 text (ASCII, in fact).
    Text,
    /// Binary.
    Binary,
}

/// A load. Payloads are 16 bytes to 1 MiB, connections 1 to 1,000,000.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "name")]
#[non_exhaustive]
pub enum Work {
    /// Closed loop: every connection keeps `in_flight` messages under way and sends the next when one is back.
    /// Needs a server that sends each message back to its sender.
    Echo {
        /// Connections.
        connections: u32,
        /// Messages under way on each, 1 to 65,536.
        in_flight: u32,
        /// Payload in bytes.
        payload: u32,
    },
    /// Open loop: message `i` is due at `i / rate` seconds whatever became of the ones before, and its latency
    /// counts from that moment, so a stalled server cannot hide the wait. Needs an echo server.
    Open {
        /// Connections, used in turn.
        connections: u32,
        /// Messages a second over all connections, 1 to 10,000,000.
        rate: u32,
        /// Payload in bytes.
        payload: u32,
        /// Busy-wait instead of sleeping until the next message is due: exact send times for a core of CPU.
        spin: bool,
    },
    /// The first connection sends, all of them (the first too) receive; counted per delivery. Needs a server
    /// that sends every message to all.
    Broadcast {
        /// Connections.
        connections: u32,
        /// Broadcasts under way at a time, 1 to 1024.
        outstanding: u32,
        /// Payload in bytes.
        payload: u32,
    },
    /// Opens connections, 64 at a time, and holds them: memory per connection, CPU per connect.
    Idle {
        /// Connections.
        connections: u32,
    },
    /// Opens and closes connections in a storm: CPU per connect (and close).
    Connect {
        /// Connections under way at a time, 1 to 4096.
        at_a_time: u32,
    },
}

/// How to start a yardstick: the program must call [`crate::yardstick::serve`] with the kind from the arguments
/// `--kind echo|broadcast|idle`, which are appended to `args`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YardstickCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before `--kind`.
    pub args: Vec<String>,
}

impl YardstickCommand {
    /// This same binary with `bench yardstick`.
    ///
    /// # Errors
    /// [`Error::Io`] if the system cannot tell where the binary lies.
    pub fn this_binary() -> Result<YardstickCommand> {
        let program = std::env::current_exe().map_err(Error::io("finding this program's own file"))?;
        Ok(YardstickCommand { program, args: vec!["bench".to_owned(), "yardstick".to_owned()] })
    }
}

impl Work {
    /// The name on the command line and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Work::Echo { .. } => "echo",
            Work::Open { .. } => "open",
            Work::Broadcast { .. } => "broadcast",
            Work::Idle { .. } => "idle",
            Work::Connect { .. } => "connect",
        }
    }

    /// How many connections are open at once.
    pub fn connections(&self) -> u32 {
        match *self {
            Work::Echo { connections, .. }
            | Work::Open { connections, .. }
            | Work::Broadcast { connections, .. }
            | Work::Idle { connections }
            | Work::Connect { at_a_time: connections } => connections,
        }
    }

    fn check(&self) -> Result<()> {
        within("connections", self.connections(), 1, 1_000_000)?;
        let payload_max = PAYLOAD_BYTES_MAX as u32;
        let check_payload = |payload| within("payload", payload, PAYLOAD_BYTES_MIN as u32, payload_max);
        match *self {
            Work::Echo { in_flight, payload, .. } => {
                check_payload(payload)?;
                within("in-flight", in_flight, 1, 65_536)?;
                if in_flight as usize * payload as usize > IN_FLIGHT_BYTES_MAX {
                    return Err(Error::option("in-flight", "times `payload` must stay within 64 MiB"));
                }
                Ok(())
            }
            Work::Open { rate, payload, .. } => {
                check_payload(payload)?;
                within("rate", rate, 1, 10_000_000)
            }
            Work::Broadcast { outstanding, payload, .. } => {
                check_payload(payload)?;
                within("outstanding", outstanding, 1, 1024)
            }
            Work::Idle { .. } => Ok(()),
            Work::Connect { at_a_time } => within("at-a-time", at_a_time, 1, 4096),
        }
    }
}

impl Options {
    /// Checks every range and resolves the target's address.
    pub(crate) fn check(&self) -> Result<Url> {
        self.work.check()?;
        within("rounds", self.rounds, 1, 1000)?;
        within("threads", self.threads, 1, 64)?;
        if !(SPAN_MIN..=SPAN_MAX).contains(&self.span) {
            return Err(Error::option("seconds", "must be 0.01 to 3600"));
        }
        if self.warm_up > SPAN_MAX {
            return Err(Error::option("warm-up", "must be at most 3600 seconds"));
        }
        Url::parse(&self.target.url)
    }
}

/// Checks the range of an option.
pub(crate) fn within(name: &'static str, value: u32, min: u32, max: u32) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::option(name, format!("{value} is outside {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(work: Work) -> Options {
        Options {
            work,
            target: Target { url: "ws://127.0.0.1:1/".to_owned(), pids: Vec::new() },
            yardstick: None,
            rounds: 5,
            warm_up: Duration::from_millis(500),
            span: Duration::from_secs(5),
            threads: 1,
            kind: MessageKind::Text,
        }
    }

    #[test]
    fn options_within_their_ranges_pass() {
        options(Work::Echo { connections: 500, in_flight: 1, payload: 64 }).check().unwrap();
        options(Work::Connect { at_a_time: 64 }).check().unwrap();
    }

    #[test]
    fn each_option_out_of_range_is_named() {
        let echo = |connections, in_flight, payload| options(Work::Echo { connections, in_flight, payload });
        let good = || echo(1, 1, 64);
        for (options, name) in [
            (echo(0, 1, 64), "`connections`"),
            (echo(1, 0, 64), "`in-flight`"),
            (echo(1, 1, 15), "`payload`"),
            (echo(1, 65_536, 1 << 20), "`in-flight`"),
            (options(Work::Open { connections: 1, rate: 0, payload: 64, spin: false }), "`rate`"),
            (options(Work::Broadcast { connections: 1, outstanding: 1025, payload: 64 }), "`outstanding`"),
            (options(Work::Connect { at_a_time: 5000 }), "`at-a-time`"),
            (Options { rounds: 0, ..good() }, "`rounds`"),
            (Options { threads: 65, ..good() }, "`threads`"),
            (Options { span: Duration::ZERO, ..good() }, "`seconds`"),
            (Options { warm_up: Duration::MAX, ..good() }, "`warm-up`"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
