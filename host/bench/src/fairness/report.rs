//! What a neighbour cost, as Markdown and as JSON.

use std::fmt;

use serde::Serialize;

use super::{FairnessOptions, Greed};
use crate::machine;
use crate::report::Measured;
use crate::stats::{Faults, Latency, Spread};

/// The least part of its calm rate that the quiet app is to keep.
const RATE_KEPT: f64 = 0.95;
/// Its p99 is to be at most so many times the calm one,
const P99_RATIO: f64 = 2.0;
/// or so many microseconds more than it, whichever is larger.
const P99_MORE_US: f64 = 2_000.0;

/// The result of [`super::fairness`]. Its `Display` is Markdown.
#[derive(Clone, Debug, Serialize)]
pub struct FairnessReport {
    /// Processor, cores, kernel.
    pub machine: String,
    /// The quiet app's messages a second, as they are due.
    pub rate: u32,
    /// Over so many connections.
    pub connections: u32,
    /// What keeps the neighbour at work.
    pub greed: Greed,
    /// Connections to the neighbour.
    pub neighbour_connections: u32,
    /// Each pair of halves, in order.
    pub rounds: Vec<FairnessRound>,
    /// Rate beside the neighbour / calm rate.
    pub rate_kept: Option<Spread>,
    /// Whether the medians are within what is to be reached, and no message was lost.
    pub held: bool,
}

/// One round.
#[derive(Clone, Debug, Serialize)]
pub struct FairnessRound {
    /// The quiet app alone.
    pub calm: Measured,
    /// The quiet app beside the neighbour at work.
    pub beside: Measured,
    /// How often the neighbour was set to work; of a flood, the messages that it has sent back.
    pub provoked: u64,
}

impl FairnessReport {
    pub(super) fn new(options: &FairnessOptions, rounds: Vec<FairnessRound>) -> FairnessReport {
        let pairs = rounds.iter().map(|round| (Some(round.beside.rate), Some(round.calm.rate)));
        let mut report = FairnessReport {
            machine: machine::describe(),
            rate: options.rate,
            connections: options.connections,
            greed: options.greed.clone(),
            neighbour_connections: options.neighbour_connections,
            rate_kept: Spread::of_ratios(pairs),
            rounds,
            held: false,
        };
        report.held = report.keeps_rate() && report.keeps_p99() && report.faults().is_clean();
        report
    }

    /// The report as one JSON object with the names of the fields of [`FairnessReport`].
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: no maps, no foreign types.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What went wrong with the quiet app's messages.
    pub fn faults(&self) -> Faults {
        let mut sum = Faults::default();
        for round in &self.rounds {
            sum.merge(&round.calm.faults);
            sum.merge(&round.beside.faults);
        }
        sum
    }

    fn keeps_rate(&self) -> bool {
        self.rate_kept.is_some_and(|kept| kept.median >= RATE_KEPT)
    }

    fn keeps_p99(&self) -> bool {
        let p99 = |one: &Measured| one.latency.map(|all| all.p99_us);
        match (self.spread(Half::Calm, p99), self.spread(Half::Beside, p99)) {
            (Some(calm), Some(beside)) => beside.median <= p99_max(calm.median),
            _ => false,
        }
    }

    fn spread(&self, half: Half, value: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        let of = |round: &FairnessRound| match half {
            Half::Calm => value(&round.calm),
            Half::Beside => value(&round.beside),
        };
        Spread::of(self.rounds.iter().filter_map(of))
    }
}

