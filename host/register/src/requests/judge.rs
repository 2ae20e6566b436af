//! Who may ask what, and what is said of questions that do not come through.

use tidegate_base::Role;
use tidegate_link::Peer;
use tidegate_wire::request::{BadModule, Refusal, Request};

use crate::lane::LaneFailure;

/// Whether this peer may ask this: operators everything, workers for modules.
pub(super) fn request(peer: &Peer, request: &Request) -> Result<(), Refusal> {
    match (peer.role, request) {
        (Role::Operator, _) | (Role::Worker, Request::Fetch { .. }) => Ok(()),
        (role, request) => {
            let name = request.name();
            let reason = format!(
                "only an operator may ask for {name}, this is the certificate of {role} {}: make one with `tidegate cert \
                 operator NAME`",
                peer.name
            );
            Err(Refusal::NotAllowed { reason })
        }
    }
}

/// What is said of a failure. None: nobody is there to hear it.
pub(super) fn failure(failure: LaneFailure) -> Option<Refusal> {
    let reason = failure.to_string();
    Some(match failure {
        LaneFailure::Ended(_) | LaneFailure::Closed(_) => return None,
        LaneFailure::Late(_)
        | LaneFailure::Module(BadModule::Truncated { .. } | BadModule::WrongDigest { .. }) => {
            Refusal::Transfer { reason }
        }
        LaneFailure::Message(_) => Refusal::Broken { reason },
        LaneFailure::Module(BadModule::TooLarge { .. }) => Refusal::BadModule { reason },
        LaneFailure::Panicked(reason) => Refusal::Internal { reason },
    })
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, Digest, NodeName};
    use tidegate_wire::request::{AppDeed, Order};

    use super::*;

    #[test]
    fn operators_ask_everything_workers_for_modules_and_others_nothing() {
        let peer = |role| Peer { role, name: NodeName::new("n").unwrap(), address: None };
        let app = AppName::new("chat").unwrap();
        let requests = [
            (Request::Apps, false),
            (Request::History { app: app.clone(), limit: 1 }, false),
            (Request::Rollback { app: app.clone(), to: None, note: String::new() }, false),
            (Request::Cancel { app: app.clone() }, false),
            (Request::Tenants, false),
            (Request::Manage(Order::App { name: app, deed: AppDeed::Delete }), false),
            (Request::Fetch { digest: Digest::of(b"") }, true),
        ];
        for (asked, by_worker) in requests {
            assert_eq!(request(&peer(Role::Operator), &asked), Ok(()));
            assert_eq!(request(&peer(Role::Worker), &asked).is_ok(), by_worker, "{asked:?}");
            for role in [Role::Gateway, Role::Register] {
                let refusal = request(&peer(role), &asked).unwrap_err().to_string();
                let said = refusal.contains(asked.name()) && refusal.contains("tidegate cert operator");
                assert!(said && refusal.contains(&format!("{role} n")), "{refusal}");
            }
        }
    }
}
