//! How a deployment gets on: one line on a terminal that changes, lines that stay elsewhere.

use std::io::{self, IsTerminal, Write};

use tidegate_wire::report::Progress;

/// Tells news to a person.
#[derive(Debug)]
pub(crate) struct News<W> {
    out: W,
    style: Style,
    /// A line stands there that the next one replaces.
    open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Silent,
    Lines,
    /// One line that changes.
    Changing,
}

impl News<io::Stderr> {
    /// To standard error, or nowhere.
    pub fn stderr(silent: bool) -> Self {
        let out = io::stderr();
        let style = match (silent, out.is_terminal()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Changing,
            (false, false) => Style::Lines,
        };
        Self { out, style, open: false }
    }
}

impl<W: Write> News<W> {
    /// Tells one of them. Who closed our standard error does not want them.
    pub fn tell(&mut self, progress: &Progress) {
        let text = progress.to_string();
        // Why it goes back was told when it failed, with its trace.
        let text = match progress {
            Progress::GoingBack { .. } => text.lines().next().unwrap_or_default(),
            _ => text.trim_end(),
        };
        let lasting = matches!(
            progress,
            Progress::Failed { .. } | Progress::GoingBack { .. } | Progress::NotStored { .. }
        );
        let _ = match self.style {
            Style::Silent => return,
            Style::Lines => writeln!(self.out, "{text}"),
            Style::Changing if lasting => {
                self.open = false;
                writeln!(self.out, "{CLEAR}{text}")
            }
            Style::Changing => {
                self.open = true;
                let cut: String = text.lines().next().unwrap_or_default().chars().take(WIDTH).collect();
                write!(self.out, "{CLEAR}{cut}")
            }
        };
        let _ = self.out.flush();
    }

    /// Nothing comes any more: the line makes room for what comes instead.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(self.out, "{CLEAR}");
            let _ = self.out.flush();
        }
    }
}

/// Back to the beginning of the line, and nothing is left of it.
const CLEAR: &str = "\r\x1b[K";

/// A line that fits into the narrowest usual terminal: one that wraps could not be replaced.
const WIDTH: usize = 79;

#[cfg(test)]
mod tests {
    use tidegate_base::NodeName;
    use tidegate_wire::control::{Failure, Stage, Step};

    use super::*;

    fn told(style: Style) -> String {
        let mut news = News { out: Vec::new(), style, open: false };
        let worker = NodeName::new(&"w".repeat(63)).unwrap();
        let step =
            |switched| Progress::Worker { worker: worker.clone(), step: Step::Switching, switched, slots: 4 };
        news.tell(&step(1));
        let failure = Failure::new(Some(0), Stage::Restore, "no\n 0: restore\n".into());
        news.tell(&Progress::Failed { worker: NodeName::new("w2").unwrap(), failure });
        news.tell(&step(0));
        news.end();
        news.end();
        String::from_utf8(news.out).unwrap()
    }

    #[test]
    fn a_terminal_has_one_line_that_changes_and_keeps_what_went_wrong() {
        let cut = format!("{}: switching, 1 o", "w".repeat(63));
        assert_eq!(cut.len(), WIDTH);
        let again = cut.replace('1', "0");
        let failed = "w2: slot 0, restore in the new version: no\n 0: restore";
        assert_eq!(told(Style::Changing), format!("{CLEAR}{cut}{CLEAR}{failed}\n{CLEAR}{again}{CLEAR}"));
    }

    #[test]
    fn elsewhere_every_line_stays_and_silence_is_silent() {
        let text = told(Style::Lines);
        assert!(text.lines().count() == 4 && !text.contains('\x1b'), "{text}");
        assert_eq!(told(Style::Silent), "");
    }
}
