//! The WebSocket upgrade, and requests for files.

use std::io::Read;
use std::time::Instant;

use tidegate_base::{CloseReason, Event, Exports, UpgradeDecision};

use super::Shard;
use super::accept::Serves;
use super::conn::Phase;
use super::deadlines::Due;
use super::feed::{pause, send};
use super::routing::Asked;
use crate::protocol::http;
use crate::web::Door;

/// Most bytes of a request's head.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

impl Shard {
    pub(super) fn read_head(&mut self, key: usize) {
        loop {
            let Some(conn) = self.conns.get_mut(key) else { return };
            if !conn.is.readable {
                return;
            }
            let have = conn.partial.len();
            let mut partial = std::mem::take(&mut conn.partial);
            partial.resize((have + 2048).min(HEAD_BYTES_MAX + 2048), 0);
            let read = conn.stream.as_mut().map(|s| s.read(partial.get_mut(have..).unwrap_or_default()));
            let n = match &read {
                Some(Ok(n)) => *n,
                _ => 0,
            };
            conn.is.readable = have + n == partial.len() || conn.is.ending;
            partial.truncate(have + n);
            conn.partial = partial;
            match read {
                Some(Ok(0)) | None => return self.end(key, CloseReason::Client),
                Some(Ok(_)) => {}
                Some(Err(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    conn.is.readable = false;
                    return;
                }
                Some(Err(e)) if e.kind() == std::io::ErrorKind::Interrupted => {
                    conn.is.readable = true;
                    continue;
                }
                Some(Err(_)) => return self.end(key, CloseReason::Network),
            }
            match self.read_request(key) {
                Ok(None) => {}
                Ok(Some(Asked::Upgrade(accept, head_bytes))) => {
                    return self.begin_upgrade(key, accept, head_bytes);
                }
                Ok(Some(Asked::File)) => return self.hand_to_web(key),
                Err(refusal) => return self.refuse_request(key, &refusal),
            }
        }
    }

    fn begin_upgrade(&mut self, key: usize, accept: http::AcceptKey, head_bytes: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.phase = Phase::Upgrading { key: accept, head_bytes, asked: false };
        self.pump_upgrade(key);
    }

    /// An upgrade needs a slot; if the plugin wants to decide, also its decision.
    pub(super) fn pump_upgrade(&mut self, key: usize) {
        let Some((app, lane)) = self.bound(key) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Phase::Upgrading { asked, .. } = &mut conn.phase else { return };
        if *asked {
            return;
        }
        if !lane.exports().has(Exports::WEBSOCKET_CONNECT) {
            return self.accept_upgrade(key, None);
        }
        let Ok(Some(head)) = http::parse_head(&conn.partial, HEAD_BYTES_MAX) else { return };
        let request = head.upgrade_request();
        if !std::mem::replace(&mut conn.is.timed, true) {
            self.deadlines.set(Due::Decision, conn.client, conn.waits, Instant::now());
        }
        let mut state = lane.state.lock();
        if state.closed {
            return;
        }
        if !state.events.can_send() {
            return pause(conn, self.index, &mut state);
        }
        *asked = true;
        // The callback may already bind it, put it into groups and give it a session.
        app.hub.lock().expect(conn.client);
        send(conn, &app, &mut state.events, 1, &Event::WebsocketConnect(request));
        drop(state);
        self.mark_dirty(&lane);
    }

    pub(super) fn on_decision(&mut self, key: usize, decision: UpgradeDecision) {
        let Some(conn) = self.conns.get(key) else { return };
        if !matches!(conn.phase, Phase::Upgrading { asked: true, .. }) {
            return;
        }
        match decision {
            UpgradeDecision::Accept(protocol) => self.accept_upgrade(key, protocol),
            UpgradeDecision::Refuse(status, text) => {
                let range = self.batch.encode(|out| http::refusal(status, &text, out));
                self.refuse(key, &range);
            }
        }
    }

    fn accept_upgrade(&mut self, key: usize, protocol: Option<String>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Phase::Upgrading { key: accept, head_bytes, .. } = conn.phase else { return };
        let offered = match (&protocol, http::parse_head(&conn.partial, HEAD_BYTES_MAX)) {
            (Some(chosen), Ok(Some(head))) => head.upgrade_request().protocols.contains(chosen),
            (chosen, _) => chosen.is_none(),
        };
        let mut refusal = offered.then_some(()).ok_or("the plugin chose a subprotocol that was not offered");
        let range = self.batch.encode(|out| {
            if refusal.is_ok() && http::accept_response(&accept, protocol.as_deref(), out).is_err() {
                refusal = Err("the plugin chose a subprotocol that is no token");
            }
        });
        if let Err(text) = refusal {
            tracing::warn!(client = conn.client, ?protocol, "{text}");
            let range = self.batch.encode(|out| http::refusal(500, text, out));
            return self.refuse(key, &range);
        }
        self.batch.note(key, &mut conn.mark, &range);
        conn.partial.drain(..head_bytes);
        if conn.partial.is_empty() {
            conn.partial = Vec::new();
        }
        conn.needed = 1;
        self.open(key);
    }

    /// Answers a request that will not become a WebSocket. The plugin never hears of this client again.
    pub(super) fn refuse(&mut self, key: usize, response: &std::ops::Range<usize>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.is.seen = false;
        conn.is.connect = false;
        self.batch.note(key, &mut conn.mark, response);
        self.begin_closing(key, CloseReason::Protocol);
    }

    fn hand_to_web(&mut self, key: usize) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(app) = conn.app.clone() else { return };
        let Some(web) = &app.web else {
            let text = "This port speaks WebSocket. Connect with ws://, or give the app a folder of files: web = \"…\".";
            let range = self.batch.encode(|out| http::refusal(426, text, out));
            return self.refuse(key, &range);
        };
        let is_shared = self
            .listeners
            .get(conn.listener)
            .is_some_and(|listener| matches!(listener.serves, Serves::Routes));
        let door = if is_shared { Door::Routes(self.registry.clone()) } else { Door::App(app.clone()) };
        let (stream, read) = (conn.stream.take(), std::mem::take(&mut conn.partial));
        if let Some(mut stream) = stream {
            let _ = self.poll.get_ref().registry().deregister(&mut stream);
            web.serve(stream, read, door);
        }
        self.end(key, CloseReason::Client);
    }
}
