//! What the apps of a tenant may have together.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::share::CpuShare;
use crate::spec::AppSpec;

/// What the apps of one tenant may have together. None: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Apps.
    pub apps_max: Option<u64>,
    /// Slots on each worker.
    pub slots_max: Option<u64>,
    /// Memory of all their instances on each worker, in MiB: slots times `memory_mib` of each app.
    pub memory_mib_max: Option<u64>,
    /// Client connections on each gateway: the limits of the apps, whether they are used or not.
    pub connections_max: Option<u64>,
    /// Thousandths of a core of each worker. Over it the turns of all of its apps wait: it is no sum that is checked, so
    /// the shares of the apps may come to more.
    pub cpu_share_millis: Option<u64>,
}

/// What apps have: what their settings grant them, whether they use it or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How many apps.
    pub apps: u64,
    /// Slots on each worker.
    pub slots: u64,
    /// Memory of all instances on each worker, in MiB.
    pub memory_mib: u64,
    /// Client connections on each gateway.
    pub connections: u64,
    /// Thousandths of a core of each worker.
    pub cpu_share_millis: u64,
}

/// One of the [`Quotas`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quota {
    /// [`Quotas::apps_max`].
    AppsMax,
    /// [`Quotas::slots_max`].
    SlotsMax,
    /// [`Quotas::memory_mib_max`].
    MemoryMibMax,
    /// [`Quotas::connections_max`].
    ConnectionsMax,
    /// [`Quotas::cpu_share_millis`].
    CpuShare,
}

impl Quota {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::AppsMax, Self::SlotsMax, Self::MemoryMibMax, Self::ConnectionsMax, Self::CpuShare];

    /// Its key in settings.
    pub const fn key(self) -> &'static str {
        match self {
            Self::AppsMax => "apps_max",
            Self::SlotsMax => "slots_max",
            Self::MemoryMibMax => "memory_mib_max",
            Self::ConnectionsMax => "connections_max",
            Self::CpuShare => "cpu_share",
        }
    }

    /// What it is of, as people read it.
    pub const fn of(self) -> &'static str {
        match self {
            Self::AppsMax => "apps",
            Self::SlotsMax => "slots",
            Self::MemoryMibMax => "MiB of memory",
            Self::ConnectionsMax => "connections",
            Self::CpuShare => "cores",
        }
    }

    /// So much of it, as people read it: `2`, and `1.5` of cores.
    pub fn shown(self, amount: u64) -> String {
        match self {
            Self::CpuShare => CpuShare::from_millis(u32::try_from(amount).unwrap_or(u32::MAX)).to_string(),
            _ => amount.to_string(),
        }
    }

    /// Whether what the apps have is checked against it when they are made. Who goes over the other ones waits.
    const fn is_a_sum(self) -> bool {
        !matches!(self, Self::CpuShare)
    }
}

/// A quota that would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// Which.
    pub quota: Quota,
    /// What it would come to.
    pub comes_to: u64,
    /// The quota.
    pub max: u64,
}

impl Usage {
    /// What one app has.
    pub fn of(spec: &AppSpec) -> Self {
        let slots = spec.slots.unwrap_or(limits::SLOTS.into());
        let memory_mib = spec.memory_mib.unwrap_or(limits::MEMORY_MIB.into());
        let connections = spec.connections_max.unwrap_or(limits::CONNECTIONS_MAX as u64);
        let cpu_share_millis = spec.cpu_share_millis.unwrap_or(CpuShare::default().millis().into());
        Self { apps: 1, slots, memory_mib: slots.saturating_mul(memory_mib), connections, cpu_share_millis }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            apps: self.apps.saturating_add(other.apps),
            slots: self.slots.saturating_add(other.slots),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            connections: self.connections.saturating_add(other.connections),
            cpu_share_millis: self.cpu_share_millis.saturating_add(other.cpu_share_millis),
        }
    }

    /// What counts for this quota.
    pub const fn get(&self, quota: Quota) -> u64 {
        match quota {
            Quota::AppsMax => self.apps,
            Quota::SlotsMax => self.slots,
            Quota::MemoryMibMax => self.memory_mib,
            Quota::ConnectionsMax => self.connections,
            Quota::CpuShare => self.cpu_share_millis,
        }
    }

    /// The larger of each: of one app as several nodes know it, each its own part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            apps: self.apps.max(other.apps),
            slots: self.slots.max(other.slots),
            memory_mib: self.memory_mib.max(other.memory_mib),
            connections: self.connections.max(other.connections),
            cpu_share_millis: self.cpu_share_millis.max(other.cpu_share_millis),
        }
    }
}

impl Quotas {
    /// One of them.
    pub const fn get(&self, quota: Quota) -> Option<u64> {
        match quota {
            Quota::AppsMax => self.apps_max,
            Quota::SlotsMax => self.slots_max,
            Quota::MemoryMibMax => self.memory_mib_max,
            Quota::ConnectionsMax => self.connections_max,
            Quota::CpuShare => self.cpu_share_millis,
        }
    }

    /// Sets one of them; None: no limit.
    pub const fn set(&mut self, quota: Quota, max: Option<u64>) {
        match quota {
            Quota::AppsMax => self.apps_max = max,
            Quota::SlotsMax => self.slots_max = max,
            Quota::MemoryMibMax => self.memory_mib_max = max,
            Quota::ConnectionsMax => self.connections_max = max,
            Quota::CpuShare => self.cpu_share_millis = max,
        }
    }

    /// Whether so much is within the quotas.
    ///
    /// # Errors
    /// The first one that is exceeded.
    pub fn check(&self, usage: Usage) -> Result<(), OverQuota> {
        for quota in Quota::ALL.into_iter().filter(|quota| quota.is_a_sum()) {
            let comes_to = usage.get(quota);
            if let Some(max) = self.get(quota).filter(|max| comes_to > *max) {
                return Err(OverQuota { quota, comes_to, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_what_its_settings_or_the_defaults_grant_it() {
        let bare = Usage::of(&AppSpec::default());
        let has = Usage { apps: 1, slots: 1, memory_mib: 64, connections: 1_000_000, cpu_share_millis: 500 };
        assert_eq!(bare, has);
        let large = AppSpec { slots: Some(4), memory_mib: Some(10), ..AppSpec::default() };
        assert_eq!(bare.plus(Usage::of(&large)).memory_mib, 104);
    }

    #[test]
    fn the_first_quota_that_is_exceeded_is_named_and_what_is_not_set_is_no_limit() {
        let usage = Usage { apps: 1, slots: 5, memory_mib: 9, connections: u64::MAX, cpu_share_millis: 9000 };
        assert_eq!(Quotas::default().check(usage), Ok(()));
        let quotas = Quotas { slots_max: Some(4), memory_mib_max: Some(8), ..Quotas::default() };
        let over = OverQuota { quota: Quota::SlotsMax, comes_to: 5, max: 4 };
        assert_eq!(quotas.check(usage), Err(over));
        assert_eq!(Quotas { slots_max: Some(5), ..Quotas::default() }.check(usage), Ok(()));
    }

    #[test]
    fn a_share_of_the_cores_may_be_less_than_what_the_apps_have_together() {
        let quotas = Quotas { cpu_share_millis: Some(1500), ..Quotas::default() };
        assert_eq!(quotas.check(Usage { cpu_share_millis: 9000, ..Usage::default() }), Ok(()));
        assert_eq!((Quota::CpuShare.shown(1500), Quota::SlotsMax.shown(3)), ("1.5".into(), "3".into()));
    }
}
