//! The host's side of a turn: what the host functions of a native build do.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::buckets::FakeBucket;
use super::cluster::{Closed, Closing, Cluster, Object, SESSION_BYTES_MAX, merged};
use super::misuse;
use super::timers::Timers;
use crate::keys::KeyError;
use crate::log::Level;
use crate::{Addresses, Audience, ClientId, ClientInfo, CloseReason, MessageKind};

/// The largest payload of one message.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// The largest sum of a turn's commands.
const TURN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest uid, group or timer key.
const NAME_BYTES_MAX: usize = 255;
/// The longest list in an audience or exclusion.
const ENTRIES_MAX: usize = 65_536;
/// The longest close reason.
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// The deepest nesting of a session.
const SESSION_DEPTH_MAX: usize = 32;
/// How many timers a slot may have.
const TIMERS_MAX: usize = 1024;
/// The shortest period of a timer.
const PERIOD_MS_MIN: u64 = 10;

/// Why `save` fails that sends, joins, sets a timer or the like.
const SAVE_CHANGES: &str =
    "save must change nothing, since the swap may still be given up: commands and timers are refused in it";

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// Everything around the plugin.
#[derive(Default)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) timers: Timers,
    pub(super) closing: VecDeque<Closing>,
    pub(super) failures: Vec<String>,
    pub(super) log: Vec<(Level, String)>,
    settings: BTreeMap<String, String>,
    buckets: BTreeMap<String, FakeBucket>,
    pub(super) has_on_timer: bool,
}

/// What kind of turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Of the version that has the slot.
    Event,
    /// `on_worker_start` of the next version: what it asks for waits, and its queries are no commit points.
    Start,
    /// `save`: it may ask for nothing.
    Save,
    /// `restore`: what it asks for waits, and it may not ask the gateways.
    Restore,
    /// `on_worker_stop` of the version before.
    Stop,
}

/// What a turn asked for that has not taken effect.
#[derive(Default)]
pub(super) struct Held {
    commands: Vec<Command>,
    timers: Vec<TimerOp>,
}

impl Held {
    pub(super) fn extend(&mut self, later: Self) {
        self.commands.extend(later.commands);
        self.timers.extend(later.timers);
    }
}

/// A key, and when its timer is due and how often; none cancels it.
type TimerOp = (String, Option<(Duration, Duration)>);

/// Something that a turn asked the gateways for.
pub(crate) enum Command {
    Send {
        to: Audience,
        except: Vec<ClientId>,
        kind: MessageKind,
        payload: Vec<u8>,
    },
    Close {
        to: Audience,
        except: Vec<ClientId>,
        code: u16,
        reason: String,
        farewell: Option<(MessageKind, Vec<u8>)>,
    },
    Destroy {
        to: Audience,
        except: Vec<ClientId>,
    },
    Bind(ClientId, String),
    Unbind(ClientId),
    Join(ClientId, String),
    Leave(ClientId, String),
    Disband(String),
    SetSession(ClientId, Option<Object>),
    UpdateSession(ClientId, Object),
}

/// The turn that runs.
pub(crate) struct Turn {
    world: World,
    mode: Mode,
    client: Option<ClientId>,
    session: Option<Object>,
    // Of the turn's start: on_close can ask for them when the client is gone.
    addresses: Option<Addresses>,
    commands: Vec<Command>,
    timers: Vec<TimerOp>,
    bytes: usize,
    failure: Option<String>,
}

/// Starts a turn on this thread.
pub(super) fn enter(world: World, client: Option<ClientId>, session: Option<Object>, mode: Mode) {
    TURN.set(Some(Turn::new(world, client, session, mode)));
}

/// Ends the turn: what it asked for leaves, unless it failed. Says whether it ended well.
pub(super) fn finish() -> (World, bool) {
    let Some(turn) = TURN.take() else { misuse("a turn ends that did not start") };
    turn.end()
}

