//! What a run found, as text and as JSON.

use std::fmt;

use serde::Serialize;

use crate::measure::Raw;
use crate::options::{MessageKind, Options, Work};
use crate::stats::{Faults, Latency, Spread};

/// The result of [`crate::run`]. Its `Display` is the text report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was run.
    pub work: Work,
    /// Text or binary messages.
    pub kind: MessageKind,
    /// What counts and CPU per unit refer to.
    pub unit: Unit,
    /// Warm-up before each measurement, in seconds.
    pub warm_up_seconds: f64,
    /// Every round, in order.
    pub rounds: Vec<Round>,
    /// The target compared with the yardstick, each round with its own partner; `None` without a yardstick.
    pub ratios: Option<Ratios>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A message that came back.
    Message,
    /// One broadcast at one receiver.
    Delivery,
    /// A connection.
    Connect,
}

/// One round: the target, and right after it the yardstick.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The server under test.
    pub target: Measured,
    /// The bare server, if one was asked for.
    pub yardstick: Option<Measured>,
}

/// One measurement of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Units counted.
    pub count: u64,
    /// Over this many seconds.
    pub seconds: f64,
    /// Units per second.
    pub rate: f64,
    /// Send to receive; from the intended send time in an open loop; TCP and handshake for connections.
    pub latency: Option<Latency>,
    /// Open loop only: how late the generator itself sent. It is part of the latency, on both sides alike.
    pub lateness: Option<Latency>,
    /// CPU microseconds of the server's processes per unit; `None` without process ids or without units.
    pub server_cpu_us: Option<f64>,
    /// CPU microseconds of the load generator per unit.
    pub own_cpu_us: Option<f64>,
    /// CPU seconds of the load generator per second; near its number of threads it is the bottleneck.
    pub own_busy: f64,
    /// Idle only, with process ids: memory of the server.
    pub memory: Option<Memory>,
    /// What went wrong.
    pub faults: Faults,
}

/// What an idle connection costs a server in memory, in bytes; negative if the server shrank meanwhile.
/// Socket buffers and other kernel memory are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Private memory without a file (heap, stacks), right after opening. The figure to quote.
    pub anonymous_bytes: f64,
    /// Proportional set size, which counts pages of the program's file touched meanwhile, too.
    pub pss_bytes: f64,
    /// Private memory without a file after the hold.
    pub anonymous_held_bytes: f64,
    /// CPU microseconds per connection and second of the hold: heartbeats and timers.
    pub held_cpu_us_per_second: Option<f64>,
}

/// Target divided by yardstick: the median of the rounds, and the range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratios {
    /// Server CPU per unit; less is better.
    pub server_cpu: Option<Spread>,
    /// Median latency; less is better.
    pub p50: Option<Spread>,
    /// Rate; more is better.
    pub rate: Option<Spread>,
    /// Memory per idle connection; less is better.
    pub memory: Option<Spread>,
}

impl Measured {
    pub(crate) fn new(raw: Raw, memory: Option<Memory>) -> Measured {
        let per_unit = |nanos: u64| (raw.counted > 0).then(|| nanos as f64 / 1e3 / raw.counted as f64);
        let per_second = |amount: f64| if raw.seconds > 0.0 { amount / raw.seconds } else { 0.0 };
        Measured {
            count: raw.counted,
            seconds: raw.seconds,
            rate: per_second(raw.counted as f64),
            latency: raw.latency.summary(),
            lateness: raw.lateness.summary(),
            server_cpu_us: raw.server_cpu_ns.and_then(per_unit),
            own_cpu_us: per_unit(raw.own_cpu_ns),
            own_busy: per_second(raw.own_cpu_ns as f64 / 1e9),
            memory,
            faults: raw.faults,
        }
    }

    fn p50(&self) -> Option<f64> {
        self.latency.map(|latency| latency.p50_us)
    }
}

impl Ratios {
    fn of(rounds: &[Round]) -> Option<Ratios> {
        rounds.iter().find(|round| round.yardstick.is_some())?;
        let spread = |value: &dyn Fn(&Measured) -> Option<f64>| {
            let pair = |round: &Round| (value(&round.target), round.yardstick.as_ref().and_then(value));
            Spread::of_ratios(rounds.iter().map(pair))
        };
        Some(Ratios {
            server_cpu: spread(&|one| one.server_cpu_us),
            p50: spread(&|one| one.p50()),
            rate: spread(&|one| Some(one.rate)),
            memory: spread(&|one| one.memory.map(|memory| memory.anonymous_bytes)),
        })
    }
}

