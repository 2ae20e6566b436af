//! A worker that does at once what it is told, unless it is told otherwise by the test.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::{AppName, Digest, NodeName, Role};
use tidegate_link::{Link, Peer, memory_pair};
use tidegate_wire::control::{Control, DesiredApp, Failure, NodeInfo, SlotSwitch, Stage, VersionRef};
use tidegate_wire::rollout::{Do, Rollout};
use tokio::sync::{Notify, watch};

use crate::Register;

/// How a worker takes what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Willing,
    /// Fresh instances do not start, for this reason.
    FailsToStart(&'static str),
    /// It neither prepares nor switches until it is willing again.
    Waits,
}

/// The last that a worker was told, and what its slots run.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub revision: u64,
    pub desired: Option<DesiredApp>,
    pub told: u32,
    pub slots: Vec<Option<u32>>,
}

pub(super) struct Worker {
    pub link: Link,
    pub seen: watch::Receiver<Seen>,
    mood: Arc<(Mutex<Mood>, Notify)>,
}

impl Worker {
    /// Joins with two slots of the app.
    pub fn join(register: &Register, name: &str, mood: Mood) -> Self {
        let (link, there) = memory_pair(peer(Role::Worker, name), peer(Role::Register, "r"));
        register.add_link(there);
        let own = VersionRef { number: 0, digest: Digest::of(b"own") };
        let (seen, watched) = watch::channel(Seen::default());
        let mood = Arc::new((Mutex::new(mood), Notify::new()));
        let playing = Playing {
            rollout: Rollout::new(chat(), own, 2),
            mood: Arc::clone(&mood),
            waiting: Vec::new(),
            seen,
        };
        tokio::spawn(playing.run(link.clone(), info(Role::Worker, name)));
        Self { link, seen: watched, mood }
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.0.lock() = mood;
        self.mood.1.notify_one();
    }

    /// Waits until both slots run this version.
    pub async fn runs(&mut self, number: u32) {
        let both = [Some(number); 2];
        self.seen.wait_for(|seen| seen.slots == both).await.unwrap();
    }
}

struct Playing {
    rollout: Rollout,
    mood: Arc<(Mutex<Mood>, Notify)>,
    waiting: Vec<Do>,
    seen: watch::Sender<Seen>,
}

impl Playing {
    async fn run(mut self, link: Link, info: NodeInfo) {
        let (control, mut messages) = link.take_control().unwrap();
        control.send(Control::Announce(info).to_bytes()).unwrap();
        loop {
            while let Some(next) = self.rollout.poll() {
                if next == Do::Report {
                    let report = self.rollout.report(Vec::new());
                    let _ = control.send(Control::AppReports(vec![report]).to_bytes());
                } else {
                    self.act(next);
                }
            }
            self.rollout.check_invariants().unwrap();
            let slots = self.rollout.slots().map(|runs| runs.map(|version| version.number)).collect();
            self.seen.send_modify(|seen| seen.slots = slots);
            tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => self.hear(Control::from_bytes(&message).unwrap()),
                    Err(_) => return,
                },
                () = self.mood.1.notified() => {
                    std::mem::take(&mut self.waiting).into_iter().for_each(|next| self.act(next));
                }
            }
        }
    }

    fn hear(&mut self, message: Control) {
        let Control::Apps { revision, apps } = message else { return };
        let desired = apps.into_iter().find(|desired| desired.app == chat());
        match &desired {
            Some(desired) => self.rollout.desired(desired),
            None => self.rollout.alone(),
        }
        self.seen.send_modify(|seen| {
            assert!(seen.told == 0 || revision >= seen.revision);
            (seen.revision, seen.told, seen.desired) = (revision, seen.told + 1, desired);
        });
    }

    fn act(&mut self, next: Do) {
        let mood = *self.mood.0.lock();
        match (next, mood) {
            (Do::Prepare { .. } | Do::Switch { .. }, Mood::Waits) => self.waiting.push(next),
            (Do::Prepare { slot, .. }, Mood::FailsToStart(why)) => {
                self.rollout.slot_failed(slot, Failure::new(Some(slot), Stage::Start, why.into()));
            }
            (Do::Load(version), _) => self.rollout.module_ready(version.digest),
            (Do::Start { slot, .. }, _) => self.rollout.slot_started(slot),
            (Do::Prepare { slot, .. }, _) => self.rollout.slot_prepared(slot),
            (Do::Switch { slot, .. }, _) => {
                let (pause_us, first_event_us) = (40, Some(7));
                self.rollout.slot_switched(SlotSwitch {
                    slot,
                    pause_us,
                    first_event_us,
                    ..SlotSwitch::default()
                });
            }
            (Do::Discard { slot }, _) => self.rollout.slot_discarded(slot),
            (Do::Empty { slot }, _) => self.rollout.slot_emptied(slot),
            (Do::Unload(_) | Do::Report, _) => {}
        }
    }
}

pub(super) fn chat() -> AppName {
    AppName::new("chat").unwrap()
}

pub(super) fn peer(role: Role, name: &str) -> Peer {
    Peer { role, name: NodeName::new(name).unwrap(), address: None }
}

pub(super) fn info(role: Role, name: &str) -> NodeInfo {
    let gateway = (role == Role::Gateway).then(|| tidegate_base::GatewayId::new(7));
    NodeInfo { name: NodeName::new(name).unwrap(), role, address: None, gateway }
}
