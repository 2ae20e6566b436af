//! Keys in one file of this process. Changes of all apps go through one thread, which takes what waits and commits it as
//! one transaction: a disk that takes a millisecond to be sure takes as many changes with it as have come meanwhile.
//! Questions are answered from memory, else by other threads: a cold page holds up nobody's turn.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tidegate_base::limits::{KEY_ANSWER_BYTES_MAX, KEY_BATCH_MAX};
use tidegate_base::{AppName, KeyAnswer, KeyError, KeyOp, KeyValue, KeyVersion};
use tidegate_store::{KeyFile, SpaceId, StoreError};
use tokio::sync::oneshot;

use crate::apply::{Changed, Outcome, Target, apply};
use crate::backlog::Backlog;
use crate::cache::{Cache, FullKey, KeyRef, Ticket};
use crate::mailbox::Mailbox;
use crate::space::Space;
use crate::{Keys, Pending, counters};

/// Threads that look into the file.
const READERS: usize = 2;
/// Keys of apps that are gone that are removed at once: others wait for it.
const SWEEP_KEYS: usize = 1000;
/// Bytes of the keys of one page of a list, about.
const PAGE_BYTES: usize = 64 << 10;

/// How an [`Embedded`] store is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// Memory for values that were read or written lately, of all apps. Default: 32 MiB.
    pub cache_bytes: u64,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20 }
    }
}

/// The keys of this worker's apps. Dropping it waits until what was asked for is written.
pub struct Embedded {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    file: KeyFile,
    cache: Cache,
    spaces: Mutex<HashMap<(AppName, u64), Weak<Space>>>,
    questions: Mailbox<VecDeque<Question>>,
    changes: Mailbox<Work>,
}

/// What the writer is to do.
#[derive(Default)]
struct Work {
    backlog: Backlog<Job>,
    /// The newest list of apps.
    retain: Option<(u64, BTreeSet<AppName>)>,
    /// There may be keys of apps that are gone.
    sweep: bool,
}

enum Task {
    Write(Vec<Job>),
    Retain(u64, BTreeSet<AppName>),
    Sweep,
}

/// What a reader is to do.
enum Question {
    Answer(Job),
    /// Somebody holds a space: how much is in it?
    Measure(Arc<Space>),
}

/// A question or a change, and who waits for the answer.
struct Job {
    space: Arc<Space>,
    bucket: Arc<str>,
    op: KeyOp,
    reply: oneshot::Sender<Outcome>,
}

impl Embedded {
    /// Opens the file of keys in this folder, or makes one. Blocks.
    ///
    /// # Errors
    /// The file cannot be used, or no thread can be started.
    pub fn open(folder: &Path, settings: EmbeddedSettings) -> Result<Self, OpenError> {
        tidegate_telemetry::list(counters::ALL_COUNTERS);
        let inner = Arc::new(Inner {
            file: KeyFile::open(folder)?,
            cache: Cache::new(settings.cache_bytes),
            spaces: Mutex::default(),
            questions: Mailbox::default(),
            changes: Mailbox::default(),
        });
        inner.changes.put(|work| work.sweep = true);
        let mut this = Self { inner, threads: Vec::new() };
        for _ in 0..READERS {
            this.start("tidegate-keys-r", Inner::answer)?;
        }
        this.start("tidegate-keys-w", Inner::write)?;
        Ok(this)
    }

    fn start(&mut self, name: &str, run: fn(&Inner)) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&inner))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.inner.questions.close();
        self.inner.changes.close();
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("file", &self.inner.file).finish_non_exhaustive()
    }
}

/// Why the file of keys cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] StoreError),
    /// No thread can be started.
    #[error("cannot start a thread for the keys of apps: {0}; raise the limit on processes (`ulimit -u`)")]
    Thread(#[from] io::Error),
}

impl Keys for Embedded {
    fn is_shared(&self) -> bool {
        false
    }

    fn space(&self, app: &AppName, born: u64) -> Arc<Space> {
        let mut spaces = self.inner.spaces.lock();
        let name = (app.clone(), born);
        if let Some(known) = spaces.get(&name).and_then(Weak::upgrade) {
            return known;
        }
        spaces.retain(|_, space| space.strong_count() > 0);
        let space = Arc::new(Space::new(app.clone(), born));
        spaces.insert(name, Arc::downgrade(&space));
        self.inner.questions.put(|jobs| jobs.push_back(Question::Measure(Arc::clone(&space))));
        space
    }

    fn peek(&self, space: &Space, bucket: &str, key: &str) -> Option<Option<KeyValue>> {
        let known = self.inner.cache.get(KeyRef { space: space.number, bucket, key })?;
        counters::READS.inc();
        counters::READS_CACHED.inc();
        Some(known)
    }

