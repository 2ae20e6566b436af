//! What operators ask of nodes through the register: on the link of each node a lane for the question, all answers as they
//! are, and of who does not answer, why.

mod round;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidegate_base::{NodeName, Role};
use tidegate_link::Link;
use tidegate_wire::question::{NoAnswer, NodeAnswer, NodeQuestion, NodeReply};
use tidegate_wire::request::{NodeRef, Refusal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::round::{ASKED_AT_ONCE_MAX, NODE_WAIT, ROUND_BYTES_MAX, ROUND_WAIT};
use self::round::{Round, late};
use crate::Shared;
use crate::lane::{RequestLane, STEP_MAX};

/// Rounds that a register has under way; more wait, for a moment.
pub const ROUNDS_MAX: usize = 4;

/// Who answers for the node in whose process the register runs.
pub trait Respondent: Send + Sync + 'static {
    /// The answer, or why there is none.
    fn answer(&self, question: NodeQuestion) -> Said<'_>;
}

/// What a [`Respondent`] says, later.
pub type Said<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// The node in whose process the register runs. It is asked once, whatever it does besides.
#[derive(Clone)]
pub struct Own {
    /// Its name.
    pub name: NodeName,
    /// What runs in it; for these roles its name stands for it in the list of nodes too.
    pub roles: Vec<Role>,
    /// Who answers.
    pub respondent: Arc<dyn Respondent>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("name", &self.name).field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Own {
    fn has(&self, node: &NodeRef) -> bool {
        self.name == node.name && self.roles.contains(&node.role)
    }
}

/// Asks the nodes of the cluster. Whoever gets hold of one may ask. It refuses when the register is dropped.
#[derive(Debug, Clone)]
pub struct Asker {
    pub(crate) shared: Arc<Shared>,
}

impl Asker {
    /// Asks every node that has something to say to it, or the one of this name; returns when all have answered or have had
    /// [`NODE_WAIT`] each. On a tokio runtime.
    ///
    /// # Errors
    /// There is no such node, too much is asked at once, or the register is being dropped.
    pub async fn ask(
        &self,
        question: NodeQuestion,
        of: Option<NodeName>,
    ) -> Result<Vec<NodeAnswer>, Refusal> {
        ask(&self.shared, question, of).await
    }
}

pub(crate) async fn ask(
    shared: &Shared,
    question: NodeQuestion,
    of: Option<NodeName>,
) -> Result<Vec<NodeAnswer>, Refusal> {
    let Ok(Ok(_room)) = timeout(NODE_WAIT, shared.rounds.acquire()).await else {
        let reason = format!("{ROUNDS_MAX} questions to nodes are under way already");
        return Err(Refusal::TooMuch { reason });
    };
    let (nodes, whom): (Vec<_>, Vec<_>) = whom(shared, &question, of)?.into_iter().unzip();
    let mut round = Round::new(nodes, Instant::now());
    let mut asked = JoinSet::new();
    loop {
        while let Some((place, until)) = round.next(Instant::now()) {
            let Some(node) = whom.get(place).cloned() else { continue };
            let question = question.clone();
            asked.spawn(async move {
                let answer = timeout_at(until, node.ask(question)).await;
                (place, answer.unwrap_or_else(|_| Err(late())))
            });
        }
        match asked.join_next().await {
            Some(Ok((place, answer))) => round.answered(place, answer),
            // One that panicked has not answered.
            Some(Err(_)) => {}
            None => return Ok(round.into_answers()),
        }
    }
}

/// Who is to be asked, the register's own node first.
fn whom(
    shared: &Shared,
    question: &NodeQuestion,
    of: Option<NodeName>,
) -> Result<Vec<(NodeRef, Whom)>, Refusal> {
    let own = shared.own.get();
    let mut all = Vec::new();
    if let Some(own) = own.filter(|own| own.roles.iter().any(|role| question.is_for(*role))) {
        let node = NodeRef { role: Role::Register, name: own.name.clone() };
        all.push((node, Whom::Own(Arc::clone(&own.respondent))));
    }
    {
        let state = shared.state.lock();
        if state.stopped {
            let reason = "the register is stopping: ask again when it runs".to_owned();
            return Err(Refusal::Unavailable { reason });
        }
        for (session, info) in state.directory.nodes() {
            let node = NodeRef { role: info.role, name: info.name.clone() };
            let is_asked = question.is_for(info.role) && own.is_none_or(|own| !own.has(&node));
            if let Some(link) = state.links.get(&session).filter(|_| is_asked) {
                all.push((node, Whom::Linked(link.clone())));
            }
        }
    }
    let Some(name) = of else { return Ok(all) };
    let (meant, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(node, _)| node.name == name);
    if meant.is_empty() {
        let known = others.into_iter().map(|(node, _)| node.name).collect();
        return Err(Refusal::UnknownNode { name, known });
    }
    Ok(meant)
}

/// How a node is asked.
#[derive(Clone)]
enum Whom {
    Own(Arc<dyn Respondent>),
    Linked(Link),
}

impl Whom {
    async fn ask(self, question: NodeQuestion) -> Result<String, NoAnswer> {
        match self {
            Self::Own(respondent) => {
                respondent.answer(question).await.map_err(|reason| NoAnswer::Refused { reason })
            }
            Self::Linked(link) => over(&link, &question).await,
        }
    }
}

async fn over(link: &Link, question: &NodeQuestion) -> Result<String, NoAnswer> {
    let lane = link.open_lane().await.map_err(|error| gone(&error))?;
    let mut lane = RequestLane::asking(lane, STEP_MAX);
    lane.send(question).map_err(|error| gone(&error))?;
    match lane.receive().await.map_err(|error| gone(&error))? {
        NodeReply::Answer(answer) => Ok(answer),
        NodeReply::Refused(mut reason) => {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            Err(NoAnswer::Refused { reason })
        }
    }
}

fn gone(error: &dyn fmt::Display) -> NoAnswer {
    NoAnswer::Gone { reason: error.to_string() }
}

/// Bytes of why a node does not answer.
const REASON_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
