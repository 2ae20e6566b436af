//! The apps that are made at run time, on one node: the last list of the register is carried out, one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_base::{AppName, Role, Usage};
use tidegate_wire::control::{Catalog, FixedApp, TROUBLES_MAX, Trouble};
use tokio::sync::watch;

use crate::config::AppConfig;

/// What was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The list's.
    pub revision: u64,
    /// What of it could not be done.
    pub troubles: Vec<Trouble>,
}

/// The apps of one role of a node.
#[derive(Debug)]
pub(crate) struct Apps {
    fixed: Vec<FixedApp>,
    /// The newest list; those between are passed over.
    wanted: watch::Sender<Option<Catalog>>,
    applied: watch::Sender<Option<Applied>>,
}

impl Apps {
    /// Knows the apps of the settings file, which no list changes.
    pub fn new(role: Role, fixed: &[AppConfig]) -> Arc<Self> {
        let fixed = fixed.iter().map(|app| FixedApp { app: app.name.clone(), usage: usage(role, app) });
        Arc::new(Self {
            fixed: fixed.collect(),
            wanted: watch::Sender::new(None),
            applied: watch::Sender::new(None),
        })
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

    /// Carries out each list, for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut wanted = self.wanted.subscribe();
        // One may have come before.
        wanted.mark_changed();
        while wanted.changed().await.is_ok() {
            let Some(catalog) = wanted.borrow_and_update().clone() else { continue };
            let revision = catalog.revision;
            let mut troubles = self.carry_out(catalog);
            for Trouble { app, reason } in &troubles {
                tracing::warn!(%app, "{reason}");
            }
            troubles.truncate(TROUBLES_MAX);
            self.applied.send_replace(Some(Applied { revision, troubles }));
        }
    }

    fn carry_out(&self, catalog: Catalog) -> Vec<Trouble> {
        let fixed: BTreeSet<&AppName> = self.fixed.iter().map(|fixed| &fixed.app).collect();
        let trouble = |app: AppName| {
            let reason = match fixed.contains(&app) {
                true => {
                    "it stands in the settings file of this node too, which counts: take it out of the file"
                }
                false => "this node runs the apps of its settings file only",
            };
            Trouble::new(app, reason.to_owned())
        };
        catalog.apps.into_iter().filter(|app| !app.suspended).map(|app| trouble(app.app)).collect()
    }
}

/// What an app of the settings file has at this role.
fn usage(role: Role, app: &AppConfig) -> Usage {
    let (slots, memory) = (u64::from(app.slots), u64::from(app.instance.memory_mib));
    match role {
        Role::Worker => Usage { apps: 1, slots, memory_mib: slots.saturating_mul(memory), connections: 0 },
        _ => Usage { apps: 1, connections: app.limits.connections_max as u64, ..Usage::default() },
    }
}
