//! What a slot knows whatever instance it runs: its lanes, its timers, and the turn that is not settled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_base::session::{self, InvalidSession};
use tidegate_base::{Addresses, Answered, ClientId, Command, Exports, GatewayId, Query, UpgradeDecision};
use tidegate_runtime::LogLevel;
use tidegate_wire::EventNo;
use tidegate_wire::fanout::Fanout;
use tidegate_wire::question::Level;

use crate::app_log::AppLog;
use crate::counters;
use crate::held::{Kept, Wishes};
use crate::outbox::{Attached, Outbox};
use crate::query::{Asked, Queries};
use crate::rules::{Rules, TimerRule};
use crate::settings::WorkerApp;
use crate::timers::{TimerOp, Timers};

/// The state of a slot that outlives its instances.
#[derive(Debug)]
pub(crate) struct SlotCore {
    pub app: Arc<WorkerApp>,
    pub slot: u32,
    pub log: Arc<AppLog>,
    pub out: Outbox,
    pub timers: Timers,
    pub queries: Arc<Queries>,
    pub query_wait: Duration,
    /// The running turn, or the last one, counted from the start of the worker on.
    pub turn_number: u64,
    turn: Turn,
}

/// What became of a slot's timers when another version took it over. Those that it set or cancelled anew are just set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TimersMoved {
    /// They go on with their remaining time.
    pub carried: usize,
    /// The new version has set them.
    pub set: usize,
    /// The new version has no callback for them.
    pub dropped: usize,
}

/// What the running turn has done and not committed.
#[derive(Debug, Default)]
struct Turn {
    client: Option<ClientId>,
    failed: Option<String>,
    /// Not by its own word.
    broke_rule: bool,
    rules: Rules,
    /// Sessions that it wrote, the newest last.
    sessions: Vec<(ClientId, Option<String>)>,
    timers: Vec<TimerOp>,
}

impl SlotCore {
    pub fn new(
        app: Arc<WorkerApp>,
        slot: u32,
        log: Arc<AppLog>,
        queries: Arc<Queries>,
        query_wait: Duration,
    ) -> Self {
        Self {
            app,
            slot,
            log,
            out: Outbox::default(),
            timers: Timers::default(),
            queries,
            query_wait,
            turn_number: 0,
            turn: Turn::default(),
        }
    }

    /// A turn begins: of a client's event, or of nobody's.
    pub fn begin(&mut self, client: Option<ClientId>, event: Option<(GatewayId, EventNo)>) {
        self.turn_number += 1;
        self.out.begin(event);
        self.turn.client = client;
        self.turn.broke_rule = false;
        self.turn.rules = Rules::default();
    }

    /// The turn's callback returned. Returns why the turn failed, if it did; a failed upgrade of `upgrading` is refused.
    pub fn end(&mut self, upgrading: Option<ClientId>) -> Option<String> {
        let failed = self.turn.failed.take();
        match failed {
            None => {
                self.commit(true);
                if !self.turn.timers.is_empty() {
                    let now = Instant::now();
                    self.turn.timers.drain(..).for_each(|op| self.timers.apply(op, now));
                }
            }
            Some(_) => self.abandon_with(upgrading),
        }
        failed
    }

    /// The turn failed: nothing more of it leaves, but its event is done, and the upgrade of `upgrading` is refused.
    pub fn abandon_with(&mut self, upgrading: Option<ClientId>) {
        self.turn.failed = None;
        self.turn.broke_rule = false;
        self.turn.sessions.clear();
        self.turn.timers.clear();
        self.out.abort();
        if let Some(client) = upgrading {
            self.out.decision(client, &crate::slot::failed_upgrade());
        }
        self.out.commit(true, true);
    }

    /// Whether there is room for the timers that another version sets and those that go on in it. Else: why not.
    pub fn admits_timers(&self, app: &WorkerApp, wishes: &Wishes) -> Result<(), String> {
        let rule = TimerRule::of(app);
        let going_on = if rule.has_callback { self.timers.len() } else { 0 };
        let timers =
            wishes.timers.iter().fold(going_on, |timers, op| match (op, self.timers.has(op.key())) {
                (TimerOp::Set { .. }, false) => timers + 1,
                (TimerOp::Cancel(_), true) => timers.saturating_sub(1),
                (TimerOp::Set { .. }, true) | (TimerOp::Cancel(_), false) => timers,
            });
        if timers == 0 { Ok(()) } else { rule.admit(timers) }
    }

    /// Another version takes the slot over, with what it wished for while it was held. Timers of the version before go
    /// on with their remaining time, unless the new one has set or cancelled their keys, or has no callback for them.
    pub fn take_over(&mut self, app: Arc<WorkerApp>, wishes: Wishes, now: Instant) -> TimersMoved {
        self.app = app;
        let before = self.timers.len();
        if !self.app.exports().has(Exports::TIMER) {
            self.timers.clear();
        }
        let dropped = before - self.timers.len();
        let known = wishes.timers.iter().filter(|op| self.timers.has(op.key())).count();
        let carried = self.timers.len() - known;
        let set = wishes.timers.iter().filter(|op| matches!(op, TimerOp::Set { .. })).count();
        wishes.timers.into_iter().for_each(|op| self.timers.apply(op, now));
        self.say(&wishes.commands);
        TimersMoved { carried, set, dropped }
    }

