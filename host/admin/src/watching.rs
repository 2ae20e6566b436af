//! What goes on in an app: what is answered to whoever looks at it.

use axum::body::Body;
use axum::http::Response;
use serde_json::json;
use tidegate_base::ClientId;
use tidegate_wire::question::ConnectionFilter;

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
}

/// Connections that are told if nobody says how many.
const LIMIT: u32 = 1000;