impl fmt::Display for FairnessRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = |one: &Measured| one.latency.map_or(0.0, |all| all.p99_us / 1e3);
        let (calm, beside) = (&self.calm, &self.beside);
        write!(
            f,
            "alone {:.0} messages/s, p99 {:.2} ms; beside the neighbour {:.0} messages/s, p99 {:.2} ms",
            calm.rate,
            p99(calm),
            beside.rate,
            p99(beside)
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Half {
    Calm,
    Beside,
}

/// The largest p99 beside a neighbour, in microseconds.
fn p99_max(calm_us: f64) -> f64 {
    (P99_RATIO * calm_us).max(calm_us + P99_MORE_US)
}

/// Cores that the servers used, the neighbour's turns included.
fn cores(one: &Measured) -> Option<f64> {
    one.server_cpu_us.map(|us| us * one.rate / 1e6)
}

impl fmt::Display for FairnessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FairnessReport { machine, rate, connections, greed, neighbour_connections, .. } = self;
        writeln!(f, "{rate} messages/s over {connections} connections, on {machine};")?;
        writeln!(f, "beside {neighbour_connections} connections that {greed};")?;
        writeln!(f, "median (range) of {} paired rounds\n", self.rounds.len())?;
        writeln!(f, "| figure | calm | beside the neighbour | to reach | reached |")?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        let latency =
            |pick: fn(&Latency) -> f64| move |one: &Measured| one.latency.as_ref().map(|all| pick(all) / 1e3);
        let p99_calm = self.spread(Half::Calm, latency(|all| all.p99_us));
        let p99_reach = p99_calm
            .map_or("-".to_owned(), |calm| format!("at most {:.2}", p99_max(calm.median * 1e3) / 1e3));
        let yes = |met: bool| if met { "yes" } else { "no" };
        let rate_reach = format!("at least {RATE_KEPT} x calm");
        row(f, self, "messages/s", |one| Some(one.rate), &rate_reach, yes(self.keeps_rate()))?;
        row(f, self, "p50, ms", latency(|all| all.p50_us), "-", "-")?;
        row(f, self, "p99, ms", latency(|all| all.p99_us), &p99_reach, yes(self.keeps_p99()))?;
        row(f, self, "p99.9, ms", latency(|all| all.p999_us), "-", "-")?;
        row(f, self, "servers, cores", cores, "-", "-")?;
        let faults = self.faults();
        match faults.is_clean() {
            true => writeln!(f, "\nEvery message came back once, whole and in order."),
            false => writeln!(f, "\nNot every message came through: {faults:?}"),
        }
    }
}

fn row(
    f: &mut fmt::Formatter<'_>,
    report: &FairnessReport,
    name: &str,
    value: impl Fn(&Measured) -> Option<f64>,
    reach: &str,
    reached: &str,
) -> fmt::Result {
    let cell = |half| match report.spread(half, &value) {
        Some(Spread { median, min, max }) => {
            let digits = if median >= 100.0 { 0 } else { 2 };
            format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
        }
        None => "-".to_owned(),
    };
    writeln!(f, "| {name} | {} | {} | {reach} | {reached} |", cell(Half::Calm), cell(Half::Beside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Target;
    use crate::report::tests::measured;

    fn half(rate: f64, p99_us: f64) -> Measured {
        let mut one = measured(10.0, 100);
        one.rate = rate;
        one.latency = one.latency.map(|all| Latency { p99_us, ..all });
        one
    }

    fn report(beside: Measured) -> FairnessReport {
        let quiet = Target { url: "ws://127.0.0.1:1/".to_owned(), pids: Vec::new() };
        let options = FairnessOptions::new(quiet, "ws://127.0.0.1:2/".to_owned());
        FairnessReport::new(&options, vec![FairnessRound { calm: half(2000.0, 300.0), beside, provoked: 16 }])
    }

    #[test]
    fn it_holds_if_rate_and_p99_are_kept_and_nothing_is_lost() {
        assert!(report(half(1901.0, 2299.0)).held);
        assert!(!report(half(1899.0, 2299.0)).held);
        assert!(!report(half(2000.0, 2301.0)).held);
        let mut lossy = half(2000.0, 300.0);
        lossy.faults.lost = 1;
        assert!(!report(lossy).held);
        assert_eq!((p99_max(300.0), p99_max(3_000.0)), (2_300.0, 6_000.0));
    }

    #[test]
    fn the_markdown_shows_both_halves_and_what_is_to_be_reached() {
        let text = report(half(1990.0, 900.0)).to_string();
        assert!(
            text.contains(
                "| messages/s | 2000 (2000 to 2000) | 1990 (1990 to 1990) | at least 0.95 x calm | yes |"
            ),
            "{text}"
        );
        assert!(
            text.contains("| p99, ms | 0.30 (0.30 to 0.30) | 0.90 (0.90 to 0.90) | at most 2.30 | yes |"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&report(half(1990.0, 900.0)).to_json()).unwrap();
        assert_eq!(json["greed"], serde_json::json!({ "kind": "loop", "say": "loop" }));
        assert!(text.contains("beside 16 connections that say `loop` to a neighbour;"), "{text}");
        assert_eq!((json["held"].as_bool(), json["rounds"][0]["provoked"].as_u64()), (Some(true), Some(16)));
    }
}
