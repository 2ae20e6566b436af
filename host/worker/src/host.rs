//! What a plugin reaches through its host functions.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidegate_base::session::{self, InvalidSession};
use tidegate_base::{Addresses, Answered, ClientId, Command, GatewayId, Message, Query, UpgradeDecision};
use tidegate_runtime::{LogLevel, PluginHost};
use tidegate_wire::EventNo;
use tidegate_wire::fanout::Fanout;

use crate::counters;
use crate::outbox::{Attached, Outbox};
use crate::query::Queries;
use crate::settings::WorkerApp;
use crate::timers::{TimerOp, Timers};

/// The state of a slot that outlives its instances.
#[derive(Debug)]
pub(crate) struct SlotCore {
    pub app: Arc<WorkerApp>,
    pub slot: u32,
    pub out: Outbox,
    pub timers: Timers,
    pub queries: Arc<Queries>,
    pub query_wait: Duration,
    has_timer_callback: bool,
    turn: Turn,
}

/// What the running turn has done and not committed.
#[derive(Debug, Default)]
struct Turn {
    client: Option<ClientId>,
    failed: Option<String>,
    output_bytes: usize,
    /// Sessions that it wrote, the newest last.
    sessions: Vec<(ClientId, Option<String>)>,
    timers: Vec<TimerOp>,
}

impl SlotCore {
    pub fn new(app: Arc<WorkerApp>, slot: u32, queries: Arc<Queries>, query_wait: Duration) -> Self {
        let has_timer_callback = app.module.exports().has(tidegate_base::Exports::TIMER);
        Self {
            app,
            slot,
            out: Outbox::default(),
            timers: Timers::default(),
            queries,
            query_wait,
            has_timer_callback,
            turn: Turn::default(),
        }
    }

    /// A turn begins: of a client's event, or of nobody's.
    pub fn begin(&mut self, client: Option<ClientId>, event: Option<(GatewayId, EventNo)>) {
        self.out.begin(event);
        self.turn.client = client;
        self.turn.output_bytes = 0;
    }

    /// The turn's callback returned. Returns why the turn failed, if it did; a failed upgrade of `upgrading` is refused.
    pub fn end(&mut self, upgrading: Option<ClientId>) -> Option<String> {
        let failed = self.turn.failed.take();
        match failed {
            None => {
                self.commit(true);
                let now = Instant::now();
                for op in std::mem::take(&mut self.turn.timers) {
                    self.timers.apply(op, now);
                }
            }
            Some(_) => self.abandon_with(upgrading),
        }
        failed
    }

    /// The turn failed: nothing more of it leaves, but its event is done, and the upgrade of `upgrading` is refused.
    pub fn abandon_with(&mut self, upgrading: Option<ClientId>) {
        self.turn.failed = None;
        self.turn.sessions.clear();
        self.turn.timers.clear();
        self.out.abort();
        if let Some(client) = upgrading {
            self.out.decision(client, &crate::slot::failed_upgrade());
        }
        self.out.commit(true, true);
    }

    /// The turn decided an upgrade.
    pub fn decide(&mut self, client: ClientId, decision: &UpgradeDecision) {
        self.out.decision(client, decision);
    }

    /// Whether the turn is failing.
    pub fn is_failing(&self) -> bool {
        self.turn.failed.is_some()
    }

    fn commit(&mut self, done: bool) {
        self.out.commit(done, false);
        for (client, session) in self.turn.sessions.drain(..) {
            self.out.wrote_session(client, session.map(Into::into));
        }
    }

    fn break_rule(&mut self, reason: impl FnOnce() -> String) {
        if self.turn.failed.is_none() {
            self.turn.failed = Some(reason());
        }
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

    fn command(&mut self, command: &Command<'_>) {
        if self.turn.failed.is_some() {
            return;
        }
        if let Err(broken) = command.check() {
            return self.break_rule(|| broken.to_string());
        }
        let payload = payload(command).map_or(0, |m| m.payload.len());
        if payload > self.app.payload_bytes_max {
            let max = self.app.payload_bytes_max;
            return self.break_rule(|| {
                format!("a message of {payload} bytes; the app allows {max} (payload_bytes_max)")
            });
        }
        self.turn.output_bytes += payload + size_hint(command);
        if self.turn.output_bytes > self.app.turn_output_bytes_max {
            let max = self.app.turn_output_bytes_max;
            return self.break_rule(|| {
                format!("the turn's commands have more than {max} bytes (turn_output_bytes_max)")
            });
        }
        if let Command::SetSession(..) | Command::UpdateSession(..) = command
            && let Err(invalid) = self.write_session(command)
        {
            return self.break_rule(|| invalid.to_string());
        }
        self.out.command(command);
    }

    fn query(&mut self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        match self.turn.failed {
            None => self.commit(false),
            // The turn goes on although it has failed: it may ask, but what it said before must not leave.
            Some(_) => self.out.abort(),
        }
        let known: Vec<_> = self.out.gateways().chain(self.out.absent().iter().copied()).collect();
        let mut fanout = Fanout::new(&query, known);
        self.out.absent().iter().for_each(|gateway| fanout.on_lost(*gateway));
        let asked = fanout.waiting().to_vec();
        let number = self.queries.begin(fanout);
        for gateway in asked {
            self.out.query(gateway, number, &query);
        }
        self.out.flush();
        Box::pin(self.queries.clone().finish(self.query_wait))
    }

    fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>) {
        if !self.has_timer_callback {
            return self.break_rule(|| "a timer is set, but the plugin has no on_timer callback".into());
        }
        let fresh = |op: &TimerOp| matches!(op, TimerOp::Set { key, .. } if !self.timers.has(key));
        let set = self.turn.timers.iter().filter(|op| fresh(op)).count() + usize::from(!self.timers.has(key));
        if self.timers.len() + set > self.app.timers_max {
            let max = self.app.timers_max;
            return self
                .break_rule(|| format!("the slot has {max} timers, the app allows no more (timers_max)"));
        }
        self.turn.timers.push(TimerOp::Set { key: key.into(), after, every });
    }
}

