//! `wasi:keyvalue`: the buckets that the app is granted. What is wrong with a call is the error that it returns; the turn goes
//! on. A question whose answer is at hand is answered on the spot; for everything else the turn waits, and its thread does
//! not.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use tidegate_base::limits::KEY_BATCH_BYTES_MAX;
use tidegate_base::{
    InvalidKeyOp, KeyAnswer, KeyError, KeyOp, KeyValue, KeyVersion, check_key, check_key_count,
    check_key_value,
};
use tidegate_contract::WASI_KEYVALUE;
use wasmtime::component::{
    ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmList, WasmStr,
};
use wasmtime::{AsContextMut, Result, StoreContextMut};

use super::state::State;
use crate::fault::HostFailure;
use crate::{KeyBucket, PluginHost};

type Store<'a, H> = StoreContextMut<'a, State<H>>;

/// What a plugin holds as `bucket`.
struct Bucket(Arc<dyn KeyBucket>);

/// What a plugin holds as `cas`: it holds no value, so that many of them take no memory.
struct Cas {
    bucket: Arc<dyn KeyBucket>,
    key: String,
    version: KeyVersion,
}

/// As the interface has it.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<String>,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(Error),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

type Bytes = Arc<[u8]>;

/// A host function's future, as wasmtime wants it.
type Asking<'a, R, E = Error> = Box<dyn Future<Output = Result<(Result<R, E>,)>> + Send + 'a>;

/// How an answer goes back to the plugin. None: it is not of the variant that was asked for.
type Convert<R> = fn(KeyAnswer) -> Option<R>;

/// An answer of a bucket.
type Answer = Pin<Box<dyn Future<Output = std::result::Result<KeyAnswer, KeyError>> + Send>>;

/// What became of a call before it waits: the outer error is a trap, the inner one what the plugin is told.
type Prepared<T> = Result<Result<T, KeyError>>;

pub(super) fn link<H: PluginHost>(linker: &mut Linker<State<H>>) -> Result<()> {
    store(&mut linker.instance(WASI_KEYVALUE.store)?)?;
    atomics(&mut linker.instance(WASI_KEYVALUE.atomics)?)?;
    batch(&mut linker.instance(WASI_KEYVALUE.batch)?)
}

fn store<H: PluginHost>(store: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut store, bucket| {
        let bucket = Resource::<Bucket>::new_own(bucket);
        Ok(store.data_mut().resources().delete(bucket).map(drop)?)
    })?;
    store.func_wrap("open", |mut store: Store<'_, H>, (name,): (WasmStr,)| {
        let name = name.to_str(&store)?;
        let opened = store.data().host.borrow().bucket(&name);
        Ok((match opened {
            Ok(bucket) => Ok(store.data_mut().resources().push(Bucket(bucket))?),
            Err(error) => Err(open_error(error)),
        },))
    })?;
    store.func_wrap_async("[method]bucket.get", |store, (bucket, key): (Resource<Bucket>, WasmStr)| {
        get(store, &bucket, &key)
    })?;
    store.func_wrap_async(
        "[method]bucket.set",
        |mut store, (bucket, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>)| {
            let op =
                own_entry(&mut store, &key, &value).map(|entry| entry.map(|entry| KeyOp::Set(vec![entry])));
            ask(store, &bucket, op, done)
        },
    )?;
    store.func_wrap_async("[method]bucket.delete", |store, (bucket, key): (Resource<Bucket>, WasmStr)| {
        let op = own_key(&store, &key).map(|key| key.map(|key| KeyOp::Delete(vec![key])));
        ask(store, &bucket, op, done)
    })?;
    store.func_wrap_async("[method]bucket.exists", |store, (bucket, key): (Resource<Bucket>, WasmStr)| {
        let op = own_key(&store, &key).map(|key| key.map(KeyOp::Version));
        ask(store, &bucket, op, |answer| version(answer).map(|version| version != KeyVersion::ABSENT))
    })?;
    store.func_wrap_async(
        "[method]bucket.list-keys",
        |store, (bucket, cursor): (Resource<Bucket>, Option<WasmStr>)| {
            let after = cursor.map(|cursor| cursor.to_str(&store).map(String::from)).transpose();
            ask(store, &bucket, after.map(|after| Ok(KeyOp::List { after })), page)
        },
    )
}

