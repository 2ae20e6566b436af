use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{ClientId, limits};

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum MessageKind {
    /// UTF-8 text.
    Text = 0,
    /// Any bytes.
    Binary = 1,
    /// Toward clients only: bytes that go to the socket without the listener's protocol around them.
    Raw = 2,
}

impl MessageKind {
    /// The kind with this number.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            2 => Some(Self::Raw),
            _ => None,
        }
    }
}

/// A message, borrowed from wherever it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What the payload is.
    pub kind: MessageKind,
    /// The bytes; UTF-8 if the kind is text.
    pub payload: &'a [u8],
}

/// Who is meant. A set: a client that fits twice is meant once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience<'a> {
    /// Every client of the app.
    All,
    /// These clients.
    Clients(Vec<ClientId>),
    /// Every client bound to one of these uids.
    Uids(Vec<Cow<'a, str>>),
    /// Every client in one of these groups.
    Groups(Vec<Cow<'a, str>>),
}

impl Audience<'_> {
    /// The same audience, owning its names.
    pub fn into_owned(self) -> Audience<'static> {
        let own = |names: Vec<Cow<'_, str>>| names.into_iter().map(|n| Cow::Owned(n.into_owned())).collect();
        match self {
            Self::All => Audience::All,
            Self::Clients(clients) => Audience::Clients(clients),
            Self::Uids(uids) => Audience::Uids(own(uids)),
            Self::Groups(groups) => Audience::Groups(own(groups)),
        }
    }

    /// Checks the number of entries and the length of names.
    ///
    /// # Errors
    /// Too many entries, or a name that is empty or too long.
    pub fn check(&self) -> Result<(), InvalidCommand> {
        let entries = match self {
            Self::All => 0,
            Self::Clients(clients) => clients.len(),
            Self::Uids(names) | Self::Groups(names) => {
                names.iter().try_for_each(|name| check_name(name))?;
                names.len()
            }
        };
        check_entries(entries)
    }
}

/// One thing that a turn asks for. Borrows names and payloads from wasm memory on the worker, from the frame on the
/// gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// Send to one client.
    SendTo(ClientId, Message<'a>),
    /// Send one copy to each client of an audience, less the excepted ones.
    Send {
        /// Who gets it.
        to: Audience<'a>,
        /// Who does not.
        except: Vec<ClientId>,
        /// What.
        message: Message<'a>,
    },
    /// Flush, say farewell, close.
    Close {
        /// Who is closed.
        to: Audience<'a>,
        /// Who is not.
        except: Vec<ClientId>,
        /// The WebSocket close code.
        code: u16,
        /// The WebSocket close reason.
        reason: Cow<'a, str>,
        /// A last message.
        farewell: Option<Message<'a>>,
    },
    /// Drop the connections at once.
    Destroy {
        /// Who is dropped.
        to: Audience<'a>,
        /// Who is not.
        except: Vec<ClientId>,
    },
    /// Bind a client to a uid, in place of the one it has.
    Bind(ClientId, Cow<'a, str>),
    /// Take a client's uid away.
    Unbind(ClientId),
    /// Put a client into a group.
    Join(ClientId, Cow<'a, str>),
    /// Take a client out of a group.
    Leave(ClientId, Cow<'a, str>),
    /// Take everybody out of a group.
    Disband(Cow<'a, str>),
    /// Replace a client's session by a JSON object, or remove it.
    SetSession(ClientId, Option<Cow<'a, str>>),
    /// Merge a JSON object into a client's session.
    UpdateSession(ClientId, Cow<'a, str>),
}

impl Command<'_> {
    /// Checks what does not depend on an app's settings: names, list lengths, close codes, UTF-8 of text.
    ///
    /// # Errors
    /// The first rule that the command breaks.
    pub fn check(&self) -> Result<(), InvalidCommand> {
        match self {
            Self::SendTo(_, message) => check_message(message),
            Self::Send { to, except, message } => {
                to.check()?;
                check_entries(except.len())?;
                check_message(message)
            }
            Self::Close { to, except, code, reason, farewell } => {
                to.check()?;
                check_entries(except.len())?;
                if !crate::CloseCode(*code).is_for_plugins() {
                    return Err(InvalidCommand::CloseCode(*code));
                }
                if reason.len() > limits::CLOSE_REASON_BYTES_MAX {
                    return Err(InvalidCommand::CloseReason(reason.len()));
                }
                farewell.as_ref().map_or(Ok(()), check_message)
            }
            Self::Destroy { to, except } => to.check().and_then(|()| check_entries(except.len())),
            Self::Bind(_, name) | Self::Join(_, name) | Self::Leave(_, name) | Self::Disband(name) => {
                check_name(name)
            }
            Self::Unbind(_) | Self::SetSession(..) | Self::UpdateSession(..) => Ok(()),
        }
    }
}

/// A command that no app may give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// A uid, group or timer key of a wrong length.
    #[error("a uid, group or timer key has 1 to 255 bytes, this one has {0}")]
    Name(usize),
    /// A list that is too long.
    #[error("an audience or exclusion list has at most 65536 entries, this one has {0}")]
    Entries(usize),
    /// A close code that plugins may not use.
    #[error("close code {0} is reserved: use 1000 or 3000 to 4999")]
    CloseCode(u16),
    /// A close reason that does not fit a close frame.
    #[error("a close reason has at most 123 bytes, this one has {0}")]
    CloseReason(usize),
    /// A text that is not UTF-8.
    #[error("the payload of a text message is not UTF-8: send it as binary")]
    Utf8,
}

/// Checks a uid, group or timer key.
///
/// # Errors
/// It is empty or longer than [`limits::NAME_BYTES_MAX`].
pub fn check_name(name: &str) -> Result<(), InvalidCommand> {
    if (1..=limits::NAME_BYTES_MAX).contains(&name.len()) {
        Ok(())
    } else {
        Err(InvalidCommand::Name(name.len()))
    }
}

pub(crate) fn check_entries(entries: usize) -> Result<(), InvalidCommand> {
    if entries <= limits::AUDIENCE_ENTRIES_MAX { Ok(()) } else { Err(InvalidCommand::Entries(entries)) }
}

fn check_message(message: &Message<'_>) -> Result<(), InvalidCommand> {
    // Plugins in safe languages send valid text, but the host must not trust a component: the gateway puts this on
    // the wire as a text frame. ASCII, the common case, is checked at memory speed.
    let valid = message.kind != MessageKind::Text || std::str::from_utf8(message.payload).is_ok();
    if valid { Ok(()) } else { Err(InvalidCommand::Utf8) }
}
