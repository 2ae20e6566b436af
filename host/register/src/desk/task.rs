//! The desk's task: owns the machine, and moves what goes in and out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_base::{AppName, NodeName, Role};
use tidegate_link::ControlTx;
use tidegate_store::Store;
use tidegate_wire::control::{AppReport, Control, cut_reason};
use tidegate_wire::directory::Session;
use tidegate_wire::report::{Outcome, Progress, SwapReport};
use tidegate_wire::request::Refusal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::adopt::Adopted;
use super::disk::{Disk, Done, Job, Written};
use super::records::{Records, Unwritten};
use super::{Input, Reply};
use crate::counters;
use crate::deployer::{Watcher, overview};
use crate::deployment::{DeployRequest, Deployments, Output};

/// A store that cannot be read is tried again so often.
const LOAD_AGAIN: Duration = Duration::from_secs(5);

/// Modules that were uploaded and never deployed are looked for so often.
const COLLECT_EVERY: Duration = Duration::from_millis(tidegate_store::KEPT_FRESH_MS);

/// The wall clock, in milliseconds since 1970.
pub(super) fn wall_ms() -> u64 {
    u64::try_from(wall().as_millis()).unwrap_or(u64::MAX)
}

/// Everything that the desk knows.
#[derive(Debug)]
pub(super) struct Task {
    clock: Clock,
    inbox: mpsc::Receiver<Input>,
    disk: Disk,
    /// None: the store was not read yet.
    machine: Option<Deployments>,
    /// Why it could not be.
    trouble: Option<String>,
    /// The store holds something that the machine does not know: nothing goes in until it was read again.
    stale: bool,
    load_at: Option<Duration>,
    collect_at: Duration,
    /// The nodes on their links, so that a machine that is made anew knows them.
    nodes: BTreeMap<Session, Node>,
    /// Who waits for the end of a deployment.
    askers: HashMap<(AppName, u32), Asker>,
    /// Who waits for the machine to know their version.
    adopting: Vec<(Reply<Adopted>, Adopted)>,
    /// Added to the machine's revisions, so that they grow even if it is made anew.
    revisions: u64,
    last_revision: u64,
}

#[derive(Debug)]
struct Node {
    role: Role,
    name: NodeName,
    control: ControlTx,
    reports: Vec<AppReport>,
}

#[derive(Debug)]
struct Asker {
    watcher: Watcher,
    end: Reply<SwapReport>,
}

/// The time since the Unix epoch that never goes back.
#[derive(Debug)]
struct Clock {
    wall: Duration,
    began: Instant,
}

impl Task {
    pub fn new(inbox: mpsc::Receiver<Input>, store: Option<Arc<Store>>) -> Self {
        let clock = Clock { wall: wall(), began: Instant::now() };
        let mut disk = Disk::new(store);
        // Without a store nothing was ever deployed, and workers need not wait to be told so.
        let machine = if disk.has_store() { None } else { Some(Deployments::default()) };
        disk.push(Job::Load);
        disk.push(Job::Collect);
        Self {
            collect_at: clock.now() + COLLECT_EVERY,
            clock,
            inbox,
            disk,
            machine,
            trouble: None,
            stale: false,
            load_at: None,
            nodes: BTreeMap::new(),
            askers: HashMap::new(),
            adopting: Vec::new(),
            revisions: 0,
            last_revision: 0,
        }
    }

    /// Until every handle is dropped.
    pub async fn run(mut self) {
        loop {
            let wake = self.clock.instant(self.wake_at());
            let hears = !self.stale && (self.machine.is_some() || self.trouble.is_some());
            tokio::select! {
                // What the disk did comes first: more waits for it than for anything else. Time comes last, as every
                // input of the machine looks at the clock.
                biased;
                done = self.disk.done(wall_ms()) => self.on_done(done),
                input = self.inbox.recv(), if hears => match input {
                    Some(input) => self.on_input(input),
                    None => return,
                },
                () = tokio::time::sleep_until(wake) => self.on_time(),
            }
            self.drain();
        }
    }

    fn wake_at(&self) -> Duration {
        let machine = self.machine.as_ref().and_then(Deployments::poll_timeout);
        [machine, self.load_at].into_iter().flatten().fold(self.collect_at, Duration::min)
    }

    fn on_time(&mut self) {
        let now = self.clock.now();
        if now >= self.collect_at {
            self.collect_at = now + COLLECT_EVERY;
            self.disk.push(Job::Collect);
        }
        if self.load_at.is_some_and(|at| now >= at) {
            self.load_at = None;
            self.disk.push(Job::Load);
        }
        if let Some(machine) = &mut self.machine {
            machine.on_timeout(now);
        }
    }

    // === inputs ===