/// Ends the turn without effect: what it asked for, or why it failed.
pub(super) fn finish_held() -> (World, Result<Held, String>) {
    let Some(turn) = TURN.take() else { misuse("a turn ends that did not start") };
    let timers = if turn.mode == Mode::Stop { Vec::new() } else { turn.timers };
    let held = Held { commands: turn.commands, timers };
    (turn.world, turn.failure.map_or(Ok(held), Err))
}

/// What was held takes effect.
pub(super) fn release(world: World, held: Held) -> World {
    let Held { commands, timers } = held;
    let turn = Turn { commands, timers, ..Turn::new(world, None, None, Mode::Event) };
    turn.end().0
}

/// Does something in the turn that runs.
pub(crate) fn in_turn<T>(f: impl FnOnce(&mut Turn) -> T) -> T {
    TURN.with_borrow_mut(|turn| match turn {
        Some(turn) => f(turn),
        None => misuse(
            "a host function is called outside of a callback: drive the plugin with tidegate::testing::start(), and \
             call it from there",
        ),
    })
}

impl World {
    pub(super) fn new(settings: BTreeMap<String, String>, buckets: Vec<String>, has_on_timer: bool) -> Self {
        let buckets = buckets.into_iter().map(|name| (name, FakeBucket::default())).collect();
        Self { settings, buckets, has_on_timer, ..Self::default() }
    }
}

impl Turn {
    fn new(world: World, client: Option<ClientId>, session: Option<Object>, mode: Mode) -> Self {
        let addresses = client.and_then(|id| Some(world.cluster.client(id)?.addresses.clone()));
        Self {
            world,
            mode,
            client,
            session,
            addresses,
            commands: Vec::new(),
            timers: Vec::new(),
            bytes: 0,
            failure: None,
        }
    }

    fn end(mut self) -> (World, bool) {
        self.commit();
        let failure = self.failure.take();
        let well = failure.is_none();
        if well {
            for (key, timer) in self.timers {
                match timer {
                    Some((after, every)) => self.world.timers.set(key, after, every),
                    None => self.world.timers.cancel(&key),
                }
            }
        }
        self.world.failures.extend(failure);
        (self.world, well)
    }

    pub(crate) fn fail(&mut self, reason: &str) {
        self.failure.get_or_insert_with(|| reason.to_owned());
    }

    pub(crate) fn addresses(&mut self) -> Option<Addresses> {
        self.addresses.clone()
    }

    pub(crate) fn session(&mut self) -> Option<String> {
        self.session.clone().map(|object| Value::Object(object).to_string())
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.bytes += command.payload_bytes();
        let fault = command.fault().or_else(|| (self.mode == Mode::Save).then(|| SAVE_CHANGES.to_owned()));
        let fault = fault.or_else(|| {
            (self.bytes > TURN_BYTES_MAX).then(|| {
                format!("the turn's commands have {} bytes, at most {TURN_BYTES_MAX} are allowed", self.bytes)
            })
        });
        match fault {
            Some(fault) => self.fail(&fault),
            None => self.commands.push(command),
        }
    }

    pub(crate) fn set_session(&mut self, client: ClientId, session: Option<&str>) {
        match session.map(object).transpose() {
            Ok(session) => {
                if self.client == Some(client) {
                    self.session.clone_from(&session);
                }
                self.command(Command::SetSession(client, session));
            }
            Err(fault) => self.fail(&fault),
        }
    }

    pub(crate) fn update_session(&mut self, client: ClientId, patch: &str) {
        let patch = match object(patch) {
            Ok(patch) => patch,
            Err(fault) => return self.fail(&fault),
        };
        if self.client == Some(client) {
            match merged(self.session.as_ref(), patch.clone()) {
                Ok(session) => self.session = Some(session),
                Err(fault) => return self.fail(&fault),
            }
        }
        self.command(Command::UpdateSession(client, patch));
    }

