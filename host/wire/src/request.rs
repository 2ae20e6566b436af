//! What operators and workers ask of a register, each question on a lane of its own.
//!
//! ```text
//!  who asks                                                              register
//!    length (u32, little endian), Request (postcard) ------------------->
//!    Deploy with Sent: so many raw bytes ------------------------------->
//!    <------------------------------- length, Reply; any number of Waiting and News
//!    <------------------------------- App or Version, one for each; then one that is the last
//!    <------------------------------- after Module: so many raw bytes
//! ```
//!
//! Who may ask what depends on the role in the certificate; the register judges it.

mod answers;
mod decoder;
mod incoming;
mod manage;
mod refusal;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Digest, Label, NewToken, NodeName, Token, TokenWish};

pub use self::answers::{AppOverview, Deploying, EntryState, HistoryEntry, WorkerOverview};
pub use self::decoder::{BadMessage, Decoder, encode};
pub use self::incoming::{BadModule, Incoming};
pub use self::manage::{AppDeed, Created, Effect, NodeRef, NodeTrouble, Order, TenantDeed, TenantOverview};
pub use self::refusal::Refusal;
use crate::control::Canary;
use crate::question::{NodeAnswer, NodeQuestion};
use crate::report::{Progress, SwapReport};

/// Largest [`Request`], in bytes.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Largest [`Reply`], in bytes.
pub const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest module, in bytes: what a host takes as a component at most, whatever apps may have.
pub const MODULE_BYTES_MAX: u64 = tidegate_base::limits::MODULE_BYTES_MAX;

/// Most lines of a history that are given at once.
pub const HISTORY_LIMIT_MAX: u32 = 1000;

/// A question to a register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// What runs and what is rolled out? Answered by [`Reply::App`] for each, and [`Reply::Done`].
    Apps,
    /// What was deployed? Answered by [`Reply::Version`] for each, the newest first, and [`Reply::Done`].
    History {
        /// The app.
        app: AppName,
        /// So many lines at most; more than [`HISTORY_LIMIT_MAX`] means that.
        limit: u32,
    },
    /// Please deploy. Answered by [`Reply::Ended`] when it is over, however it ended. It goes on without who asked.
    Deploy {
        /// The app.
        app: AppName,
        /// What to deploy.
        module: Module,
        /// Judge it on a share of the slots first.
        canary: Option<Canary>,
        /// What to write beside it in the history.
        note: String,
    },
    /// Please deploy an earlier version again. Answered as [`Request::Deploy`].
    Rollback {
        /// The app.
        app: AppName,
        /// The version; None: the one that was stable before the one that is.
        to: Option<u32>,
        /// What to write beside it in the history.
        note: String,
    },
    /// Please end the deployment that goes on, and go back. Answered by [`Reply::Done`] when it has turned round.
    Cancel {
        /// The app.
        app: AppName,
    },
    /// Please give a module. Answered by [`Reply::Module`].
    Fetch {
        /// The module.
        digest: Digest,
    },
    /// Which tenants are there? Answered by [`Reply::Tenant`] for each, and [`Reply::Done`].
    Tenants,
    /// Please do this to a tenant or an app. Answered by [`Reply::Managed`] when it is written down and gateways and workers
    /// do it, or have had some seconds for it.
    Manage(Order),
    /// Which tokens of the HTTP API are there? Answered by [`Reply::Token`] for each, and [`Reply::Done`].
    Tokens {
        /// Of this tenant; None: all.
        tenant: Option<Label>,
    },
    /// Please make a token. Answered by [`Reply::NewToken`].
    CreateToken(TokenWish),
    /// Please revoke a token. Answered by [`Reply::Token`] and [`Reply::Done`].
    RevokeToken {
        /// Its name.
        id: String,
    },
    /// Please ask nodes this. Answered by [`Reply::Answer`] for each, and [`Reply::Done`].
    AskNodes {
        /// What.
        question: NodeQuestion,
        /// The one of this name; None: every node that has something to say to it.
        of: Option<NodeName>,
    },
}

impl Request {
    /// What it is called in messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::History { .. } => "history",
            Self::Deploy { .. } => "deploy",
            Self::Rollback { .. } => "rollback",
            Self::Cancel { .. } => "cancel",
            Self::Fetch { .. } => "fetch a module",
            Self::Tenants => "tenants",
            Self::Manage(order) => order.name(),
            Self::Tokens { .. } => "tokens",
            Self::CreateToken(_) => "create a token",
            Self::RevokeToken { .. } => "revoke a token",
            Self::AskNodes { question, .. } => question.name(),
        }
    }
}

/// What a [`Request::Deploy`] deploys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Module {
    /// Its bytes follow.
    Sent {
        /// Their digest.
        digest: Digest,
        /// How many: at most [`MODULE_BYTES_MAX`].
        bytes: u64,
    },
    /// The register has it.
    Stored(Digest),
}

/// What a register says to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is still at it. Comes every few seconds, so that silence means that it is gone.
    Waiting,
    /// News of the deployment.
    News(Progress),
    /// One app.
    App(Box<AppOverview>),
    /// One line of a history.
    Version(Box<HistoryEntry>),
    /// The last: the module's bytes follow.
    Module {
        /// How many.
        bytes: u64,
    },
    /// The last: the list is complete, or what was asked is done.
    Done,
    /// The last: the deployment is over.
    Ended(Box<SwapReport>),
    /// The last: it is not done, and nothing has changed.
    Refused(Refusal),
    /// One tenant.
    Tenant(Box<TenantOverview>),
    /// The last: an order was carried out.
    Managed(Box<Effect>),
    /// One token.
    Token(Box<Token>),
    /// The last: a token was made.
    NewToken(Box<NewToken>),
    /// What one node says to a question, or why it says nothing.
    Answer(Box<NodeAnswer>),
}

#[cfg(test)]
mod tests;
