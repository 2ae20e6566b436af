//! The desk's part about tenants and apps that are made at run time: one order after the other is planned, written down,
//! and told to gateways and workers, whose word that they do it is waited for.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tidegate_base::{AppName, Role};
use tidegate_store::{CatalogRecords, StoreError};
use tidegate_wire::control::{Catalog as List, CatalogApp, Control, FixedApp, TROUBLES_MAX, Trouble};
use tidegate_wire::directory::Session;
use tidegate_wire::request::{Created, Effect, NodeRef, NodeTrouble, Order, Refusal};
use tokio::time::Instant;

use super::Reply;
use super::disk::Job;
use super::refusal;
use super::task::{Asker, Node, Task};
use crate::catalog::{Catalog, Change};
use crate::counters;
use crate::deployment::DeployRequest;

/// How long gateways and workers have to do what they are told, before whoever ordered it hears which do not yet. A slot that
/// is to end has its turns to finish.
const EFFECT_WAIT: Duration = Duration::from_secs(15);

/// Orders that wait for one that is being written; more are refused.
const ORDERS_MAX: usize = 64;

/// Names of deleted apps that are remembered, until every worker has told that it has them no more.
const DELETED_MAX: usize = 10_000;

/// What the desk knows of tenants and apps.
#[derive(Debug, Default)]
pub(super) struct Management {
    pub catalog: Catalog,
    /// Counts the changes of which apps have a version.
    versions: u64,
    /// The order that is being written down.
    writing: Option<Writing>,
    /// Those behind it.
    orders: VecDeque<Ordered>,
    /// Who waits for nodes to have done what was ordered.
    waiting: Vec<Waiting>,
    /// Apps that were deleted: a worker may report them for a moment yet.
    deleted: BTreeSet<AppName>,
}

/// An order, and who gave it.
#[derive(Debug)]
pub(super) struct Ordered {
    pub order: Order,
    pub by: String,
    pub reply: Reply<Effect>,
}

#[derive(Debug)]
struct Writing {
    ordered: Ordered,
    change: Change,
}

#[derive(Debug)]
struct Waiting {
    revision: u64,
    until: Duration,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// Answer an order that concerned these apps.
    Answer { apps: Vec<AppName>, reply: Reply<Effect> },
    /// Begin a deployment: workers were not told of the app yet.
    Deploy { request: Box<DeployRequest>, asked: Instant, asker: Asker },
}

/// What a node knows of the catalog.
#[derive(Debug, Default)]
pub(super) struct Knows {
    /// The list that it was told last.
    told: Option<Edition>,
    /// It has not said that it does that list.
    under_way: bool,
    /// The revision that it does.
    does: Option<u64>,
    troubles: Vec<Trouble>,
}

/// Which list a node is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edition {
    /// The catalog's.
    revision: u64,
    /// Gateways are told which apps have a version, too; 0 for others.
    versions: u64,
}

impl Knows {
    /// Whether it takes another list: one is under way to a node at a time, so that no number of changes fills its link.
    fn takes(&self, edition: Edition) -> bool {
        self.told != Some(edition) && !self.under_way
    }

    fn does(&self, revision: u64) -> bool {
        self.does.is_some_and(|does| does >= revision)
    }
}

impl Management {
    /// When somebody has waited for long enough.
    pub fn timeout(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Whether an app is only in what workers said before they heard that it was deleted.
    pub fn is_ghost(&self, app: &AppName) -> bool {
        self.deleted.contains(app) && !self.catalog.is_somewhere(app)
    }

    /// Whether an app is there, and is not about to go.
    fn has(&self, app: &AppName) -> bool {
        let goes = self.writing.as_ref().is_some_and(|writing| writing.change.deletes(app));
        self.catalog.is_active(app).is_some() && !goes
    }
}

impl Task {
    // === orders ===

    pub(super) fn manage(&mut self, ordered: Ordered) {
        counters::ORDERS.inc();
        if self.management.orders.len() >= ORDERS_MAX {
            let reason = format!("{ORDERS_MAX} orders wait already");
            return drop(ordered.reply.send(Err(Refusal::TooMuch { reason })));
        }
        self.management.orders.push_back(ordered);
        self.next_order();
    }

    /// Plans orders until one has to be written.
    pub(super) fn next_order(&mut self) {
        while self.management.writing.is_none() && !self.stale {
            let Some(ordered) = self.management.orders.pop_front() else { return };
            match self.plan(&ordered.order) {
                Err(refusal) => drop(ordered.reply.send(Err(refusal))),
                Ok(change) if change.is_empty() => self.answer(&change, ordered),
                Ok(change) => {
                    self.disk.push(Job::Catalog { change: change.to_store() });
                    self.management.writing = Some(Writing { ordered, change });
                }
            }
        }
    }

