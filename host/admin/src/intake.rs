//! How bodies are read.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::{BodyExt, Limited};

/// Most of a body that is refused which is read all the same.
const DISCARD_BYTES_MAX: u64 = 64 << 20;

/// A body of at most `max` bytes. None: it has more, or was cut.
pub(crate) async fn whole(mut body: Body, max: usize) -> Option<Bytes> {
    match Limited::new(&mut body, max).collect().await {
        Ok(taken) => Some(taken.to_bytes()),
        Err(_) => {
            discard(&mut body).await;
            None
        }
    }
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

/// Reads what still comes of a body that is refused.
///
/// Whoever closes a connection before it read all that came resets it, and the reset overtakes the answer: a client that is
/// still writing would see an error of its connection, and never why.
pub(crate) async fn discard(body: &mut Body) {
    let mut left = DISCARD_BYTES_MAX;
    while let Some(Ok(part)) = part(body).await {
        match left.checked_sub(part.len() as u64) {
            Some(less) => left = less,
            None => return,
        }
    }
}
