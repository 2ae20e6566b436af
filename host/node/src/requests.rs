//! What operators and workers ask of a register, on lanes of a link to it. The link must live until the answer is there.

use bytes::Bytes;
use tidegate_base::{AppName, Digest, Label, NewToken, NodeName, Token, TokenWish};
use tidegate_link::{Link, LinkError};
use tidegate_register::LINKS_MAX;
use tidegate_register::lane::{LaneFailure, RequestLane, STEP_MAX};
use tidegate_register::questions::ROUND_BYTES_MAX;
use tidegate_wire::question::{NodeAnswer, NodeQuestion};
use tidegate_wire::report::{Progress, SwapReport};
use tidegate_wire::request::{
    AppOverview, Effect, HISTORY_LIMIT_MAX, HistoryEntry, Incoming, MODULE_BYTES_MAX, Order, Refusal, Reply,
    Request, TenantOverview,
};
use tokio::time::timeout;

/// Why a register's answer is not what was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no link to the register any more.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The conversation broke off.
    #[error("the register did not answer: {0}")]
    Lane(#[from] LaneFailure),
    /// It does not do it.
    #[error(transparent)]
    Refused(Refusal),
    /// The answer is none to the question.
    #[error("the register answered something else: is it of another version?")]
    Other,
}

impl RequestError {
    /// Whether asking again would bring the same: it was answered.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Other => true,
            Self::Link(_) | Self::Lane(_) => false,
        }
    }
}

/// Fetches a module, as a worker or an operator. Its bytes are checked against the digest.
///
/// # Errors
/// The register does not have it, or it does not come over whole.
pub async fn fetch_module(link: &Link, digest: Digest) -> Result<Bytes, RequestError> {
    let mut asking = Asking::begin(link, &Request::Fetch { digest }, Bytes::new()).await?;
    let Reply::Module { bytes } = asking.next().await? else { return Err(RequestError::Other) };
    let incoming = Incoming::new(digest, bytes, MODULE_BYTES_MAX).map_err(LaneFailure::from)?;
    Ok(asking.lane.receive_module(incoming).await?)
}

/// Every app, as an operator.
///
/// # Errors
/// The register does not answer.
pub async fn apps(link: &Link) -> Result<Vec<AppOverview>, RequestError> {
    let mut asking = Asking::begin(link, &Request::Apps, Bytes::new()).await?;
    let mut apps = Vec::new();
    loop {
        match asking.next().await? {
            Reply::App(app) if apps.len() < APPS_MAX => apps.push(*app),
            Reply::Done => return Ok(apps),
            _ => return Err(RequestError::Other),
        }
    }
}

/// The history of an app, the newest first, as an operator.
///
/// # Errors
/// The register does not know the app, or does not answer.
pub async fn history(link: &Link, app: AppName, limit: u32) -> Result<Vec<HistoryEntry>, RequestError> {
    let mut asking = Asking::begin(link, &Request::History { app, limit }, Bytes::new()).await?;
    let mut entries = Vec::new();
    loop {
        match asking.next().await? {
            Reply::Version(entry) if entries.len() < HISTORY_LIMIT_MAX as usize => entries.push(*entry),
            Reply::Done => return Ok(entries),
            _ => return Err(RequestError::Other),
        }
    }
}

/// Deploys, or rolls back, as an operator: `module` is what follows a [`Request::Deploy`] that sends one. Takes as long as
/// the deployment, which goes on if this is dropped after the module was sent.
///
/// # Errors
/// It is refused, or the register does not answer; in the latter case the deployment may go on.
pub async fn deploy(
    link: &Link,
    request: &Request,
    module: Bytes,
    on_news: &mut (dyn FnMut(Progress) + Send),
) -> Result<SwapReport, RequestError> {
    let mut asking = Asking::begin(link, request, module).await?;
    loop {
        match asking.next().await? {
            Reply::News(news) => on_news(news),
            Reply::Ended(report) => return Ok(*report),
            _ => return Err(RequestError::Other),
        }
    }
}

/// Has the deployment that goes on go back, as an operator.
///
/// # Errors
/// There is none, its end is decided, or the register does not answer.
pub async fn cancel(link: &Link, app: AppName) -> Result<(), RequestError> {
    let mut asking = Asking::begin(link, &Request::Cancel { app }, Bytes::new()).await?;
    match asking.next().await? {
        Reply::Done => Ok(()),
        _ => Err(RequestError::Other),
    }
}