fn atomics<H: PluginHost>(atomics: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    atomics.resource("cas", ResourceType::host::<Cas>(), |mut store, cas| {
        Ok(store.data_mut().resources().delete(Resource::<Cas>::new_own(cas)).map(drop)?)
    })?;
    atomics.func_wrap_async("[static]cas.new", |store, (bucket, key): (Resource<Bucket>, WasmStr)| {
        new_cas(store, &bucket, &key)
    })?;
    atomics.func_wrap_async("[method]cas.current", |store, (cas,): (Resource<Cas>,)| current(store, cas))?;
    atomics.func_wrap_async("swap", |store, (cas, value): (Resource<Cas>, WasmList<u8>)| {
        swap(store, cas, value)
    })?;
    atomics.func_wrap_async("increment", |store, (bucket, key, by): (Resource<Bucket>, WasmStr, i64)| {
        let op = own_key(&store, &key).map(|key| key.map(|key| KeyOp::Increment { key, by }));
        ask(store, &bucket, op, |answer| match answer {
            KeyAnswer::Number(number) => Some(number),
            _ => None,
        })
    })
}

fn batch<H: PluginHost>(batch: &mut LinkerInstance<'_, State<H>>) -> Result<()> {
    batch.func_wrap_async(
        "get-many",
        |mut store, (bucket, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
            let keys = own_keys(&mut store, &keys);
            get_many(store, &bucket, keys)
        },
    )?;
    batch.func_wrap_async(
        "set-many",
        |mut store, (bucket, entries): (Resource<Bucket>, WasmList<(WasmStr, WasmList<u8>)>)| {
            let op = own_entries(&mut store, &entries).map(|entries| entries.map(KeyOp::Set));
            ask(store, &bucket, op, done)
        },
    )?;
    batch.func_wrap_async(
        "delete-many",
        |mut store, (bucket, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
            let op = own_keys(&mut store, &keys).map(|keys| keys.map(KeyOp::Delete));
            ask(store, &bucket, op, done)
        },
    )
}

// === Calls ===

fn ask<'a, H: PluginHost, R: Send + 'a>(
    store: Store<'a, H>,
    bucket: &Resource<Bucket>,
    op: Prepared<KeyOp>,
    convert: Convert<R>,
) -> Asking<'a, R> {
    match both(held(&store, bucket), op) {
        Ok(Ok((bucket, op))) => {
            let answer = begin(&store, &*bucket, op);
            Box::new(async move { told(answer.await, convert) })
        }
        Ok(Err(error)) => Box::new(ready(Ok((Err(told_error(error)),)))),
        Err(trap) => Box::new(ready(Err(trap))),
    }
}

/// Nothing is copied but the value, if it is at hand.
fn get<'a, H: PluginHost>(
    store: Store<'a, H>,
    bucket: &Resource<Bucket>,
    key: &WasmStr,
) -> Asking<'a, Option<Bytes>> {
    if let Ok(Ok(bucket)) = held(&store, bucket)
        && let Ok(key) = key.to_str(&store)
        && let Some(value) = bucket.peek(&key)
    {
        return Box::new(ready(Ok((Ok(value.map(|value| value.bytes)),))));
    }
    let op = own_key(&store, key).map(|key| key.map(|key| KeyOp::Get(vec![key])));
    ask(store, bucket, op, |answer| Some(only(values(answer)?).map(|value| value.bytes)))
}

fn get_many<'a, H: PluginHost>(
    store: Store<'a, H>,
    bucket: &Resource<Bucket>,
    keys: Prepared<Vec<String>>,
) -> Asking<'a, Vec<Option<(String, Bytes)>>> {
    let prepared = both(held(&store, bucket), keys);
    Box::new(async move {
        let (bucket, keys) = match prepared? {
            Ok(prepared) => prepared,
            Err(error) => return Ok((Err(told_error(error)),)),
        };
        let named = |values: Vec<Option<KeyValue>>| {
            let named = keys.iter().zip(values);
            named.map(|(key, value)| Some((key.clone(), value?.bytes))).collect()
        };
        let answer = begin(&store, &*bucket, KeyOp::Get(keys.clone()));
        let (found,) = told(answer.await, values)?;
        Ok((found.map(named),))
    })
}

