//! The apps that are made at run time, on one node: the last list of the register is carried out, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_base::{AppName, AppSpec, CpuShare, Label, Role, Usage};
use tidegate_gateway::settings::{AppSettings, AppState};
use tidegate_keys::Keys;
use tidegate_runtime::CpuBudget;
use tidegate_wire::control::{Catalog, CatalogApp, FixedApp, TROUBLES_MAX, Trouble};
use tidegate_worker::{ConfigureAppError, Worker, WorkerApp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accept::SharedGateway;
use crate::config::{AppConfig, Solitude, shared_settings};
use crate::dial::SharedWorker;
use crate::plugins::worker_app;
use crate::tenants::TenantBudgets;

/// What was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The list's.
    pub revision: u64,
    /// What of it could not be done.
    pub troubles: Vec<Trouble>,
}

/// Where apps come and go.
pub(crate) enum Place {
    /// At a gateway, which has ports that apps share or has none.
    Gateway(SharedGateway, bool),
    /// At a worker.
    Worker(WorkerPlace),
}

/// A worker, as apps come to it.
pub(crate) struct WorkerPlace {
    pub worker: SharedWorker,
    pub labels: Vec<Label>,
    pub solitude: Solitude,
    pub tenants: Arc<TenantBudgets>,
    pub keys: Arc<dyn Keys>,
}

/// The apps of one role of a node.
pub(crate) struct Apps {
    place: Place,
    fixed: Vec<FixedApp>,
    /// The newest list; those between are passed over.
    wanted: watch::Sender<Option<Catalog>>,
    applied: watch::Sender<Option<Applied>>,
}

impl std::fmt::Debug for Apps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apps").field("applied", &self.applied).finish_non_exhaustive()
    }
}

/// An app that is here.
struct Here {
    app: CatalogApp,
    /// At a worker: what its turns may use of the processors, as long as it is here.
    budget: Option<Arc<CpuBudget>>,
    /// What of its settings does not hold yet.
    note: Option<String>,
}

/// What is to be done with an app.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It goes.
    Remove(AppName),
    /// It comes, or has other settings.
    Put(Box<CatalogApp>),
}

impl Apps {
    /// Knows the apps of the settings file, which no list changes.
    pub fn new(place: Place, fixed: &[AppConfig]) -> Arc<Self> {
        let role = place.role();
        let fixed = fixed.iter().map(|app| FixedApp { app: app.name.clone(), usage: usage(role, app) });
        let fixed = fixed.collect();
        Arc::new(Self { place, fixed, wanted: watch::Sender::new(None), applied: watch::Sender::new(None) })
    }

    /// The apps of the settings file.
    pub fn fixed(&self) -> Vec<FixedApp> {
        self.fixed.clone()
    }

    /// The register has a list.
    pub fn want(&self, catalog: Catalog) {
        self.wanted.send_replace(Some(catalog));
    }

    /// What is carried out from now on.
    pub fn applied(&self) -> watch::Receiver<Option<Applied>> {
        let mut applied = self.applied.subscribe();
        applied.mark_unchanged();
        applied
    }

    /// Whether a list was ever carried out.
    pub fn has_applied(&self) -> bool {
        self.applied.borrow().is_some()
    }

    /// Waits until a list was carried out.
    pub async fn first(&self) {
        // The sender is this one's own.
        let _ = self.applied.subscribe().wait_for(Option::is_some).await;
    }

