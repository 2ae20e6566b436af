//! The names that stand in settings files.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_base::{AppName, Label, Quotas, Usage};
use tidegate_wire::control::FixedApp;
use tidegate_wire::directory::Session;
use tidegate_wire::request::NodeRef;

use super::Catalog;

/// Apps of one node's file that are taken in; further ones are passed over.
const APPS_PER_NODE_MAX: usize = 10_000;

/// What stands in settings files, as those who read them say.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Fixed {
    /// Of the file of whoever runs the register.
    tenants: BTreeMap<Label, Quotas>,
    nodes: BTreeMap<Session, (NodeRef, BTreeMap<AppName, Usage>)>,
}

impl Fixed {
    /// Every app, with what it has by the files of all nodes together.
    pub fn apps(&self) -> BTreeMap<&AppName, Usage> {
        let mut all: BTreeMap<&AppName, Usage> = BTreeMap::new();
        for (name, usage) in self.nodes.values().flat_map(|(_, apps)| apps) {
            let known = all.entry(name).or_default();
            *known = known.max(*usage);
        }
        all
    }

    /// Every tenant.
    pub fn tenants(&self) -> BTreeSet<Label> {
        let mut all: BTreeSet<_> = self.tenants.keys().cloned().collect();
        all.extend(self.nodes.values().flat_map(|(_, apps)| apps.keys()).map(AppName::tenant_label));
        all.extend(Label::new(AppName::DEFAULT_TENANT));
        all
    }

    /// The tenants of the register's own file.
    pub fn declared(&self) -> impl Iterator<Item = (&Label, &Quotas)> {
        self.tenants.iter()
    }

    /// None: it stands in no file.
    pub fn quotas(&self, tenant: &Label) -> Option<Quotas> {
        let declared = self.tenants.get(tenant).copied();
        declared.or_else(|| self.place_of_tenant(tenant).map(|_| Quotas::default()))
    }

    /// Where an app stands, in words; None: nowhere.
    pub fn place_of_app(&self, app: &AppName) -> Option<String> {
        let (node, _) = self.nodes.values().find(|(_, apps)| apps.contains_key(app))?;
        Some(format!("stands in the settings file of {} {}", node.role, node.name))
    }

    /// Where a tenant stands, in words; None: nowhere.
    pub fn place_of_tenant(&self, tenant: &Label) -> Option<String> {
        if self.tenants.contains_key(tenant) {
            return Some("stands in the settings file of this register, as [[tenant]]".to_owned());
        }
        let own = |app: &&AppName| app.tenant() == tenant.as_str();
        let of_node = |(node, apps): &(NodeRef, BTreeMap<AppName, Usage>)| {
            let app = apps.keys().find(own)?;
            Some(format!("stands in the settings file of {} {}, with app {app}", node.role, node.name))
        };
        let is_default = || {
            let text =
                "is always there, without quotas unless it stands in the settings file of the register";
            (tenant.as_str() == AppName::DEFAULT_TENANT).then(|| text.to_owned())
        };
        self.nodes.values().find_map(of_node).or_else(is_default)
    }
}

impl Catalog {
    /// The tenants that stand in the settings file of whoever runs the register.
    pub fn fixed_tenants(&mut self, tenants: BTreeMap<Label, Quotas>) {
        self.fixed.tenants = tenants;
    }

    /// The apps that stand in the settings file of a node; replaces what it said before.
    pub fn fixed_apps(&mut self, session: Session, node: NodeRef, apps: Vec<FixedApp>) {
        let apps = apps.into_iter().take(APPS_PER_NODE_MAX).map(|fixed| (fixed.app, fixed.usage));
        self.fixed.nodes.insert(session, (node, apps.collect()));
    }

    /// A node is gone, and its file with it.
    pub fn node_gone(&mut self, session: Session) {
        self.fixed.nodes.remove(&session);
    }
}
