//! Bare WebSocket servers to compare with: one thread, one epoll, nothing between the socket and the answer.
//!
//! They do what no real server can do less of: one read per readable event, parse, unmask, one write. What a
//! platform costs above them is its own doing; what they cost themselves is the kernel's.

mod child;
mod server;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::str::FromStr;

use serde::Serialize;

use crate::options::Work;
use crate::{Error, Result};

pub(crate) use child::Child;
pub use server::{Server, Stop};

const READY: &str = "tidegate yardstick listening on ";

/// What a yardstick does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sends it back.
    Echo,
    /// Sends it to every connection, the sender's too; all that came in one round of events in one write each.
    Broadcast,
    /// Nothing. For connections that are only held.
    Idle,
}

impl Kind {
    /// The yardstick to compare a load's server with.
    pub fn for_work(work: &Work) -> Kind {
        match work {
            Work::Echo { .. } | Work::Open { .. } | Work::Connect { .. } => Kind::Echo,
            Work::Broadcast { .. } => Kind::Broadcast,
            Work::Idle { .. } => Kind::Idle,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Echo => "echo",
            Kind::Broadcast => "broadcast",
            Kind::Idle => "idle",
        })
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Kind> {
        [Kind::Echo, Kind::Broadcast, Kind::Idle]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| Error::option("kind", format!("{text:?} is none of echo, broadcast, idle")))
    }
}

/// The whole life of a yardstick process: listens on `addr` (port 0 for a free one), says on standard output where,
/// and serves until standard input ends, so that it never outlives its parent.
///
/// # Errors
/// [`Error::Io`] when the address cannot be had or epoll fails.
pub fn serve(kind: Kind, addr: SocketAddr) -> Result<()> {
    crate::limits::raise_open_files();
    let server = Server::bind(kind, addr)?;
    let stop = server.stop_handle();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{READY}{}", server.addr())
        .and_then(|()| stdout.flush())
        .map_err(Error::io("saying where the yardstick listens"))?;
    drop(stdout);
    std::thread::Builder::new()
        .name("yardstick-parent".to_owned())
        .spawn(move || {
            // Nothing is ever written there: whatever this returns, the parent is done.
            let _ = io::stdin().lock().read(&mut [0]);
            stop.stop();
        })
        .map_err(Error::io("starting a thread that watches standard input"))?;
    server.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in [Kind::Echo, Kind::Broadcast, Kind::Idle] {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        assert!("chat".parse::<Kind>().unwrap_err().to_string().contains("chat"));
    }
}
