//! What is said when something is not done: problem documents of RFC 9457.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use tidegate_base::NotAllowed;

/// The kinds of problems. Their names are an API: clients compare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request has no token, or none that is known.
    Unauthorized,
    /// The token is not for this.
    Forbidden,
    /// The `Host` of the request is none of this server's.
    ForeignHost,
    /// The request comes from a web page of another server.
    ForeignOrigin,
    /// There is no such path.
    NoSuchPath,
    /// No gateway has such an app.
    NoSuchApp,
    /// The body is no JSON, or not that of this request.
    BadBody,
    /// The body is understood, and asks for what nobody may do.
    Invalid,
    /// A gateway refused to do it.
    Refused,
    /// The body or the batch is too large.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// The idempotency key was used for another request.
    KeyReused,
    /// The first request with this idempotency key is not done yet.
    KeyInUse,
    /// Too many requests with this token, or without one.
    TooFast,
    /// There are too many requests at once.
    Busy,
    /// There is no gateway.
    NoGateway,
    /// The body is of a kind that this path does not take.
    BadMedia,
    /// There is no such tenant.
    NoSuchTenant,
    /// The app has no such version, or the register no such module.
    NoSuchVersion,
    /// Nothing of the app is being deployed.
    NotDeploying,
    /// A deployment of the app goes on, or is past being ended.
    Deploying,
    /// The module is none that a worker would run.
    BadModule,
    /// The deployment did not commit.
    RolledBack,
    /// Workers have no room for it.
    NoCapacity,
    /// It is there already.
    Exists,
    /// It stands in a settings file.
    Fixed,
    /// A quota of the tenant forbids it.
    Quota,
    /// The app or its tenant is suspended.
    Suspended,
    /// The register has no room.
    NoRoom,
    /// The register failed.
    Failed,
    /// Whoever is needed for it is not there.
    Unavailable,
    /// There is something at this path, but not with this method.
    NoSuchMethod,
    /// Plain HTTP came to a port that speaks TLS.
    PlainHttp,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 33] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::ForeignHost,
        Self::ForeignOrigin,
        Self::NoSuchPath,
        Self::NoSuchApp,
        Self::BadBody,
        Self::Invalid,
        Self::Refused,
        Self::TooLarge,
        Self::TooSlow,
        Self::KeyReused,
        Self::KeyInUse,
        Self::TooFast,
        Self::Busy,
        Self::NoGateway,
        Self::BadMedia,
        Self::NoSuchTenant,
        Self::NoSuchVersion,
        Self::NotDeploying,
        Self::Deploying,
        Self::BadModule,
        Self::RolledBack,
        Self::NoCapacity,
        Self::Exists,
        Self::Fixed,
        Self::Quota,
        Self::Suspended,
        Self::NoRoom,
        Self::Failed,
        Self::Unavailable,
        Self::NoSuchMethod,
        Self::PlainHttp,
    ];

    /// The last part of the problem's type, `urn:tidegate:problem:<name>`.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.facts().0
    }

    const fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Unauthorized => (401, "unauthorized", "A token is needed"),
            Self::Forbidden => (403, "forbidden", "The token is not for this"),
            Self::ForeignHost => (421, "foreign-host", "This server does not go by that name"),
            Self::ForeignOrigin => (403, "foreign-origin", "Web pages of other servers may not ask"),
            Self::NoSuchPath => (404, "no-such-path", "There is nothing here"),
            Self::NoSuchApp => (404, "no-such-app", "There is no such app"),
            Self::BadBody => (400, "bad-body", "The body is not understood"),
            Self::Invalid => (422, "invalid", "Nobody may do that"),
            Self::Refused => (409, "refused", "A gateway refused"),
            Self::TooLarge => (413, "too-large", "That is too much at once"),
            Self::TooSlow => (408, "too-slow", "The request did not come in time"),
            Self::KeyReused => (422, "key-reused", "The idempotency key stands for another request"),
            Self::KeyInUse => (409, "key-in-use", "The first request with this key is not done yet"),
            Self::TooFast => (429, "too-fast", "Too many requests"),
            Self::Busy => (503, "busy", "There are too many requests at once"),
            Self::NoGateway => (503, "no-gateway", "There is no gateway"),
            Self::BadMedia => (415, "bad-media-type", "The body is of another kind"),
            Self::NoSuchTenant => (404, "no-such-tenant", "There is no such tenant"),
            Self::NoSuchVersion => (404, "no-such-version", "There is no such version"),
            Self::NotDeploying => (404, "not-deploying", "Nothing is being deployed"),
            Self::Deploying => (409, "deploying", "A deployment goes on"),
            Self::BadModule => (422, "bad-module", "The module is refused"),
            Self::RolledBack => (409, "rolled-back", "The deployment did not commit"),
            Self::NoCapacity => (409, "no-capacity", "Workers have no room"),
            Self::Exists => (409, "exists", "It is there already"),
            Self::Fixed => (409, "fixed", "It stands in a settings file"),
            Self::Quota => (409, "quota", "A quota forbids it"),
            Self::Suspended => (409, "suspended", "It is suspended"),
            Self::NoRoom => (507, "no-room", "The register has no room"),
            Self::Failed => (500, "failed", "The register failed"),
            Self::Unavailable => (503, "unavailable", "It cannot be done now"),
            Self::NoSuchMethod => {
                (405, "no-such-method", "There is something here, but not with this method")
            }
            Self::PlainHttp => (400, "plain-http", "This port speaks TLS"),
        }
    }
}

