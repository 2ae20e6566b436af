//! What can go wrong, who is to blame, and how to mend it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Why a benchmark could not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A target address that is not `ws://host:port/path` or does not resolve.
    #[error("target {url:?}: {why}; give an address such as ws://127.0.0.1:7272/")]
    Url {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address of an HTTP API that is not `http://host:port` or does not resolve.
    #[error("target {url:?}: {why}; give an address such as http://127.0.0.1:7480")]
    HttpUrl {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A request that was not answered as it is to be.
    #[error("the server answered {status} ({why}); check the app, the token and the body")]
    Refused {
        /// The HTTP status; 0 if the answer was none.
        status: u16,
        /// What it says.
        why: String,
    },
    /// An option out of its range.
    #[error("bench option `{name}`: {why}")]
    Option {
        /// The option's name as the command line spells it.
        name: &'static str,
        /// The range it must lie in.
        why: String,
    },
    /// More connections asked for than this process may open.
    #[error(
        "{needed} open files needed, the limit is {limit}; raise it (`ulimit -n`) or use fewer connections"
    )]
    OpenFiles {
        /// Files needed, connections and some spare.
        needed: u64,
        /// The hard limit of this process.
        limit: u64,
    },
    /// A TCP connection to the target failed.
    #[error("connecting to {addr}: {source}; is the server running and listening there?")]
    Connect {
        /// The target's address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The target accepted the connection but did not become a WebSocket.
    #[error("WebSocket handshake with {addr}: {why}; is this a WebSocket port, and is the path right?")]
    Handshake {
        /// The target's address.
        addr: SocketAddr,
        /// What was missing or wrong in its answer.
        why: String,
    },
    /// Nothing moved for too long.
    #[error("{what}: nothing happened for {after:?}; is the server stuck, or too small for this load?")]
    Stalled {
        /// What was being waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The server closed the connections the load needs.
    #[error("the server closed {closed} of the connections ({reason}), the load cannot go on; see its log")]
    Closed {
        /// How many it closed.
        closed: u64,
        /// The first reason seen.
        reason: String,
    },
    /// The server does not answer as the swap load needs it.
    #[error(
        "the server answered {answer:?} instead of VERSION, a space and the message it got; deploy a plugin that does"
    )]
    Unversioned {
        /// The answer, cut at 80 characters.
        answer: String,
    },
    /// One of many apps does not answer.
    #[error(
        "app {app} did not answer ({answered} of {apps} did): {why}; does the server run what was written for so many apps, \
         and does the plugin send each text back?"
    )]
    Unanswered {
        /// The first one that did not.
        app: String,
        /// How many had answered before.
        answered: u32,
        /// How many there should be.
        apps: u32,
        /// What came instead.
        why: String,
    },
    /// A file or folder of a server to be measured cannot be read or written.
    #[error("{doing} {}: {source}; is the path right, and may you write there?", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file under `/proc` of a server process could not be read.
    #[error("reading {file} of process {pid}: {source}; is the process id right, and owned by you?")]
    Proc {
        /// The process id given.
        pid: u32,
        /// The file, for example `/proc/1/stat`.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The yardstick process could not be started.
    #[error("starting the yardstick {program:?}: {source}; check that the program exists and can be run")]
    YardstickSpawn {
        /// The program that was started.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The yardstick process ended or closed its output before it said where it listens.
    #[error("the yardstick {program:?} did not say where it listens; run it by hand with the same arguments")]
    YardstickSilent {
        /// The program that was started.
        program: PathBuf,
    },
    /// A system call failed that has no reason to.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: names what was tried when a system call failed.
    pub(crate) fn io<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
        move |source| Error::Io { what, source: source.into() }
    }

    pub(crate) fn option(name: &'static str, why: impl Into<String>) -> Error {
        Error::Option { name, why: why.into() }
    }
}
