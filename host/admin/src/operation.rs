//! The paths besides those of the verbs: what they are, who may ask them, and what they take and answer. Requests are routed
//! by this table, and the description of the API is made of it.

use axum::routing::MethodFilter;
use tidegate_base::TokenRole;

/// What can be asked of apps and of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Apps,
    App,
    Versions,
    Version,
    Deploy,
    Deploying,
    Cancel,
    RollBack,
    Connections,
    Logs,
    CreateApp,
    ConfigureApp,
    SuspendApp,
    ResumeApp,
    DeleteApp,
    Tenants,
    Tenant,
    CreateTenant,
    ConfigureTenant,
    SuspendTenant,
    ResumeTenant,
    DeleteTenant,
    Nodes,
    Status,
}

/// How a path is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// What a request carries in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing is looked at.
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of this schema, or nothing.
    PerhapsJson(&'static str),
    /// A component, or JSON of this schema.
    Module(&'static str),
}

/// What is answered when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    /// This status and JSON of this schema.
    Json(u16, &'static str),
    /// How a deployment gets on.
    Deployment,
}

/// A parameter of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueryKey {
    pub name: &'static str,
    pub what: &'static str,
    pub kind: QueryKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryKind {
    /// A whole number within these.
    Number(u64, u64),
    /// One of these words; the first is the default.
    Word(&'static [&'static str]),
    /// A text of so many bytes at most.
    Text(usize),
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub method: Method,
    pub path: &'static str,
    /// Its name in the description.
    pub id: &'static str,
    pub summary: &'static str,
    /// What a token must be for.
    pub role: TokenRole,
    /// It must be one of all tenants too.
    pub operators: bool,
    pub query: &'static [QueryKey],
    pub takes: Takes,
    pub gives: Gives,
}

impl Method {
    /// Its name in the description.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    pub const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

impl Operation {
    pub const ALL: [Self; 24] = [
        Self::Apps,
        Self::App,
        Self::Versions,
        Self::Version,
        Self::Deploy,
        Self::Deploying,
        Self::Cancel,
        Self::RollBack,
        Self::Connections,
        Self::Logs,
        Self::CreateApp,
        Self::ConfigureApp,
        Self::SuspendApp,
        Self::ResumeApp,
        Self::DeleteApp,
        Self::Tenants,
        Self::Tenant,
        Self::CreateTenant,
        Self::ConfigureTenant,
        Self::SuspendTenant,
        Self::ResumeTenant,
        Self::DeleteTenant,
        Self::Nodes,
        Self::Status,
    ];

    pub const fn facts(self) -> Facts {
        use Gives::{Deployment, Json};
        use Method::{Delete, Post};
        match self {
            Self::Apps => read("/v1/apps", "list-apps", "The apps that the token is for", "Apps"),
            Self::App => read(APP, "get-app", "What an app runs where, and how it does", "App"),
            Self::Versions => {
                let summary = "What was deployed, the newest first, without the reports";
                let path = "/v1/apps/{tenant}/{app}/versions";
                Facts { query: &[LIMIT], ..read(path, "list-versions", summary, "Versions") }
            }
            Self::Version => {
                let path = "/v1/apps/{tenant}/{app}/versions/{number}";
                read(path, "get-version", "One deployment with the report of its swap", "Version")
            }
            Self::Deploy => Facts {
                method: Post,
                path: "/v1/apps/{tenant}/{app}/deployments",
                id: "deploy",
                summary: "Deploy a component, or one that was deployed before: connections and state stay",
                role: TokenRole::Deploy,
                operators: false,
                query: &[WAIT, CANARY, CANARY_MS, EVENTS_MIN, NOTE],
                takes: Takes::Module("ModuleName"),
                gives: Deployment,
            },
            Self::Deploying => {
                read(CURRENT, "get-deployment", "How the deployment that goes on gets on", "Deploying")
            }
            Self::Cancel => Facts {
                method: Delete,
                path: CURRENT,
                id: "cancel-deployment",
                summary: "End the deployment that goes on, and go back; answers when it is on its way back",
                role: TokenRole::Deploy,
                operators: false,
                query: &[],
                takes: Takes::Nothing,
                gives: Json(202, "Cancelled"),
            },
            Self::RollBack => Facts {
                method: Post,
                path: "/v1/apps/{tenant}/{app}/rollback",
                id: "roll-back",
                summary: "Deploy an earlier version again; without a number the one that ran before",
                role: TokenRole::Deploy,
                operators: false,
                query: &[WAIT],
                takes: Takes::PerhapsJson("RollBack"),
                gives: Deployment,
            },
            Self::Connections | Self::Logs => self.watches(),
            Self::CreateApp | Self::ConfigureApp | Self::SuspendApp | Self::ResumeApp | Self::DeleteApp => {
                self.about_apps()
            }
            Self::Tenants | Self::Tenant | Self::Nodes | Self::Status => self.looks(),
            Self::CreateTenant
            | Self::ConfigureTenant
            | Self::SuspendTenant
            | Self::ResumeTenant
            | Self::DeleteTenant => Facts { operators: true, ..self.of_operators() },
        }
    }

