//! A module that comes in as the body of a request.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use tidegate_wire::request::{BadModule, MODULE_BYTES_MAX};
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

/// Modules that come in at a time.
pub(crate) const UPLOADS_MAX: usize = 4;

/// How long all of a module may take.
const UPLOAD_WAIT: Duration = Duration::from_secs(600);

/// What the body of a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A component.
    Wasm,
    /// The name of one.
    Json,
}

impl Form {
    /// What the headers say.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let value =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*kind {
            "application/wasm" | "application/octet-stream" => Ok(Self::Wasm),
            "application/json" => Ok(Self::Json),
            _ => {
                let detail = "say what the body is: `Content-Type: application/wasm` for a component, `Content-Type: \
                              application/json` for {\"digest\": \"sha256:...\"} or {\"version\": 3}; with curl add -H";
                Err(Problem::new(Kind::BadMedia, detail))
            }
        }
    }
}

/// Takes a module. Memory is taken for what has come, not for what is announced; `step` is how long it may be silent.
pub(crate) async fn take(headers: &HeaderMap, body: Body, step: Duration) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > MODULE_BYTES_MAX) {
        return Err(too_large(announced.unwrap_or_default()));
    }
    match timeout(UPLOAD_WAIT, take_all(body, step)).await {
        Ok(taken) => taken,
        Err(_) => Err(too_slow(UPLOAD_WAIT)),
    }
}

async fn take_all(mut body: Body, step: Duration) -> Result<Bytes, Problem> {
    let mut module = Vec::new();
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match timeout(step, frame).await {
            Err(_) => return Err(too_slow(step)),
            Ok(None) => return Ok(module.into()),
            Ok(Some(Err(error))) => {
                let detail = format!("the module did not come over whole: {error}; deploy it again");
                return Err(Problem::new(Kind::BadBody, detail));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(part) = frame.into_data() else { continue };
        let bytes = (module.len() as u64).saturating_add(part.len() as u64);
        if bytes > MODULE_BYTES_MAX {
            return Err(too_large(bytes));
        }
        module.extend_from_slice(&part);
    }
}

fn too_large(bytes: u64) -> Problem {
    let error = BadModule::TooLarge { bytes, max: MODULE_BYTES_MAX };
    Problem::new(Kind::TooLarge, error.to_string())
}

fn too_slow(wait: Duration) -> Problem {
    Problem::new(Kind::TooSlow, format!("the module did not come within {wait:?}: deploy it again"))
}
