//! Runs a program and hands out its lines while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// A longer line is handed out in pieces. Cargo's messages are the longest, with some 100 KiB.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// How many lines may wait for the reader; a full queue holds the program back.
const LINES_MAX: usize = 256;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// How a run ended badly.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It could not be started, or its end not be read.
    Io(std::io::Error),
    /// It took longer than the limit and was killed.
    TimedOut(Duration),
}

impl From<std::io::Error> for RunError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Run a command without input, hand each line (without its end, invalid UTF-8 replaced) to `on_line`, and wait for its
/// end, at most `limit`.
pub(crate) fn run(
    mut command: Command,
    limit: Duration,
    mut on_line: impl FnMut(Stream, &str),
) -> Result<ExitStatus, RunError> {
    let deadline = Instant::now() + limit;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lines = read_lines(&mut child)?;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((stream, line)) => on_line(stream, &line),
            Err(RecvTimeoutError::Disconnected) => return Ok(child.wait()?),
            Err(RecvTimeoutError::Timeout) => {
                // The threads that read end by themselves when the last holder of the pipes is gone.
                child.kill()?;
                child.wait()?;
                return Err(RunError::TimedOut(limit));
            }
        }
    }
}

/// The whole standard output of a command that is short and quick; `None` if it fails in any way.
pub(crate) fn output(command: Command, limit: Duration) -> Option<String> {
    let mut text = String::new();
    let status = run(command, limit, |stream, line| {
        if stream == Stream::Out {
            text.push_str(line);
            text.push('\n');
        }
    });
    status.ok().filter(ExitStatus::success).map(|_| text)
}

/// The last lines of a program's output, for an error message.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    lines: std::collections::VecDeque<String>,
}

impl Tail {
    const LINES: usize = 20;

    pub(crate) fn push(&mut self, line: &str) {
        if self.lines.len() == Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.chars().take(500).collect());
    }

    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

fn read_lines(child: &mut Child) -> std::io::Result<Receiver<(Stream, String)>> {
    let (sender, lines) = sync_channel(LINES_MAX);
    if let Some(out) = child.stdout.take() {
        spawn_reader(out, Stream::Out, sender.clone())?;
    }
    if let Some(err) = child.stderr.take() {
        spawn_reader(err, Stream::Err, sender)?;
    }
    Ok(lines)
}

fn spawn_reader(
    pipe: impl Read + Send + 'static,
    stream: Stream,
    sender: SyncSender<(Stream, String)>,
) -> std::io::Result<()> {
    let read = move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        // Ends at the end of the pipe, at an error, and when nobody listens any more.
        while let Ok(1..) = pipe.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line);
            if sender.send((stream, text.trim_end_matches(['\n', '\r']).to_owned())).is_err() {
                return;
            }
            line.clear();
        }
    };
    std::thread::Builder::new().name("read output".to_owned()).spawn(read).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_of_both_streams_arrive_and_the_status_too() {
        let mut seen = Vec::new();
        let status = run(shell("echo one; echo two >&2; exit 3"), Duration::from_secs(60), |stream, line| {
            seen.push((stream, line.to_owned()));
        });
        assert_eq!(status.unwrap().code(), Some(3));
        assert!(seen.contains(&(Stream::Out, "one".to_owned())));
        assert!(seen.contains(&(Stream::Err, "two".to_owned())));
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let result = run(shell("exec sleep 600"), Duration::from_millis(50), |_, _| {});
        assert!(matches!(result, Err(RunError::TimedOut(_))));
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let result = run(Command::new("/no/such/program"), Duration::from_secs(60), |_, _| {});
        assert!(matches!(result, Err(RunError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound));
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        (0..100).for_each(|number| tail.push(&number.to_string()));
        assert!(tail.text().starts_with("80\n") && tail.text().ends_with("\n99"));
    }
}