fn new_cas<'a, H: PluginHost>(
    mut store: Store<'a, H>,
    bucket: &Resource<Bucket>,
    key: &WasmStr,
) -> Asking<'a, Resource<Cas>> {
    let prepared = both(held(&store, bucket), own_key(&store, key));
    Box::new(async move {
        let (bucket, key) = match prepared? {
            Ok(prepared) => prepared,
            Err(error) => return Ok((Err(told_error(error)),)),
        };
        let answer = begin(&store, &*bucket, KeyOp::Version(key.clone()));
        let (found,) = told(answer.await, version)?;
        Ok((match found {
            Ok(version) => Ok(store.data_mut().resources().push(Cas { bucket, key, version })?),
            Err(error) => Err(error),
        },))
    })
}

/// From now on it stands for what is returned here.
fn current<'a, H: PluginHost>(mut store: Store<'a, H>, cas: Resource<Cas>) -> Asking<'a, Option<Bytes>> {
    Box::new(async move {
        let Cas { bucket, key, .. } = store.data_mut().resources().get(&cas)?;
        let (bucket, op) = (Arc::clone(bucket), KeyOp::Get(vec![key.clone()]));
        if let Err(error) = may_use(&store, &*bucket) {
            return Ok((Err(told_error(error)),));
        }
        let answer = begin(&store, &*bucket, op);
        let (found,) = told(answer.await, values)?;
        let value = match found {
            Ok(values) => only(values),
            Err(error) => return Ok((Err(error),)),
        };
        let version = value.as_ref().map_or(KeyVersion::ABSENT, |value| value.version);
        store.data_mut().resources().get_mut(&cas)?.version = version;
        Ok((Ok(value.map(|value| value.bytes)),))
    })
}

fn swap<'a, H: PluginHost>(
    mut store: Store<'a, H>,
    cas: Resource<Cas>,
    value: WasmList<u8>,
) -> Asking<'a, (), CasError> {
    Box::new(async move {
        let Cas { bucket, key, version } = store.data_mut().resources().delete(cas)?;
        let prepared = may_use(&store, &*bucket).and_then(|()| Ok(check_key_value(value.len())?));
        if let Err(error) = prepared {
            return Ok((Err(CasError::Store(told_error(error))),));
        }
        let value = value.as_le_slice(store.as_context_mut()).to_vec();
        let op = KeyOp::Swap { key: key.clone(), expected: version, value };
        let answer = begin(&store, &*bucket, op);
        Ok((match answer.await {
            Ok(KeyAnswer::Swapped(Ok(()))) => Ok(()),
            Ok(KeyAnswer::Swapped(Err(version))) => {
                Err(CasError::Failed(store.data_mut().resources().push(Cas { bucket, key, version })?))
            }
            Ok(_) => return Err(another_kind()),
            Err(error) => Err(CasError::Store(told_error(error))),
        },))
    })
}

/// What was printed so far is in the log before what comes after the wait.
fn begin<H: PluginHost>(store: &Store<'_, H>, bucket: &dyn KeyBucket, op: KeyOp) -> Answer {
    store.data().drain_stdio();
    match op.check() {
        Ok(()) => bucket.ask(op),
        Err(invalid) => Box::pin(ready(Err(invalid.into()))),
    }
}

/// What is not done if either cannot be: a trap goes before what the plugin is told.
fn both<A, B>(a: Prepared<A>, b: Prepared<B>) -> Prepared<(A, B)> {
    let (a, b) = (a?, b?);
    Ok(a.and_then(|a| Ok((a, b?))))
}

// === What a call names ===

/// The bucket that the plugin names by its handle, if it may use it now.
fn held<H: PluginHost>(store: &Store<'_, H>, bucket: &Resource<Bucket>) -> Prepared<Arc<dyn KeyBucket>> {
    let Bucket(bucket) = store.data().resources_ref().get(bucket)?;
    Ok(may_use(store, &**bucket).map(|()| Arc::clone(bucket)))
}

