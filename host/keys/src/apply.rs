//! What a change does to the file, within the transaction that it shares with others. It is checked whole before anything of
//! it is written, so that a refusal leaves nothing behind.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_base::{KeyAnswer, KeyError, KeyOp, KeyValue, KeyVersion};
use tidegate_store::{Broken, KeyWriting, SpaceId};

/// What came of a change.
pub(crate) type Outcome = Result<KeyAnswer, KeyError>;

/// A key that has another value now, or none.
pub(crate) type Changed = (String, Option<KeyValue>);

/// Where a change happens.
pub(crate) struct Target<'a> {
    pub space: SpaceId,
    pub bucket: &'a str,
    /// Bytes that the space may have.
    pub bytes_max: u64,
}

/// Carries a change out. Nothing but an `Ok` outcome changes anything; what did is pushed.
pub(crate) fn apply(
    writing: &mut KeyWriting<'_>,
    target: &Target<'_>,
    op: KeyOp,
    changed: &mut Vec<Changed>,
) -> Result<Outcome, Broken> {
    let Target { space, bucket, .. } = *target;
    match op {
        KeyOp::Set(entries) => {
            if let Err(full) = admit(writing, target, &entries)? {
                return Ok(Err(full));
            }
            for (key, value) in entries {
                put(writing, target, key, value, changed)?;
            }
            Ok(Ok(KeyAnswer::Done))
        }
        KeyOp::Delete(keys) => {
            for key in keys {
                if writing.remove(space, bucket, &key)? {
                    changed.push((key, None));
                }
            }
            Ok(Ok(KeyAnswer::Done))
        }
        KeyOp::Increment { key, by } => {
            let now = match number(writing.value(space, bucket, &key)?.as_ref(), by) {
                Ok(now) => now,
                Err(refused) => return Ok(Err(refused)),
            };
            let answer = KeyAnswer::Number(now);
            set_one(writing, target, key, now.to_string().into_bytes(), changed)
                .map(|set| set.map(|()| answer))
        }
        KeyOp::Swap { key, expected, value } => {
            let found = writing.value(space, bucket, &key)?;
            let version = found.map_or(KeyVersion::ABSENT, |found| found.version);
            if version != expected {
                return Ok(Ok(KeyAnswer::Swapped(Err(version))));
            }
            set_one(writing, target, key, value, changed).map(|set| set.map(|()| KeyAnswer::Swapped(Ok(()))))
        }
        // Readers answer these.
        KeyOp::Get(_) | KeyOp::Version(_) | KeyOp::List { .. } => Ok(Ok(KeyAnswer::Done)),
    }
}

fn set_one(
    writing: &mut KeyWriting<'_>,
    target: &Target<'_>,
    key: String,
    value: Vec<u8>,
    changed: &mut Vec<Changed>,
) -> Result<Result<(), KeyError>, Broken> {
    let entry = [(key, value)];
    if let Err(full) = admit(writing, target, &entry)? {
        return Ok(Err(full));
    }
    for (key, value) in entry {
        put(writing, target, key, value, changed)?;
    }
    Ok(Ok(()))
}

fn put(
    writing: &mut KeyWriting<'_>,
    target: &Target<'_>,
    key: String,
    value: Vec<u8>,
    changed: &mut Vec<Changed>,
) -> Result<(), Broken> {
    let version = writing.put(target.space, target.bucket, &key, &value)?;
    changed.push((key, Some(KeyValue { version, bytes: Arc::from(value) })));
    Ok(())
}

/// Whether there is room for these values. What makes the app's keys no larger than they are always has.
fn admit(
    writing: &mut KeyWriting<'_>,
    target: &Target<'_>,
    entries: &[(String, Vec<u8>)],
) -> Result<Result<(), KeyError>, Broken> {
    // The last value of a key counts.
    let last: HashMap<&str, usize> = entries.iter().map(|(key, value)| (key.as_str(), value.len())).collect();
    let (mut before, mut after) = (0, 0);
    for (key, value) in last {
        before += writing.bytes(target.space, target.bucket, key)?.unwrap_or(0);
        after += (key.len() + value) as u64;
    }
    let bytes = writing.usage(target.space)?.bytes.saturating_sub(before).saturating_add(after);
    let is_full = after > before && bytes > target.bytes_max;
    Ok(if is_full { Err(KeyError::Full { bytes, max: target.bytes_max }) } else { Ok(()) })
}

fn number(value: Option<&KeyValue>, by: i64) -> Result<i64, KeyError> {
    let Some(value) = value else { return Ok(by) };
    let text = str::from_utf8(&value.bytes).map_err(|_| KeyError::NoNumber)?;
    let number: i64 = text.parse().map_err(|_| KeyError::NoNumber)?;
    number.checked_add(by).ok_or(KeyError::Overflow)
}
