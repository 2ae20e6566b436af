//! What a plugin prints: kept line by line until the runtime has the host at hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_base::limits::LOG_LINE_BYTES_MAX;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::LogLevel;

/// Most bytes of whole lines that wait for the host. They are handed over at each host function that takes time, at
/// each line of the plugin's own log, and at the end of the turn.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// What a plugin may write at once.
const PERMIT_BYTES: usize = 64 * 1024;

/// The stdout and stderr of one instance.
#[derive(Clone, Default)]
pub(crate) struct Stdio(Arc<Shared>);

impl Stdio {
    /// The stream that becomes log lines of this level.
    pub(crate) fn stream(&self, level: LogLevel) -> Stream {
        Stream { stdio: self.clone(), level }
    }

    /// Hands the whole lines over, and that some were lost if it is so.
    pub(crate) fn drain(&self, mut log: impl FnMut(LogLevel, &str)) {
        // Relaxed: the plugin runs on the same thread as whoever drains, or has been moved there.
        if !self.0.pending.load(Ordering::Relaxed) {
            return;
        }
        self.0.pending.store(false, Ordering::Relaxed);
        let mut buffer = self.0.buffer.lock();
        for (level, line) in std::mem::take(&mut buffer.lines) {
            log(level, &line);
        }
        buffer.bytes = 0;
        let lost = std::mem::take(&mut buffer.lost);
        if lost > 0 {
            let kib = WAITING_BYTES_MAX / 1024;
            log(
                LogLevel::Warn,
                &format!("{lost} printed lines were lost: a turn may print {kib} KiB, log::write more"),
            );
        }
    }
}

#[derive(Default)]
struct Shared {
    pending: AtomicBool,
    buffer: Mutex<Buffer>,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<(LogLevel, String)>,
    /// The unfinished lines of stdout and of stderr.
    open: [Vec<u8>; 2],
    bytes: usize,
    lost: usize,
}

impl Buffer {
    fn write(&mut self, level: LogLevel, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|c| *c == b'\n') {
            self.extend(level, &bytes[..end]);
            self.finish(level);
            bytes = &bytes[end + 1..];
        }
        self.extend(level, bytes);
    }

    // A line is cut as the log's own lines are.
    fn extend(&mut self, level: LogLevel, bytes: &[u8]) {
        let open = &mut self.open[usize::from(level == LogLevel::Warn)];
        let room = LOG_LINE_BYTES_MAX - open.len();
        open.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(&mut self, level: LogLevel) {
        let line = std::mem::take(&mut self.open[usize::from(level == LogLevel::Warn)]);
        if self.bytes + line.len() > WAITING_BYTES_MAX {
            self.lost += 1;
            return;
        }
        // An empty line costs something as well.
        self.bytes += line.len().max(16);
        self.lines.push((level, String::from_utf8_lossy(&line).into_owned()));
    }
}

/// One of the two streams. It never blocks and never fails.
#[derive(Clone)]
pub(crate) struct Stream {
    stdio: Stdio,
    level: LogLevel,
}

impl Stream {
    fn write_bytes(&self, bytes: &[u8]) {
        let mut buffer = self.stdio.0.buffer.lock();
        buffer.write(self.level, bytes);
        if !buffer.lines.is_empty() || buffer.lost > 0 {
            self.stdio.0.pending.store(true, Ordering::Relaxed);
        }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_bytes(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT_BYTES)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_bytes(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drained(stdio: &Stdio) -> Vec<(LogLevel, String)> {
        let mut lines = Vec::new();
        stdio.drain(|level, line| lines.push((level, line.to_owned())));
        lines
    }

    proptest! {
        #[test]
        fn lines_come_out_whole_however_they_were_written(
            lines in prop::collection::vec("[a-zå ]{0,20}", 0..20),
            cuts in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let stdio = Stdio::default();
            let out = stdio.stream(LogLevel::Info);
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                out.write_bytes(now);
                rest = later;
                if rest.is_empty() { break }
            }
            let expected: Vec<_> = lines.into_iter().map(|line| (LogLevel::Info, line)).collect();
            prop_assert_eq!(drained(&stdio), expected);
        }
    }

    #[test]
    fn a_flood_is_bounded_and_the_loss_is_told() {
        let stdio = Stdio::default();
        let (out, err) = (stdio.stream(LogLevel::Info), stdio.stream(LogLevel::Warn));
        err.write_bytes(b"half a line");
        for _ in 0..10_000 {
            out.write_bytes(&[b'x'; 100]);
            out.write_bytes(b"\n");
        }
        let lines = drained(&stdio);
        assert!(lines.iter().map(|(_, line)| line.len()).sum::<usize>() < 2 * WAITING_BYTES_MAX);
        assert!(lines.last().unwrap().1.contains("printed lines were lost"));
        err.write_bytes(b" and the rest\n");
        assert_eq!(drained(&stdio), [(LogLevel::Warn, "half a line and the rest".to_owned())]);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let stdio = Stdio::default();
        let out = stdio.stream(LogLevel::Info);
        for _ in 0..100 {
            out.write_bytes(&[b'y'; 1000]);
        }
        out.write_bytes(b"\n");
        assert_eq!(drained(&stdio)[0].1.len(), LOG_LINE_BYTES_MAX);
    }
}
