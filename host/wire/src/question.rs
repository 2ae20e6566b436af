//! What a register asks of the nodes of its cluster, each question on a lane of the node's own link to it.
//!
//! ```text
//!  register                                                          node
//!    length (u32, little endian), NodeQuestion (postcard) ------------>
//!    <----------------------------------------- length, NodeReply
//! ```
//!
//! An answer is a text, which the register hands on without looking at it: what nodes tell may change without it.

mod connections;
mod logs;

use serde::{Deserialize, Serialize};
use tidegate_base::{NodeName, Role};

pub use self::connections::{CONNECTIONS_MAX, Connection, ConnectionFilter, ConnectionList, Connections};
pub use self::logs::{
    BadCursors, CURSORS_MAX, Cursor, Cursors, LOG_LINES_MAX, Level, LogFilter, LogLine, LogPage, Logs,
    UnknownLevel, WorkerLine,
};
use crate::request::{NodeRef, REPLY_BYTES_MAX};

/// Largest answer of a node, in bytes: it must fit into a reply, beside the node's name.
pub const ANSWER_BYTES_MAX: usize = REPLY_BYTES_MAX - 4096;

/// A question to nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeQuestion {
    /// How do you do?
    Status,
    /// Which clients do you have? Answered by a [`ConnectionList`] in JSON.
    Connections(ConnectionFilter),
    /// Which lines of an app's log do you remember? Answered by a [`LogPage`] in JSON, or null if the app is not there.
    Logs(LogFilter),
}

impl NodeQuestion {
    /// What it is called in messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Connections(_) => "connections",
            Self::Logs(_) => "logs",
        }
    }

    /// Whether nodes of this role have something to say to it.
    pub const fn is_for(&self, role: Role) -> bool {
        match self {
            Self::Status => !matches!(role, Role::Operator),
            Self::Connections(_) => matches!(role, Role::Gateway),
            Self::Logs(_) => matches!(role, Role::Worker),
        }
    }
}

/// What a node says to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeReply {
    /// The answer, of [`ANSWER_BYTES_MAX`] at most.
    Answer(String),
    /// It does not answer; why.
    Refused(String),
}

/// What became of a question at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// The node.
    pub node: NodeRef,
    /// What it said.
    pub answer: Result<String, NoAnswer>,
}

/// A node that said nothing where others did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What it is.
    pub role: Role,
    /// Its name.
    pub node: NodeName,
    /// Why.
    pub reason: String,
}

/// Why there is no answer of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum NoAnswer {
    /// None came in time.
    #[error("it did not answer within {wait_ms} ms: it hangs, or its machine has too much to do")]
    Late {
        /// How long it was waited for.
        wait_ms: u64,
    },
    /// Its link ended, or brought something else.
    #[error("it is gone, or of another version: {reason}")]
    Gone {
        /// What became of the link.
        reason: String,
    },
    /// It does not answer this.
    #[error("it does not answer: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Those before it took too long.
    #[error("it was not asked, since too many others did not answer in time: ask for it alone, by its name")]
    NotAsked,
    /// All answers together have as many bytes as they may.
    #[error(
        "its answer is left out, since those of the others are as large as all may be: ask for it alone, by its name"
    )]
    NoRoom,
}
