//! Commands: to the hub, and to the clients that they mean.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_base::{Audience, ClientId, CloseCode, CloseReason, Command};
use tidegate_wire::{FrameError, RawFrame, ToGateway};

use super::Shard;
use super::conn::{Conn, Phase};
use super::inbox::{Op, RemoteOp, Targets, Written};
use super::output::Encoded;
use crate::app::{App, Lane};
use crate::counters;
use crate::hub::{Hub, HubError, Reach};

impl Shard {
    /// Applies one command of a part.
    pub(super) fn apply(
        &mut self,
        app: &Arc<App>,
        lane: &Arc<Lane>,
        frame: &RawFrame<'_>,
    ) -> Result<(), FrameError> {
        match ToGateway::decode(frame, self.gateway)? {
            ToGateway::Command(command) => {
                let applied = self.command(app, Some(lane), command);
                refused(app, applied);
                Ok(())
            }
            ToGateway::Decision(client, decision) => {
                self.apply_to_one(app, client, Op::Decision(decision));
                Ok(())
            }
            _ => Err(FrameError::Unexpected(frame.kind)),
        }
    }

    /// Applies one command, of the slot of this lane or of nobody's. Returns how many clients it is about; of one that
    /// names a single client the caller knows whether it is there.
    pub(super) fn command(
        &mut self,
        app: &Arc<App>,
        lane: Option<&Arc<Lane>>,
        command: Command<'_>,
    ) -> Result<usize, HubError> {
        let reached = match command {
            Command::SendTo(client, message) => {
                let shard = self.shard_of(client.connection);
                if shard != self.index {
                    let op = Op::Send(message.kind, Bytes::copy_from_slice(message.payload));
                    self.send_remote(shard, app, Targets::One(client.connection), op);
                } else if let Some(key) = self.key_in(client.connection, app.number) {
                    self.send_one(key, &mut Encoded::new(message.kind, message.payload));
                }
                1
            }
            Command::Send { to, except, message } => {
                let (local, reached) = self.spread(app, &to, &except, false, || {
                    Op::Send(message.kind, Bytes::copy_from_slice(message.payload))
                });
                let mut encoded = Encoded::new(message.kind, message.payload);
                for client in &local {
                    if let Some(key) = self.key_in(*client, app.number) {
                        self.send_one(key, &mut encoded);
                    }
                }
                self.resolved = local;
                reached
            }
            Command::Close { to, except, code, reason, farewell } => {
                let farewell = farewell.map(|m| (m.kind, Bytes::copy_from_slice(m.payload)));
                let op = Op::Close { code: CloseCode(code), reason: reason.into(), farewell };
                self.end_all(app, &to, &except, &op)
            }
            Command::Destroy { to, except } => self.end_all(app, &to, &except, &Op::Destroy),
            Command::Bind(client, uid) => {
                app.hub.lock().bind(client.connection, &uid);
                1
            }
            Command::Unbind(client) => {
                app.hub.lock().unbind(client.connection);
                1
            }
            Command::Join(client, group) => {
                app.hub.lock().join(client.connection, &group)?;
                1
            }
            Command::Leave(client, group) => {
                app.hub.lock().leave(client.connection, &group);
                1
            }
            Command::Disband(group) => app.hub.lock().disband(&group),
            Command::SetSession(client, session) => self.write_session(app, lane, client, |hub| {
                hub.set_session(client.connection, session.as_deref())
            })?,
            Command::UpdateSession(client, patch) => {
                self.write_session(app, lane, client, |hub| hub.update_session(client.connection, &patch))?
            }
        };
        Ok(reached)
    }

    fn write_session(
        &mut self,
        app: &App,
        lane: Option<&Arc<Lane>>,
        client: ClientId,
        write: impl FnOnce(&mut Hub) -> Result<bool, HubError>,
    ) -> Result<usize, HubError> {
        let written = write(&mut app.hub.lock());
        let by = match &written {
            Ok(false) => return Ok(0),
            Ok(true) => lane.map(|lane| {
                let unfinished = lane.state.lock().events.first_unfinished();
                Written { slot: lane.key, generation: lane.generation, unfinished }
            }),
            // The slot believes that it is written.
            Err(_) => None,
        };
        self.apply_to_one(app, client.connection, Op::SessionWritten(by));
        written.map(usize::from)
    }

    fn end_all(&mut self, app: &Arc<App>, to: &Audience<'_>, except: &[ClientId], op: &Op) -> usize {
        let (local, reached) = self.spread(app, to, except, true, || op.clone());
        for client in &local {
            if let Some(key) = self.key_in(*client, app.number) {
                self.apply_op(key, op.clone());
            }
        }
        self.resolved = local;
        reached
    }

