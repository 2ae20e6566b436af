//! How bodies are read.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt, Limited};
use tokio::time::{Instant, timeout_at};

/// Most of a body that is refused which is read all the same.
const DISCARD_BYTES_MAX: u64 = 64 << 20;

/// A body of at most `max` bytes. None: it has more, or was cut.
pub(crate) async fn whole(body: &mut Body, max: usize) -> Option<Bytes> {
    let taken = Limited::new(body, max).collect().await;
    taken.ok().map(|taken| taken.to_bytes())
}

/// What comes next of a body. None: that was all.
pub(crate) async fn part(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
            // Trailers are nothing to us.
            Ok(frame) => match frame.into_data() {
                Ok(part) => return Some(Ok(part)),
                Err(_) => continue,
            },
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Reads what still comes of a body that is refused, until then at the latest.
///
/// Whoever closes a connection before it read all that came resets it, and the reset overtakes the answer: a client that is
/// still writing would see an error of its connection, and never why.
pub(crate) async fn discard(body: &mut Body, until: Instant) {
    let mut left = DISCARD_BYTES_MAX;
    while let Ok(Some(Ok(part))) = timeout_at(until, part(body)).await {
        match left.checked_sub(part.len() as u64) {
            Some(less) => left = less,
            None => return,
        }
    }
}
