//! A module that comes in as the body of a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use tidegate_wire::request::{BadModule, MODULE_BYTES_MAX};
use tokio::time::{Instant, timeout};

use crate::intake;
use crate::problem::{Kind, Problem};

/// Modules that come in, or wait to be stored, at a time.
pub(crate) const UPLOADS_MAX: usize = 4;
/// And of one tenant, so that one that is slow leaves room for others.
const TENANT_UPLOADS_MAX: usize = 2;

/// The places for modules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uploads {
    by_tenant: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Uploads {
    /// A place for a module of this tenant, if there is one.
    pub fn place(&self, tenant: &str) -> Result<Place, Problem> {
        let mut by_tenant = self.by_tenant.lock();
        let (all, own) = (by_tenant.values().sum::<usize>(), by_tenant.get(tenant).copied().unwrap_or(0));
        if all >= UPLOADS_MAX || own >= TENANT_UPLOADS_MAX {
            let detail = format!(
                "{own} modules of this tenant, {all} of all, come in already; at most {TENANT_UPLOADS_MAX} and {UPLOADS_MAX} may: \
                 try again in a moment"
            );
            return Err(Problem::new(Kind::Busy, detail));
        }
        by_tenant.insert(tenant.to_owned(), own + 1);
        Ok(Place { by_tenant: Arc::clone(&self.by_tenant), tenant: tenant.to_owned() })
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    by_tenant: Arc<Mutex<BTreeMap<String, usize>>>,
    tenant: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_tenant = self.by_tenant.lock();
        match by_tenant.get_mut(&self.tenant) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(by_tenant.remove(&self.tenant)),
        }
    }
}

/// A module that has come keeps its place as long as its bytes are in memory, whoever has them then.
struct Placed {
    module: Vec<u8>,
    _place: Place,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.module
    }
}

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
pub(crate) async fn take(
    headers: &HeaderMap,
    mut body: Body,
    step: Duration,
    place: Place,
) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let refused = announced.filter(|bytes| *bytes > MODULE_BYTES_MAX).map(too_large);
    // Who asked first whether to send is answered before it does.
    let asked_first = refused.is_some() && headers.contains_key(header::EXPECT);
    let taken = match refused {
        Some(refused) => Err(refused),
        None => {
            let taken = timeout(UPLOAD_WAIT, take_all(&mut body, step)).await;
            taken.unwrap_or_else(|_| Err(too_slow(UPLOAD_WAIT)))
        }
    };
    if taken.as_ref().is_err_and(|refused| refused.kind == Kind::TooLarge) && !asked_first {
        intake::discard(&mut body, Instant::now() + step).await;
    }
    taken.map(|module| Bytes::from_owner(Placed { module, _place: place }))
}

async fn take_all(body: &mut Body, step: Duration) -> Result<Vec<u8>, Problem> {
    let mut module = Vec::new();
    loop {
        let part = match timeout(step, intake::part(body)).await {
            Err(_) => return Err(too_slow(step)),
            Ok(None) => return Ok(module),
            Ok(Some(Err(error))) => {
                let detail = format!("the module did not come over whole: {error}; deploy it again");
                return Err(Problem::new(Kind::BadBody, detail));
            }
            Ok(Some(Ok(part))) => part,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_leaves_room_for_others_and_a_module_keeps_its_place_as_long_as_its_bytes() {
        let uploads = Uploads::default();
        let own = [uploads.place("a").unwrap(), uploads.place("a").unwrap()];
        let detail = uploads.place("a").unwrap_err().to_string();
        assert!(detail.contains("2 modules of this tenant"), "{detail}");
        let others = [uploads.place("b").unwrap(), uploads.place("c").unwrap()];
        assert!(uploads.place("d").is_err());
        let [first, second] = own;
        let bytes = Bytes::from_owner(Placed { module: vec![1, 2], _place: first });
        let copy = bytes.clone();
        drop((bytes, second));
        let _there = uploads.place("d").unwrap();
        assert!(uploads.place("d").is_err());
        drop(copy);
        let _second = uploads.place("d").unwrap();
        drop((others, _there, _second));
        assert!(uploads.by_tenant.lock().is_empty());
    }
}
