//! Numbers with a name and labels, and their text.

use std::fmt::{self, Write};

use tidegate_telemetry::{BOUNDS_US, Histogram};

use crate::process;

/// What becomes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends. Its name ends in `_total`.
    Counter,
    /// It comes and goes.
    Gauge,
    /// Times by how long they are, in seconds; see [`Family::push_times`].
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All numbers of one name. They are kept as the text that they become: with a thousand apps there are tens of thousands.
#[derive(Debug, Clone)]
pub struct Family {
    kind: Kind,
    name: String,
    help: String,
    lines: String,
}

impl Family {
    /// None yet. A name has lower-case words, `tidegate_<role>_<noun>_<unit>`; `help` is a sentence.
    pub fn new(kind: Kind, name: &str, help: &str) -> Self {
        Self { kind, name: name.to_owned(), help: help.to_owned(), lines: String::new() }
    }

    /// One more number; no two of a family may have the same labels. Values of labels are anything, but few: never a
    /// client, a uid or a group. Not for histograms.
    pub fn push(&mut self, labels: &[(&str, &str)], value: f64) {
        debug_assert!(self.kind != Kind::Histogram, "a histogram has no one number");
        self.line("", labels, None, value);
    }

    /// One more histogram; no two of a family may have the same labels.
    pub fn push_times(&mut self, labels: &[(&str, &str)], times: &Histogram) {
        debug_assert!(self.kind == Kind::Histogram, "not a family of histograms");
        let mut count = 0_u64;
        for (bound, counted) in BOUNDS_US.iter().zip(times.counts) {
            count = count.saturating_add(counted);
            self.line("_bucket", labels, Some(*bound as f64 / 1e6), count as f64);
        }
        let count = times.count() as f64;
        self.line("_bucket", labels, Some(f64::INFINITY), count);
        self.line("_sum", labels, None, times.sum_ns as f64 / 1e9);
        self.line("_count", labels, None, count);
    }

    /// The family with this one number.
    #[must_use]
    pub fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        self.push(labels, value);
        self
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<f64>, value: f64) {
        let Self { name, lines, .. } = self;
        lines.push_str(name);
        lines.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels {
            lines.push(before);
            lines.push_str(name);
            lines.push_str("=\"");
            escape(value, lines);
            lines.push('"');
            before = ',';
        }
        // Writing to a String does not fail.
        if let Some(bound) = bound {
            let _ = write!(lines, "{before}le=\"{}\"", Number(bound));
            before = ',';
        }
        if before == ',' {
            lines.push('}');
        }
        let _ = writeln!(lines, " {}", Number(value));
    }

    fn write(&self, text: &mut String) {
        let Self { kind, name, help, lines } = self;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        text.push_str(lines);
    }
}

/// A value of a label.
fn escape(value: &str, to: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' => to.push_str("\\\""),
            c => to.push(c),
        }
    }
}

struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number if number == f64::INFINITY => f.write_str("+Inf"),
            // Nearly all of them, and several times as fast. Exact, and Rust's own text of a float has no exponent either.
            number if number.fract() == 0.0 && number.abs() < 1e15 => write!(f, "{}", number as i64),
            number => write!(f, "{number}"),
        }
    }
}

/// As Prometheus reads it, in order of name; families without a number are left out. Every listed counter and the process
/// are in it.
pub fn text(families: Vec<Family>) -> String {
    let mut all: Vec<Family> = tidegate_telemetry::all()
        .into_iter()
        .map(|counter| listed(counter.name(), counter.help(), counter.get()))
        .chain(process::families())
        .chain(families)
        .filter(|family| !family.lines.is_empty())
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let bytes: usize = all.iter().map(|family| family.lines.len() + 2 * family.help.len() + 128).sum();
    let mut text = String::with_capacity(bytes);
    all.iter().for_each(|family| family.write(&mut text));
    text
}

