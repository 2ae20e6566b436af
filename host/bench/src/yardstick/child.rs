//! A yardstick in a process of its own, so that its CPU can be told from the load generator's.

use std::io::{BufRead, BufReader};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Kind, READY};
use crate::options::{Target, YardstickCommand};
use crate::{Error, Result};

// Lines of other output before the address; a test program used as a yardstick prints a few.
const NOISE_LINES_MAX: usize = 64;
/// What it has to close its connections and end; then it is killed.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A running yardstick process; ends when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    target: Target,
}

impl Child {
    /// Starts `command` with `--kind kind` and waits for the address it prints.
    pub(crate) fn start(command: &YardstickCommand, kind: Kind) -> Result<Child> {
        let program = command.program.clone();
        let mut process = Command::new(&command.program)
            .args(&command.args)
            .args(["--kind", &kind.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::YardstickSpawn { program: program.clone(), source })?;
        let pid = process.id();
        let addr = process.stdout.take().and_then(|stdout| {
            let lines = BufReader::new(stdout).lines().take(NOISE_LINES_MAX);
            lines.map_while(|line| line.ok()).find_map(|line| line.strip_prefix(READY).map(str::to_owned))
        });
        let target =
            Target { url: format!("ws://{}/", addr.as_deref().unwrap_or_default()), pids: vec![pid] };
        let child = Child { process, target };
        if addr.is_none() {
            return Err(Error::YardstickSilent { program });
        }
        Ok(child)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It ends when its input does, as whoever profiles it wants. Whatever follows fails only if it is gone already.
        drop(self.process.stdin.take());
        let deadline = Instant::now() + END_WITHIN;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_silent_is_named() {
        let missing = YardstickCommand { program: "/nonexistent/yardstick".into(), args: Vec::new() };
        let error = Child::start(&missing, Kind::Echo).unwrap_err();
        assert!(matches!(error, Error::YardstickSpawn { .. }), "{error}");
        let silent = YardstickCommand { program: "true".into(), args: Vec::new() };
        let error = Child::start(&silent, Kind::Echo).unwrap_err();
        assert!(matches!(error, Error::YardstickSilent { .. }), "{error}");
    }
}