    /// What goes on in an app.
    const fn watches(self) -> Facts {
        match self {
            Self::Connections => {
                let path = "/v1/apps/{tenant}/{app}/connections";
                let summary =
                    "The connections of an app's clients at all gateways, and how each of them does";
                let facts = read(path, "list-connections", summary, "Connections");
                Facts { query: &[MANY, CLIENT, UID], role: TokenRole::Admin, ..facts }
            }
            _ => {
                let summary = "The last lines of an app's log on all workers, or those behind what was read";
                let facts = read("/v1/apps/{tenant}/{app}/logs", "read-logs", summary, "Logs");
                Facts { query: &[LINES, AFTER, LEVEL], ..facts }
            }
        }
    }

    /// Orders about apps.
    const fn about_apps(self) -> Facts {
        use Method::{Delete, Post, Put};
        match self {
            Self::CreateApp => {
                let summary = "Make an app; its code is deployed then";
                let takes = Takes::PerhapsJson("AppSpec");
                Facts { takes, gives: Gives::Json(201, "Effect"), ..order(Post, APP, "create-app", summary) }
            }
            Self::ConfigureApp => {
                let summary = "Give an app other settings, all of them";
                Facts { takes: Takes::Json("AppSpec"), ..order(Put, APP, "configure-app", summary) }
            }
            Self::SuspendApp => {
                let path = "/v1/apps/{tenant}/{app}/suspend";
                order(
                    Post,
                    path,
                    "suspend-app",
                    "Take its clients and its slots from an app until it is resumed",
                )
            }
            Self::ResumeApp => {
                let path = "/v1/apps/{tenant}/{app}/resume";
                order(Post, path, "resume-app", "Let a suspended app run again")
            }
            _ => order(Delete, APP, "delete-app", "Remove an app with its clients, versions and history"),
        }
    }

    /// What whoever administers an app, a tenant or all of them looks at.
    const fn looks(self) -> Facts {
        let facts = match self {
            Self::Tenants => {
                read("/v1/tenants", "list-tenants", "What tenants may have, and what they have", "Tenants")
            }
            Self::Nodes => read("/v1/nodes", "list-nodes", "The nodes of the cluster", "Nodes"),
            Self::Status => read(
                "/v1/status",
                "get-status",
                "How the node does that answers, with the token's apps on it",
                "Status",
            ),
            _ => read(TENANT, "get-tenant", "What a tenant may have, and what it has", "Tenant"),
        };
        Facts { role: TokenRole::Admin, ..facts }
    }

