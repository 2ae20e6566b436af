//! `push`: one message from outside, by the HTTP API.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidegate_http::dial::{DialError, Place, dial};
use tidegate_node::control::{self, Request, Response};
use tidegate_node::outside::TOKEN_FILE;

use crate::args::PushArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{note, print, print_json};
use crate::run;

pub(crate) fn push(args: &PushArgs) -> Outcome {
    let body = body(args)?;
    let data_dir = match &args.local.data_dir {
        Some(folder) => folder.clone(),
        None => run::data_dir(args.local.config.as_ref())?,
    };
    let place = match &args.api {
        Some(api) => named(api)?,
        None => of_node(&data_dir)?,
    };
    let token = token(args, &data_dir)?;
    let path = format!("/v1/apps/{}/send", args.app);
    let said = post(&place, args.ca.as_deref(), &path, &token, body.to_string().as_bytes())?;
    if args.local.json {
        print_json(&said);
    } else {
        print(&[format!("reached {}", said["reached"])]);
    }
    for missing in said["missing"].as_array().into_iter().flatten() {
        note(format_args!("gateway {} has not answered: {}", missing["name"], missing["why"]));
    }
    Ok(())
}

fn body(args: &PushArgs) -> Result<Value, Failure> {
    let mut message = args.message.clone().into_bytes();
    if args.message == "-" {
        message.clear();
        std::io::stdin().read_to_end(&mut message).map_err(Failure::with(Failure::DATA))?;
    }
    let ids = |ids: &[tidegate_base::ClientId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let to = match args {
        _ if args.all => json!("all"),
        _ if !args.client.is_empty() => json!({ "clients": ids(&args.client) }),
        _ if !args.uid.is_empty() => json!({ "uids": args.uid }),
        _ => json!({ "groups": args.group }),
    };
    let except = ids(&args.except);
    if args.binary {
        return Ok(json!({ "to": to, "except": except, "base64": STANDARD.encode(&message) }));
    }
    let text = String::from_utf8(message)
        .map_err(|_| Failure::new(Failure::DATA, "the message is no UTF-8: send it with --binary"))?;
    Ok(json!({ "to": to, "except": except, "text": text }))
}

fn named(api: &str) -> Result<Place, Failure> {
    Place::parse(api).ok_or_else(|| {
        let text = format!("{api:?} is not where an API is: write http://HOST:PORT or https://HOST:PORT");
        Failure::new(Failure::USAGE, text)
    })
}

fn of_node(data_dir: &Path) -> Result<Place, Failure> {
    let unavailable = Failure::with(Failure::UNAVAILABLE);
    match control::ask(data_dir, Request::Status).map_err(unavailable)? {
        Response::Status(status) => match status.addresses.admin {
            Some(address) => Ok(Place { tls: status.addresses.admin_tls, authority: address.to_string() }),
            None => Err(Failure::new(
                Failure::UNAVAILABLE,
                "the node on this machine has no HTTP API: set `listen` in [admin] of its settings, or name another one with \
                 --api http://HOST:PORT",
            )),
        },
        _ => Err(Failure::new(Failure::SOFTWARE, "the node answered another question")),
    }
}

/// The token that is named, or the one that `dev` has written.
fn token(args: &PushArgs, data_dir: &std::path::Path) -> Result<String, Failure> {
    if args.token_file.is_none()
        && let Ok(token) = std::env::var("TIDEGATE_TOKEN")
    {
        return Ok(token);
    }
    let path: PathBuf = args.token_file.clone().unwrap_or_else(|| data_dir.join(TOKEN_FILE));
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let text = format!(
            "there is no token: {}: {error}; set TIDEGATE_TOKEN, or name a file with --token-file. Make one with `tidegate \
             tokens create {}`",
            path.display(),
            args.app.tenant()
        );
        Failure::new(Failure::NO_PERMISSION, text)
    })?;
    Ok(text.trim().to_owned())
}

/// One request and its answer.
fn post(place: &Place, ca: Option<&Path>, path: &str, token: &str, body: &[u8]) -> Result<Value, Failure> {
    let address = &place.authority;
    let failed = |error: std::io::Error| {
        let text = format!("cannot talk to the HTTP API at {address}: {error}; is the node running?");
        Failure::new(Failure::UNAVAILABLE, text)
    };
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::new(Failure::USAGE, "the token is none: it has spaces or line breaks in it"));
    }
    let mut stream = dial(place, ca, ANSWER_WAIT).map_err(|error| match error {
        DialError::Io(error) => failed(error),
        DialError::Untrusted(why) => {
            Failure::new(Failure::UNAVAILABLE, format!("the HTTP API at {address} is not talked to: {why}"))
        }
        of_this_machine => Failure::new(Failure::CONFIG, of_this_machine.to_string()),
    })?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    stream.write_all(&request).and_then(|()| stream.flush()).map_err(failed)?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // An end without a farewell of TLS: an answer that is cut off is no JSON.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        read => drop(read.map_err(failed)?),
    }
    let answer = String::from_utf8_lossy(&answer);
    let (status, value) = parse(&answer).ok_or_else(|| {
        Failure::new(Failure::SOFTWARE, format!("what answers at {address} is no HTTP API of Tidegate"))
    })?;
    match status {
        200 => Ok(value),
        401 | 403 => Err(Failure::new(Failure::NO_PERMISSION, detail(&value))),
        503 => Err(Failure::new(Failure::UNAVAILABLE, detail(&value))),
        _ => Err(Failure::new(Failure::USAGE, detail(&value))),
    }
}

fn parse(answer: &str) -> Option<(u16, Value)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

fn detail(problem: &Value) -> String {
    problem["detail"].as_str().unwrap_or("it is refused").to_owned()
}

/// Longer than a push waits for gateways.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_json() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((200, json!({}))));
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\n<html>"), None);
        assert_eq!(parse("SSH-2.0"), None);
    }

    #[test]
    fn an_api_is_named_by_a_scheme_and_an_authority() {
        let place = named("http://127.0.0.1:7480/").ok().unwrap();
        assert_eq!(place, Place { tls: false, authority: "127.0.0.1:7480".into() });
        assert!(
            named("127.0.0.1:7480")
                .is_err_and(|failure| format!("{failure:?}").contains("https://HOST:PORT"))
        );
    }
}