    /// Resolves an audience, sends `op` to the clients of other shards, and returns those of this one, and how many there
    /// are on all.
    fn spread(
        &mut self,
        app: &App,
        to: &Audience<'_>,
        except: &[ClientId],
        departs: bool,
        op: impl Fn() -> Op,
    ) -> (Vec<u32>, usize) {
        let mut local = std::mem::take(&mut self.resolved);
        local.clear();
        {
            let mut hub = app.hub.lock();
            // Who is not let in yet can be shown the door.
            let reach = if departs { Reach::Named } else { Reach::Open };
            hub.resolve(to, reach, except, &mut local);
            if departs {
                // Whoever is closed is gone for every query from now on.
                local.iter().for_each(|client| {
                    hub.depart(*client);
                });
            }
        }
        let reached = local.len();
        let (shards, index) = (self.inboxes.len(), self.index);
        if shards > 1 {
            for shard in (0..shards).filter(|s| *s != index) {
                let there: Vec<u32> =
                    local.iter().copied().filter(|c| *c as usize % shards == shard).collect();
                if !there.is_empty() {
                    self.send_remote(shard, app, Targets::Many(there), op());
                }
            }
            local.retain(|c| *c as usize % shards == index);
        }
        (local, reached)
    }

    /// Applies an operation to a client of any shard.
    pub(super) fn apply_to_one(&mut self, app: &App, client: u32, op: Op) {
        let shard = self.shard_of(client);
        if shard != self.index {
            return self.send_remote(shard, app, Targets::One(client), op);
        }
        if let Some(key) = self.key_in(client, app.number) {
            self.apply_op(key, op);
        }
    }

    /// Operations that another shard sent.
    pub(super) fn apply_remote(&mut self, RemoteOp { app, targets, op }: RemoteOp) {
        let clients = match &targets {
            Targets::One(client) => std::slice::from_ref(client),
            Targets::Many(clients) => clients,
        };
        let mut encoded = match &op {
            Op::Send(kind, payload) => Some(Encoded::new(*kind, payload)),
            _ => None,
        };
        for key in clients.iter().filter_map(|client| self.key_in(*client, app)).collect::<Vec<_>>() {
            match &mut encoded {
                Some(message) => self.send_one(key, message),
                None => self.apply_op(key, op.clone()),
            }
        }
    }

    fn apply_op(&mut self, key: usize, op: Op) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match op {
            Op::Send(kind, payload) => self.send_one(key, &mut Encoded::new(kind, &payload)),
            Op::Close { code, reason, farewell } => {
                if let Some((kind, payload)) = farewell {
                    self.send_one(key, &mut Encoded::new(kind, &payload));
                }
                self.close_conn(key, code, &reason, CloseReason::Plugin);
            }
            Op::Destroy => self.end(key, CloseReason::Plugin),
            Op::SessionWritten(written) => {
                conn.is.session = true;
                conn.is.session_news |= written.is_none_or(|by| !is_seen_by_slot(conn, &by));
            }
            Op::Finished(weight) => {
                conn.in_flight = conn.in_flight.saturating_sub(weight.into());
                let is_over = matches!(conn.phase, Phase::Ended) && conn.in_flight == 0;
                if std::mem::take(&mut conn.is.capped) || is_over {
                    self.resumed.push(key);
                }
            }
            Op::Decision(decision) => self.on_decision(key, decision),
        }
    }

    fn send_remote(&mut self, shard: usize, app: &App, targets: Targets, op: Op) {
        if let Some(ops) = self.remote.get_mut(shard) {
            ops.push(RemoteOp { app: app.number, targets, op });
        }
    }

    /// A client of this shard, if it is one of the app's: an id is a name, never a credential.
    fn key_in(&self, client: u32, app: u32) -> Option<usize> {
        let key = self.by_client.get(&client).copied()?;
        self.conns.get(key).filter(|c| c.app.as_ref().is_some_and(|of| of.number == app)).map(|_| key)
    }
}

/// Whether a client's own slot wrote its session, and what was sent to it of that before did not cross the write: if it
/// did, the slot has ignored it, or has not seen both together.
fn is_seen_by_slot(conn: &mut Conn, by: &Written) -> bool {
    let is_own = |lane: &Arc<Lane>| lane.key == by.slot && lane.generation == by.generation;
    if !conn.is.attached || !conn.lane.as_ref().is_some_and(is_own) {
        return false;
    }
    let crossed = conn.session_event.is_some_and(|event| event.since(by.unfinished) >= 0);
    if !crossed {
        conn.session_event = None;
    }
    !crossed
}

/// Counts a command that is refused, and says so now and then.
pub(super) fn refused(app: &App, applied: Result<usize, HubError>) {
    if let Err(error) = applied {
        counters::COMMANDS_REFUSED.inc();
        if app.may_log_refusal(Instant::now()) {
            tracing::warn!(app = %app.name, %error, "a command is refused");
        }
    }
}
