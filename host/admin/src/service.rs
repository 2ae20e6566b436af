//! What happens to a request: names, token, rates, body, and then commands or a query.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, Response, header, request};
use axum::routing::{get, on, post};
use parking_lot::Mutex;
use tidegate_base::{
    AppName, ClientId, Command, Digest, Query, Rate, RateMeter, TOKEN_BYTES_MAX, Token, TokenRole,
};
use tidegate_push::{Answered, PushError, Pushed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::body::{Batch, Deed};
use crate::deeds::{Deeds, effects};
use crate::guard::Names;
use crate::idempotency::{Kept, Limits, Seen};
use crate::operation::Operation;
use crate::problem::{Kind, Problem};
use crate::queries::Question;
use crate::reply::{json, not_pushed, parse, parse_any, pushed};
use crate::settings::AdminSettings;
use crate::steer::Call;
use crate::steering::Steering;
use crate::upload::Uploads;
use crate::verb::Verb;
use crate::{counters, intake, openapi};

/// What a [`Backend`] answers, later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the API is an API of.
pub trait Backend: Send + Sync + 'static {
    /// Gives commands to the clients of an app; see [`tidegate_push::Pusher::push`].
    fn push<'a>(
        &'a self,
        app: &'a AppName,
        commands: &'a [Command<'a>],
    ) -> Later<'a, Result<Pushed, PushError>>;

    /// Asks about the clients of an app; see [`tidegate_push::Pusher::ask`].
    fn ask<'a>(&'a self, app: &'a AppName, query: &'a Query) -> Later<'a, Result<Answered, PushError>>;

    /// The token whose secret has this digest.
    ///
    /// It is looked up, not compared: who does not know the secret cannot choose its digest, so how long a look-up takes says
    /// nothing that helps to find one.
    fn token(&self, secret: &Digest) -> Option<Arc<Token>>;

    /// Who deploys.
    fn steering(&self) -> &dyn Steering;
}

/// What all requests share.
pub(crate) struct Service {
    pub(crate) backend: Arc<dyn Backend>,
    names: Names,
    pub(crate) settings: AdminSettings,
    room: Arc<Semaphore>,
    /// Modules that come in.
    pub(crate) uploads: Uploads,
    started: Instant,
    failures: Mutex<RateMeter>,
    /// By the name of the token; at most [`RATES_MAX`].
    rates: Mutex<rustc_hash::FxHashMap<String, RateMeter>>,
    kept: Mutex<Kept<Key>>,
}

/// A token's name, an app, and what the client calls its request.
type Key = (String, AppName, String);

impl Service {
    pub fn new(backend: Arc<dyn Backend>, names: Names, settings: AdminSettings) -> Arc<Self> {
        let limits =
            Limits { entries_max: settings.keys_max, bytes_max: KEPT_BYTES_MAX, keep: settings.key_keep };
        Arc::new(Self {
            backend,
            names,
            room: Arc::new(Semaphore::new(settings.requests_max)),
            uploads: Uploads::default(),
            started: Instant::now(),
            failures: Mutex::default(),
            rates: Mutex::default(),
            kept: Mutex::new(Kept::new(limits)),
            settings,
        })
    }

