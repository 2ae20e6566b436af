//! Apps, versions and deployments: what is answered to the requests of the table of operations.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header, request};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_base::{AppName, Digest, Token};
use tidegate_wire::control::Canary;
use tidegate_wire::report::Outcome;
use tidegate_wire::request::{AppOverview, HISTORY_LIMIT_MAX, HistoryEntry, Refusal};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::operation::{Facts, Gives, Operation};
use crate::problem::{Kind, Problem};
use crate::query::Asked;
use crate::refused::refused;
use crate::reply::{json as json_response, parse};
use crate::service::{Service, app_of, no_such_path};
use crate::steering::{Deploy, Module, News, RollBack, Steering, Underway};
use crate::upload::{self, Form};
use crate::{counters, news};

/// A request to an operation, let in.
pub(crate) struct Call {
    pub operation: Operation,
    pub facts: Facts,
    /// The parts of the path that have names.
    pub names: Vec<(String, String)>,
    pub parts: request::Parts,
    pub token: Arc<Token>,
    pub room: OwnedSemaphorePermit,
}

/// `{"digest": "sha256:..."}` or `{"version": 3}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum ModuleName {
    Digest(String),
    Version(u32),
}

/// `{"to": 3, "note": "..."}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RollBackTo {
    to: Option<u32>,
    note: String,
}

impl Call {
    pub fn name(&self, key: &str) -> &str {
        self.names.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// The app of the path, if the token is for it and for this.
    pub fn app(&self) -> Result<AppName, Problem> {
        app_of(&self.token, self.facts.role, self.name("tenant"), self.name("app"))
    }

    pub fn query(&self) -> Result<Asked, Problem> {
        Asked::read(self.parts.uri.query(), self.facts.query)
    }

    /// Who asks, for histories.
    pub fn by(&self) -> String {
        format!("token {}", self.token.id)
    }

    pub fn problem(&self, refusal: Refusal) -> Problem {
        refused(refusal, &self.token)
    }

    /// What is done, as the table says it.
    pub fn done(&self, body: &Value) -> Response<Body> {
        let status = match self.facts.gives {
            Gives::Json(status, _) => status,
            Gives::Deployment => 200,
        };
        json_response(status, body.to_string())
    }
}

impl Service {
    /// Answers a request.
    pub(crate) async fn steer(&self, call: Call, body: Body) -> Result<Response<Body>, Problem> {
        match call.operation {
            Operation::Apps => self.apps(&call).await,
            Operation::App => self.app(&call).await,
            Operation::Versions => self.versions(&call).await,
            Operation::Version => self.version(&call).await,
            Operation::Deploy => self.deploy(call, body).await,
            Operation::Deploying => self.deploying(&call).await,
            Operation::Cancel => self.cancel(&call).await,
            Operation::RollBack => self.roll_back(call, body).await,
            Operation::Connections => self.connections(&call).await,
            Operation::Logs => self.logs(&call).await,
            _ => self.administer(call, body).await,
        }
    }

    pub(crate) fn steering(&self) -> &dyn Steering {
        self.backend.steering()
    }

    async fn apps(&self, call: &Call) -> Result<Response<Body>, Problem> {
        call.token.check_role(call.facts.role)?;
        call.query()?;
        let apps = self.steering().apps().await.map_err(|refusal| call.problem(refusal))?;
        let its = apps.into_iter().filter(|overview| call.token.is_for(&overview.app));
        Ok(call.done(&json!({ "apps": its.map(|overview| of_app(&overview)).collect::<Vec<_>>() })))
    }

    async fn app(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, _) = (call.app()?, call.query()?);
        Ok(call.done(&of_app(&self.overview(call, app).await?)))
    }

