//! The loads as state machines: what to send and what came back, without a socket or a clock.

mod broadcast;
mod echo;
mod open;
mod schedule;

pub(crate) use broadcast::Broadcast;
pub(crate) use echo::Echo;
pub(crate) use open::{CATCH_UP_MAX, Open, open_window};
pub(crate) use schedule::{Due, Schedule};

use crate::stats::{Faults, Nanos};

/// Where a load puts frames to be sent.
pub(crate) trait Outbox {
    /// The output buffer of `client`, or `None` if it is closed or has too much unsent already.
    fn buffer(&mut self, client: usize) -> Option<&mut Vec<u8>>;
}

/// A load on a fleet of clients. `now` is in nanoseconds and never goes back.
///
/// The fleet calls [`Load::refill`] once for every client at the start; then, for each read,
/// [`Load::on_message`] for every message in it and [`Load::refill`] after them; and [`Load::pump`] after each
/// round of reads, and when [`Load::next_due`] has come. After [`Load::stop`] the load sends nothing more.
pub(crate) trait Load: Send {
    /// `client` got a message.
    fn on_message(&mut self, client: usize, payload: &[u8], now: u64);
    /// Appends what `client` sends next by itself.
    fn refill(&mut self, _client: usize, _now: u64, _out: &mut Vec<u8>) {}
    /// Sends what depends on more than one client or on the time.
    fn pump(&mut self, _now: u64, _outbox: &mut impl Outbox) {}
    /// When [`Load::pump`] has something to send even if nothing is received.
    fn next_due(&self) -> Option<u64> {
        None
    }
    /// The connection of `client` ended; it comes at most once for each.
    fn on_closed(&mut self, client: usize);
    /// Send nothing more.
    fn stop(&mut self);
    /// Messages (deliveries) still to come on open connections.
    fn outstanding(&self) -> u64;
    /// Whether enough connections are left to go on.
    fn is_alive(&self) -> bool;
    /// The counts so far.
    fn tally(&mut self) -> &mut Tally;
}

/// What a load counts.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Messages (deliveries) received in the measured window.
    pub(crate) counted: u64,
    /// Their latencies.
    pub(crate) latency: Nanos,
    /// How late the generator itself sent what was due in the window; open loop only.
    pub(crate) lateness: Nanos,
    /// What went wrong since the start.
    pub(crate) faults: Faults,
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally { counted: 0, latency: Nanos::new(), lateness: Nanos::new(), faults: Faults::default() }
    }

    /// The warm-up is over: counts and latencies start anew, faults stay.
    pub(crate) fn open_window(&mut self) {
        self.counted = 0;
        self.latency.reset();
        self.lateness.reset();
    }

    #[inline]
    pub(crate) fn count(&mut self, nanos: u64) {
        self.counted += 1;
        self.latency.record(nanos);
    }
}

/// The load that sends nothing: for connections that are only held.
#[derive(Debug)]
pub(crate) struct Quiet {
    open: u64,
    tally: Tally,
}

impl Quiet {
    pub(crate) fn new(clients: u32) -> Quiet {
        Quiet { open: u64::from(clients), tally: Tally::new() }
    }
}

impl Load for Quiet {
    fn on_message(&mut self, _client: usize, _payload: &[u8], _now: u64) {
        self.tally.faults.foreign += 1;
    }

    fn on_closed(&mut self, _client: usize) {
        self.open -= 1;
    }

    fn stop(&mut self) {}

    fn outstanding(&self) -> u64 {
        0
    }

    fn is_alive(&self) -> bool {
        self.open > 0
    }

    fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::codec::{Header, apply_mask};

    /// Output buffers in memory, with a switch to refuse.
    pub(crate) struct Buffers {
        pub(crate) of: Vec<Vec<u8>>,
        pub(crate) refuse: bool,
    }

    impl Buffers {
        pub(crate) fn new(clients: usize) -> Buffers {
            Buffers { of: vec![Vec::new(); clients], refuse: false }
        }
    }

    impl Outbox for Buffers {
        fn buffer(&mut self, client: usize) -> Option<&mut Vec<u8>> {
            if self.refuse { None } else { self.of.get_mut(client) }
        }
    }

    /// Takes the unmasked payloads of all frames out of `bytes`.
    pub(crate) fn payloads(bytes: &mut Vec<u8>) -> Vec<Vec<u8>> {
        let (mut got, mut at) = (Vec::new(), 0);
        while let Some(header) = Header::parse(&bytes[at..]).unwrap() {
            at += header.header_len;
            let mut payload = bytes[at..at + header.payload_len].to_vec();
            apply_mask(&mut payload, header.mask.unwrap());
            at += header.payload_len;
            got.push(payload);
        }
        bytes.clear();
        got
    }
}
