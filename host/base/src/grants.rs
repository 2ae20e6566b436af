//! What an app's plugin may reach beyond the base that every plugin has: each by name, nothing by default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::secret::Setting;

/// What is granted to an app. The keys are those of `[app.grants]` in a settings file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// The plugin may read the app's settings by `wasi:config`.
    pub config: bool,
    /// Settings that the plugin sees as environment variables of the same name. At most as many as an app has settings.
    pub environment: Vec<String>,
    /// Buckets of keys that the plugin may open by `wasi:keyvalue`: at most 64.
    pub keys: Vec<String>,
}

/// What a plugin needs to be granted, because it imports an interface that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// `wasi:config`.
    Config,
    /// `wasi:keyvalue`.
    Keys,
}

impl Capability {
    /// The line of `[app.grants]` that grants it.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Config => "config = true",
            Self::Keys => "keys = [\"default\"]",
        }
    }

    /// What can be done with it.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Config => "reading the app's settings by wasi:config",
            Self::Keys => "keeping keys in buckets of these names by wasi:keyvalue",
        }
    }
}

/// What is granted breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrants {
    /// An environment variable without a value.
    #[error(
        "`grants.environment` names `{name}`, which is not among the app's settings: write `{name} = \"...\"` (or, for a \
         secret, {{ file = \"PATH\" }} or {{ env = \"NAME\" }}) into [app.settings], or take it out"
    )]
    NoSuchSetting {
        /// The name.
        name: String,
    },
    /// No environment variable can be called that.
    #[error(
        "`grants.environment` has {name:?}, which is no name of an environment variable: it is empty, or has `=` or a NUL in it"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// More names than there can be settings.
    #[error("`grants.environment` has {count} names, at most {} are allowed", limits::SETTINGS_MAX)]
    Many {
        /// How many there are.
        count: usize,
    },
    /// No bucket can be called that.
    #[error(
        "`grants.keys` has {name:?}, which is no name of a bucket: it has 1 to {} bytes, none of them a control character",
        limits::BUCKET_BYTES_MAX
    )]
    Bucket {
        /// The name.
        name: String,
    },
    /// More buckets than an app may have.
    #[error("`grants.keys` has {count} buckets, at most {} are allowed", limits::BUCKETS_MAX)]
    ManyBuckets {
        /// How many there are.
        count: usize,
    },
}

impl Grants {
    /// Whether this is granted.
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Config => self.config,
            Capability::Keys => !self.keys.is_empty(),
        }
    }

    /// Whether a bucket of this name is granted.
    pub fn has_bucket(&self, name: &str) -> bool {
        self.keys.iter().any(|known| known == name)
    }

    /// Checks them beside the app's settings.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, settings: &BTreeMap<String, Setting>) -> Result<(), InvalidGrants> {
        if self.environment.len() > limits::SETTINGS_MAX {
            return Err(InvalidGrants::Many { count: self.environment.len() });
        }
        for name in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(InvalidGrants::Name { name: name.clone() });
            }
            if !settings.contains_key(name) {
                return Err(InvalidGrants::NoSuchSetting { name: name.clone() });
            }
        }
        if self.keys.len() > limits::BUCKETS_MAX {
            return Err(InvalidGrants::ManyBuckets { count: self.keys.len() });
        }
        let is_bucket = |name: &&String| {
            (1..=limits::BUCKET_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control)
        };
        match self.keys.iter().find(|name| !is_bucket(name)) {
            Some(name) => Err(InvalidGrants::Bucket { name: name.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_by_default_and_unknown_grants_are_refused() {
        let none: Grants = serde_json::from_str("{}").unwrap();
        assert_eq!((none.has(Capability::Config), none.environment.len()), (false, 0));
        assert!(serde_json::from_str::<Grants>("{\"root\":true}").is_err());
    }

    #[test]
    fn an_environment_variable_is_one_of_the_settings_by_a_name_that_it_can_have() {
        let settings = BTreeMap::from([
            ("TZ".to_owned(), Setting::Plain("UTC".into())),
            ("a=b".to_owned(), Setting::Plain("".into())),
        ]);
        let check = |name: &str| {
            let grants = Grants { environment: vec![name.to_owned()], ..Grants::default() };
            grants.check(&settings).map_err(|error| error.to_string())
        };
        assert_eq!(check("TZ"), Ok(()));
        assert!(check("HOME").unwrap_err().contains("`HOME = \"...\"`"));
        assert!(check("a=b").unwrap_err().contains("no name"));
        assert!(check("").unwrap_err().contains("empty"));
        let many = Grants { environment: vec!["TZ".into(); 257], ..Grants::default() };
        assert_eq!(many.check(&settings), Err(InvalidGrants::Many { count: 257 }));
    }

    #[test]
    fn buckets_have_names_that_can_be_read_and_there_are_not_too_many() {
        let check = |keys: Vec<String>| Grants { keys, ..Grants::default() }.check(&BTreeMap::new());
        let grants = Grants { keys: vec!["history".into()], ..Grants::default() };
        assert!(grants.has(Capability::Keys) && !Grants::default().has(Capability::Keys));
        assert_eq!((grants.has_bucket("history"), grants.has_bucket("")), (true, false));
        assert_eq!(check(vec!["a room".into(), "x".repeat(63)]), Ok(()));
        for name in ["", "a\nb", &"x".repeat(64)] {
            assert_eq!(check(vec![name.to_owned()]), Err(InvalidGrants::Bucket { name: name.to_owned() }));
        }
        assert_eq!(check(vec!["b".into(); 65]), Err(InvalidGrants::ManyBuckets { count: 65 }));
    }
}
