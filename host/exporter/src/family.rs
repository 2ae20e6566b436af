//! Numbers with a name and labels, and their text.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// What becomes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends. Its name ends in `_total`.
    Counter,
    /// It comes and goes.
    Gauge,
}

/// All numbers of one name.
#[derive(Debug, Clone)]
pub struct Family {
    kind: Kind,
    proto: MetricFamily,
}

impl Family {
    /// None yet. A name has lower-case words, `tidegate_<role>_<noun>_<unit>`; `help` is a sentence.
    pub fn new(kind: Kind, name: &str, help: &str) -> Self {
        let mut proto = MetricFamily::default();
        proto.set_name(name.to_owned());
        proto.set_help(help.to_owned());
        proto.set_field_type(match kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        Self { kind, proto }
    }

    /// One more number; no two of a family may have the same labels. Values of labels are anything, but few: never a
    /// client, a uid or a group.
    pub fn push(&mut self, labels: &[(&str, &str)], value: f64) {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.proto.mut_metric().push(metric);
    }

    /// The family with this one number.
    #[must_use]
    pub fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        self.push(labels, value);
        self
    }
}

/// As Prometheus reads it, in order of name; families without a number are left out.
///
/// # Errors
/// A family without a name.
pub(crate) fn text(families: Vec<Family>) -> Result<String, prometheus::Error> {
    let listed = tidegate_telemetry::all()
        .into_iter()
        .map(|counter| listed(counter.name(), counter.help(), counter.get()).proto);
    let mut all: Vec<_> = families.into_iter().map(|family| family.proto).chain(listed).collect();
    all.extend(process());
    all.retain(|family| !family.get_metric().is_empty());
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = String::new();
    TextEncoder::new().encode_utf8(&all, &mut text)?;
    Ok(text)
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

/// CPU time, memory and open files of this process, by the names that everybody uses.
#[cfg(target_os = "linux")]
fn process() -> Vec<MetricFamily> {
    use prometheus::core::Collector;
    prometheus::process_collector::ProcessCollector::for_self().collect()
}

#[cfg(not(target_os = "linux"))]
fn process() -> Vec<MetricFamily> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn families_are_written_in_order_with_help_type_and_labels() {
        let mut slots = Family::new(Kind::Gauge, "tidegate_test_slots", "Slots.");
        slots.push(&[("app", "a/b"), ("state", "asleep")], 2.0);
        slots.push(&[("app", "a/b"), ("state", "running")], 1.5);
        let turns = Family::new(Kind::Counter, "tidegate_test_turns_total", "Turns.").with(&[], 7.0);
        let none = Family::new(Kind::Gauge, "tidegate_test_none", "Nothing.");
        let text = text(vec![turns, none, slots]).unwrap();
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
    fn milliseconds_become_seconds() {
        let family = listed("tidegate_test_waited_ms_total", "Milliseconds waited.", 1500).proto;
        assert_eq!((family.name(), family.help()), ("tidegate_test_waited_seconds_total", "Seconds waited."));
        assert_eq!(family.get_metric()[0].get_counter().get_value().to_bits(), 1.5_f64.to_bits());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_in_it() {
        let text = text(Vec::new()).unwrap();
        for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in {text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_label_holds_a_number_stays_one_line(value in any::<String>()) {
            let family = Family::new(Kind::Gauge, "tidegate_test_any", "Any.").with(&[("any", &value)], 1.0);
            let text = text(vec![family]).unwrap();
            let lines: Vec<_> = text.lines().filter(|line| line.starts_with("tidegate_test_any")).collect();
            let [line] = lines[..] else { return Err(TestCaseError::fail(text)) };
            let is_whole = line.starts_with("tidegate_test_any{any=\"") && line.ends_with("\"} 1");
            prop_assert!(is_whole, "{line}");
        }
    }
}
