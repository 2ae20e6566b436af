//! What can be said of tenants and of apps that are made at run time.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidegate_base::{AppName, CpuShare, Label};

use super::Whom;

#[derive(Debug, Args)]
pub(crate) struct TenantsArgs {
    #[command(subcommand)]
    pub command: Option<TenantsCommand>,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// List the tenants: what they may have, and what they have (default)
    List {
        #[command(flatten)]
        whom: Whom,
    },
    /// Make a tenant
    Create {
        /// Its name: a-z, 0-9 and -
        #[arg(value_parser = Label::new)]
        name: Label,
        #[command(flatten)]
        quotas: QuotaFlags,
        #[command(flatten)]
        whom: Whom,
    },
    /// Change quotas of a tenant; those that are not named stay
    Configure {
        /// The tenant
        #[arg(value_parser = Label::new)]
        name: Label,
        #[command(flatten)]
        quotas: QuotaFlags,
        #[command(flatten)]
        whom: Whom,
    },
    /// Its apps lose their clients and their slots until it is resumed
    Suspend {
        /// The tenant
        #[arg(value_parser = Label::new)]
        name: Label,
        #[command(flatten)]
        whom: Whom,
    },
    /// Its apps run again, but for those that are suspended themselves
    Resume {
        /// The tenant
        #[arg(value_parser = Label::new)]
        name: Label,
        #[command(flatten)]
        whom: Whom,
    },
    /// Remove a tenant and its apps, with their clients, versions and histories
    Delete {
        /// The tenant
        #[arg(value_parser = Label::new)]
        name: Label,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        whom: Whom,
    },
}

/// What the apps of a tenant may have together: a number, or `none` for no limit.
#[derive(Debug, Args)]
pub(crate) struct QuotaFlags {
    /// Apps
    #[arg(long, value_name = "N", value_parser = quota)]
    pub apps_max: Option<Quota>,
    /// Slots on each worker
    #[arg(long, value_name = "N", value_parser = quota)]
    pub slots_max: Option<Quota>,
    /// MiB of memory on each worker: slots times memory_mib of each app
    #[arg(long, value_name = "N", value_parser = quota)]
    pub memory_mib_max: Option<Quota>,
    /// Client connections on each gateway: connections_max of each app
    #[arg(long, value_name = "N", value_parser = quota)]
    pub connections_max: Option<Quota>,
    /// Cores of each worker that its apps may use together: over it their turns wait
    #[arg(long, value_name = "CORES", value_parser = cores)]
    pub cpu_share: Option<Quota>,
}

/// A quota as it is written; None: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota(pub Option<u64>);

impl QuotaFlags {
    /// Those that were named.
    pub fn named(&self) -> Vec<(tidegate_base::Quota, Option<u64>)> {
        use tidegate_base::Quota::{AppsMax, ConnectionsMax, CpuShare, MemoryMibMax, SlotsMax};
        let all = [
            (AppsMax, self.apps_max),
            (SlotsMax, self.slots_max),
            (MemoryMibMax, self.memory_mib_max),
            (ConnectionsMax, self.connections_max),
            (CpuShare, self.cpu_share),
        ];
        all.into_iter().filter_map(|(quota, named)| Some((quota, named?.0))).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct AppsArgs {
    #[command(subcommand)]
    pub command: Option<AppsCommand>,
    #[command(flatten)]
    pub whom: Whom,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppsCommand {
    /// List the apps, and which versions run where (default)
    List {
        #[command(flatten)]
        whom: Whom,
    },
    /// Make an app; its code comes by `tidegate deploy`
    Create {
        /// The app: TENANT/NAME
        #[arg(value_parser = AppName::new)]
        name: AppName,
        /// A file with what an [[app]] table holds, at its top level (default: all defaults)
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Give an app other settings, all of them
    Configure {
        /// The app: TENANT/NAME
        #[arg(value_parser = AppName::new)]
        name: AppName,
        /// A file with what an [[app]] table holds, at its top level
        #[arg(long, value_name = "FILE")]
        settings: PathBuf,
        #[command(flatten)]
        whom: Whom,
    },
    /// Take its clients and its slots from an app until it is resumed; its versions stay
    Suspend {
        /// The app: TENANT/NAME
        #[arg(value_parser = AppName::new)]
        name: AppName,
        #[command(flatten)]
        whom: Whom,
    },
    /// Let a suspended app run again
    Resume {
        /// The app: TENANT/NAME
        #[arg(value_parser = AppName::new)]
        name: AppName,
        #[command(flatten)]
        whom: Whom,
    },
    /// Remove an app with its clients, versions and history
    Delete {
        /// The app: TENANT/NAME
        #[arg(value_parser = AppName::new)]
        name: AppName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        whom: Whom,
    },
}

fn quota(text: &str) -> Result<Quota, String> {
    match text {
        "none" => Ok(Quota(None)),
        number => {
            let number = number.parse().map_err(|_| "write a whole number, or `none` for no limit")?;
            Ok(Quota(Some(number)))
        }
    }
}

fn cores(text: &str) -> Result<Quota, String> {
    if text == "none" {
        return Ok(Quota(None));
    }
    let share: CpuShare = text.parse().map_err(|_| "write 0.01 to 1024 cores, or `none` for no limit")?;
    Ok(Quota(Some(share.millis().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_or_none() {
        assert_eq!((quota("0"), quota("none")), (Ok(Quota(Some(0))), Ok(Quota(None))));
        assert_eq!((cores("1.5"), cores("none")), (Ok(Quota(Some(1500))), Ok(Quota(None))));
        assert!(cores("0").is_err() && cores("all").unwrap_err().contains("1024"));
        for bad in ["", "-1", "1.5", "all"] {
            assert!(quota(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_quotas_that_are_named_are_changed() {
        let flags = QuotaFlags {
            cpu_share: None,
            apps_max: None,
            slots_max: Some(Quota(Some(4))),
            memory_mib_max: Some(Quota(None)),
            connections_max: None,
        };
        use tidegate_base::Quota::{MemoryMibMax, SlotsMax};
        assert_eq!(flags.named(), [(SlotsMax, Some(4)), (MemoryMibMax, None)]);
    }
}
