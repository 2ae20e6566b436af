//! What an instance may do that does not serve its slot: one that starts beside the slot's own, or one that the slot has
//! let go. Its commands and timers are kept; its questions are asked by the slot, between two turns.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tidegate_base::{Answered, Command, Message, MessageKind, Query, session};
use tidegate_wire::fanout::Fanout;
use tokio::sync::oneshot;

use crate::app_log::AppLog;
use crate::inbox::{Inbox, SlotMsg};
use crate::rules::{Rules, TimerRule};
use crate::settings::WorkerApp;
use crate::timers::TimerOp;

/// Where an instance is kept from having effects.
#[derive(Debug)]
pub(crate) struct Held {
    pub app: Arc<WorkerApp>,
    pub slot: u32,
    pub log: Arc<AppLog>,
    pub failed: Option<String>,
    /// Not by its own word.
    broke_rule: bool,
    rules: Rules,
    commands: Vec<Kept>,
    /// The last word on each key.
    timers: BTreeMap<Arc<str>, TimerOp>,
    asks: Asks,
}

/// How a held instance asks the gateways: through its slot.
#[derive(Debug, Clone)]
pub(crate) struct Asks {
    pub inbox: Arc<Inbox>,
    pub wait: Duration,
}

/// What a held instance wants to happen when it is let loose.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub commands: Vec<Kept>,
    /// One for each key at most.
    pub timers: Vec<TimerOp>,
}

impl Held {
    pub fn new(app: Arc<WorkerApp>, slot: u32, log: Arc<AppLog>, asks: Asks) -> Self {
        Self {
            app,
            slot,
            log,
            failed: None,
            broke_rule: false,
            rules: Rules::default(),
            commands: Vec::new(),
            timers: BTreeMap::new(),
            asks,
        }
    }

    /// What it wants to happen. It starts anew from here.
    pub fn take_wishes(&mut self) -> Wishes {
        self.rules = Rules::default();
        let timers = std::mem::take(&mut self.timers).into_values().collect();
        Wishes { commands: std::mem::take(&mut self.commands), timers }
    }

    /// The turn fails by its own word.
    pub fn fail(&mut self, reason: &str) {
        self.failed.get_or_insert_with(|| reason.into());
    }

    /// The turn fails, and is to end.
    pub fn break_rule(&mut self, reason: impl FnOnce() -> String) {
        if self.failed.is_none() {
            self.failed = Some(reason());
            self.broke_rule = true;
        }
    }

    /// The rule that the turn broke. After one that failed there is no other.
    pub fn broken_rule(&self) -> Option<&str> {
        self.failed.as_deref().filter(|_| self.broke_rule)
    }

    pub fn command(&mut self, command: &Command<'_>) {
        if self.failed.is_some() {
            return;
        }
        // It knows no client, so of a session's patch only the text can be checked.
        let limit = self.app.session_bytes_max;
        let checked = self.rules.admit(&self.app, command).and_then(|()| match command {
            Command::SetSession(_, Some(text)) | Command::UpdateSession(_, text) => {
                session::normalize(text, limit).map(drop).map_err(|invalid| invalid.to_string())
            }
            _ => Ok(()),
        });
        match checked {
            Ok(()) => self.commands.push(Kept::of(command)),
            Err(broken) => self.break_rule(|| broken),
        }
    }

    pub fn query(&self, query: Query) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let Asks { inbox, wait } = self.asks.clone();
        Box::pin(async move {
            let (reply, asked) = oneshot::channel();
            let nobody = Fanout::new(&query, Vec::new());
            inbox.push(SlotMsg::Ask(query, reply));
            match asked.await {
                Ok(asked) => asked.finish(wait).await,
                // The slot has ended, and so does this instance.
                Err(_) => nobody.finish(),
            }
        })
    }

    pub fn set_timer(&mut self, key: &str, after: Duration, every: Option<Duration>) {
        if !self.may_change_timer() {
            return;
        }
        let others =
            self.timers.values().filter(|op| matches!(op, TimerOp::Set { key: set, .. } if **set != *key));
        match TimerRule::of(&self.app).admit(others.count() + 1) {
            Ok(()) => self.wish_timer(TimerOp::Set { key: key.into(), after, every }),
            Err(broken) => self.break_rule(|| broken),
        }
    }

    pub fn cancel_timer(&mut self, key: &str) {
        if !self.may_change_timer() {
            return;
        }
        self.wish_timer(TimerOp::Cancel(key.into()));
    }

    /// Counts a change of a timer. False: the turn has failed.
    fn may_change_timer(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let counted = self.rules.count(&self.app);
        counted.map_err(|broken| self.break_rule(|| broken)).is_ok()
    }

    fn wish_timer(&mut self, op: TimerOp) {
        self.timers.insert(Arc::clone(op.key()), op);
    }
}

