use tidegate_base::{AppName, InvalidSpec, Label, OverQuota};
use tidegate_wire::request::Refusal;

/// Why an order is not carried out. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// There is no such tenant.
    #[error("there is no tenant {tenant}")]
    NoTenant {
        /// The tenant.
        tenant: Label,
        /// Those that there are.
        known: Vec<Label>,
    },
    /// No such app was made at run time.
    #[error("there is no app {app}")]
    NoApp {
        /// The app.
        app: AppName,
        /// Those that were made at run time.
        known: Vec<AppName>,
    },
    /// The tenant is there already.
    #[error("there is a tenant {0} already: change it with `tidegate tenants configure {0}`")]
    TenantExists(Label),
    /// The app is there already.
    #[error("there is an app {0} already: change it with `tidegate apps configure {0} --settings FILE`")]
    AppExists(AppName),
    /// The tenant stands in a settings file.
    #[error("tenant {tenant} {place}: commands do not change it, edit the file and start its node again")]
    FixedTenant {
        /// The tenant.
        tenant: Label,
        /// Where it stands.
        place: String,
    },
    /// The app stands in a settings file.
    #[error("app {app} {place}: commands do not change it, edit the file and start its node again")]
    FixedApp {
        /// The app.
        app: AppName,
        /// Where it stands.
        place: String,
    },
    /// A quota of the tenant is too small for the app.
    #[error(
        "tenant {} may have {} {}, and with app {app} it would have {}: lower what the app or another one has, delete one, \
         or raise the quota {}", app.tenant(), .over.max, .over.quota.of(), .over.comes_to,
        raise(app.tenant(), *.fixed, .over)
    )]
    Quota {
        /// The app.
        app: AppName,
        /// The tenant stands in a settings file.
        fixed: bool,
        /// Which quota, and what it would come to.
        over: OverQuota,
    },
    /// A quota is to be less than what the tenant has.
    #[error(
        "tenant {tenant} has {} {} already, so `{}` cannot be {}: lower what its apps have, or delete one, first",
        .over.comes_to, .over.quota.of(), .over.quota.key(), .over.max
    )]
    QuotaInUse {
        /// The tenant.
        tenant: Label,
        /// Which quota.
        over: OverQuota,
    },
    /// Another app has the route. Which one is not told: it may be that of another tenant.
    #[error(
        "the route `{route}` of app {app} is taken by another app: give one of them another host or path"
    )]
    Route {
        /// The route.
        route: String,
        /// The app that wants it.
        app: AppName,
    },
    /// A number or a list is out of its range.
    #[error(transparent)]
    Spec(#[from] InvalidSpec),
    /// There are as many as there may be.
    #[error("there are {max} {what} already, as many as there may be: delete some that are gone")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The settings of all apps together are too large.
    #[error(
        "the settings of all apps together would have more than {max} bytes, and are told to every node: delete apps \
         that are gone, or shorten their settings"
    )]
    TooLarge {
        /// How large they may be.
        max: usize,
    },
}

fn raise(tenant: &str, fixed: bool, over: &OverQuota) -> String {
    let (key, wanted) = (over.quota.key(), over.comes_to);
    match fixed {
        true => format!("`{key}` in its [[tenant]] of the register's settings file"),
        false => {
            format!("with `tidegate tenants configure {tenant} --{} {wanted}`", key.replace('_', "-"))
        }
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        let reason = error.to_string();
        match error {
            CatalogError::NoTenant { tenant, known } => Self::UnknownTenant { tenant, known },
            CatalogError::NoApp { app, known } => Self::UnknownApp { app, known },
            CatalogError::TenantExists(_) | CatalogError::AppExists(_) | CatalogError::Route { .. } => {
                Self::Exists { reason }
            }
            CatalogError::FixedTenant { .. } | CatalogError::FixedApp { .. } => Self::Fixed { reason },
            CatalogError::Quota { .. } | CatalogError::QuotaInUse { .. } => Self::Quota { reason },
            CatalogError::Spec(_) => Self::Wish { reason },
            CatalogError::TooMany { .. } | CatalogError::TooLarge { .. } => Self::NoRoom { reason },
        }
    }
}
