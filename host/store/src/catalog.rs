//! The tenants and the apps that were made at run time. What their records say is up to whoever writes them.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, TableError};
use tidegate_base::{AppName, Label};

use crate::Store;
use crate::engine::Failure;
use crate::error::StoreError;
use crate::record::{APPS_MAX, within};
use crate::tables::{self, CATALOG, REVISION_KEY, SPECS, TENANTS};
use crate::tokens::forget_tenant;
use crate::versions::forget;

/// Longest record of a tenant or an app, in bytes.
pub const CATALOG_RECORD_BYTES_MAX: usize = 256 << 10;
/// Most tenants.
pub const TENANTS_MAX: u32 = 10_000;

/// Tenants and apps as they were last written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogRecords {
    /// Of the last change; 0: there was none.
    pub revision: u64,
    /// By name.
    pub tenants: Vec<(Label, Vec<u8>)>,
    /// By name.
    pub apps: Vec<(AppName, Vec<u8>)>,
}

/// A change of tenants and apps; as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogChange {
    /// Higher than that of the change before.
    pub revision: u64,
    /// New records of tenants; None: it is gone, and its tokens with it.
    pub tenants: Vec<(Label, Option<Vec<u8>>)>,
    /// New records of apps; None: it is gone, and its history with it, so that its modules can go.
    pub apps: Vec<(AppName, Option<Vec<u8>>)>,
}

impl Store {
    /// The tenants and apps.
    ///
    /// # Errors
    /// The store fails.
    pub fn catalog(&self) -> Result<CatalogRecords, StoreError> {
        self.engine.read(|transaction| {
            let tenant = |name: &str| {
                Label::new(name).map_err(|_| Failure::Damaged(format!("{name:?} stands for a tenant")))
            };
            Ok(CatalogRecords {
                revision: revision(transaction)?,
                tenants: records(transaction, TENANTS, "tenant", tenant)?,
                apps: records(transaction, SPECS, "app", tables::app)?,
            })
        })
    }

    /// Writes a change of tenants and apps.
    ///
    /// # Errors
    /// Its revision is not higher than the last one; a record is too long; there are too many; a deployment of an app that
    /// goes is running; or the store fails.
    pub fn change_catalog(&self, change: &CatalogChange) -> Result<(), StoreError> {
        let tenants = change.tenants.iter().filter_map(|(_, body)| body.as_ref());
        for body in tenants.chain(change.apps.iter().filter_map(|(_, body)| body.as_ref())) {
            within("the record of a tenant or an app", body.len(), CATALOG_RECORD_BYTES_MAX)?;
        }
        self.engine.write(|transaction| {
            let mut catalog = transaction.open_table(CATALOG)?;
            let found = catalog.get(REVISION_KEY)?.map_or(0, |value| value.value());
            if change.revision <= found {
                return Err(StoreError::OldCatalog { revision: change.revision, found }.into());
            }
            catalog.insert(REVISION_KEY, change.revision)?;
            let path = self.path();
            let mut tenants = transaction.open_table(TENANTS)?;
            for (name, body) in &change.tenants {
                put(&mut tenants, name.as_str(), body.as_deref())?;
                if body.is_none() {
                    forget_tenant(transaction, name)?;
                }
            }
            if tenants.len()? > u64::from(TENANTS_MAX) {
                return Err(StoreError::TooManyTenants { path: path.to_owned(), max: TENANTS_MAX }.into());
            }
            let mut apps = transaction.open_table(SPECS)?;
            for (name, body) in &change.apps {
                put(&mut apps, name.as_str(), body.as_deref())?;
                if body.is_none() {
                    forget(transaction, name)?;
                }
            }
            if apps.len()? > u64::from(APPS_MAX) {
                return Err(StoreError::TooManyApps { path: path.to_owned(), max: APPS_MAX }.into());
            }
            Ok(())
        })
    }
}

type Records = TableDefinition<'static, &'static str, &'static [u8]>;

/// A file of before there were tenants has none of these tables until the first change.
fn records<K>(
    transaction: &ReadTransaction,
    table: Records,
    what: &str,
    name: impl Fn(&str) -> Result<K, Failure>,
) -> Result<Vec<(K, Vec<u8>)>, Failure> {
    let table = match transaction.open_table(table) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let all = table.iter()?.map(|entry| {
        let (key, value) = entry?;
        let body = tables::decode(value.value(), || format!("the record of {what} {}", key.value()))?;
        Ok((name(key.value())?, body))
    });
    all.collect()
}

fn revision(transaction: &ReadTransaction) -> Result<u64, Failure> {
    match transaction.open_table(CATALOG) {
        Ok(table) => Ok(table.get(REVISION_KEY)?.map_or(0, |value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn put(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    name: &str,
    body: Option<&[u8]>,
) -> Result<(), Failure> {
    match body {
        Some(body) => table.insert(name, tables::encode(&body)?.as_slice())?,
        None => table.remove(name)?,
    };
    Ok(())
}