    fn ask(&self, space: &Arc<Space>, bucket: &Arc<str>, op: KeyOp) -> Pending {
        let is_change = op.is_change();
        if is_change {
            counters::CHANGES.inc();
        } else {
            counters::READS.inc();
            if let Some(answer) = self.inner.known(space, bucket, &op) {
                counters::READS_CACHED.inc();
                return Box::pin(std::future::ready(Ok(answer)));
            }
        }
        let (reply, answer) = oneshot::channel();
        let (app, bytes) = (space.number, op.bytes());
        let job = Job { space: Arc::clone(space), bucket: Arc::clone(bucket), op, reply };
        // Closed: nobody is left who asks.
        let _ = match is_change {
            true => self.inner.changes.put(|work| work.backlog.push(app, bytes, job)),
            false => self.inner.questions.put(|jobs| jobs.push_back(Question::Answer(job))),
        };
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(unavailable(&"the node stops"))) })
    }

    fn retain(&self, revision: u64, apps: BTreeSet<AppName>) {
        self.inner.changes.put(|work| work.retain = Some((revision, apps)));
    }
}

fn unavailable(reason: &dyn std::fmt::Display) -> KeyError {
    counters::FAILED.inc();
    KeyError::Unavailable { reason: reason.to_string() }
}

// === Questions ===

impl Inner {
    /// The answer, if all of it is in memory.
    fn known(&self, space: &Space, bucket: &str, op: &KeyOp) -> Option<KeyAnswer> {
        let known = |key: &str| self.cache.get(KeyRef { space: space.number, bucket, key });
        match op {
            // As of one moment: two of them may be of two.
            KeyOp::Get(keys) if keys.len() == 1 => {
                keys.first().and_then(|key| known(key)).map(|value| KeyAnswer::Values(vec![value]))
            }
            KeyOp::Version(key) => known(key).map(|value| KeyAnswer::Version(version_of(value.as_ref()))),
            _ => None,
        }
    }

    /// What a thread does that looks into the file.
    fn answer(&self) {
        while let Some(question) = self.questions.take(VecDeque::pop_front) {
            let Job { space, bucket, op, reply } = match question {
                Question::Answer(job) => job,
                Question::Measure(space) => {
                    if let Err(error) = self.id(&space) {
                        tracing::error!(app = %space.app(), "keys cannot be read: {error}");
                    }
                    continue;
                }
            };
            let answer = self.look(&space, &bucket, op).unwrap_or_else(|error| {
                tracing::error!(app = %space.app(), "keys cannot be read: {error}");
                Err(unavailable(&error))
            });
            // Gone: its turn was over.
            let _ = reply.send(answer);
        }
    }

    fn look(&self, space: &Arc<Space>, bucket: &Arc<str>, op: KeyOp) -> Result<Outcome, StoreError> {
        let id = self.id(space)?;
        match op {
            KeyOp::Get(keys) => {
                let values = self.values(space, id, bucket, &keys)?;
                Ok(values.map(KeyAnswer::Values).ok_or(KeyError::LongAnswer))
            }
            KeyOp::Version(key) => {
                let values = self.values(space, id, bucket, &[key])?.unwrap_or_default();
                let value = values.into_iter().next().flatten();
                Ok(Ok(KeyAnswer::Version(version_of(value.as_ref()))))
            }
            KeyOp::List { after } => {
                let page = self
                    .file
                    .read(|reading| reading.page(id, bucket, after.as_deref(), KEY_BATCH_MAX, PAGE_BYTES))?;
                Ok(Ok(KeyAnswer::Keys { keys: page.keys, more: page.more }))
            }
            // The writer's.
            KeyOp::Set(_) | KeyOp::Delete(_) | KeyOp::Increment { .. } | KeyOp::Swap { .. } => {
                Ok(Ok(KeyAnswer::Done))
            }
        }
    }

    fn values(
        &self,
        space: &Space,
        id: SpaceId,
        bucket: &Arc<str>,
        keys: &[String],
    ) -> Result<Option<Vec<Option<KeyValue>>>, StoreError> {
        let tickets: Vec<Ticket> = keys
            .iter()
            .map(|key| self.cache.begin_read(KeyRef { space: space.number, bucket, key }))
            .collect();
        let found = self.file.read(|reading| reading.values(id, bucket, keys, KEY_ANSWER_BYTES_MAX))?;
        if let Some(values) = &found {
            for ((key, ticket), value) in keys.iter().zip(tickets).zip(values) {
                self.cache.end_read(ticket, full(space, bucket, key.as_str()), value.clone());
            }
        }
        Ok(found)
    }

    /// The app's space in the file; the first who asks makes it.
    fn id(&self, space: &Space) -> Result<SpaceId, StoreError> {
        if let Some(id) = space.id.get() {
            return Ok(*id);
        }
        let _alone = space.finding.lock();
        if let Some(id) = space.id.get() {
            return Ok(*id);
        }
        let id = self.file.space(space.app(), space.born())?;
        space.note_usage(self.file.usage(id)?);
        Ok(*space.id.get_or_init(|| id))
    }
}

fn version_of(value: Option<&KeyValue>) -> KeyVersion {
    value.map_or(KeyVersion::ABSENT, |value| value.version)
}

fn full(space: &Space, bucket: &Arc<str>, key: impl Into<Box<str>>) -> FullKey {
    FullKey { space: space.number, bucket: Arc::clone(bucket), key: key.into() }
}

