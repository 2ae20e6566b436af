//! The last lines of an app's log on this worker. Pure: time is handed in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_wire::question::{Cursor, LOG_LINES_MAX, Level, LogFilter, LogLine, LogPage};

/// Lines that are remembered of one app.
pub(crate) const LINES_MAX: usize = 1000;
/// Bytes of them.
pub(crate) const BYTES_MAX: usize = 256 * 1024;
/// Bytes of all apps of a worker together.
pub(crate) const ROOM_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of one app, however many others have lines.
const SHARE_BYTES_MIN: usize = 8 * 1024;
/// About what a line takes besides its text.
const LINE_BYTES: usize = 96;

/// The room for the lines of all apps.
#[derive(Debug)]
pub(crate) struct LogRoom {
    bytes: usize,
    free: AtomicUsize,
    /// Apps that have written something.
    apps: AtomicUsize,
}

impl Default for LogRoom {
    fn default() -> Self {
        Self::of(ROOM_BYTES)
    }
}

impl LogRoom {
    fn of(bytes: usize) -> Self {
        Self { bytes, free: AtomicUsize::new(bytes), apps: AtomicUsize::new(0) }
    }

    /// What an app may have now: as long as a quarter is free, all that one may have; else as much as each of those that have
    /// written something, so that one which writes on leaves room to others.
    fn share(&self) -> usize {
        if self.free.load(Ordering::Relaxed) > self.bytes / 4 {
            return BYTES_MAX;
        }
        let apps = self.apps.load(Ordering::Relaxed).max(1);
        (self.bytes / apps).clamp(SHARE_BYTES_MIN, BYTES_MAX)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken =
            self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes));
        taken.is_ok()
    }

    fn give(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What is to be remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub at_ms: u64,
    pub level: Level,
    pub by_plugin: bool,
    pub version: u32,
    pub slot: u32,
    pub text: &'a str,
}

/// The last lines of one app. Without lines it has no memory of its own.
#[derive(Debug)]
pub(crate) struct LogRing {
    room: Arc<LogRoom>,
    life: u64,
    /// The number of the next line.
    next: u64,
    /// Lines in a row, the newest last: the number of the first follows from that.
    lines: VecDeque<LogLine>,
    bytes: usize,
}

impl LogRing {
    /// Without lines. Another `life` stands for another ring.
    pub fn new(room: Arc<LogRoom>, life: u64) -> Self {
        Self { room, life, next: 0, lines: VecDeque::new(), bytes: 0 }
    }

    /// Remembers a line, and forgets the oldest ones if there is no room: an app's own, never another's. One for which
    /// there is none at all is counted as one that was missed.
    pub fn push(&mut self, entry: Entry<'_>) {
        let Entry { at_ms, level, by_plugin, version, slot, text } = entry;
        let bytes = text.len() + LINE_BYTES;
        let number = self.next;
        if number == 0 {
            self.room.apps.fetch_add(1, Ordering::Relaxed);
        }
        self.next += 1;
        let bytes_max = self.room.share().max(bytes);
        while self.lines.len() >= LINES_MAX || self.bytes + bytes > bytes_max {
            if !self.forget() {
                return;
            }
        }
        while !self.room.take(bytes) {
            if !self.forget() {
                return;
            }
        }
        self.bytes += bytes;
        self.lines.push_back(LogLine {
            number,
            at_ms,
            level,
            by_plugin,
            version,
            slot,
            text: text.to_owned(),
        });
    }

    /// Forgets the oldest line. False: there is none.
    fn forget(&mut self) -> bool {
        let Some(line) = self.lines.pop_front() else {
            self.lines = VecDeque::new();
            return false;
        };
        let bytes = line.text.len() + LINE_BYTES;
        self.bytes -= bytes;
        self.room.give(bytes);
        true
    }

