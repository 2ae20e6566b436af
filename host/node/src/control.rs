//! A node's own control channel: a Unix socket in its data folder, for the command line on the same machine. One line of
//! JSON asks, one line of JSON answers. Who may open the socket is the folder's owner.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream as Connection};
use tokio::sync::Semaphore;

use crate::status::{NodeEntry, Status};

/// The socket's name in the data folder.
pub const SOCKET: &str = "control.sock";

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Who is in the cluster, as far as this node knows?
    Nodes,
    /// How does this node do?
    Status,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// To [`Request::Nodes`].
    Nodes(Vec<NodeEntry>),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// The question was not understood.
    Error(String),
}

/// Why a node does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No node has the folder.
    #[error(
        "no node runs with the data folder {}: start one with `tidegate up`, or name the settings file of the one that \
         runs with -c", path.display()
    )]
    NotRunning {
        /// The data folder.
        path: PathBuf,
    },
    /// The connection failed.
    #[error("cannot talk to the node at {}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The node understood the question otherwise, or not at all.
    #[error("the node did not answer the question ({reason}): is it of another version?")]
    Answer {
        /// What it said.
        reason: String,
    },
}

/// Asks the node that runs with this data folder. Blocks, at most ten seconds for each step.
///
/// # Errors
/// No node runs there, or it does not answer.
pub fn ask(data_dir: &Path, request: Request) -> Result<Response, AskError> {
    let path = data_dir.join(SOCKET);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning { path: data_dir.to_owned() }
        }
        _ => AskError::Io { path: path.clone(), error },
    };
    let short = ShortPath::of(data_dir).map_err(failed)?;
    let mut stream = UnixStream::connect(&short.path).map_err(failed)?;
    let mut line = String::new();
    let talk = || {
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        let mut question = serde_json::to_vec(&request)?;
        question.push(b'\n');
        stream.write_all(&question)?;
        BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)
    };
    talk().map_err(failed)?;
    match serde_json::from_str(&line) {
        Ok(Response::Error(reason)) => Err(AskError::Answer { reason }),
        Ok(response) => Ok(response),
        Err(error) => Err(AskError::Answer { reason: error.to_string() }),
    }
}

/// The socket, bound.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds it in a folder that this process holds; what a killed process left behind is replaced. Within a runtime.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&ShortPath::of(data_dir)?.path)?;
        // The folder is private, so nobody else got in before this.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers for ever.
    pub async fn serve(self, answer: impl Fn(Request) -> Response + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((connection, _)) => {
                    let answer = Arc::clone(&answer);
                    tokio::spawn(async move {
                        if let Err(error) = converse(connection, &*answer).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket does not accept");
                    // Out of descriptors, most likely: it passes.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(mut connection: Connection, answer: &impl Fn(Request) -> Response) -> io::Result<()> {
    let (read, mut write) = connection.split();
    let mut read = tokio::io::BufReader::new(read);
    loop {
        let mut line = String::new();
        let mut limited = (&mut read).take(QUESTION_BYTES_MAX);
        let length = tokio::time::timeout(QUESTION_WAIT, limited.read_line(&mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let response = match serde_json::from_str(&line) {
            Ok(request) => answer(request),
            Err(error) => Response::Error(format!(
                "{error}; ask {{\"request\":\"nodes\"}} or {{\"request\":\"status\"}}"
            )),
        };
        let mut bytes = serde_json::to_vec(&response)?;
        bytes.push(b'\n');
        tokio::time::timeout(QUESTION_WAIT, write.write_all(&bytes)).await??;
        if !line.ends_with('\n') {
            // Too long, or the end: there is no telling where the next question begins.
            return Ok(());
        }
    }
}

/// A path by which a socket can be bound or found however long that of its folder is: the system takes 108 bytes.
struct ShortPath {
    path: PathBuf,
    /// What the path goes through.
    _folder: Option<File>,
}

impl ShortPath {
    fn of(folder: &Path) -> io::Result<Self> {
        let path = folder.join(SOCKET);
        if path.as_os_str().len() < SOCKET_PATH_BYTES_MAX {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET);
        Ok(Self { path, _folder: Some(folder) })
    }
}

const SOCKET_PATH_BYTES_MAX: usize = 108;
const CONNECTIONS_MAX: usize = 16;
const QUESTION_BYTES_MAX: u64 = 4096;
const QUESTION_WAIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
const ANSWER_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn answer(request: Request) -> Response {
        match request {
            Request::Nodes => Response::Nodes(Vec::new()),
            Request::Status => Response::Error("busy".into()),
        }
    }

    async fn ask_in(folder: &Path, request: Request) -> Result<Response, AskError> {
        let folder = folder.to_owned();
        tokio::task::spawn_blocking(move || ask(&folder, request)).await.unwrap()
    }

    #[tokio::test]
    async fn questions_are_answered_in_folders_with_short_and_long_names() {
        let folder = Folder::new();
        let long = folder.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        for path in [folder.path(), &long] {
            let task = tokio::spawn(ControlSocket::bind(path).unwrap().serve(answer));
            assert_eq!(std::fs::metadata(path.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(ask_in(path, Request::Nodes).await.unwrap(), Response::Nodes(Vec::new()));
            let error = ask_in(path, Request::Status).await.unwrap_err().to_string();
            assert!(error.contains("busy"), "{error}");
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            assert!(!path.join(SOCKET).exists());
            let error = ask_in(path, Request::Nodes).await.unwrap_err().to_string();
            assert!(error.contains("no node runs"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_a_killed_node_left_behind_is_replaced() {
        let folder = Folder::new();
        let left = std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        drop(left);
        assert!(matches!(ask_in(folder.path(), Request::Nodes).await, Err(AskError::NotRunning { .. })));
        let _socket = ControlSocket::bind(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_an_endless_line_is_cut() {
        let folder = Folder::new();
        tokio::spawn(ControlSocket::bind(folder.path()).unwrap().serve(answer));
        let talk = async |bytes: &[u8]| {
            let mut connection = Connection::connect(folder.path().join(SOCKET)).await.unwrap();
            connection.write_all(bytes).await.unwrap();
            let mut line = String::new();
            tokio::io::BufReader::new(connection).read_line(&mut line).await.unwrap();
            line
        };
        for bytes in [&b"hello\n"[..], b"{\"request\":\"stop\"}\n", b"\xff\xfe{}\n", &[b'x'; 4096]] {
            let line = talk(bytes).await;
            assert!(line.starts_with("{\"error\"") || line.is_empty(), "{line}");
        }
        assert_eq!(talk(b"{\"request\":\"nodes\"}\n").await, "{\"nodes\":[]}\n");
    }
}
