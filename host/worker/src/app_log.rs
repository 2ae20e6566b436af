//! How much an app may write into its worker's log, and what is remembered of it. What decides is pure: time is handed in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tidegate_base::limits::LOG_LINE_BYTES_MAX;
use tidegate_base::{Rate, RateMeter};
use tidegate_runtime::LogLevel;
use tidegate_wire::question::{Cursor, Level, LogFilter, LogPage};

use crate::counters;
use crate::log_ring::{Entry, LogRing, LogRoom};
use crate::settings::WorkerApp;

/// The lines of so many seconds may come at once.
const BURST_S: u32 = 2;
/// What is left out is told at most so often.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// That an app's turns wait is told at most so often.
const HELD_UP_AFTER: Duration = Duration::from_secs(60);

/// The log of one app on this worker: all of its slots and versions share it.
#[derive(Debug)]
pub(crate) struct AppLog {
    pace: Mutex<LinePace>,
    /// When it was told last that the app waits for its CPU budget.
    held_up: Mutex<Option<Instant>>,
    /// The last lines, for those who ask for them.
    ring: Mutex<LogRing>,
    /// The version of which it was told last that it runs.
    told_version: AtomicU32,
}

/// Whether a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Admitted {
    passes: bool,
    /// So many were dropped since this was told last, and it is to be told now.
    tell_dropped: Option<u64>,
}

impl AppLog {
    /// So many lines a second, and twice as many at once.
    pub fn new(lines_per_s: u32, version: u32, room: Arc<LogRoom>) -> Self {
        Self {
            pace: Mutex::new(LinePace::new(lines_per_s, Instant::now())),
            held_up: Mutex::new(None),
            // 53 bits, so that every reader of JSON can tell it.
            ring: Mutex::new(LogRing::new(room, fastrand::u64(..1 << 53))),
            told_version: AtomicU32::new(version),
        }
    }

    /// The lines that are remembered, for somebody who has read up to `place`.
    pub fn page(&self, of: &LogFilter, place: Option<Cursor>) -> LogPage {
        self.ring.lock().page(of, place)
    }

    /// Remembers what the worker has to say about the app.
    pub fn tell(&self, app: &WorkerApp, slot: u32, level: Level, text: fmt::Arguments<'_>) {
        self.remember(app, slot, level, false, &text.to_string());
    }

    /// A slot runs a version from now on. The first one to do so is told.
    pub fn runs(&self, app: &WorkerApp, slot: u32) {
        if self.told_version.swap(app.version, Ordering::Relaxed) != app.version {
            self.tell(app, slot, Level::Info, format_args!("version {} begins to serve", app.version));
        }
    }

    fn remember(&self, app: &WorkerApp, slot: u32, level: Level, by_plugin: bool, text: &str) {
        let text = text.get(..text.floor_char_boundary(LOG_LINE_BYTES_MAX)).unwrap_or(text);
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry { at_ms, level, by_plugin, version: app.version, slot, text };
        self.ring.lock().push(entry);
    }

    /// So many from now on.
    pub fn set_pace(&self, lines_per_s: u32) {
        self.pace.lock().set_rate(lines_per_s);
    }

    /// A line of the plugin, if it may be written.
    pub fn write(&self, app: &WorkerApp, slot: u32, turn: u64, level: LogLevel, line: &str) {
        counters::LOG_LINES.inc();
        // Lines that nobody wants to see are no reason to drop others.
        if !is_heard(level) || !self.admits(app, slot) {
            return;
        }
        self.remember(app, slot, loudness(level), true, line);
        let WorkerApp { name: app, version, .. } = app;
        match level {
            LogLevel::Error => tracing::error!(target: "plugin", %app, version, slot, turn, "{line}"),
            LogLevel::Warn => tracing::warn!(target: "plugin", %app, version, slot, turn, "{line}"),
            LogLevel::Info => tracing::info!(target: "plugin", %app, version, slot, turn, "{line}"),
            LogLevel::Debug => tracing::debug!(target: "plugin", %app, version, slot, turn, "{line}"),
            LogLevel::Trace => tracing::trace!(target: "plugin", %app, version, slot, turn, "{line}"),
        }
    }

    /// The app is over its CPU budget: told once a minute as long as that goes on.
    pub fn held_up(&self, app: &WorkerApp, now: Instant) {
        let mut told = self.held_up.lock();
        if told.is_some_and(|told| now.saturating_duration_since(told) < HELD_UP_AFTER) {
            return;
        }
        *told = Some(now);
        drop(told);
        let WorkerApp { name, version, budget, .. } = app;
        let whose = if budget.tenant().is_some_and(|tenant| tenant.is_over()) { "its tenant" } else { "it" };
        let why =
            format_args!("turns wait: {whose} has used up its share of this worker's processors (cpu_share)");
        self.tell(app, 0, Level::Warn, why);
        tracing::warn!(app = %name, version, "the app's turns wait: {whose} has used up its share of this worker's processors (cpu_share); raise that, or let it do less");
    }

    /// Whether a line of this slot may be written now. One that may not is counted, and told with others of its kind.
    pub fn admits(&self, app: &WorkerApp, slot: u32) -> bool {
        let now = Instant::now();
        let Admitted { passes, tell_dropped } = self.pace.lock().line(now);
        if let Some(dropped) = tell_dropped {
            let WorkerApp { name, version, log_lines_per_s: most, .. } = app;
            let why = format_args!(
                "{dropped} log lines were dropped: the app may write {most} a second (log_lines_per_s)"
            );
            self.tell(app, slot, Level::Warn, why);
            tracing::warn!(target: "plugin", app = %name, version, slot, dropped, "{dropped} log lines were dropped: the app may write {most} a second (log_lines_per_s)");
        }
        if !passes {
            counters::LOG_LINES_DROPPED.inc();
        }
        passes
    }
}

