//! What the apps of each tenant may use of this worker's processors together.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_base::{AppName, CpuShare, Label};
use tidegate_runtime::CpuBudget;
use tidegate_wire::control::TenantShare;

/// The budgets of the tenants that have apps here, or a share of their own. The register says who has one; who has none may
/// use all that its apps may.
#[derive(Debug, Default)]
pub(crate) struct TenantBudgets(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    shares: BTreeMap<Label, CpuShare>,
    budgets: BTreeMap<Label, Arc<CpuBudget>>,
}

impl TenantBudgets {
    /// A budget for an app, within that of its tenant.
    pub fn budget_of(&self, app: &AppName, share: CpuShare) -> Arc<CpuBudget> {
        let mut known = self.0.lock();
        let tenant = app.tenant_label();
        let of_tenant = known.shares.get(&tenant).copied().unwrap_or(CpuShare::MAX);
        let budget = known.budgets.entry(tenant).or_insert_with(|| Arc::new(CpuBudget::new(of_tenant)));
        Arc::new(CpuBudget::within(share, Arc::clone(budget)))
    }

    /// The tenants that have a share, all of them. It holds at once.
    pub fn set(&self, shares: &[TenantShare]) {
        let mut known = self.0.lock();
        let share = |of: &TenantShare| (of.tenant.clone(), CpuShare::from_millis(of.cpu_share_millis));
        known.shares = shares.iter().map(share).collect();
        // Nobody else has those whose apps are gone.
        known.budgets.retain(|_, budget| Arc::strong_count(budget) > 1);
        for (tenant, budget) in &known.budgets {
            budget.set_share(known.shares.get(tenant).copied().unwrap_or(CpuShare::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    #[test]
    fn apps_are_within_the_share_of_their_tenant_whichever_came_first() {
        let budgets = TenantBudgets::default();
        let share = |millis| TenantShare { tenant: Label::new("acme").unwrap(), cpu_share_millis: millis };
        let before = budgets.budget_of(&app("acme/a"), CpuShare::MAX);
        budgets.set(&[share(10)]);
        let after = budgets.budget_of(&app("acme/b"), CpuShare::MAX);
        let other = budgets.budget_of(&app("globex/a"), CpuShare::MAX);
        assert!(before.tenant() == after.tenant() && before.tenant() != other.tenant());
        budgets.set(&[]);
        assert_eq!(budgets.0.lock().budgets.len(), 2);
        drop((before, after));
        budgets.set(&[]);
        assert_eq!(budgets.0.lock().budgets.len(), 1);
    }
}
