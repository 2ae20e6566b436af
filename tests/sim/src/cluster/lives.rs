//! What happens by itself: work, people, and lives and links that end.

use std::time::Duration;

use tidegate_base::{NodeName, Role};

use super::{BEGIN, Cluster, Event, STORM};
use crate::operator::wish;

impl Cluster {
    // === what happens by itself ===

    pub(super) fn pump(&mut self, at: usize) -> Result<(), String> {
        let mut events = Vec::new();
        let Some(worker) = self.workers.get_mut(at) else { return Ok(()) };
        let reports = worker.pump(at, &mut self.random, &mut events);
        let message = worker.session.filter(|_| reports).map(|session| (session, worker.reports()));
        events.into_iter().for_each(|(delay, event)| self.after(delay, event));
        if let Some((session, reports)) = message {
            self.send_to_register(session, &reports);
        }
        self.all_go_on(at)
    }

    pub(super) fn work(&mut self) -> Result<(), String> {
        for at in 0..self.workers.len() {
            self.other_work(at)?;
            let Some(worker) = self.workers.get(at) else { continue };
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
            self.pump(at)?;
        }
        self.after(Duration::from_secs(1), Event::Work);
        Ok(())
    }

    pub(super) fn retry(&mut self, at: usize, life: u64) -> Result<(), String> {
        if let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.life == life) {
            let stuck = worker.apps.values_mut().filter(|app| app.rollout.is_stuck());
            stuck.for_each(|app| app.rollout.retry());
            self.pump(at)?;
        }
        Ok(())
    }

    pub(super) fn trouble(&mut self) -> Result<(), String> {
        let at = self.random.below(self.workers.len() as u64) as usize;
        if self.random.one_in(self.faults.worker) {
            self.summary.worker_deaths += 1;
            self.note(|| format!("worker {at} dies"));
            self.lanes_end(at, true);
            self.cut(Role::Worker, at);
            self.worker_starts(at);
        }
        if self.random.one_in(self.faults.stop) {
            self.worker_stops(at)?;
        }
        if self.random.one_in(self.faults.lane) {
            self.lane_breaks();
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
        Ok(())
    }

    pub(super) fn operator(&mut self) {
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

    pub(super) fn worker_starts(&mut self, at: usize) {
        let Some(worker) = self.workers.get_mut(at) else { return };
        worker.start();
        let life = worker.life;
        self.after(Duration::from_secs(5), Event::Alone(at, life));
        self.redial(Role::Worker, at);
    }

    pub(super) fn register_dies(&mut self) {
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
    pub(super) fn cut(&mut self, role: Role, at: usize) {
        let link = match role {
            Role::Worker => self.workers.get_mut(at).map(|worker| &mut worker.session),
            _ => self.gateways.get_mut(at).map(|gateway| &mut gateway.session),
        };
        if let Some(session) = link.and_then(Option::take) {
            self.queue.retain(|_, event| !matches!(event, Event::ToRegister(of, _) | Event::Linked(of, ..) if *of == session));
            let noticed = self.random.delay(Duration::from_secs(2));
            self.after(noticed, Event::Unlinked(session));
        }
    }

    pub(super) fn redial(&mut self, role: Role, at: usize) {
        let pause = self.random.delay(Duration::from_secs(1));
        self.after(pause, Event::Dial(role, at));
    }

    pub(super) fn dial(&mut self, role: Role, at: usize) {
        if self.register.machine.is_none() {
            return self.redial(role, at);
        }
        let session = self.last_session + 1;
        let link = match role {
            Role::Worker => self.workers.get_mut(at).map(|worker| &mut worker.session),
            _ => self.gateways.get_mut(at).map(|gateway| &mut gateway.session),
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

    pub(super) fn name(&self, role: Role, at: usize) -> Option<NodeName> {
        match role {
            Role::Worker => self.workers.get(at).map(|worker| worker.name.clone()),
            _ => NodeName::new(&format!("g{at}")).ok(),
        }
    }
}
