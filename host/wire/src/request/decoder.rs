//! Messages with their length before them, and raw bytes between them.

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Puts what comes on a lane together again, wherever it was cut.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    bytes_max: usize,
}

impl Decoder {
    /// One that takes messages of so many bytes at most.
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// Takes what came. Take out what it completes before the next: it holds all that was not taken out.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; None: it is not all there.
    ///
    /// # Errors
    /// It is too long, or none of this version. There is no telling where the next one begins.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadMessage> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > self.bytes_max {
            return Err(BadMessage::TooLong { bytes: length, max: self.bytes_max });
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let message = self.buffer.split_to(length);
        match postcard::take_from_bytes(&message) {
            Ok((message, [])) => Ok(Some(message)),
            Ok(_) | Err(_) => Err(BadMessage::Broken),
        }
    }

    /// Raw bytes that are there, so many at most.
    pub fn raw(&mut self, at_most: usize) -> Bytes {
        self.buffer.split_to(at_most.min(self.buffer.len())).freeze()
    }

    /// Whether everything was taken out.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// A message as it goes over a lane.
///
/// # Errors
/// It has more than so many bytes.
pub fn encode<T: Serialize>(message: &T, bytes_max: usize) -> Result<Bytes, BadMessage> {
    let framed = postcard::to_extend(message, vec![0; HEAD_BYTES]);
    let mut framed = framed.map_err(|_| BadMessage::Broken)?;
    let bytes = framed.len().saturating_sub(HEAD_BYTES);
    let too_long = BadMessage::TooLong { bytes, max: bytes_max };
    let length = u32::try_from(bytes).map_err(|_| too_long.clone())?;
    if bytes > bytes_max {
        return Err(too_long);
    }
    if let Some(head) = framed.first_chunk_mut::<HEAD_BYTES>() {
        *head = length.to_le_bytes();
    }
    Ok(framed.into())
}

/// A message that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// More bytes than a message may have.
    #[error("a message of {bytes} bytes, {max} are allowed")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Its bytes make no sense.
    #[error("a message is broken or of another version of the protocol: upgrade the older of the two")]
    Broken,
}

const HEAD_BYTES: usize = 4;
