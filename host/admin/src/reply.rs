//! What requests and responses have in common.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tidegate_push::{Missing, PushError, Why};

use crate::deeds::Effect;
use crate::problem::{Kind, Problem};

/// A gateway that has not answered.
#[derive(Debug, Serialize)]
pub(crate) struct MissingPart {
    gateway: String,
    name: String,
    why: &'static str,
}

/// To a single command.
#[derive(Debug, Serialize)]
struct One {
    reached: u64,
    missing: Vec<MissingPart>,
}

/// To a batch.
#[derive(Debug, Serialize)]
struct Several {
    results: Vec<Effect>,
    missing: Vec<MissingPart>,
}

/// What became of commands, in JSON.
pub(crate) fn pushed(is_batch: bool, effects: Vec<Effect>, who: Vec<Missing>) -> Result<Vec<u8>, Problem> {
    let missing = missing(who);
    // Plain data into a vector: nothing that can fail.
    if is_batch {
        return Ok(serde_json::to_vec(&Several { results: effects, missing }).unwrap_or_default());
    }
    match effects.into_iter().next() {
        Some(Effect::Refused(why)) => Err(Problem::new(Kind::Refused, why)),
        Some(Effect::Reached(reached)) => {
            Ok(serde_json::to_vec(&One { reached, missing }).unwrap_or_default())
        }
        None => Ok(serde_json::to_vec(&One { reached: 0, missing }).unwrap_or_default()),
    }
}

pub(crate) fn missing(missing: Vec<Missing>) -> Vec<MissingPart> {
    let part = |Missing { gateway, name, why }: Missing| MissingPart {
        gateway: gateway.to_string(),
        name: name.to_string(),
        why: match why {
            Why::NotLinked => "not-linked",
            Why::Busy => "busy",
            Why::Refused => "refused",
            Why::Lost => "lost",
            Why::Late => "late",
        },
    };
    missing.into_iter().map(part).collect()
}

/// Reads a body that is an object.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    // A list of its fields would do for the parser too.
    match body.trim_ascii_start().first() {
        None | Some(b'{') => parse_any(body),
        Some(_) => {
            Err(Problem::new(Kind::BadBody, "the body is not what this request takes: it is a JSON object"))
        }
    }
}

/// Reads a body of any kind.
pub(crate) fn parse_any<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "the body is not what this request takes: {error}; the guide to pushes has an example of each"
        );
        Problem::new(Kind::BadBody, detail)
    })
}

/// Why nothing was pushed or asked.
pub(crate) fn not_pushed(error: &PushError) -> Problem {
    let kind = match error {
        PushError::Command { .. } | PushError::Query(_) => Kind::Invalid,
        PushError::TooLarge { .. } => Kind::TooLarge,
        PushError::NoGateway => Kind::NoGateway,
        PushError::NoSuchApp(_) => Kind::NoSuchApp,
    };
    Problem::new(kind, error.to_string())
}

/// A response with this JSON.
pub(crate) fn json(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
