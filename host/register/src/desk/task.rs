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
use tidegate_wire::request::{AppOverview, Refusal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::adopt::{Adopted, Named, Precedence};
use super::disk::{Disk, Done, Job, Written};
use super::manage::{Knows, Management};
use super::records::{Records, Unwritten};
use super::{Input, Reply};
use crate::counters;
use crate::deployer::{Watcher, overview};
use crate::deployment::{DeployRequest, Deployments, Output};
use crate::tokens::Tokens;

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
    pub(super) disk: Disk,
    /// None: the store was not read yet.
    pub(super) machine: Option<Deployments>,
    pub(super) management: Management,
    pub(super) tokens: Tokens,
    /// Why it could not be.
    trouble: Option<String>,
    /// The store holds something that the machine does not know: nothing goes in until it was read again.
    pub(super) stale: bool,
    load_at: Option<Duration>,
    collect_at: Duration,
    /// The nodes on their links, so that a machine that is made anew knows them.
    pub(super) nodes: BTreeMap<Session, Node>,
    /// Who waits for the end of a deployment.
    askers: HashMap<(AppName, u32), Asker>,
    /// Who waits for the machine to know their versions.
    adopting: Vec<(Reply<Vec<Adopted>>, Vec<Adopted>)>,
    /// Added to the machine's revisions, so that they grow even if it is made anew.
    revisions: u64,
    last_revision: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub role: Role,
    pub name: NodeName,
    pub knows: Knows,
    control: ControlTx,
    reports: Vec<AppReport>,
}

#[derive(Debug)]
pub(super) struct Asker {
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
    pub fn new(inbox: mpsc::Receiver<Input>, store: Option<Arc<Store>>, tokens: Tokens) -> Self {
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
            management: Management::default(),
            tokens,
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
        [machine, self.load_at, self.management.timeout()]
            .into_iter()
            .flatten()
            .fold(self.collect_at, Duration::min)
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
        self.settle();
    }

    // === inputs ===

    fn on_input(&mut self, input: Input) {
        match input {
            Input::NodeUp { session, role, name, control } => self.node_up(session, role, name, control),
            Input::NodeGone { session } => {
                self.nodes.remove(&session);
                self.management.catalog.node_gone(session);
                self.with_machine(|machine, now| machine.node_gone(session, now));
                self.settle();
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
                self.deploy(request, asked, Asker { watcher, end });
            }
            Input::Cancel { app, by, reply } => {
                let known = self.check_known(&app);
                let cancel = |machine: &mut Deployments, now| {
                    known?;
                    Ok(machine.cancel(&app, &by, now)?)
                };
                let _ = reply.send(self.ask_machine(cancel));
            }
            Input::Apps { reply } => drop(reply.send(self.overviews())),
            Input::Find { app, reply } => {
                let known = self.check_known(&app);
                let find = |machine: &mut Deployments, _| {
                    known?;
                    Ok(machine.running(&app).cloned())
                };
                let _ = reply.send(self.ask_machine(find));
            }
            Input::Manage(ordered) => self.manage(ordered),
            Input::Tenants { reply } => {
                let tenants = self.management.catalog.tenants();
                let _ = reply.send(self.ask_machine(|_, _| Ok(tenants)));
            }
            Input::FixedTenants(tenants) => self.management.catalog.fixed_tenants(tenants),
            Input::FixedApps { session, apps } => self.fixed_apps(session, apps),
            Input::CatalogApplied { session, revision, troubles } => {
                self.catalog_applied(session, revision, troubles);
            }
            Input::Adopt { named, precedence, reply } => self.adopt(named, precedence, reply),
        }
    }

