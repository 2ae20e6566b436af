//! What workers remember of the logs of apps, and how somebody who follows them says where he is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, NodeName};

use super::Missing;

/// Lines of one worker that are told at a time, at most.
pub const LOG_LINES_MAX: u32 = 1000;

/// Workers whose place somebody who follows keeps in mind.
pub const CURSORS_MAX: usize = 500;

/// Which lines are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFilter {
    /// Of this app.
    pub app: AppName,
    /// As loud as this, or louder.
    pub level: Level,
    /// So many of each worker at most; more than [`LOG_LINES_MAX`] means that.
    pub limit: u32,
    /// Those behind these places, the oldest first, and all of workers that are not named. Empty: the newest.
    pub after: Cursors,
}

/// How loud a line is, the loudest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Data was lost or somebody must act.
    Error,
    /// Something is wrong but handled.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level with its name.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("trace", Self::Trace),
        ("debug", Self::Debug),
        ("info", Self::Info),
        ("warn", Self::Warn),
        ("error", Self::Error),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, level)| *level).ok_or(UnknownLevel)
    }
}

/// Not the name of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use trace, debug, info, warn or error")]
pub struct UnknownLevel;

/// A line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number on its worker: those of an app are counted there.
    pub number: u64,
    /// When: milliseconds since the Unix epoch, by the worker's clock.
    pub at_ms: u64,
    /// How loud it is.
    pub level: Level,
    /// Whether the plugin wrote it; else it is the worker's, about the app.
    pub by_plugin: bool,
    /// The version that ran.
    pub version: u32,
    /// The slot.
    pub slot: u32,
    /// The line.
    pub text: String,
}

/// Lines of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogPage {
    /// Stands for the time since which the app is on this worker: numbers of another one say nothing here.
    pub life: u64,
    /// The number of the next line to ask for.
    pub next: u64,
    /// Lines behind the place that was named which are not there any more.
    pub missed: u64,
    /// Those that are meant.
    pub lines: Vec<LogLine>,
}

/// How far somebody has read, worker by worker. As a text for those who only carry it: `worker-1:77:5,worker-2:78:0`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursors(BTreeMap<NodeName, Cursor>);

/// A place in one worker's lines of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// That of the [`LogPage`].
    pub life: u64,
    /// The number of the next line to ask for.
    pub next: u64,
}

impl Cursors {
    /// Whether no worker is named: who asks has read nothing yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place at one worker.
    pub fn of(&self, worker: &NodeName) -> Option<Cursor> {
        self.0.get(worker).copied()
    }

    fn set(&mut self, worker: NodeName, cursor: Cursor) {
        self.0.insert(worker, cursor);
    }
}

impl fmt::Display for Cursors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (worker, Cursor { life, next })) in self.0.iter().enumerate() {
            write!(f, "{}{worker}:{life}:{next}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Cursors {
    type Err = BadCursors;

    fn from_str(text: &str) -> Result<Self, BadCursors> {
        let mut all = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let mut fields = part.split(':');
            let mut field = || fields.next().ok_or(BadCursors);
            let worker = NodeName::new(field()?).map_err(|_| BadCursors)?;
            let life = field()?.parse().map_err(|_| BadCursors)?;
            let next = field()?.parse().map_err(|_| BadCursors)?;
            if fields.next().is_some() || all.0.len() >= CURSORS_MAX {
                return Err(BadCursors);
            }
            all.set(worker, Cursor { life, next });
        }
        Ok(all)
    }
}

/// A text that names no places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not say how far somebody has read: take what the last answer calls `next`")]
pub struct BadCursors;

/// Lines of all workers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Logs {
    /// The lines, by time.
    pub lines: Vec<WorkerLine>,
    /// How many behind the places that were named are not there any more.
    pub missed: u64,
    /// How far these go.
    pub next: Cursors,
    /// How many workers have the app.
    pub workers: usize,
    /// Workers that said nothing.
    pub missing: Vec<Missing>,
}

/// A line and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLine {
    /// The worker.
    pub worker: NodeName,
    /// The line.
    #[serde(flatten)]
    pub line: LogLine,
}