    fn plan(&mut self, order: &Order) -> Result<Change, Refusal> {
        if !self.disk.has_store() {
            return Err(refusal::no_store());
        }
        self.ask_machine(|_, _| Ok(()))?;
        let change = self.management.catalog.plan(order)?;
        let Some(machine) = &self.machine else { return Ok(change) };
        let goes = change.apps.iter().filter(|(_, to)| to.is_none());
        for (app, _) in goes {
            if let Some(running) = machine.running(app) {
                return Err(refusal::busy(app.clone(), running.clone(), super::task::wall_ms()));
            }
        }
        Ok(change)
    }

    /// The order that was being written is, or is not.
    pub(super) fn catalog_written(&mut self, result: Result<(), StoreError>) {
        let Some(Writing { ordered, change }) = self.management.writing.take() else { return };
        // Also if it may not be written: nobody gets in then who may not.
        let gone = change.tenants.iter().filter(|(_, to)| to.is_none());
        gone.for_each(|(tenant, _)| self.tokens.forget_tenant(tenant));
        match result {
            Ok(()) => {
                let what = ordered.order.name();
                tracing::info!(revision = change.revision, by = ordered.by, "done: {what}");
                self.management.catalog.apply(&change);
                self.carry_out(&change, &ordered.by);
                self.tell_catalog();
                self.answer(&change, ordered);
            }
            Err(error) => {
                tracing::error!("an order cannot be written down: {error}");
                let is_refusal = matches!(
                    error,
                    StoreError::Busy { .. }
                        | StoreError::TooManyApps { .. }
                        | StoreError::TooManyTenants { .. }
                        | StoreError::TooLong { .. }
                );
                // Else it may be there all the same.
                if !is_refusal {
                    self.load();
                }
                let _ = ordered.reply.send(Err(refusal::of_store(error)));
            }
        }
        self.next_order();
    }

    /// What a change means for deployments.
    fn carry_out(&mut self, change: &Change, by: &str) {
        for app in &change.ended {
            let by = format!("{by}, who suspended the app");
            // None goes on, mostly; one whose end is decided may end.
            self.with_machine(|machine, now| drop(machine.cancel(app, &by, now)));
        }
        let mut gone = change.apps.iter().filter(|(_, to)| to.is_none()).peekable();
        if gone.peek().is_some() {
            self.disk.push(Job::Collect);
        }
        for (app, _) in gone {
            self.with_machine(|machine, _| machine.forget(app));
            if self.management.deleted.len() >= DELETED_MAX {
                self.management.deleted.clear();
            }
            self.management.deleted.insert(app.clone());
        }
    }

    fn answer(&mut self, change: &Change, ordered: Ordered) {
        let revision = self.management.catalog.revision();
        let mut apps: Vec<_> = change.apps.iter().map(|(app, _)| app.clone()).collect();
        apps.extend(
            change.ended.iter().filter(|app| !change.apps.iter().any(|(known, _)| known == *app)).cloned(),
        );
        let then = Then::Answer { apps, reply: ordered.reply };
        let until = self.now() + EFFECT_WAIT;
        self.management.waiting.push(Waiting { revision, until, then });
        self.settle();
    }

    // === deployments ===

    /// Whether a deployment of this app has to wait for workers to be told of it; if so it is taken.
    pub(super) fn deploy_later(
        &mut self,
        request: DeployRequest,
        asked: Instant,
        asker: Asker,
    ) -> Option<(DeployRequest, Asker)> {
        let revision = self.management.catalog.revision();
        if !self.management.has(&request.app) || self.behind(revision, Role::Worker).is_empty() {
            return Some((request, asker));
        }
        let then = Then::Deploy { request: Box::new(request), asked, asker };
        let until = self.now() + EFFECT_WAIT;
        self.management.waiting.push(Waiting { revision, until, then });
        None
    }

    /// Why nothing can be deployed to this app now.
    pub(super) fn check_deployable(&self, app: &AppName) -> Result<(), Refusal> {
        let Some(created) = self.management.catalog.created(app) else { return Ok(()) };
        let tenant = app.tenant();
        let reason = match (created.suspended, created.tenant_suspended) {
            (true, _) => format!("app {app} is suspended: resume it with `tidegate apps resume {app}` first"),
            (false, true) => format!(
                "tenant {tenant} is suspended, and its apps with it: resume it with `tidegate tenants resume {tenant}` first"
            ),
            (false, false) => return Ok(()),
        };
        Err(Refusal::Suspended { reason })
    }

    /// Whether somebody has the app, or it was made here.
    pub(super) fn check_known(&self, app: &AppName) -> Result<(), Refusal> {
        let machine = self.machine.as_ref();
        let deployed = machine.map(crate::deployment::Deployments::apps).unwrap_or_default();
        let goes = self.management.writing.as_ref().is_some_and(|writing| writing.change.deletes(app));
        let goes = goes || self.management.is_ghost(app);
        if !goes && (deployed.contains(&app) || self.management.has(app)) {
            return Ok(());
        }
        let mut known: Vec<_> = deployed.into_iter().chain(self.management.catalog.apps()).cloned().collect();
        known.sort_unstable();
        known.dedup();
        known.retain(|known| known != app && !self.management.is_ghost(known));
        Err(Refusal::UnknownApp { app: app.clone(), known })
    }

    // === nodes ===

