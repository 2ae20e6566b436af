//! An answer of lines that come one by one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::http::unreachable;

/// Lines of one connection.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    _permit: OwnedSemaphorePermit,
    until: Instant,
    come: BytesMut,
    /// So much of what has come has no end of a line.
    searched: usize,
}

impl Lines {
    pub fn new(body: Incoming, permit: OwnedSemaphorePermit, until: Instant) -> Self {
        Self { body, _permit: permit, until, come: BytesMut::new(), searched: 0 }
    }

    /// The next line with its end. Its caller knows which one is the last. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Bytes, Error> {
        loop {
            let new = self.come.get(self.searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                let line = self.come.split_to(self.searched + at + 1);
                self.searched = 0;
                return Ok(line.freeze());
            }
            self.searched = self.come.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(lost("a line is too long"));
            }
            let until = self.until.min(Instant::now() + SILENCE_MAX);
            match timeout_at(until, self.body.frame()).await {
                Err(_) => return Err(lost("nothing came any more, or the time was up")),
                Ok(None) => return Err(lost("it ended before the last line")),
                Ok(Some(Err(error))) => return Err(lost(&error.to_string())),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.come.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn lost(why: &str) -> Error {
    unreachable(true, &format!("the deployment goes on unheard, for the connection was lost: {why}"))
}

/// The server says something every five seconds: a silence that long is a connection that is lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The longest line that is read: a report tells of every slot.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