/// The grant may have been taken back since the bucket was opened.
fn may_use<H: PluginHost>(store: &Store<'_, H>, bucket: &dyn KeyBucket) -> Result<(), KeyError> {
    if let Some(why) = store.data().call.refuses_keys() {
        return Err(KeyError::NotNow(why));
    }
    match store.data().host.borrow().has_bucket(bucket.name()) {
        true => Ok(()),
        false => Err(KeyError::NoSuchBucket { bucket: bucket.name().to_owned() }),
    }
}

fn own_key<H: PluginHost>(store: &Store<'_, H>, key: &WasmStr) -> Prepared<String> {
    let key = key.to_str(store)?;
    Ok(match check_key(&key) {
        Ok(()) => Ok(key.into_owned()),
        Err(invalid) => Err(invalid.into()),
    })
}

fn own_keys<H: PluginHost>(store: &mut Store<'_, H>, keys: &WasmList<WasmStr>) -> Prepared<Vec<String>> {
    // Before anything is allocated for them.
    if let Err(invalid) = check_key_count(keys.len()) {
        return Ok(Err(invalid.into()));
    }
    let keys: Vec<_> = keys.iter(store.as_context_mut())?.collect::<Result<_>>()?;
    let mut owned = Vec::with_capacity(keys.len());
    for key in &keys {
        match own_key(store, key)? {
            Ok(key) => owned.push(key),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(owned))
}

fn own_entry<H: PluginHost>(
    store: &mut Store<'_, H>,
    key: &WasmStr,
    value: &WasmList<u8>,
) -> Prepared<(String, Vec<u8>)> {
    if let Err(invalid) = check_key_value(value.len()) {
        return Ok(Err(invalid.into()));
    }
    let key = own_key(store, key)?;
    Ok(key.map(|key| (key, value.as_le_slice(store.as_context_mut()).to_vec())))
}

fn own_entries<H: PluginHost>(
    store: &mut Store<'_, H>,
    entries: &WasmList<(WasmStr, WasmList<u8>)>,
) -> Prepared<Vec<(String, Vec<u8>)>> {
    if let Err(invalid) = check_key_count(entries.len()) {
        return Ok(Err(invalid.into()));
    }
    let entries: Vec<_> = entries.iter(store.as_context_mut())?.collect::<Result<_>>()?;
    let bytes = entries.iter().map(|(_, value)| value.len()).fold(0, usize::saturating_add);
    if bytes > KEY_BATCH_BYTES_MAX {
        return Ok(Err(InvalidKeyOp::Large { bytes }.into()));
    }
    let mut owned = Vec::with_capacity(entries.len());
    for (key, value) in &entries {
        match own_entry(store, key, value)? {
            Ok(entry) => owned.push(entry),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(owned))
}

// === What goes back ===

fn told<R>(answered: Result<KeyAnswer, KeyError>, convert: Convert<R>) -> Result<(Result<R, Error>,)> {
    Ok((match answered {
        Ok(answer) => Ok(convert(answer).ok_or_else(another_kind)?),
        Err(error) => Err(told_error(error)),
    },))
}

fn another_kind() -> wasmtime::Error {
    HostFailure("an answer about keys is of another kind".to_owned()).into()
}

/// Of a bucket that was open: the grant was taken back.
fn told_error(error: KeyError) -> Error {
    match error {
        KeyError::NoSuchBucket { .. } => Error::AccessDenied,
        error => Error::Other(error.to_string()),
    }
}

fn open_error(error: KeyError) -> Error {
    match error {
        KeyError::NoSuchBucket { .. } => Error::NoSuchStore,
        error => Error::Other(error.to_string()),
    }
}

fn done(answer: KeyAnswer) -> Option<()> {
    matches!(answer, KeyAnswer::Done).then_some(())
}

fn values(answer: KeyAnswer) -> Option<Vec<Option<KeyValue>>> {
    let KeyAnswer::Values(values) = answer else { return None };
    Some(values)
}

fn version(answer: KeyAnswer) -> Option<KeyVersion> {
    let KeyAnswer::Version(version) = answer else { return None };
    Some(version)
}

fn page(answer: KeyAnswer) -> Option<KeyResponse> {
    let KeyAnswer::Keys { keys, more } = answer else { return None };
    let cursor = keys.last().filter(|_| more).cloned();
    Some(KeyResponse { keys, cursor })
}

fn only(values: Vec<Option<KeyValue>>) -> Option<KeyValue> {
    values.into_iter().next().flatten()
}
