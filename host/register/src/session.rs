//! One link of a node or operator, from its first message to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_base::Role;
use tidegate_link::{ControlRx, Link, Peer};
use tidegate_wire::control::{AppClients, AppReport, Control, FixedApp, NodeInfo, Trouble};
use tidegate_wire::directory::Session;

use crate::{Shared, counters};

/// How a link ended.
pub(crate) enum End {
    /// By itself, for this reason.
    Gone(String),
    /// The peer did what it must not; the reason says how to mend it.
    Refused(String),
}

/// What a message asks of the register.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// To be in the list.
    Announce(NodeInfo),
    /// To get the list.
    List,
    /// To say how its apps do.
    Reports(Vec<AppReport>),
    /// To say how many clients it has.
    Counted { number: u64, apps: Vec<AppClients> },
    /// To say which apps stand in its settings file.
    FixedApps(Vec<FixedApp>),
    /// To say that it does what it was told of apps.
    CatalogApplied { revision: u64, troubles: Vec<Trouble> },
}

/// Serves a link's control channel. An operator who has asked something on a lane (`asked`) need not say anything here.
pub(crate) async fn serve(shared: &Shared, session: Session, link: &Link, asked: &AtomicBool) -> End {
    let Some((control, mut messages)) = link.take_control() else {
        return End::Refused("its control channel is in use already: hand each link over once".into());
    };
    let mut next = match tokio::time::timeout(FIRST_MESSAGE, read(&mut messages)).await {
        Ok(next) => next,
        Err(_) if link.peer().role == Role::Operator && asked.load(Ordering::Relaxed) => {
            read(&mut messages).await
        }
        Err(_) => return End::Refused(silent(link.peer())),
    };
    loop {
        let message = match next {
            Ok(message) => message,
            Err(end) => return end,
        };
        match judge(link.peer(), message) {
            Ok(Wish::Announce(info)) => {
                counters::ANNOUNCEMENTS.inc();
                let (role, name) = (info.role, info.name.clone());
                shared.announce(session, info, &control);
                shared.desk.node_up(session, role, name, control.clone()).await;
            }
            Ok(Wish::Reports(reports)) => shared.desk.reports(session, reports).await,
            Ok(Wish::Counted { number, apps }) => shared.desk.counted(session, number, apps).await,
            Ok(Wish::FixedApps(apps)) => shared.desk.fixed_apps(session, apps).await,
            Ok(Wish::CatalogApplied { revision, troubles }) => {
                shared.desk.catalog_applied(session, revision, troubles).await;
            }
            Ok(Wish::List) => {
                if let Err(error) = control.send(shared.snapshot()) {
                    return End::Gone(error.to_string());
                }
            }
            Err(reason) => return End::Refused(reason),
        }
        next = read(&mut messages).await;
    }
}

async fn read(messages: &mut ControlRx) -> Result<Control, End> {
    let bytes = messages.recv().await.map_err(|error| End::Gone(error.to_string()))?;
    Control::from_bytes(&bytes)
        .map_err(|error| End::Refused(format!("{error}: upgrade the older of the two nodes")))
}

/// What this peer may ask for. A certificate says who it is; an announcement must not say otherwise.
fn judge(peer: &Peer, message: Control) -> Result<Wish, String> {
    match (peer.role, message) {
        (Role::Operator, Control::ListNodes) => Ok(Wish::List),
        (Role::Operator, other) => Err(format!("it sent {}, an operator may only list nodes", name(&other))),
        (_, Control::Announce(info)) if (info.role, &info.name) != (peer.role, &peer.name) => Err(format!(
            "it announces itself as {} {}, but its certificate is that of {} {}: start it with the certificate of \
             that name, or make one with `tidegate cert node {} {}`",
            info.role, info.name, peer.role, peer.name, info.role, info.name
        )),
        (Role::Register, Control::Announce(_)) => {
            Err("registers do not announce themselves: name them in [cluster] registers of the nodes".into())
        }
        (Role::Gateway, Control::Announce(NodeInfo { gateway: None, .. })) => {
            Err("a gateway must announce its id: upgrade it".into())
        }
        (_, Control::Announce(info)) => Ok(Wish::Announce(info)),
        (Role::Worker, Control::AppReports(reports)) => Ok(Wish::Reports(reports)),
        (Role::Gateway, Control::Counted { number, apps }) => Ok(Wish::Counted { number, apps }),
        (Role::Gateway | Role::Worker, Control::FixedApps(apps)) => Ok(Wish::FixedApps(apps)),
        (Role::Gateway | Role::Worker, Control::CatalogApplied { revision, troubles }) => {
            Ok(Wish::CatalogApplied { revision, troubles })
        }
        (_, Control::ListNodes) => {
            Err("only an operator may list nodes: make a certificate with `tidegate cert operator NAME`"
                .into())
        }
        (_, other) => Err(format!("it sent {}, which is not for a register", name(&other))),
    }
}

