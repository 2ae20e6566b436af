//! What operators ask of tenants and of apps that are made at run time, and what they are told.

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, AppSpec, Label, NodeName, Quota, Quotas, Role, Usage};

/// Something to be done to a tenant or an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// To a tenant.
    Tenant {
        /// Its name.
        name: Label,
        /// What.
        deed: TenantDeed,
    },
    /// To an app.
    App {
        /// Its name.
        name: AppName,
        /// What.
        deed: AppDeed,
    },
}

/// What can be done to a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TenantDeed {
    /// Make it.
    Create(Quotas),
    /// Change these quotas; None: no limit.
    Configure(Vec<(Quota, Option<u64>)>),
    /// Its apps have no clients and no slots until it is resumed.
    Suspend,
    /// The end of that.
    Resume,
    /// It and its apps, and all that belonged to them, go.
    Delete,
}

/// What can be done to an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppDeed {
    /// Make it.
    Create(Box<AppSpec>),
    /// Give it other settings, all of them.
    Configure(Box<AppSpec>),
    /// It has no clients and no slots until it is resumed.
    Suspend,
    /// The end of that.
    Resume,
    /// It and all that belonged to it go.
    Delete,
}

/// An [`Order`] that was carried out: it is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The revision of the catalog since.
    pub revision: u64,
    /// The apps that it concerned.
    pub apps: Vec<AppName>,
    /// Gateways and workers that do not do it yet. They will when they answer again.
    pub behind: Vec<NodeRef>,
    /// What nodes cannot do of it.
    pub troubles: Vec<NodeTrouble>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRef {
    /// What it is.
    pub role: Role,
    /// Its name.
    pub name: NodeName,
}

/// What a node cannot do for an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTrouble {
    /// The node.
    pub node: NodeRef,
    /// The app.
    pub app: AppName,
    /// Why, and how to mend it.
    pub reason: String,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantOverview {
    /// Its name.
    pub tenant: Label,
    /// It stands in a settings file: commands do not change it.
    pub fixed: bool,
    /// It is suspended.
    pub suspended: bool,
    /// What its apps may have together.
    pub quotas: Quotas,
    /// What they have.
    pub usage: Usage,
}

/// What a register knows of an app that was made at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// It is suspended itself.
    pub suspended: bool,
    /// Its tenant is.
    pub tenant_suspended: bool,
    /// Its settings, without secrets.
    pub spec: Box<AppSpec>,
    /// What nodes cannot do for it.
    pub troubles: Vec<NodeTrouble>,
}

impl Order {
    /// What it is called in messages: `create a tenant`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tenant { deed, .. } => match deed {
                TenantDeed::Create(_) => "create a tenant",
                TenantDeed::Configure(_) => "configure a tenant",
                TenantDeed::Suspend => "suspend a tenant",
                TenantDeed::Resume => "resume a tenant",
                TenantDeed::Delete => "delete a tenant",
            },
            Self::App { deed, .. } => match deed {
                AppDeed::Create(_) => "create an app",
                AppDeed::Configure(_) => "configure an app",
                AppDeed::Suspend => "suspend an app",
                AppDeed::Resume => "resume an app",
                AppDeed::Delete => "delete an app",
            },
        }
    }
}