    /// Orders about tenants.
    const fn of_operators(self) -> Facts {
        use Method::{Delete, Patch, Post};
        match self {
            Self::CreateTenant => {
                let takes = Takes::PerhapsJson("Quotas");
                let gives = Gives::Json(201, "Effect");
                Facts { takes, gives, ..order(Post, TENANT, "create-tenant", "Make a tenant") }
            }
            Self::ConfigureTenant => {
                let summary = "Change quotas of a tenant; those that are not named stay, null is no limit";
                let takes = Takes::Json("Quotas");
                Facts { takes, ..order(Patch, TENANT, "configure-tenant", summary) }
            }
            Self::SuspendTenant => {
                let path = "/v1/tenants/{tenant}/suspend";
                order(
                    Post,
                    path,
                    "suspend-tenant",
                    "Take clients and slots from its apps until it is resumed",
                )
            }
            Self::ResumeTenant => {
                let path = "/v1/tenants/{tenant}/resume";
                order(
                    Post,
                    path,
                    "resume-tenant",
                    "Let its apps run again, but for those that are suspended themselves",
                )
            }
            _ => order(
                Delete,
                TENANT,
                "delete-tenant",
                "Remove a tenant and its apps, with all that is theirs",
            ),
        }
    }
}

/// An order that is carried out at once.
const fn order(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Facts {
    Facts { method, role: TokenRole::Admin, ..read(path, id, summary, "Effect") }
}

/// A question of who may deploy.
const fn read(path: &'static str, id: &'static str, summary: &'static str, answer: &'static str) -> Facts {
    Facts {
        method: Method::Get,
        path,
        id,
        summary,
        role: TokenRole::Deploy,
        operators: false,
        query: &[],
        takes: Takes::Nothing,
        gives: Gives::Json(200, answer),
    }
}

const APP: &str = "/v1/apps/{tenant}/{app}";
const TENANT: &str = "/v1/tenants/{tenant}";
const CURRENT: &str = "/v1/apps/{tenant}/{app}/deployments/current";

const LIMIT: QueryKey = QueryKey {
    name: "limit",
    what: "So many at most; 20 if nothing is said",
    kind: QueryKind::Number(1, 1000),
};
const MANY: QueryKey = QueryKey {
    name: "limit",
    what: "So many at most; 1,000 if nothing is said",
    kind: QueryKind::Number(1, 10_000),
};
const CLIENT: QueryKey =
    QueryKey { name: "client", what: "Only the client with this id", kind: QueryKind::Text(20) };
const UID: QueryKey =
    QueryKey { name: "uid", what: "Only those that are bound to this uid", kind: QueryKind::Text(1024) };
const LINES: QueryKey = QueryKey {
    name: "limit",
    what: "So many lines at most, behind `after` of each worker; 100 if nothing is said",
    kind: QueryKind::Number(1, 1000),
};
const AFTER: QueryKey = QueryKey {
    name: "after",
    what: "Lines behind what was read: `next` of the last answer",
    kind: QueryKind::Text(48 * 1024),
};
const LEVEL: QueryKey = QueryKey {
    name: "level",
    what: "Lines that are as loud as this, or louder",
    kind: QueryKind::Word(&["trace", "debug", "info", "warn", "error"]),
};
const WAIT: QueryKey = QueryKey {
    name: "wait",
    what: "`progress`: a line of JSON for each piece of news, the last one says how it ended. `end`: one answer when it is \
           over, a problem if it was rolled back. `none`: an answer as soon as it has begun",
    kind: QueryKind::Word(&["progress", "end", "none"]),
};
const CANARY: QueryKey = QueryKey {
    name: "canary",
    what: "Judge it on this share of the slots first, in percent",
    kind: QueryKind::Number(1, 99),
};
const CANARY_MS: QueryKey = QueryKey {
    name: "canary_ms",
    what: "How long the canary is compared with the others, in milliseconds; 30,000 if nothing is said",
    kind: QueryKind::Number(1_000, 86_400_000),
};
const EVENTS_MIN: QueryKey = QueryKey {
    name: "events_min",
    what: "Callbacks that each version must have run to be judged; 100 if nothing is said",
    kind: QueryKind::Number(1, u32::MAX as u64),
};
const NOTE: QueryKey =
    QueryKey { name: "note", what: "What to write beside it in the history", kind: QueryKind::Text(1024) };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_name_and_a_place_of_its_own() {
        let facts = Operation::ALL.map(Operation::facts);
        let places: BTreeSet<_> = facts.iter().map(|it| (it.method.name(), it.path)).collect();
        let ids: BTreeSet<_> = facts.iter().map(|it| it.id).collect();
        assert_eq!((places.len(), ids.len()), (facts.len(), facts.len()));
    }
}
