//! The tenants and the apps that are made at run time: what there is, what they may have together, and what is suspended.

mod error;
mod fixed;
mod record;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_base::{AppName, AppSpec, Label, Quotas, Usage};
use tidegate_wire::control::{CATALOG_BYTES_MAX, CatalogApp};
use tidegate_wire::request::{AppDeed, Order, TenantDeed};

pub use self::error::CatalogError;
use self::fixed::Fixed;

/// Most tenants that are made at run time.
pub const TENANTS_MAX: usize = tidegate_store::TENANTS_MAX as usize;
/// Most apps that are made at run time.
pub const APPS_MAX: usize = tidegate_store::APPS_MAX as usize;

/// Every tenant and app that was made at run time. A plain state machine.
///
/// Calling contract. [`plan`](Self::plan) says what an order would change; when that is written down, and before anything
/// else is planned, [`apply`](Self::apply) it. Names that stand in settings files are told by the nodes
/// ([`fixed_apps`](Self::fixed_apps)) and by whoever starts the register ([`fixed_tenants`](Self::fixed_tenants)); orders
/// do not touch them. The tenant `default` is always there.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Catalog {
    revision: u64,
    tenants: BTreeMap<Label, Tenant>,
    apps: BTreeMap<AppName, App>,
    fixed: Fixed,
}

/// A tenant that was made at run time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tenant {
    /// Its apps have no clients and no slots.
    pub suspended: bool,
    /// What its apps may have together.
    pub quotas: Quotas,
}

/// An app that was made at run time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct App {
    /// The revision with which it was made.
    pub born: u64,
    /// It has no clients and no slots.
    pub suspended: bool,
    /// Its settings.
    pub spec: AppSpec,
}

/// What an order changes. Nothing, if all is as it was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision that it makes.
    pub revision: u64,
    /// Tenants; None: gone.
    pub tenants: Vec<(Label, Option<Tenant>)>,
    /// Apps; None: gone, with all that belonged to them.
    pub apps: Vec<(AppName, Option<App>)>,
    /// The apps that have clients and slots before it, and have none after it.
    pub ended: Vec<AppName>,
}

impl Change {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.apps.is_empty()
    }

    /// Whether this app goes.
    pub fn deletes(&self, app: &AppName) -> bool {
        self.apps.iter().any(|(name, to)| name == app && to.is_none())
    }
}

impl Catalog {
    /// The revision of the last change; 0: there was none.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What an order would change.
    ///
    /// # Errors
    /// Why it is not to be done; the text says how to mend it.
    pub fn plan(&self, order: &Order) -> Result<Change, CatalogError> {
        let revision = self.revision.saturating_add(1);
        let mut change = Change { revision, tenants: Vec::new(), apps: Vec::new(), ended: Vec::new() };
        match order {
            Order::Tenant { name, deed } => self.plan_tenant(name, deed, &mut change)?,
            Order::App { name, deed } => self.plan_app(name, deed, &mut change)?,
        }
        let mut after = self.clone();
        after.apply(&change);
        let active = |catalog: &Self, name: &AppName| catalog.is_active(name) == Some(true);
        change.ended =
            self.apps.keys().filter(|name| active(self, name) && !active(&after, name)).cloned().collect();
        Ok(change)
    }

    /// A change is written down.
    pub fn apply(&mut self, change: &Change) {
        if change.is_empty() {
            return;
        }
        self.revision = change.revision;
        for (name, to) in &change.tenants {
            match to {
                Some(tenant) => drop(self.tenants.insert(name.clone(), tenant.clone())),
                None => drop(self.tenants.remove(name)),
            }
        }
        for (name, to) in &change.apps {
            match to {
                Some(app) => drop(self.apps.insert(name.clone(), app.clone())),
                None => drop(self.apps.remove(name)),
            }
        }
    }

    fn plan_tenant(&self, name: &Label, deed: &TenantDeed, change: &mut Change) -> Result<(), CatalogError> {
        if let TenantDeed::Create(quotas) = deed {
            if self.tenants.contains_key(name) {
                return Err(CatalogError::TenantExists(name.clone()));
            }
            if let Some(place) = self.fixed.place_of_tenant(name) {
                return Err(CatalogError::FixedTenant { tenant: name.clone(), place });
            }
            if self.tenants.len() >= TENANTS_MAX {
                return Err(CatalogError::TooMany { what: "tenants", max: TENANTS_MAX });
            }
            change.tenants.push((name.clone(), Some(Tenant { suspended: false, quotas: *quotas })));
            return Ok(());
        }
        let known = self.tenants.get(name).ok_or_else(|| self.no_tenant(name))?;
        let mut tenant = known.clone();
        match deed {
            TenantDeed::Create(_) => {}
            TenantDeed::Configure(quotas) => {
                quotas.iter().for_each(|(quota, max)| tenant.quotas.set(*quota, *max));
                let over = tenant.quotas.check(self.usage(name));
                over.map_err(|over| CatalogError::QuotaInUse { tenant: name.clone(), over })?;
            }
            TenantDeed::Suspend => tenant.suspended = true,
            TenantDeed::Resume => tenant.suspended = false,
            TenantDeed::Delete => {
                let own = self.apps.keys().filter(|app| app.tenant() == name.as_str());
                change.apps.extend(own.map(|app| (app.clone(), None)));
                change.tenants.push((name.clone(), None));
                return Ok(());
            }
        }
        if tenant != *known {
            change.tenants.push((name.clone(), Some(tenant)));
        }
        Ok(())
    }

