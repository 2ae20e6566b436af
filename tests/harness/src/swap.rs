//! Swaps without a register: a test says what one worker should run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use tidegate_base::{AppName, Digest};
use tidegate_runtime::Modules;
use tidegate_wire::control::{
    AppReport, DesiredApp, DesiredRollout, Failure, RolloutPhase, RolloutReport, Stage, Step, VersionRef,
};
use tidegate_worker::{Loading, ModuleSource, Orders};

/// Modules that tests have named, by digest.
pub(crate) struct Shelf {
    modules: &'static Modules,
}

impl Shelf {
    pub fn new(modules: &'static Modules) -> Arc<Self> {
        Arc::new(Self { modules })
    }

    /// Puts a component onto the shelf.
    pub fn put(bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        shelf().lock().unwrap().insert(digest, Arc::new(bytes));
        digest
    }
}

fn shelf() -> &'static Mutex<HashMap<Digest, Arc<Vec<u8>>>> {
    static SHELF: OnceLock<Mutex<HashMap<Digest, Arc<Vec<u8>>>>> = OnceLock::new();
    SHELF.get_or_init(Mutex::default)
}

impl ModuleSource for Shelf {
    fn load(&self, _: &AppName, version: VersionRef, _: u64) -> Loading {
        let (modules, bytes) = (self.modules, shelf().lock().unwrap().get(&version.digest).cloned());
        Box::pin(async move {
            let failed = |stage, reason: String| Failure::new(None, stage, reason);
            let bytes = bytes.ok_or_else(|| failed(Stage::Fetch, "nobody has it".into()))?;
            let loaded = tokio::task::spawn_blocking(move || modules.load(&bytes)).await.unwrap();
            loaded.map_err(|error| failed(Stage::Compile, error.to_string()))
        })
    }
}

/// What a register would tell one worker of one app, said by a test.
#[derive(Debug)]
pub struct Swapper {
    orders: Orders,
    app: AppName,
    /// None: nothing was deployed yet.
    stable: Option<VersionRef>,
}

impl Swapper {
    pub(crate) fn new(orders: Orders, app: AppName, stable: VersionRef) -> Self {
        Self { orders, app, stable: Some(stable) }
    }

    /// How an app of the same worker is taken to its first version and others.
    pub fn of_empty(&self, app: &str) -> Self {
        Self { orders: self.orders.clone(), app: AppName::new(app).unwrap(), stable: None }
    }

    /// Whether the worker has the app, as far as its conductor knows.
    pub fn is_known(&self) -> bool {
        self.orders.reports().borrow().iter().any(|report| report.app == self.app)
    }

    /// Takes the app to the next version, or back if that fails, and says how it went.
    pub async fn swap(&mut self, component: Vec<u8>) -> RolloutReport {
        let version = self.shelve(component);
        self.swap_to(version).await
    }

    /// The next version, if it is this component; the worker is told nothing.
    pub fn shelve(&self, component: Vec<u8>) -> VersionRef {
        VersionRef {
            number: self.stable.map_or(0, |stable| stable.number) + 1,
            digest: Shelf::put(component),
        }
    }

    /// Takes the app to this version, or back if that fails, and says how it went.
    pub async fn swap_to(&mut self, version: VersionRef) -> RolloutReport {
        for (phase, goal) in [
            (RolloutPhase::Prepare, Step::Prepared),
            (RolloutPhase::Switch { slots: u32::MAX }, Step::Switched),
        ] {
            let report = self.order(version, phase, goal).await;
            if report.failure.is_some() {
                let back = self.order(version, RolloutPhase::Back, Step::Back).await;
                self.end().await;
                return RolloutReport { failure: report.failure, ..back };
            }
            if goal == Step::Switched {
                self.commit(version).await;
                return report;
            }
        }
        unreachable!("the last phase returns")
    }

    /// Orders one phase of a rollout, and waits until it is reached or something has failed.
    pub async fn order(&mut self, version: VersionRef, phase: RolloutPhase, goal: Step) -> RolloutReport {
        self.say(Some(DesiredRollout { version, phase })).await;
        let back = phase == RolloutPhase::Back;
        let first = match phase {
            RolloutPhase::Switch { slots } => slots as usize,
            RolloutPhase::Prepare | RolloutPhase::Back => 0,
        };
        let reached = |report: &AppReport| {
            let rollout = report.rollout.as_ref().filter(|rollout| rollout.version == version.number)?;
            // A report may be one of an earlier order that wanted fewer slots.
            let run = report.slots.iter().take(first).all(|slot| *slot == Some(version.number));
            let ended = rollout.step == goal && run || rollout.step == Step::Stuck;
            (ended || !back && rollout.failure.is_some()).then(|| rollout.clone())
        };
        self.until(reached).await
    }

    /// Says that this version is what runs, and waits for nothing.
    pub async fn say_stable(&mut self, version: VersionRef) {
        self.stable = Some(version);
        self.say(None).await;
    }

    /// Orders one phase of a rollout, and waits for nothing.
    pub async fn begin(&mut self, version: VersionRef, phase: RolloutPhase) {
        self.say(Some(DesiredRollout { version, phase })).await;
    }

    /// This version is what runs from now on.
    pub async fn commit(&mut self, version: VersionRef) {
        self.stable = Some(version);
        self.end().await;
    }

    /// How the app does.
    pub fn report(&self) -> AppReport {
        let reports = self.orders.reports();
        let of_app = reports.borrow().iter().find(|report| report.app == self.app).cloned();
        of_app.expect("a report of the app")
    }

    /// What runs.
    pub fn stable(&self) -> VersionRef {
        self.stable.expect("something was deployed")
    }

    async fn say(&self, rollout: Option<DesiredRollout>) {
        let desired = DesiredApp { app: self.app.clone(), stable: self.stable, rollout };
        self.orders.desired(vec![desired]).await;
    }

    /// No rollout any more. Waits until the worker has heard it, so that nobody takes an old report for a new one.
    async fn end(&self) {
        self.say(None).await;
        let ended = |report: &AppReport| match &report.rollout {
            None => Some(()),
            Some(rollout) => (rollout.step == Step::Stuck).then_some(()),
        };
        self.until(ended).await;
    }

    async fn until<T>(&self, reached: impl Fn(&AppReport) -> Option<T>) -> T {
        let mut reports = self.orders.reports();
        let wait = async {
            loop {
                if let Some(reached) = reached(&self.report()) {
                    return reached;
                }
                reports.changed().await.expect("the conductor runs");
            }
        };
        match tokio::time::timeout(crate::DEADLINE, wait).await {
            Ok(reached) => reached,
            Err(_) => panic!("the rollout did not come so far: {:?}", self.report()),
        }
    }
}
