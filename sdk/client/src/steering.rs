//! An app from the outside: what it runs, deployments, and orders about it. A deployment or an order whose answer is lost is not
//! given again.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Asked, Outgoing, escaped, unexpected};
use crate::lines::Lines;
use crate::{
    App, AppInfo, Canary, Connections, Deploying, Error, Logs, News, Order, Outcome, Problem, Report,
    Version, VersionRef,
};

/// What is deployed, and how. Made of a component (`Vec<u8>`), of the number of a version of the app (`u32`), or of the
/// [`VersionRef`] of any app's.
#[derive(Debug, Clone)]
pub struct Deploy {
    content: (&'static str, Bytes),
    canary: Option<Canary>,
    note: String,
    timeout: Duration,
}

/// Which version is deployed again.
#[derive(Debug, Clone)]
pub struct RollBack {
    to: Option<u32>,
    note: String,
    timeout: Duration,
}

/// A deployment that goes on: its news. It goes on too when nobody reads them, or when this is dropped. It keeps one of the
/// connections.
#[derive(Debug)]
#[must_use = "nobody knows how it ends who does not wait"]
pub struct Deployment {
    lines: Lines,
    last: Option<News>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

impl Deploy {
    fn new(kind: &'static str, content: Bytes) -> Self {
        Self { content: (kind, content), canary: None, note: String::new(), timeout: DEPLOYMENT }
    }

    /// Judge it on a part of the slots first.
    #[must_use]
    pub fn canary(mut self, canary: Canary) -> Self {
        self.canary = Some(canary);
        self
    }

    /// Write this beside it in the history.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }

    /// Wait so long; it goes on when that is over. Default: an hour.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn asked(self, app: &App, wait: &str) -> Outgoing {
        let mut path = format!("{}/deployments?wait={wait}", app.path);
        if let Some(Canary { percent, for_ms, events_min }) = self.canary {
            path.push_str(&format!("&canary={percent}&canary_ms={for_ms}&events_min={events_min}"));
        }
        if !self.note.is_empty() {
            path.push_str(&format!("&note={}", escaped(&self.note)));
        }
        Outgoing {
            method: Method::POST,
            path,
            content: Some(self.content),
            key: None,
            harmless: false,
            lines: false,
            timeout: Some(self.timeout),
        }
    }
}

impl From<Vec<u8>> for Deploy {
    fn from(component: Vec<u8>) -> Self {
        Self::new("application/wasm", component.into())
    }
}

impl From<u32> for Deploy {
    fn from(version: u32) -> Self {
        Self::new(JSON, json!({ "version": version }).to_string().into())
    }
}

impl From<&VersionRef> for Deploy {
    fn from(version: &VersionRef) -> Self {
        Self::new(JSON, json!({ "digest": format!("sha256:{}", version.digest) }).to_string().into())
    }
}

impl RollBack {
    /// The one that ran before.
    #[must_use]
    pub fn before() -> Self {
        Self { to: None, note: String::new(), timeout: DEPLOYMENT }
    }

    /// The one with this number.
    #[must_use]
    pub fn to(number: u32) -> Self {
        Self { to: Some(number), ..Self::before() }
    }

    /// Write this beside it in the history.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.note);
        self
    }

    /// Wait so long; it goes on when that is over. Default: an hour.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn asked(self, app: &App, wait: &str) -> Outgoing {
        let path = format!("{}/rollback?wait={wait}", app.path);
        let body = Some(json!({"to": self.to, "note": self.note}));
        let asked = Asked { method: Method::POST, path, body, key: None, harmless: false };
        Outgoing { timeout: Some(self.timeout), ..asked.into() }
    }
}

impl Deployment {
    /// The next news; None: those before were the last. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection was lost, or the time was up: [`Error::Unreachable`]. The deployment goes on.
    pub async fn next(&mut self) -> Result<Option<News>, Error> {
        if self.last.is_some() {
            return Ok(None);
        }
        let line = self.lines.next().await?;
        let news: News = serde_json::from_slice(&line).map_err(|_| unexpected(200, &line))?;
        if matches!(&*news.news, "ended" | "refused") {
            self.last = Some(news.clone());
        }
        Ok(Some(news))
    }

    /// Reads the rest. What it came to, if every slot runs it.
    ///
    /// # Errors
    /// As [`next`](Self::next); a problem of the kind `rolled-back` if not every slot runs it.
    pub async fn wait(mut self) -> Result<Report, Error> {
        while self.next().await?.is_some() {}
        report(self.last)
    }
}

