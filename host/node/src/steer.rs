//! Deploying, rolling back, managing tenants and apps, and looking, the same way for a node on this machine and for a register far away. Everything
//! here blocks: it is for the command line and for programs like it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tidegate_base::{AppName, Digest, Label, NewToken, Token, TokenWish};
use tidegate_link::certs::Identity;
use tidegate_register::deployer::ModuleRef;
use tidegate_wire::control::Canary;
use tidegate_wire::report::{Progress, SwapReport};
use tidegate_wire::request::{
    AppOverview, Effect, HistoryEntry, Module, Order, Refusal, Request, TenantOverview,
};

use crate::control::{self, AskError, Response};
use crate::operator::{Operator, OperatorError};
use crate::requests::{self, RequestError};

/// Whom to ask.
#[derive(Debug, Clone)]
pub enum Cluster {
    /// The node that runs with this data folder, on this machine. It must have a register: an all-in-one, for instance.
    Node {
        /// The folder.
        data_dir: PathBuf,
        /// What whoever asks is called in histories, besides their user number.
        by: Option<String>,
    },
    /// A register, with an operator's certificate.
    Register {
        /// Its address.
        address: SocketAddr,
        /// The certificate.
        identity: Identity,
    },
}

/// What to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The app.
    pub app: AppName,
    /// The module.
    pub module: ModuleRef,
    /// Judge it on a share of the slots first.
    pub canary: Option<Canary>,
    /// What to write beside it in the history.
    pub note: String,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// It is refused; nothing has changed.
    #[error(transparent)]
    Refused(Refusal),
    /// The node does not answer.
    #[error(transparent)]
    Node(#[from] AskError),
    /// The register does not answer.
    #[error(transparent)]
    Register(OperatorError),
    /// The register went away before it had told how a deployment ended.
    #[error(
        "{error}; if the deployment had begun, it goes on without this command: once a register answers again, \
         `tidegate history {app}` tells how it ends"
    )]
    OutOfSight {
        /// The app.
        app: AppName,
        /// What became of the link.
        error: OperatorError,
    },
    /// The system has no more threads or descriptors.
    #[error("cannot start: {0}")]
    System(io::Error),
}

impl From<OperatorError> for SteerError {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Request(RequestError::Refused(refusal)) => Self::Refused(refusal),
            error => Self::Register(error),
        }
    }
}

