//! Commands and queries from outside of plugins: a pusher has links to the gateways, and on each a command lane for every
//! app that somebody pushes to. What belongs to several gateways is split and put together by [`tidegate_wire::fanout`],
//! as it is for plugins.
//!
//! ```text
//!  push, ask --> call --> lane of app A to gateway 1 --> ...      a lane's task sends together what came together,
//!             <-- merged - lane of app A to gateway 2 --> ...     and tells each call what became of its part
//! ```
//!
//! A push returns when every gateway that it concerns **has** it, with the number of clients that it is about; a gateway
//! that has not said so in time is named. Commands of one app that are pushed one after the other are applied in that order
//! by each gateway. Nothing is repeated: whoever pushed knows whether that is right.

mod call;
mod counters;
mod hearing;
mod lane;
mod settings;
mod table;
mod waiting;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tidegate_base::{AppName, Command, GatewayId, InvalidCommand, NodeName, Query};
use tidegate_link::Link;
use tidegate_wire::control::Control;
use tidegate_wire::fanout::{Target, concerns, target};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

pub use crate::call::{Answered, Missing, Outcome, Pushed, Why};
use crate::call::{Call, NoSuchApp};
use crate::lane::NotSent;
pub use crate::settings::PushSettings;
use crate::table::{Found, Gateway, NoLane, Table};
use crate::waiting::Waiting;

/// Largest payload of one command, in bytes: what settings may allow an app at most.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why nothing was pushed or asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// No app may give such a command.
    #[error("command {index}: {error}")]
    Command {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        error: InvalidCommand,
    },
    /// A message or session that is too large.
    #[error(
        "command {index} carries {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are possible: send less at once"
    )]
    TooLarge {
        /// Which, from 0.
        index: usize,
        /// How large it is.
        bytes: usize,
    },
    /// Nobody may ask such a thing.
    #[error("{0}")]
    Query(InvalidCommand),
    /// There is no gateway.
    #[error(
        "no gateway is known: none runs, or none has announced itself to this register yet; start one, or try again in a \
         moment"
    )]
    NoGateway,
    /// No gateway has the app.
    #[error("no gateway has an app {0}: check its name, or make it with `tidegate apps create`")]
    NoSuchApp(AppName),
}

/// Pushes to the clients of every app. Clones share it; the last one to go ends its links.
#[derive(Debug, Clone)]
pub struct Pusher {
    shared: Arc<Shared>,
    _sweeping: Arc<Sweeping>,
}

#[derive(Debug)]
struct Shared {
    settings: PushSettings,
    table: Mutex<Table>,
    handle: Handle,
}

