//! The tokens of the HTTP API: what they are for, by the digests of their secrets. The secrets are nowhere.

use redb::{ReadableTable, ReadableTableMetadata, Table, TableError, WriteTransaction};
use tidegate_base::{Digest, Label, TOKEN_APPS_MAX, TOKEN_NOTE_BYTES_MAX, Token};

use crate::Store;
use crate::engine::Failure;
use crate::error::StoreError;
use crate::record::within;
use crate::tables::{self, TOKENS};

/// Most tokens.
pub const TOKENS_MAX: u32 = 10_000;

impl Store {
    /// Every token, with the digest of its secret.
    ///
    /// # Errors
    /// The store fails.
    pub fn tokens(&self) -> Result<Vec<(Digest, Token)>, StoreError> {
        self.engine.read(|transaction| {
            let table = match transaction.open_table(TOKENS) {
                Ok(table) => table,
                // A file of before there were tokens.
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let all = table.iter()?.map(|entry| {
                let (key, value) = entry?;
                let digest = Digest::from_bytes(*key.value());
                Ok((digest, tables::decode(value.value(), || format!("the token sha256:{digest}"))?))
            });
            all.collect()
        })
    }

    /// Writes a new token down.
    ///
    /// # Errors
    /// There are as many as there may be, it names too many apps, its note is too long, or the store fails.
    pub fn add_token(&self, secret: Digest, token: &Token) -> Result<(), StoreError> {
        within("the note beside a token", token.note.len(), TOKEN_NOTE_BYTES_MAX)?;
        within("the list of a token's apps", token.apps.len(), TOKEN_APPS_MAX)?;
        self.engine.write(|transaction| {
            let mut table = transaction.open_table(TOKENS)?;
            if table.len()? >= u64::from(TOKENS_MAX) {
                let path = self.path().to_owned();
                return Err(StoreError::TooManyTokens { path, max: TOKENS_MAX }.into());
            }
            table.insert(secret.as_bytes(), tables::encode(token)?.as_slice())?;
            Ok(())
        })
    }

    /// Removes the token of this digest. False: there was none.
    ///
    /// # Errors
    /// The store fails.
    pub fn remove_token(&self, secret: Digest) -> Result<bool, StoreError> {
        self.engine.write(|transaction| {
            let mut table = transaction.open_table(TOKENS)?;
            let removed = table.remove(secret.as_bytes())?;
            Ok(removed.is_some())
        })
    }
}

/// The tokens of a tenant that goes: one of the same name, made after it, is another one.
pub(crate) fn forget_tenant(transaction: &WriteTransaction, tenant: &Label) -> Result<(), Failure> {
    let mut table = transaction.open_table(TOKENS)?;
    let gone = of_tenant(&table, tenant)?;
    for secret in gone {
        table.remove(&secret)?;
    }
    Ok(())
}

fn of_tenant(
    table: &Table<'_, &'static [u8; 32], &'static [u8]>,
    tenant: &Label,
) -> Result<Vec<[u8; 32]>, Failure> {
    let mut gone = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let token: Token = tables::decode(value.value(), || "a token".to_owned())?;
        if token.tenant.is(tenant) {
            gone.push(*key.value());
        }
    }
    Ok(gone)
}
