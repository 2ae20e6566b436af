//! The cluster, and what happens in it.

mod lanes;
mod lives;
mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_base::{AppName, ClientId, NodeName, Role};
use tidegate_register::deployment::Record;
use tidegate_wire::Grant;
use tidegate_wire::directory::Session;
use tidegate_wire::rollout::Do;

use crate::faults::Faults;
use crate::ids::{LaneId, SlotId};
use crate::operator::good;
use crate::random::Random;
use crate::register::Register;
use crate::traffic::gateway::Gateway;
use crate::traffic::ledger::{Ledger, Totals};
use crate::worker::Worker;
use crate::{check, faults};

/// Time that is full of faults.
const STORM: Duration = Duration::from_secs(240);
/// Time for everything to end afterwards: a phase may take ten minutes.
const CALM: Duration = Duration::from_secs(3_600);
/// The longest story so far has a tenth of it.
const STEPS_MAX: u64 = 2_000_000;
/// For the last messages, when their clients have stopped.
const LAST_WORDS: Duration = Duration::from_secs(120);
pub(crate) const BEGIN: Duration = Duration::from_secs(1_700_000_000);

/// A simulated cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) now: Duration,
    pub(crate) workers: Vec<Worker>,
    pub(crate) register: Register,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) ledger: Ledger,
    /// Everybody.
    clients: Vec<ClientId>,
    /// Lanes that neither end knows to be lost.
    lanes: BTreeSet<LaneId>,
    /// Lanes that broke, or whose worker died: only they lose messages.
    broken: BTreeSet<LaneId>,
    last_generation: u64,
    /// When the last bytes of a lane and direction arrive, by its generation.
    lane_arrivals: BTreeMap<(u64, bool), Duration>,
    /// Clients send no more.
    quiet: bool,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    /// When the last message of a link and direction arrives.
    arrivals: BTreeMap<(Session, bool), Duration>,
    last_session: Session,
    random: Random,
    faults: Faults,
    pub(crate) apps: Vec<AppName>,
    print: bool,
    pub(crate) summary: Summary,
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
    /// Workers that stopped in good order.
    pub worker_stops: u64,
    /// Lanes that broke though both their ends lived.
    pub lanes_broken: u64,
    /// What became of messages.
    pub messages: Totals,
    /// Everything that happened.
    pub steps: u64,
}

impl Summary {
    /// Two stories together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            committed: self.committed + other.committed,
            rolled_back: self.rolled_back + other.rolled_back,
            mixed: self.mixed + other.mixed,
            refused: self.refused + other.refused,
            register_deaths: self.register_deaths + other.register_deaths,
            worker_deaths: self.worker_deaths + other.worker_deaths,
            writes_failed: self.writes_failed + other.writes_failed,
            worker_stops: self.worker_stops + other.worker_stops,
            lanes_broken: self.lanes_broken + other.lanes_broken,
            messages: self.messages.plus(other.messages),
            steps: self.steps + other.steps,
        }
    }
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
    /// Turns without events, traps, and reports of who is moving.
    Work,
    ClientSends(usize, usize),
    ToSlot(LaneId, Vec<u8>),
    FromSlot(LaneId, Vec<u8>),
    TurnEnds(SlotId),
    Restarts(SlotId),
    /// A worker offers a lane of a slot to a gateway.
    Offers(SlotId, usize),
    /// The gateway notices that a lane is lost.
    LaneLost(LaneId),
    /// The slot notices that a lane is lost.
    LaneDown(LaneId),
    /// The gateway hears that a worker leaves.
    Leaves(usize, usize, u64),
    /// A worker that has left ends.
    Ends(usize, u64),
    /// Something that nobody asked for.
    Trouble,
    Operator,
}

impl Event {
    /// It has to do with messages only.
    fn is_of_lane(&self) -> bool {
        use Event::*;
        matches!(
            self,
            ClientSends(..)
                | ToSlot(..)
                | FromSlot(..)
                | TurnEnds(_)
                | Restarts(_)
                | Offers(..)
                | LaneLost(_)
                | LaneDown(_)
                | Leaves(..)
        )
    }
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
            let grant = Grant { events: 1 + random.below(8) as u32, bytes: 100 + random.below(2_000) as u32 };
            Some(Worker::new(at as usize, NodeName::new(&format!("w{at}")).ok()?, sizes, grant))
        });
        let workers: Vec<_> = workers.collect();
        // Only of apps that somebody serves.
        let served = 1 + usize::from(workers.iter().any(|worker| worker.apps.len() > 1));
        let mut gateways = Vec::new();
        for number in 0..(1 + random.below(2)) * u64::from(!random.one_in(10)) {
            let clients: Vec<_> =
                (0..1 + random.below(6)).map(|_| random.below(served as u64) as usize).collect();
            gateways.push(Gateway::new(number, &clients, apps.len()));
        }
        let everybody = gateways.iter().flat_map(|gateway| gateway.clients.iter().map(|client| client.id));
        let clients = everybody.collect();
        let faults = faults::Faults::of(&mut random);
        let mut cluster = Self {
            now: BEGIN,
            workers,
            register: Register::default(),
            gateways,
            ledger: Ledger::default(),
            clients,
            lanes: BTreeSet::new(),
            broken: BTreeSet::new(),
            last_generation: 0,
            lane_arrivals: BTreeMap::new(),
            quiet: false,
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
        for (at, gateway) in
            cluster.gateways.iter().map(|gateway| gateway.clients.len()).enumerate().collect::<Vec<_>>()
        {
            (0..gateway)
                .for_each(|client| cluster.after(Duration::from_secs(1), Event::ClientSends(at, client)));
        }
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
        self.last_words()
    }

    /// Until every message has come to its end.
    fn last_words(&mut self) -> Result<(), String> {
        self.quiet = true;
        let until = self.now + LAST_WORDS;
        let waits =
            |gateway: &Gateway| gateway.clients.iter().find(|client| client.waits()).map(|client| client.id);
        while let Some(client) = self.gateways.iter().find_map(waits) {
            if self.now > until {
                return Err(format!("{client} waits for ever: {:?}", self.gateways));
            }
            self.step()?;
        }
        check::messages(self)?;
        self.summary.messages = self.ledger.totals;
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
                self.drain()?;
                check::step(self)?;
            }
            _ => {
                let ((at, _), event) = self.queue.pop_first().ok_or("nothing happens any more")?;
                self.now = at;
                let of_lane = event.is_of_lane();
                self.happens(event)?;
                // The machines of deployments have not been touched.
                if !of_lane {
                    self.drain()?;
                    check::step(self)?;
                }
            }
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), String> {
        let now = self.now;
        if event.is_of_lane() {
            return self.happens_on_lane(event);
        }
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
            Event::Done { worker, life, app, what } => self.done(worker, life, &app, what)?,
            Event::Alone(at, life) => {
                if let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.life == life) {
                    worker.apps.values_mut().for_each(|app| app.rollout.alone());
                    self.pump(at)?;
                }
            }
            Event::Retry(at, life) => self.retry(at, life)?,
            Event::Dial(role, at) => self.dial(role, at),
            Event::RegisterStarts => self.register.start(now),
            Event::Work => self.work()?,
            Event::Trouble => self.trouble()?,
            Event::Operator => self.operator(),
            Event::Ends(at, life) => self.worker_ends(at, life),
            other => return Err(format!("nobody does {other:?}")),
        }
        Ok(())
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.print {
            println!("{:>12.6} {}", (self.now - BEGIN).as_secs_f64(), what());
        }
    }
}
