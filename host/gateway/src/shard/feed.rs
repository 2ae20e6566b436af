//! From a client's socket to its lane.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use tidegate_base::{CloseCode, CloseReason, Event, Exports, limits};
use tidegate_wire::EventLane;

use super::conn::{Conn, Phase};
use super::deadlines::Due;
use super::output::Batch;
use super::{LeftOver, SCRATCH_BYTES, Shard};
use crate::app::{App, Lane, LaneEvents, Waiter};
use crate::counters;
use crate::protocol::{Decoded, Item, Limits, ProtocolError, encode_pong};

/// Reads of one client in a row, so that one who floods does not keep the others waiting.
const READS_PER_ROUND: usize = 16;
/// Least room for a read into a client's own buffer.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Why a client's bytes are not taken any further.
enum Stop {
    /// More must be read: so many bytes in all.
    Incomplete(usize),
    /// No credit, or as many events under way as one client may have.
    Paused,
    Broken(ProtocolError),
    /// The client says good-bye.
    Close(Option<CloseCode>),
}

/// What reading a socket came to.
enum Got {
    Bytes(usize),
    Nothing,
    End,
    Broken,
}

impl Shard {
    pub(super) fn on_readable(&mut self, key: usize) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.is.readable = true;
            self.pump(key);
        }
    }

    /// The client has shut its side. What it said before still counts; if there is nothing, it is noticed even while
    /// the client waits for credit or for a slot.
    pub(super) fn on_read_closed(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.is.ending = true;
        self.on_readable(key);
        let Some(conn) = self.conns.get(key) else { return };
        let is_silent = match conn.phase {
            Phase::Upgrading { .. } => true,
            Phase::Open => conn.partial.len() < conn.needed,
            _ => false,
        };
        let mut byte = [0];
        if is_silent && matches!(conn.stream.as_ref().map(|s| s.peek(&mut byte)), Some(Ok(0))) {
            self.end(key, CloseReason::Client);
        }
    }

    /// There may be credit again.
    pub(super) fn resume(&mut self, key: usize) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.is.paused = false;
            self.pump(key);
        }
    }

    /// Takes a client as far as it gets: whatever was in its way may be gone.
    pub(super) fn pump(&mut self, key: usize) {
        let Some(conn) = self.conns.get(key) else { return };
        match conn.phase {
            Phase::Head => self.read_head(key),
            Phase::Upgrading { .. } => self.pump_upgrade(key),
            Phase::Open => self.pump_messages(key),
            Phase::Closing(_) => self.read_to_end(key),
            Phase::Ended => self.send_farewell(key),
        }
    }

    fn pump_messages(&mut self, key: usize) {
        let Some(conn) = self.conns.get(key) else { return };
        if conn.is.paused || conn.is.throttled {
            return;
        }
        let Some((app, lane)) = self.bound(key) else { return };
        if self.send_owed(key, &app, &lane) {
            self.read_messages(key, &app, &lane);
        }
    }

    /// Sends what must go ahead of messages. False: no credit.
    pub(super) fn send_owed(&mut self, key: usize, app: &App, lane: &Arc<Lane>) -> bool {
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let announce = lane.exports().has(Exports::CLOSE) && !conn.is.attached;
        if !announce && !conn.is.connect && conn.stash.is_none() {
            return true;
        }
        let mut state = lane.state.lock();
        if state.closed {
            return false;
        }
        if announce {
            attach(conn, &mut state.events);
        }
        // Before any slot was up, nobody knew whether the plugin wants it.
        conn.is.connect &= lane.exports().has(Exports::CONNECT);
        let mut done = true;
        while let Some(stash) = &mut conn.stash {
            let Some(event) = stash.pop_front() else {
                conn.stash = None;
                break;
            };
            if !state.events.can_send() {
                stash.push_front(event);
                pause(conn, self.index, &mut state);
                done = false;
                break;
            }
            if let Some(happened) = event.event() {
                send(conn, app, &mut state.events, event.attempt, &happened);
            }
        }
        if done && conn.is.connect {
            if state.events.can_send() {
                conn.is.connect = false;
                send(conn, app, &mut state.events, 1, &Event::Connect);
            } else {
                pause(conn, self.index, &mut state);
                done = false;
            }
        }
        drop(state);
        self.mark_dirty(lane);
        done
    }

    fn read_messages(&mut self, key: usize, app: &App, lane: &Arc<Lane>) {
        for _ in 0..READS_PER_ROUND {
            let mut scratch = std::mem::take(&mut self.scratch);
            let stop = self.read_once(key, app, lane, &mut scratch);
            self.scratch = scratch;
            match stop {
                None => return,
                Some(Stop::Incomplete(needed)) => {
                    let Some(conn) = self.conns.get_mut(key) else { return };
                    conn.needed = needed;
                    // A read that emptied the socket may still have made a large frame whole.
                    if conn.is.throttled || !conn.is.readable && conn.partial.len() < needed {
                        return;
                    }
                }
                Some(Stop::Paused) => return counters::PAUSES.inc(),
                Some(Stop::Close(code)) => return self.client_closes(key, code),
                Some(Stop::Broken(error)) => {
                    tracing::debug!(%error, "a client broke the protocol");
                    return self.close_conn(
                        key,
                        error.close_code(),
                        &error.to_string(),
                        CloseReason::Protocol,
                    );
                }
            }
        }
        self.read_later(key);
    }

    /// A client that spoke too fast has been silent for a while.
    pub(super) fn on_pace(&mut self, key: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(app) = &conn.app else { return };
        let rates = &app.limits.rates;
        if conn.pace.is_over(rates, self.now) || app.pace.is_over(rates, self.now) {
            return self.deadlines.set(Due::Pace, conn.client, 0, now);
        }
        conn.is.throttled = false;
        self.pump(key);
    }

    /// There may be more, but it is the others' turn.
    fn read_later(&mut self, key: usize) {
        if let Some(conn) = self.conns.get(key) {
            self.left_over.push(LeftOver::Read(conn.client));
        }
    }

    /// Decodes what is kept, or else reads once and decodes that. None: nothing to do until the socket says so.
    fn read_once(&mut self, key: usize, app: &App, lane: &Arc<Lane>, scratch: &mut [u8]) -> Option<Stop> {
        let conn = self.conns.get_mut(key)?;
        if conn.partial.len() >= conn.needed {
            // Whole frames that waited for credit.
            let mut buf = std::mem::take(&mut conn.partial);
            let (used, stop) = self.feed(key, app, lane, &mut buf);
            if used == buf.len() {
                // It may have been a large message.
                buf = Vec::new();
            } else if buf.len() - used <= buf.capacity() / 4 {
                buf = buf.get(used..).unwrap_or_default().to_vec();
            } else {
                buf.drain(..used);
            }
            self.conns.get_mut(key)?.partial = buf;
            return Some(stop);
        }
        if !conn.is.readable {
            return None;
        }
        let kept = conn.partial.len();
        if conn.needed > scratch.len() {
            match read_into_partial(conn) {
                Got::Bytes(_) => return Some(Stop::Incomplete(conn.needed)),
                other => return self.no_bytes(key, &other),
            }
        }
        if let (Some(start), true) = (scratch.get_mut(..kept), kept > 0) {
            start.copy_from_slice(&conn.partial);
        }
        let room = scratch.get_mut(kept..).unwrap_or_default();
        match read(conn, room) {
            Got::Bytes(n) => {
                let buf = scratch.get_mut(..kept + n).unwrap_or_default();
                let (used, stop) = self.feed(key, app, lane, buf);
                let rest = buf.get(used..).unwrap_or_default();
                let conn = self.conns.get_mut(key)?;
                if kept > 0 || !rest.is_empty() {
                    conn.partial.clear();
                    conn.partial.extend_from_slice(rest);
                    if rest.is_empty() {
                        conn.partial = Vec::new();
                    }
                }
                Some(stop)
            }
            other => self.no_bytes(key, &other),
        }
    }

    fn no_bytes(&mut self, key: usize, got: &Got) -> Option<Stop> {
        match got {
            Got::End => self.end(key, CloseReason::Client),
            Got::Broken => self.end(key, CloseReason::Network),
            Got::Nothing | Got::Bytes(_) => {}
        }
        None
    }

    /// Decodes `buf` into the lane until something stops it. Returns how many bytes are used. The lane is locked once.
    fn feed(&mut self, key: usize, app: &App, lane: &Arc<Lane>, buf: &mut [u8]) -> (usize, Stop) {
        let Some(conn) = self.conns.get_mut(key) else { return (0, Stop::Paused) };
        let limits = Limits { payload_bytes_max: app.limits.payload_bytes_max() };
        let mut state = lane.state.lock();
        let (mut used, mut sent) = (0, 0);
        let stop = loop {
            if used == buf.len() {
                conn.codec.release();
                break Stop::Incomplete(1);
            }
            let can = !state.closed && state.events.can_send();
            if !can || conn.in_flight >= app.limits.client_events_max() {
                if state.closed {
                    // The news that the lane is gone is on its way and starts this client again.
                } else if can {
                    conn.is.capped = true;
                } else {
                    pause(conn, self.index, &mut state);
                }
                conn.needed = 1;
                break Stop::Paused;
            }
            let rest = buf.get_mut(used..).unwrap_or_default();
            let mut codec = std::mem::replace(&mut conn.codec, crate::protocol::Codec::Tcp);
            let decoded = codec.decode(rest, &limits);
            let stop = match decoded {
                Ok(Decoded::Item { consumed, item }) => {
                    used += consumed;
                    conn.is.heard = true;
                    take_item(key, conn, app, &mut state.events, &mut self.batch, &item, &mut sent)
                }
                Ok(Decoded::Incomplete { consumed, needed }) => {
                    used += consumed;
                    Some(Stop::Incomplete(needed - consumed))
                }
                Err(error) => Some(Stop::Broken(error)),
            };
            conn.codec = codec;
            if let Some(stop) = stop {
                break stop;
            }
        };
        drop(state);
        let rates = &app.limits.rates;
        let is_fast = conn.pace.charge(rates, sent, used as u64, self.now);
        if (is_fast | app.pace.charge(rates, sent, used as u64, self.now)) && !conn.is.throttled {
            conn.is.throttled = true;
            counters::THROTTLED.inc();
            self.deadlines.set(Due::Pace, conn.client, 0, Instant::now());
        }
        if sent > 0 {
            self.events_sent += sent;
            app.count(self.index, |counts| &counts.events, sent);
            self.mark_dirty(lane);
        }
        (used, stop)
    }

    /// Reads and forgets, until the client has closed its side.
    pub(super) fn read_to_end(&mut self, key: usize) {
        for _ in 0..READS_PER_ROUND {
            let Some(conn) = self.conns.get_mut(key) else { return };
            let reason = match conn.phase {
                Phase::Closing(reason) if conn.is.readable => reason,
                _ => return,
            };
            let mut scratch = std::mem::take(&mut self.scratch);
            let got = read(conn, &mut scratch);
            self.scratch = scratch;
            match got {
                Got::Bytes(_) => {}
                Got::Nothing => return,
                Got::End | Got::Broken => return self.end(key, reason),
            }
        }
        self.read_later(key);
    }
}

