//! What goes out to one client: noted in the batch, or queued behind what its socket or its pace holds back.

use std::net::Shutdown;
use std::time::Instant;

use tidegate_base::CloseReason;

use super::conn::Phase;
use super::deadlines::Due;
use super::output::{Encoded, Queued};
use super::{Shard, is_open};
use crate::counters;
use crate::limits::Portion;

/// How much a batch may hold for one client before it is written.
const NOTED_BYTES_MAX: usize = 256 * 1024;

impl Shard {
    /// Sends one message to one client.
    pub(super) fn send_one(&mut self, key: usize, message: &mut Encoded<'_>) {
        let Some(conn) = self.conns.get_mut(key).filter(|c| is_open(c)) else { return };
        let protocol = conn.addresses.protocol;
        let range = message.range(protocol, &mut self.batch);
        let Some(app) = &conn.app else { return };
        let limits = &app.limits;
        if conn.may_note() {
            let noted = self.batch.note(key, &mut conn.mark, &range);
            let is_much = limits.rates.limit_out() && {
                let own = conn.pace.charge_out(&limits.rates, 1, range.len() as u64, self.now);
                own | app.pace.charge_out(&limits.rates, 1, range.len() as u64, self.now)
            };
            if is_much {
                // What is noted goes ahead of what will be queued.
                self.write_batch(key);
                self.hold(key);
            } else if noted > NOTED_BYTES_MAX {
                // Much at once is written at once: what the socket does not take meets the limit of the queue.
                self.write_batch(key);
            }
            return;
        }
        let shared = message.shared(protocol, &mut self.batch);
        match conn.out.push(shared, limits.out_bytes_max(), limits.slow_policy()) {
            Queued::Yes => {}
            Queued::Dropped(n) => counters::DROPPED.add(n),
            Queued::Overflow => {
                counters::SLOW.inc();
                // It does not read: a close frame behind a full queue would never arrive.
                self.end(key, CloseReason::Slow);
            }
        }
    }

    /// More has gone out than may: what follows is queued, until that is made up for.
    fn hold(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.is.held = true;
        counters::OUT_HELD.inc();
        self.deadlines.set(Due::OutPace, conn.client, 0, Instant::now());
    }

    /// A client that got too much has waited for a while.
    pub(super) fn on_out_pace(&mut self, key: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.is.held) else { return };
        let Some(app) = &conn.app else { return };
        let rates = &app.limits.rates;
        if conn.pace.is_over_out(rates, self.now) || app.pace.is_over_out(rates, self.now) {
            return self.deadlines.set(Due::OutPace, conn.client, 0, now);
        }
        conn.is.held = false;
        self.write_more(key);
    }

    /// No pace holds back what a client still gets before it is closed.
    pub(super) fn let_go(&mut self, key: usize) {
        if let Some(conn) = self.conns.get_mut(key)
            && std::mem::take(&mut conn.is.held)
        {
            self.write_more(key);
        }
    }

    pub(super) fn write_batch(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(stream) = &mut conn.stream else { return };
        let written = self.batch.write(&mut conn.mark, stream, &mut conn.out);
        self.after_write(key, written.is_ok());
    }

    /// Writes what is queued, as far as the socket takes it and the pace allows.
    pub(super) fn write_more(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(stream) = &mut conn.stream else { return };
        let paced = conn.app.as_ref().filter(|app| {
            // A client that is closed gets the rest at once.
            matches!(conn.phase, Phase::Open) && app.limits.rates.limit_out()
        });
        let portion = paced.map_or(Portion::ALL, |app| app.limits.rates.portion());
        let (mut is_ok, mut is_much) = (true, false);
        while is_ok && !is_much && !conn.out.is_empty() {
            let Ok(flushed) = conn.out.flush(stream, portion) else {
                is_ok = false;
                break;
            };
            if let Some(app) = paced {
                let rates = &app.limits.rates;
                let (messages, bytes) = (flushed.messages as u64, flushed.bytes as u64);
                is_much = conn.pace.charge_out(rates, messages, bytes, self.now)
                    | app.pace.charge_out(rates, messages, bytes, self.now);
            }
            if flushed.is_blocked {
                break;
            }
        }
        if is_much {
            self.hold(key);
        }
        self.after_write(key, is_ok);
    }

    fn after_write(&mut self, key: usize, is_ok: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if !is_ok {
            return self.end(key, CloseReason::Network);
        }
        if matches!(conn.phase, Phase::Closing(_)) && conn.out.is_empty() && !conn.is.shut {
            if matches!(conn.phase, Phase::Closing(CloseReason::Client)) {
                // Both close frames are exchanged: the server ends the connection (RFC 6455, 7.1.1).
                return self.end(key, CloseReason::Client);
            }
            conn.is.shut = true;
            // Our last word is out. The client's end of the stream, or the linger time, ends the connection.
            let _ = conn.stream.as_ref().map(|s| s.shutdown(Shutdown::Write));
            self.read_to_end(key);
        }
    }
}