    /// Carries out each list, for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut wanted = self.wanted.subscribe();
        // One may have come before.
        wanted.mark_changed();
        let mut have: BTreeMap<AppName, Here> = BTreeMap::new();
        let mut told: Vec<Trouble> = Vec::new();
        while wanted.changed().await.is_ok() {
            let Some(catalog) = wanted.borrow_and_update().clone() else { continue };
            let revision = catalog.revision;
            let mut troubles = self.carry_out(catalog, &mut have).await;
            troubles.truncate(TROUBLES_MAX);
            for trouble in troubles.iter().filter(|trouble| !told.contains(trouble)) {
                tracing::warn!(app = %trouble.app, "{}", trouble.reason);
            }
            told.clone_from(&troubles);
            self.applied.send_replace(Some(Applied { revision, troubles }));
        }
    }

    /// What could not be done is tried again with every list.
    async fn carry_out(&self, catalog: Catalog, have: &mut BTreeMap<AppName, Here>) -> Vec<Trouble> {
        if let Place::Worker(place) = &self.place {
            place.tenants.set(&catalog.shares);
        }
        let all: BTreeSet<_> = catalog.apps.iter().map(|app| app.app.clone()).collect();
        let fixed: BTreeSet<&AppName> = self.fixed.iter().map(|fixed| &fixed.app).collect();
        let (own, both): (Vec<_>, Vec<_>) =
            catalog.apps.into_iter().partition(|app| !fixed.contains(&app.app));
        let mut troubles: Vec<_> = both
            .into_iter()
            .map(|app| {
                let reason =
                    "it stands in the settings file of this node too, which counts: take it out of the file";
                Trouble::new(app.app, reason.to_owned())
            })
            .collect();
        troubles.extend(own.iter().filter_map(|app| self.place.unreachable(app)));
        let wanted = own.into_iter().filter_map(|app| self.place.part(app)).collect();
        let (mut gone, mut puts) = (Vec::new(), Vec::new());
        let known = have.iter().map(|(name, here)| (name.clone(), here.app.clone())).collect();
        for step in steps(&known, wanted) {
            match step {
                Step::Remove(app) => gone.push(app),
                Step::Put(app) => puts.push(*app),
            }
        }
        gone.iter().for_each(|app| drop(have.remove(app)));
        self.place.remove(gone).await;
        if let Place::Worker(place) = &self.place {
            // Those that are suspended or on another worker are there, and keep what they have.
            place.keys.retain(catalog.revision, all);
        }
        // What one of them needs, a route for instance, another may give up after it.
        let again = self.put(puts, have).await.into_iter().map(|(app, _)| app).collect();
        let failed = self.put(again, have).await.into_iter();
        troubles.extend(failed.map(|(app, reason)| Trouble::new(app.app, reason)));
        // Said once.
        let notes =
            have.iter_mut().filter_map(|(app, here)| Some(Trouble::new(app.clone(), here.note.take()?)));
        troubles.extend(notes);
        troubles
    }

    /// Returns those that cannot be, and why.
    async fn put(
        &self,
        apps: Vec<CatalogApp>,
        have: &mut BTreeMap<AppName, Here>,
    ) -> Vec<(CatalogApp, String)> {
        let mut failed = Vec::new();
        for app in apps {
            let known = have.get(&app.app).and_then(|known| known.budget.clone());
            let budget = known.or_else(|| self.place.budget_of(&app.app));
            match self.place.put(&app, budget.as_ref()).await {
                Ok(note) => {
                    let name = app.app.clone();
                    have.insert(name, Here { app, budget, note });
                }
                // What was there before still is.
                Err(reason) => failed.push((app, reason)),
            }
        }
        failed
    }
}

impl Place {
    fn role(&self) -> Role {
        match self {
            Self::Gateway(..) => Role::Gateway,
            Self::Worker(..) => Role::Worker,
        }
    }

    /// Why no client can come to an app here, if none can.
    fn unreachable(&self, app: &CatalogApp) -> Option<Trouble> {
        let reason = match self {
            Self::Worker(..) => return None,
            Self::Gateway(..) if app.suspended => return None,
            Self::Gateway(_, false) => {
                "no client can reach it here: this gateway has no [[listener]] in its settings file"
            }
            Self::Gateway(..) if app.spec.routes.is_empty() => {
                "no client can reach it: give it `routes` in its settings file, and configure it with that"
            }
            Self::Gateway(..) => return None,
        };
        Some(Trouble::new(app.app.clone(), reason.to_owned()))
    }

    /// What concerns this place of an app, so that a change of the rest changes nothing here. None: it is not to be here.
    fn part(&self, app: CatalogApp) -> Option<CatalogApp> {
        match self {
            Self::Gateway(..) => Some(CatalogApp { spec: gateway_part(app.spec), ..app }),
            Self::Worker(place) => {
                let has = |label: &Label| place.labels.contains(label);
                let is_wanted = !app.suspended && app.spec.require.iter().all(has);
                is_wanted.then(|| CatalogApp { empty: false, spec: worker_part(app.spec), ..app })
            }
        }
    }