// === Changes ===

impl Inner {
    /// What the thread does that writes the file.
    fn write(&self) {
        while let Some(task) = self.changes.take(Work::next) {
            match task {
                Task::Write(jobs) => self.commit(jobs),
                Task::Retain(revision, apps) => self.give_up(revision, &apps),
                Task::Sweep => match self.file.sweep(SWEEP_KEYS) {
                    Ok(true) => drop(self.changes.put(|work| work.sweep = true)),
                    Ok(false) => {}
                    // With the next list, or the next start.
                    Err(error) => tracing::warn!("keys of apps that are gone are not removed: {error}"),
                },
            }
        }
    }

    fn give_up(&self, revision: u64, apps: &BTreeSet<AppName>) {
        match self.file.retain(revision, |app| apps.contains(app)) {
            Ok(0) => {}
            Ok(given_up) => {
                counters::SPACES_GIVEN_UP.add(given_up as u64);
                tracing::info!(apps = given_up, "keys of apps that were deleted are removed");
                self.changes.put(|work| work.sweep = true);
            }
            Err(error) => tracing::warn!("keys of apps that are gone are not given up: {error}"),
        }
    }

    /// Writes changes as one transaction, and answers them.
    fn commit(&self, jobs: Vec<Job>) {
        let (mut asked, mut ops) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
        for Job { space, bucket, op, reply } in jobs {
            match self.id(&space) {
                Ok(id) => {
                    ops.push(op);
                    asked.push(Asked { space, id, bucket, reply });
                }
                Err(error) => drop(reply.send(Err(unavailable(&error)))),
            }
        }
        let touched = self.begin_writes(&asked, &ops);
        let written = self.file.write(|writing| {
            let mut all = Vec::with_capacity(asked.len());
            for (asked, op) in asked.iter().zip(ops) {
                let bytes_max = asked.space.bytes_max();
                let target = Target { space: asked.id, bucket: &asked.bucket, bytes_max };
                let mut changed = Vec::new();
                let outcome = apply(writing, &target, op, &mut changed)?;
                all.push((outcome, changed, writing.usage(asked.id)?));
            }
            Ok(all)
        });
        counters::COMMITS.inc();
        match written {
            Ok(all) => {
                let mut now = HashMap::new();
                let mut answers = Vec::with_capacity(all.len());
                for (asked, (outcome, changed, usage)) in asked.into_iter().zip(all) {
                    asked.space.note_usage(usage);
                    counters::CHANGES_REFUSED.add(u64::from(outcome.is_err()));
                    note(&mut now, &asked, changed);
                    answers.push((asked.reply, outcome));
                }
                self.end_writes(touched, now);
                answers.into_iter().for_each(|(reply, outcome)| drop(reply.send(outcome)));
            }
            Err(error) => {
                tracing::error!("keys cannot be written: {error}");
                self.end_writes(touched, HashMap::new());
                let failed = |asked: Asked| drop(asked.reply.send(Err(unavailable(&error))));
                asked.into_iter().for_each(failed);
            }
        }
    }

    /// Tells the cache of every key that may change.
    fn begin_writes(&self, asked: &[Asked], ops: &[KeyOp]) -> Vec<FullKey> {
        let mut touched = Vec::new();
        for (asked, op) in asked.iter().zip(ops) {
            let mut touch = |key: &str| touched.push(full(&asked.space, &asked.bucket, key));
            match op {
                KeyOp::Set(entries) => entries.iter().for_each(|(key, _)| touch(key)),
                KeyOp::Delete(keys) => keys.iter().for_each(|key| touch(key)),
                KeyOp::Increment { key, .. } | KeyOp::Swap { key, .. } => touch(key),
                KeyOp::Get(_) | KeyOp::Version(_) | KeyOp::List { .. } => {}
            }
        }
        touched.iter().for_each(|key| self.cache.begin_write(key.borrowed()));
        touched
    }

    /// Those that are not in `now` may be as before, or not.
    fn end_writes(&self, touched: Vec<FullKey>, now: HashMap<FullKey, Option<KeyValue>>) {
        for key in touched {
            let value = now.get(&key).cloned();
            self.cache.end_write(key, value);
        }
    }
}

/// A change that was handed on, and who waits for what comes of it.
struct Asked {
    space: Arc<Space>,
    id: SpaceId,
    bucket: Arc<str>,
    reply: oneshot::Sender<Outcome>,
}

/// The last change of a key counts.
fn note(now: &mut HashMap<FullKey, Option<KeyValue>>, asked: &Asked, changed: Vec<Changed>) {
    for (key, value) in changed {
        now.insert(full(&asked.space, &asked.bucket, key), value);
    }
}

impl Work {
    /// Changes come first: somebody waits for them.
    fn next(&mut self) -> Option<Task> {
        if !self.backlog.is_empty() {
            return Some(Task::Write(self.backlog.take()));
        }
        if let Some((revision, apps)) = self.retain.take() {
            return Some(Task::Retain(revision, apps));
        }
        std::mem::take(&mut self.sweep).then_some(Task::Sweep)
    }
}
