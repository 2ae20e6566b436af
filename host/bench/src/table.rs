//! The whole table of loads against one set-up, beside the figures to reach.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::idle::affordable;
use crate::options::{MessageKind, Options, Target, Work, YardstickCommand};
use crate::report::{Measured, Report};
use crate::stats::Spread;
use crate::{Result, machine, run};

const IDLE_HOLD_MAX: Duration = Duration::from_secs(5);

/// What [`table`] runs against.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Which column of figures to reach applies.
    pub set_up: SetUp,
    /// A server that echoes, freshly started: memory is measured first, before anything else has made it grow.
    pub echo: Target,
    /// A server that sends every message to all; without one the broadcast rows are left out.
    pub broadcast: Option<Target>,
    /// The bare servers to compare with.
    pub yardstick: YardstickCommand,
    /// Rounds of each row, 1 to 1000; from 5 up the median is worth quoting.
    pub rounds: u32,
    /// Load before each measurement.
    pub warm_up: Duration,
    /// Length of each measurement; from 5 s up it is worth quoting.
    pub span: Duration,
    /// Connections of the idle row; fewer if the limit on open files says so.
    pub idle_connections: u32,
    /// Busy-wait in the open-loop row: steadier figures, for a core that a server of several processes may miss.
    pub open_spin: bool,
}

/// How the server is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetUp {
    /// All roles in one process.
    OneProcess,
    /// Gateway and worker as processes, QUIC between them.
    Quic,
}

/// The filled table. Its `Display` is Markdown.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Processor, cores, kernel.
    pub machine: String,
    /// Which figures to reach apply.
    pub set_up: SetUp,
    /// The rows, top down.
    pub rows: Vec<Row>,
}

/// One figure of one load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The load.
    pub work: Work,
    /// The figure's name and unit.
    pub figure: &'static str,
    /// The target's, median and range over the rounds.
    pub target: Option<Spread>,
    /// The yardstick's.
    pub yardstick: Option<Spread>,
    /// Target / yardstick, of paired rounds.
    pub ratio: Option<Spread>,
    /// What it should be at most.
    pub reach: Reach,
    /// Whether the median is; `None` without a figure to reach, or when it could not be measured.
    pub met: Option<bool>,
    /// Whether nothing was lost, damaged, reordered or cut.
    pub clean: bool,
}

/// The most that a figure's median should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// As a multiple of the yardstick's.
    Ratio(f64),
    /// In the figure's own unit.
    Absolute(f64),
    /// Reported only.
    Open,
}

/// Runs every row, one after the other, and calls `progress` with each row's full report as it is done. Takes about
/// 13 × rounds × (warm-up + span), and some more for the idle connections.
///
/// # Errors
/// Those of [`run`]; the rows before are lost but for what `progress` made of them.
pub fn table(options: &TableOptions, mut progress: impl FnMut(&Report)) -> Result<Table> {
    let idle = affordable(options.idle_connections)?;
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for plan in plans(options.set_up, idle, options.open_spin) {
        let target = if plan.broadcasts() { options.broadcast.as_ref() } else { Some(&options.echo) };
        let Some(target) = target else { continue };
        let report = run(plan.options(options, target))?;
        progress(&report);
        rows.extend(plan.figures.iter().map(|figure| (plan.place, figure.row(&report))));
    }
    rows.sort_by_key(|(place, _)| *place);
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    Ok(Table { machine: machine::describe(), set_up: options.set_up, rows })
}

/// One load to run and the figures to take from it.
struct Plan {
    /// Where it stands in the table; plans are in the order of running.
    place: usize,
    work: Work,
    figures: Vec<Figure>,
}

struct Figure {
    name: &'static str,
    value: fn(&Measured) -> Option<f64>,
    reach: Reach,
}

fn plans(set_up: SetUp, idle: u32, spin: bool) -> Vec<Plan> {
    let pick = |one_process, quic| if set_up == SetUp::OneProcess { one_process } else { quic };
    let cpu = |name, reach| Figure { name, value: |one| one.server_cpu_us, reach };
    let message = |reach| cpu("server CPU, us/message", reach);
    let delivery = |reach| cpu("server CPU, us/delivery", reach);
    let p50 = |reach| Figure { name: "p50, us", value: |one| one.latency.map(|all| all.p50_us), reach };
    let memory = |one: &Measured| one.memory.map(|memory| memory.anonymous_bytes);
    let echo = |connections, in_flight| Work::Echo { connections, in_flight, payload: 64 };
    let broadcast = |connections, outstanding| Work::Broadcast { connections, outstanding, payload: 64 };
    let plan = |place, work, figures| Plan { place, work, figures };
    vec![
        plan(
            5,
            Work::Idle { connections: idle },
            vec![Figure { name: "memory, bytes/connection", value: memory, reach: Reach::Absolute(1600.0) }],
        ),
        plan(0, echo(500, 1), vec![message(Reach::Ratio(pick(1.3, 1.7)))]),
        plan(1, echo(50, 32), vec![message(Reach::Absolute(pick(1.8, 2.4)))]),
        plan(
            2,
            Work::Open { connections: 100, rate: 2000, payload: 1024, spin },
            vec![p50(Reach::Ratio(pick(1.2, 2.0))), message(Reach::Open)],
        ),
        plan(3, broadcast(100, 1), vec![delivery(Reach::Ratio(pick(1.2, 1.3)))]),
        plan(4, broadcast(1000, 8), vec![delivery(Reach::Absolute(pick(1.6, 2.0)))]),
        plan(
            6,
            Work::Connect { at_a_time: 64 },
            vec![cpu(
                "server CPU, us/connect",
                if set_up == SetUp::OneProcess { Reach::Ratio(1.25) } else { Reach::Open },
            )],
        ),
    ]
}

