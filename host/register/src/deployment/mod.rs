//! The register's side of hot swaps: what every app should run, and how a deployment goes from one version to the next.

mod arms;
mod census;
mod facts;
mod judge;
mod out;
mod record;
mod running;
mod shares;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::{AppName, NodeName, Role};
use tidegate_wire::control::{AppClients, AppReport, DesiredApp, VersionRef, cut_reason};
use tidegate_wire::directory::Session;
use tidegate_wire::report::Outcome;

pub use self::judge::{Verdict, judge, traps_too_much};
use self::out::Out;
pub use self::out::Output;
pub use self::record::{
    BY_BYTES_MAX, CANARY_MAX, CANARY_MIN, CancelError, DeployError, DeployRequest, NOTE_BYTES_MAX, Record,
    RecordState,
};
use self::running::Running;
use self::view::View;

/// After a register's restart, how long a deployment waits for workers to return before it goes on. Nodes dial again
/// within seconds.
pub const RETURN_MAX: Duration = Duration::from_secs(10);

/// What every app should run, and the deployments that go on: at most one for each app. A plain state machine.
///
/// Calling contract. `now` is the time since the Unix epoch and never goes back within one life: take the wall clock once,
/// at the start, and add a monotonic clock. After every call of an input, drain [`poll`](Self::poll) until it is empty
/// and do what it says; call [`on_timeout`](Self::on_timeout) when [`poll_timeout`](Self::poll_timeout) has come.
/// Sessions are the links' numbers, never used twice; what comes from a session that a newer one of the same node has
/// replaced is ignored.
///
/// * A worker says what it has ([`on_reports`](Self::on_reports)) as soon as it is announced: it takes part in an app's
///   deployments from its first report of the app on.
/// * A phase is written down before a worker hears of it, so a register that starts anew goes on where the workers are.
/// * A deployment depends on nobody who watches it.
#[derive(Debug, Default)]
pub struct Deployments {
    apps: BTreeMap<AppName, App>,
    nodes: BTreeMap<Session, (Role, NodeName)>,
    workers: BTreeMap<NodeName, Worker>,
    out: Out,
}

#[derive(Debug, Default)]
struct App {
    stable: Option<VersionRef>,
    /// The last number that was used.
    last: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Worker {
    session: Session,
    apps: BTreeMap<AppName, AppReport>,
}

impl Deployments {
    /// Goes on from what was written down: all records of all apps, in any order. A deployment that had not ended goes
    /// on, after a while for its workers to return.
    pub fn restore(records: impl IntoIterator<Item = (AppName, Record)>, now: Duration) -> Self {
        let mut it = Self::default();
        let mut open: BTreeMap<AppName, Vec<Record>> = BTreeMap::new();
        for (name, record) in records {
            let app = it.apps.entry(name.clone()).or_default();
            app.last = app.last.max(record.version.number);
            match &record.state {
                RecordState::Ended(Outcome::Committed) => app.stable = app.stable.max(Some(record.version)),
                RecordState::Ended(_) => {}
                _ => open.entry(name).or_default().push(record),
            }
        }
        for (name, mut records) in open {
            records.sort_by_key(|record| record.version.number);
            let Some(app) = it.apps.get_mut(&name) else { continue };
            let newest = records.pop_if(|newest| newest.version.number == app.last);
            // One at a time: an older one that is open is a line that was never closed.
            for record in records {
                let reason = "a later deployment began before its end was written down".into();
                let state = RecordState::Ended(Outcome::RolledBack { reason });
                it.out.close_record(name.clone(), Record { state, ..record });
            }
            if let Some(record) = newest {
                let restored = Running::restore(name, record, app.stable, now, now + RETURN_MAX, &mut it.out);
                app.running = Some(restored);
            }
        }
        it
    }

    // === what is there ===

    /// What new slots of an app start with. None: nothing was deployed.
    pub fn stable(&self, app: &AppName) -> Option<VersionRef> {
        self.apps.get(app)?.stable
    }

    /// The deployment of an app that goes on.
    pub fn running(&self, app: &AppName) -> Option<&Record> {
        self.apps.get(app)?.running.as_ref().map(|running| &running.record)
    }

    /// Whether an app has a version, or is getting its first one: if not, none of its slots has anything to run.
    pub fn has_version(&self, app: &AppName) -> bool {
        self.apps.get(app).is_some_and(|app| app.stable.is_some() || app.running.is_some())
    }

