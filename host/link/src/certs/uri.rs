use std::fmt;
use std::str::FromStr;

use tidegate_base::{InvalidName, NodeName, Role};

/// `tidegate://CLUSTER/ROLE/NAME`, the name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeUri {
    cluster: NodeName,
    role: Role,
    name: NodeName,
}

impl NodeUri {
    /// Puts one together. A cluster's name follows the rule for node names.
    ///
    /// # Errors
    /// The cluster's name is not a name.
    pub fn new(cluster: &str, role: Role, name: NodeName) -> Result<Self, InvalidName> {
        Ok(Self { cluster: NodeName::new(cluster)?, role, name })
    }

    /// The cluster.
    pub fn cluster(&self) -> &str {
        self.cluster.as_str()
    }

    /// What the node is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its name.
    pub fn name(&self) -> &NodeName {
        &self.name
    }
}

impl fmt::Display for NodeUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for NodeUri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, InvalidUri> {
        parse(text).ok_or_else(|| InvalidUri(text.chars().take(200).collect()))
    }
}

/// The text is not a node's URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form tidegate://CLUSTER/ROLE/NAME")]
pub struct InvalidUri(String);

/// A CA's URI: its cluster and nothing more.
pub(super) fn cluster_uri(cluster: &NodeName) -> String {
    format!("{SCHEME}{cluster}")
}

pub(super) fn parse_cluster_uri(text: &str) -> Option<NodeName> {
    NodeName::new(text.strip_prefix(SCHEME)?).ok()
}

fn parse(text: &str) -> Option<NodeUri> {
    let mut parts = text.strip_prefix(SCHEME)?.split('/');
    let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    NodeUri::new(cluster, role.parse().ok()?, NodeName::new(name).ok()?).ok()
}

const SCHEME: &str = "tidegate://";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_uri_survives_its_text(
            cluster in "[a-z][a-z0-9-]{0,62}",
            role in prop::sample::select(&Role::ALL),
            name in "[a-z][a-z0-9-]{0,62}",
        ) {
            let uri = NodeUri::new(&cluster, role, NodeName::new(&name).unwrap()).unwrap();
            prop_assert_eq!(uri.to_string().parse::<NodeUri>(), Ok(uri));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "(tidegate://)?[a-z/:.A-Z-]{0,40}") {
            if let Ok(uri) = text.parse::<NodeUri>() {
                prop_assert_eq!(uri.to_string(), text);
            }
        }
    }

    #[test]
    fn foreign_schemes_short_and_long_paths_are_refused() {
        for text in [
            "https://c/gateway/g",
            "tidegate://c/gateway",
            "tidegate://c/gateway/g/x",
            "tidegate://c/boss/g",
            "",
        ] {
            assert!(text.parse::<NodeUri>().is_err(), "{text}");
        }
    }
}