    pub(super) fn fixed_apps(&mut self, session: Session, apps: Vec<FixedApp>) {
        let Some(node) = self.nodes.get(&session) else { return };
        let node = NodeRef { role: node.role, name: node.name.clone() };
        let made: Vec<_> = apps
            .iter()
            .filter(|fixed| self.management.catalog.is_active(&fixed.app).is_some())
            .map(|fixed| fixed.app.as_str())
            .collect();
        if !made.is_empty() {
            tracing::warn!(
                node = format!("{} {}", node.role, node.name),
                "its settings file names apps that were made at run time as well, and it runs them as its file says: {}",
                made.join(", ")
            );
        }
        self.management.catalog.fixed_apps(session, node, apps);
    }

    pub(super) fn catalog_applied(&mut self, session: Session, revision: u64, mut troubles: Vec<Trouble>) {
        // What it says of a list of another life of this register says nothing of this one.
        let told = |node: &&mut Node| node.knows.told.is_some_and(|told| told.revision == revision);
        let Some(node) = self.nodes.get_mut(&session).filter(told) else { return };
        troubles.truncate(TROUBLES_MAX);
        let cut = |trouble: Trouble| Trouble::new(trouble.app, trouble.reason);
        node.knows.troubles = troubles.into_iter().map(cut).collect();
        (node.knows.does, node.knows.under_way) = (Some(revision), false);
        self.tell_catalog();
        self.settle();
    }

    /// What was written down is known.
    pub(super) fn install_catalog(&mut self, records: &CatalogRecords) -> Result<(), String> {
        self.management.catalog = self.management.catalog.restore(records)?;
        Ok(())
    }

    /// An app has its first version, or none again: its gateways refuse clients that nobody can serve.
    pub(super) fn versions_changed(&mut self) {
        self.management.versions += 1;
        self.tell_catalog();
    }

    /// Tells everybody who does not know it what there is.
    pub(super) fn tell_catalog(&mut self) {
        let Some(machine) = &self.machine else { return };
        let (revision, versions) = (self.management.catalog.revision(), self.management.versions);
        for role in [Role::Gateway, Role::Worker] {
            let versions = if role == Role::Gateway { versions } else { 0 };
            let edition = Edition { revision, versions };
            let is_behind = |node: &&mut Node| node.role == role && node.knows.takes(edition);
            let mut behind = self.nodes.values_mut().filter(is_behind).peekable();
            if behind.peek().is_none() {
                continue;
            }
            let mut list = self.management.catalog.list();
            if role == Role::Gateway {
                let open = |app: CatalogApp| CatalogApp {
                    empty: !machine.has_version(&app.app),
                    spec: app.spec.without_secrets(),
                    ..app
                };
                list = List { revision, apps: list.apps.into_iter().map(open).collect(), shares: Vec::new() };
            }
            let parts = list.into_parts();
            for node in behind {
                parts.iter().for_each(|part| node.send(&Control::Catalog(part.clone())));
                (node.knows.told, node.knows.under_way) = (Some(edition), true);
            }
        }
    }

    // === who waits ===

    /// Goes on with what no node has to be waited for any more.
    pub(super) fn settle(&mut self) {
        let now = self.now();
        let waiting = std::mem::take(&mut self.management.waiting);
        for waits in waiting {
            let role = match waits.then {
                Then::Answer { .. } => None,
                Then::Deploy { .. } => Some(Role::Worker),
            };
            let behind = match role {
                Some(role) => self.behind(waits.revision, role),
                None => [Role::Gateway, Role::Worker].map(|role| self.behind(waits.revision, role)).concat(),
            };
            if !behind.is_empty() && now < waits.until {
                self.management.waiting.push(waits);
                continue;
            }
            match waits.then {
                Then::Answer { apps, reply } => {
                    let troubles = self.troubles().filter(|trouble| apps.contains(&trouble.app)).collect();
                    let effect = Effect { revision: waits.revision, apps, behind, troubles };
                    let _ = reply.send(Ok(effect));
                }
                Then::Deploy { request, asked, asker } => self.deploy_now(*request, asked, asker),
            }
        }
    }

    /// Nodes that do not do what this revision says.
    fn behind(&self, revision: u64, role: Role) -> Vec<NodeRef> {
        let behind = self.nodes.values().filter(|node| node.role == role && !node.knows.does(revision));
        behind.map(|node| NodeRef { role, name: node.name.clone() }).collect()
    }

    fn troubles(&self) -> impl Iterator<Item = NodeTrouble> {
        self.nodes.values().flat_map(|node| {
            node.knows.troubles.iter().map(|trouble| NodeTrouble {
                node: NodeRef { role: node.role, name: node.name.clone() },
                app: trouble.app.clone(),
                reason: trouble.reason.clone(),
            })
        })
    }

    /// What is known of an app that was made at run time.
    pub(super) fn created(&self, app: &AppName) -> Option<Created> {
        let created = self.management.catalog.created(app)?;
        let troubles = self.troubles().filter(|trouble| trouble.app == *app).collect();
        Some(Created { troubles, ..created })
    }
}
