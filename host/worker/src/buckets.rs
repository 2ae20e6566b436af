//! The buckets of keys that a plugin opens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tidegate_base::{KeyAnswer, KeyError, KeyOp, KeyValue};
use tidegate_keys::{Keys, Space};
use tidegate_runtime::KeyBucket;

use crate::settings::WorkerApp;

/// The store of this worker's keys, if it has one.
pub(crate) type Store = Option<Arc<dyn Keys>>;

/// What stands for the keys of an app, as its settings are now; None: it is granted none.
pub(crate) fn space(store: &Store, app: &WorkerApp) -> Option<Arc<Space>> {
    let store = store.as_ref().filter(|_| !app.grants.keys.is_empty())?;
    let space = store.space(&app.name, app.born);
    space.set_bytes_max(app.keys_bytes_max);
    Some(space)
}

/// Opens a bucket of an app.
pub(crate) fn open(store: &Store, app: &WorkerApp, name: &str) -> Result<Arc<dyn KeyBucket>, KeyError> {
    if !app.grants.has_bucket(name) {
        return Err(KeyError::NoSuchBucket { bucket: name.to_owned() });
    }
    let no_store = || KeyError::Unavailable { reason: "this worker keeps no keys".to_owned() };
    let (store, space) = store.as_ref().zip(space(store, app)).ok_or_else(no_store)?;
    Ok(Arc::new(Bucket { store: Arc::clone(store), space, name: name.into() }))
}

struct Bucket {
    store: Arc<dyn Keys>,
    space: Arc<Space>,
    name: Arc<str>,
}

impl KeyBucket for Bucket {
    fn name(&self) -> &str {
        &self.name
    }

    fn peek(&self, key: &str) -> Option<Option<KeyValue>> {
        self.store.peek(&self.space, &self.name, key)
    }

    fn ask(&self, op: KeyOp) -> Pin<Box<dyn Future<Output = Result<KeyAnswer, KeyError>> + Send>> {
        self.store.ask(&self.space, &self.name, op)
    }
}