impl Logs {
    /// Begins to put together what workers say to a question.
    pub fn of(filter: &LogFilter) -> Self {
        Self { next: filter.after.clone(), ..Self::default() }
    }

    /// What one more worker said.
    pub fn add(&mut self, worker: NodeName, page: LogPage) {
        let LogPage { life, next, missed, lines } = page;
        self.workers += 1;
        self.missed += missed;
        self.lines.extend(lines.into_iter().map(|line| WorkerLine { worker: worker.clone(), line }));
        // The place of one too many is not kept: it is read from its beginning again.
        if self.next.0.len() < CURSORS_MAX || self.next.of(&worker).is_some() {
            self.next.set(worker, Cursor { life, next });
        }
    }

    /// All have said what they had. The lines are by time now; of the newest there are as many as were asked for.
    pub fn end(&mut self, filter: &LogFilter) {
        self.lines.sort_by(|a, b| {
            (a.line.at_ms, &a.worker, a.line.number).cmp(&(b.line.at_ms, &b.worker, b.line.number))
        });
        if filter.after.is_empty() {
            let more = self.lines.len().saturating_sub(filter.limit.min(LOG_LINES_MAX) as usize);
            self.lines.drain(..more);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn line(number: u64, at_ms: u64) -> LogLine {
        let text = format!("line {number}");
        LogLine { number, at_ms, level: Level::Info, by_plugin: true, version: 1, slot: 0, text }
    }

    fn filter(limit: u32, after: Cursors) -> LogFilter {
        LogFilter { app: AppName::new("chat").unwrap(), level: Level::Trace, limit, after }
    }

    #[test]
    fn lines_of_all_workers_are_by_time_and_the_newest_are_cut_to_what_was_asked_for() {
        let page = |next, lines| LogPage { life: 7, next, missed: 2, lines };
        let gather = |filter: &LogFilter| {
            let mut all = Logs::of(filter);
            all.add(name("b"), page(2, vec![line(0, 10), line(1, 30)]));
            all.add(name("a"), page(5, vec![line(3, 20), line(4, 30)]));
            all.end(filter);
            all
        };
        let newest = gather(&filter(3, Cursors::default()));
        let read = |logs: &Logs| {
            logs.lines.iter().map(|it| format!("{} {}", it.worker, it.line.number)).collect::<Vec<_>>()
        };
        assert_eq!(read(&newest), ["a 3", "a 4", "b 1"]);
        assert_eq!((newest.next.to_string().as_str(), newest.missed, newest.workers), ("a:7:5,b:7:2", 4, 2));
        let after = "a:7:3,b:7:0,c:1:1".parse().unwrap();
        let behind = gather(&filter(3, after));
        assert_eq!(read(&behind), ["b 0", "a 3", "a 4", "b 1"], "none of those behind a place is left out");
        assert_eq!(
            behind.next.to_string(),
            "a:7:5,b:7:2,c:1:1",
            "who said nothing is asked for the same again"
        );
    }

    #[test]
    fn a_text_that_names_no_places_is_none() {
        for bad in ["x", "a:1", "a:1:2:3", "a:x:2", "A:1:2", "a:-1:2", "a:1:2;b:1:2"] {
            assert_eq!(bad.parse::<Cursors>(), Err(BadCursors), "{bad}");
        }
        let many: Vec<_> = (0..=CURSORS_MAX).map(|n| format!("w{n}:1:1")).collect();
        assert_eq!(many.join(",").parse::<Cursors>(), Err(BadCursors));
        assert!("".parse::<Cursors>().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn places_survive_as_a_text(
            places in prop::collection::btree_map("[a-z][a-z0-9-]{0,10}", (any::<u64>(), any::<u64>()), 0..20),
        ) {
            let mut all = Cursors::default();
            for (worker, (life, next)) in places {
                if let Ok(worker) = NodeName::new(&worker) {
                    all.set(worker, Cursor { life, next });
                }
            }
            prop_assert_eq!(all.to_string().parse(), Ok(all));
        }
    }
}
