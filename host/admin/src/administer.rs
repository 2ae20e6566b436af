//! Apps and tenants that are made at run time, nodes and status: what is answered to whoever administers them.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};
use tidegate_base::{AppSpec, CpuShare, Label, Quota, Quotas};
use tidegate_wire::control::NodeInfo;
use tidegate_wire::request::{AppDeed, Order, Refusal, TenantDeed, TenantOverview};

use crate::operation::Operation;
use crate::problem::{Kind, Problem};
use crate::reply::parse;
use crate::service::Service;
use crate::steer::{Call, without_nulls};

impl Service {
    /// Answers a request about apps, tenants or nodes.
    pub(crate) async fn administer(&self, call: Call, body: Body) -> Result<Response<Body>, Problem> {
        call.query()?;
        match call.operation {
            Operation::Tenants => self.tenants(&call).await,
            Operation::Tenant => self.tenant(&call).await,
            Operation::Nodes => self.nodes(&call),
            Operation::Status => self.status(&call),
            _ => {
                let order = self.order(&call, body).await?;
                let effect = self.steering().manage(order, call.by()).await;
                let effect = effect.map_err(|refusal| call.problem(refusal))?;
                Ok(call.done(&json!(effect)))
            }
        }
    }

    /// What is to be done.
    async fn order(&self, call: &Call, body: Body) -> Result<Order, Problem> {
        let tenant = |deed| Ok(Order::Tenant { name: of_operators(call)?, deed });
        match call.operation {
            Operation::CreateTenant => {
                let name = of_operators(call)?;
                let mut all = Quotas::default();
                quotas(&self.read(body).await?)?.into_iter().for_each(|(quota, max)| all.set(quota, max));
                Ok(Order::Tenant { name, deed: TenantDeed::Create(all) })
            }
            Operation::ConfigureTenant => {
                let name = of_operators(call)?;
                let named = quotas(&self.read(body).await?)?;
                if named.is_empty() {
                    let names = QUOTAS.map(|(name, _)| name).join(", ");
                    return Err(Problem::new(
                        Kind::Invalid,
                        format!("nothing to change: name one of {names}"),
                    ));
                }
                Ok(Order::Tenant { name, deed: TenantDeed::Configure(named) })
            }
            Operation::SuspendTenant => tenant(TenantDeed::Suspend),
            Operation::ResumeTenant => tenant(TenantDeed::Resume),
            Operation::DeleteTenant => tenant(TenantDeed::Delete),
            _ => {
                let name = call.app()?;
                Ok(Order::App { name, deed: self.deed(call, body).await? })
            }
        }
    }

    async fn deed(&self, call: &Call, body: Body) -> Result<AppDeed, Problem> {
        Ok(match call.operation {
            Operation::CreateApp => {
                let body = self.read(body).await?;
                let spec = if body.is_empty() { AppSpec::default() } else { parse(&body)? };
                self.check_routes(call, &spec).await?;
                AppDeed::Create(Box::new(spec))
            }
            Operation::SuspendApp => AppDeed::Suspend,
            Operation::ResumeApp => AppDeed::Resume,
            Operation::DeleteApp => AppDeed::Delete,
            _ => {
                let spec = parse(&self.read(body).await?)?;
                self.check_routes(call, &spec).await?;
                AppDeed::Configure(Box::new(spec))
            }
        })
    }

    /// Hosts and paths are shared by all tenants, and a more particular route takes clients from a wider one: who administers one
    /// tenant keeps the routes that an operator gave its apps.
    async fn check_routes(&self, call: &Call, spec: &AppSpec) -> Result<(), Problem> {
        if spec.routes.is_empty() || call.token.check_operator().is_ok() {
            return Ok(());
        }
        let name = call.app()?;
        let apps = self.steering().apps().await.map_err(|refusal| call.problem(refusal))?;
        let created = apps.iter().find(|app| app.app == name).and_then(|app| app.created.as_ref());
        let is_given = |route: &&String| created.is_some_and(|created| created.spec.routes.contains(route));
        match spec.routes.iter().find(|route| !is_given(route)) {
            None => Ok(()),
            Some(route) => {
                let route: String = route.chars().take(200).collect();
                let detail = format!(
                    "the route {route} of {name} may be given by operators only, since hosts are shared by all tenants: ask \
                     one, or leave it out of `routes`"
                );
                Err(Problem::new(Kind::Forbidden, detail))
            }
        }
    }

