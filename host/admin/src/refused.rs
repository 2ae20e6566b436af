//! From what a register refuses to a problem.

use tidegate_base::Token;
use tidegate_wire::request::Refusal;

use crate::problem::{Kind, Problem};

/// The problem that tells whoever holds this token of a refusal, in the words of the command line. Apps and tenants that the
/// token is not for are not in it.
pub(crate) fn refused(refusal: Refusal, token: &Token) -> Problem {
    let refusal = for_eyes_of(token, refusal);
    Problem::new(kind(&refusal), refusal.to_string())
}

fn for_eyes_of(token: &Token, refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::UnknownApp { app, mut known } => {
            known.retain(|known| token.is_for(known));
            Refusal::UnknownApp { app, known }
        }
        Refusal::UnknownTenant { tenant, mut known } => {
            known.retain(|known| token.tenant.covers(known.as_str()));
            Refusal::UnknownTenant { tenant, known }
        }
        other => other,
    }
}

const fn kind(refusal: &Refusal) -> Kind {
    match refusal {
        Refusal::UnknownApp { .. } => Kind::NoSuchApp,
        Refusal::UnknownTenant { .. } => Kind::NoSuchTenant,
        Refusal::UnknownNode { .. } => Kind::NoSuchPath,
        Refusal::UnknownVersion { .. } | Refusal::NoEarlier { .. } | Refusal::UnknownModule { .. } => {
            Kind::NoSuchVersion
        }
        Refusal::NotRunning { .. } => Kind::NotDeploying,
        Refusal::Busy { .. } | Refusal::Ending { .. } => Kind::Deploying,
        Refusal::BadModule { .. } => Kind::BadModule,
        Refusal::Transfer { .. } | Refusal::Broken { .. } => Kind::BadBody,
        Refusal::Wish { .. } => Kind::Invalid,
        Refusal::NoCapacity { .. } => Kind::NoCapacity,
        Refusal::NoRoom { .. } => Kind::NoRoom,
        Refusal::Store { .. } | Refusal::Internal { .. } => Kind::Failed,
        Refusal::NotAllowed { .. } => Kind::Forbidden,
        Refusal::TooMuch { .. } => Kind::Busy,
        Refusal::NoWorkers { .. } | Refusal::Unavailable { .. } => Kind::Unavailable,
        Refusal::Exists { .. } => Kind::Exists,
        Refusal::Fixed { .. } => Kind::Fixed,
        Refusal::Quota { .. } => Kind::Quota,
        Refusal::Suspended { .. } => Kind::Suspended,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, Label, TokenRole};

    use super::*;

    #[test]
    fn a_problem_names_no_app_and_no_tenant_that_the_token_is_not_for() {
        let app = |name| AppName::new(name).unwrap();
        let acme = Label::new("acme").unwrap();
        let token = Token {
            id: "0".into(),
            tenant: acme.clone().into(),
            role: TokenRole::Deploy,
            apps: vec![],
            note: String::new(),
            created_ms: 0,
        };
        let known = vec![app("acme/chat"), app("globex/secret")];
        let problem = refused(Refusal::UnknownApp { app: app("acme/x"), known }, &token);
        assert!(problem.detail.contains("acme/chat") && !problem.detail.contains("globex"), "{problem}");
        assert_eq!(problem.kind, Kind::NoSuchApp);
        let known = vec![acme.clone(), Label::new("globex").unwrap()];
        let problem = refused(Refusal::UnknownTenant { tenant: Label::new("x").unwrap(), known }, &token);
        assert!(problem.detail.contains("acme") && !problem.detail.contains("globex"), "{problem}");
    }
}
