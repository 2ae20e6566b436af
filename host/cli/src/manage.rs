//! `tenants` and `apps`: making, changing, suspending and removing them while everything runs.

use std::io::{BufRead, IsTerminal};

use serde_json::{Value, json};
use tidegate_base::{AppSpec, Quota, Quotas};
use tidegate_node::config::read_app_spec;
use tidegate_wire::request::{AppDeed, AppOverview, Effect, NodeRef, Order, TenantDeed, TenantOverview};

use crate::args::{AppsArgs, AppsCommand, TenantsArgs, TenantsCommand, Whom};
use crate::failure::{Failure, Outcome};
use crate::output::{columns, note, print, print_json};
use crate::steer::{cluster, line_of_app};

pub(crate) fn tenants(args: &TenantsArgs) -> Outcome {
    let tenant = |name: &_, deed| Order::Tenant { name: Clone::clone(name), deed };
    match &args.command {
        None => list_tenants(&args.whom),
        Some(TenantsCommand::List { whom }) => list_tenants(whom),
        Some(TenantsCommand::Create { name, quotas, whom }) => {
            let mut all = Quotas::default();
            quotas.named().into_iter().for_each(|(quota, max)| all.set(quota, max));
            order(whom, tenant(name, TenantDeed::Create(all)), &format!("tenant {name} is there"))
        }
        Some(TenantsCommand::Configure { name, quotas, whom }) => {
            let named = quotas.named();
            if named.is_empty() {
                let flags: Vec<_> =
                    Quota::ALL.map(|quota| format!("--{}", quota.key().replace('_', "-"))).into();
                let text = format!("nothing to change: name a quota with {}", flags.join(", "));
                return Err(Failure::new(Failure::USAGE, text));
            }
            order(whom, tenant(name, TenantDeed::Configure(named)), &format!("tenant {name} is changed"))
        }
        Some(TenantsCommand::Suspend { name, whom }) => {
            order(whom, tenant(name, TenantDeed::Suspend), &format!("tenant {name} is suspended"))
        }
        Some(TenantsCommand::Resume { name, whom }) => {
            order(whom, tenant(name, TenantDeed::Resume), &format!("tenant {name} is resumed"))
        }
        Some(TenantsCommand::Delete { name, yes, whom }) => {
            let what = format!("tenant {name} and all its apps, with their clients, versions and histories");
            confirm(*yes, &what)?;
            order(whom, tenant(name, TenantDeed::Delete), &format!("tenant {name} is gone"))
        }
    }
}

pub(crate) fn apps(args: &AppsArgs) -> Outcome {
    let app = |name: &_, deed| Order::App { name: Clone::clone(name), deed };
    match &args.command {
        None => list_apps(&args.whom),
        Some(AppsCommand::List { whom }) => list_apps(whom),
        Some(AppsCommand::Create { name, settings, whom }) => {
            let spec = match settings {
                Some(path) => read_app_spec(path)?,
                None => AppSpec::default(),
            };
            let done = format!("app {name} is there: `tidegate deploy {name} MODULE` gives it its code");
            order(whom, app(name, AppDeed::Create(Box::new(spec))), &done)
        }
        Some(AppsCommand::Configure { name, settings, whom }) => {
            let spec = Box::new(read_app_spec(settings)?);
            order(whom, app(name, AppDeed::Configure(spec)), &format!("app {name} has new settings"))
        }
        Some(AppsCommand::Suspend { name, whom }) => {
            order(whom, app(name, AppDeed::Suspend), &format!("app {name} is suspended"))
        }
        Some(AppsCommand::Resume { name, whom }) => {
            order(whom, app(name, AppDeed::Resume), &format!("app {name} is resumed"))
        }
        Some(AppsCommand::Delete { name, yes, whom }) => {
            confirm(*yes, &format!("app {name}, with its clients, versions and history"))?;
            order(whom, app(name, AppDeed::Delete), &format!("app {name} is gone"))
        }
    }
}

fn list_apps(whom: &Whom) -> Outcome {
    let apps = cluster(whom)?.apps()?;
    if whom.local.json {
        print_json(&Value::Array(apps.iter().map(json_of_app).collect()));
    } else {
        print(&columns(&apps.iter().map(line_of_app).collect::<Vec<_>>()));
    }
    Ok(())
}

fn list_tenants(whom: &Whom) -> Outcome {
    let tenants = cluster(whom)?.tenants()?;
    if whom.local.json {
        print_json(&Value::Array(tenants.iter().map(|tenant| without_nulls(json!(tenant))).collect()));
    } else {
        print(&columns(&tenants.iter().map(line_of_tenant).collect::<Vec<_>>()));
    }
    Ok(())
}