    fn on_input(&mut self, input: Input) {
        match input {
            Input::NodeUp { session, role, name, control } => self.node_up(session, role, name, control),
            Input::NodeGone { session } => {
                self.nodes.remove(&session);
                self.with_machine(|machine, now| machine.node_gone(session, now));
            }
            Input::Reports { session, mut reports } => {
                reports.iter_mut().for_each(cut_failure);
                if let Some(node) = self.nodes.get_mut(&session) {
                    node.reports.clone_from(&reports);
                }
                self.with_machine(|machine, now| machine.on_reports(session, reports, now));
            }
            Input::Counted { session, number, apps } => {
                self.with_machine(|machine, now| machine.on_counted(session, number, &apps, now));
            }
            Input::Deploy { request, asked, watcher, end } => {
                let request = DeployRequest { waited: asked.elapsed(), ..request };
                self.deploy(request, Asker { watcher, end });
            }
            Input::Cancel { app, by, reply } => {
                let cancel = |machine: &mut Deployments, now| {
                    known(machine, &app)?;
                    Ok(machine.cancel(&app, &by, now)?)
                };
                let _ = reply.send(self.ask_machine(cancel));
            }
            Input::Apps { reply } => {
                let apps = |machine: &mut Deployments, _| {
                    Ok(machine.apps().into_iter().map(|app| overview(machine, app)).collect())
                };
                let _ = reply.send(self.ask_machine(apps));
            }
            Input::Find { app, reply } => {
                let find = |machine: &mut Deployments, _| {
                    known(machine, &app)?;
                    Ok(machine.running(&app).cloned())
                };
                let _ = reply.send(self.ask_machine(find));
            }
            Input::Adopt { module, reply, .. } if !self.disk.has_store() => {
                let _ = reply.send(Ok(Adopted::unnumbered(module)));
            }
            Input::Adopt { app, module, precedence, reply } => {
                self.disk.push(Job::Adopt { app, module, precedence, reply });
            }
        }
    }

    fn node_up(&mut self, session: Session, role: Role, name: NodeName, control: ControlTx) {
        let reports = self.nodes.remove(&session).map(|node| node.reports).unwrap_or_default();
        self.nodes.insert(session, Node { role, name: name.clone(), control, reports });
        self.with_machine(|machine, now| machine.node_up(session, role, name, now));
    }

    fn deploy(&mut self, request: DeployRequest, asker: Asker) {
        let app = request.app.clone();
        let wants_canary = request.canary.is_some();
        let deploy = |machine: &mut Deployments, now| {
            known(machine, &app)?;
            if wants_canary && machine.running(&app).is_none() && machine.reports(&app).next().is_none() {
                return Err(Refusal::NoWorkers { app: app.clone() });
            }
            Ok(machine.deploy(request, now)?)
        };
        match self.ask_machine(deploy) {
            Ok(version) => {
                tracing::info!(%app, %version, "a deployment begins");
                self.askers.insert((app, version.number), asker);
            }
            Err(refusal) => drop(asker.end.send(Err(refusal))),
        }
    }

    fn with_machine(&mut self, act: impl FnOnce(&mut Deployments, Duration)) {
        if let Some(machine) = &mut self.machine {
            act(machine, self.clock.now());
        }
    }

    fn ask_machine<T>(
        &mut self,
        act: impl FnOnce(&mut Deployments, Duration) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        match (&mut self.machine, &self.trouble) {
            (Some(machine), _) => act(machine, self.clock.now()),
            (None, trouble) => Err(Refusal::Store { reason: trouble.clone().unwrap_or_default() }),
        }
    }

    // === what the disk did ===

    fn on_done(&mut self, done: Done) {
        match done {
            // What is written after the store was read is not in what was read.
            Done::Loaded(Ok(_)) if self.disk.has_records() => self.disk.push(Job::Load),
            Done::Loaded(Ok(records)) => self.install(records),
            Done::Loaded(Err(error)) => {
                tracing::error!(error, "the register cannot read its store; it tries again");
                self.load_at = Some(self.clock.now() + LOAD_AGAIN);
                for (reply, _) in self.adopting.drain(..) {
                    let _ = reply.send(Err(Refusal::Store { reason: error.clone() }));
                }
                self.trouble = Some(error);
                self.stale = false;
            }
            Done::Persisted { app, number, written, result } => self.persisted(&app, number, written, result),
            Done::Collected => {}
            Done::Adopted { reply, result: Ok(found) } if found.changed => {
                self.adopting.push((reply, found.adopted));
                self.load();
            }
            Done::Adopted { reply, result } => drop(reply.send(result.map(|found| found.adopted))),
        }
    }

    fn load(&mut self) {
        self.stale = true;
        self.disk.push(Job::Load);
    }

