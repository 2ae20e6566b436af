//! The cluster, and what happens in it.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_base::{AppName, NodeName, Role};
use tidegate_register::deployment::{Output, Record};
use tidegate_wire::control::{AppClients, Control};
use tidegate_wire::directory::Session;
use tidegate_wire::report::{Outcome, Progress};
use tidegate_wire::rollout::Do;

use crate::faults::Faults;
use crate::operator::{good, wish};
use crate::random::Random;
use crate::register::Register;
use crate::worker::Worker;
use crate::{check, faults};

/// Time that is full of faults.
const STORM: Duration = Duration::from_secs(240);
/// Time for everything to end afterwards: a phase may take ten minutes.
const CALM: Duration = Duration::from_secs(3_600);
/// The longest story so far has a tenth of it.
const STEPS_MAX: u64 = 2_000_000;
const BEGIN: Duration = Duration::from_secs(1_700_000_000);

/// A simulated cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) now: Duration,
    pub(crate) workers: Vec<Worker>,
    pub(crate) register: Register,
    gateways: Vec<Option<Session>>,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    /// When the last message of a link and direction arrives.
    arrivals: BTreeMap<(Session, bool), Duration>,
    last_session: Session,
    random: Random,
    faults: Faults,
    apps: Vec<AppName>,
    print: bool,
    summary: Summary,
}

/// What a story was made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Deployments that committed.
    pub committed: u64,
    /// Deployments that were rolled back.
    pub rolled_back: u64,
    /// Deployments that ended mixed.
    pub mixed: u64,
    /// Deploys that were refused.
    pub refused: u64,
    /// Registers that died.
    pub register_deaths: u64,
    /// Workers that died.
    pub worker_deaths: u64,
    /// Writes that failed.
    pub writes_failed: u64,
    /// Everything that happened.
    pub steps: u64,
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A link is there: the node announces itself.
    Linked(Session, Role, usize),
    ToRegister(Session, Vec<u8>),
    ToWorker(usize, Session, Vec<u8>),
    ToGateway(usize, Session, Vec<u8>),
    /// The register notices that a link is gone.
    Unlinked(Session),
    /// The store answers a register of this life.
    Stored(u64, AppName, Box<Record>),
    Done {
        worker: usize,
        life: u64,
        app: AppName,
        what: Do,
    },
    /// A worker without a register starts by itself.
    Alone(usize, u64),
    Retry(usize, u64),
    /// A node dials the register.
    Dial(Role, usize),
    RegisterStarts,
    /// Turns, traps, and reports of who is moving.
    Work,
    /// Something that nobody asked for.
    Trouble,
    Operator,
}

impl Cluster {
    /// Tells one story from its beginning to its end.
    ///
    /// # Errors
    /// What does not hold, and when.
    pub fn tell(seed: u64, print: bool) -> Result<Summary, String> {
        let mut cluster = Self::new(seed, print);
        cluster.run().map_err(|broken| format!("seed {seed}, {:?}: {broken}", cluster.now - BEGIN))?;
        Ok(cluster.summary)
    }

    fn new(seed: u64, print: bool) -> Self {
        let mut random = Random::new(seed);
        let apps: Vec<_> = ["a", "b"].iter().filter_map(|name| AppName::new(name).ok()).collect();
        let workers = (0..1 + random.below(4)).filter_map(|at| {
            let mut sizes = BTreeMap::new();
            for (number, app) in apps.iter().enumerate() {
                if number == 0 || random.one_in(2) {
                    sizes.insert(app.clone(), 1 + random.below(4) as u32);
                }
            }
            Some(Worker::new(NodeName::new(&format!("w{at}")).ok()?, sizes))
        });
        let workers: Vec<_> = workers.collect();
        let gateways = vec![None; random.below(3) as usize];
        let faults = faults::Faults::of(&mut random);
        let mut cluster = Self {
            now: BEGIN,
            workers,
            register: Register::default(),
            gateways,
            queue: BTreeMap::new(),
            queued: 0,
            arrivals: BTreeMap::new(),
            last_session: 0,
            random,
            faults,
            apps,
            print,
            summary: Summary::default(),
        };
        cluster.register.start(BEGIN);
        for at in 0..cluster.workers.len() {
            cluster.worker_starts(at);
        }
        (0..cluster.gateways.len())
            .for_each(|at| cluster.after(Duration::ZERO, Event::Dial(Role::Gateway, at)));
        for event in [Event::Work, Event::Trouble, Event::Operator] {
            cluster.after(Duration::from_secs(1), event);
        }
        cluster
    }