/// Every tenant, as an operator.
///
/// # Errors
/// The register does not answer.
pub async fn tenants(link: &Link) -> Result<Vec<TenantOverview>, RequestError> {
    let mut asking = Asking::begin(link, &Request::Tenants, Bytes::new()).await?;
    let mut tenants = Vec::new();
    loop {
        match asking.next().await? {
            Reply::Tenant(tenant) if tenants.len() < APPS_MAX => tenants.push(*tenant),
            Reply::Done => return Ok(tenants),
            _ => return Err(RequestError::Other),
        }
    }
}

/// Does something to a tenant or an app, as an operator.
///
/// # Errors
/// It is refused, or the register does not answer; in the latter case it may be done.
pub async fn manage(link: &Link, order: Order) -> Result<Effect, RequestError> {
    let mut asking = Asking::begin(link, &Request::Manage(order), Bytes::new()).await?;
    match asking.next().await? {
        Reply::Managed(effect) => Ok(*effect),
        _ => Err(RequestError::Other),
    }
}

/// The tokens of one tenant, or all, as an operator.
///
/// # Errors
/// The register does not answer.
pub async fn tokens(link: &Link, tenant: Option<Label>) -> Result<Vec<Token>, RequestError> {
    listed_tokens(link, &Request::Tokens { tenant }).await
}

/// Makes a token, as an operator.
///
/// # Errors
/// It is refused, or the register does not answer; in the latter case it may be there.
pub async fn create_token(link: &Link, wish: TokenWish) -> Result<NewToken, RequestError> {
    let mut asking = Asking::begin(link, &Request::CreateToken(wish), Bytes::new()).await?;
    match asking.next().await? {
        Reply::NewToken(new) => Ok(*new),
        _ => Err(RequestError::Other),
    }
}

/// Revokes a token, as an operator.
///
/// # Errors
/// There is none of this name, or the register does not answer; in the latter case it may be revoked.
pub async fn revoke_token(link: &Link, id: String) -> Result<Token, RequestError> {
    let tokens = listed_tokens(link, &Request::RevokeToken { id }).await?;
    tokens.into_iter().next().ok_or(RequestError::Other)
}

/// What every node says to a question, or the one of this name, as an operator.
///
/// # Errors
/// There is no such node, or the register does not answer.
pub async fn ask_nodes(
    link: &Link,
    question: NodeQuestion,
    of: Option<NodeName>,
) -> Result<Vec<NodeAnswer>, RequestError> {
    let mut asking = Asking::begin(link, &Request::AskNodes { question, of }, Bytes::new()).await?;
    let (mut answers, mut bytes) = (Vec::new(), 0);
    loop {
        match asking.next().await? {
            Reply::Answer(answer) if answers.len() <= LINKS_MAX && bytes <= ROUND_BYTES_MAX => {
                bytes += answer.answer.as_ref().map_or(0, String::len);
                answers.push(*answer);
            }
            Reply::Done => return Ok(answers),
            _ => return Err(RequestError::Other),
        }
    }
}

async fn listed_tokens(link: &Link, request: &Request) -> Result<Vec<Token>, RequestError> {
    let mut asking = Asking::begin(link, request, Bytes::new()).await?;
    let mut tokens = Vec::new();
    loop {
        match asking.next().await? {
            Reply::Token(token) if tokens.len() < TOKENS_MAX => tokens.push(*token),
            Reply::Done => return Ok(tokens),
            _ => return Err(RequestError::Other),
        }
    }
}

/// A question that has been asked.
struct Asking {
    lane: RequestLane,
}

impl Asking {
    async fn begin(link: &Link, request: &Request, module: Bytes) -> Result<Self, RequestError> {
        let lane = timeout(STEP_MAX, link.open_lane()).await;
        let lane = lane.map_err(|_| LaneFailure::Late(STEP_MAX))??;
        let mut asking = Self { lane: RequestLane::asking(lane, STEP_MAX) };
        asking.lane.send(request)?;
        if let Err(failure) = asking.lane.send_bytes(module).await {
            // Who refuses does not take the rest, and has said why.
            return match asking.next().await {
                Err(RequestError::Refused(refusal)) => Err(RequestError::Refused(refusal)),
                _ => Err(failure.into()),
            };
        }
        Ok(asking)
    }