    pub(crate) async fn overview(&self, call: &Call, app: AppName) -> Result<AppOverview, Problem> {
        let apps = self.steering().apps().await.map_err(|refusal| call.problem(refusal))?;
        let known: Vec<_> = apps.iter().map(|overview| overview.app.clone()).collect();
        let found = apps.into_iter().find(|overview| overview.app == app);
        found.ok_or_else(|| call.problem(Refusal::UnknownApp { app, known }))
    }

    async fn versions(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, query) = (call.app()?, call.query()?);
        let limit = query.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT);
        let entries = self.history(call, app, limit).await?;
        let line = |mut entry: HistoryEntry| {
            entry.report = None;
            of_entry(&entry)
        };
        Ok(call.done(&json!({ "versions": entries.into_iter().map(line).collect::<Vec<_>>() })))
    }

    async fn version(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, _) = (call.app()?, call.query()?);
        let Ok(number) = call.name("number").parse() else {
            return Err(no_such_path(&call.parts));
        };
        Ok(call.done(&of_entry(&self.entry(call, app, number).await?)))
    }

    async fn entry(&self, call: &Call, app: AppName, number: u32) -> Result<HistoryEntry, Problem> {
        let entries = self.history(call, app.clone(), HISTORY_LIMIT_MAX as usize).await?;
        let found = entries.into_iter().find(|entry| entry.version.number == number);
        found.ok_or_else(|| call.problem(Refusal::UnknownVersion { app, number }))
    }

    async fn history(&self, call: &Call, app: AppName, limit: usize) -> Result<Vec<HistoryEntry>, Problem> {
        self.steering().history(app, limit).await.map_err(|refusal| call.problem(refusal))
    }

    async fn deploying(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, _) = (call.app()?, call.query()?);
        let overview = self.overview(call, app).await?;
        let AppOverview { app, stable, deploying, workers, .. } = overview;
        let Some(deploying) = deploying else {
            let detail = format!(
                "nothing of app {app} is being deployed: GET /v1/apps/{app}/versions tells how the last one ended"
            );
            return Err(Problem::new(Kind::NotDeploying, detail));
        };
        Ok(call.done(&json!({"app": app, "stable": stable, "deploying": deploying, "workers": workers})))
    }

    async fn cancel(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, _) = (call.app()?, call.query()?);
        let cancelled = self.steering().cancel(app.clone(), call.by()).await;
        cancelled.map_err(|refusal| call.problem(refusal))?;
        Ok(call.done(&json!({ "app": app, "cancelled": true })))
    }

    async fn deploy(&self, call: Call, body: Body) -> Result<Response<Body>, Problem> {
        let (app, query, asked) = (call.app()?, call.query()?, Instant::now());
        let canary = canary(&query)?;
        let form = Form::of(&call.parts.headers)?;
        let module = match form {
            Form::Json => {
                let body = self.read(body).await?;
                self.named(&call, &app, parse(&body)?).await?
            }
            Form::Wasm => {
                let place = self.uploads.place(app.tenant())?;
                let step = self.settings.read_wait;
                Module::Bytes(upload::take(&call.parts.headers, body, step, place).await?)
            }
        };
        let note = query.text("note").unwrap_or_default().to_owned();
        let order = Deploy { app, module, canary, note, by: call.by(), asked };
        let underway = self.steering().deploy(order);
        follow(call, &query, underway).await
    }

    async fn roll_back(&self, call: Call, body: Body) -> Result<Response<Body>, Problem> {
        let (app, query, asked) = (call.app()?, call.query()?, Instant::now());
        let body = self.read(body).await?;
        let RollBackTo { to, note } = if body.is_empty() { RollBackTo::default() } else { parse(&body)? };
        let order = RollBack { app, to, note, by: call.by(), asked };
        let underway = self.steering().roll_back(order);
        follow(call, &query, underway).await
    }

    /// A module that is there.
    async fn named(&self, call: &Call, app: &AppName, name: ModuleName) -> Result<Module, Problem> {
        match name {
            ModuleName::Version(number) => {
                Ok(Module::Kept(self.entry(call, app.clone(), number).await?.version.digest))
            }
            ModuleName::Digest(text) => {
                let digest: Option<Digest> =
                    text.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
                let wrong = || {
                    let detail = "`digest` is sha256: and 64 hex digits, as GET .../versions tells them";
                    Problem::new(Kind::Invalid, detail)
                };
                digest.map(Module::Kept).ok_or_else(wrong)
            }
        }
    }
}