    fn adopt(&mut self, named: Vec<Named>, precedence: Precedence, reply: Reply<Vec<Adopted>>) {
        let made = named.iter().find(|named| self.management.catalog.is_active(&named.app).is_some());
        if let Some(Named { app, .. }) = made {
            let reason = format!(
                "app {app} was made with `tidegate apps create` as well: take it out of the settings file, or give it \
                 another name there"
            );
            let _ = reply.send(Err(Refusal::Exists { reason }));
        } else if self.disk.has_store() {
            self.disk.push(Job::Adopt { named, precedence, reply });
        } else {
            let _ = reply.send(Ok(named.into_iter().map(Adopted::unnumbered).collect()));
        }
    }

    fn node_up(&mut self, session: Session, role: Role, name: NodeName, control: ControlTx) {
        let reports = self.nodes.remove(&session).map(|node| node.reports).unwrap_or_default();
        let knows = Knows::default();
        self.nodes.insert(session, Node { role, name: name.clone(), knows, control, reports });
        // Of its apps it hears before what they run.
        self.tell_catalog();
        self.with_machine(|machine, now| machine.node_up(session, role, name, now));
    }

    fn overviews(&mut self) -> Result<Vec<AppOverview>, Refusal> {
        self.ask_machine(|_, _| Ok(()))?;
        let Some(machine) = &self.machine else { return Ok(Vec::new()) };
        let mut apps: Vec<_> = machine.apps().into_iter().chain(self.management.catalog.apps()).collect();
        apps.sort_unstable();
        apps.dedup();
        apps.retain(|app| !self.management.is_ghost(app));
        let of = |app| AppOverview { created: self.created(app), ..overview(machine, app) };
        Ok(apps.into_iter().map(of).collect())
    }

    fn deploy(&mut self, request: DeployRequest, asked: Instant, asker: Asker) {
        if let Some((request, asker)) = self.deploy_later(request, asked, asker) {
            self.deploy_now(request, asked, asker);
        }
    }

    pub(super) fn deploy_now(&mut self, request: DeployRequest, asked: Instant, asker: Asker) {
        let app = request.app.clone();
        let wants_canary = request.canary.is_some();
        let request = DeployRequest { waited: asked.elapsed(), ..request };
        let may = self.check_known(&app).and_then(|()| self.check_deployable(&app));
        let deploy = |machine: &mut Deployments, now| {
            may?;
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

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(super) fn with_machine(&mut self, act: impl FnOnce(&mut Deployments, Duration)) {
        if let Some(machine) = &mut self.machine {
            act(machine, self.clock.now());
        }
    }

    pub(super) fn ask_machine<'a, T>(
        &'a mut self,
        act: impl FnOnce(&'a mut Deployments, Duration) -> Result<T, Refusal>,
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
            Done::Loaded(Ok((records, catalog))) => match self.install_catalog(&catalog) {
                Ok(()) => self.install(records),
                Err(error) => self.not_loaded(error),
            },
            Done::Loaded(Err(error)) => self.not_loaded(error),
            Done::Persisted { app, number, written, result } => self.persisted(&app, number, written, result),
            Done::Collected => {}
            Done::CatalogWritten { result } => self.catalog_written(result),
            Done::Adopted { reply, result: Ok(found) } if found.changed => {
                self.adopting.push((reply, found.adopted));
                self.load();
            }
            Done::Adopted { reply, result } => drop(reply.send(result.map(|found| found.adopted))),
        }
    }

    pub(super) fn load(&mut self) {
        self.stale = true;
        self.disk.push(Job::Load);
    }

    fn not_loaded(&mut self, error: String) {
        tracing::error!(error, "the register cannot read its store; it tries again");
        self.load_at = Some(self.clock.now() + LOAD_AGAIN);
        for (reply, _) in self.adopting.drain(..) {
            let _ = reply.send(Err(Refusal::Store { reason: error.clone() }));
        }
        self.trouble = Some(error);
        self.stale = false;
        self.next_order();
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
        self.versions_changed();
        self.next_order();
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
                Output::FirstVersions => self.versions_changed(),
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
    pub fn send(&self, message: &Control) {
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