    /// There is nothing to run any more, and no lane.
    pub fn leave(&mut self, app: Arc<WorkerApp>) {
        self.app = app;
        self.timers.clear();
        self.turn = Turn::default();
    }

    /// Sends what a held instance wished to say, as a turn of nobody's. A command that cannot be followed here (a patch
    /// that makes its client's session too large, which nobody could know before) is dropped and counted, and only that
    /// one: there is no callback any more that could fail.
    pub fn say(&mut self, commands: &[Kept]) {
        if commands.is_empty() {
            return;
        }
        self.begin(None, None);
        for kept in commands {
            self.command(&kept.command());
            if let Some(reason) = self.take_failure() {
                let WorkerApp { name, version, .. } = &*self.app;
                counters::HELD_COMMANDS_DROPPED.inc();
                let why = format_args!("a command from around a swap is dropped: {reason}");
                self.log.tell(&self.app, self.slot, Level::Warn, why);
                tracing::warn!(app = %name, version, slot = self.slot, "a command from around a swap is dropped: {reason}");
            }
        }
        self.end(None);
    }

    /// The turn failed, and why, if it did; nothing of it is settled.
    pub fn take_failure(&mut self) -> Option<String> {
        self.turn.broke_rule = false;
        self.turn.failed.take()
    }

    /// The turn decided an upgrade.
    pub fn decide(&mut self, client: ClientId, decision: &UpgradeDecision) {
        self.out.decision(client, decision);
    }

    /// Whether the turn is failing.
    pub fn is_failing(&self) -> bool {
        self.turn.failed.is_some()
    }

    /// Where the client of the running turn is connected.
    pub fn addresses(&self) -> Option<Addresses> {
        self.out.client(self.turn.client?).map(|c| c.addresses)
    }

    /// The session of the running turn's client.
    pub fn session(&self) -> Option<&str> {
        self.session_of(self.turn.client?)?
    }

    fn commit(&mut self, done: bool) {
        self.out.commit(done, false);
        for (client, session) in self.turn.sessions.drain(..) {
            self.out.wrote_session(client, session.map(Into::into));
        }
    }

    /// The turn fails by its own word.
    pub fn fail(&mut self, reason: &str) {
        self.turn.failed.get_or_insert_with(|| reason.into());
    }

    /// The turn fails, and is to end.
    pub fn break_rule(&mut self, reason: impl FnOnce() -> String) {
        if self.turn.failed.is_none() {
            self.turn.failed = Some(reason());
            self.turn.broke_rule = true;
        }
    }

    /// The rule that the turn broke.
    pub fn broken_rule(&self) -> Option<&str> {
        self.turn.failed.as_deref().filter(|_| self.turn.broke_rule)
    }

    /// A session as this turn sees it. None: the client is not bound to this slot.
    fn session_of(&self, client: ClientId) -> Option<Option<&str>> {
        if let Some((_, session)) = self.turn.sessions.iter().rev().find(|(of, _)| *of == client) {
            return Some(session.as_deref());
        }
        self.out.client(client).map(|attached: &Attached| attached.session.get())
    }

    /// Follows a session that the turn writes, exactly as the gateway will.
    fn write_session(&mut self, command: &Command<'_>) -> Result<(), InvalidSession> {
        let limit = self.app.session_bytes_max;
        let (client, written) = match command {
            Command::SetSession(client, session) => {
                (*client, session.as_deref().map(|s| session::normalize(s, limit)).transpose()?)
            }
            Command::UpdateSession(client, patch) => match self.session_of(*client) {
                Some(session) => (*client, Some(session::merge(session, patch, limit)?)),
                // The gateway merges; here only the patch can be checked.
                None => return session::normalize(patch, limit).map(|_| ()),
            },
            _ => return Ok(()),
        };
        self.turn.sessions.retain(|(of, _)| *of != client);
        self.turn.sessions.push((client, written));
        Ok(())
    }

    pub fn command(&mut self, command: &Command<'_>) {
        if self.turn.failed.is_some() {
            return;
        }
        if let Err(broken) = self.turn.rules.admit(&self.app, command) {
            return self.break_rule(|| broken);
        }
        if let Command::SetSession(..) | Command::UpdateSession(..) = command
            && let Err(invalid) = self.write_session(command)
        {
            return self.break_rule(|| invalid.to_string());
        }
        self.out.command(command);
    }

    pub fn query(&mut self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        match self.turn.failed {
            None => self.commit(false),
            // The turn goes on although it has failed: it may ask, but what it said before must not leave.
            Some(_) => self.out.abort(),
        }
        Box::pin(self.ask(&query).finish(self.query_wait))
    }

