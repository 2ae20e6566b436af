//! The host functions of `wasi:keyvalue`. A plugin that uses none of them does not import them.

use crate::bindings::keyvalue::wasi::keyvalue::{atomics, batch, store};
use crate::keys::KeyError;

pub(crate) use atomics::Cas;
pub(crate) use store::Bucket;

type Result<T> = std::result::Result<T, KeyError>;

pub(crate) fn open_bucket(name: &str) -> Result<Bucket> {
    store::open(name).map_err(error)
}

pub(crate) fn get_key(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>> {
    bucket.get(key).map_err(error)
}

pub(crate) fn set_key(bucket: &Bucket, key: &str, value: &[u8]) -> Result<()> {
    bucket.set(key, value).map_err(error)
}

pub(crate) fn delete_key(bucket: &Bucket, key: &str) -> Result<()> {
    bucket.delete(key).map_err(error)
}

pub(crate) fn key_exists(bucket: &Bucket, key: &str) -> Result<bool> {
    bucket.exists(key).map_err(error)
}

pub(crate) fn list_keys(bucket: &Bucket, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>)> {
    let page = bucket.list_keys(cursor).map_err(error)?;
    Ok((page.keys, page.cursor))
}

pub(crate) fn increment_key(bucket: &Bucket, key: &str, by: i64) -> Result<i64> {
    atomics::increment(bucket, key, by).map_err(error)
}

pub(crate) fn new_cas(bucket: &Bucket, key: &str) -> Result<Cas> {
    Cas::new(bucket, key).map_err(error)
}

pub(crate) fn cas_current(cas: &Cas) -> Result<Option<Vec<u8>>> {
    cas.current().map_err(error)
}

pub(crate) fn cas_swap(cas: Cas, value: &[u8]) -> Result<Option<Cas>> {
    match atomics::swap(cas, value) {
        Ok(()) => Ok(None),
        Err(atomics::CasError::CasFailed(again)) => Ok(Some(again)),
        Err(atomics::CasError::StoreError(failed)) => Err(error(failed)),
    }
}

pub(crate) fn get_keys(bucket: &Bucket, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
    let found = batch::get_many(bucket, keys).map_err(error)?;
    Ok(found.into_iter().map(|found| found.map(|(_, value)| value)).collect())
}

pub(crate) fn set_keys(bucket: &Bucket, entries: &[(String, Vec<u8>)]) -> Result<()> {
    batch::set_many(bucket, entries).map_err(error)
}

pub(crate) fn delete_keys(bucket: &Bucket, keys: &[String]) -> Result<()> {
    batch::delete_many(bucket, keys).map_err(error)
}

fn error(error: store::Error) -> KeyError {
    match error {
        store::Error::NoSuchStore => KeyError::NoSuchBucket,
        store::Error::AccessDenied => KeyError::TakenBack,
        store::Error::Other(words) => KeyError::Other(words),
    }
}