/// Answers as the query wants it: with every piece of news, with the end, or as soon as it has begun. What is refused is told
/// as a problem in each case.
async fn follow(
    call: Call,
    query: &Asked,
    mut underway: Box<dyn Underway>,
) -> Result<Response<Body>, Problem> {
    let first = underway.next().await;
    let line = match &first {
        News::Progress(progress) => news::of_progress(progress),
        News::Ended(ended) => match &**ended {
            Ok(report) => news::of_end(report),
            Err(refusal) => return Err(call.problem(refusal.clone())),
        },
    };
    counters::DEPLOYMENTS.inc();
    match query.word("wait") {
        Some("none") => Ok(begun(&call, &line)),
        Some("end") => end(&call, first, underway).await,
        _ => {
            let Call { token, room, .. } = call;
            Ok(news::stream(line, underway, token, room))
        }
    }
}

/// Answers when it is over.
async fn end(call: &Call, first: News, mut underway: Box<dyn Underway>) -> Result<Response<Body>, Problem> {
    let mut news = first;
    let ended = loop {
        match news {
            News::Progress(_) => news = underway.next().await,
            News::Ended(ended) => break *ended,
        }
    };
    let report = ended.map_err(|refusal| call.problem(refusal))?;
    if report.outcome == Outcome::Committed {
        return Ok(call.done(&news::of_end(&report)));
    }
    let (app, number) = (&report.app, report.version.number);
    let detail = format!(
        "{app}: version {number} did not commit: {}; GET /v1/apps/{app}/versions/{number} has the report",
        report.outcome
    );
    Err(Problem::new(Kind::RolledBack, detail))
}

/// It has begun, and nobody waits for its end.
fn begun(call: &Call, line: &Value) -> Response<Body> {
    let mut response = json_response(202, line.to_string());
    let path = format!("/v1/apps/{}/{}/deployments/current", call.name("tenant"), call.name("app"));
    // The names have been checked: nothing in them that a header could not have.
    if let Ok(path) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, path);
    }
    response
}

fn canary(query: &Asked) -> Result<Option<Canary>, Problem> {
    let Some(percent) = query.number("canary") else {
        if query.number("canary_ms").is_some() || query.number("events_min").is_some() {
            let detail = "`canary_ms` and `events_min` are of a canary, and there is none: add canary=25, for instance";
            return Err(Problem::new(Kind::Invalid, detail));
        }
        return Ok(None);
    };
    Ok(Some(Canary {
        percent: u8::try_from(percent).unwrap_or(u8::MAX),
        for_ms: query.number("canary_ms").unwrap_or(CANARY_MS),
        events_min: query.number("events_min").unwrap_or(Canary::EVENTS_MIN),
    }))
}

/// An app in JSON: what the command line prints, and how it does.
fn of_app(overview: &AppOverview) -> Value {
    let mut value = json!(overview);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("health".to_owned(), json!(overview.health()));
        if let Some(created) = fields.get_mut("created") {
            *created = without_nulls(created.take());
        }
    }
    value
}

fn of_entry(entry: &HistoryEntry) -> Value {
    let mut value = json!(entry);
    // What is not told is left out: it does not mean that there is none.
    if let Some(fields) = value.as_object_mut().filter(|_| entry.report.is_none()) {
        fields.remove("report");
    }
    value
}

/// What is not set is left out.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Versions that are told if nobody says how many.
const LIMIT: usize = 20;
/// How long a canary is compared if nobody says so, as on the command line.
const CANARY_MS: u64 = 30_000;