impl Report {
    pub(crate) fn new(options: &Options, rounds: Vec<Round>) -> Report {
        let unit = match options.work {
            Work::Echo { .. } | Work::Open { .. } => Unit::Message,
            Work::Broadcast { .. } => Unit::Delivery,
            Work::Idle { .. } | Work::Connect { .. } => Unit::Connect,
        };
        let ratios = Ratios::of(&rounds);
        let warm_up_seconds = options.warm_up.as_secs_f64();
        Report { work: options.work.clone(), kind: options.kind, unit, warm_up_seconds, rounds, ratios }
    }

    /// The report as one JSON object with the names of the fields of [`Report`].
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: no maps, no foreign types.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The faults of the target over all rounds.
    pub fn faults(&self) -> Faults {
        let mut sum = Faults::default();
        self.rounds.iter().for_each(|round| sum.merge(&round.target.faults));
        sum
    }

    /// The spread over the rounds of one value of the target.
    pub(crate) fn target(&self, value: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| value(&round.target)))
    }

    /// The spread over the rounds of one value of the yardstick.
    pub(crate) fn yardstick(&self, value: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| value(round.yardstick.as_ref()?)))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Echo { connections, in_flight, payload } => {
                write!(f, "echo: {connections} connections, {in_flight} in flight each, {payload} bytes")
            }
            Work::Open { connections, rate, payload, spin } => {
                let how = if *spin { ", busy-waiting" } else { "" };
                write!(f, "open loop: {rate}/s over {connections} connections, {payload} bytes{how}")
            }
            Work::Broadcast { connections, outstanding, payload } => {
                write!(
                    f,
                    "broadcast: to {connections} connections, {outstanding} outstanding, {payload} bytes"
                )
            }
            Work::Idle { connections } => write!(f, "idle: {connections} connections"),
            Work::Connect { at_a_time } => write!(f, "connect: {at_a_time} at a time"),
        }
    }
}

impl Unit {
    fn plural(self) -> &'static str {
        match self {
            Unit::Message => "messages",
            Unit::Delivery => "deliveries",
            Unit::Connect => "connects",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Message => "message",
            Unit::Delivery => "delivery",
            Unit::Connect => "connect",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {:.1} s warm-up before each measurement", self.work, self.warm_up_seconds)?;
        for (number, round) in (1..).zip(&self.rounds) {
            self.line(f, &format!("round {number}"), "target", &round.target)?;
            if let Some(yardstick) = &round.yardstick {
                self.line(f, "", "yardstick", yardstick)?;
            }
        }
        let cpu = self.target(|one| one.server_cpu_us);
        if let Some(cpu) = cpu.filter(|_| self.rounds.len() > 1) {
            writeln!(
                f,
                "median server CPU {:.2} us/{} ({:.2} to {:.2})",
                cpu.median, self.unit, cpu.min, cpu.max
            )?;
        }
        match &self.ratios {
            Some(ratios) => writeln!(f, "{ratios}"),
            None => Ok(()),
        }
    }
}

