//! Buckets of keys that the app is granted: what survives instances, versions and restarts.
//!
//! ```toml
//! [app.grants]
//! keys = ["scores"]
//! ```
//!
//! ```
//! use tidegate::*;
//!
//! #[derive(Default)]
//! struct Scores;
//!
//! #[tidegate::plugin]
//! impl Plugin for Scores {
//!     fn on_message(&mut self, client: Client, message: Message) -> Result {
//!         let scores = keys::open("scores")?;
//!         let points = scores.increment(&message.to_string(), 1)?;
//!         client.send(points.to_string());
//!         Ok(())
//!     }
//! }
//!
//! let mut gateway = testing::Setup::new().bucket("scores").start::<Scores>();
//! let client = gateway.connect();
//! gateway.text(client, "ann");
//! gateway.text(client, "ann");
//! assert_eq!(gateway.received(client), ["1", "2"]);
//! ```
//!
//! A change is durable when its call returns. **It is no part of the turn**: it happens at once, others see it, and it stays
//! although the turn fails later. A turn that waits for a key holds up only its own slot, and counts against
//! `turn_wall_ms`, not against `turn_cpu_ms`; if the turn is ended meanwhile, the change has happened or not.
//!
//! A key has 1 to 512 bytes, a value up to 1 MiB, one call names up to 1,000 keys, sets or reads up to 4 MiB, and all keys of an
//! app have `keys_bytes_max` together. All slots of an app share its buckets; no other app sees them.

use std::fmt;

use crate::host;

/// Opens a bucket.
///
/// # Errors
/// The app is granted no bucket of this name.
pub fn open(name: &str) -> Result<Bucket, KeyError> {
    host::open_bucket(name).map(Bucket)
}

/// A bucket of keys. It may be kept from turn to turn; opening one costs little.
pub struct Bucket(host::Bucket);

impl Bucket {
    /// A key's value; none if it has none.
    ///
    /// # Errors
    /// See [`KeyError`]; so everywhere here.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyError> {
        host::get_key(&self.0, key)
    }

    /// A key's value as text.
    ///
    /// # Errors
    /// The value is no UTF-8.
    pub fn get_text(&self, key: &str) -> Result<Option<String>, KeyError> {
        let text =
            |value| String::from_utf8(value).map_err(|_| KeyError::Other("the value is no UTF-8".into()));
        self.get(key)?.map(text).transpose()
    }

    /// Gives a key a value: bytes or text.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), KeyError> {
        host::set_key(&self.0, key, value.as_ref())
    }

    /// Takes a key's value away, if it has one.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn delete(&self, key: &str) -> Result<(), KeyError> {
        host::delete_key(&self.0, key)
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn exists(&self, key: &str) -> Result<bool, KeyError> {
        host::key_exists(&self.0, key)
    }

    /// Adds to a number, whoever else does so at the same time, and returns it. A key without a value counts as 0; the value is
    /// the number in decimal digits.
    ///
    /// # Errors
    /// The value is no such number, or would have more than 64 bits.
    pub fn increment(&self, key: &str, by: i64) -> Result<i64, KeyError> {
        host::increment_key(&self.0, key, by)
    }

    /// Replaces a value by what `next` makes of it, again and again if somebody else changes it meanwhile, and returns what
    /// it is now.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn update(
        &self,
        key: &str,
        mut next: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, KeyError> {
        let mut swap = self.compare_and_swap(key)?;
        loop {
            let value = next(swap.current()?);
            swap = match swap.swap(&value)? {
                Swapped::Done => return Ok(value),
                Swapped::Changed(again) => again,
            };
        }
    }

    /// Begins a compare-and-swap: it does its work only if nobody changes the key after this, or after the last
    /// [`CompareAndSwap::current`].
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn compare_and_swap(&self, key: &str) -> Result<CompareAndSwap, KeyError> {
        host::new_cas(&self.0, key).map(CompareAndSwap)
    }

    /// The values of several keys, in their order and as of one moment.
    ///
    /// # Errors
    /// They have more than 4 MiB together.
    pub fn get_many(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Vec<Option<Vec<u8>>>, KeyError> {
        let keys: Vec<_> = keys.into_iter().map(Into::into).collect();
        host::get_keys(&self.0, &keys)
    }

    /// Gives several keys values: all of them or none.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn set_many(
        &self,
        entries: impl IntoIterator<Item = (impl Into<String>, impl Into<Vec<u8>>)>,
    ) -> Result<(), KeyError> {
        let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        host::set_keys(&self.0, &entries)
    }

    /// Takes the values of several keys away, all at once.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn delete_many(&self, keys: impl IntoIterator<Item = impl Into<String>>) -> Result<(), KeyError> {
        let keys: Vec<_> = keys.into_iter().map(Into::into).collect();
        host::delete_keys(&self.0, &keys)
    }

    /// The keys, in the order of their bytes. They are fetched page by page: what others change meanwhile may be in it or not.
    #[must_use]
    pub fn keys(&self) -> Keys<'_> {
        Keys { bucket: self, page: Vec::new().into_iter(), next: Next::From(None) }
    }

    /// The keys behind this one, which need not be there.
    #[must_use]
    pub fn keys_after(&self, key: impl Into<String>) -> Keys<'_> {
        Keys { next: Next::From(Some(key.into())), ..self.keys() }
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