fn silent(peer: &Peer) -> String {
    let expected = if peer.role == Role::Operator { "ask anything" } else { "announce itself" };
    format!("it did not {expected} within {} s: upgrade it, or look at its load", FIRST_MESSAGE.as_secs())
}

fn name(message: &Control) -> &'static str {
    match message {
        Control::Gateway { .. } => "Gateway",
        Control::Slots(_) => "Slots",
        Control::LaneWanted { .. } => "LaneWanted",
        Control::Announce(_) => "Announce",
        Control::Directory { .. } => "Directory",
        Control::ListNodes => "ListNodes",
        Control::Apps { .. } => "Apps",
        Control::AppReports(_) => "AppReports",
        Control::Census { .. } => "Census",
        Control::Counted { .. } => "Counted",
        Control::Catalog(_) => "Catalog",
        Control::CatalogApplied { .. } => "CatalogApplied",
        Control::FixedApps(_) => "FixedApps",
    }
}

/// How long a new link may say nothing.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tidegate_base::{GatewayId, NodeName};

    use super::*;

    fn peer(role: Role, name: &str) -> Peer {
        Peer { role, name: NodeName::new(name).unwrap(), address: None }
    }

    fn info(role: Role, name: &str) -> NodeInfo {
        let gateway = (role == Role::Gateway).then(|| GatewayId::new(7));
        NodeInfo { name: NodeName::new(name).unwrap(), role, address: None, gateway }
    }

    #[test]
    fn a_node_may_announce_itself_and_nobody_else() {
        for role in [Role::Gateway, Role::Worker] {
            let wish = judge(&peer(role, "n"), Control::Announce(info(role, "n")));
            assert_eq!(wish, Ok(Wish::Announce(info(role, "n"))));
        }
        for (role, other) in [(Role::Worker, "m"), (Role::Gateway, "n")] {
            let reason = judge(&peer(Role::Worker, "n"), Control::Announce(info(role, other))).unwrap_err();
            assert!(reason.contains("its certificate is that of worker n"), "{reason}");
            assert!(reason.contains(&format!("tidegate cert node {role} {other}")), "{reason}");
        }
    }

    #[test]
    fn only_operators_list_nodes_and_they_do_nothing_else() {
        let operator = peer(Role::Operator, "ann");
        assert_eq!(judge(&operator, Control::ListNodes), Ok(Wish::List));
        assert!(judge(&operator, Control::Announce(info(Role::Operator, "ann"))).is_err());
        let reason = judge(&peer(Role::Worker, "w"), Control::ListNodes).unwrap_err();
        assert!(reason.contains("tidegate cert operator"), "{reason}");
    }

    #[test]
    fn workers_report_and_gateways_count_and_not_the_other_way_round() {
        let (reports, counted) =
            (Control::AppReports(Vec::new()), Control::Counted { number: 3, apps: Vec::new() });
        let wish = judge(&peer(Role::Worker, "w"), reports.clone());
        assert_eq!(wish, Ok(Wish::Reports(Vec::new())));
        let wish = judge(&peer(Role::Gateway, "g"), counted.clone());
        assert_eq!(wish, Ok(Wish::Counted { number: 3, apps: Vec::new() }));
        assert!(judge(&peer(Role::Worker, "w"), counted).is_err());
        assert!(judge(&peer(Role::Gateway, "g"), reports).is_err());
    }

    #[test]
    fn messages_of_other_conversations_and_other_roles_are_refused() {
        for message in [Control::Slots(Vec::new()), Control::Gateway { id: GatewayId::new(1) }] {
            let reason = judge(&peer(Role::Worker, "w"), message.clone()).unwrap_err();
            assert!(reason.contains(name(&message)), "{reason}");
        }
        assert!(judge(&peer(Role::Register, "r"), Control::Announce(info(Role::Register, "r"))).is_err());
        let nameless = NodeInfo { gateway: None, ..info(Role::Gateway, "g") };
        assert!(judge(&peer(Role::Gateway, "g"), Control::Announce(nameless)).is_err());
    }
}
