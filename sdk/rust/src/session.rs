//! What a client's session holds.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::turn;

/// A client's session: a JSON object that its gateway keeps, or nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Session(Option<String>);

impl Session {
    pub(crate) fn of_host(json: Option<String>) -> Self {
        Self(json)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The JSON object.
    #[must_use]
    pub fn as_json(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The session as a `T`; none if there is none.
    ///
    /// # Errors
    /// What the session holds is not a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, SessionError> {
        self.0.as_deref().map(serde_json::from_str).transpose().map_err(SessionError)
    }
}

/// A session that holds something else than the type that it was read as.
#[derive(Debug)]
pub struct SessionError(serde_json::Error);

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the session cannot be read as this type: {}; give new fields a #[serde(default)], since sessions outlive \
             the version of the plugin that wrote them",
            self.0
        )
    }
}

impl std::error::Error for SessionError {}

/// The session of the current client, with this turn's own writes; none if it has none or the turn has no client.
/// GatewayWorker's `$_SESSION`. Read locally: no commit point.
///
/// # Errors
/// What the session holds is not a `T`.
pub fn session<T: DeserializeOwned>() -> Result<Option<T>, SessionError> {
    current().read()
}

pub(crate) fn current() -> Session {
    Session(crate::host::session())
}

/// The JSON object of a value; a value that is none fails the turn.
pub(crate) fn object(what: &str, value: &impl Serialize) -> Option<String> {
    match serde_json::to_string(value) {
        Ok(json) if json.starts_with('{') => Some(json),
        Ok(json) => {
            let shown: String = json.chars().take(40).collect();
            turn::fail(&format!(
                "{what}: a session is a JSON object, this value is {shown}; use a struct with named fields or a map"
            ));
            None
        }
        Err(error) => {
            turn::fail(&format!("{what}: the value cannot be written as JSON: {error}"));
            None
        }
    }
}
