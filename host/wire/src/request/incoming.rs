//! A module on its way in.

use bytes::Bytes;
use tidegate_base::Digest;

/// A module on its way in: counted while it comes, checked when it is there.
#[derive(Debug)]
pub struct Incoming {
    digest: Digest,
    expected: usize,
    bytes: Vec<u8>,
}

impl Incoming {
    /// For so many bytes with this digest. What is announced takes no memory, only what has come.
    ///
    /// # Errors
    /// More than `max` are announced.
    pub fn new(digest: Digest, bytes: u64, max: u64) -> Result<Self, BadModule> {
        let too_large = BadModule::TooLarge { bytes, max };
        match usize::try_from(bytes) {
            Ok(expected) if bytes <= max => Ok(Self { digest, expected, bytes: Vec::new() }),
            _ => Err(too_large),
        }
    }

    /// Bytes that have not come.
    pub fn missing(&self) -> usize {
        self.expected.saturating_sub(self.bytes.len())
    }

    /// Takes some of the bytes; more than are missing are not taken.
    pub fn push(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(self.missing());
        self.bytes.extend_from_slice(bytes.get(..taken).unwrap_or_default());
    }

    /// The module. Takes some 3 ms for each MiB: call it where that holds nobody up.
    ///
    /// # Errors
    /// Bytes are missing, or they are not those that the digest names.
    pub fn finish(self) -> Result<Bytes, BadModule> {
        if self.missing() > 0 {
            return Err(BadModule::Truncated { got: self.bytes.len(), expected: self.expected });
        }
        let found = Digest::of(&self.bytes);
        if found != self.digest {
            return Err(BadModule::WrongDigest { found, expected: self.digest });
        }
        Ok(self.bytes.into())
    }
}

/// A module that is not what was announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadModule {
    /// It is too large.
    #[error(
        "the module has {bytes} bytes, the limit is {max}; build it with `tidegate build`, and in Cargo.toml under \
         [profile.release] set `opt-level = \"s\"`, `lto = true` and `strip = true`"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It ended too early.
    #[error("{got} of {expected} bytes came")]
    Truncated {
        /// Bytes that came.
        got: usize,
        /// Bytes that were announced.
        expected: usize,
    },
    /// Its bytes were damaged on the way, or announced wrongly.
    #[error("what came is sha256:{found}, announced was sha256:{expected}")]
    WrongDigest {
        /// The digest of what came.
        found: Digest,
        /// The digest that was announced.
        expected: Digest,
    },
}