    /// A machine made of what is in the store, that knows who is there.
    fn install(&mut self, records: Records) {
        let now = self.clock.now();
        let mut machine = Deployments::restore(records, now);
        for (session, node) in &self.nodes {
            machine.node_up(*session, node.role, node.name.clone(), now);
            if !node.reports.is_empty() {
                machine.on_reports(*session, node.reports.clone(), now);
            }
        }
        let goes_on = |app: &AppName, number: u32| {
            machine.running(app).is_some_and(|record| record.version.number == number)
        };
        self.askers.retain(|(app, number), _| goes_on(app, *number));
        for app in machine.apps() {
            if let Some(record) = machine.running(app) {
                let doing = record.state.as_str();
                tracing::info!(%app, version = %record.version, doing, "a deployment goes on");
            }
        }
        self.machine = Some(machine);
        self.trouble = None;
        self.stale = false;
        self.revisions = self.last_revision + 1;
        for (reply, adopted) in self.adopting.drain(..) {
            let _ = reply.send(Ok(adopted));
        }
    }

    fn persisted(&mut self, app: &AppName, number: u32, written: Written, result: Result<(), Unwritten>) {
        match result {
            Ok(()) => {
                self.with_machine(|machine, now| machine.persisted(app, number, now));
                if written == Written::End {
                    self.disk.push(Job::Collect);
                }
            }
            Err(unwritten) => {
                tracing::error!(%app, number, "a deployment cannot be written down: {}", unwritten.reason);
                if unwritten.stale {
                    self.load();
                }
                // Nothing has begun: that is a refusal, not an end.
                if written == Written::Begin
                    && let Some(asker) = self.askers.remove(&(app.clone(), number))
                {
                    let _ = asker.end.send(Err(*unwritten.refusal));
                }
                self.with_machine(|machine, now| machine.persist_failed(app, number, &unwritten.reason, now));
            }
        }
    }

    // === outputs ===

    fn drain(&mut self) {
        while let Some(output) = self.machine.as_mut().and_then(Deployments::poll) {
            match output {
                Output::Persist { app, record } => self.disk.push(Job::Persist { app, record }),
                Output::Apps { session, revision, apps } => {
                    self.last_revision = self.revisions + revision;
                    self.send(session, &Control::Apps { revision: self.last_revision, apps });
                }
                Output::Census { number } => {
                    let message = Control::Census { number };
                    let gateways = self.nodes.iter().filter(|(_, node)| node.role == Role::Gateway);
                    gateways.for_each(|(_, node)| node.send(&message));
                }
                Output::Progress { app, number, news } => self.tell(app, number, news),
            }
        }
    }

    fn send(&self, session: Session, message: &Control) {
        if let Some(node) = self.nodes.get(&session) {
            node.send(message);
        }
    }

    fn tell(&mut self, app: AppName, number: u32, news: Progress) {
        let Progress::Ended(report) = news else {
            if let Some(asker) = self.askers.get(&(app, number)) {
                asker.watcher.tell(news);
            }
            return;
        };
        let outcome = &report.outcome;
        match outcome {
            Outcome::Committed => counters::COMMITTED.inc(),
            Outcome::RolledBack { .. } => counters::ROLLED_BACK.inc(),
            Outcome::Mixed { .. } => counters::MIXED.inc(),
        }
        let reason = outcome.reason().unwrap_or_default();
        tracing::info!(%app, version = %report.version, outcome = outcome.as_str(), reason, "a deployment ended");
        if let Some(asker) = self.askers.remove(&(app, number)) {
            let _ = asker.end.send(Ok(*report));
        }
    }
}

impl Node {
    /// A link that takes no more ends by itself.
    fn send(&self, message: &Control) {
        if let Err(error) = self.control.send(message.to_bytes()) {
            tracing::debug!(node = %self.name, "a node was not told: {error}");
        }
    }
}

impl Clock {
    fn now(&self) -> Duration {
        self.wall + self.began.elapsed()
    }

    fn instant(&self, at: Duration) -> Instant {
        self.began + at.saturating_sub(self.wall)
    }
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What workers say is kept and told on, so its length is looked at.
fn cut_failure(report: &mut AppReport) {
    let rollout = report.rollout.as_mut();
    if let Some(failure) = rollout.and_then(|rollout| rollout.failure.as_mut()) {
        failure.reason = cut_reason(std::mem::take(&mut failure.reason));
    }
}

/// An app that nobody has is a slip of the pen.
fn known(machine: &Deployments, app: &AppName) -> Result<(), Refusal> {
    let known = machine.apps();
    match known.contains(&app) {
        true => Ok(()),
        false => {
            let known = known.into_iter().cloned().collect();
            Err(Refusal::UnknownApp { app: app.clone(), known })
        }
    }
}
