//! How a client comes, is bound to a slot, and goes.

use std::sync::Arc;
use std::time::Instant;

use tidegate_base::{CloseCode, CloseInfo, CloseReason, Event, Exports, Protocol};
use tidegate_wire::Unfinished;

use super::Shard;
use super::conn::{Conn, Phase};
use super::deadlines::Due;
use super::feed::{attach, pause};
use super::inbox::ShardMsg;
use crate::app::{App, Binding, Lane, Life, Waiter};
use crate::counters;
use crate::protocol::{encode_close, encode_ping, http};

impl Shard {
    /// The app and the lane of a client; binds it if it is not. None: it waits.
    pub(super) fn bound(&mut self, key: usize) -> Option<(Arc<App>, Arc<Lane>)> {
        let conn = self.conns.get_mut(key)?;
        let app = conn.app.clone()?;
        if let Some(lane) = &conn.lane {
            return Some((app, lane.clone()));
        }
        let waiter = Waiter { shard: self.index, client: conn.client };
        if !std::mem::replace(&mut conn.is.binding, true)
            && let Binding::Bound(lane) = app.bind(waiter, fastrand::u64(..))
        {
            conn.is.binding = false;
            conn.end_wait();
            conn.lane = Some(lane.clone());
            return Some((app, lane));
        }
        // One deadline for the whole wait, however often slots come and go meanwhile.
        if !std::mem::replace(&mut conn.is.timed, true) {
            self.deadlines.set(Due::Slot, conn.client, conn.waits, Instant::now());
        }
        None
    }

    pub(super) fn on_bound(&mut self, clients: &[u32], lane: &Arc<Lane>) {
        for client in clients {
            let Some(key) = self.by_client.get(client).copied() else {
                // It went away while its lane opened.
                if let Some(app) = lane.app.upgrade() {
                    app.unbind(lane);
                }
                continue;
            };
            if let Some(conn) = self.conns.get_mut(key) {
                conn.is.binding = false;
                conn.end_wait();
                conn.lane = Some(lane.clone());
            }
            self.pump(key);
        }
    }

    /// The client can receive.
    pub(super) fn open(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if matches!(conn.phase, Phase::Upgrading { .. }) {
            conn.end_wait();
        }
        conn.phase = Phase::Open;
        conn.is.heard = true;
        let Some(app) = &conn.app else { return };
        app.hub.lock().open(conn.client);
        // Until it has a slot, nobody knows: workers may run different versions.
        conn.is.connect = conn.lane.as_ref().is_none_or(|lane| lane.exports().has(Exports::CONNECT));
        let client = conn.client;
        if let Some(heartbeat) = self.heartbeat_of(key) {
            self.deadlines.set_heartbeat(heartbeat.interval, client, Instant::now());
        }
        if self.stopping {
            return self.say_goodbye(key);
        }
        self.pump(key);
    }

    /// The client's WebSocket close frame came: answer it, and end.
    pub(super) fn client_closes(&mut self, key: usize, code: Option<CloseCode>) {
        self.last_word(key, code.unwrap_or(CloseCode::NORMAL), "");
        self.begin_closing(key, CloseReason::Client);
    }

