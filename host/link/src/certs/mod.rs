//! Who is who in a cluster: its certificate authority, and the identity that each node or operator gets from it.
//!
//! A certificate carries one URI, `tidegate://CLUSTER/ROLE/NAME` ([`NodeUri`]), and the DNS name `ROLE.tidegate.internal`,
//! by which a dialing node checks that it reached the role it wanted. Operators get certificates that can dial but not
//! be dialed.

mod authority;
mod files;
mod identity;
mod uri;

use std::path::PathBuf;

use tidegate_base::{InvalidName, Role};

pub use authority::Authority;
pub use identity::Identity;
pub(crate) use identity::{Snapshot, parse_leaf};
pub use uri::{InvalidUri, NodeUri};

/// Longest validity of a certificate, in days.
pub const DAYS_MAX: u32 = 36_500;

/// The DNS name that every certificate of a role carries.
pub(crate) fn role_host(role: Role) -> &'static str {
    match role {
        Role::Register => "register.tidegate.internal",
        Role::Gateway => "gateway.tidegate.internal",
        Role::Worker => "worker.tidegate.internal",
        Role::Operator => "operator.tidegate.internal",
    }
}

/// Why an authority or an identity cannot be made, kept or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}; `tidegate cert` makes the files of a cluster and its nodes")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file is there already. Nothing was written.
    #[error("{path} is there already and is not overwritten: name another folder, or move it away first")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A certificate or key does not say what it should.
    #[error("{origin}: {reason}")]
    Broken {
        /// The file, or `memory`.
        origin: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// A cluster's or node's name is not one.
    #[error("the cluster's name: {0}")]
    Name(#[from] InvalidName),
    /// The validity is out of range.
    #[error("a certificate is valid for 1 to {DAYS_MAX} days, not {0}")]
    Days(u32),
    /// Signing failed.
    #[error("cannot make the certificate: {0}")]
    Generate(String),
    /// The files now hold somebody else's identity. The old one stays in use.
    #[error(
        "{folder} now holds {now} instead of {was}: a running node keeps its role and name, restart it to change them"
    )]
    Changed {
        /// The folder.
        folder: PathBuf,
        /// Who the node is.
        was: NodeUri,
        /// Who the files say it is.
        now: NodeUri,
    },
    /// An identity without files cannot be reloaded.
    #[error("this identity lives in memory only: there is nothing to reload it from")]
    InMemory,
}
