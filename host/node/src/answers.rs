//! What this node tells those who ask it through a register. On its link to a register it takes lanes, each with one question.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tidegate_gateway::Gateway;
use tidegate_link::{LaneRx, LaneTx, Link};
use tidegate_register::lane::{LaneFailure, RequestLane};
use tidegate_register::questions::{Respondent, Said};
use tidegate_wire::question::{ANSWER_BYTES_MAX, NodeQuestion, NodeReply};
use tokio::sync::Semaphore;

use crate::node::Shared;

/// Questions of one link that are answered at a time; more are refused.
const QUESTIONS_MAX: usize = 16;
/// How long a register may take to say what it asks.
const STEP: Duration = Duration::from_secs(2);

/// A node as those see it who ask it, from before it is put together until it is gone.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    shared: OnceLock<Weak<Shared>>,
}

impl Answers {
    /// It is put together. Once.
    pub fn is(&self, shared: Weak<Shared>) {
        // There is just one that calls it.
        let _ = self.shared.set(shared);
    }

    /// Answers what a register asks on lanes of this link, for ever.
    pub async fn serve(self: &Arc<Self>, link: &Link) -> Infallible {
        let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
        while let Ok(lane) = link.accept_lane().await {
            let (own, room) = (Arc::clone(self), Arc::clone(&room));
            match room.try_acquire_owned() {
                Ok(permit) => {
                    tokio::spawn(async move {
                        if let Err(error) = own.reply(lane).await {
                            tracing::debug!(%error, "a question of a register was not answered");
                        }
                        drop(permit);
                    });
                }
                Err(_) => {
                    let reason = format!("{QUESTIONS_MAX} questions of this register are answered already");
                    // Who is gone does not mind.
                    let _ = RequestLane::answering(lane, STEP).send(&NodeReply::Refused(reason));
                }
            }
        }
        // Whoever follows the link hears of its end as well.
        std::future::pending().await
    }

    async fn reply(&self, lane: (LaneTx, LaneRx)) -> Result<(), LaneFailure> {
        let mut lane = RequestLane::answering(lane, STEP);
        let reply = match self.answer(lane.receive().await?).await {
            Ok(answer) if answer.len() > ANSWER_BYTES_MAX => NodeReply::Refused(format!(
                "its answer has {} bytes, {ANSWER_BYTES_MAX} are allowed: ask for less at a time",
                answer.len()
            )),
            Ok(answer) => NodeReply::Answer(answer),
            Err(reason) => NodeReply::Refused(reason),
        };
        lane.send(&reply)
    }
}

impl Respondent for Answers {
    fn answer(&self, question: NodeQuestion) -> Said<'_> {
        Box::pin(async move {
            let shared = self.shared.get().ok_or("it is starting: ask again in a moment")?;
            let shared = shared.upgrade().ok_or("it is stopping")?;
            match question {
                NodeQuestion::Status => json(&shared.status()),
                NodeQuestion::Connections(of) => {
                    let lookout = shared.gateway.read().as_ref().map(Gateway::lookout);
                    // Looking must not keep the node's roles.
                    drop(shared);
                    json(&lookout.ok_or(NO_GATEWAY)?.connections(&of).await)
                }
                NodeQuestion::Logs(of) => {
                    let worker = shared.worker.read().clone();
                    json(&worker.ok_or("its worker is starting or stopping")?.log(&of))
                }
            }
        })
    }
}

/// It has one, or did until it began to stop.
const NO_GATEWAY: &str = "its gateway is starting or stopping";

fn json<T: serde::Serialize>(answer: &T) -> Result<String, String> {
    serde_json::to_string(answer).map_err(|error| error.to_string())
}