    pub(crate) fn query<T>(
        &mut self,
        of: &Audience,
        value: impl FnOnce(&[ClientInfo]) -> T,
    ) -> (T, Vec<u64>) {
        if let Some(fault) = audience_fault(of) {
            self.fail(&fault);
        }
        match self.mode {
            Mode::Event => self.commit(),
            Mode::Start | Mode::Stop => {}
            Mode::Save | Mode::Restore => {
                self.fail("save and restore must not ask the gateways: the slot serves nobody meanwhile");
                return (value(&[]), Vec::new());
            }
        }
        let (found, missing) = self.world.cluster.query(of);
        (value(&found), missing)
    }

    pub(crate) fn set_timer(&mut self, key: &str, after: u64, every: u64) {
        let waiting = self.timers.iter().filter(|(_, timer)| timer.is_some()).count();
        let fault = name_fault(key).or_else(|| {
            if self.mode == Mode::Save {
                Some(SAVE_CHANGES.to_owned())
            } else if !self.world.has_on_timer && self.mode != Mode::Stop {
                Some(format!("timer {key:?} is set, but the plugin has no on_timer"))
            } else if (1..PERIOD_MS_MIN).contains(&every) {
                Some(format!("timer {key:?} repeats every {every} ms, the least is {PERIOD_MS_MIN}"))
            } else if self.world.timers.keys().len() + waiting >= TIMERS_MAX {
                Some(format!("timer {key:?} is one more than the {TIMERS_MAX} that a slot may have"))
            } else {
                None
            }
        });
        match fault {
            Some(fault) => self.fail(&fault),
            None => {
                let timer = (Duration::from_millis(after), Duration::from_millis(every));
                self.timers.push((key.to_owned(), Some(timer)));
            }
        }
    }

    pub(crate) fn cancel_timer(&mut self, key: &str) {
        match self.mode {
            Mode::Save => self.fail(SAVE_CHANGES),
            _ => self.timers.push((key.to_owned(), None)),
        }
    }

    pub(crate) fn log(&mut self, level: Level, line: &str) {
        self.world.log.push((level, line.to_owned()));
    }

    pub(crate) fn open_bucket(&self, name: &str) -> Result<(), KeyError> {
        self.world.buckets.contains_key(name).then_some(()).ok_or(KeyError::NoSuchBucket)
    }

    /// An open bucket. At once, whatever becomes of the turn.
    pub(crate) fn bucket(&mut self, name: &str) -> Result<&mut FakeBucket, KeyError> {
        if let Mode::Save | Mode::Restore = self.mode {
            let words = "save and restore must not use keys: the slot serves nobody meanwhile";
            return Err(KeyError::Other(words.into()));
        }
        self.world.buckets.get_mut(name).ok_or(KeyError::TakenBack)
    }

    pub(crate) fn setting(&mut self, key: &str) -> Option<String> {
        self.world.settings.get(key).cloned()
    }

    pub(crate) fn settings(&mut self) -> Vec<(String, String)> {
        self.world.settings.clone().into_iter().collect()
    }

    /// Sends the commands so far; drops them if the turn has failed.
    fn commit(&mut self) {
        let commands = std::mem::take(&mut self.commands);
        if self.failure.is_some() {
            return;
        }
        for command in commands {
            if let Err(fault) = self.apply(command) {
                self.fail(&fault);
            }
        }
    }