/// The rate of lines, and what is beyond it.
#[derive(Debug)]
struct LinePace {
    /// None: no line is ever dropped.
    rate: Option<Rate>,
    meter: RateMeter,
    since: Instant,
    dropped: Sparse,
}

impl LinePace {
    /// Nothing was written yet.
    fn new(lines_per_s: u32, now: Instant) -> Self {
        let (rate, meter) = (rate(lines_per_s), RateMeter::default());
        Self { rate, meter, since: now, dropped: Sparse::default() }
    }

    fn set_rate(&mut self, lines_per_s: u32) {
        self.rate = rate(lines_per_s);
    }

    /// A line is to be written.
    fn line(&mut self, now: Instant) -> Admitted {
        let since = now.saturating_duration_since(self.since).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let passes = self.rate.is_none_or(|rate| self.meter.take(rate, 1, since));
        let tell_dropped = match passes {
            true => self.dropped.rest(now),
            false => self.dropped.one_more(now).map(|left| left + 1),
        };
        Admitted { passes, tell_dropped }
    }
}

fn rate(lines_per_s: u32) -> Option<Rate> {
    Rate::per_second(lines_per_s.into()).map(|rate| rate.with_burst(BURST_S))
}

/// Something that may happen very often and is told at most once a second.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    told: Option<Instant>,
    left_out: u64,
}

impl Sparse {
    /// It happens once more. Some: it is to be told now, and so many before it were not.
    pub fn one_more(&mut self, now: Instant) -> Option<u64> {
        if self.is_early(now) {
            self.left_out += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }

    /// How many were not told, if there are any and it is time to.
    fn rest(&mut self, now: Instant) -> Option<u64> {
        if self.left_out == 0 || self.is_early(now) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }

    fn is_early(&self, now: Instant) -> bool {
        self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_AFTER)
    }
}

fn loudness(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}

/// Whether lines of this level are written at all.
fn is_heard(level: LogLevel) -> bool {
    match level {
        LogLevel::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
        LogLevel::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
        LogLevel::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
        LogLevel::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
        LogLevel::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WRITTEN: Admitted = Admitted { passes: true, tell_dropped: None };

    #[test]
    fn a_burst_passes_and_what_is_beyond_it_is_dropped_and_told_once_a_second() {
        let start = Instant::now();
        let mut pace = LinePace::new(100, start);
        for _ in 0..200 {
            assert_eq!(pace.line(start), WRITTEN);
        }
        assert_eq!(pace.line(start), Admitted { passes: false, tell_dropped: Some(1) });
        for _ in 0..500 {
            assert_eq!(pace.line(start), Admitted { passes: false, tell_dropped: None });
        }
        let later = start + Duration::from_millis(10);
        assert_eq!(pace.line(later), WRITTEN);
        assert_eq!(pace.line(later), Admitted { passes: false, tell_dropped: None });
        let later = start + Duration::from_millis(1000);
        assert_eq!(pace.line(later), Admitted { passes: true, tell_dropped: Some(501) });
        assert_eq!(pace.line(later), WRITTEN);
    }

    #[test]
    fn another_pace_holds_from_the_next_line_on() {
        let start = Instant::now();
        let mut pace = LinePace::new(1, start);
        let passed = |pace: &mut LinePace, now| (0..500).filter(|_| pace.line(now).passes).count();
        assert_eq!(passed(&mut pace, start), 2);
        pace.set_rate(100);
        let later = start + Duration::from_secs(10);
        assert_eq!(passed(&mut pace, later), 200);
        pace.set_rate(1);
        assert!(passed(&mut pace, later + Duration::from_secs(10)) <= 2);
    }

    #[test]
    fn a_quiet_app_may_write_a_burst_again() {
        let start = Instant::now();
        let mut pace = LinePace::new(1, start);
        let passed = |pace: &mut LinePace, now| (0..5).filter(|_| pace.line(now).passes).count();
        assert_eq!(passed(&mut pace, start), 2);
        assert_eq!(passed(&mut pace, start + Duration::from_millis(999)), 0);
        assert_eq!(passed(&mut pace, start + Duration::from_millis(1000)), 1);
        assert_eq!(passed(&mut pace, start + Duration::from_secs(1_000_000)), 2);
        // A clock that is read out of order changes nothing.
        assert_eq!(passed(&mut pace, start), 0);
    }

    proptest! {
        #[test]
        fn never_more_pass_than_burst_and_rate_allow_and_every_dropped_line_is_told_in_the_end(
            rate in 1_u32..2_000,
            gaps in prop::collection::vec(0_u64..40_000, 1..400),
        ) {
            let start = Instant::now();
            let mut pace = LinePace::new(rate, start);
            let mut now = start;
            let (mut passed, mut dropped, mut told, mut tellings) = (0_u64, 0_u64, 0_u64, 0_u64);
            for gap in gaps {
                now += Duration::from_micros(gap);
                let Admitted { passes, tell_dropped } = pace.line(now);
                passed += u64::from(passes);
                dropped += u64::from(!passes);
                told += tell_dropped.unwrap_or(0);
                tellings += u64::from(tell_dropped.is_some());
                prop_assert!(told <= dropped);
            }
            let us = u64::try_from((now - start).as_micros()).unwrap();
            let rate = u64::from(rate);
            prop_assert!(passed <= 2 * rate + us * rate / 1_000_000 + 1);
            prop_assert!(tellings <= 1 + us / 1_000_000);
            let last = pace.line(now + Duration::from_secs(10));
            prop_assert!(last.passes);
            prop_assert_eq!(told + last.tell_dropped.unwrap_or(0), dropped);
        }
    }
}
