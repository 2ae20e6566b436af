//! A node's own control channel: a Unix socket in its data folder, for the command line on the same machine. One line of
//! JSON asks, and one line of JSON answers; while something is deployed lines with news come before it. Who may open the
//! socket is the folder's owner.
//!
//! ```text
//!  {"request":"nodes"}                                         {"nodes":[...]}
//!  {"request":"deploy","app":"chat","bytes":5}, 5 raw bytes    {"news":...}, "waiting", ..., {"deployed":...}
//! ```

mod client;
mod server;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Digest, Label, NewToken, NodeName, Token, TokenWish};
use tidegate_wire::control::Canary;
use tidegate_wire::question::{NodeAnswer, NodeQuestion};
use tidegate_wire::report::{Progress, SwapReport};
use tidegate_wire::request::{AppOverview, Effect, HistoryEntry, Order, Refusal, TenantOverview};

pub use self::client::{ask, converse};
pub(crate) use self::server::{ControlSocket, Host};
use crate::status::{NodeEntry, Status};

/// The socket's name in the data folder.
pub const SOCKET: &str = "control.sock";

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Who is in the cluster, as far as this node knows?
    Nodes,
    /// How does this node do?
    Status,
    /// What do nodes say to this?
    Ask {
        /// What.
        question: NodeQuestion,
        /// The one of this name; without one every node that has something to say to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<NodeName>,
    },
    /// Which apps are there, and what do they run?
    Apps,
    /// What was deployed?
    History {
        /// The app.
        app: AppName,
        /// So many lines at most.
        limit: u32,
    },
    /// Please deploy.
    Deploy {
        /// The app.
        app: AppName,
        /// The module: so many raw bytes follow the line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// The digest of those bytes; without bytes that of a module which is there already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// Judge it on a share of the slots first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<Canary>,
        /// What to write beside it in the history.
        #[serde(default)]
        note: String,
        /// Who asks, if not only the user of the process that does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Please deploy an earlier version again.
    Rollback {
        /// The app.
        app: AppName,
        /// The version; without one that which was stable before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u32>,
        /// What to write beside it in the history.
        #[serde(default)]
        note: String,
        /// As for a deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Which tenants are there?
    Tenants,
    /// Please do this to a tenant or an app.
    Manage {
        /// What.
        order: Order,
        /// As for a deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Which tokens of the HTTP API are there?
    Tokens {
        /// Of this tenant; without one: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<Label>,
    },
    /// Please make a token.
    #[serde(rename = "create-token")]
    CreateToken {
        /// What it is to be.
        wish: TokenWish,
        /// As for a deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Please revoke a token.
    #[serde(rename = "revoke-token")]
    RevokeToken {
        /// Its name.
        id: String,
        /// As for a deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Please end the deployment that goes on, and go back.
    Cancel {
        /// The app.
        app: AppName,
        /// As for a deployment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

/// An answer. All but [`Response::Waiting`] and [`Response::News`] are the last line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// To [`Request::Nodes`].
    Nodes(Vec<NodeEntry>),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Ask`].
    Answers(Vec<NodeAnswer>),
    /// To [`Request::Apps`].
    Apps(Vec<AppOverview>),
    /// To [`Request::History`], the newest first.
    History(Vec<HistoryEntry>),
    /// It is still at it. Comes every few seconds, so that silence means that it is gone.
    Waiting,
    /// News of the deployment.
    News(Progress),
    /// To [`Request::Deploy`] and [`Request::Rollback`]: it is over, however it ended.
    Deployed(Box<SwapReport>),
    /// To [`Request::Tenants`].
    Tenants(Vec<TenantOverview>),
    /// To [`Request::Manage`]: it is done.
    Managed(Box<Effect>),
    /// To [`Request::Tokens`] and, with the one that was revoked, [`Request::RevokeToken`].
    Tokens(Vec<Token>),
    /// To [`Request::CreateToken`].
    #[serde(rename = "new-token")]
    NewToken(Box<NewToken>),
    /// To [`Request::Cancel`]: the deployment is on its way back.
    Cancelled,
    /// It is not done, and nothing has changed.
    Refused(Refusal),
    /// The question was not understood.
    Error(String),
}

/// Why a node does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No node has the folder.
    #[error(
        "no node runs with the data folder {}: start one with `tidegate up`, or name the settings file of the one that \
         runs with -c", path.display()
    )]
    NotRunning {
        /// The data folder.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("cannot talk to the node at {}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The node ended before it had answered.
    #[error(
        "the node at {} ended before it had answered; what it was asked may be done or go on: look at its log and, once \
         it runs again, at `tidegate history`",
        path.display()
    )]
    Cut {
        /// The socket.
        path: PathBuf,
    },
    /// The node understood the question otherwise, or not at all.
    #[error("the node did not answer the question ({reason}): is it of another version?")]
    Answer {
        /// What it said.
        reason: String,
    },
}

/// A path by which a socket can be bound or found however long that of its folder is: the system takes 108 bytes.
struct ShortPath {
    path: PathBuf,
    /// What the path goes through.
    _folder: Option<File>,
}

impl ShortPath {
    fn of(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        if path.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET);
        Ok(Self { path, _folder: Some(folder) })
    }
}

const SOCKET_PATH_BYTES_MAX: usize = 108;
/// Longest question: the settings of an app, however JSON writes them.
const QUESTION_BYTES_MAX: u64 = 512 * 1024;
/// All lines of an answer together: what all nodes say, as JSON writes texts.
const ANSWER_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// How long either end may neither send nor take anything while it should.
const STEP_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
