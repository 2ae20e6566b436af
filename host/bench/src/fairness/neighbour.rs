//! Keeps an app at work: each connection says what sets it to work, then asks whether it is done, and begins anew when it
//! is.

use crate::codec::Opcode;
use crate::loads::{Load, Tally};
use crate::payload::put_masked;

/// What comes back when the app has done what it was told before.
const ARE_YOU_DONE: &[u8] = b"tidegate-bench: are you done?";

/// The load at a greedy neighbour.
#[derive(Debug)]
pub(super) struct Neighbour {
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

impl Neighbour {
    pub(super) fn new(clients: u32, provocation: &str) -> Neighbour {
        Neighbour {
            provocation: provocation.as_bytes().to_vec(),
            clients: vec![State::Idle; clients as usize],
            provoked: 0,
            stopped: false,
            tally: Tally::new(),
        }
    }

    /// Sets it to work no more.
    pub(super) fn rest(&mut self) {
        self.stopped = true;
    }

    /// Whether it has not done all that it was told.
    pub(super) fn is_busy(&self) -> bool {
        self.clients.contains(&State::Busy)
    }

    /// How often it was set to work.
    pub(super) fn provoked(&self) -> u64 {
        self.provoked
    }
}

impl Load for Neighbour {
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
        self.rest();
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
        let mut load = Neighbour::new(2, "loop");
        let mut out = Vec::new();
        load.refill(0, 0, &mut out);
        assert_eq!(payloads(&mut out), [&b"loop"[..], ARE_YOU_DONE]);
        load.on_message(0, b"welcome", 1);
        load.refill(0, 1, &mut out);
        assert!(out.is_empty() && load.is_busy());
        load.on_message(0, b"you say: tidegate-bench: are you done?", 2);
        assert!(!load.is_busy());
        load.refill(0, 2, &mut out);
        assert_eq!((payloads(&mut out).len(), load.provoked(), load.outstanding()), (2, 2, 1));
        load.rest();
        load.on_message(0, ARE_YOU_DONE, 3);
        load.refill(0, 3, &mut out);
        assert!(out.is_empty() && !load.is_busy() && load.is_alive());
        load.on_closed(0);
        load.on_closed(1);
        assert!(!load.is_alive());
    }
}