    /// Returns when they are gone, each in good order; all at the same time.
    async fn remove(&self, apps: Vec<AppName>) {
        let mut going = JoinSet::new();
        for app in apps {
            match self {
                Self::Gateway(gateway, _) => {
                    gateway.read().as_ref().map(|gateway| gateway.remove_app(&app));
                }
                Self::Worker(place) => {
                    if let Some(worker) = place.worker.read().clone() {
                        going.spawn(async move { worker.remove_app(&app).await });
                    }
                }
            }
        }
        while going.join_next().await.is_some() {}
    }

    /// None: turns do not run here.
    fn budget_of(&self, app: &AppName) -> Option<Arc<CpuBudget>> {
        match self {
            Self::Gateway(..) => None,
            Self::Worker(place) => Some(place.tenants.budget_of(app, CpuShare::default())),
        }
    }

    /// A note: what of its settings does not hold yet.
    async fn put(&self, app: &CatalogApp, budget: Option<&Arc<CpuBudget>>) -> Result<Option<String>, String> {
        let config = AppConfig::from_spec(app.app.clone(), &app.spec);
        match self {
            Self::Gateway(gateway, _) => {
                let settings = gateway_app(&config, app)?;
                let added = gateway.read().as_ref().map(|gateway| gateway.add_app(&settings));
                added.unwrap_or(Ok(())).map(|()| None).map_err(|error| error.to_string())
            }
            Self::Worker(place) => {
                let worker = place.worker.read().clone();
                let (Some(worker), Some(budget)) = (worker, budget) else { return Ok(None) };
                let empty = WorkerApp { born: app.born, ..WorkerApp::empty(config.name.clone()) };
                let wanted = worker_app(&config, &place.solitude, empty);
                put_on_worker(&worker, &config, WorkerApp { budget: Arc::clone(budget), ..wanted }).await
            }
        }
    }
}

/// What is said of settings that an instance is made with.
const WAITS: &str = "`memory_mib`, `turn_cpu_ms`, `turn_wall_ms` and [settings] hold for instances that start from now on: \
                     deploy the app again to start all of them anew";