    /// All paths.
    pub fn router(self: Arc<Self>) -> Router {
        let session = get(read_session).put(write_session).patch(write_session).delete(write_session);
        let mut router = Router::new();
        for operation in Operation::ALL {
            let facts = operation.facts();
            let answer = move |State(service): State<Arc<Self>>, names: PathNames, request: Request| {
                on_operation(service, operation, names, request)
            };
            router = router.route(facts.path, on(facts.method.filter(), answer));
        }
        router
            .route(openapi::VERB_PATH, post(on_verb))
            .route(openapi::SESSION_PATH, session)
            .route(openapi::DOCUMENT_PATH, get(document))
            .fallback(nothing)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self)
    }

    /// Whether the request may be looked at, and whose it is.
    fn admit(&self, parts: &request::Parts) -> Result<Arc<Token>, Problem> {
        counters::REQUESTS.inc();
        self.names.check(&parts.uri, &parts.headers)?;
        let token =
            bearer(&parts.headers).and_then(|secret| self.backend.token(&Digest::of(secret.as_bytes())));
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let Some(token) = token else {
            counters::UNAUTHORIZED.inc();
            let rate = Rate::per_second(self.settings.failures_per_s);
            if rate.is_some_and(|rate| !self.failures.lock().take(rate, 1, now)) {
                let detail = "too many requests came without a token that is known: try again in a second";
                return Err(Problem::new(Kind::TooFast, detail));
            }
            let detail = "send a token, `Authorization: Bearer tg_...`; this one is missing, revoked or not known. Make one \
                          with `tidegate tokens create TENANT`; `dev` writes one into its data folder";
            return Err(Problem::new(Kind::Unauthorized, detail));
        };
        if let Some(rate) = Rate::per_second(self.settings.token_requests_per_s) {
            let mut rates = self.rates.lock();
            if rates.len() >= RATES_MAX {
                // Tokens come and go: who is over its rate has a burst once more.
                rates.clear();
            }
            let fits = match rates.get_mut(&token.id) {
                Some(meter) => meter.take(rate.with_burst(2), 1, now),
                None => rates.entry(token.id.clone()).or_default().take(rate.with_burst(2), 1, now),
            };
            if !fits {
                let max = self.settings.token_requests_per_s;
                let detail = format!(
                    "more than {max} requests a second came with token {}: send several commands as a batch, or raise \
                     `token_requests_per_s` in [admin]",
                    token.id
                );
                return Err(Problem::new(Kind::TooFast, detail));
            }
        }
        Ok(token)
    }

    /// A place among the requests that are being answered.
    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = "too many requests are being answered: try again, or raise `requests_max` in [admin]";
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Problem::new(Kind::Busy, busy))
    }

    /// Takes a body.
    pub(crate) async fn read(&self, mut body: Body) -> Result<Bytes, Problem> {
        let max = self.settings.body_bytes_max;
        let until = tokio::time::Instant::now() + self.settings.read_wait;
        match timeout_at(until, intake::whole(&mut body, max)).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                intake::discard(&mut body, until).await;
                let detail = format!(
                    "the body has more than {max} bytes, or was cut: send less at once, or raise `body_bytes_max` in [admin]"
                );
                Err(Problem::new(Kind::TooLarge, detail))
            }
            Err(_) => {
                let detail = format!("the body did not come within {:?}", self.settings.read_wait);
                Err(Problem::new(Kind::TooSlow, detail))
            }
        }
    }

    /// Gives the commands of a body.
    async fn command(&self, app: &AppName, verb: Verb, body: &[u8]) -> Result<Vec<u8>, Problem> {
        let deeds = deeds(verb, body)?;
        if deeds.len() > self.settings.batch_max {
            let (len, max) = (deeds.len(), self.settings.batch_max);
            let detail = format!(
                "the batch has {len} commands, at most {max} are taken: send several, or raise `batch_max` in [admin]"
            );
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        self.give(app, verb == Verb::Batch, deeds).await
    }

    async fn give(&self, app: &AppName, is_batch: bool, deeds: Vec<Deed<'_>>) -> Result<Vec<u8>, Problem> {
        let deeds = Deeds::new(deeds);
        let (commands, runs) = deeds.commands()?;
        let done = self.backend.push(app, &commands).await.map_err(|error| not_pushed(&error))?;
        pushed(is_batch, effects(&runs, done.outcomes), done.missing)
    }

    async fn ask(&self, app: &AppName, question: Question) -> Result<Response<Body>, Problem> {
        let answered = self.backend.ask(app, &question.query).await.map_err(|error| not_pushed(&error))?;
        let not_there =
            || Problem::new(Kind::NoSuchPath, "there is no such client: it is gone, or never was");
        Ok(json(200, question.answer(answered).ok_or_else(not_there)?))
    }

    /// Gives commands once for each idempotency key, also if whoever asked goes away meanwhile.
    async fn once(
        self: Arc<Self>,
        key: Key,
        asked: Digest,
        work: impl Future<Output = Result<Vec<u8>, Problem>> + Send + 'static,
    ) -> Result<Response<Body>, Problem> {
        let seen = self.kept.lock().begin(&key, asked, Instant::now());
        match seen {
            Seen::New => {}
            Seen::Done((status, body)) => {
                counters::REPEATED.inc();
                return Ok(json(status, Bytes::from_owner(body)));
            }
            Seen::Doing => {
                let detail =
                    "the first request with this Idempotency-Key is not done yet: try again in a moment";
                return Err(Problem::new(Kind::KeyInUse, detail));
            }
            Seen::Other => {
                let detail = "this Idempotency-Key stands for a request with another path or body: take a new key for each";
                return Err(Problem::new(Kind::KeyReused, detail));
            }
        }
        let done = tokio::spawn(async move {
            let done = work.await;
            match &done {
                Ok(body) => self.kept.lock().done(&key, 200, body.as_slice().into()),
                // Nothing was done, or it is the same if it is done once more.
                Err(_) => self.kept.lock().forget(&key),
            }
            done
        });
        let gone = |_| Problem::new(Kind::Busy, "the server is stopping: try again");
        Ok(json(200, done.await.map_err(gone)??))
    }
}