    fn run(&mut self) -> Result<(), String> {
        while self.now < BEGIN + STORM {
            self.step()?;
        }
        self.note(|| "from here on nothing fails".into());
        self.faults = Faults::default();
        self.settle()?;
        for app in self.apps.clone() {
            let request = good(&app, &mut self.random);
            let now = self.now;
            let machine = self.register.machine.as_mut().ok_or("there is no register")?;
            let version = machine.deploy(request, now).map_err(|error| error.to_string())?;
            self.drain()?;
            self.settle()?;
            let machine = self.register.machine.as_ref().ok_or("there is no register")?;
            if machine.stable(&app) != Some(version) {
                return Err(format!("{version} of {app} does not commit though nothing fails"));
            }
            check::history(self, &app)?;
        }
        Ok(())
    }

    /// Until nothing goes on any more.
    fn settle(&mut self) -> Result<(), String> {
        let until = self.now + CALM;
        while !self.is_settled() {
            if self.now > until {
                return Err(format!("it does not end: {:?} {:?}", self.register.machine, self.workers));
            }
            self.step()?;
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let Some(machine) = &self.register.machine else { return false };
        let quiet = self.apps.iter().all(|app| machine.running(app).is_none());
        quiet
            && self.workers.iter().all(|worker| {
                let there = |(name, app): (&AppName, &crate::worker::App)| {
                    let wanted = machine.stable(name).map_or(0, |version| version.number);
                    let runs = |slot: &crate::truth::SlotTruth| slot.runs.map(|version| version.number);
                    app.slots.iter().all(|slot| runs(slot) == Some(wanted)) && !app.rollout.is_moving()
                };
                worker.session.is_some() && worker.apps.iter().all(there)
            })
    }

    /// The next thing that happens.
    fn step(&mut self) -> Result<(), String> {
        self.summary.steps += 1;
        if self.summary.steps > STEPS_MAX {
            return Err("it goes on and on".into());
        }
        let timeout = self.register.machine.as_ref().and_then(|machine| machine.poll_timeout());
        let next = self.queue.keys().next().map(|(at, _)| *at);
        match (timeout, next) {
            (Some(timeout), next) if next.is_none_or(|next| timeout <= next) => {
                self.now = self.now.max(timeout);
                let now = self.now;
                if let Some(machine) = &mut self.register.machine {
                    machine.on_timeout(now);
                }
            }
            _ => {
                let ((at, _), event) = self.queue.pop_first().ok_or("nothing happens any more")?;
                self.now = at;
                self.happens(event)?;
            }
        }
        self.drain()?;
        check::step(self)
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        let now = self.now;
        if !matches!(event, Event::Work | Event::ToRegister(..)) {
            self.note(|| format!("{event:?}"));
        }
        match event {
            Event::Linked(session, role, at) => {
                let name = self.name(role, at);
                if let (Some(machine), Some(name)) = (&mut self.register.machine, name) {
                    machine.node_up(session, role, name, now);
                }
            }
            Event::ToRegister(session, bytes) => self.register_hears(session, &bytes)?,
            Event::ToWorker(at, session, bytes) => self.worker_hears(at, session, &bytes)?,
            Event::ToGateway(at, session, bytes) => self.gateway_hears(at, session, &bytes)?,
            Event::Unlinked(session) => {
                if let Some(machine) = &mut self.register.machine {
                    machine.node_gone(session, now);
                }
            }
            Event::Stored(life, app, record) => self.stored(life, app, *record),
            Event::Done { worker, life, app, what } => {
                let Some(of) = self.workers.get_mut(worker).filter(|worker| worker.life == life) else {
                    return Ok(());
                };
                if let Some(app) = of.apps.get_mut(&app) {
                    app.done(what, &mut self.random, &self.faults)?;
                }
                self.pump(worker);
            }
            Event::Alone(at, life) => {
                if let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.life == life) {
                    worker.apps.values_mut().for_each(|app| app.rollout.alone());
                    self.pump(at);
                }
            }
            Event::Retry(at, life) => self.retry(at, life),
            Event::Dial(role, at) => self.dial(role, at),
            Event::RegisterStarts => self.register.start(now),
            Event::Work => self.work(),
            Event::Trouble => self.trouble(),
            Event::Operator => self.operator(),
        }
        Ok(())
    }

