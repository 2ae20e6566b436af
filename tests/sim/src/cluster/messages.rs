//! What register, workers and gateways say to each other.

use std::time::Duration;

use tidegate_base::AppName;
use tidegate_register::deployment::{Output, Record};
use tidegate_wire::control::{AppClients, Control};
use tidegate_wire::directory::Session;
use tidegate_wire::report::{Outcome, Progress};

use super::{Cluster, Event};
use crate::check;
use crate::traffic::gateway::Counts;

impl Cluster {
    // === messages ===

    pub(super) fn register_hears(&mut self, session: Session, bytes: &[u8]) -> Result<(), String> {
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

    pub(super) fn worker_hears(&mut self, at: usize, session: Session, bytes: &[u8]) -> Result<(), String> {
        let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.session == Some(session)) else {
            return Ok(());
        };
        match Control::from_bytes(bytes).map_err(|error| error.to_string())? {
            Control::Apps { apps, .. } => worker.told(&apps),
            other => return Err(format!("a worker got {other:?}")),
        }
        self.pump(at)
    }

    pub(super) fn gateway_hears(&mut self, at: usize, session: Session, bytes: &[u8]) -> Result<(), String> {
        let Some(gateway) = self.gateways.get(at).filter(|gateway| gateway.session == Some(session)) else {
            return Ok(());
        };
        if self.random.one_in(self.faults.count) {
            return Ok(());
        }
        let Control::Census { number } = Control::from_bytes(bytes).map_err(|error| error.to_string())?
        else {
            return Err("a gateway got something else than a census".into());
        };
        let count = |(number, app): (usize, &AppName)| {
            let clients = gateway.clients.iter().filter(|client| client.app == number).count() as u64;
            let Counts { events, lost } = gateway.counts.get(number).copied().unwrap_or_default();
            AppClients { app: app.clone(), clients, opened: clients, closed: 0, events, lost }
        };
        let apps = self.apps.iter().enumerate().map(count).collect();
        self.send_to_register(session, &Control::Counted { number, apps });
        Ok(())
    }

    pub(super) fn send_to_register(&mut self, session: Session, message: &Control) {
        let at = self.arrival(session, true);
        self.at(at, Event::ToRegister(session, message.to_bytes()));
    }

    /// Links keep the order of their messages.
    pub(super) fn arrival(&mut self, session: Session, to_register: bool) -> Duration {
        let delay = self.random.delay(Duration::from_millis(2));
        let last = self.arrivals.entry((session, to_register)).or_default();
        *last = (self.now + delay).max(*last + Duration::from_nanos(1));
        *last
    }

    // === what the register wants ===

    pub(super) fn drain(&mut self) -> Result<(), String> {
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
                        if let Some(session) = self.gateways.get(at).and_then(|gateway| gateway.session) {
                            let arrival = self.arrival(session, false);
                            let bytes = Control::Census { number }.to_bytes();
                            self.at(arrival, Event::ToGateway(at, session, bytes));
                        }
                    }
                }
                // No gateway of the simulation has apps that were made at run time.
                Output::FirstVersions => {}
                Output::Progress { app, number, news } => self.heard(&app, number, &news)?,
            }
        }
        Ok(())
    }

    pub(super) fn heard(&mut self, app: &AppName, number: u32, news: &Progress) -> Result<(), String> {
        self.note(|| format!("{app} {number}: {news}"));
        let Progress::Ended(report) = news else { return Ok(()) };
        *match &report.outcome {
            Outcome::Committed => &mut self.summary.committed,
            Outcome::RolledBack { .. } => &mut self.summary.rolled_back,
            Outcome::Mixed { .. } => &mut self.summary.mixed,
        } += 1;
        check::ended(self, report)
    }

    pub(super) fn stored(&mut self, life: u64, app: AppName, record: Record) {
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
}