/// The parts of a path that have names.
type PathNames = Result<Path<Vec<(String, String)>>, PathRejection>;

async fn on_operation(
    service: Arc<Service>,
    operation: Operation,
    names: PathNames,
    request: Request,
) -> Response<Body> {
    answered(async {
        let (parts, body) = request.into_parts();
        let token = service.admit(&parts)?;
        let Ok(Path(names)) = names else { return Err(no_such_path(&parts)) };
        let room = service.enter()?;
        let facts = operation.facts();
        service.steer(Call { operation, facts, names, parts, token, room }, body).await
    })
    .await
}

async fn on_verb(
    State(service): State<Arc<Service>>,
    names: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    answered(async {
        let (parts, body) = request.into_parts();
        let token = service.admit(&parts)?;
        let Ok(Path((tenant, app, verb))) = names else { return Err(no_such_path(&parts)) };
        let verb = Verb::from_path(&verb).ok_or_else(|| no_such_path(&parts))?;
        let app = app_of(&token, TokenRole::Push, &tenant, &app)?;
        let room = service.enter()?;
        let body = service.read(body).await?;
        if !verb.is_command() {
            let question = Question::read(verb, &body)?.ok_or_else(|| no_such_path(&parts))?;
            return service.ask(&app, question).await;
        }
        match idempotency_key(&parts.headers)? {
            None => Ok(json(200, service.command(&app, verb, &body).await?)),
            Some(key) => {
                let asked = Digest::of(&[verb.path().as_bytes(), b"\0", &body].concat());
                let key = (token.id.clone(), app.clone(), key.to_owned());
                let worker = Arc::clone(&service);
                // It counts until it is done, whoever still waits for it.
                let work = async move {
                    let done = worker.command(&app, verb, &body).await;
                    drop(room);
                    done
                };
                Arc::clone(&service).once(key, asked, work).await
            }
        }
    })
    .await
}

async fn read_session(
    State(service): State<Arc<Service>>,
    names: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    answered(async {
        let (parts, _) = request.into_parts();
        let token = service.admit(&parts)?;
        let Ok(Path((tenant, app, client))) = names else { return Err(no_such_path(&parts)) };
        let app = app_of(&token, TokenRole::Push, &tenant, &app)?;
        let _room = service.enter()?;
        service.ask(&app, Question::session_of(client_of(&client)?)).await
    })
    .await
}

async fn write_session(
    State(service): State<Arc<Service>>,
    names: Result<Path<(String, String, String)>, PathRejection>,
    request: Request,
) -> Response<Body> {
    answered(async {
        let (parts, body) = request.into_parts();
        let token = service.admit(&parts)?;
        let Ok(Path((tenant, app, client))) = names else { return Err(no_such_path(&parts)) };
        let app = app_of(&token, TokenRole::Push, &tenant, &app)?;
        let _room = service.enter()?;
        let client = crate::body::Many(vec![crate::body::Id(client_of(&client)?)]);
        let body = service.read(body).await?;
        let deed = match parts.method {
            Method::DELETE => Deed::ClearSession(crate::body::Unbind { client }),
            ref method => {
                let session = parse_any(&body)?;
                let write = crate::body::WriteSession { client, session };
                if *method == Method::PUT { Deed::SetSession(write) } else { Deed::UpdateSession(write) }
            }
        };
        Ok(json(200, service.give(&app, false, vec![deed]).await?))
    })
    .await
}