/// A problem. What is not done is not done at all, unless `detail` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind.
    pub kind: Kind,
    /// What, where, and how to mend it.
    pub detail: String,
}

/// Its form in JSON.
#[derive(Debug, Serialize)]
struct Document<'a> {
    r#type: Type,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

#[derive(Debug)]
struct Type(&'static str);

impl Serialize for Type {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("urn:tidegate:problem:{}", self.0))
    }
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Its document.
    pub fn to_json(&self) -> Vec<u8> {
        let (status, name, title) = self.kind.facts();
        let document = Document { r#type: Type(name), title, status, detail: &self.detail };
        // Plain data into a vector: nothing that can fail.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// Its document, to be a part of another one.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        let (status, name, title) = self.kind.facts();
        let document = Document { r#type: Type(name), title, status, detail: &self.detail };
        serde_json::json!(document)
    }

    /// The response that says it.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() = StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            self.kind,
            Kind::TooFast | Kind::Busy | Kind::NoGateway | Kind::KeyInUse | Kind::Unavailable
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A token is not for this.
impl From<NotAllowed> for Problem {
    fn from(why: NotAllowed) -> Self {
        Self::new(Kind::Forbidden, why.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.detail)
    }
}

/// The media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_and_statuses_of_problems_are_stable() {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| (kind.status(), kind.name())).collect();
        assert_eq!(
            known,
            [
                (401, "unauthorized"),
                (403, "forbidden"),
                (421, "foreign-host"),
                (403, "foreign-origin"),
                (404, "no-such-path"),
                (404, "no-such-app"),
                (400, "bad-body"),
                (422, "invalid"),
                (409, "refused"),
                (413, "too-large"),
                (408, "too-slow"),
                (422, "key-reused"),
                (409, "key-in-use"),
                (429, "too-fast"),
                (503, "busy"),
                (503, "no-gateway"),
                (415, "bad-media-type"),
                (404, "no-such-tenant"),
                (404, "no-such-version"),
                (404, "not-deploying"),
                (409, "deploying"),
                (422, "bad-module"),
                (409, "rolled-back"),
                (409, "no-capacity"),
                (409, "exists"),
                (409, "fixed"),
                (409, "quota"),
                (409, "suspended"),
                (507, "no-room"),
                (500, "failed"),
                (503, "unavailable"),
                (405, "no-such-method"),
                (400, "plain-http"),
            ]
        );
    }

    #[test]
    fn a_problem_has_type_title_status_and_detail() {
        let problem = Problem::new(Kind::NoSuchApp, "no gateway has \"it\"");
        assert_eq!(
            String::from_utf8(problem.to_json()).unwrap(),
            r#"{"type":"urn:tidegate:problem:no-such-app","title":"There is no such app","status":404,"detail":"no gateway has \"it\""}"#
        );
        let response = Problem::new(Kind::Unauthorized, "x").into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