fn take_item(
    key: usize,
    conn: &mut Conn,
    app: &App,
    events: &mut EventLane,
    batch: &mut Batch,
    item: &Item<'_>,
    sent: &mut u64,
) -> Option<Stop> {
    match item {
        Item::Message(kind, payload) => {
            *sent += 1;
            send(conn, app, events, 1, &Event::Message(*kind, payload));
        }
        Item::Ping(payload) => {
            // A client that pings and does not read its pongs gets none: they must not pile up.
            if conn.may_note() {
                let range = batch.encode(|out| encode_pong(payload, out));
                batch.note(key, &mut conn.mark, &range);
            }
        }
        Item::Pong(_) | Item::Nothing => {}
        Item::Close { code, .. } => return Some(Stop::Close(*code)),
    }
    None
}

/// Sends an event, with what the slot must know before it.
pub(super) fn send(conn: &mut Conn, app: &App, events: &mut EventLane, attempt: u8, event: &Event<'_>) {
    if !conn.is.attached {
        attach(conn, events);
    }
    if conn.is.session_news {
        conn.is.session_news = false;
        if let Some(session) = app.hub.lock().session(conn.client) {
            events.session(conn.client, session);
            conn.session_event = Some(events.next());
        }
    }
    conn.is.seen = true;
    conn.in_flight += u32::from(events.event(conn.client, attempt, event));
}

