//! The keys that apps keep: one file, `keys.redb`, in the data folder of the worker that they live on.
//!
//! An app has a **space** with a number of its own, which its keys are filed under. An app that is deleted and made anew gets
//! another space, so that it never sees what the one before it kept; the old one is cleared piece by piece. One that stands in
//! a settings file keeps its space, whatever is made at run time under its name.
//!
//! A value is a check, its version and its bytes. Versions come from one counter of the file and never repeat.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use tidegate_base::{AppName, KeyUsage, KeyValue, KeyVersion};

use crate::engine::{Engine, Failure, Layout};
use crate::error::StoreError;
use crate::tables::{self, CHECK_BYTES};

/// App, and whether it was made at run time -> its space, and when the app was born.
const SPACES: TableDefinition<'_, (&str, bool), (u64, u64)> = TableDefinition::new("spaces");
/// Space -> keys and bytes.
const USAGE: TableDefinition<'_, u64, (u64, u64)> = TableDefinition::new("usage");
/// Spaces whose apps are gone -> nothing.
const DEAD: TableDefinition<'_, u64, ()> = TableDefinition::new("dead");
/// Space, bucket and key -> check, version and bytes.
const KEYS: TableDefinition<'_, (u64, &str, &str), &[u8]> = TableDefinition::new("keys");
/// Counters.
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
/// The last version that was given out.
const VERSION: &str = "version";
/// The last space that was given out.
const SPACE: &str = "space";
/// Of the newest list of apps by which spaces were given up.
const CATALOG: &str = "catalog";

/// Reads that find nothing in the cache of values go to the file, whose upper pages are kept in this.
static LAYOUT: Layout = Layout { format: 1, cache_bytes: 16 << 20, create };

const VERSION_BYTES: usize = 8;

/// The number of an app's space in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(u64);

/// Some keys of a bucket, in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<String>,
    /// There are more behind the last one.
    pub more: bool,
}

/// The file has failed within a transaction, which ends with it; the [`StoreError`] says how.
pub struct Broken(Failure);

impl<E: Into<Failure>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The open file. It may be shared between threads; reads go on beside each other and beside one write. Everything blocks
/// on the disk.
#[derive(Debug)]
pub struct KeyFile {
    engine: Engine,
}

impl KeyFile {
    /// The name of the file in the data folder.
    pub const FILE_NAME: &str = "keys.redb";