    fn apply(&mut self, command: Command) -> Result<(), String> {
        let World { cluster, closing, failures, .. } = &mut self.world;
        match command {
            Command::Send { to, except, kind, payload } => {
                cluster.meant(&to, &except).into_iter().for_each(|id| cluster.send(id, kind, &payload));
            }
            Command::Close { to, except, code, reason, farewell } => {
                for id in cluster.meant(&to, &except) {
                    if let Some((kind, payload)) = &farewell {
                        cluster.send(id, *kind, payload);
                    }
                    let how = Closed { why: CloseReason::Plugin, code, reason: reason.clone() };
                    closing.extend(cluster.close(id, how));
                }
            }
            Command::Destroy { to, except } => {
                for id in cluster.meant(&to, &except) {
                    closing.extend(cluster.remove(id, CloseReason::Plugin));
                }
            }
            Command::Bind(id, uid) => cluster.set_uid(id, Some(uid)),
            Command::Unbind(id) => cluster.set_uid(id, None),
            // The gateway refuses it: the turn goes on.
            Command::Join(id, group) => failures.extend(cluster.join(id, group).err()),
            Command::Leave(id, group) => cluster.leave(id, &group),
            Command::Disband(group) => cluster.disband(&group),
            Command::SetSession(id, session) => cluster.set_session(id, session),
            Command::UpdateSession(id, patch) => cluster.update_session(id, patch)?,
        }
        Ok(())
    }
}

impl Command {
    fn payload_bytes(&self) -> usize {
        match self {
            Self::Send { payload, .. } => payload.len(),
            Self::Close { farewell: Some((_, payload)), .. } => payload.len(),
            _ => 0,
        }
    }

    /// What makes it one that no plugin may give.
    fn fault(&self) -> Option<String> {
        let bytes = self.payload_bytes();
        if bytes > PAYLOAD_BYTES_MAX {
            return Some(format!("a payload has {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are allowed"));
        }
        match self {
            Self::Send { to, except, .. } | Self::Destroy { to, except } => {
                audience_fault(to).or_else(|| entries_fault(except.len()))
            }
            Self::Close { to, except, code, reason, .. } => audience_fault(to)
                .or_else(|| entries_fault(except.len()))
                .or_else(|| close_fault(*code, reason)),
            Self::Bind(_, name) | Self::Join(_, name) | Self::Leave(_, name) | Self::Disband(name) => {
                name_fault(name)
            }
            Self::Unbind(_) | Self::SetSession(..) | Self::UpdateSession(..) => None,
        }
    }
}

fn audience_fault(audience: &Audience) -> Option<String> {
    match audience {
        Audience::All => None,
        Audience::Clients(ids) => entries_fault(ids.len()),
        Audience::Uids(names) | Audience::Groups(names) => {
            entries_fault(names.len()).or_else(|| names.iter().find_map(|name| name_fault(name)))
        }
    }
}

fn entries_fault(entries: usize) -> Option<String> {
    (entries > ENTRIES_MAX)
        .then(|| format!("a list has {entries} entries, at most {ENTRIES_MAX} are allowed"))
}

fn name_fault(name: &str) -> Option<String> {
    let bytes = name.len();
    (bytes == 0 || bytes > NAME_BYTES_MAX)
        .then(|| format!("a uid, group or timer key has 1 to {NAME_BYTES_MAX} bytes, this one has {bytes}"))
}

fn close_fault(code: u16, reason: &str) -> Option<String> {
    if code != 1000 && !(3000..=4999).contains(&code) {
        return Some(format!("close code {code} is reserved: use 1000 or 3000 to 4999"));
    }
    (reason.len() > CLOSE_REASON_BYTES_MAX).then(|| {
        format!("a close reason has at most {CLOSE_REASON_BYTES_MAX} bytes, this one has {}", reason.len())
    })
}

fn object(json: &str) -> Result<Object, String> {
    if json.len() > SESSION_BYTES_MAX {
        return Err(format!("a session has {} bytes, at most {SESSION_BYTES_MAX} are allowed", json.len()));
    }
    match serde_json::from_str(json) {
        Ok(value) if depth(&value) > SESSION_DEPTH_MAX => {
            Err(format!("a session is at most {SESSION_DEPTH_MAX} levels deep"))
        }
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("a session is a JSON object".into()),
        Err(error) => Err(format!("a session is a JSON object: {error}")),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
