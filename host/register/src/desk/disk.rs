//! The desk's writes: one after the other, in order, on a thread that may block.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tidegate_base::{AppName, Digest};
use tidegate_store::{CatalogChange, CatalogRecords, Collected, Store, StoreError};
use tidegate_wire::request::Refusal;
use tokio::task::{JoinHandle, spawn_blocking};

use super::adopt::{Adopted, Found, Named, Precedence};
use super::records::{Records, Unwritten};
use super::{Reply, adopt, records, refusal};
use crate::deployment::{Record, RecordState};

/// What is to be done with the store.
#[derive(Debug)]
pub(super) enum Job {
    /// Read what a machine of deployments goes on from.
    Load,
    /// Write a record down.
    Persist { app: AppName, record: Box<Record> },
    /// Remove modules that nobody needs.
    Collect,
    /// Write a change of tenants and apps down.
    Catalog { change: CatalogChange },
    /// Take the plugins that the settings name.
    Adopt { named: Vec<Named>, precedence: Precedence, reply: Reply<Vec<Adopted>> },
}

/// What came of a [`Job`].
#[derive(Debug)]
pub(super) enum Done {
    Loaded(Result<(Records, CatalogRecords), String>),
    Persisted { app: AppName, number: u32, written: Written, result: Result<(), Unwritten> },
    Collected,
    CatalogWritten { result: Result<(), StoreError> },
    Adopted { reply: Reply<Vec<Adopted>>, result: Result<Found, Refusal> },
}

/// Which record of a deployment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The first: before it there is no deployment.
    Begin,
    /// How far it is.
    Step,
    /// The last.
    End,
}

/// Jobs that wait, and the one that is being done. Their number is bounded: a record for each app, one each of the others
/// that come from the desk itself, and the adoption of a node's apps.
#[derive(Debug)]
pub(super) struct Disk {
    store: Option<Arc<Store>>,
    queue: VecDeque<Job>,
    doing: Option<JoinHandle<Done>>,
}

impl Disk {
    /// Nothing is to be done. Without a store, nothing ever is.
    pub fn new(store: Option<Arc<Store>>) -> Self {
        Self { store, queue: VecDeque::new(), doing: None }
    }

    pub fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// One more thing to do, after all others. Reading and collecting are not queued twice.
    pub fn push(&mut self, job: Job) {
        let again =
            |queued: &Job| matches!((queued, &job), (Job::Load, Job::Load) | (Job::Collect, Job::Collect));
        if self.store.is_some() && !self.queue.iter().any(again) {
            self.queue.push_back(job);
        }
    }

    /// Whether records wait to be written.
    pub fn has_records(&self) -> bool {
        self.queue.iter().any(|job| matches!(job, Job::Persist { .. } | Job::Catalog { .. }))
    }

    /// Does one job and says what came of it; never ends if there is none. Cancel-safe: a job that was begun goes on.
    pub async fn done(&mut self, now_ms: u64) -> Done {
        if self.doing.is_none()
            && let (Some(store), Some(job)) = (self.store.clone(), self.queue.pop_front())
        {
            self.doing = Some(spawn_blocking(move || job.run(&store, now_ms)));
        }
        if let Some(task) = &mut self.doing {
            let done = task.await;
            self.doing = None;
            if let Ok(done) = done {
                return done;
            }
        }
        // There is nothing to do, or the runtime ends and has taken the thread away.
        std::future::pending().await
    }
}

impl Job {
    /// A panic on the way is an error like any other: whoever waits must hear of it.
    fn run(self, store: &Store, now_ms: u64) -> Done {
        match self {
            Self::Load => Done::Loaded(caught(|| Ok((records::load(store)?, store.catalog()?)))),
            Self::Persist { app, record } => {
                let written = match &record.state {
                    RecordState::Prepare => Written::Begin,
                    RecordState::Ended(_) => Written::End,
                    _ => Written::Step,
                };
                let result = catch_unwind(AssertUnwindSafe(|| records::write(store, &app, &record)));
                let result = result.unwrap_or_else(|_| Err(Unwritten::stale(PANICKED.to_owned())));
                Done::Persisted { app, number: record.version.number, written, result }
            }
            Self::Collect => {
                tell_collected(caught(|| store.collect(now_ms)));
                Done::Collected
            }
            Self::Catalog { change } => {
                let result = catch_unwind(AssertUnwindSafe(|| store.change_catalog(&change)));
                let damaged =
                    |_| Err(StoreError::Damaged { path: store.path().to_owned(), what: PANICKED.to_owned() });
                Done::CatalogWritten { result: result.unwrap_or_else(damaged) }
            }
            Self::Adopt { named, precedence, reply } => {
                let adopt = || adopt::adopt(store, named, precedence, now_ms);
                let adopted = catch_unwind(AssertUnwindSafe(adopt));
                let result = match adopted {
                    Ok(result) => result.map_err(refusal::of_store),
                    Err(_) => Err(Refusal::Internal { reason: PANICKED.to_owned() }),
                };
                Done::Adopted { reply, result }
            }
        }
    }
}

/// Stores a module. If there is no room for it, what nobody needs any more is removed first.
pub(super) fn put(store: &Store, module: &[u8], now_ms: u64) -> Result<Digest, StoreError> {
    let stored = store.put(module, now_ms);
    let full = matches!(
        stored,
        Err(StoreError::NoRoom { .. } | StoreError::TooManyModules { .. } | StoreError::Full { .. })
    );
    if !full {
        return stored;
    }
    tell_collected(store.collect(now_ms).map_err(|error| error.to_string()));
    store.put(module, now_ms)
}

fn caught<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(PANICKED.to_owned()),
    }
}

fn tell_collected(collected: Result<Collected, String>) {
    match collected {
        Ok(collected) if collected.modules.is_empty() => {}
        Ok(Collected { modules, bytes, compaction }) => {
            tracing::info!(
                modules = modules.len(),
                bytes,
                ?compaction,
                "modules that nobody needs are removed"
            );
        }
        Err(error) => tracing::warn!(error, "modules that nobody needs could not be removed"),
    }
}

const PANICKED: &str = "a thread of the store panicked: the log has more; please report it";
