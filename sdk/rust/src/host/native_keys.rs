//! The buckets of the fake gateway.

use std::cell::Cell;

use crate::keys::KeyError;
use crate::testing::turn::{Turn, in_turn};

type Result<T> = std::result::Result<T, KeyError>;

/// Its name.
pub(crate) struct Bucket(String);

/// A key of a bucket, and the version that it must have.
pub(crate) struct Cas {
    bucket: Bucket,
    key: String,
    version: Cell<u64>,
}

pub(crate) fn open_bucket(name: &str) -> Result<Bucket> {
    in_turn(|turn| turn.open_bucket(name)).map(|()| Bucket(name.to_owned()))
}

pub(crate) fn get_key(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>> {
    in_turn(|turn| Ok(turn.bucket(&bucket.0)?.get(key)?.map(|(_, value)| value)))
}

pub(crate) fn set_key(bucket: &Bucket, key: &str, value: &[u8]) -> Result<()> {
    in_turn(|turn| turn.bucket(&bucket.0)?.set(&[(key.to_owned(), value.to_vec())]))
}

pub(crate) fn delete_key(bucket: &Bucket, key: &str) -> Result<()> {
    delete_keys(bucket, &[key.to_owned()])
}

pub(crate) fn key_exists(bucket: &Bucket, key: &str) -> Result<bool> {
    in_turn(|turn| Ok(turn.bucket(&bucket.0)?.get(key)?.is_some()))
}

pub(crate) fn list_keys(bucket: &Bucket, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
    in_turn(|turn| Ok(turn.bucket(&bucket.0)?.list(cursor)))
}

pub(crate) fn increment_key(bucket: &Bucket, key: &str, by: i64) -> Result<i64> {
    in_turn(|turn| turn.bucket(&bucket.0)?.increment(key, by))
}

pub(crate) fn new_cas(bucket: &Bucket, key: &str) -> Result<Cas> {
    let version = in_turn(|turn| version(turn, bucket, key))?;
    Ok(Cas { bucket: Bucket(bucket.0.clone()), key: key.to_owned(), version: Cell::new(version) })
}

pub(crate) fn cas_current(cas: &Cas) -> Result<Option<Vec<u8>>> {
    cas.version.set(in_turn(|turn| version(turn, &cas.bucket, &cas.key))?);
    get_key(&cas.bucket, &cas.key)
}

pub(crate) fn cas_swap(cas: Cas, value: &[u8]) -> Result<Option<Cas>> {
    let now = in_turn(|turn| version(turn, &cas.bucket, &cas.key))?;
    if now != cas.version.replace(now) {
        return Ok(Some(cas));
    }
    set_key(&cas.bucket, &cas.key, value).map(|()| None)
}

pub(crate) fn get_keys(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
    keys.iter().map(|key| get_key(bucket, key)).collect()
}

pub(crate) fn set_keys(bucket: &Bucket, entries: &[(String, Vec<u8>)]) -> Result<()> {
    in_turn(|turn| turn.bucket(&bucket.0)?.set(entries))
}

pub(crate) fn delete_keys(bucket: &Bucket, keys: &[String]) -> Result<()> {
    in_turn(|turn| turn.bucket(&bucket.0)?.delete(keys))
}

fn version(turn: &mut Turn, bucket: &Bucket, key: &str) -> Result<u64> {
    Ok(turn.bucket(&bucket.0)?.get(key)?.map_or(0, |(version, _)| version))
}