/// Gives an order, and says what came of it: what nodes do not do yet, and what they cannot do, on standard error.
fn order(whom: &Whom, order: Order, done: &str) -> Outcome {
    let effect = cluster(whom)?.manage(order)?;
    if whom.local.json {
        print_json(&json!(effect));
    } else {
        print(&[done.to_owned()]);
    }
    words(&effect).iter().for_each(note);
    Ok(())
}

fn words(effect: &Effect) -> Vec<String> {
    let mut words = Vec::new();
    if !effect.behind.is_empty() {
        let names: Vec<_> = effect.behind.iter().map(node).collect();
        let names = names.join(", ");
        words.push(format!(
            "it is written down, but not in effect yet on {names}: it will be when they answer again"
        ));
    }
    words.extend(
        effect.troubles.iter().map(|it| format!("{}: app {}: {}", node(&it.node), it.app, it.reason)),
    );
    words
}

fn node(node: &NodeRef) -> String {
    format!("{} {}", node.role, node.name)
}

/// Asks whoever sits at the terminal; a script must say `--yes`.
fn confirm(yes: bool, what: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    let no = |text: &str| Err(Failure::new(Failure::USAGE, text));
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return no("nobody is there to ask: add --yes to remove it without a question");
    }
    note(format_args!("This removes {what}. Write yes to go on:"));
    let mut line = String::new();
    match stdin.lock().read_line(&mut line) {
        Ok(_) if line.trim() == "yes" => Ok(()),
        _ => no("nothing was removed"),
    }
}

fn line_of_tenant(overview: &TenantOverview) -> Vec<String> {
    let TenantOverview { tenant, fixed, suspended, quotas, usage } = overview;
    let part = |quota: Quota| {
        let (has, of) = (quota.shown(usage.get(quota)), quota.of());
        match quotas.get(quota) {
            Some(max) => format!("{has} of {} {of}", quota.shown(max)),
            None => format!("{has} {of}"),
        }
    };
    let state = match (suspended, fixed) {
        (true, _) => "suspended",
        (false, true) => "of a settings file",
        (false, false) => "",
    };
    let mut line = vec![tenant.to_string()];
    line.extend(Quota::ALL.map(part));
    line.push(state.to_owned());
    line
}

/// What was not set is left out, and what is secret is not in it.
fn json_of_app(overview: &AppOverview) -> Value {
    let mut value = json!(overview);
    if let Some(created) = value.get_mut("created") {
        *created = without_nulls(created.take());
    }
    value
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, Label, NodeName, Role, Usage};
    use tidegate_wire::request::NodeTrouble;

    use super::*;

    #[test]
    fn a_tenant_is_a_line_with_what_it_has_of_what_it_may_have() {
        let overview = TenantOverview {
            tenant: Label::new("acme").unwrap(),
            fixed: false,
            suspended: true,
            quotas: Quotas { slots_max: Some(4), ..Quotas::default() },
            usage: Usage { apps: 2, slots: 3, memory_mib: 192, connections: 20, cpu_share_millis: 1500 },
        };
        let line = [
            "acme",
            "2 apps",
            "3 of 4 slots",
            "192 MiB of memory",
            "20 connections",
            "1.5 cores",
            "suspended",
        ];
        assert_eq!(line_of_tenant(&overview), line);
        let fixed = TenantOverview { fixed: true, suspended: false, ..overview };
        assert_eq!(line_of_tenant(&fixed)[6], "of a settings file");
    }

    #[test]
    fn who_is_behind_and_what_does_not_work_is_told() {
        let node = NodeRef { role: Role::Worker, name: NodeName::new("w-1").unwrap() };
        let app = AppName::new("acme/a").unwrap();
        let troubles = vec![NodeTrouble { node: node.clone(), app, reason: "no room".into() }];
        let effect = Effect { revision: 1, apps: Vec::new(), behind: vec![node], troubles };
        let words = words(&effect);
        assert!(words[0].contains("not in effect yet on worker w-1"), "{words:?}");
        assert_eq!(words[1], "worker w-1: app acme/a: no room");
        assert!(super::words(&Effect::default()).is_empty());
    }

    #[test]
    fn what_is_not_set_is_not_printed() {
        let value = without_nulls(json!({"a": null, "b": [1, {"c": null}], "d": false}));
        assert_eq!(value, json!({"b": [1, {}], "d": false}));
    }

    #[test]
    fn nobody_is_asked_who_said_yes_and_a_script_must_say_it() {
        assert!(confirm(true, "app a").is_ok());
    }
}
