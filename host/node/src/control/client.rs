//! The end that asks. It blocks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tidegate_wire::report::Progress;

use super::{ANSWER_BYTES_MAX, AskError, Request, Response, SOCKET, STEP_MAX, ShortPath};

/// Asks the node that runs with this data folder. Blocks, at most ten seconds for each step.
///
/// # Errors
/// No node runs there, or it does not answer.
pub fn ask(data_dir: &Path, request: Request) -> Result<Response, AskError> {
    converse(data_dir, &request, &[], &mut |_| {})
}

/// Asks the node that runs with this data folder, with a module behind the question, and hears news before the answer.
/// Blocks until it is there, as long as the node says every few seconds that it is still at it.
///
/// # Errors
/// No node runs there, or it does not answer.
pub fn converse(
    data_dir: &Path,
    request: &Request,
    module: &[u8],
    on_news: &mut dyn FnMut(Progress),
) -> Result<Response, AskError> {
    let path = data_dir.join(SOCKET);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning { path: data_dir.to_owned() }
        }
        _ => AskError::Io { path: path.clone(), error },
    };
    let short = ShortPath::of(data_dir).map_err(failed)?;
    let stream = UnixStream::connect(&short.path).map_err(failed)?;
    send(&stream, request, module).map_err(failed)?;
    let mut lines = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return Err(AskError::Cut { path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(AskError::Cut { path });
            }
            Err(error) => return Err(failed(error)),
        }
        match serde_json::from_str(&line) {
            Ok(Response::Waiting) => {}
            Ok(Response::News(news)) => on_news(news),
            Ok(Response::Error(reason)) => return Err(AskError::Answer { reason }),
            Ok(response) => return Ok(response),
            Err(_) if !line.ends_with('\n') => return Err(AskError::Cut { path }),
            Err(error) => return Err(AskError::Answer { reason: error.to_string() }),
        }
    }
}

fn send(mut stream: &UnixStream, request: &Request, module: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(STEP_MAX))?;
    stream.set_write_timeout(Some(STEP_MAX))?;
    let mut question = serde_json::to_vec(request)?;
    question.push(b'\n');
    let sent = stream.write_all(&question).and_then(|()| stream.write_all(module));
    match sent {
        // It has answered without taking the rest, most likely: what it said is still to be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent,
    }
}
