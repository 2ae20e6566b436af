//! One request on one lane, from either end: messages, and a module's bytes between them. Every wait is bounded.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_link::{Closed, LaneClosed, LaneRx, LaneTx};
use tidegate_wire::request::{
    BadMessage, BadModule, Decoder, Incoming, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, encode,
};
use tokio::time::timeout;

/// How long the other end may neither send nor take anything while it should.
pub const STEP_MAX: Duration = Duration::from_secs(15);

/// A request's lane.
#[derive(Debug)]
pub struct RequestLane {
    tx: LaneTx,
    rx: LaneRx,
    decoder: Decoder,
    message_bytes_max: usize,
    step: Duration,
}

/// Why a request got no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneFailure {
    /// No more comes from the other end.
    #[error(transparent)]
    Ended(#[from] LaneClosed),
    /// The other end takes no more.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The other end is silent.
    #[error("the other end neither sent nor took anything for {} s", .0.as_secs())]
    Late(Duration),
    /// A message is too long or makes no sense.
    #[error(transparent)]
    Message(#[from] BadMessage),
    /// A module is not what was announced.
    #[error(transparent)]
    Module(#[from] BadModule),
    /// The thread that checked a module panicked.
    #[error("checking the module failed in a way that it must not: {0}; please report it")]
    Panicked(String),
}

impl RequestLane {
    /// The end that asks.
    pub fn asking((tx, rx): (LaneTx, LaneRx), step: Duration) -> Self {
        let decoder = Decoder::new(REPLY_BYTES_MAX);
        Self { tx, rx, decoder, message_bytes_max: REQUEST_BYTES_MAX, step }
    }

    /// The end that answers.
    pub fn answering((tx, rx): (LaneTx, LaneRx), step: Duration) -> Self {
        let decoder = Decoder::new(REQUEST_BYTES_MAX);
        Self { tx, rx, decoder, message_bytes_max: REPLY_BYTES_MAX, step }
    }

    /// Sends a message. Never waits: for many of them, wait for [`room`](Self::room) between.
    ///
    /// # Errors
    /// It is too long, or the lane takes no more.
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), LaneFailure> {
        Ok(self.tx.send(encode(message, self.message_bytes_max)?)?)
    }

    /// As [`send`](Self::send), but the message is dropped while the other end takes nothing.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_news<T: Serialize>(&self, message: &T) -> Result<(), LaneFailure> {
        if self.tx.queued_bytes() > QUEUED_BYTES { Ok(()) } else { self.send(message) }
    }

    /// Waits until little is queued.
    ///
    /// # Errors
    /// The other end takes nothing for too long, or no more.
    pub async fn room(&self) -> Result<(), LaneFailure> {
        let below = poll_fn(|cx| self.tx.poll_below(cx, QUEUED_BYTES));
        match timeout(self.step, below).await {
            Ok(below) => Ok(below?),
            Err(_) => Err(LaneFailure::Late(self.step)),
        }
    }

    /// Sends raw bytes, without a copy, as fast as the other end takes them.
    ///
    /// # Errors
    /// Those of [`room`](Self::room).
    pub async fn send_bytes(&self, mut bytes: Bytes) -> Result<(), LaneFailure> {
        while !bytes.is_empty() {
            self.room().await?;
            self.tx.send(bytes.split_to(bytes.len().min(PIECE_BYTES)))?;
        }
        Ok(())
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// None comes in time, or what comes is none.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, LaneFailure> {
        loop {
            if let Some(message) = self.decoder.message()? {
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// The bytes of a module, checked.
    ///
    /// # Errors
    /// They do not come in time or not all, or they are not what was announced.
    pub async fn receive_module(&mut self, mut incoming: Incoming) -> Result<Bytes, LaneFailure> {
        while incoming.missing() > 0 {
            if self.decoder.is_empty()
                && let Err(failure) = self.read().await
            {
                // That bytes are missing says more than that the lane has ended.
                let ended = matches!(failure, LaneFailure::Ended(LaneClosed::Finished));
                return if ended { check(incoming).await } else { Err(failure) };
            }
            incoming.push(&self.decoder.raw(incoming.missing()));
        }
        check(incoming).await
    }

    async fn read(&mut self) -> Result<(), LaneFailure> {
        let bytes = timeout(self.step, self.rx.recv()).await.map_err(|_| LaneFailure::Late(self.step))?;
        self.decoder.push(&bytes?);
        Ok(())
    }
}

async fn check(incoming: Incoming) -> Result<Bytes, LaneFailure> {
    match tokio::task::spawn_blocking(move || incoming.finish()).await {
        Ok(checked) => Ok(checked?),
        Err(error) => Err(LaneFailure::Panicked(error.to_string())),
    }
}

/// Raw bytes go out in pieces of this size, so that a slow end is told from a dead one.
const PIECE_BYTES: usize = 256 * 1024;
/// What may wait on a lane before its sender does.
const QUEUED_BYTES: usize = 1024 * 1024;
