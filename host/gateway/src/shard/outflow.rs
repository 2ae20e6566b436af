//! What goes out to one client: noted in the batch, or queued behind what its socket or its pace holds back.

use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use tidegate_base::CloseReason;

use super::conn::Phase;
use super::deadlines::Due;
use super::output::{Encoded, Posted, Queued};
use super::ring::SENDS_MAX;
use super::{Shard, is_open};
use crate::counters;
use crate::limits::Portion;

/// How much a batch may hold for one client before it is written.
const NOTED_BYTES_MAX: usize = 256 * 1024;
/// Fewer clients are not worth a list.
const POSTED_MIN: usize = 2;

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

    /// Writes every client that has something noted.
    pub(super) fn write_touched(&mut self) {
        let together = self.batch.touched() >= POSTED_MIN;
        while let Some(key) = self.batch.pop_touched() {
            if !(together && self.post(key)) {
                self.write_batch(key);
            }
            if self.posted.len() == SENDS_MAX {
                self.send_posted();
            }
        }
        self.send_posted();
    }

    /// Leaves a client to the ring. False: it must be written alone.
    fn post(&mut self, key: usize) -> bool {
        if self.ring.is_none() {
            return false;
        }
        // Something is done after the last write to those that are closing.
        let Some(conn) = self.conns.get_mut(key).filter(|conn| is_open(conn)) else { return false };
        let Some(range) = self.batch.take_single(&mut conn.mark) else { return false };
        self.posted.push(Posted { key, range });
        true
    }

    /// Writes the posted clients by one call, and those that it could not write one by one.
    fn send_posted(&mut self) {
        if self.posted.is_empty() {
            return;
        }
        let mut posted = std::mem::take(&mut self.posted);
        posted.retain(|post| self.conns.get(post.key).is_some_and(|conn| conn.stream.is_some()));
        if let Some(ring) = &mut self.ring {
            let sends = posted.iter().filter_map(|post| {
                let stream = self.conns.get(post.key)?.stream.as_ref()?;
                Some((stream.as_fd(), self.batch.bytes(&post.range)))
            });
            if let Err(error) = ring.send(sends, &mut self.taken) {
                tracing::error!(%error, "io_uring failed: from here on clients are written one by one");
                self.ring = None;
            }
        }
        for (at, post) in posted.drain(..).enumerate() {
            let taken = self.taken.get(at).copied().flatten().unwrap_or(0);
            if taken < post.range.len() {
                self.write_rest(post.key, &(post.range.start + taken..post.range.end));
            }
        }
        self.taken.clear();
        self.posted = posted;
    }

    /// The socket is full or broken: the call for this client alone says which.
    fn write_rest(&mut self, key: usize, range: &Range<usize>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(stream) = &mut conn.stream else { return };
        let written = conn.out.write_now(stream, self.batch.bytes(range));
        self.after_write(key, written.is_ok());
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