    /// Opens the file in this folder, which exists, or makes a new one there, readable for its user only. After a kill it
    /// needs no repair and is as quick.
    ///
    /// # Errors
    /// Another process has it open, others may read or write the file, it is damaged, a newer Tidegate has written it, or
    /// the disk refuses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { engine: Engine::open(folder.join(Self::FILE_NAME), &LAYOUT)? })
    }

    /// Looks at one moment of the file.
    ///
    /// # Errors
    /// The file fails, or what it holds is damaged.
    pub fn read<T>(&self, look: impl FnOnce(&KeyReading<'_>) -> Result<T, Broken>) -> Result<T, StoreError> {
        self.engine.read(|transaction| look(&KeyReading { transaction }).map_err(|Broken(failure)| failure))
    }

    /// Runs `change` and commits; it is durable when this returns. On an error of `change` nothing is changed.
    ///
    /// # Errors
    /// The file fails, or what it holds is damaged.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&mut KeyWriting<'_>) -> Result<T, Broken>,
    ) -> Result<T, StoreError> {
        self.engine.write(|transaction| {
            let mut writing = KeyWriting::begin(transaction)?;
            let value = change(&mut writing).map_err(|Broken(failure)| failure)?;
            writing.end()?;
            Ok(value)
        })
    }

    /// The space of an app that was born then; made if it has none, or only that of an earlier app of its name.
    ///
    /// # Errors
    /// The file fails.
    pub fn space(&self, app: &AppName, born: u64) -> Result<SpaceId, StoreError> {
        let name = (app.as_str(), born > 0);
        let of_this = |found: Option<(u64, u64)>| found.filter(|(_, of)| *of == born).map(|(space, _)| space);
        let known = self.engine.read(|transaction| {
            Ok(of_this(transaction.open_table(SPACES)?.get(name)?.map(|found| found.value())))
        })?;
        if let Some(space) = known {
            return Ok(SpaceId(space));
        }
        self.engine.write(|transaction| {
            let mut spaces = transaction.open_table(SPACES)?;
            let before = spaces.get(name)?.map(|found| found.value());
            // Another thread may have made it meanwhile.
            if let Some(space) = of_this(before) {
                return Ok(SpaceId(space));
            }
            let mut counters = transaction.open_table(COUNTERS)?;
            let space = counters.get(SPACE)?.map_or(0, |last| last.value()) + 1;
            counters.insert(SPACE, space)?;
            spaces.insert(name, (space, born))?;
            if let Some((before, _)) = before {
                transaction.open_table(DEAD)?.insert(before, ())?;
            }
            Ok(SpaceId(space))
        })
    }

    /// What is kept in a space.
    ///
    /// # Errors
    /// The file fails.
    pub fn usage(&self, space: SpaceId) -> Result<KeyUsage, StoreError> {
        self.engine.read(|transaction| {
            let found = transaction.open_table(USAGE)?.get(space.0)?.map(|it| it.value());
            Ok(found.map(usage_of).unwrap_or_default())
        })
    }

    /// Gives up the spaces of apps that were made at run time and are none of these any more, by a list of this revision.
    /// A list that is older than one before changes nothing: whoever has it has forgotten something.
    ///
    /// # Errors
    /// The file fails.
    pub fn retain(&self, revision: u64, is_there: impl Fn(&AppName) -> bool) -> Result<usize, StoreError> {
        let gone = |transaction: &ReadTransaction| -> Result<Option<Vec<(String, u64)>>, Failure> {
            let last = transaction.open_table(COUNTERS)?.get(CATALOG)?.map_or(0, |it| it.value());
            if revision <= last {
                return Ok(None);
            }
            let mut gone = Vec::new();
            for entry in transaction.open_table(SPACES)?.iter()? {
                let (name, value) = entry?;
                let (app, is_made) = name.value();
                // Those of settings files come and go with the file.
                if is_made && !is_there(&tables::app(app)?) {
                    gone.push((app.to_owned(), value.value().0));
                }
            }
            Ok(Some(gone))
        };
        let Some(gone) = self.engine.read(gone)? else { return Ok(0) };
        self.engine.write(|transaction| {
            let mut spaces = transaction.open_table(SPACES)?;
            let mut dead = transaction.open_table(DEAD)?;
            for (name, space) in &gone {
                spaces.remove((name.as_str(), true))?;
                dead.insert(space, ())?;
            }
            transaction.open_table(COUNTERS)?.insert(CATALOG, revision)?;
            Ok(gone.len())
        })
    }

    /// Removes at most so many keys of spaces that were given up. False: there are none any more.
    ///
    /// # Errors
    /// The file fails.
    pub fn sweep(&self, most: usize) -> Result<bool, StoreError> {
        let first = |transaction: &ReadTransaction| {
            Ok(transaction.open_table(DEAD)?.first()?.map(|(space, _)| space.value()))
        };
        let Some(space) = self.engine.read(first)? else { return Ok(false) };
        self.engine.write(|transaction| {
            let mut keys = transaction.open_table(KEYS)?;
            let mut removed = 0;
            let range = (space, "", "")..(space + 1, "", "");
            for entry in keys.extract_from_if(range, |_, _| true)?.take(most) {
                entry?;
                removed += 1;
            }
            if removed < most {
                transaction.open_table(DEAD)?.remove(space)?;
                transaction.open_table(USAGE)?.remove(space)?;
            }
            Ok(true)
        })
    }
}

/// One moment of the file.
pub struct KeyReading<'a> {
    transaction: &'a ReadTransaction,
}

impl KeyReading<'_> {
    /// The values of keys, in their order, until they have more than so many bytes together: None.
    ///
    /// # Errors
    /// The file fails, or a value is damaged.
    pub fn values(
        &self,
        space: SpaceId,
        bucket: &str,
        keys: &[String],
        bytes_max: usize,
    ) -> Result<Option<Vec<Option<KeyValue>>>, Broken> {
        let table = self.transaction.open_table(KEYS)?;
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let found = table.get((space.0, bucket, key.as_str()))?;
            let value = found.map(|found| decode(found.value(), key)).transpose()?;
            bytes += value.as_ref().map_or(0, |value| value.bytes.len());
            if bytes > bytes_max {
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some(values))
    }

    /// Keys of a bucket behind one, or from the first on: at most so many, and of so many bytes.
    ///
    /// # Errors
    /// The file fails.
    pub fn page(
        &self,
        space: SpaceId,
        bucket: &str,
        after: Option<&str>,
        most: usize,
        bytes_max: usize,
    ) -> Result<Page, Broken> {
        let table = self.transaction.open_table(KEYS)?;
        let from = match after {
            Some(after) => Bound::Excluded((space.0, bucket, after)),
            None => Bound::Included((space.0, bucket, "")),
        };
        let (mut page, mut bytes) = (Page::default(), 0);
        for entry in table.range::<(u64, &str, &str)>((from, Bound::Unbounded))? {
            let (found, _) = entry?;
            let (of, in_bucket, key) = found.value();
            if (of, in_bucket) != (space.0, bucket) {
                break;
            }
            bytes += key.len();
            if page.keys.len() == most || (bytes > bytes_max && !page.keys.is_empty()) {
                page.more = true;
                break;
            }
            page.keys.push(key.to_owned());
        }
        Ok(page)
    }
}

/// One change of the file, as a whole or not at all.
pub struct KeyWriting<'a> {
    transaction: &'a WriteTransaction,
    keys: redb::Table<'a, (u64, &'static str, &'static str), &'static [u8]>,
    version: u64,
    usage: BTreeMap<u64, KeyUsage>,
    /// A value as it is written.
    buffer: Vec<u8>,
}