async fn document(State(service): State<Arc<Service>>, request: Request) -> Response<Body> {
    answered(async {
        let (parts, _) = request.into_parts();
        service.admit(&parts)?;
        Ok(json(200, openapi::document()))
    })
    .await
}

async fn nothing(State(service): State<Arc<Service>>, request: Request) -> Response<Body> {
    answered(async {
        let (parts, _) = request.into_parts();
        // Who has no token does not learn what there is.
        service.admit(&parts)?;
        Err(no_such_path(&parts))
    })
    .await
}

/// Something is there, but not with this method.
async fn wrong_method(State(service): State<Arc<Service>>, request: Request) -> Response<Body> {
    answered(async {
        let (parts, _) = request.into_parts();
        service.admit(&parts)?;
        // The path of verbs stands for any word.
        if !openapi::has_path(parts.uri.path()) {
            return Err(no_such_path(&parts));
        }
        let detail = format!(
            "{} is nothing that can be done here: the header Allow has what can, and {} the rest",
            parts.method,
            openapi::DOCUMENT_PATH
        );
        Err(Problem::new(Kind::NoSuchMethod, detail))
    })
    .await
}

async fn answered(work: impl Future<Output = Result<Response<Body>, Problem>>) -> Response<Body> {
    work.await.unwrap_or_else(|problem| {
        counters::REFUSED.inc();
        tracing::debug!(%problem, "a request is refused");
        problem.into_response()
    })
}

fn deeds(verb: Verb, body: &[u8]) -> Result<Vec<Deed<'_>>, Problem> {
    Ok(vec![match verb {
        Verb::Batch => return Ok(parse::<Batch<'_>>(body)?.commands),
        Verb::Close => Deed::Close(parse(body)?),
        Verb::Destroy => Deed::Destroy(parse(body)?),
        Verb::Bind => Deed::Bind(parse(body)?),
        Verb::Unbind => Deed::Unbind(parse(body)?),
        Verb::Join => Deed::Join(parse(body)?),
        Verb::Leave => Deed::Leave(parse(body)?),
        Verb::Disband => Deed::Disband(parse(body)?),
        Verb::SetSession => Deed::SetSession(parse(body)?),
        Verb::UpdateSession => Deed::UpdateSession(parse(body)?),
        Verb::ClearSession => Deed::ClearSession(parse(body)?),
        _ => Deed::Send(parse(body)?),
    }])
}

/// The app of a path, if the token is for it, and for what needs this role.
pub(crate) fn app_of(token: &Token, needs: TokenRole, tenant: &str, app: &str) -> Result<AppName, Problem> {
    let name = AppName::new(&format!("{tenant}/{app}"));
    let app = name.map_err(|error| Problem::new(Kind::NoSuchApp, error.to_string()))?;
    token.check(needs, &app)?;
    Ok(app)
}

fn client_of(text: &str) -> Result<ClientId, Problem> {
    text.parse().map_err(|error: tidegate_base::InvalidId| Problem::new(Kind::Invalid, error.to_string()))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    let fits = scheme.eq_ignore_ascii_case("bearer") && secret.len() <= TOKEN_BYTES_MAX;
    fits.then(|| secret.trim())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(key))
        }
        _ => {
            let detail =
                format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} visible characters, and no spaces");
            Err(Problem::new(Kind::Invalid, detail))
        }
    }
}

pub(crate) fn no_such_path(parts: &request::Parts) -> Problem {
    let path: String = parts.uri.path().chars().take(200).collect();
    let detail = format!(
        "{} {path} is nothing: what there is stands in {}, such as POST /v1/apps/TENANT/APP/send",
        parts.method,
        openapi::DOCUMENT_PATH
    );
    Problem::new(Kind::NoSuchPath, detail)
}

const RATES_MAX: usize = 100_000;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 255;
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