    /// The next answer that says something.
    async fn next(&mut self) -> Result<Reply, RequestError> {
        loop {
            match self.lane.receive().await? {
                Reply::Waiting => {}
                Reply::Refused(refusal) => return Err(RequestError::Refused(refusal)),
                reply => return Ok(reply),
            }
        }
    }
}

/// More apps than a register keeps.
const APPS_MAX: usize = 20_000;
/// More tokens than a register keeps.
const TOKENS_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_base::{NodeName, Role};
    use tidegate_link::{Peer, memory_pair};
    use tidegate_register::Register;
    use tidegate_register::deployer::Deployer;
    use tidegate_wire::report::Outcome;
    use tidegate_wire::request::{AppDeed, Module};
    use tokio::runtime::Handle;

    use super::*;
    use crate::testing::Fake;

    fn app() -> AppName {
        AppName::new("chat").unwrap()
    }

    fn link(register: &Register, role: Role) -> Link {
        let peer = |role| Peer { role, name: NodeName::new("n").unwrap(), address: None };
        let (here, there) = memory_pair(peer(role), peer(Role::Register));
        register.add_link(there);
        here
    }

    fn start() -> (Register, Arc<Fake>) {
        let (register, fake) = (Register::start(None, None, &Handle::current()), Arc::new(Fake::default()));
        register.serve_deployer(Arc::clone(&fake) as Arc<dyn Deployer>);
        (register, fake)
    }

    #[tokio::test]
    async fn an_operator_deploys_and_looks_and_a_worker_fetches() {
        let (register, fake) = start();
        let (operator, worker) = (link(&register, Role::Operator), link(&register, Role::Worker));
        assert_eq!(apps(&operator).await.unwrap().len(), 1);
        assert_eq!(history(&operator, app(), 5).await.unwrap().len(), 5);

        let module = Bytes::from(vec![7; 2 << 20]);
        let (digest, bytes) = (Digest::of(&module), module.len() as u64);
        let sent = Module::Sent { digest, bytes };
        let request = Request::Deploy { app: app(), module: sent, canary: None, note: "worse".into() };
        let mut news = 0;
        let report = deploy(&operator, &request, module.clone(), &mut |_| news += 1).await.unwrap();
        assert_eq!((report.version.digest, news), (digest, 1));
        assert_eq!(report.outcome, Outcome::RolledBack { reason: "worse".into() });
        assert_eq!(fetch_module(&worker, digest).await.unwrap(), module);

        cancel(&operator, app()).await.unwrap();
        assert_eq!(tenants(&operator).await.unwrap()[0].tenant.as_str(), "acme");
        let order = Order::App { name: app(), deed: AppDeed::Create(Box::default()) };
        assert_eq!(manage(&operator, order.clone()).await.unwrap().revision, 3);
        let error = manage(&worker, order).await.unwrap_err().to_string();
        assert!(error.contains("create an app") && error.contains("tidegate cert operator"), "{error}");
        let orders = ["deploy 2097152 bytes by n", "cancel default/chat by n", "create an app by n"];
        assert_eq!(*fake.orders.lock(), orders);
    }

    #[tokio::test]
    async fn refusals_come_back_even_if_they_come_before_the_module_was_sent() {
        let (register, _fake) = start();
        let (operator, worker) = (link(&register, Role::Operator), link(&register, Role::Worker));
        let digest = Digest::of(b"none");
        let error = fetch_module(&worker, digest).await.unwrap_err();
        assert!(matches!(error, RequestError::Refused(Refusal::UnknownModule { .. })), "{error}");
        let too_many = MODULE_BYTES_MAX + 1;
        let sent = Module::Sent { digest, bytes: too_many };
        let request = Request::Deploy { app: app(), module: sent, canary: None, note: String::new() };
        for (link, text) in [(&operator, "the limit is"), (&worker, "tidegate cert operator")] {
            let module = vec![0; usize::try_from(too_many).unwrap()].into();
            let error = deploy(link, &request, module, &mut |_| {}).await.unwrap_err();
            assert!(
                matches!(&error, RequestError::Refused(_)) && error.to_string().contains(text),
                "{error}"
            );
        }
    }
}