    /// Every app that was ever deployed, or that a worker has.
    pub fn apps(&self) -> Vec<&AppName> {
        let reported = self.workers.values().flat_map(|worker| worker.apps.keys());
        let mut apps: Vec<_> = self.apps.keys().chain(reported).collect();
        apps.sort_unstable();
        apps.dedup();
        apps
    }

    /// What the workers last said of an app.
    pub fn reports(&self, app: &AppName) -> impl Iterator<Item = (&NodeName, &AppReport)> {
        self.workers.iter().filter_map(move |(name, worker)| Some((name, worker.apps.get(app)?)))
    }

    // === what operators want ===

    /// Begins a deployment. Its number is certain when it is written down; until then it may come to nothing.
    ///
    /// # Errors
    /// The wish breaks a limit, or another deployment of the app goes on. Nothing has changed.
    pub fn deploy(&mut self, request: DeployRequest, now: Duration) -> Result<VersionRef, DeployError> {
        request.check()?;
        let DeployRequest { app: name, digest, again, canary, by, note, waited } = request;
        let view = view(&self.workers, &name);
        let slots = view.slots();
        let app = self.apps.get(&name);
        if let Some(running) = app.and_then(|app| app.running.as_ref()) {
            return Err(DeployError::Busy {
                app: name,
                version: running.record.version,
                by: running.record.by.clone(),
                since_s: now.saturating_sub(running.began()).as_secs(),
                doing: running.record.state.as_str(),
            });
        }
        if canary.is_some() && slots < 2 {
            return Err(DeployError::CanarySlots { app: name, slots });
        }
        let last = app.map_or(0, |app| app.last);
        let number = last.checked_add(1).ok_or_else(|| DeployError::Numbers(name.clone()))?;
        let version = VersionRef { number, digest };
        let began = now.saturating_sub(waited);
        let at_ms = u64::try_from(began.as_millis()).unwrap_or(u64::MAX);
        let state = RecordState::Prepare;
        let record = Record { version, again, by, note, at_ms, canary, state, report: None };
        let app = self.apps.entry(name.clone()).or_default();
        app.running = Some(Running::start(name, record, app.stable, (began, now), &mut self.out));
        if app.stable.is_none() {
            self.out.first_versions();
        }
        Ok(version)
    }

    /// An operator wants a deployment to go back.
    ///
    /// # Errors
    /// There is none, or its end is decided.
    pub fn cancel(&mut self, name: &AppName, by: &str, now: Duration) -> Result<(), CancelError> {
        let running = self.apps.get_mut(name).and_then(|app| app.running.as_mut());
        let running = running.ok_or_else(|| CancelError::NotRunning(name.clone()))?;
        let reason = cut_reason(format!("cancelled by {by}"));
        if running.cancel(reason, &view(&self.workers, name), now, &mut self.out) {
            return Ok(());
        }
        Err(CancelError::Ending(name.clone(), running.record.state.as_str()))
    }

    /// An app is gone, with all that was written down of it: if it comes back it begins with version 1. Not while a
    /// deployment of it goes on.
    pub fn forget(&mut self, name: &AppName) {
        let is_calm = self.apps.get(name).is_some_and(|app| app.running.is_none());
        if is_calm && self.apps.remove(name).is_some() {
            self.out.changed();
        }
    }

    // === what nodes do ===

    /// A node is announced on a link. Other roles than gateways and workers are ignored.
    pub fn node_up(&mut self, session: Session, role: Role, name: NodeName, now: Duration) {
        let known =
            self.nodes.iter().find(|(_, node)| **node == (role, name.clone())).map(|(known, _)| *known);
        match known {
            Some(known) if known == session => return,
            Some(known) => self.node_gone(known, now),
            None => {}
        }
        match role {
            Role::Gateway => self.out.gateway_up(session),
            Role::Worker => {
                self.out.worker_up(session);
                self.workers.insert(name.clone(), Worker { session, apps: BTreeMap::new() });
            }
            Role::Register | Role::Operator => return,
        }
        self.nodes.insert(session, (role, name));
    }

    /// A link ended.
    pub fn node_gone(&mut self, session: Session, now: Duration) {
        let Some((role, name)) = self.nodes.remove(&session) else { return };
        self.out.gone(session);
        if role == Role::Worker {
            self.workers.remove(&name);
        }
        self.on_timeout(now);
    }

