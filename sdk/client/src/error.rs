//! What goes wrong.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none.
    #[error(
        "{address:?} is no address of Tidegate's API: it is http://HOST:PORT or https://HOST:PORT, and perhaps a path ({why})"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The token cannot stand in a request.
    #[error("the token is none: it is what `tidegate tokens create TENANT` prints")]
    Token,
    /// The certificate authorities, those of the machine or others that were given, cannot be read.
    #[error("the certificate authorities cannot be read: {0}; give others with `Builder::authorities`")]
    Authorities(std::io::Error),
    /// The server says why it did nothing.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// No answer came: the server could not be reached, the connection ended, or the time was up.
    #[error("the server did not answer: {why}")]
    Unreachable {
        /// Whether the request may have been carried out all the same.
        sent: bool,
        /// What happened.
        why: String,
    },
    /// Something answered that is not Tidegate's API: a proxy's page of an error, as a rule.
    #[error("status {status}, and no answer of Tidegate's API: {text:?}. Is a proxy in between?")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// How the answer begins.
        text: String,
    },
}

impl Error {
    /// The kind of the problem that the server told, such as `no-such-app`, if it told one.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(problem.kind()),
            _ => None,
        }
    }
}

/// A problem document of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// `urn:tidegate:problem:<kind>`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What, where, and how to mend it.
    pub detail: String,
    /// In how long it may go well, if the server says so.
    #[serde(skip)]
    pub retry_after: Duration,
}

impl Problem {
    /// The last part of the type, such as `no-such-app`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.type_.strip_prefix("urn:tidegate:problem:").unwrap_or(&self.type_)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl std::error::Error for Problem {}
