use bytes::{Buf, Bytes, BytesMut};

use crate::code;
use crate::error::{Closed, LaneClosed};
use crate::lane::{LaneRx, LaneTx};
use crate::link::Link;

/// Largest control message, in bytes.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a control message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It is larger than [`CONTROL_MESSAGE_BYTES_MAX`]. Nothing was sent, the link lives on.
    #[error("a control message has at most {CONTROL_MESSAGE_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The channel takes no more messages.
    #[error("the control channel is closed: {0}")]
    Closed(#[from] Closed),
}

/// The sending half of a link's control channel. Clones share it.
#[derive(Debug, Clone)]
pub struct ControlTx {
    lane: LaneTx,
    link: Link,
    bytes_max: usize,
}

impl ControlTx {
    pub(crate) fn new(lane: LaneTx, link: Link, bytes_max: usize) -> Self {
        Self { lane, link, bytes_max }
    }

    /// Queues a message; never blocks. If more than
    /// [`LinkSettings::control_queue_bytes`](crate::LinkSettings::control_queue_bytes) would then wait for the peer, the
    /// link is closed with [`code::CONTROL_OVERFLOW`].
    ///
    /// # Errors
    /// The message is too long, or the channel is closed.
    pub fn send(&self, message: Vec<u8>) -> Result<(), ControlError> {
        let framed = encode(&message)?;
        let waiting = self.lane.queued_bytes().saturating_add(framed.len());
        if waiting > self.bytes_max {
            let reason = format!(
                "the peer reads control messages too slowly: {waiting} bytes wait, the limit is {}",
                self.bytes_max
            );
            self.link.close(code::CONTROL_OVERFLOW, &reason);
            return Err(Closed(reason.into()).into());
        }
        Ok(self.lane.send(framed)?)
    }
}

/// The receiving half of a link's control channel.
#[derive(Debug)]
pub struct ControlRx {
    lane: LaneRx,
    link: Link,
    decoder: Decoder,
}

impl ControlRx {
    pub(crate) fn new(lane: LaneRx, link: Link) -> Self {
        Self { lane, link, decoder: Decoder::default() }
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// No more messages will come. A peer that sends what is no message is cut off with [`code::CONTROL_BROKEN`].
    pub async fn recv(&mut self) -> Result<Vec<u8>, LaneClosed> {
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(bytes) => {
                    let reason = format!(
                        "a control message of {bytes} bytes was announced, the limit is {CONTROL_MESSAGE_BYTES_MAX}"
                    );
                    self.link.close(code::CONTROL_BROKEN, &reason);
                    return Err(LaneClosed::Lost(reason.into()));
                }
            }
            match self.lane.recv().await {
                Ok(bytes) => self.decoder.push(&bytes),
                Err(LaneClosed::Finished) if !self.decoder.is_empty() => {
                    return Err(LaneClosed::Lost("it ended inside a control message".into()));
                }
                Err(closed) => return Err(closed),
            }
        }
    }
}

/// Length (u32, little endian), then the message.
fn encode(message: &[u8]) -> Result<Bytes, ControlError> {
    let too_long = ControlError::TooLong(message.len());
    let length = u32::try_from(message.len()).map_err(|_| too_long.clone())?;
    if message.len() > CONTROL_MESSAGE_BYTES_MAX {
        return Err(too_long);
    }
    let mut framed = Vec::with_capacity(HEAD_BYTES + message.len());
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(message);
    Ok(framed.into())
}

#[derive(Debug, Default)]
struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// A whole message, none if it is not all there, or the length of one that is too long.
    fn next(&mut self) -> Result<Option<Vec<u8>>, usize> {
        let Some(head) = self.buffer.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > CONTROL_MESSAGE_BYTES_MAX {
            return Err(length);
        }
        if self.buffer.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let message = self.buffer.split_to(length).to_vec();
        if self.buffer.is_empty() {
            // A large message must not keep its memory.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

const HEAD_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_any_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            cuts in prop::collection::vec(1_usize..30, 1..10),
        ) {
            let whole: Vec<u8> = messages.iter().flat_map(|m| encode(m).unwrap()).collect();
            let (mut decoder, mut got, mut rest) = (Decoder::default(), Vec::new(), &whole[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                decoder.push(head);
                rest = tail;
                while let Some(message) = decoder.next().unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert!(decoder.is_empty());
        }
    }

    #[test]
    fn messages_have_a_limit_in_both_directions() {
        assert!(encode(&vec![0; CONTROL_MESSAGE_BYTES_MAX]).is_ok());
        let too_long = CONTROL_MESSAGE_BYTES_MAX + 1;
        assert_eq!(encode(&vec![0; too_long]), Err(ControlError::TooLong(too_long)));
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert_eq!(decoder.next(), Err(u32::MAX as usize));
    }
}