    /// Puts a close frame behind everything that is there for a client.
    fn last_word(&mut self, key: usize, code: CloseCode, text: &str) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let protocol = conn.addresses.protocol;
        let range = self.batch.encode(|out| encode_close(protocol, code, text, out));
        if conn.may_note() {
            self.batch.note(key, &mut conn.mark, &range);
        } else {
            let frame = bytes::Bytes::copy_from_slice(self.batch.bytes(&range));
            let _ = conn.out.push(frame, usize::MAX, crate::settings::SlowPolicy::DropNewest);
        }
    }

    /// Closes a client that is there: what is queued for it goes out first.
    pub(super) fn close_conn(&mut self, key: usize, code: CloseCode, text: &str, reason: CloseReason) {
        let Some(conn) = self.conns.get(key) else { return };
        match conn.phase {
            Phase::Open => {
                self.last_word(key, code, text);
                self.begin_closing(key, reason);
            }
            Phase::Head => self.end(key, reason),
            Phase::Upgrading { .. } => {
                let after_s = (code == CloseCode::TRY_AGAIN).then_some(http::RETRY_AFTER_S);
                let range = self.batch.encode(|out| http::refusal_until(503, text, after_s, out));
                self.refuse(key, &range);
            }
            Phase::Closing(_) | Phase::Ended => {}
        }
    }

    /// From here on nothing that the client says counts.
    pub(super) fn begin_closing(&mut self, key: usize, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.phase = Phase::Closing(reason);
        conn.end_wait();
        conn.partial = Vec::new();
        conn.is.readable = true;
        if let Some(app) = &conn.app {
            app.hub.lock().depart(conn.client);
        }
        self.deadlines.set(Due::Linger, conn.client, 0, Instant::now());
        // Nothing may be written after this, so the batch's last write shuts our side.
        self.batch.touch(key);
        self.let_go(key);
    }

    /// The connection is over.
    pub(super) fn end(&mut self, key: usize, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let reason = match conn.phase {
            Phase::Closing(earlier) => earlier,
            Phase::Ended => return,
            // The plugin was asked about it, but never told that it is there.
            Phase::Upgrading { .. } => {
                conn.is.seen = false;
                reason
            }
            _ => reason,
        };
        conn.phase = Phase::Ended;
        // What is still owed has a time of its own to find a slot.
        conn.end_wait();
        conn.partial = Vec::new();
        conn.out = Default::default();
        // The only descriptor of the socket: closing it takes it out of the epoll set as well.
        conn.stream = None;
        counters::CLOSED.inc();
        let Some(app) = &conn.app else { return self.forget(key) };
        app.count(self.index, |counts| &counts.closed, 1);
        let left = {
            let mut hub = app.hub.lock();
            hub.depart(conn.client);
            hub.left(conn.client).unwrap_or_default()
        };
        let wants_close =
            conn.lane.as_ref().map(|l| l.exports()).or(app.exports()).is_some_and(|e| e.has(Exports::CLOSE));
        if conn.is.seen && wants_close {
            let (uid, groups, session) = (left.uid, left.groups, left.session);
            conn.farewell = Some(Box::new(CloseInfo { reason, uid, groups, session }));
        } else if !conn.is.seen {
            conn.is.connect = false;
        }
        self.send_farewell(key);
    }

    /// Sends on-close if it is owed, and forgets the client once all of its events are done: if its slot leaves without
    /// having read them, they go to another one.
    pub(super) fn send_farewell(&mut self, key: usize) {
        let Some(conn) = self.conns.get(key) else { return };
        if conn.farewell.is_some() || conn.stash.is_some() {
            if conn.is.paused {
                return;
            }
            match self.bound(key) {
                Some((app, lane)) if self.send_last(key, &app, &lane) => self.mark_dirty(&lane),
                None if self.is_hopeless(key) => return self.forget(key),
                _ => return,
            }
        }
        self.detach(key);
        if self.conns.get(key).is_some_and(|conn| conn.in_flight == 0) {
            self.forget(key);
        }
    }

    /// A gateway that stops, or an app that does, does not wait for a slot that may never come.
    fn is_hopeless(&self, key: usize) -> bool {
        let Some(app) = self.conns.get(key).and_then(|conn| conn.app.as_ref()) else { return true };
        (self.stopping || app.life() != Life::Active) && !app.is_up()
    }

    /// Sends everything that is owed for a client that is gone. False: not yet.
    fn send_last(&mut self, key: usize, app: &App, lane: &Arc<Lane>) -> bool {
        if !self.send_owed(key, app, lane) {
            return false;
        }
        let Some(conn) = self.conns.get_mut(key) else { return false };
        let mut state = lane.state.lock();
        if state.closed {
            return false;
        }
        let Some(info) = conn.farewell.take() else { return true };
        if !lane.exports().has(Exports::CLOSE) {
            return true;
        }
        if !state.events.can_send() {
            conn.farewell = Some(info);
            pause(conn, self.index, &mut state);
            return false;
        }
        if !conn.is.attached {
            attach(conn, &mut state.events);
        }
        // Its session travels in the event.
        conn.is.session_news = false;
        conn.in_flight += u32::from(state.events.event(conn.client, 1, &Event::Close(*info)));
        true
    }

    /// Tells its slot that a client is gone: nothing follows the events that are sent.
    fn detach(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key).filter(|c| c.is.attached) else { return };
        conn.is.attached = false;
        let Some(lane) = conn.lane.clone() else { return };
        let mut state = lane.state.lock();
        if !state.closed {
            state.events.detach(conn.client);
            drop(state);
            self.mark_dirty(&lane);
        }
    }

    pub(super) fn forget(&mut self, key: usize) {
        let Some(conn) = self.conns.try_remove(key) else { return };
        self.by_client.remove(&conn.client);
        let unsent = conn.stash.map_or(0, |stash| stash.len()) + usize::from(conn.farewell.is_some());
        counters::EVENTS_LOST.add(unsent as u64);
        let Some(app) = conn.app else { return self.unrouted.remove() };
        app.count(self.index, |counts| &counts.lost, unsent as u64);
        app.hub.lock().remove(conn.client);
        if conn.is.binding {
            app.cancel(Waiter { shard: self.index, client: conn.client });
        }
        if let Some(lane) = conn.lane {
            app.unbind(&lane);
        }
        if app.exit() && app.is_over() {
            self.inboxes.iter().for_each(|inbox| inbox.push(ShardMsg::AppIsOver(app.clone())));
        }
    }

    /// The clients of this shard that are bound to a lane.
    pub(super) fn clients_of(&self, lane: &Arc<Lane>) -> Vec<usize> {
        let is_bound = |c: &Conn| c.lane.as_ref().is_some_and(|l| Arc::ptr_eq(l, lane));
        self.conns.iter().filter(|(_, c)| is_bound(c)).map(|(key, _)| key).collect()
    }

    /// A slot left or was lost: its clients are bound anew, and what it did not read goes first.
    pub(super) fn on_lane_gone(&mut self, lane: &Arc<Lane>, unread: Vec<Unfinished>) {
        let keys = self.clients_of(lane);
        for key in &keys {
            let Some(conn) = self.conns.get_mut(*key) else { continue };
            conn.lane = None;
            conn.end_wait();
            conn.in_flight = 0;
            conn.is.attached = false;
            conn.is.paused = false;
            conn.is.capped = false;
            if let Phase::Upgrading { asked, .. } = &mut conn.phase {
                *asked = false;
            }
        }
        // What an earlier slot left unread and this one was not even sent comes behind.
        for event in unread.into_iter().rev() {
            // A request is asked anew while it waits, and of no use afterwards.
            if matches!(event.event(), Some(Event::WebsocketConnect(_))) {
                continue;
            }
            let Some(key) = self.by_client.get(&event.client).copied() else { continue };
            if let Some(conn) = self.conns.get_mut(key) {
                counters::EVENTS_MOVED.inc();
                conn.stash.get_or_insert_default().push_front(event);
            }
        }
        keys.into_iter().for_each(|key| self.pump(key));
    }

    pub(super) fn on_due(&mut self, due: Due, key: usize, stamp: u16, now: Instant) {
        let Some(conn) = self.conns.get(key) else { return };
        let is_current = conn.is.timed && conn.waits == stamp;
        match (due, &conn.phase) {
            (Due::Handshake, Phase::Head) => self.end(key, CloseReason::Protocol),
            (Due::Decision, Phase::Upgrading { .. }) if is_current => {
                self.close_conn(
                    key,
                    CloseCode::TRY_AGAIN,
                    "The app did not answer in time.",
                    CloseReason::Protocol,
                );
            }
            (Due::Slot, _) if is_current => {
                counters::WAITED_OUT.inc();
                if matches!(conn.phase, Phase::Ended) {
                    return self.forget(key);
                }
                self.close_conn(
                    key,
                    CloseCode::TRY_AGAIN,
                    "No worker is up for this app.",
                    CloseReason::Shutdown,
                );
            }
            (Due::Linger, Phase::Closing(reason)) => {
                let reason = *reason;
                self.end(key, reason);
            }
            (Due::Pace, Phase::Open) => self.on_pace(key, now),
            (Due::OutPace, Phase::Open) => self.on_out_pace(key, now),
            (Due::Heartbeat, Phase::Open) => self.on_heartbeat(key, now),
            _ => {}
        }
    }

    fn on_heartbeat(&mut self, key: usize, now: Instant) {
        let Some(heartbeat) = self.heartbeat_of(key) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        self.deadlines.set_heartbeat(heartbeat.interval, conn.client, now);
        if std::mem::take(&mut conn.is.heard) {
            conn.misses = 0;
            return;
        }
        // Whoever is not read cannot be heard.
        if conn.is.paused || conn.is.capped || conn.is.throttled || conn.is.binding {
            return;
        }
        conn.misses = conn.misses.saturating_add(1);
        if heartbeat.misses_max > 0 && conn.misses > heartbeat.misses_max {
            let text = "The heartbeat was not answered.";
            return self.close_conn(key, CloseCode::POLICY, text, CloseReason::Heartbeat);
        }
        let protocol = conn.addresses.protocol;
        match heartbeat.payload {
            Some(payload) => {
                let kind = tidegate_base::MessageKind::Text;
                self.send_one(key, &mut super::output::Encoded::new(kind, &payload));
            }
            None if protocol == Protocol::Ws && conn.may_note() => {
                let range = self.batch.encode(|out| encode_ping(b"", out));
                self.batch.note(key, &mut conn.mark, &range);
            }
            None => {}
        }
    }

    /// The gateway stops.
    pub(super) fn say_goodbye(&mut self, key: usize) {
        self.send_away(key, CloseCode::GOING_AWAY, "This gateway stops: connect again.");
    }

    /// The client is to go, and what is still owed for it need not wait any more.
    pub(super) fn send_away(&mut self, key: usize, code: CloseCode, text: &str) {
        self.close_conn(key, code, text, CloseReason::Shutdown);
        if self.conns.get(key).is_some_and(|conn| matches!(conn.phase, Phase::Ended)) {
            self.send_farewell(key);
        }
    }
}