/// Lends the core to an instance. When the instance goes, whatever happened to it, the core comes back to the slot.
#[derive(Debug)]
pub(crate) struct SlotHost {
    core: Option<Box<SlotCore>>,
    home: Home,
}

/// Where a core is while no instance has it.
pub(crate) type Home = Arc<Mutex<Option<Box<SlotCore>>>>;

impl SlotHost {
    pub fn new(core: Box<SlotCore>, home: Home) -> Self {
        Self { core: Some(core), home }
    }

    /// The core. It is there for as long as the host is.
    pub fn core(&mut self) -> Option<&mut SlotCore> {
        self.core.as_deref_mut()
    }
}

impl Drop for SlotHost {
    fn drop(&mut self) {
        *self.home.lock() = self.core.take();
    }
}

impl PluginHost for SlotHost {
    fn command(&mut self, command: Command<'_>) {
        if let Some(core) = &mut self.core {
            core.command(&command);
        }
    }

    fn query(&mut self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        match &mut self.core {
            Some(core) => core.query(query),
            None => Box::pin(std::future::pending()),
        }
    }

    fn fail(&mut self, reason: &str) {
        if let Some(core) = &mut self.core {
            core.break_rule(|| reason.into());
        }
    }

    fn addresses(&self) -> Option<Addresses> {
        let core = self.core.as_ref()?;
        core.out.client(core.turn.client?).map(|c| c.addresses)
    }

    fn session(&mut self) -> Option<&str> {
        let core = self.core.as_ref()?;
        core.session_of(core.turn.client?)?
    }

    fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>) {
        if let Some(core) = &mut self.core {
            core.set_timer(key, after, every);
        }
    }

    fn cancel_timer(&mut self, key: &str) {
        if let Some(core) = &mut self.core {
            core.turn.timers.push(TimerOp::Cancel(key.into()));
        }
    }

    fn log(&mut self, level: LogLevel, line: &str) {
        let Some(core) = &self.core else { return };
        counters::LOG_LINES.inc();
        let (app, version, slot) = (&core.app.name, core.app.version, core.slot);
        match level {
            LogLevel::Error => tracing::error!(target: "plugin", %app, version, slot, "{line}"),
            LogLevel::Warn => tracing::warn!(target: "plugin", %app, version, slot, "{line}"),
            LogLevel::Info => tracing::info!(target: "plugin", %app, version, slot, "{line}"),
            LogLevel::Debug => tracing::debug!(target: "plugin", %app, version, slot, "{line}"),
            LogLevel::Trace => tracing::trace!(target: "plugin", %app, version, slot, "{line}"),
        }
    }

    fn setting(&self, key: &str) -> Option<&str> {
        let settings = &self.core.as_ref()?.app.settings;
        settings.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    fn settings(&self) -> Vec<(String, String)> {
        self.core.as_ref().map(|core| core.app.settings.clone()).unwrap_or_default()
    }
}

fn payload<'a>(command: &Command<'a>) -> Option<Message<'a>> {
    match command {
        Command::SendTo(_, message) | Command::Send { message, .. } => Some(*message),
        Command::Close { farewell, .. } => *farewell,
        _ => None,
    }
}

/// About the bytes of a command without its payload.
fn size_hint(command: &Command<'_>) -> usize {
    let names = |names: &[Cow<'_, str>]| names.iter().map(|n| n.len() + 1).sum::<usize>();
    let audience = |to: &tidegate_base::Audience<'_>| match to {
        tidegate_base::Audience::All => 0,
        tidegate_base::Audience::Clients(clients) => clients.len() * 4,
        tidegate_base::Audience::Uids(list) | tidegate_base::Audience::Groups(list) => names(list),
    };
    16 + match command {
        Command::Send { to, except, .. }
        | Command::Close { to, except, .. }
        | Command::Destroy { to, except } => audience(to) + except.len() * 4,
        Command::SetSession(_, session) => session.as_ref().map_or(0, |s| s.len()),
        Command::UpdateSession(_, text) | Command::Bind(_, text) | Command::Join(_, text) => text.len(),
        _ => 0,
    }
}
