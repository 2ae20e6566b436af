//! What others are told of the catalog.

use std::collections::BTreeMap;

use tidegate_base::{AppName, Label, Quotas};
use tidegate_wire::control;
use tidegate_wire::request::{Created, TenantOverview};

use super::{App, Catalog};

impl Catalog {
    /// Every app that was made at run time, by name.
    pub fn apps(&self) -> impl Iterator<Item = &AppName> {
        self.apps.keys()
    }

    /// Whether an app was made at run time, or stands in a settings file.
    pub fn is_somewhere(&self, name: &AppName) -> bool {
        self.apps.contains_key(name) || self.fixed.place_of_app(name).is_some()
    }

    /// Whether neither an app nor its tenant is suspended. None: no such app was made at run time.
    pub fn is_active(&self, name: &AppName) -> Option<bool> {
        let app = self.apps.get(name)?;
        Some(!app.suspended && !self.tenant_suspended(name))
    }

    /// What workers are told; gateways get the same without secrets, and with what the catalog does not know: which apps are
    /// empty.
    pub fn list(&self) -> control::Catalog {
        let app = |(name, app): (&AppName, &App)| control::CatalogApp {
            app: name.clone(),
            born: app.born,
            suspended: app.suspended || self.tenant_suspended(name),
            empty: false,
            spec: app.spec.clone(),
        };
        let apps = self.apps.iter().map(app).collect();
        control::Catalog { revision: self.revision, apps, shares: self.shares() }
    }

    /// Of the tenants that have one; what was made at run time counts, as for all quotas.
    fn shares(&self) -> Vec<control::TenantShare> {
        let made = self.tenants.iter().map(|(name, tenant)| (name, &tenant.quotas));
        let all: BTreeMap<_, _> = self.fixed.declared().chain(made).collect();
        let share = |(tenant, quotas): (&Label, &Quotas)| {
            let cpu_share_millis = u32::try_from(quotas.cpu_share_millis?).unwrap_or(u32::MAX);
            Some(control::TenantShare { tenant: tenant.clone(), cpu_share_millis })
        };
        all.into_iter().filter_map(share).collect()
    }

    /// What operators are told of an app, without the troubles of nodes. None: it was not made at run time.
    pub fn created(&self, name: &AppName) -> Option<Created> {
        let app = self.apps.get(name)?;
        Some(Created {
            suspended: app.suspended,
            tenant_suspended: self.tenant_suspended(name),
            spec: Box::new(app.spec.clone().without_secrets()),
            troubles: Vec::new(),
        })
    }

    /// Every tenant, by name.
    pub fn tenants(&self) -> Vec<TenantOverview> {
        let mut names = self.fixed.tenants();
        names.extend(self.tenants.keys().cloned());
        names.extend(self.apps.keys().map(AppName::tenant_label));
        names.into_iter().map(|name| self.tenant(name)).collect()
    }

    fn tenant(&self, name: Label) -> TenantOverview {
        let made = self.tenants.get(&name);
        TenantOverview {
            fixed: made.is_none(),
            suspended: made.is_some_and(|tenant| tenant.suspended),
            quotas: self.quotas(&name).unwrap_or_default(),
            usage: self.usage(&name),
            tenant: name,
        }
    }

    fn tenant_suspended(&self, app: &AppName) -> bool {
        self.tenants.get(&app.tenant_label()).is_some_and(|tenant| tenant.suspended)
    }

    /// Checks what holds at all times, as long as no node joins with a settings file of its own.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (name, app) in &self.apps {
            let tenant = name.tenant_label();
            let is_there = self.tenants.contains_key(&tenant) || self.fixed.quotas(&tenant).is_some();
            let quotas = self.quotas(&tenant).filter(|_| is_there);
            let quotas = quotas.ok_or_else(|| format!("{name} has no tenant"))?;
            let usage = self.usage(&name.tenant_label());
            quotas.check(usage).map_err(|over| format!("{name}: {over:?}"))?;
            app.spec.check().map_err(|error| format!("{name}: {error}"))?;
            if app.born == 0 || app.born > self.revision {
                return Err(format!("{name} was born at {}, now is {}", app.born, self.revision));
            }
        }
        Ok(())
    }
}