    fn plan_app(&self, name: &AppName, deed: &AppDeed, change: &mut Change) -> Result<(), CatalogError> {
        if let AppDeed::Create(spec) = deed {
            if self.apps.contains_key(name) {
                return Err(CatalogError::AppExists(name.clone()));
            }
            if let Some(place) = self.fixed.place_of_app(name) {
                return Err(CatalogError::FixedApp { app: name.clone(), place });
            }
            if self.apps.len() >= APPS_MAX {
                return Err(CatalogError::TooMany { what: "apps", max: APPS_MAX });
            }
            let app = App { born: change.revision, suspended: false, spec: (**spec).clone() };
            self.fits(name, &app)?;
            change.apps.push((name.clone(), Some(app)));
            return Ok(());
        }
        let known = self.apps.get(name).ok_or_else(|| self.no_app(name))?;
        let mut app = known.clone();
        match deed {
            AppDeed::Create(_) => {}
            AppDeed::Configure(spec) => {
                app.spec.clone_from(spec);
                self.fits(name, &app)?;
            }
            AppDeed::Suspend => app.suspended = true,
            AppDeed::Resume => app.suspended = false,
            AppDeed::Delete => {
                change.apps.push((name.clone(), None));
                return Ok(());
            }
        }
        if app != *known {
            change.apps.push((name.clone(), Some(app)));
        }
        Ok(())
    }

    /// Whether there is room for an app that is new, or has new settings.
    fn fits(&self, name: &AppName, app: &App) -> Result<(), CatalogError> {
        app.spec.check()?;
        let tenant = name.tenant_label();
        let others = self.usage_but(&tenant, Some(name));
        let quotas = self.quotas(&tenant).ok_or_else(|| self.no_tenant(&tenant))?;
        quotas.check(others.plus(Usage::of(&app.spec))).map_err(|over| CatalogError::Quota {
            app: name.clone(),
            fixed: !self.tenants.contains_key(&tenant),
            over,
        })?;
        let routes: BTreeSet<_> = app.spec.routes.iter().map(|route| route_key(route)).collect();
        let other = |(known, other): (&AppName, &App)| {
            let same = |route: &&String| routes.contains(&route_key(route));
            let same = other.spec.routes.iter().find(same).filter(|_| known != name)?;
            Some(CatalogError::Route { route: same.clone(), app: name.clone() })
        };
        if let Some(taken) = self.apps.iter().find_map(other) {
            return Err(taken);
        }
        let of_others = self.apps.iter().filter(|(known, _)| *known != name);
        let bytes: usize = of_others.map(|(name, app)| bytes_of(name, app)).sum();
        if bytes.saturating_add(bytes_of(name, app)) > CATALOG_BYTES_MAX {
            return Err(CatalogError::TooLarge { max: CATALOG_BYTES_MAX });
        }
        Ok(())
    }

    /// What the apps of a tenant have, those of settings files too.
    fn usage(&self, tenant: &Label) -> Usage {
        self.usage_but(tenant, None)
    }

    fn usage_but(&self, tenant: &Label, but: Option<&AppName>) -> Usage {
        let own = |name: &&AppName| name.tenant() == tenant.as_str() && Some(*name) != but;
        let made = self.apps.iter().filter(|(name, _)| own(name)).map(|(_, app)| Usage::of(&app.spec));
        let fixed = self.fixed.apps();
        let fixed = fixed.iter().filter(|(name, _)| own(name) && !self.apps.contains_key(name));
        made.chain(fixed.map(|(_, usage)| *usage)).fold(Usage::default(), Usage::plus)
    }

    /// None: there is no such tenant. One whose file is away has no quotas, as long as apps were made in it.
    fn quotas(&self, tenant: &Label) -> Option<Quotas> {
        let made = self.tenants.get(tenant).map(|tenant| tenant.quotas).or_else(|| self.fixed.quotas(tenant));
        let has_apps = || self.apps.keys().any(|app| app.tenant() == tenant.as_str());
        made.or_else(|| has_apps().then(Quotas::default))
    }

    fn no_tenant(&self, tenant: &Label) -> CatalogError {
        match self.fixed.place_of_tenant(tenant) {
            Some(place) => CatalogError::FixedTenant { tenant: tenant.clone(), place },
            None => {
                let known = self.tenants().into_iter().map(|known| known.tenant).collect();
                CatalogError::NoTenant { tenant: tenant.clone(), known }
            }
        }
    }

    fn no_app(&self, app: &AppName) -> CatalogError {
        match self.fixed.place_of_app(app) {
            Some(place) => CatalogError::FixedApp { app: app.clone(), place },
            None => CatalogError::NoApp { app: app.clone(), known: self.apps.keys().cloned().collect() },
        }
    }
}

fn bytes_of(name: &AppName, app: &App) -> usize {
    let App { born, suspended, spec } = app.clone();
    CatalogApp { app: name.clone(), born, suspended, empty: false, spec }.bytes()
}

/// What two routes have in common that mean the same: hosts have no case, and a path may end in `/`.
fn route_key(route: &str) -> String {
    let (host, path) = route.split_once('/').unwrap_or((route, ""));
    format!("{}/{}", host.to_ascii_lowercase(), path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests;
