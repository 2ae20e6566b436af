//! What a plugin asks of its app's buckets of keys, and what it is answered. Buckets are granted by name
//! ([`Grants::keys`](crate::Grants::keys)); a key is a string, a value is bytes.

use std::sync::Arc;

use crate::limits::{
    KEY_ANSWER_BYTES_MAX, KEY_BATCH_BYTES_MAX, KEY_BATCH_MAX, KEY_BYTES_MAX, KEY_VALUE_BYTES_MAX,
};

/// A question about a bucket, or a change of it. A change happens as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOp {
    /// The values of these keys, as of one moment.
    Get(Vec<String>),
    /// The version of a key.
    Version(String),
    /// Keys in the order of their bytes: those behind this one, or from the first on.
    List {
        /// The last one that is known.
        after: Option<String>,
    },
    /// These values.
    Set(Vec<(String, Vec<u8>)>),
    /// No values for these keys. One that has none stays as it is.
    Delete(Vec<String>),
    /// Another number: the value is one in decimal digits, and a key without a value counts as 0.
    Increment {
        /// The key.
        key: String,
        /// How much more.
        by: i64,
    },
    /// This value, if the key still has this version.
    Swap {
        /// The key.
        key: String,
        /// The version.
        expected: KeyVersion,
        /// The value.
        value: Vec<u8>,
    },
}

/// What stands for a value of a key: every change of the key gives it a higher one, also if the value is the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyVersion(pub u64);

impl KeyVersion {
    /// The key has no value.
    pub const ABSENT: Self = Self(0);
}

/// A value with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// Its version.
    pub version: KeyVersion,
    /// It.
    pub bytes: Arc<[u8]>,
}

/// An answer, of the kind that the [`KeyOp`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyAnswer {
    /// Of [`KeyOp::Get`], in its order.
    Values(Vec<Option<KeyValue>>),
    /// Of [`KeyOp::Version`].
    Version(KeyVersion),
    /// Of [`KeyOp::List`].
    Keys {
        /// Some of the keys.
        keys: Vec<String>,
        /// There are more behind the last one.
        more: bool,
    },
    /// Of [`KeyOp::Set`] and [`KeyOp::Delete`]: it is durable.
    Done,
    /// Of [`KeyOp::Increment`]: the number now, durably.
    Number(i64),
    /// Of [`KeyOp::Swap`]: the value is durable, or the key has another version, this one.
    Swapped(Result<(), KeyVersion>),
}

/// What an app's buckets hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyUsage {
    /// Keys.
    pub keys: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
}

/// Why a bucket does not do what was asked. Nothing has changed, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The app has no such bucket.
    #[error("the bucket `{bucket}` is not granted: add it to `keys` in [app.grants]")]
    NoSuchBucket {
        /// Its name.
        bucket: String,
    },
    /// This moment is none to wait.
    #[error("{0}")]
    NotNow(&'static str),
    /// A rule of form is broken.
    #[error(transparent)]
    Invalid(#[from] InvalidKeyOp),
    /// The app's buckets are full.
    #[error(
        "the app's buckets would have {bytes} bytes, {max} are allowed: delete keys, or raise the app's `keys_bytes_max`"
    )]
    Full {
        /// What they would have.
        bytes: u64,
        /// What they may have.
        max: u64,
    },
    /// More is asked for than fits into an answer.
    #[error("the values have more than {KEY_ANSWER_BYTES_MAX} bytes together: ask for fewer keys at once")]
    LongAnswer,
    /// An increment of what is no number.
    #[error("the value of the key is no whole number in decimal digits, so it can't be incremented")]
    NoNumber,
    /// An increment beyond the largest number.
    #[error("the number would not fit into 64 bits")]
    Overflow,
    /// The store fails, and whether a change has happened is not known.
    #[error("the keys cannot be reached, and a change may have happened or not: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// A rule of form that a [`KeyOp`] breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeyOp {
    /// A key is empty or long.
    #[error("a key has {bytes} bytes, 1 to {KEY_BYTES_MAX} are allowed")]
    Key {
        /// How long it is.
        bytes: usize,
    },
    /// A value is long.
    #[error(
        "the value of a key has {bytes} bytes, {KEY_VALUE_BYTES_MAX} are allowed: spread it over several keys"
    )]
    Value {
        /// How long it is.
        bytes: usize,
    },
    /// Many keys at once.
    #[error("{count} keys are named at once, {KEY_BATCH_MAX} are allowed: name fewer")]
    Many {
        /// How many they are.
        count: usize,
    },
    /// Many bytes at once.
    #[error(
        "keys and values of one call have {bytes} bytes, {KEY_BATCH_BYTES_MAX} are allowed: set fewer at once"
    )]
    Large {
        /// How many they are.
        bytes: usize,
    },
}

