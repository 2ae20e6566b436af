//! What a build tells while it runs.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::Built;

/// Something that happened during a build.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step of setting up the toolchain, such as `downloading packages`.
    Toolchain(&'a str),
    /// Another process is at it and this one waits.
    Waiting(&'a str),
    /// Cargo compiles a crate.
    Compiling {
        /// Its name and version, such as `serde v1.0.229`.
        package: &'a str,
    },
    /// Another status line of cargo: verb and object, such as `Downloading crates ...`.
    Cargo(&'a str),
    /// A line of a warning or an error, as rustc rendered it.
    Diagnostic(&'a str),
    /// The component is being checked against the contract.
    Checking,
    /// The build is over.
    Done(&'a Built),
}

/// Takes the events of a build. Called on the thread that builds.
pub trait Progress {
    /// Take an event.
    fn event(&mut self, event: Event<'_>);

    /// Whether diagnostics should have terminal colours.
    fn wants_colour(&self) -> bool {
        false
    }
}

/// Takes no notice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&mut self, _event: Event<'_>) {}
}

/// Prints for a person, in cargo's manner. A failed write is ignored: it must not fail a build.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    colour: bool,
}

impl Terminal<std::io::Stderr> {
    /// To standard error; in colour if that is a terminal and `NO_COLOR` is not set.
    pub fn stderr() -> Self {
        let out = std::io::stderr();
        let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, colour }
    }
}

impl<W: Write> Terminal<W> {
    /// To a writer of your own.
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour }
    }

    fn status(&mut self, verb: &str, rest: &str) {
        let _ = if self.colour {
            writeln!(self.out, "\x1b[1;32m{verb:>12}\x1b[0m {rest}")
        } else {
            writeln!(self.out, "{verb:>12} {rest}")
        };
    }
}

impl<W: Write> Progress for Terminal<W> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Toolchain(step) => self.status("Setting up", step),
            Event::Waiting(reason) => self.status("Waiting", reason),
            Event::Compiling { package } => self.status("Compiling", package),
            Event::Cargo(line) => {
                let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
                self.status(verb, rest);
            }
            Event::Diagnostic(line) => {
                let _ = writeln!(self.out, "{line}");
            }
            Event::Checking => self.status("Checking", "the component against the plugin contract"),
            Event::Done(built) => {
                let how = if built.cached { "Unchanged" } else { "Built" };
                let size = built.size.div_ceil(1024);
                let line = format!("{} ({size} KiB) in {}", built.wasm.display(), seconds(built.took));
                self.status(how, &line);
            }
        }
    }

    fn wants_colour(&self) -> bool {
        self.colour
    }
}

fn seconds(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_aligns_verbs_as_cargo_does() {
        let mut terminal = Terminal::new(Vec::new(), false);
        terminal.event(Event::Compiling { package: "serde v1.0.0" });
        terminal.event(Event::Cargo("Locking 3 packages"));
        terminal.event(Event::Diagnostic("error: no"));
        let text = String::from_utf8(terminal.out).unwrap();
        assert_eq!(text, "   Compiling serde v1.0.0\n     Locking 3 packages\nerror: no\n");
    }

    #[test]
    fn short_and_long_times_have_fitting_units() {
        assert_eq!(seconds(Duration::from_millis(42)), "42 ms");
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
    }
}
