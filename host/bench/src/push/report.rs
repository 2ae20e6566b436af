//! How fast pushes went, as Markdown and as JSON.

use std::fmt;

use serde::Serialize;

use super::PushOptions;
use crate::machine;
use crate::report::Measured;
use crate::stats::Spread;

/// The result of [`super::push`]. Its `Display` is Markdown.
#[derive(Clone, Debug, Serialize)]
pub struct PushReport {
    /// Processor, cores, kernel.
    pub machine: String,
    /// What was asked for: `tenant/app/send`, ...
    pub path: String,
    /// The JSON of each request.
    pub body: String,
    /// One for each number of connections.
    pub rows: Vec<PushRow>,
}

/// What so many connections came to.
#[derive(Clone, Debug, Serialize)]
pub struct PushRow {
    /// Connections, with one request under way on each.
    pub connections: u32,
    /// Each round.
    pub rounds: Vec<Measured>,
}

impl PushReport {
    pub(super) fn new(options: &PushOptions, rows: Vec<PushRow>) -> PushReport {
        let (path, body) = (options.path.clone(), options.body.clone());
        PushReport { machine: machine::describe(), path, body, rows }
    }

    /// The report as one JSON object with the names of the fields of [`PushReport`].
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: no maps, no foreign types.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl PushRow {
    pub(super) fn new(connections: u32) -> PushRow {
        PushRow { connections, rounds: Vec::new() }
    }

    /// The last round, in a line.
    pub(super) fn last(&self) -> String {
        let rate = self.rounds.last().map_or(0.0, |round| round.rate);
        format!("{} at a time: {rate:.0} pushes/s", self.connections)
    }

    fn spread(&self, value: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(value))
    }
}

impl fmt::Display for PushReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rows.first().map_or(0, |row| row.rounds.len());
        writeln!(f, "`POST {}` with `{}`, on {};", self.path, self.body, self.machine)?;
        writeln!(f, "median (range) of {rounds} rounds\n")?;
        writeln!(
            f,
            "| at a time | pushes/s | p50 us | p99 us | CPU of the servers, us | CPU of the client, us |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let shown = |spread: Option<Spread>, digits: usize| match spread {
                Some(Spread { median, min, max }) => {
                    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
                }
                None => "-".to_owned(),
            };
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} |",
                row.connections,
                shown(row.spread(|round| Some(round.rate)), 0),
                shown(row.spread(|round| round.latency.map(|all| all.p50_us)), 0),
                shown(row.spread(|round| round.latency.map(|all| all.p99_us)), 0),
                shown(row.spread(|round| round.server_cpu_us), 1),
                shown(row.spread(|round| round.own_cpu_us), 1),
            )?;
        }
        Ok(())
    }
}