impl<'a> KeyWriting<'a> {
    fn begin(transaction: &'a WriteTransaction) -> Result<Self, Failure> {
        let version = transaction.open_table(COUNTERS)?.get(VERSION)?.map_or(0, |last| last.value());
        let keys = transaction.open_table(KEYS)?;
        Ok(Self { transaction, keys, version, usage: BTreeMap::new(), buffer: Vec::new() })
    }

    /// A value.
    ///
    /// # Errors
    /// The file fails, or the value is damaged.
    pub fn value(&self, space: SpaceId, bucket: &str, key: &str) -> Result<Option<KeyValue>, Broken> {
        let found = self.keys.get((space.0, bucket, key))?;
        Ok(found.map(|found| decode(found.value(), key)).transpose()?)
    }

    /// How many bytes a key and its value have, if it has one.
    ///
    /// # Errors
    /// The file fails.
    pub fn bytes(&self, space: SpaceId, bucket: &str, key: &str) -> Result<Option<u64>, Broken> {
        Ok(self.keys.get((space.0, bucket, key))?.map(|found| bytes_of(key, found.value())))
    }

    /// What is kept in a space.
    ///
    /// # Errors
    /// The file fails.
    pub fn usage(&mut self, space: SpaceId) -> Result<KeyUsage, Broken> {
        Ok(*self.usage_mut(space)?)
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// The file fails.
    pub fn put(
        &mut self,
        space: SpaceId,
        bucket: &str,
        key: &str,
        value: &[u8],
    ) -> Result<KeyVersion, Broken> {
        self.version += 1;
        encode(&mut self.buffer, self.version, value);
        let before = self.keys.insert((space.0, bucket, key), self.buffer.as_slice())?;
        let before = before.map(|before| bytes_of(key, before.value()));
        let now = (key.len() + value.len()) as u64;
        let usage = self.usage_mut(space)?;
        usage.keys += u64::from(before.is_none());
        usage.bytes = usage.bytes.saturating_sub(before.unwrap_or(0)).saturating_add(now);
        Ok(KeyVersion(self.version))
    }

    /// Removes a key. False: it has no value.
    ///
    /// # Errors
    /// The file fails.
    pub fn remove(&mut self, space: SpaceId, bucket: &str, key: &str) -> Result<bool, Broken> {
        let before = self.keys.remove((space.0, bucket, key))?;
        let Some(bytes) = before.map(|before| bytes_of(key, before.value())) else { return Ok(false) };
        let usage = self.usage_mut(space)?;
        usage.keys = usage.keys.saturating_sub(1);
        usage.bytes = usage.bytes.saturating_sub(bytes);
        Ok(true)
    }

    fn usage_mut(&mut self, space: SpaceId) -> Result<&mut KeyUsage, Failure> {
        match self.usage.entry(space.0) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(vacant) => {
                let found = self.transaction.open_table(USAGE)?.get(space.0)?.map(|it| it.value());
                Ok(vacant.insert(found.map(usage_of).unwrap_or_default()))
            }
        }
    }

    fn end(self) -> Result<(), Failure> {
        let Self { transaction, keys, version, usage, .. } = self;
        drop(keys);
        transaction.open_table(COUNTERS)?.insert(VERSION, version)?;
        let mut table = transaction.open_table(USAGE)?;
        for (space, KeyUsage { keys, bytes }) in usage {
            table.insert(space, (keys, bytes))?;
        }
        Ok(())
    }
}

fn create(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(SPACES)?;
    transaction.open_table(USAGE)?;
    transaction.open_table(DEAD)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(COUNTERS)?;
    Ok(())
}

fn usage_of((keys, bytes): (u64, u64)) -> KeyUsage {
    KeyUsage { keys, bytes }
}

/// What a key and its stored value count as.
fn bytes_of(key: &str, stored: &[u8]) -> u64 {
    (key.len() + stored.len().saturating_sub(CHECK_BYTES + VERSION_BYTES)) as u64
}

fn encode(buffer: &mut Vec<u8>, version: u64, value: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&[0; CHECK_BYTES]);
    buffer.extend_from_slice(&version.to_le_bytes());
    buffer.extend_from_slice(value);
    if let Some((check, body)) = buffer.split_first_chunk_mut() {
        *check = tables::check_of(body);
    }
}

fn decode(stored: &[u8], key: &str) -> Result<KeyValue, Failure> {
    let damaged = || Failure::Damaged(format!("the value of the key {key:?} is not what was written"));
    let (check, body) = stored.split_first_chunk::<CHECK_BYTES>().ok_or_else(damaged)?;
    if *check != tables::check_of(body) {
        return Err(damaged());
    }
    let (version, bytes) = body.split_first_chunk::<VERSION_BYTES>().ok_or_else(damaged)?;
    Ok(KeyValue { version: KeyVersion(u64::from_le_bytes(*version)), bytes: Arc::from(bytes) })
}
