//! `tokens`: who may use the HTTP API.

use serde_json::{Value, json};
use tidegate_base::{AppName, Label, Token, TokenTenant, TokenWish};

use crate::args::{TokensArgs, TokensCommand, Whom};
use crate::date::of_epoch_ms;
use crate::failure::{Failure, Outcome};
use crate::output::{columns, note, print, print_json};
use crate::steer::cluster;

pub(crate) fn tokens(args: &TokensArgs) -> Outcome {
    match &args.command {
        None => list(None, &args.whom),
        Some(TokensCommand::List { tenant, whom }) => list(tenant.clone(), whom),
        Some(TokensCommand::Create { tenant, role, apps, note, whom }) => {
            if *tenant == TokenTenant::Every && !apps.is_empty() {
                let reason = "--app names apps of one tenant: name it instead of '*'";
                return Err(Failure::new(Failure::USAGE, reason));
            }
            let app = |app: &Label| AppName::new(&format!("{tenant}/{app}"));
            let apps =
                apps.iter().map(app).collect::<Result<_, _>>().map_err(Failure::with(Failure::USAGE))?;
            create(TokenWish { tenant: tenant.clone(), role: *role, apps, note: note.clone() }, whom)
        }
        Some(TokensCommand::Revoke { id, whom }) => {
            let token = cluster(whom)?.revoke_token(id.clone())?;
            if whom.local.json {
                print_json(&json!(token));
            } else {
                print(&[format!("token {} of {} is revoked", token.id, token.tenant)]);
            }
            Ok(())
        }
    }
}

fn create(wish: TokenWish, whom: &Whom) -> Outcome {
    let new = cluster(whom)?.create_token(wish)?;
    if whom.local.json {
        print_json(&json!({ "token": new.token, "secret": new.secret.expose() }));
        return Ok(());
    }
    print(&[new.secret.expose().to_owned()]);
    note(format_args!(
        "token {} for {}, {}: keep it, nobody can show it again",
        new.token.id,
        new.token.role,
        apps_of(&new.token)
    ));
    Ok(())
}

fn list(tenant: Option<Label>, whom: &Whom) -> Outcome {
    let tokens = cluster(whom)?.tokens(tenant)?;
    if whom.local.json {
        print_json(&Value::Array(tokens.iter().map(|token| json!(token)).collect()));
    } else {
        print(&columns(&tokens.iter().map(line).collect::<Vec<_>>()));
    }
    Ok(())
}

fn line(token: &Token) -> Vec<String> {
    // One that lives as long as its node has no date.
    let made = if token.created_ms == 0 { String::new() } else { of_epoch_ms(token.created_ms) };
    vec![token.id.clone(), token.role.to_string(), apps_of(token), made, token.note.clone()]
}

fn apps_of(token: &Token) -> String {
    match &*token.apps {
        [] => format!("{}/*", token.tenant),
        apps => apps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