    async fn tenants(&self, call: &Call) -> Result<Response<Body>, Problem> {
        call.token.check_role(call.facts.role)?;
        let tenants = self.all_tenants(call).await?.into_iter();
        let its = tenants.filter(|overview| call.token.tenant.covers(overview.tenant.as_str()));
        Ok(call.done(&json!({ "tenants": its.map(|overview| of_tenant(&overview)).collect::<Vec<_>>() })))
    }

    async fn tenant(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let name = call.name("tenant");
        call.token.check_tenant(call.facts.role, name)?;
        let tenant = label(name)?;
        let tenants = self.all_tenants(call).await?;
        match tenants.iter().find(|overview| overview.tenant == tenant) {
            Some(overview) => Ok(call.done(&of_tenant(overview))),
            None => {
                let known = tenants.into_iter().map(|overview| overview.tenant).collect();
                Err(call.problem(Refusal::UnknownTenant { tenant, known }))
            }
        }
    }

    async fn all_tenants(&self, call: &Call) -> Result<Vec<TenantOverview>, Problem> {
        self.steering().tenants().await.map_err(|refusal| call.problem(refusal))
    }

    fn nodes(&self, call: &Call) -> Result<Response<Body>, Problem> {
        call.token.check_role(call.facts.role)?;
        // How the cluster is reached inside is nobody's business who administers one tenant.
        let is_operator = call.token.check_operator().is_ok();
        let node = |node: &NodeInfo| {
            without_nulls(json!({
                "name": node.name,
                "role": node.role,
                "address": node.address.filter(|_| is_operator),
                "gateway": node.gateway.map(|id| id.to_string()),
            }))
        };
        let nodes = self.steering().nodes();
        Ok(call.done(&json!({ "nodes": nodes.iter().map(node).collect::<Vec<_>>() })))
    }

    fn status(&self, call: &Call) -> Result<Response<Body>, Problem> {
        call.token.check_role(call.facts.role)?;
        let mut status = self.steering().status().map_err(|refusal| call.problem(refusal))?;
        status.apps.retain(|status| call.token.is_for(&status.app));
        Ok(call.done(&without_nulls(json!(status))))
    }
}

/// What a quota is called in JSON: as it is told.
const QUOTAS: [(&str, Quota); 5] = [
    ("apps_max", Quota::AppsMax),
    ("slots_max", Quota::SlotsMax),
    ("memory_mib_max", Quota::MemoryMibMax),
    ("connections_max", Quota::ConnectionsMax),
    ("cpu_share_millis", Quota::CpuShare),
];

/// The quotas that a body names; None: no limit.
fn quotas(body: &[u8]) -> Result<Vec<(Quota, Option<u64>)>, Problem> {
    let named: BTreeMap<String, Option<u64>> = if body.is_empty() { BTreeMap::new() } else { parse(body)? };
    let quota = |(name, max): (String, Option<u64>)| {
        let found = QUOTAS.into_iter().find(|(known, _)| *known == name);
        let Some((name, quota)) = found else {
            let name: String = name.chars().take(80).collect();
            let known = QUOTAS.map(|(known, _)| known).join(", ");
            return Err(Problem::new(
                Kind::BadBody,
                format!("there is no quota `{name}`: there are {known}"),
            ));
        };
        let (least, most) = (CpuShare::MIN.millis(), CpuShare::MAX.millis());
        let share = u64::from(least)..=u64::from(most);
        if quota == Quota::CpuShare && max.is_some_and(|max| !share.contains(&max)) {
            let detail = format!("`{name}` is {least} to {most} thousandths of a core, or null for no limit");
            return Err(Problem::new(Kind::Invalid, detail));
        }
        Ok((quota, max))
    };
    named.into_iter().map(quota).collect()
}

/// The tenant of the path, for whoever may give orders about all of them.
fn of_operators(call: &Call) -> Result<Label, Problem> {
    call.token.check_operator()?;
    label(call.name("tenant"))
}

fn label(name: &str) -> Result<Label, Problem> {
    Label::new(name).map_err(|error| Problem::new(Kind::NoSuchTenant, error.to_string()))
}

fn of_tenant(overview: &TenantOverview) -> Value {
    without_nulls(json!(overview))
}
