//! What goes on in an app: what is answered to whoever looks at it.

use axum::body::Body;
use axum::http::Response;
use serde_json::json;
use tidegate_base::ClientId;
use tidegate_wire::question::{BadCursors, ConnectionFilter, Cursors, Level, LogFilter, Logs};

use crate::problem::{Kind, Problem};
use crate::service::Service;
use crate::steer::Call;

impl Service {
    /// The connections of an app.
    pub(crate) async fn connections(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, query) = (call.app()?, call.query()?);
        let client: Option<Result<ClientId, _>> = query.text("client").map(str::parse);
        let client = client.transpose().map_err(|_| {
            let detail = "`client` in the query is the id of a client: 20 hex digits";
            Problem::new(Kind::Invalid, detail)
        })?;
        self.overview(call, app.clone()).await?;
        let limit = query.number("limit").and_then(|limit| u32::try_from(limit).ok()).unwrap_or(LIMIT);
        let uid = query.text("uid").map(str::to_owned);
        let of = ConnectionFilter { app: Some(app), client, uid, limit };
        let found = self.steering().connections(of).await.map_err(|refusal| call.problem(refusal))?;
        Ok(call.done(&json!(found)))
    }

    /// Lines of an app's log.
    pub(crate) async fn logs(&self, call: &Call) -> Result<Response<Body>, Problem> {
        let (app, query) = (call.app()?, call.query()?);
        let after: Result<Cursors, BadCursors> = query.text("after").unwrap_or_default().parse();
        let after =
            after.map_err(|error| Problem::new(Kind::Invalid, format!("`after` in the query: {error}")))?;
        let level = query.word("level").and_then(|level| level.parse().ok()).unwrap_or(Level::Trace);
        self.overview(call, app.clone()).await?;
        let limit = query.number("limit").and_then(|limit| u32::try_from(limit).ok()).unwrap_or(LINES);
        let of = LogFilter { app, level, limit, after };
        let found = self.steering().logs(of).await.map_err(|refusal| call.problem(refusal))?;
        let Logs { lines, missed, next, missing, .. } = found;
        let next = next.to_string();
        Ok(call.done(&json!({ "lines": lines, "missed": missed, "next": next, "missing": missing })))
    }
}

/// Connections that are told if nobody says how many.
const LIMIT: u32 = 1000;
/// Lines that are told if nobody says how many.
const LINES: u32 = 100;
