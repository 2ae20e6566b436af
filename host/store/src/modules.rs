//! Modules: bytes under their digest.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use redb::{ReadableTable, Table};
use serde::{Deserialize, Serialize};
use tidegate_base::Digest;

use crate::Store;
use crate::engine::Failure;
use crate::error::StoreError;
use crate::file;
use crate::record::{ModuleEntry, VersionRecord, VersionUse};
use crate::tables::{self, AWAITED, CHUNK_BYTES, CHUNKS, MODULES, VERSIONS};

/// A stored module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// When it was stored last, in milliseconds since 1970.
    pub stored_ms: u64,
    /// The versions in the histories that have it, by app and number.
    pub used_by: Vec<VersionUse>,
}

/// The pieces of all modules.
pub(crate) type Chunks<'a> = Table<'a, (&'static [u8; 32], u32), &'static [u8]>;

impl Store {
    /// Stores a module. If it is there it is only noted as stored now, so that it is kept until its deployment begins,
    /// for a while; if it is there but damaged, it is replaced.
    ///
    /// # Errors
    /// It is larger than the limit, the limits or the disk have no room for it, or the store fails.
    pub fn put(&self, bytes: &[u8], now_ms: u64) -> Result<Digest, StoreError> {
        let (size, max) = (bytes.len() as u64, self.limits.module_bytes_max);
        if size > max {
            return Err(StoreError::ModuleTooLarge { bytes: size, max });
        }
        let digest = Digest::of(bytes);
        let key = digest.as_bytes();
        self.engine.write(|transaction| {
            let mut modules = transaction.open_table(MODULES)?;
            let mut chunks = transaction.open_table(CHUNKS)?;
            let known = modules.get(key)?.and_then(|entry| entry_of(entry.value(), digest));
            let stored_ms = known.as_ref().map_or(now_ms, |entry| entry.stored_ms.max(now_ms));
            if known.is_none_or(|entry| entry.bytes != size) || !holds(&chunks, digest, bytes)? {
                self.check_room(&modules, digest, size)?;
                file::check_disk(self.path(), size)?;
                remove_chunks(&mut chunks, digest)?;
                for (number, chunk) in (0..).zip(bytes.chunks(CHUNK_BYTES)) {
                    chunks.insert((key, number), chunk)?;
                }
            }
            let entry = tables::encode(&ModuleEntry { bytes: size, stored_ms })?;
            modules.insert(key, entry.as_slice())?;
            transaction.open_table(AWAITED)?.insert(key, ())?;
            Ok(digest)
        })
    }

    /// A module's bytes, if it is there. They are those of the digest: that is looked at every time.
    ///
    /// # Errors
    /// [`StoreError::DamagedModule`], mended by storing the module again; or the store fails.
    pub fn get(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let damaged = || StoreError::DamagedModule { digest, path: self.path().to_owned() };
        self.engine.read(|transaction| {
            let modules = transaction.open_table(MODULES)?;
            let Some(entry) = modules.get(digest.as_bytes())? else {
                return Ok(None);
            };
            let entry = entry_of(entry.value(), digest).ok_or_else(damaged)?;
            let size = usize::try_from(entry.bytes).map_err(|_| damaged())?;
            let mut bytes = Vec::with_capacity(size);
            for chunk in transaction.open_table(CHUNKS)?.range(all_chunks(&digest))? {
                bytes.extend_from_slice(chunk?.1.value());
                if bytes.len() > size {
                    return Err(damaged().into());
                }
            }
            if Digest::of(&bytes) == digest { Ok(Some(bytes)) } else { Err(damaged().into()) }
        })
    }

    /// Whether there is a module of this name. Its bytes are not looked at.
    ///
    /// # Errors
    /// The store fails.
    pub fn has(&self, digest: Digest) -> Result<bool, StoreError> {
        self.engine.read(|transaction| Ok(transaction.open_table(MODULES)?.get(digest.as_bytes())?.is_some()))
    }

    /// All modules by digest, with the versions that have them. It reads every history: for people who look, not for
    /// every second.
    ///
    /// # Errors
    /// The store fails.
    pub fn list(&self) -> Result<Vec<ModuleInfo>, StoreError> {
        self.engine.read(|transaction| {
            let mut uses: HashMap<Digest, Vec<VersionUse>> = HashMap::new();
            for entry in transaction.open_table(VERSIONS)?.iter()? {
                let (key, value) = entry?;
                let (app, number) = key.value();
                let record: VersionRecord = record_of(value.value(), app, number)?;
                uses.entry(record.digest)
                    .or_default()
                    .push(VersionUse { app: tables::app(app)?, number: record.number });
            }
            let mut listed = Vec::new();
            for entry in transaction.open_table(MODULES)?.iter()? {
                let (key, value) = entry?;
                let digest = Digest::from_bytes(*key.value());
                let damaged = || StoreError::DamagedModule { digest, path: self.path().to_owned() };
                let ModuleEntry { bytes, stored_ms } = entry_of(value.value(), digest).ok_or_else(damaged)?;
                let used_by = uses.remove(&digest).unwrap_or_default();
                listed.push(ModuleInfo { digest, bytes, stored_ms, used_by });
            }
            Ok(listed)
        })
    }

    /// Whether so many bytes more have room, besides all modules but this one.
    fn check_room(
        &self,
        modules: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
        digest: Digest,
        bytes: u64,
    ) -> Result<(), Failure> {
        let (mut used, mut count) = (0_u64, 0_u32);
        for entry in modules.iter()? {
            let (key, value) = entry?;
            let other = Digest::from_bytes(*key.value());
            if other != digest {
                // A damaged entry is nothing that this module has to do with.
                used = used.saturating_add(entry_of(value.value(), other).map_or(0, |entry| entry.bytes));
                count = count.saturating_add(1);
            }
        }
        let path = || self.path().to_owned();
        let max = self.limits.total_bytes_max;
        if used.saturating_add(bytes) > max {
            return Err(StoreError::NoRoom { path: path(), bytes, used, max }.into());
        }
        if count >= self.limits.modules_max {
            return Err(StoreError::TooManyModules { path: path(), max: self.limits.modules_max }.into());
        }
        Ok(())
    }
}

/// Removes a module's bytes.
pub(crate) fn remove_chunks(chunks: &mut Chunks<'_>, digest: Digest) -> Result<(), Failure> {
    Ok(chunks.retain_in(all_chunks(&digest), |_, _| false)?)
}

/// A module's entry; `None` if it is damaged.
pub(crate) fn entry_of(bytes: &[u8], digest: Digest) -> Option<ModuleEntry> {
    tables::decode(bytes, || format!("the entry of module sha256:{digest}")).ok()
}

/// A version's record, without its report.
pub(crate) fn record_of(bytes: &[u8], app: &str, number: u32) -> Result<VersionRecord, Failure> {
    tables::decode(bytes, || format!("the record of version {number} of app {app}"))
}

/// Whether just these bytes are stored under the digest.
fn holds(chunks: &Chunks<'_>, digest: Digest, bytes: &[u8]) -> Result<bool, Failure> {
    let mut rest = bytes;
    for chunk in chunks.range(all_chunks(&digest))? {
        match rest.strip_prefix(chunk?.1.value()) {
            Some(after) => rest = after,
            None => return Ok(false),
        }
    }
    Ok(rest.is_empty())
}

fn all_chunks(digest: &Digest) -> RangeInclusive<(&[u8; 32], u32)> {
    (digest.as_bytes(), 0)..=(digest.as_bytes(), u32::MAX)
}