/// A counter as it is. Milliseconds become seconds, in which Prometheus has all times.
fn listed(name: &str, help: &str, count: u64) -> Family {
    // Exact up to 2^53.
    let count = count as f64;
    match name.strip_suffix("_ms_total") {
        Some(name) => {
            let help = help.replacen("Milliseconds", "Seconds", 1);
            Family::new(Kind::Counter, &format!("{name}_seconds_total"), &help).with(&[], count / 1e3)
        }
        None => Family::new(Kind::Counter, name, help).with(&[], count),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_are_written_in_order_with_help_type_and_labels() {
        let mut slots = Family::new(Kind::Gauge, "tidegate_test_slots", "Slots.");
        slots.push(&[("app", "a/b"), ("state", "asleep")], 2.0);
        slots.push(&[("app", "a/b"), ("state", "running")], 1.5);
        let turns = Family::new(Kind::Counter, "tidegate_test_turns_total", "Turns.").with(&[], 7.0);
        let none = Family::new(Kind::Gauge, "tidegate_test_none", "Nothing.");
        let text = text(vec![turns, none, slots]);
        let (_, ours) = text.split_once("# HELP tidegate_test_slots ").unwrap();
        let wanted = "Slots.\n# TYPE tidegate_test_slots gauge\n\
                      tidegate_test_slots{app=\"a/b\",state=\"asleep\"} 2\n\
                      tidegate_test_slots{app=\"a/b\",state=\"running\"} 1.5\n\
                      # HELP tidegate_test_turns_total Turns.\n# TYPE tidegate_test_turns_total counter\n\
                      tidegate_test_turns_total 7\n";
        assert_eq!(ours, wanted);
        assert!(!text.contains("tidegate_test_none"));
    }

    #[test]
    fn times_are_written_in_seconds_with_buckets_that_add_up() {
        let mut times = Histogram::default();
        times.add(Duration::from_micros(20), 3);
        times.add(Duration::from_secs(100), 1);
        let mut family = Family::new(Kind::Histogram, "tidegate_test_turn_seconds", "Times.");
        family.push_times(&[("app", "b")], &times);
        let text = text(vec![family]);
        let lines = [
            "# TYPE tidegate_test_turn_seconds histogram",
            "tidegate_test_turn_seconds_bucket{app=\"b\",le=\"0.00001\"} 0",
            "tidegate_test_turn_seconds_bucket{app=\"b\",le=\"0.00003\"} 3",
            "tidegate_test_turn_seconds_bucket{app=\"b\",le=\"10\"} 3",
            "tidegate_test_turn_seconds_bucket{app=\"b\",le=\"+Inf\"} 4",
            "tidegate_test_turn_seconds_sum{app=\"b\"} 100.00006",
            "tidegate_test_turn_seconds_count{app=\"b\"} 4",
        ];
        for line in lines {
            assert!(text.lines().any(|written| written == line), "{line} in {text}");
        }
    }

    #[test]
    fn milliseconds_become_seconds() {
        let Family { name, help, lines, .. } =
            listed("tidegate_test_waited_ms_total", "Milliseconds waited.", 1500);
        let expected = ("tidegate_test_waited_seconds_total", "Seconds waited.");
        assert_eq!((&*name, &*help), expected);
        assert_eq!(lines, format!("{name} 1.5\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_in_it() {
        let text = text(Vec::new());
        for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in {text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_label_holds_a_number_stays_one_line(value in any::<String>()) {
            let family = Family::new(Kind::Gauge, "tidegate_test_any", "Any.").with(&[("any", &value)], 1.0);
            let text = text(vec![family]);
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with("tidegate_test_any")).collect();
            let [line] = lines[..] else { return Err(TestCaseError::fail(text)) };
            let is_whole = line.starts_with("tidegate_test_any{any=\"") && line.ends_with("\"} 1");
            prop_assert!(is_whole, "{line}");
        }
    }
}
