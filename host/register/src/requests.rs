//! What operators and workers ask on lanes of their links: one task for each, from the question to the last answer.

mod judge;

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_base::Digest;
use tidegate_link::{Link, Peer};
use tidegate_wire::request::{
    HISTORY_LIMIT_MAX, Incoming, MODULE_BYTES_MAX, Module, Refusal, Reply, Request,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::deployer::{DeployOrder, Deployer, Job, ModuleRef, Next, RollbackOrder};
use crate::lane::{LaneFailure, RequestLane, STEP_MAX};
use crate::{Shared, counters, questions};

/// Requests of one link that are answered at a time; more are refused.
pub const REQUESTS_PER_LINK_MAX: usize = 32;

/// Modules that come in at a time, each of 32 MiB at most; more wait, for a while.
pub const UPLOADS_MAX: usize = 4;

/// Modules that go out at a time; more wait.
pub const FETCHES_MAX: usize = 16;

/// How often somebody who waits hears that it goes on. Three fit into the time that the other end waits.
pub const BEAT: Duration = Duration::from_secs(5);

/// What bounds the requests of all links together.
#[derive(Debug)]
pub(crate) struct Room {
    uploads: Semaphore,
    fetches: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        Self { uploads: Semaphore::new(UPLOADS_MAX), fetches: Semaphore::new(FETCHES_MAX) }
    }
}

/// Takes the lanes of a link, for ever. The first one sets `asked`.
pub(crate) async fn accept(shared: &Arc<Shared>, link: &Link, asked: &AtomicBool) -> Infallible {
    let room = Arc::new(Semaphore::new(REQUESTS_PER_LINK_MAX));
    while let Ok(lane) = link.accept_lane().await {
        asked.store(true, Ordering::Relaxed);
        counters::REQUESTS.inc();
        let lane = RequestLane::answering(lane, STEP_MAX);
        match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => {
                let (shared, peer) = (Arc::clone(shared), link.peer().clone());
                tokio::spawn(async move {
                    answer(&shared, &peer, lane).await;
                    drop(permit);
                });
            }
            Err(_) => {
                let reason = format!("{REQUESTS_PER_LINK_MAX} requests of this link are answered already");
                refuse(link.peer(), &lane, Refusal::TooMuch { reason });
            }
        }
    }
    // The session hears of the link's end as well, and says why it came.
    std::future::pending().await
}