/// A command that owns what it carries.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Without the bytes of its message.
    command: Command<'static>,
    payload: Vec<u8>,
}

impl Kept {
    /// Takes what the command borrows.
    pub fn of(command: &Command<'_>) -> Self {
        let payload = |message: &Message<'_>| message.payload.to_vec();
        let empty = |message: &Message<'_>| Message { kind: message.kind, payload: b"" };
        let own = |text: &std::borrow::Cow<'_, str>| std::borrow::Cow::Owned(text.clone().into_owned());
        let (command, payload) = match command {
            Command::SendTo(client, message) => (Command::SendTo(*client, empty(message)), payload(message)),
            Command::Send { to, except, message } => {
                let (to, except) = (to.clone().into_owned(), except.clone());
                (Command::Send { to, except, message: empty(message) }, payload(message))
            }
            Command::Close { to, except, code, reason, farewell } => {
                let bytes = farewell.as_ref().map(payload).unwrap_or_default();
                let close = Command::Close {
                    to: to.clone().into_owned(),
                    except: except.clone(),
                    code: *code,
                    reason: own(reason),
                    farewell: farewell.as_ref().map(empty),
                };
                (close, bytes)
            }
            Command::Destroy { to, except } => {
                (Command::Destroy { to: to.clone().into_owned(), except: except.clone() }, Vec::new())
            }
            Command::Bind(client, uid) => (Command::Bind(*client, own(uid)), Vec::new()),
            Command::Unbind(client) => (Command::Unbind(*client), Vec::new()),
            Command::Join(client, group) => (Command::Join(*client, own(group)), Vec::new()),
            Command::Leave(client, group) => (Command::Leave(*client, own(group)), Vec::new()),
            Command::Disband(group) => (Command::Disband(own(group)), Vec::new()),
            Command::SetSession(client, session) => {
                (Command::SetSession(*client, session.as_ref().map(own)), Vec::new())
            }
            Command::UpdateSession(client, patch) => {
                (Command::UpdateSession(*client, own(patch)), Vec::new())
            }
        };
        Self { command, payload }
    }

    /// The command as it was asked for.
    pub fn command(&self) -> Command<'_> {
        let full = |kind: MessageKind| Message { kind, payload: &self.payload };
        match self.command.clone() {
            Command::SendTo(client, message) => Command::SendTo(client, full(message.kind)),
            Command::Send { to, except, message } => {
                Command::Send { to, except, message: full(message.kind) }
            }
            Command::Close { to, except, code, reason, farewell } => {
                let farewell = farewell.map(|message| full(message.kind));
                Command::Close { to, except, code, reason, farewell }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{Audience, ClientId, GatewayId};

    use super::*;

    #[test]
    fn a_kept_command_is_the_one_that_was_asked_for() {
        let client = ClientId { gateway: GatewayId::new(7), connection: 3 };
        let message = Message { kind: MessageKind::Text, payload: b"hello" };
        let groups = || Audience::Groups(vec!["a".into(), "b".into()]);
        let all = [
            Command::SendTo(client, message),
            Command::Send { to: groups(), except: vec![client], message },
            Command::Close {
                to: Audience::All,
                except: Vec::new(),
                code: 3001,
                reason: "why".into(),
                farewell: Some(message),
            },
            Command::Close {
                to: Audience::All,
                except: Vec::new(),
                code: 1000,
                reason: "".into(),
                farewell: None,
            },
            Command::Destroy { to: groups(), except: vec![client] },
            Command::Bind(client, "u".into()),
            Command::Unbind(client),
            Command::Join(client, "g".into()),
            Command::Leave(client, "g".into()),
            Command::Disband("g".into()),
            Command::SetSession(client, Some("{}".into())),
            Command::SetSession(client, None),
            Command::UpdateSession(client, "{}".into()),
        ];
        for command in all {
            assert_eq!(Kept::of(&command).command(), command);
        }
    }
}
