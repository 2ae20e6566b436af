//! How tenants and apps are written down.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_store::{CatalogChange, CatalogRecords};

use super::{Catalog, Change};

impl Catalog {
    /// What was written down. What stands in settings files is kept as it was told.
    ///
    /// # Errors
    /// A record is not one of this version: the words say which.
    pub fn restore(&self, records: &CatalogRecords) -> Result<Self, String> {
        let tenants = records.tenants.iter();
        let tenants = tenants.map(|(name, body)| Ok((name.clone(), read(name.as_str(), body)?)));
        let apps = records.apps.iter();
        let apps = apps.map(|(name, body)| Ok((name.clone(), read(name.as_str(), body)?)));
        Ok(Self {
            revision: records.revision,
            tenants: tenants.collect::<Result<_, String>>()?,
            apps: apps.collect::<Result<_, String>>()?,
            fixed: self.fixed.clone(),
        })
    }
}

impl Change {
    /// As it is written down.
    pub fn to_store(&self) -> CatalogChange {
        let tenants = self.tenants.iter().map(|(name, to)| (name.clone(), to.as_ref().map(written)));
        let apps = self.apps.iter().map(|(name, to)| (name.clone(), to.as_ref().map(written)));
        CatalogChange { revision: self.revision, tenants: tenants.collect(), apps: apps.collect() }
    }
}

/// JSON, so that a later version can add to it. It may hold secrets: the store is private to its user.
fn written<T: Serialize>(record: &T) -> Vec<u8> {
    // Plain data with keys that are strings: nothing that can fail.
    serde_json::to_vec(record).unwrap_or_default()
}

fn read<T: DeserializeOwned>(name: &str, body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        // Not the error's own words: they may quote a secret.
        let (line, column) = (error.line(), error.column());
        format!(
            "the record of {name} cannot be read, at {line}:{column}: it was written by a newer version of Tidegate; run \
             that, or put a copy of the store of this one back"
        )
    })
}