    /// A worker says how its apps do: all of them.
    pub fn on_reports(&mut self, session: Session, reports: Vec<AppReport>, now: Duration) {
        let Some((Role::Worker, name)) = self.nodes.get(&session) else { return };
        let Some(worker) = self.workers.get_mut(name).filter(|worker| worker.session == session) else {
            return;
        };
        let told: BTreeMap<_, _> = reports.into_iter().map(|report| (report.app.clone(), report)).collect();
        let before = std::mem::replace(&mut worker.apps, told);
        for (name, app) in &mut self.apps {
            let Some(running) = &mut app.running else { continue };
            if worker.apps.contains_key(name) && !before.contains_key(name) {
                running.joined(now);
            }
        }
        self.on_timeout(now);
    }

    /// A gateway has counted.
    pub fn on_counted(&mut self, session: Session, number: u64, apps: &[AppClients], now: Duration) {
        if self.nodes.get(&session).is_none_or(|(role, _)| *role != Role::Gateway) {
            return;
        }
        let running = self.apps.values_mut().filter_map(|app| app.running.as_mut());
        running.for_each(|running| running.counted(session, number, apps));
        self.on_timeout(now);
    }

    // === what the store says ===

    /// The record of this app and number is durable, as it was last asked for.
    pub fn persisted(&mut self, name: &AppName, number: u32, now: Duration) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let view = view(&self.workers, name);
        let Some(running) = app.running.as_mut().filter(|running| running.number() == number) else { return };
        app.last = number;
        if !running.stored(&view, now, &mut self.out) {
            return;
        }
        if running.record.state == RecordState::Ended(Outcome::Committed) {
            app.stable = Some(running.record.version);
        }
        app.running = None;
        if app.stable.is_none() {
            self.out.first_versions();
        }
        self.out.changed();
    }

    /// The record could not be written: the disk is full, for instance.
    pub fn persist_failed(&mut self, name: &AppName, number: u32, reason: &str, now: Duration) {
        let Some(app) = self.apps.get_mut(name) else { return };
        let view = view(&self.workers, name);
        let Some(running) = app.running.as_mut().filter(|running| running.number() == number) else { return };
        if running.not_stored(reason, &view, now, &mut self.out) {
            app.running = None;
            if app.stable.is_none() {
                self.out.first_versions();
            }
        }
    }

    // === time and outputs ===

    /// When [`on_timeout`](Self::on_timeout) is to be called. None: nothing depends on time.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.apps.values().filter_map(|app| app.running.as_ref()?.timeout()).min()
    }

    /// Time has passed. Harmless at any time.
    pub fn on_timeout(&mut self, now: Duration) {
        for (name, app) in &mut self.apps {
            if let Some(running) = &mut app.running {
                running.advance(&view(&self.workers, name), now, &mut self.out);
            }
        }
    }

    /// The next thing to do, if there is one.
    pub fn poll(&mut self) -> Option<Output> {
        if let Some(next) = self.out.pop() {
            return Some(next);
        }
        let session = self.out.next_behind()?;
        let apps = self.nodes.get(&session).map(|(_, worker)| self.desired(worker)).unwrap_or_default();
        Some(Output::Apps { session, revision: self.out.revision, apps })
    }

    /// Checks what holds at all times.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (name, app) in &self.apps {
            if app.stable.is_some_and(|stable| stable.number > app.last) {
                return Err(format!("{name}: {:?} is stable, but {} was the last", app.stable, app.last));
            }
            if let Some(running) = &app.running {
                running.check()?;
                let number = running.number();
                if app.stable.is_some_and(|stable| stable.number >= number) || app.last > number {
                    return Err(format!("{name}: number {number} runs and is in use already"));
                }
            }
        }
        for (name, worker) in &self.workers {
            if self.nodes.get(&worker.session) != Some(&(Role::Worker, name.clone())) {
                return Err(format!("worker {name} is there without its link"));
            }
        }
        Ok(())
    }

    fn desired(&self, worker: &NodeName) -> Vec<DesiredApp> {
        let of = |(name, app): (&AppName, &App)| {
            let rollout = app.running.as_ref().and_then(|running| running.desired(worker));
            // Once workers have heard of an app they go on hearing of it, so that they know when a deployment is over.
            let known = app.last > 0 || rollout.is_some();
            known.then(|| DesiredApp { app: name.clone(), stable: app.stable, rollout })
        };
        self.apps.iter().filter_map(of).collect()
    }
}

fn view<'a>(workers: &'a BTreeMap<NodeName, Worker>, app: &AppName) -> View<'a> {
    let mut view = View::default();
    for (name, worker) in workers {
        if let Some(report) = worker.apps.get(app) {
            view.push(name, report);
        }
    }
    view
}

#[cfg(test)]
mod tests;