/// Adds an app, or gives one that is there other settings. A note: what of them does not hold yet.
async fn put_on_worker(
    worker: &Worker,
    config: &AppConfig,
    app: WorkerApp,
) -> Result<Option<String>, String> {
    let budget = Arc::clone(&app.budget);
    match worker.configure_app(&app).await {
        Ok(waits) => {
            budget.set_share(config.cpu_share);
            Ok(waits.then(|| WAITS.to_owned()))
        }
        Err(ConfigureAppError::NotHere { .. }) => {
            budget.set_share(config.cpu_share);
            worker.add_app(app).await.map(|()| None).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What leads from what is there to what is wanted: first what goes, so that there is room. An app that was deleted and made
/// anew meanwhile is another one.
fn steps(have: &BTreeMap<AppName, CatalogApp>, wanted: Vec<CatalogApp>) -> Vec<Step> {
    let wanted: BTreeMap<_, _> = wanted.into_iter().map(|app| (app.app.clone(), app)).collect();
    let goes = |(name, known): &(&AppName, &CatalogApp)| {
        wanted.get(*name).is_none_or(|wanted| wanted.born != known.born)
    };
    let removed: BTreeSet<_> = have.iter().filter(goes).map(|(name, _)| name.clone()).collect();
    let mut steps: Vec<_> = removed.iter().cloned().map(Step::Remove).collect();
    let is_there = |app: &CatalogApp| !removed.contains(&app.app) && have.get(&app.app) == Some(app);
    steps.extend(wanted.into_values().filter(|app| !is_there(app)).map(|app| Step::Put(Box::new(app))));
    steps
}

fn gateway_app(config: &AppConfig, app: &CatalogApp) -> Result<AppSettings, String> {
    let mut settings = AppSettings::new(config.name.clone());
    settings.state = match (app.suspended, app.empty) {
        (true, _) => AppState::Suspended,
        (false, true) => AppState::Empty,
        (false, false) => AppState::Active,
    };
    settings.limits = config.limits;
    settings.shared = shared_settings(&app.spec)?;
    Ok(settings)
}

/// What a gateway looks at.
fn gateway_part(spec: AppSpec) -> AppSpec {
    AppSpec {
        slots: None,
        min_slots: None,
        slot_idle_ms: None,
        memory_mib: None,
        turn_cpu_ms: None,
        turn_wall_ms: None,
        cpu_share_millis: None,
        turn_output_bytes_max: None,
        commands_per_turn_max: None,
        timers_max: None,
        state_bytes_max: None,
        module_bytes_max: None,
        keys_bytes_max: None,
        log_lines_per_s: None,
        on_failure: None,
        require: Vec::new(),
        settings: BTreeMap::new(),
        ..spec
    }
}

/// What a worker looks at.
fn worker_part(spec: AppSpec) -> AppSpec {
    AppSpec {
        connections_max: None,
        client_events_max: None,
        client_messages_per_s: None,
        client_bytes_per_s: None,
        messages_per_s: None,
        bytes_per_s: None,
        connects_per_s: None,
        client_out_messages_per_s: None,
        client_out_bytes_per_s: None,
        out_messages_per_s: None,
        out_bytes_per_s: None,
        out_bytes_max: None,
        groups_per_client_max: None,
        slow_policy: None,
        routes: Vec::new(),
        origins: None,
        heartbeat: None,
        ..spec
    }
}

/// What an app of the settings file has at this role.
fn usage(role: Role, app: &AppConfig) -> Usage {
    let (slots, memory) = (u64::from(app.slots), u64::from(app.instance.memory_mib));
    match role {
        Role::Worker => Usage {
            apps: 1,
            slots,
            memory_mib: slots.saturating_mul(memory),
            connections: 0,
            cpu_share_millis: app.cpu_share.millis().into(),
        },
        _ => Usage { apps: 1, connections: app.limits.connections_max as u64, ..Usage::default() },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(name: u8, born: u64, slots: u64) -> CatalogApp {
        let app = AppName::new(&format!("a{name}")).unwrap();
        CatalogApp {
            app,
            born,
            suspended: false,
            empty: false,
            spec: AppSpec { slots: Some(slots), ..AppSpec::default() },
        }
    }

    fn apps() -> impl Strategy<Value = Vec<CatalogApp>> {
        let one = (1..3_u64, 1..3_u64, any::<(bool, bool)>());
        prop::collection::btree_map(0..5_u8, one, 0..5).prop_map(|apps| {
            let of = |(name, (born, slots, (suspended, empty)))| CatalogApp {
                suspended,
                empty,
                ..app(name, born, slots)
            };
            apps.into_iter().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn steps_lead_from_any_list_to_any_other_and_touch_nothing_else(before in apps(), after in apps()) {
            let mut have: BTreeMap<_, _> = before.into_iter().map(|app| (app.app.clone(), app)).collect();
            let mut seen_put = false;
            for step in steps(&have.clone(), after.clone()) {
                match step {
                    Step::Remove(name) => {
                        prop_assert!(!seen_put, "what goes makes room first");
                        prop_assert!(have.remove(&name).is_some());
                    }
                    Step::Put(app) => {
                        seen_put = true;
                        prop_assert_ne!(have.get(&app.app), Some(&*app), "what is there is left alone");
                        prop_assert!(have.get(&app.app).is_none_or(|known| known.born == app.born));
                        have.insert(app.app.clone(), *app);
                    }
                }
            }
            prop_assert_eq!(have.into_values().collect::<Vec<_>>(), after.clone());
            let have = after.iter().map(|app| (app.app.clone(), app.clone())).collect();
            prop_assert!(steps(&have, after).is_empty());
        }
    }

    #[test]
    fn what_the_other_role_looks_at_changes_nothing() {
        let spec = AppSpec { slots: Some(3), connections_max: Some(5), ..AppSpec::default() };
        let (gateway, worker) = (gateway_part(spec.clone()), worker_part(spec));
        assert_eq!((gateway.slots, gateway.connections_max), (None, Some(5)));
        assert_eq!((worker.slots, worker.connections_max), (Some(3), None));
        for spec in [gateway_part(AppSpec::default()), worker_part(AppSpec::default())] {
            assert_eq!(spec, AppSpec::default());
        }
    }
}
