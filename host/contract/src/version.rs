//! Versions of WIT packages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{CONTRACT_VERSION, ContractError};

/// A version of a WIT package: `major.minor.patch`, without pre-release or build parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// The major version.
    pub major: u32,
    /// The minor version; while `major` is 0, a change of it is a break.
    pub minor: u32,
    /// The patch version; while `major` is 0, a change of it is an addition.
    pub patch: u32,
}

impl Version {
    /// Whether a component built against `self` can run on a host that provides `host`: same major and minor version.
    /// A newer patch is let through here; what it adds is refused by name where it is used.
    pub fn is_compatible_with(self, host: Version) -> bool {
        (self.major, self.minor) == (host.major, host.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().ok());
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten(), parts.next()) {
            (Some(major), Some(minor), Some(patch), None) => Ok(Self { major, minor, patch }),
            _ => Err(format!("`{text}` is not a version of the form 1.2.3")),
        }
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A name of the form `namespace:package/interface@version`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    /// `namespace:package`, such as `wasi:io`.
    pub(crate) package: &'a str,
    pub(crate) interface: &'a str,
    /// As written, without the `@`.
    pub(crate) version: Option<&'a str>,
}

impl<'a> InterfaceName<'a> {
    /// `None` for any other kind of name, such as that of a bare function.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (path, version) = match name.split_once('@') {
            Some((path, version)) => (path, Some(version)),
            None => (name, None),
        };
        let (package, interface) = path.split_once('/')?;
        package.contains(':').then_some(Self { package, interface, version })
    }

    /// Check the version of a name of `tidegate:plugin` and remember the newest one seen.
    pub(crate) fn check_contract(
        &self,
        name: &str,
        newest: &mut Option<Version>,
    ) -> Result<(), ContractError> {
        let version = self.version.and_then(|text| text.parse::<Version>().ok());
        match version {
            Some(version) if version.is_compatible_with(CONTRACT_VERSION) => {
                *newest = (*newest).max(Some(version));
                Ok(())
            }
            _ => Err(ContractError::WrongVersion {
                name: name.to_owned(),
                found: self.version.unwrap_or("none").to_owned(),
                newer: version.is_some_and(|version| version > CONTRACT_VERSION),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_its_text_form() {
        let version = Version { major: 0, minor: 12, patch: 345 };
        assert_eq!(version.to_string().parse(), Ok(version));
    }

    #[test]
    fn anything_but_three_numbers_is_no_version() {
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "0.2.0-rc-1", "1.2.-3", "99999999999.0.0"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_interface_name_is_taken_apart() {
        let name = InterfaceName::parse("wasi:io/streams@0.2.6").unwrap();
        assert_eq!((name.package, name.interface, name.version), ("wasi:io", "streams", Some("0.2.6")));
        assert_eq!(InterfaceName::parse("a:b/c").unwrap().version, None);
        assert_eq!(InterfaceName::parse("run"), None);
        assert_eq!(InterfaceName::parse("a/b"), None);
    }
}
