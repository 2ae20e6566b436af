//! What keeps a greedy app at work.

use std::fmt;

use serde::Serialize;

use crate::codec::Opcode;
use crate::loads::{Load, Tally};
use crate::options::within;
use crate::payload::put_masked;
use crate::{Error, Result};

const TEXT_BYTES_MAX: usize = 64 << 10;

/// How a neighbour is greedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Greed {
    /// By turns that take long: each connection says what sets the app to work, and again whenever it is done.
    Loop {
        /// What it says, 1 byte to 64 KiB; `loop` usually.
        say: String,
    },
    /// By many short turns: each connection sends texts as fast as they come back.
    Flood {
        /// Bytes of each, 16 to 65,536; 64 usually.
        payload: u32,
        /// So many that have not come back, on each connection, 1 to 1024; 64 usually.
        in_flight: u32,
    },
}

impl Default for Greed {
    fn default() -> Self {
        Self::Loop { say: "loop".to_owned() }
    }
}

impl Greed {
    /// Checks every range.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Loop { say } if say.is_empty() || say.len() > TEXT_BYTES_MAX => {
                Err(Error::option("say", "must be a text of 1 byte to 64 KiB"))
            }
            Self::Loop { .. } => Ok(()),
            Self::Flood { payload, in_flight } => {
                within("flood-payload", *payload, 16, TEXT_BYTES_MAX as u32)?;
                within("in-flight", *in_flight, 1, 1024)
            }
        }
    }
}

impl fmt::Display for Greed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop { say } => write!(f, "say `{say}` to a neighbour"),
            Self::Flood { payload, in_flight } => {
                write!(f, "flood a neighbour with messages of {payload} bytes, {in_flight} under way on each")
            }
        }
    }
}

/// What comes back when the app has done what it was told before.
const ARE_YOU_DONE: &[u8] = b"tidegate-bench: are you done?";

/// The load at a neighbour whose turns take long: each connection says what sets it to work, then asks whether it is done,
/// and begins anew when it is.
#[derive(Debug)]
pub(super) struct Provoked {
    provocation: Vec<u8>,
    clients: Vec<State>,
    provoked: u64,
    stopped: bool,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// It was set to work and has not answered since.
    Busy,
    Closed,
}

impl Provoked {
    pub(super) fn new(clients: u32, provocation: &str) -> Provoked {
        Provoked {
            provocation: provocation.as_bytes().to_vec(),
            clients: vec![State::Idle; clients as usize],
            provoked: 0,
            stopped: false,
            tally: Tally::new(),
        }
    }

    /// How often it was set to work.
    pub(super) fn provoked(&self) -> u64 {
        self.provoked
    }
}

impl Load for Provoked {
    fn on_message(&mut self, client: usize, payload: &[u8], _now: u64) {
        if payload.windows(ARE_YOU_DONE.len()).any(|part| part == ARE_YOU_DONE)
            && let Some(state) = self.clients.get_mut(client)
        {
            *state = State::Idle;
        }
    }

    fn refill(&mut self, client: usize, _now: u64, out: &mut Vec<u8>) {
        let idle = self.clients.get_mut(client).filter(|state| **state == State::Idle);
        if let Some(state) = idle.filter(|_| !self.stopped) {
            *state = State::Busy;
            self.provoked += 1;
            put_masked(out, Opcode::Text, &self.provocation);
            put_masked(out, Opcode::Text, ARE_YOU_DONE);
        }
    }

    fn on_closed(&mut self, client: usize) {
        if let Some(state) = self.clients.get_mut(client) {
            *state = State::Closed;
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn outstanding(&self) -> u64 {
        self.clients.iter().filter(|state| **state == State::Busy).count() as u64
    }

    fn is_alive(&self) -> bool {
        self.clients.iter().any(|state| *state != State::Closed)
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::loads::testing::payloads;
    use super::*;

    #[test]
    fn it_is_set_to_work_again_when_it_is_done_and_only_then() {
        let mut load = Provoked::new(2, "loop");
        let mut out = Vec::new();
        load.refill(0, 0, &mut out);
        assert_eq!(payloads(&mut out), [&b"loop"[..], ARE_YOU_DONE]);
        load.on_message(0, b"welcome", 1);
        load.refill(0, 1, &mut out);
        assert!(out.is_empty() && load.outstanding() == 1);
        load.on_message(0, b"you say: tidegate-bench: are you done?", 2);
        assert_eq!(load.outstanding(), 0);
        load.refill(0, 2, &mut out);
        assert_eq!((payloads(&mut out).len(), load.provoked(), load.outstanding()), (2, 2, 1));
        load.stop();
        load.on_message(0, ARE_YOU_DONE, 3);
        load.refill(0, 3, &mut out);
        assert!(out.is_empty() && load.outstanding() == 0 && load.is_alive());
        load.on_closed(0);
        load.on_closed(1);
        assert!(!load.is_alive());
    }
}
