//! The buckets of keys that an app is granted, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::keys::KeyError;

/// The longest key.
const KEY_BYTES_MAX: usize = 512;
/// The largest value.
const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// How many keys one call may name.
const BATCH_MAX: usize = 1000;
/// How many bytes one call may set.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One bucket: versions and values by key.
#[derive(Default)]
pub(crate) struct FakeBucket {
    values: BTreeMap<String, (u64, Vec<u8>)>,
    version: u64,
}

impl FakeBucket {
    pub(crate) fn get(&self, key: &str) -> Result<Option<(u64, Vec<u8>)>, KeyError> {
        check_key(key)?;
        Ok(self.values.get(key).cloned())
    }

    pub(crate) fn set(&mut self, entries: &[(String, Vec<u8>)]) -> Result<(), KeyError> {
        check_count(entries.len())?;
        for (key, value) in entries {
            check_key(key)?;
            if value.len() > VALUE_BYTES_MAX {
                return refused(format!(
                    "the value of a key has {} bytes, {VALUE_BYTES_MAX} are allowed",
                    value.len()
                ));
            }
        }
        let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > BATCH_BYTES_MAX {
            return refused(format!(
                "keys and values of one call have {bytes} bytes, {BATCH_BYTES_MAX} are allowed"
            ));
        }
        for (key, value) in entries {
            self.version += 1;
            self.values.insert(key.clone(), (self.version, value.clone()));
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, keys: &[String]) -> Result<(), KeyError> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        keys.iter().for_each(|key| drop(self.values.remove(key)));
        Ok(())
    }

    pub(crate) fn increment(&mut self, key: &str, by: i64) -> Result<i64, KeyError> {
        let value = self.get(key)?.map_or_else(|| b"0".to_vec(), |(_, value)| value);
        let number = String::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
        let Some(number) = number else {
            return refused(
                "the value of the key is no whole number in decimal digits, so it can't be incremented"
                    .into(),
            );
        };
        let Some(now) = number.checked_add(by) else {
            return refused("the number would not fit into 64 bits".into());
        };
        self.set(&[(key.to_owned(), now.to_string().into_bytes())])?;
        Ok(now)
    }

    pub(crate) fn list(&self, after: Option<&str>) -> (Vec<String>, Option<String>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = self.values.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key.clone());
        let page: Vec<_> = keys.by_ref().take(BATCH_MAX).collect();
        let cursor = keys.next().and_then(|_| page.last().cloned());
        (page, cursor)
    }
}

fn check_key(key: &str) -> Result<(), KeyError> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => refused(format!("a key has {bytes} bytes, 1 to {KEY_BYTES_MAX} are allowed")),
    }
}

fn check_count(count: usize) -> Result<(), KeyError> {
    if count <= BATCH_MAX {
        return Ok(());
    }
    refused(format!("{count} keys are named at once, {BATCH_MAX} are allowed"))
}

fn refused<T>(words: String) -> Result<T, KeyError> {
    Err(KeyError::Other(words))
}