impl Cluster {
    /// Every app.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn apps(&self) -> Result<Vec<AppOverview>, SteerError> {
        match self {
            Self::Node { data_dir, .. } => match talk(data_dir, control::Request::Apps)? {
                Response::Apps(apps) => Ok(apps),
                other => Err(not_an_answer(other)),
            },
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::apps(it.link()).await?))
            }
        }
    }

    /// The history of an app, the newest first.
    ///
    /// # Errors
    /// Nobody knows the app, or nobody answers.
    pub fn history(&self, app: &AppName, limit: u32) -> Result<Vec<HistoryEntry>, SteerError> {
        let app = app.clone();
        match self {
            Self::Node { data_dir, .. } => match talk(data_dir, control::Request::History { app, limit })? {
                Response::History(entries) => Ok(entries),
                other => Err(not_an_answer(other)),
            },
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::history(it.link(), app, limit).await?))
            }
        }
    }

    /// Deploys; returns when it is over. It goes on if this process ends.
    ///
    /// # Errors
    /// It is refused, or nobody answers; in the latter case it may go on.
    pub fn deploy(
        &self,
        wish: Wish,
        on_news: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<SwapReport, SteerError> {
        let Wish { app, module, canary, note } = wish;
        let (module, digest, sent) = match module {
            ModuleRef::Bytes(bytes) => (bytes.clone(), Digest::of(&bytes), true),
            ModuleRef::Digest(digest) => (Bytes::new(), digest, false),
        };
        let bytes = module.len() as u64;
        match self {
            Self::Node { data_dir, by } => {
                let (by, bytes, digest) = (by.clone(), sent.then_some(bytes), Some(digest));
                let request = control::Request::Deploy { app, bytes, digest, canary, note, by };
                deployed(data_dir, &request, &module, on_news)
            }
            Self::Register { address, identity } => {
                let sent = if sent { Module::Sent { digest, bytes } } else { Module::Stored(digest) };
                let of = app.clone();
                let request = Request::Deploy { app, module: sent, canary, note };
                let ended = over_link(*address, identity, async |it| {
                    Ok(requests::deploy(it.link(), &request, module, on_news).await?)
                });
                ended.map_err(|error| out_of_sight(of, error))
            }
        }
    }

    /// Deploys an earlier version again; returns when it is over. `to` names the version; without one it is that which was
    /// stable before.
    ///
    /// # Errors
    /// As for [`deploy`](Self::deploy).
    pub fn rollback(
        &self,
        app: &AppName,
        to: Option<u32>,
        note: String,
        on_news: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<SwapReport, SteerError> {
        let app = app.clone();
        match self {
            Self::Node { data_dir, by } => {
                let request = control::Request::Rollback { app, to, note, by: by.clone() };
                deployed(data_dir, &request, &[], on_news)
            }
            Self::Register { address, identity } => {
                let of = app.clone();
                let request = Request::Rollback { app, to, note };
                let ended = over_link(*address, identity, async |it| {
                    Ok(requests::deploy(it.link(), &request, Bytes::new(), on_news).await?)
                });
                ended.map_err(|error| out_of_sight(of, error))
            }
        }
    }

    /// Every tenant.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn tenants(&self) -> Result<Vec<TenantOverview>, SteerError> {
        match self {
            Self::Node { data_dir, .. } => match talk(data_dir, control::Request::Tenants)? {
                Response::Tenants(tenants) => Ok(tenants),
                other => Err(not_an_answer(other)),
            },
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::tenants(it.link()).await?))
            }
        }
    }

    /// Does something to a tenant or to an app that is made at run time; returns when gateways and workers do it, or have
    /// had some seconds for it.
    ///
    /// # Errors
    /// It is refused, or nobody answers; in the latter case it may be done.
    pub fn manage(&self, order: Order) -> Result<Effect, SteerError> {
        match self {
            Self::Node { data_dir, by } => {
                match talk(data_dir, control::Request::Manage { order, by: by.clone() })? {
                    Response::Managed(effect) => Ok(*effect),
                    other => Err(not_an_answer(other)),
                }
            }
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::manage(it.link(), order).await?))
            }
        }
    }

    /// The tokens of the HTTP API of one tenant, or all.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn tokens(&self, tenant: Option<Label>) -> Result<Vec<Token>, SteerError> {
        match self {
            Self::Node { data_dir, .. } => match talk(data_dir, control::Request::Tokens { tenant })? {
                Response::Tokens(tokens) => Ok(tokens),
                other => Err(not_an_answer(other)),
            },
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::tokens(it.link(), tenant).await?))
            }
        }
    }

    /// Makes a token of the HTTP API. Its secret is told this once.
    ///
    /// # Errors
    /// It is refused, or nobody answers; in the latter case it may be there.
    pub fn create_token(&self, wish: TokenWish) -> Result<NewToken, SteerError> {
        match self {
            Self::Node { data_dir, by } => {
                match talk(data_dir, control::Request::CreateToken { wish, by: by.clone() })? {
                    Response::NewToken(new) => Ok(*new),
                    // Not shown: it may hold a secret.
                    _ => Err(AskError::Answer { reason: "it said something else".into() }.into()),
                }
            }
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::create_token(it.link(), wish).await?))
            }
        }
    }

    /// Revokes a token: nobody gets in with it from now on.
    ///
    /// # Errors
    /// There is none of this name, or nobody answers; in the latter case it may be revoked.
    pub fn revoke_token(&self, id: String) -> Result<Token, SteerError> {
        match self {
            Self::Node { data_dir, by } => {
                let tokens = match talk(data_dir, control::Request::RevokeToken { id, by: by.clone() })? {
                    Response::Tokens(tokens) => tokens,
                    other => return Err(not_an_answer(other)),
                };
                let none = || AskError::Answer { reason: "it named no token".into() };
                Ok(tokens.into_iter().next().ok_or_else(none)?)
            }
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::revoke_token(it.link(), id).await?))
            }
        }
    }

    /// Turns the deployment that goes on round; returns when it is on its way back.
    ///
    /// # Errors
    /// There is none, its end is decided, or nobody answers.
    pub fn cancel(&self, app: &AppName) -> Result<(), SteerError> {
        let app = app.clone();
        match self {
            Self::Node { data_dir, by } => {
                match talk(data_dir, control::Request::Cancel { app, by: by.clone() })? {
                    Response::Cancelled => Ok(()),
                    other => Err(not_an_answer(other)),
                }
            }
            Self::Register { address, identity } => {
                over_link(*address, identity, async |it| Ok(requests::cancel(it.link(), app).await?))
            }
        }
    }
}

fn talk(data_dir: &Path, request: control::Request) -> Result<Response, SteerError> {
    accepted(control::ask(data_dir, request)?)
}

fn deployed(
    data_dir: &Path,
    request: &control::Request,
    module: &[u8],
    on_news: &mut dyn FnMut(Progress),
) -> Result<SwapReport, SteerError> {
    match accepted(control::converse(data_dir, request, module, on_news)?)? {
        Response::Deployed(report) => Ok(*report),
        other => Err(not_an_answer(other)),
    }
}

pub(crate) fn accepted(response: Response) -> Result<Response, SteerError> {
    match response {
        Response::Refused(refusal) => Err(SteerError::Refused(refusal)),
        response => Ok(response),
    }
}

fn over_link<T>(
    address: SocketAddr,
    identity: &Identity,
    ask: impl AsyncFnOnce(&Operator) -> Result<T, OperatorError>,
) -> Result<T, SteerError> {
    let work = async {
        let operator = Operator::connect(address, identity.clone()).await?;
        let answer = ask(&operator).await;
        operator.close().await;
        Ok(answer?)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(SteerError::System)?.block_on(work)
}

/// Whoever asked for a deployment and then heard nothing more must know that it may go on.
fn out_of_sight(app: AppName, error: SteerError) -> SteerError {
    match error {
        SteerError::Register(error @ OperatorError::Request(_)) => SteerError::OutOfSight { app, error },
        error => error,
    }
}

pub(crate) fn not_an_answer(response: Response) -> SteerError {
    // Its beginning will do.
    let reason: String = format!("it said {response:?}").chars().take(200).collect();
    AskError::Answer { reason }.into()
}