    /// The lines that are meant, by somebody who has read up to `place`.
    pub fn page(&self, of: &LogFilter, place: Option<Cursor>) -> LogPage {
        let limit = of.limit.min(LOG_LINES_MAX) as usize;
        let is_meant = |line: &&LogLine| line.level <= of.level;
        if of.after.is_empty() {
            let mut lines: Vec<_> = self.lines.iter().rev().filter(is_meant).take(limit).cloned().collect();
            lines.reverse();
            return LogPage { life: self.life, next: self.next, missed: 0, lines };
        }
        // Numbers of another life say nothing about this one.
        let from = place.filter(|place| place.life == self.life).map(|place| place.next.min(self.next));
        let first = self.lines.front().map_or(self.next, |line| line.number);
        let missed = from.map_or(0, |from| first.saturating_sub(from));
        let unread = self.lines.iter().filter(|line| line.number >= from.unwrap_or(first));
        let lines: Vec<_> = unread.filter(is_meant).take(limit).cloned().collect();
        // What is not meant is read as well, but not beyond what did not fit.
        let next = match lines.last() {
            Some(last) if lines.len() == limit => last.number + 1,
            _ => self.next,
        };
        LogPage { life: self.life, next, missed, lines }
    }
}

impl Drop for LogRing {
    fn drop(&mut self) {
        self.room.give(self.bytes);
        if self.next > 0 {
            self.room.apps.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_base::{AppName, NodeName};
    use tidegate_wire::question::Cursors;

    use super::*;

    fn entry(text: &str) -> Entry<'_> {
        Entry { at_ms: 5, level: Level::Info, by_plugin: true, version: 1, slot: 0, text }
    }

    fn ring(room: &Arc<LogRoom>) -> LogRing {
        LogRing::new(Arc::clone(room), 7)
    }

    fn filter(limit: u32, after: &str) -> LogFilter {
        let app = AppName::new("chat").unwrap();
        LogFilter { app, level: Level::Trace, limit, after: after.parse().unwrap() }
    }

    /// What somebody gets who says that he has read up to there.
    fn page(ring: &LogRing, limit: u32, after: &str) -> LogPage {
        let filter = filter(limit, after);
        ring.page(&filter, filter.after.of(&NodeName::new("w").unwrap()))
    }

    fn texts(page: &LogPage) -> Vec<&str> {
        page.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_newest_lines_are_told_and_then_what_comes_behind_them() {
        let mut ring = ring(&Arc::default());
        ["a", "b", "c"].iter().for_each(|text| ring.push(entry(text)));
        let first = page(&ring, 2, "");
        assert_eq!((texts(&first), first.life, first.next, first.missed), (vec!["b", "c"], 7, 3, 0));
        ["d", "e", "f"].iter().for_each(|text| ring.push(entry(text)));
        let second = page(&ring, 2, "w:7:3");
        assert_eq!((texts(&second), second.next), (vec!["d", "e"], 5), "those that fit, the oldest first");
        assert_eq!(texts(&page(&ring, 2, "w:7:5")), ["f"]);
        let none = page(&ring, 2, "w:7:6");
        assert_eq!((none.lines.len(), none.next, none.missed), (0, 6, 0));
        // Numbers of another life, of a worker that was not asked before, or of the future.
        for after in ["w:8:5", "x:7:5"] {
            assert_eq!(texts(&page(&ring, 9, after)), ["a", "b", "c", "d", "e", "f"], "{after}");
        }
        assert_eq!(page(&ring, 9, "w:7:99").next, 6);
    }

    #[test]
    fn quiet_lines_are_left_out_and_count_as_read() {
        let mut ring = ring(&Arc::default());
        for (level, text) in
            [(Level::Warn, "a"), (Level::Debug, "b"), (Level::Error, "c"), (Level::Info, "d")]
        {
            ring.push(Entry { level, ..entry(text) });
        }
        let loud = LogFilter { level: Level::Warn, ..filter(9, "") };
        assert_eq!(texts(&ring.page(&loud, None)), ["a", "c"]);
        let behind = LogFilter { level: Level::Warn, ..filter(9, "w:7:1") };
        let page = ring.page(&behind, Some(Cursor { life: 7, next: 1 }));
        assert_eq!((texts(&page), page.next), (vec!["c"], 4));
    }

    #[test]
    fn who_follows_is_told_how_many_lines_are_gone() {
        let mut ring = ring(&Arc::default());
        (0..LINES_MAX + 10).for_each(|_| ring.push(entry("x")));
        let page = page(&ring, 1, "w:7:4");
        assert_eq!((page.missed, page.lines[0].number), (6, 10));
    }

    #[test]
    fn without_room_an_app_forgets_its_own_lines_and_never_those_of_others() {
        let room = Arc::new(LogRoom::of(2 * (LINE_BYTES + 10)));
        let (mut one, mut other) = (ring(&room), ring(&room));
        one.push(entry("0123456789"));
        other.push(entry("0123456789"));
        other.push(entry("new"));
        assert_eq!(texts(&page(&one, 9, "")), ["0123456789"]);
        assert_eq!(texts(&page(&other, 9, "")), ["new"]);
        other.push(entry("far too long for what is left there"));
        let told = page(&other, 9, "w:7:1");
        assert_eq!((told.lines.len(), told.missed, told.next), (0, 2, 3));
        drop(one);
        other.push(entry("fits now, since the other one is gone"));
        assert_eq!((other.lines.len(), page(&other, 9, "w:7:3").missed), (1, 0));
        drop(other);
        assert_eq!(room.free.load(Ordering::Relaxed), 2 * (LINE_BYTES + 10));
    }

    #[test]
    fn an_app_that_writes_on_leaves_room_to_those_that_begin() {
        let room = Arc::new(LogRoom::of(100 * 1024));
        let text = "x".repeat(1024 - LINE_BYTES);
        let mut one = ring(&room);
        (0..500).for_each(|_| one.push(entry(&text)));
        assert_eq!(one.lines.len(), 100);
        let mut others: Vec<_> = (0..3).map(|_| ring(&room)).collect();
        for _ in 0..50 {
            one.push(entry(&text));
            others.iter_mut().for_each(|other| other.push(entry(&text)));
        }
        let lines: Vec<_> = others.iter().map(|ring| ring.lines.len()).collect();
        assert!((20..40).contains(&one.lines.len()) && lines.iter().all(|lines| *lines >= 20), "{lines:?}");
        drop((one, others));
        assert_eq!((room.free.load(Ordering::Relaxed), room.apps.load(Ordering::Relaxed)), (100 * 1024, 0));
    }

    proptest! {
        #[test]
        fn whoever_follows_has_every_line_or_is_told_how_many_not(
            steps in prop::collection::vec((0_usize..60, 1_u32..40), 1..60),
            length in 0_usize..20_000,
        ) {
            let room = Arc::new(LogRoom::default());
            let mut ring = ring(&room);
            let (mut written, mut read, mut missed) = (0_u64, 0_u64, 0_u64);
            let text = "x".repeat(length);
            let mut after = String::from("w:7:0");
            for (lines, limit) in steps {
                for _ in 0..lines {
                    ring.push(entry(&text));
                    written += 1;
                }
                prop_assert!(ring.bytes <= BYTES_MAX && ring.lines.len() <= LINES_MAX);
                let page = page(&ring, limit, &after);
                read += page.lines.len() as u64;
                missed += page.missed;
                prop_assert!(page.lines.windows(2).all(|two| two[0].number + 1 == two[1].number));
                prop_assert_eq!(page.next, read + missed);
                after = format!("w:7:{}", page.next);
            }
            let rest = page(&ring, LOG_LINES_MAX, &after);
            prop_assert_eq!(read + missed + rest.missed + rest.lines.len() as u64, written);
            let place: Cursors = after.parse().unwrap();
            prop_assert!(!place.is_empty());
        }
    }
}