/// Checks one key.
///
/// # Errors
/// It is empty or too long.
pub fn check_key(key: &str) -> Result<(), InvalidKeyOp> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        bytes => Err(InvalidKeyOp::Key { bytes }),
    }
}

/// Checks how long a value is.
///
/// # Errors
/// It is too long.
pub fn check_key_value(bytes: usize) -> Result<(), InvalidKeyOp> {
    if bytes <= KEY_VALUE_BYTES_MAX { Ok(()) } else { Err(InvalidKeyOp::Value { bytes }) }
}

/// Checks how many keys one call names.
///
/// # Errors
/// They are too many.
pub fn check_key_count(count: usize) -> Result<(), InvalidKeyOp> {
    if count <= KEY_BATCH_MAX { Ok(()) } else { Err(InvalidKeyOp::Many { count }) }
}

impl KeyOp {
    /// Whether it changes anything.
    pub const fn is_change(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Delete(_) | Self::Increment { .. } | Self::Swap { .. })
    }

    /// How many bytes it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Get(keys) | Self::Delete(keys) => keys.iter().map(String::len).sum(),
            Self::Version(key) | Self::Increment { key, .. } => key.len(),
            Self::List { after } => after.as_ref().map_or(0, String::len),
            Self::Set(entries) => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Self::Swap { key, value, .. } => key.len() + value.len(),
        }
    }

    /// Checks its form.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidKeyOp> {
        match self {
            Self::Get(keys) | Self::Delete(keys) => {
                check_key_count(keys.len())?;
                keys.iter().try_for_each(|key| check_key(key))
            }
            Self::Version(key) | Self::Increment { key, .. } => check_key(key),
            // Behind whatever it is.
            Self::List { after } => match after {
                Some(key) if key.len() > KEY_BYTES_MAX => Err(InvalidKeyOp::Key { bytes: key.len() }),
                _ => Ok(()),
            },
            Self::Set(entries) => {
                check_key_count(entries.len())?;
                for (key, value) in entries {
                    check_key(key)?;
                    check_key_value(value.len())?;
                }
                match self.bytes() {
                    bytes if bytes > KEY_BATCH_BYTES_MAX => Err(InvalidKeyOp::Large { bytes }),
                    _ => Ok(()),
                }
            }
            Self::Swap { key, value, .. } => {
                check_key(key)?;
                check_key_value(value.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_too_many_is_refused_and_what_just_fits_is_not() {
        let key = |bytes| "k".repeat(bytes);
        for op in [KeyOp::Version, |key| KeyOp::Increment { key, by: 1 }, |key| KeyOp::Get(vec![key])] {
            assert_eq!(op(key(KEY_BYTES_MAX)).check(), Ok(()));
            assert_eq!(op(key(0)).check(), Err(InvalidKeyOp::Key { bytes: 0 }));
            assert_eq!(op(key(513)).check(), Err(InvalidKeyOp::Key { bytes: 513 }));
        }
        let list = |after| KeyOp::List { after }.check();
        assert_eq!((list(None), list(Some(key(0))), list(Some(key(512)))), (Ok(()), Ok(()), Ok(())));
        assert!(list(Some(key(513))).is_err());
        let set = |count, bytes| KeyOp::Set(vec![("k".into(), vec![0; bytes]); count]).check();
        assert_eq!((set(3, KEY_VALUE_BYTES_MAX), set(KEY_BATCH_MAX, 0)), (Ok(()), Ok(())));
        let value = KEY_VALUE_BYTES_MAX + 1;
        assert_eq!(set(1, value), Err(InvalidKeyOp::Value { bytes: value }));
        assert_eq!(set(KEY_BATCH_MAX + 1, 0), Err(InvalidKeyOp::Many { count: KEY_BATCH_MAX + 1 }));
        assert!(matches!(set(4, KEY_VALUE_BYTES_MAX), Err(InvalidKeyOp::Large { .. })));
        let swap = KeyOp::Swap { key: key(1), expected: KeyVersion::ABSENT, value: vec![0; value] };
        assert_eq!(swap.check(), Err(InvalidKeyOp::Value { bytes: value }));
    }
}