#[derive(Debug)]
struct Sweeping(JoinHandle<()>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pusher {
    /// Starts on a runtime. Best is one thread that whoever pushes runs on too: then what they push together is sent
    /// together.
    pub fn start(settings: PushSettings, handle: &Handle) -> Self {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        let table = Mutex::default();
        let shared = Arc::new(Shared { settings, table, handle: handle.clone() });
        let sweeping = handle.spawn(sweep(Arc::downgrade(&shared), settings));
        Self { shared, _sweeping: Arc::new(Sweeping(sweeping)) }
    }

    /// The gateways that are in the cluster; replaces what was said before. One that is not linked is missing in answers.
    pub fn list(&self, gateways: &[(GatewayId, NodeName)]) {
        self.shared.table.lock().list(gateways);
    }

    /// Uses a link to a gateway until it ends.
    pub fn add_link(&self, link: Link) {
        self.shared.handle.spawn(serve(Arc::downgrade(&self.shared), link));
    }

    /// How many gateways are linked, and how many are known.
    pub fn linked(&self) -> (usize, usize) {
        let mut table = self.shared.table.lock();
        let all = table.gateways();
        (all.iter().filter(|gateway| gateway.is_linked()).count(), all.len())
    }

    /// Gives commands to the clients of an app, in order. Returns when every gateway that they concern has them, or after
    /// [`PushSettings::wait`]. Dropping the future takes nothing back.
    ///
    /// # Errors
    /// Nothing was sent: a command is none, there is no gateway, or none has the app.
    pub async fn push(&self, app: &AppName, commands: &[Command<'_>]) -> Result<Pushed, PushError> {
        self.push_within(None, app, commands).await
    }

    /// As [`push`](Self::push), to the clients that one gateway has of the app.
    ///
    /// # Errors
    /// As for [`push`](Self::push); that gateway is none that is known.
    pub async fn push_to(
        &self,
        gateway: GatewayId,
        app: &AppName,
        commands: &[Command<'_>],
    ) -> Result<Pushed, PushError> {
        self.push_within(Some(gateway), app, commands).await
    }

    async fn push_within(
        &self,
        only: Option<GatewayId>,
        app: &AppName,
        commands: &[Command<'_>],
    ) -> Result<Pushed, PushError> {
        check(commands)?;
        counters::COMMANDS.add(commands.len() as u64);
        let waiting = self.shared.send(only, app, commands)?;
        self.answered(&waiting).await;
        let pushed = waiting.with(Call::finish_commands);
        let pushed = pushed.map_err(|NoSuchApp| PushError::NoSuchApp(app.clone()))?;
        counters::PARTIAL.add(u64::from(!pushed.missing.is_empty()));
        Ok(pushed)
    }

    /// Asks about the clients of an app. Sees what was pushed to the app before by this pusher.
    ///
    /// # Errors
    /// Nothing was asked: it is no question, there is no gateway, or none has the app.
    pub async fn ask(&self, app: &AppName, query: &Query) -> Result<Answered, PushError> {
        self.ask_within(None, app, query).await
    }

    /// As [`ask`](Self::ask), about the clients that one gateway has of the app.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask); that gateway is none that is known.
    pub async fn ask_at(
        &self,
        gateway: GatewayId,
        app: &AppName,
        query: &Query,
    ) -> Result<Answered, PushError> {
        self.ask_within(Some(gateway), app, query).await
    }

    async fn ask_within(
        &self,
        only: Option<GatewayId>,
        app: &AppName,
        query: &Query,
    ) -> Result<Answered, PushError> {
        query.check().map_err(PushError::Query)?;
        counters::QUERIES.inc();
        let waiting = self.shared.ask(only, app, query)?;
        self.answered(&waiting).await;
        match waiting.with(Call::finish_query) {
            Ok(Some(answered)) => {
                counters::PARTIAL.add(u64::from(!answered.missing.is_empty()));
                Ok(answered)
            }
            _ => Err(PushError::NoSuchApp(app.clone())),
        }
    }

    /// Waits. What has not come by then is late, which the call finds out by itself.
    async fn answered(&self, waiting: &Waiting) {
        let PushSettings { wait, .. } = self.shared.settings;
        let asked = tokio::time::Instant::now();
        let patient = poll_fn(|cx| waiting.poll_patient(cx));
        if tokio::time::timeout_at(asked + wait, patient).await.is_ok() {
            // Whoever is left did not answer others either.
            let done = poll_fn(|cx| waiting.poll_done(cx));
            let _ = tokio::time::timeout_at(asked + wait / SILENT_SHARE, done).await;
            return;
        }
        counters::WAITED_OUT.inc();
        let waited_out: Vec<_> = waiting.with(|call| call.waited_out().collect());
        let mut table = self.shared.table.lock();
        waited_out.into_iter().for_each(|(gateway, asked)| table.waited_out(gateway, asked));
    }
}

impl Shared {
    /// To all gateways, or just to one.
    fn send(
        &self,
        only: Option<GatewayId>,
        app: &AppName,
        commands: &[Command<'_>],
    ) -> Result<Arc<Waiting>, PushError> {
        let mut table = self.table.lock();
        let gateways = meant(&mut table, only)?;
        let waiting = Waiting::new(Call::of_commands(commands.len()));
        for gateway in gateways {
            let id = gateway.id;
            let its = (0..).zip(commands).filter(move |(_, command)| is_for(command, id));
            let count = its.clone().count();
            if count == 0 {
                continue;
            }
            let part = waiting.with(|call| call.begin_part(id, gateway.name.clone(), count, gateway.worth()));
            let sent = self
                .on_lane(gateway, app, |lane| lane.commands(its.clone(), (&waiting, part), &self.settings));
            if let Err(why) = sent {
                waiting.with(|call| call.on_missing(part, why));
            }
        }
        Ok(waiting)
    }

    fn ask(&self, only: Option<GatewayId>, app: &AppName, query: &Query) -> Result<Arc<Waiting>, PushError> {
        let mut table = self.table.lock();
        let gateways = meant(&mut table, only)?;
        let ids = gateways.iter().map(|gateway| gateway.id);
        let waiting = Waiting::new(Call::of_query(query, ids));
        for gateway in gateways {
            let id = gateway.id;
            let (name, worth) = (gateway.name.clone(), gateway.worth());
            let begin = |call: &mut Call| call.concerns(id).then(|| call.begin_part(id, name, 1, worth));
            let Some(part) = waiting.with(begin) else {
                continue;
            };
            let sent = self.on_lane(gateway, app, |lane| lane.query(query, (&waiting, part), &self.settings));
            if let Err(why) = sent {
                waiting.with(|call| call.on_missing(part, why));
            }
        }
        Ok(waiting)
    }

    /// Puts something on the app's lane to a gateway, and opens it if need be.
    fn on_lane(
        &self,
        gateway: &mut Gateway,
        app: &AppName,
        put: impl Fn(&lane::Lane) -> Result<(), NotSent>,
    ) -> Result<(), Why> {
        for anew in [false, true] {
            let found = gateway.lane(app, self.settings.lanes_max, anew).map_err(|no| match no {
                NoLane::NotLinked => Why::NotLinked,
                NoLane::TooMany => Why::Busy,
            })?;
            let (lane, link) = match found {
                Found::There(lane) => (lane, None),
                Found::New(lane, link) => (lane, Some(link)),
            };
            let sent = put(&lane);
            if let Some(link) = link {
                counters::LANES.inc();
                self.handle.spawn(lane.run(link));
            }
            match sent {
                Ok(()) => return Ok(()),
                Err(NotSent::Full) => return Err(Why::Busy),
                Err(NotSent::Ended) => {}
            }
        }
        Err(Why::Lost)
    }
}

/// Hears whom a link leads to, and uses it until it ends.
async fn serve(shared: Weak<Shared>, link: Link) {
    let Some((_control, mut messages)) = link.take_control() else { return };
    let id = match messages.recv().await.map(|message| Control::from_bytes(&message)) {
        Ok(Ok(Control::Gateway { id })) => id,
        _ => return link.close(0, "it did not say which gateway it is"),
    };
    {
        let Some(shared) = shared.upgrade() else { return };
        shared.table.lock().link_up(id, link.clone());
    }
    tracing::info!(gateway = %id, name = %link.peer().name, "a gateway is linked for pushes");
    let reason = link.closed().await;
    tracing::info!(gateway = %id, %reason, "a gateway is not linked for pushes any more");
    if let Some(shared) = shared.upgrade() {
        shared.table.lock().link_down(id, |link| link.close_error().is_some());
    }
}

async fn sweep(shared: Weak<Shared>, settings: PushSettings) {
    loop {
        tokio::time::sleep(settings.idle / 2).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.table.lock().sweep(Instant::now(), settings.idle);
    }
}

/// The gateways that are meant: all, or just one.
fn meant(table: &mut Table, only: Option<GatewayId>) -> Result<&mut [Gateway], PushError> {
    let gateways = table.gateways();
    let meant = match only {
        None => gateways,
        Some(id) => {
            let at = gateways.iter().position(|gateway| gateway.id == id).unwrap_or(gateways.len());
            gateways.get_mut(at..=at).unwrap_or_default()
        }
    };
    if meant.is_empty() { Err(PushError::NoGateway) } else { Ok(meant) }
}

fn is_for(command: &Command<'_>, gateway: GatewayId) -> bool {
    match target(command) {
        Target::Client(client) => client.gateway == gateway,
        Target::Audience(audience) => concerns(audience, gateway),
        Target::All => true,
    }
}

/// A gateway that has let a whole wait pass is waited for this part of it, until it says something.
const SILENT_SHARE: u32 = 10;

fn check(commands: &[Command<'_>]) -> Result<(), PushError> {
    for (index, command) in commands.iter().enumerate() {
        command.check().map_err(|error| PushError::Command { index, error })?;
        let bytes = match command {
            Command::SendTo(_, message) | Command::Send { message, .. } => message.payload.len(),
            Command::Close { farewell, .. } => farewell.map_or(0, |message| message.payload.len()),
            Command::SetSession(_, json) => json.as_ref().map_or(0, |json| json.len()),
            Command::UpdateSession(_, json) => json.len(),
            _ => 0,
        };
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(PushError::TooLarge { index, bytes });
        }
    }
    Ok(())
}