pub(super) fn attach(conn: &mut Conn, events: &mut EventLane) {
    events.attach(conn.client, &conn.addresses);
    conn.is.attached = true;
    conn.is.seen = true;
    conn.is.session_news = conn.is.session;
    conn.session_event = None;
}

/// Puts a client on the lane's list of those who wait for credit.
pub(super) fn pause(conn: &mut Conn, shard: usize, state: &mut LaneEvents) {
    if !std::mem::replace(&mut conn.is.paused, true) {
        state.paused.push(Waiter { shard, client: conn.client });
    }
}

fn read(conn: &mut Conn, room: &mut [u8]) -> Got {
    let Some(stream) = &mut conn.stream else { return Got::Nothing };
    loop {
        return match stream.read(room) {
            Ok(0) => Got::End,
            Ok(n) => {
                // A short read emptied the socket, and the kernel tells when there is more: no second call, unless it
                // has told already that nothing follows.
                conn.is.readable = n == room.len() || conn.is.ending;
                conn.is.heard = true;
                Got::Bytes(n)
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                conn.is.readable = false;
                Got::Nothing
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => Got::Broken,
        };
    }
}

/// A large frame: its bytes go where they stay. Memory follows what came, not what the client announced.
fn read_into_partial(conn: &mut Conn) -> Got {
    let have = conn.partial.len();
    // Not less than a good read: how much a line needs is not known before its end is there.
    let room =
        (conn.needed - have).max(READ_BYTES_MIN).min(have.max(SCRATCH_BYTES)).min(limits::FRAME_BYTES_MAX);
    let mut partial = std::mem::take(&mut conn.partial);
    partial.resize(have + room, 0);
    let got = read(conn, partial.get_mut(have..).unwrap_or_default());
    partial.truncate(have + if let Got::Bytes(n) = got { n } else { 0 });
    conn.partial = partial;
    got
}