/// The keys of a bucket: see [`Bucket::keys`]. After an error there is nothing more.
pub struct Keys<'a> {
    bucket: &'a Bucket,
    page: std::vec::IntoIter<String>,
    next: Next,
}

enum Next {
    From(Option<String>),
    End,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, KeyError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            let Next::From(cursor) = std::mem::replace(&mut self.next, Next::End) else { return None };
            match host::list_keys(&self.bucket.0, cursor.as_deref()) {
                Ok((keys, cursor)) => {
                    self.page = keys.into_iter();
                    self.next = cursor.map_or(Next::End, |cursor| Next::From(Some(cursor)));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// A change of a key that happens only if nobody else has changed it: see [`Bucket::compare_and_swap`].
pub struct CompareAndSwap(host::Cas);

/// What became of a [`CompareAndSwap`].
#[derive(Debug)]
pub enum Swapped {
    /// The key has the new value.
    Done,
    /// Somebody has changed the key: nothing has happened. This stands for what it is now.
    Changed(CompareAndSwap),
}

impl CompareAndSwap {
    /// The key's value now. From here on it is the one that must not change.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn current(&self) -> Result<Option<Vec<u8>>, KeyError> {
        host::cas_current(&self.0)
    }

    /// Gives the key a value, if nobody has changed it.
    ///
    /// # Errors
    /// See [`KeyError`]; that somebody has is none.
    pub fn swap(self, value: impl AsRef<[u8]>) -> Result<Swapped, KeyError> {
        let swapped = host::cas_swap(self.0, value.as_ref())?;
        Ok(swapped.map_or(Swapped::Done, |again| Swapped::Changed(Self(again))))
    }
}

impl fmt::Debug for CompareAndSwap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompareAndSwap").finish_non_exhaustive()
    }
}

/// Why a bucket does not do what was asked. Nothing has changed, unless it says so.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// The app is granted no bucket of this name: add it to `keys` in `[app.grants]`.
    NoSuchBucket,
    /// The grant was taken back since the bucket was opened.
    TakenBack,
    /// A limit, a value that is no number, or a store that fails: in words.
    Other(String),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket => {
                write!(f, "the app is granted no bucket of this name: add it to `keys` in [app.grants]")
            }
            Self::TakenBack => write!(f, "the bucket is not granted any more"),
            Self::Other(words) => write!(f, "{words}"),
        }
    }
}

impl std::error::Error for KeyError {}