/// Why a request is not answered as it was meant to be.
enum Stop {
    Refused(Refusal),
    Lane(LaneFailure),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LaneFailure> for Stop {
    fn from(failure: LaneFailure) -> Self {
        Self::Lane(failure)
    }
}

async fn answer(shared: &Shared, peer: &Peer, mut lane: RequestLane) {
    let refusal = match converse(shared, peer, &mut lane).await {
        Ok(()) => return,
        Err(Stop::Refused(refusal)) => refusal,
        Err(Stop::Lane(failure)) => match judge::failure(failure) {
            Some(refusal) => refusal,
            None => return tracing::debug!(%peer, "a request ended: who asked is gone"),
        },
    };
    refuse(peer, &lane, refusal);
}

fn refuse(peer: &Peer, lane: &RequestLane, refusal: Refusal) {
    counters::REQUESTS_REFUSED.inc();
    tracing::info!(%peer, "a request is refused: {refusal}");
    // Who is gone does not mind.
    let _ = lane.send(&Reply::Refused(refusal));
}

async fn converse(shared: &Shared, peer: &Peer, lane: &mut RequestLane) -> Result<(), Stop> {
    let request: Request = lane.receive().await?;
    let asked = Instant::now();
    judge::request(peer, &request)?;
    let deployer = shared.deployer()?;
    match request {
        Request::Apps => {
            let apps = beating(lane, deployer.apps()).await?;
            list(lane, apps, |app| Reply::App(Box::new(app))).await
        }
        Request::History { app, limit } => {
            let limit = usize::try_from(limit.min(HISTORY_LIMIT_MAX)).unwrap_or_default();
            let entries = beating(lane, deployer.history(app, limit)).await?;
            list(lane, entries, |entry| Reply::Version(Box::new(entry))).await
        }
        Request::Deploy { app, module, canary, note } => {
            let module = take(shared, lane, module).await?;
            let order = DeployOrder { app, module, canary, note, by: peer.name.to_string(), asked };
            follow(lane, Job::deploy(deployer, order)).await
        }
        Request::Rollback { app, to, note } => {
            let order = RollbackOrder { app, to, note, by: peer.name.to_string(), asked };
            follow(lane, Job::rollback(deployer, order)).await
        }
        Request::Cancel { app } => {
            beating(lane, deployer.cancel(app, peer.name.to_string())).await?;
            Ok(lane.send(&Reply::Done)?)
        }
        Request::Tenants => {
            let tenants = beating(lane, deployer.tenants()).await?;
            list(lane, tenants, |tenant| Reply::Tenant(Box::new(tenant))).await
        }
        Request::Manage(order) => {
            let effect = beating(lane, deployer.manage(order, peer.name.to_string())).await?;
            Ok(lane.send(&Reply::Managed(Box::new(effect)))?)
        }
        Request::Tokens { tenant } => {
            let tokens = beating(lane, deployer.tokens(tenant)).await?;
            list(lane, tokens, |token| Reply::Token(Box::new(token))).await
        }
        Request::CreateToken(wish) => {
            let new = beating(lane, deployer.create_token(wish, peer.name.to_string())).await?;
            Ok(lane.send(&Reply::NewToken(Box::new(new)))?)
        }
        Request::RevokeToken { id } => {
            let token = beating(lane, deployer.revoke_token(id, peer.name.to_string())).await?;
            list(lane, vec![token], |token| Reply::Token(Box::new(token))).await
        }
        Request::AskNodes { question, of } => {
            let answers = beating(lane, questions::ask(shared, question, of)).await?;
            list(lane, answers, |answer| Reply::Answer(Box::new(answer))).await
        }
        Request::Fetch { digest } => give(shared, lane, &*deployer, digest).await,
    }
}

/// Waits, and lets the other end know that it goes on.
async fn beating<T>(lane: &RequestLane, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut beat = beats();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            // If it is gone the next answer finds out.
            _ = beat.tick() => drop(lane.send_news(&Reply::Waiting)),
        }
    }
}

fn beats() -> tokio::time::Interval {
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

async fn list<T>(lane: &RequestLane, items: Vec<T>, reply: impl Fn(T) -> Reply) -> Result<(), Stop> {
    for item in items {
        lane.room().await?;
        lane.send(&reply(item))?;
    }
    Ok(lane.send(&Reply::Done)?)
}

/// The module that is to be deployed.
async fn take(shared: &Shared, lane: &mut RequestLane, module: Module) -> Result<ModuleRef, Stop> {
    let (digest, bytes) = match module {
        Module::Stored(digest) => return Ok(ModuleRef::Digest(digest)),
        Module::Sent { digest, bytes } => (digest, bytes),
    };
    let incoming = Incoming::new(digest, bytes, MODULE_BYTES_MAX).map_err(LaneFailure::from)?;
    let Ok(Ok(_room)) = timeout(STEP_MAX / 2, shared.requests.uploads.acquire()).await else {
        let reason = format!("{UPLOADS_MAX} modules come in already");
        return Err(Refusal::TooMuch { reason }.into());
    };
    Ok(ModuleRef::Bytes(lane.receive_module(incoming).await?))
}

/// Tells how a deployment gets on. It does so without this as well.
async fn follow(lane: &RequestLane, mut job: Job) -> Result<(), Stop> {
    let mut beat = beats();
    loop {
        tokio::select! {
            biased;
            next = job.next() => match next {
                Next::News(news) => lane.send_news(&Reply::News(news))?,
                Next::Ended(ended) => return Ok(lane.send(&Reply::Ended(Box::new((*ended)?)))?),
            },
            _ = beat.tick() => lane.send_news(&Reply::Waiting)?,
        }
    }
}

async fn give(
    shared: &Shared,
    lane: &RequestLane,
    deployer: &dyn Deployer,
    digest: Digest,
) -> Result<(), Stop> {
    let room = beating(lane, shared.requests.fetches.acquire()).await;
    let bytes = beating(lane, deployer.module(digest)).await?.ok_or(Refusal::UnknownModule { digest })?;
    lane.send(&Reply::Module { bytes: bytes.len() as u64 })?;
    lane.send_bytes(bytes).await?;
    drop(room);
    Ok(())
}

#[cfg(test)]
mod tests;