    /// Asks every gateway that is concerned, in the name of whoever waits for the answers.
    pub fn ask(&mut self, query: &Query) -> Asked {
        let known: Vec<_> = self.out.gateways().chain(self.out.absent().iter().copied()).collect();
        let mut fanout = Fanout::new(query, known);
        self.out.absent().iter().for_each(|gateway| fanout.on_lost(*gateway));
        let asked = fanout.waiting().to_vec();
        let waiting = self.queries.begin(fanout);
        for gateway in asked {
            self.out.query(gateway, waiting.number(), query);
        }
        self.out.flush();
        waiting
    }

    pub fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>) {
        if !self.may_change_timer() {
            return;
        }
        let fresh = |op: &TimerOp| matches!(op, TimerOp::Set { key, .. } if !self.timers.has(key));
        let set = self.turn.timers.iter().filter(|op| fresh(op)).count() + usize::from(!self.timers.has(key));
        if let Err(broken) = TimerRule::of(&self.app).admit(self.timers.len() + set) {
            return self.break_rule(|| broken);
        }
        self.turn.timers.push(TimerOp::Set { key: key.into(), after, every });
    }

    pub fn cancel_timer(&mut self, key: &str) {
        if !self.may_change_timer() {
            return;
        }
        self.turn.timers.push(TimerOp::Cancel(key.into()));
    }

    /// Counts a change of a timer. False: the turn has failed.
    fn may_change_timer(&mut self) -> bool {
        if self.turn.failed.is_some() {
            return false;
        }
        let counted = self.turn.rules.count(&self.app);
        counted.map_err(|broken| self.break_rule(|| broken)).is_ok()
    }

    /// A line of the plugin for the log.
    pub fn write_log(&self, level: LogLevel, line: &str) {
        self.log.write(&self.app, self.slot, self.turn_number, level, line);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, Message, MessageKind, NodeName, Protocol, Role};
    use tidegate_link::{Peer, memory_pair};
    use tidegate_runtime::{Compiler, Engine, EngineSettings, Modules};
    use tidegate_wire::Grant;
    use tidegate_wire::control::LaneHello;

    use super::*;
    use crate::lane::{LaneOffer, LazyLane, LinkNo};

    const SESSION_BYTES_MAX: usize = 64;

    fn core(gateway: GatewayId, client: u32, session: &str) -> SlotCore {
        let engine = Engine::new(&EngineSettings::default()).unwrap();
        let modules = Modules::new(engine, Compiler::InProcess, None);
        let empty = modules.load(b"\0asm\x0d\0\x01\0").unwrap();
        let app = WorkerApp {
            session_bytes_max: SESSION_BYTES_MAX,
            ..WorkerApp::new(AppName::new("chat").unwrap(), empty)
        };
        let mut core = SlotCore::new(
            Arc::new(app),
            0,
            Arc::new(AppLog::new(1, 0, Arc::default())),
            Arc::default(),
            Duration::ZERO,
        );
        core.out.add(gateway, lane(gateway, &core.app), Grant { events: 1, bytes: 1 });
        let (remote, local) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        core.out.attach(gateway, client, Addresses { remote, local, protocol: Protocol::Ws });
        core.out.on_session(gateway, client, 0, Some(session));
        core
    }

    /// A lane that nobody has opened.
    fn lane(gateway: GatewayId, app: &WorkerApp) -> Arc<LazyLane> {
        let peer = |role| Peer { role, name: NodeName::new("n").unwrap(), address: None };
        let (link, _) = memory_pair(peer(Role::Worker), peer(Role::Gateway));
        let offer = LaneOffer { link, on: LinkNo::next(), generation: 1, place: 0, losses: Arc::default() };
        let hello = LaneHello {
            app: app.name.clone(),
            slot: 0,
            generation: 1,
            exports: Exports::default(),
            credit_events: 1,
            credit_bytes: 1,
        };
        Arc::new(LazyLane::new(gateway, offer, hello, tokio::runtime::Handle::current(), Arc::default()))
    }

    #[tokio::test]
    async fn of_what_a_held_instance_asked_for_only_a_command_that_cannot_be_followed_is_dropped() {
        let gateway = GatewayId::new(7);
        let client = ClientId { gateway, connection: 3 };
        let mut core = core(gateway, client.connection, &format!("{{\"a\":\"{}\"}}", "x".repeat(40)));
        let payload = [b'p'; 1000];
        let large = format!("{{\"b\":\"{}\"}}", "y".repeat(40));
        let commands = [
            Command::UpdateSession(client, large.as_str().into()),
            Command::SendTo(client, Message { kind: MessageKind::Text, payload: &payload }),
            Command::UpdateSession(client, "{\"a\":1}".into()),
            Command::UpdateSession(client, large.as_str().into()),
        ];
        let dropped = counters::HELD_COMMANDS_DROPPED.get();
        core.say(&commands.each_ref().map(Kept::of));
        assert_eq!(counters::HELD_COMMANDS_DROPPED.get() - dropped, 1);
        assert!(core.out.staged() > payload.len(), "{}", core.out.staged());
        let session = core.session_of(client).unwrap().unwrap();
        assert_eq!(session, format!("{{\"a\":1,{}", &large[1..]));
        assert!(!core.is_failing());
    }
}
