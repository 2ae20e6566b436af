//! `nodes` and `status`: questions to a node on this machine, or to a register and by it to all nodes.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use tidegate_link::certs::Identity;
use tidegate_node::control::{self, Request, Response};
use tidegate_node::inquiry::{Inquiry, Told};
use tidegate_node::operator;
use tidegate_node::status::{InstancesEntry, NodeEntry, Status};

use crate::args::{LocalNode, NodesArgs, StatusArgs};
use crate::failure::{Failure, Outcome};
use crate::output::{app_of, columns, print, print_json};
use crate::run;
use crate::steer::cluster;

pub(crate) fn nodes(args: &NodesArgs) -> Outcome {
    let nodes = match (args.whom.register, &args.whom.identity) {
        (Some(register), Some(identity)) => of_register(register, identity)?,
        _ => match ask(&args.whom.local, Request::Nodes)? {
            Response::Nodes(nodes) => nodes,
            _ => return Err(misunderstood()),
        },
    };
    if args.whom.local.json {
        print_json(&json!(nodes));
    } else {
        print(&columns(&nodes.iter().map(row).collect::<Vec<_>>()));
    }
    Ok(())
}

pub(crate) fn status(args: &StatusArgs) -> Outcome {
    let local = &args.whom.local;
    if args.all || args.node.is_some() || args.whom.register.is_some() {
        return statuses(args);
    }
    let Response::Status(status) = ask(local, Request::Status)? else { return Err(misunderstood()) };
    if local.json {
        print_json(&json!(status));
    } else {
        print(&lines(&status));
    }
    Ok(())
}

/// Of all nodes, or of one by its name.
fn statuses(args: &StatusArgs) -> Outcome {
    let mut inquiry = Inquiry::new(cluster(&args.whom)?);
    let told = inquiry.statuses(args.node.as_ref())?;
    inquiry.close();
    if args.whom.local.json {
        print_json(&json!(told));
        return Ok(());
    }
    let mut all = Vec::new();
    for Told { role, node, answer, missing } in told {
        if !all.is_empty() {
            all.push(String::new());
        }
        all.extend(answer.as_ref().map(lines).unwrap_or_default());
        all.extend(missing.map(|why| format!("{node} ({role}) is missing: {why}")));
    }
    print(&all);
    Ok(())
}

fn ask(local: &LocalNode, request: Request) -> Result<Response, Failure> {
    let data_dir = match &local.data_dir {
        Some(folder) => folder.clone(),
        None => run::data_dir(local.config.as_ref())?,
    };
    control::ask(&data_dir, request).map_err(Failure::with(Failure::UNAVAILABLE))
}

fn of_register(register: SocketAddr, identity: &Path) -> Result<Vec<NodeEntry>, Failure> {
    let identity = Identity::load(identity).map_err(Failure::with(Failure::CONFIG))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::with(Failure::SOFTWARE))?;
    runtime.block_on(operator::nodes(register, identity)).map_err(Failure::with(Failure::UNAVAILABLE))
}

fn row(node: &NodeEntry) -> Vec<String> {
    let address = node.address.map(|address| address.to_string()).unwrap_or_default();
    vec![node.role.to_string(), node.name.clone(), address, node.gateway.clone().unwrap_or_default()]
}

fn lines(status: &Status) -> Vec<String> {
    let roles: Vec<_> = status.roles.iter().map(ToString::to_string).collect();
    let ready = if status.ready { "ready" } else { "not ready" };
    let mut all = vec![format!(
        "{} ({}), {ready}, up for {} s, process {}, version {}",
        status.node,
        roles.join(", "),
        status.uptime_s,
        status.pid,
        status.version
    )];
    let apps = status.apps.iter().map(|app| {
        let clients = app.clients.map(|count| format!("{count} clients")).unwrap_or_default();
        let slots = app.slots.map(|slots| {
            let mut text = format!(
                "version {}, {} slots, {} turns, {} failed, {} restarts",
                slots.version, slots.count, slots.turns, slots.failed, slots.restarts
            );
            let others = [
                (slots.asleep, "asleep"),
                (
                    slots.without_place,
                    if slots.without_place == 1 { "waits for a place" } else { "wait for a place" },
                ),
                (slots.waiting, "wait to restart"),
                (slots.suspended, "suspended"),
            ];
            for (count, what) in others {
                if count > 0 {
                    text.push_str(&format!(", {count} {what}"));
                }
            }
            if slots.throttled_ms > 0 {
                let now = if slots.throttled { "over its cpu_share, " } else { "" };
                text.push_str(&format!(", {now}waited {} ms for the CPU", slots.throttled_ms));
            }
            text
        });
        let slots = match app.missing_labels.is_empty() {
            true => slots.unwrap_or_default(),
            false => format!("not here: it requires {}", app.missing_labels.join(", ")),
        };
        vec![app.name.clone(), clients, slots]
    });
    all.extend(columns(&apps.collect::<Vec<_>>()));
    if let Some(InstancesEntry { count, max, kept_bytes }) = status.instances {
        let kept = kept_bytes >> 10;
        all.push(format!("{count} of {max} plugin instances, {kept} KiB kept for those to come"));
    }
    let listeners = status.addresses.listeners.iter().map(|listener| {
        vec![app_of(listener), listener.url.clone(), listener.web.clone().unwrap_or_default()]
    });
    all.extend(columns(&listeners.collect::<Vec<_>>()));
    let counted = status.counters.iter().filter(|(_, count)| **count > 0);
    let counted = counted.map(|(name, count)| vec![name.clone(), count.to_string()]);
    all.extend(columns(&counted.collect::<Vec<_>>()));
    all
}

fn misunderstood() -> Failure {
    Failure::new(Failure::SOFTWARE, "the node answered another question: is it of another version?")
}