    // === messages ===

    fn register_hears(&mut self, session: Session, bytes: &[u8]) -> Result<(), String> {
        let now = self.now;
        let Some(machine) = &mut self.register.machine else { return Ok(()) };
        match Control::from_bytes(bytes).map_err(|error| error.to_string())? {
            Control::AppReports(reports) => {
                self.register.reported.entry(session).or_insert(now);
                machine.on_reports(session, reports, now);
            }
            Control::Counted { number, apps } => machine.on_counted(session, number, &apps, now),
            other => return Err(format!("the register got {other:?}")),
        }
        Ok(())
    }

    fn worker_hears(&mut self, at: usize, session: Session, bytes: &[u8]) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.session == Some(session)) else {
            return Ok(());
        };
        match Control::from_bytes(bytes).map_err(|error| error.to_string())? {
            Control::Apps { apps, .. } => worker.told(&apps),
            other => return Err(format!("a worker got {other:?}")),
        }
        self.pump(at);
        Ok(())
    }

    fn gateway_hears(&mut self, at: usize, session: Session, bytes: &[u8]) -> Result<(), String> {
        if self.gateways.get(at) != Some(&Some(session)) || self.random.one_in(self.faults.count) {
            return Ok(());
        }
        let Control::Census { number } = Control::from_bytes(bytes).map_err(|error| error.to_string())?
        else {
            return Err("a gateway got something else than a census".into());
        };
        let count = |app: &AppName| AppClients {
            app: app.clone(),
            clients: 5,
            opened: 5,
            closed: 0,
            events: self.summary.steps,
            lost: 0,
        };
        let apps = self.apps.iter().map(count).collect();
        self.send_to_register(session, &Control::Counted { number, apps });
        Ok(())
    }

    fn send_to_register(&mut self, session: Session, message: &Control) {
        let at = self.arrival(session, true);
        self.at(at, Event::ToRegister(session, message.to_bytes()));
    }

    /// Links keep the order of their messages.
    fn arrival(&mut self, session: Session, to_register: bool) -> Duration {
        let delay = self.random.delay(Duration::from_millis(2));
        let last = self.arrivals.entry((session, to_register)).or_default();
        *last = (self.now + delay).max(*last + Duration::from_nanos(1));
        *last
    }

    // === what the register wants ===

    fn drain(&mut self) -> Result<(), String> {
        while let Some(output) = self.register.machine.as_mut().and_then(|machine| machine.poll()) {
            match output {
                Output::Persist { app, record } => {
                    let delay = self.random.delay(Duration::from_millis(5));
                    self.after(delay, Event::Stored(self.register.life, app, record));
                }
                Output::Apps { session, revision, apps } => {
                    self.register.may_tell(&apps)?;
                    let arrival = self.arrival(session, false);
                    let of = self.workers.iter().position(|worker| worker.session == Some(session));
                    if let Some(at) = of {
                        let bytes = Control::Apps { revision, apps }.to_bytes();
                        self.at(arrival, Event::ToWorker(at, session, bytes));
                    }
                }
                Output::Census { number } => {
                    for at in 0..self.gateways.len() {
                        if let Some(Some(session)) = self.gateways.get(at).copied() {
                            let arrival = self.arrival(session, false);
                            let bytes = Control::Census { number }.to_bytes();
                            self.at(arrival, Event::ToGateway(at, session, bytes));
                        }
                    }
                }
                Output::Progress { app, number, news } => self.heard(&app, number, &news)?,
            }
        }
        Ok(())
    }

    fn heard(&mut self, app: &AppName, number: u32, news: &Progress) -> Result<(), String> {
        self.note(|| format!("{app} {number}: {news}"));
        let Progress::Ended(report) = news else { return Ok(()) };
        *match &report.outcome {
            Outcome::Committed => &mut self.summary.committed,
            Outcome::RolledBack { .. } => &mut self.summary.rolled_back,
            Outcome::Mixed { .. } => &mut self.summary.mixed,
        } += 1;
        check::ended(self, report)
    }

    fn stored(&mut self, life: u64, app: AppName, record: Record) {
        let number = record.version.number;
        let fails = self.random.one_in(self.faults.disk);
        // A register that died meanwhile may have written, or not.
        let (alive, now) = (life == self.register.life && self.register.machine.is_some(), self.now);
        if !fails && (alive || self.random.one_in(2)) {
            self.register.store.insert((app.clone(), number), record);
        }
        if let (Some(machine), true) = (&mut self.register.machine, alive) {
            if fails {
                self.summary.writes_failed += 1;
                machine.persist_failed(&app, number, "the disk is full", now);
            } else {
                machine.persisted(&app, number, now);
            }
        }
    }

    // === what happens by itself ===

    fn pump(&mut self, at: usize) {
        let mut events = Vec::new();
        let Some(worker) = self.workers.get_mut(at) else { return };
        let reports = worker.pump(at, &mut self.random, &mut events);
        let message = worker.session.filter(|_| reports).map(|session| (session, worker.reports()));
        events.into_iter().for_each(|(delay, event)| self.after(delay, event));
        if let Some((session, reports)) = message {
            self.send_to_register(session, &reports);
        }
    }

    fn work(&mut self) {
        for at in 0..self.workers.len() {
            let Some(worker) = self.workers.get_mut(at) else { continue };
            for app in worker.apps.values_mut() {
                app.work(&mut self.random, &self.faults);
                if self.random.one_in(self.faults.lost) {
                    app.lose_beside(&mut self.random);
                }
            }
            let moving = worker.apps.values().any(|app| app.rollout.is_moving());
            if let Some(session) = worker.session.filter(|_| moving) {
                let reports = worker.reports();
                self.send_to_register(session, &reports);
            }
            let Some(worker) = self.workers.get(at) else { continue };
            if worker.apps.values().any(|app| app.rollout.is_stuck()) && self.random.one_in(20) {
                let event = Event::Retry(at, worker.life);
                self.after(Duration::ZERO, event);
            }
            self.pump(at);
        }
        self.after(Duration::from_secs(1), Event::Work);
    }

    fn retry(&mut self, at: usize, life: u64) {
        if let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.life == life) {
            let stuck = worker.apps.values_mut().filter(|app| app.rollout.is_stuck());
            stuck.for_each(|app| app.rollout.retry());
            self.pump(at);
        }
    }

    fn trouble(&mut self) {
        let at = self.random.below(self.workers.len() as u64) as usize;
        if self.random.one_in(self.faults.worker) {
            self.summary.worker_deaths += 1;
            self.note(|| format!("worker {at} dies"));
            self.cut(Role::Worker, at);
            self.worker_starts(at);
        }
        if self.random.one_in(self.faults.cut) {
            self.note(|| format!("the link of worker {at} breaks"));
            self.cut(Role::Worker, at);
            self.redial(Role::Worker, at);
        }
        if !self.gateways.is_empty() && self.random.one_in(self.faults.cut) {
            let gateway = at % self.gateways.len();
            self.cut(Role::Gateway, gateway);
            self.redial(Role::Gateway, gateway);
        }
        if self.register.machine.is_some() && self.random.one_in(self.faults.register) {
            self.register_dies();
        }
        let pause = self.random.delay(Duration::from_secs(2));
        self.after(pause, Event::Trouble);
    }

    fn operator(&mut self) {
        let pause = self.random.delay(Duration::from_secs(8));
        self.after(pause, Event::Operator);
        // When nothing fails any more, nobody wants anything either.
        if self.now > BEGIN + STORM {
            return;
        }
        let app = self.apps.get(self.random.below(self.apps.len() as u64) as usize).cloned();
        let (Some(app), now) = (app, self.now) else { return };
        if self.random.one_in(5) {
            if let Some(machine) = &mut self.register.machine {
                let done = machine.cancel(&app, "ann", now);
                self.note(|| format!("cancel {app}: {done:?}"));
            }
            return;
        }
        let request = wish(&app, &self.register, &mut self.random);
        if let Some(machine) = &mut self.register.machine {
            let done = machine.deploy(request, now);
            self.summary.refused += u64::from(done.is_err());
            self.note(|| format!("deploy {app}: {done:?}"));
        }
    }

    // === lives and links ===

    fn worker_starts(&mut self, at: usize) {
        let Some(worker) = self.workers.get_mut(at) else { return };
        worker.start();
        let life = worker.life;
        self.after(Duration::from_secs(5), Event::Alone(at, life));
        self.redial(Role::Worker, at);
    }

    fn register_dies(&mut self) {
        self.summary.register_deaths += 1;
        self.note(|| "the register dies".into());
        self.register.machine = None;
        for at in 0..self.workers.len() {
            self.cut(Role::Worker, at);
            self.redial(Role::Worker, at);
        }
        for at in 0..self.gateways.len() {
            self.cut(Role::Gateway, at);
            self.redial(Role::Gateway, at);
        }
        let pause = self.random.delay(Duration::from_secs(5));
        self.after(pause, Event::RegisterStarts);
    }

    /// The node notices now, the register later; what was on the way is gone.
    fn cut(&mut self, role: Role, at: usize) {
        let link = match role {
            Role::Worker => self.workers.get_mut(at).map(|worker| &mut worker.session),
            _ => self.gateways.get_mut(at),
        };
        if let Some(session) = link.and_then(Option::take) {
            self.queue.retain(|_, event| !matches!(event, Event::ToRegister(of, _) | Event::Linked(of, ..) if *of == session));
            let noticed = self.random.delay(Duration::from_secs(2));
            self.after(noticed, Event::Unlinked(session));
        }
    }

    fn redial(&mut self, role: Role, at: usize) {
        let pause = self.random.delay(Duration::from_secs(1));
        self.after(pause, Event::Dial(role, at));
    }

    fn dial(&mut self, role: Role, at: usize) {
        if self.register.machine.is_none() {
            return self.redial(role, at);
        }
        let session = self.last_session + 1;
        let link = match role {
            Role::Worker => self.workers.get_mut(at).map(|worker| &mut worker.session),
            _ => self.gateways.get_mut(at),
        };
        let Some(link @ None) = link else { return };
        *link = Some(session);
        self.last_session = session;
        let arrival = self.arrival(session, true);
        self.at(arrival, Event::Linked(session, role, at));
        if let (Role::Worker, Some(worker)) = (role, self.workers.get(at)) {
            let reports = worker.reports();
            self.send_to_register(session, &reports);
        }
    }

    fn name(&self, role: Role, at: usize) -> Option<NodeName> {
        match role {
            Role::Worker => self.workers.get(at).map(|worker| worker.name.clone()),
            _ => NodeName::new(&format!("g{at}")).ok(),
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.print {
            println!("{:>12.6} {}", (self.now - BEGIN).as_secs_f64(), what());
        }
    }
}