impl Report {
    fn line(&self, f: &mut fmt::Formatter<'_>, round: &str, who: &str, one: &Measured) -> fmt::Result {
        write!(f, "{round:9}{who:10}{:>10.0} {}/s", one.rate, self.unit.plural())?;
        if let Some(cpu) = one.server_cpu_us {
            write!(f, "  server {cpu:.2} us/{}", self.unit)?;
        }
        if let Some(own) = one.own_cpu_us {
            write!(f, "  own {own:.2} us, {:.0} % busy", one.own_busy * 100.0)?;
        }
        if let Some(latency) = &one.latency {
            write!(f, "  {latency}")?;
        }
        if let Some(lateness) = &one.lateness {
            write!(f, "  generator late by p50 {:.0} p99 {:.0} us", lateness.p50_us, lateness.p99_us)?;
        }
        if let Some(memory) = &one.memory {
            write!(f, "  {memory}")?;
        }
        writeln!(f)?;
        if one.faults.is_clean() { Ok(()) } else { writeln!(f, "{:19}FAULTS: {}", "", one.faults) }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { mean_us: _, p50_us, p90_us, p99_us, p999_us, max_us } = self;
        write!(f, "p50 {p50_us:.0} p90 {p90_us:.0} p99 {p99_us:.0} p99.9 {p999_us:.0} max {max_us:.0} us")
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory { anonymous_bytes, pss_bytes, anonymous_held_bytes, held_cpu_us_per_second } = self;
        write!(
            f,
            "{anonymous_bytes:.0} bytes/connection (pss {pss_bytes:.0}, after the hold {anonymous_held_bytes:.0}"
        )?;
        if let Some(cpu) = held_cpu_us_per_second {
            write!(f, ", {cpu:.2} us CPU/s")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { lost, reordered, unexpected, wrong, closed, unsent, foreign, first_close } = self;
        write!(
            f,
            "lost {lost}, reordered {reordered}, unexpected {unexpected}, wrong {wrong}, unsent {unsent}"
        )?;
        write!(f, ", closed {closed}, foreign {foreign}")?;
        match first_close {
            Some(reason) => write!(f, " (first closed: {reason})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.min, self.max)
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("target / yardstick, median of rounds (range):")?;
        let parts =
            [("CPU", self.server_cpu), ("p50", self.p50), ("rate", self.rate), ("memory", self.memory)];
        for (name, spread) in parts {
            if let Some(spread) = spread {
                write!(f, "  {name} {spread}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::Target;
    use crate::stats::Nanos;

    /// A measurement of 1000 units in 2 s with this server CPU and latency.
    pub(crate) fn measured(server_cpu_us: f64, p50_us: u64) -> Measured {
        let mut latency = Nanos::new();
        (0..1000).for_each(|_| latency.record(p50_us * 1000));
        let raw = Raw {
            counted: 1000,
            seconds: 2.0,
            latency,
            lateness: Nanos::new(),
            faults: Faults::default(),
            server_cpu_ns: Some((server_cpu_us * 1e6) as u64),
            own_cpu_ns: 500_000_000,
        };
        Measured::new(raw, None)
    }

    pub(crate) fn report(work: Work, rounds: Vec<Round>) -> Report {
        let options = Options {
            work,
            target: Target { url: "ws://127.0.0.1:1/".to_owned(), pids: Vec::new() },
            yardstick: None,
            rounds: rounds.len() as u32,
            warm_up: Duration::from_millis(500),
            span: Duration::from_secs(2),
            threads: 1,
            kind: MessageKind::Text,
        };
        Report::new(&options, rounds)
    }

    fn paired() -> Report {
        let round = |a, b| Round { target: measured(a, 100), yardstick: Some(measured(b, 50)) };
        let work = Work::Echo { connections: 5, in_flight: 1, payload: 64 };
        report(work, vec![round(10.0, 8.0), round(12.0, 8.0), round(30.0, 10.0)])
    }

    #[test]
    fn totals_are_divided_by_units_and_seconds() {
        let one = measured(10.0, 100);
        assert_eq!((one.rate, one.server_cpu_us, one.own_cpu_us), (500.0, Some(10.0), Some(500.0)));
        assert_eq!(one.own_busy, 0.25);
    }

    #[test]
    fn ratios_are_medians_of_rounds_and_not_ratios_of_medians() {
        let ratios = paired().ratios.unwrap();
        assert_eq!(ratios.server_cpu, Some(Spread { median: 1.5, min: 1.25, max: 3.0 }));
        assert!((ratios.p50.unwrap().median - 2.0).abs() < 0.01);
        assert_eq!(ratios.rate.unwrap().median, 1.0);
        assert_eq!(ratios.memory, None);
    }

    #[test]
    fn the_text_names_load_rounds_and_ratios() {
        let text = paired().to_string();
        for part in [
            "echo: 5 connections",
            "round 3",
            "yardstick",
            "server 12.00 us/message",
            "CPU 1.50 (1.25 to 3.00)",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("FAULTS"));
    }

    #[test]
    fn the_json_has_the_documented_names() {
        let json: serde_json::Value = serde_json::from_str(&paired().to_json()).unwrap();
        assert_eq!(json["work"]["name"], "echo");
        assert_eq!(json["work"]["in_flight"], 1);
        assert_eq!(json["unit"], "message");
        assert_eq!(json["rounds"][1]["target"]["server_cpu_us"], 12.0);
        assert_eq!(json["ratios"]["server_cpu"]["median"], 1.5);
    }

    #[test]
    fn nothing_counted_gives_no_figures_instead_of_infinities() {
        let raw = Raw {
            counted: 0,
            seconds: 0.0,
            latency: Nanos::new(),
            lateness: Nanos::new(),
            faults: Faults { lost: 3, ..Faults::default() },
            server_cpu_ns: Some(5),
            own_cpu_ns: 5,
        };
        let one = Measured::new(raw, None);
        assert_eq!((one.server_cpu_us, one.rate, one.latency), (None, 0.0, None));
        let report = report(Work::Connect { at_a_time: 1 }, vec![Round { target: one, yardstick: None }]);
        assert!(report.to_string().contains("FAULTS: lost 3"));
        assert_eq!((report.faults().lost, report.ratios), (3, None));
    }
}