impl Plan {
    fn broadcasts(&self) -> bool {
        matches!(self.work, Work::Broadcast { .. })
    }

    fn options(&self, options: &TableOptions, target: &Target) -> Options {
        let is_idle = matches!(self.work, Work::Idle { .. });
        Options {
            work: self.work.clone(),
            target: target.clone(),
            yardstick: Some(options.yardstick.clone()),
            rounds: options.rounds,
            warm_up: options.warm_up,
            span: if is_idle { options.span.min(IDLE_HOLD_MAX) } else { options.span },
            threads: 1,
            kind: MessageKind::Text,
        }
    }
}

impl Figure {
    fn row(&self, report: &Report) -> Row {
        let value = self.value;
        let target = report.target(value);
        let pairs = report
            .rounds
            .iter()
            .map(|round| (value(&round.target), round.yardstick.as_ref().and_then(value)));
        let ratio = Spread::of_ratios(pairs);
        let met = match self.reach {
            Reach::Ratio(most) => ratio.map(|ratio| ratio.median <= most),
            Reach::Absolute(most) => target.map(|target| target.median <= most),
            Reach::Open => None,
        };
        Row {
            work: report.work.clone(),
            figure: self.name,
            target,
            yardstick: report.yardstick(value),
            ratio,
            reach: self.reach,
            met,
            clean: report.faults().is_clean(),
        }
    }
}

impl Table {
    /// The table as one JSON object with the names of the fields of [`Table`].
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: no maps, no foreign types.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set_up = match self.set_up {
            SetUp::OneProcess => "one process",
            SetUp::Quic => "gateway and worker processes, QUIC",
        };
        writeln!(f, "{set_up}, on {}; median (range) of paired rounds\n", self.machine)?;
        writeln!(f, "| work | figure | measured | bare | ratio to bare | reach | reached |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let reached = match (row.met, row.clean) {
                (_, false) => "faults",
                (Some(true), true) => "yes",
                (Some(false), true) => "no",
                (None, true) => "-",
            };
            let (target, yardstick) = (cell(row.target), cell(row.yardstick));
            let (work, figure, ratio, reach) = (&row.work, row.figure, cell(row.ratio), row.reach);
            writeln!(f, "| {work} | {figure} | {target} | {yardstick} | {ratio} | {reach} | {reached} |")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Ratio(most) => write!(f, "{most} x bare"),
            Reach::Absolute(most) => write!(f, "{most}"),
            Reach::Open => f.write_str("-"),
        }
    }
}

/// A spread with as many digits as its size deserves; one number when all rounds agree.
fn cell(spread: Option<Spread>) -> String {
    let Some(Spread { median, min, max }) = spread else { return "-".to_owned() };
    let digits = if median.abs() >= 100.0 { 0 } else { 2 };
    if min == max {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Round;
    use crate::report::tests::{measured, report};

    fn row(plan: usize, target_cpu: f64) -> Row {
        let plan = &plans(SetUp::OneProcess, 100, false)[plan];
        let round = Round { target: measured(target_cpu, 100), yardstick: Some(measured(1.0, 100)) };
        plan.figures[0].row(&report(plan.work.clone(), vec![round]))
    }

    #[test]
    fn a_row_is_met_by_ratio_or_by_its_own_figure() {
        assert_eq!((row(1, 1.25).reach, row(1, 1.25).met), (Reach::Ratio(1.3), Some(true)));
        assert_eq!(row(1, 1.4).met, Some(false));
        assert_eq!((row(2, 1.7).reach, row(2, 1.7).met), (Reach::Absolute(1.8), Some(true)));
        assert_eq!(row(2, 1.9).met, Some(false));
        assert_eq!(row(0, 1.0).met, None, "memory was not measured");
    }

    #[test]
    fn both_set_ups_have_every_row_and_memory_runs_first() {
        for set_up in [SetUp::OneProcess, SetUp::Quic] {
            let plans = plans(set_up, 100, false);
            assert!(matches!(plans[0].work, Work::Idle { connections: 100 }));
            let mut places: Vec<usize> = plans.iter().map(|plan| plan.place).collect();
            places.sort_unstable();
            assert_eq!(places, (0..7).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_markdown_shows_figure_reach_and_verdict() {
        let table = Table {
            machine: "a machine".to_owned(),
            set_up: SetUp::Quic,
            rows: vec![row(1, 1.25), Row { clean: false, ..row(2, 1.0) }],
        };
        let text = table.to_string();
        let first = "| echo: 500 connections, 1 in flight each, 64 bytes | server CPU, us/message | 1.25 | 1.00 | 1.25 | 1.3 x bare | yes |";
        assert!(text.contains(first), "{text}");
        assert!(text.contains("| faults |"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&table.to_json()).unwrap();
        assert_eq!(json["rows"][0]["reach"]["ratio"], 1.3);
    }

    #[test]
    fn cells_show_the_range_only_where_there_is_one() {
        let spread = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(cell(spread(1.234, 1.0, 2.0)), "1.23 (1.00 to 2.00)");
        assert_eq!(cell(spread(1234.5, 1234.5, 1234.5)), "1234");
        assert_eq!(cell(None), "-");
    }
}