impl App {
    /// What it runs where, and how it does.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self) -> Result<AppInfo, Error> {
        self.tidegate.read(&self.path).await
    }

    /// What was deployed, the newest first and so many at most (1 to 1,000), without the reports.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn versions(&self, limit: u32) -> Result<Vec<Version>, Error> {
        let path = format!("{}/versions?limit={limit}", self.path);
        Ok(self.tidegate.read::<Versions>(&path).await?.versions)
    }

    /// One deployment with the report of its swap.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn version(&self, number: u32) -> Result<Version, Error> {
        self.tidegate.read(&format!("{}/versions/{number}", self.path)).await
    }

    /// The connections of its clients at all gateways, so many at most (1 to 10,000); of this uid, if one is named.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn connections(&self, limit: u32, uid: Option<&str>) -> Result<Connections, Error> {
        let uid = uid.map(|uid| format!("&uid={}", escaped(uid))).unwrap_or_default();
        self.tidegate.read(&format!("{}/connections?limit={limit}{uid}", self.path)).await
    }

    /// The last lines of its log on all workers, so many at most (1 to 1,000); or those behind what was read: `after` is then
    /// the `next` of what was told.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs(&self, limit: u32, after: Option<&str>) -> Result<Logs, Error> {
        let after = after.map(|after| format!("&after={}", escaped(after))).unwrap_or_default();
        self.tidegate.read(&format!("{}/logs?limit={limit}{after}", self.path)).await
    }

    /// Deploys, and waits for the end.
    ///
    /// # Errors
    /// See [`Error`]; a problem of the kind `rolled-back` if not every slot runs it then. It is not given again when its answer
    /// is lost: [`deploying`](Self::deploying) and [`versions`](Self::versions) tell what became of it.
    pub async fn deploy(&self, deploy: impl Into<Deploy>) -> Result<Report, Error> {
        self.deploy_and_watch(deploy).await?.wait().await
    }

    /// Deploys, and tells how it gets on.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn deploy_and_watch(&self, deploy: impl Into<Deploy>) -> Result<Deployment, Error> {
        self.watch(deploy.into().asked(self, "progress")).await
    }

    /// Deploys, and returns when it has begun: what it began with.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn deploy_and_leave(&self, deploy: impl Into<Deploy>) -> Result<News, Error> {
        self.tidegate.ask(deploy.into().asked(self, "none")).await
    }

    /// How the deployment that goes on gets on; None: nothing is being deployed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deploying(&self) -> Result<Option<Deploying>, Error> {
        match self.tidegate.read(&format!("{}/deployments/current", self.path)).await {
            Ok(deploying) => Ok(Some(deploying)),
            Err(error) if error.kind() == Some("not-deploying") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends the deployment that goes on; returns when it is on its way back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel(&self) -> Result<(), Error> {
        let _: Value = self.give_order(Method::DELETE, "/deployments/current", None).await?;
        Ok(())
    }

    /// Deploys an earlier version again, and waits for the end.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn roll_back(&self, whither: RollBack) -> Result<Report, Error> {
        self.roll_back_and_watch(whither).await?.wait().await
    }

    /// Deploys an earlier version again, and tells how it gets on.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn roll_back_and_watch(&self, whither: RollBack) -> Result<Deployment, Error> {
        self.watch(whither.asked(self, "progress")).await
    }

    /// Deploys an earlier version again, and returns when it has begun.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    pub async fn roll_back_and_leave(&self, whither: RollBack) -> Result<News, Error> {
        self.tidegate.ask(whither.asked(self, "none")).await
    }

    /// Makes the app with these settings, an object with keys of `AppSpec` in the API's description; those that are left out
    /// have their defaults.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, settings: impl Into<Value>) -> Result<Order, Error> {
        self.give_order(Method::POST, "", Some(settings.into())).await
    }

    /// Gives it other settings, all of them: what is left out has its default again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn configure(&self, settings: impl Into<Value>) -> Result<Order, Error> {
        self.give_order(Method::PUT, "", Some(settings.into())).await
    }

    /// Takes its clients and its slots until it is resumed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn suspend(&self) -> Result<Order, Error> {
        self.give_order(Method::POST, "/suspend", None).await
    }

    /// Lets it run again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(&self) -> Result<Order, Error> {
        self.give_order(Method::POST, "/resume", None).await
    }

    /// Removes it with its clients, versions and history.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self) -> Result<Order, Error> {
        self.give_order(Method::DELETE, "", None).await
    }

    async fn watch(&self, asked: Outgoing) -> Result<Deployment, Error> {
        Ok(Deployment { lines: self.tidegate.watch(asked).await?, last: None })
    }

    async fn give_order<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, Error> {
        let path = format!("{}{path}", self.path);
        self.tidegate.ask(Asked { method, path, body, key: None, harmless: false }).await
    }
}

/// What the last news say.
fn report(last: Option<News>) -> Result<Report, Error> {
    let Some(News { report, problem, text, .. }) = last else {
        return Err(unexpected(200, b"a deployment without an end"));
    };
    if let Some(problem) = problem {
        return Err(problem.into());
    }
    let report = report.ok_or_else(|| unexpected(200, b"the end of a deployment without its report"))?;
    if report.outcome == Outcome::Committed {
        return Ok(report);
    }
    let (app, number) = (&report.app, report.version.number);
    let detail =
        format!("{app}: version {number} did not commit: {text}; `version({number})` has the report");
    Err(Error::Problem(Problem {
        type_: "urn:tidegate:problem:rolled-back".to_owned(),
        title: "It was rolled back".to_owned(),
        status: 409,
        detail,
        retry_after: Duration::ZERO,
    }))
}

const JSON: &str = "application/json";
const DEPLOYMENT: Duration = Duration::from_secs(3600);
