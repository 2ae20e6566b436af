//! The report as people read it.

use std::fmt;

use super::{ClientCounts, Outcome, Progress, SwapReport, SwitchedAt, Tally, Times};

const TURN_LINES_MAX: usize = 4;

impl fmt::Display for SwapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "app", format_args!("{}, {}{}", self.app, self.version, Again(self.again)))?;
        line(f, "outcome", &self.outcome)?;
        match self.previous {
            Some(previous) => line(f, "before", previous)?,
            None => line(f, "before", "nothing was deployed")?,
        }
        let back = self.switched_back;
        let slots = format_args!("{} of {} switched", self.switched, self.slots);
        line(f, "slots", format_args!("{slots}, {back} back, on {}", count(self.workers, "worker")))?;
        if !self.away.is_empty() {
            let names: Vec<_> = self.away.iter().map(|worker| worker.as_str()).collect();
            line(f, "away", format_args!("{}: told what to run when they return", names.join(", ")))?;
        }
        match self.clients {
            Some(clients) => client_lines(f, &clients)?,
            None => line(f, "clients", "no gateway counted them")?,
        }
        let audit = self.audit;
        let (lost, repeated) = (audit.lost, audit.repeated);
        line(
            f,
            "numbers",
            format_args!("{lost} lost, {repeated} repeated, {} out of order", audit.reordered),
        )?;
        match &self.pauses {
            Some(p) => {
                let place = format_args!("slot {} of {}", p.longest_slot, p.longest_worker);
                let (longest, p99) = (Time(p.longest_us), Time(p.p99_us));
                line(f, "pauses", format_args!("longest {longest} ({place}), p99 {p99}"))?;
            }
            None => line(f, "pauses", "none")?,
        }
        let (state, timers) = (Size(self.state_bytes), self.timers_carried);
        match self.timers_dropped {
            0 => line(f, "handed over", format_args!("{state} of state, {timers} timers"))?,
            dropped => {
                line(
                    f,
                    "handed over",
                    format_args!("{state} of state, {timers} timers; {dropped} timers dropped"),
                )?;
            }
        }
        if self.states_lost > 0 {
            let slots = count(self.states_lost, "slot");
            line(
                f,
                "state lost",
                format_args!("{slots} went on with what was handed over before, or nothing"),
            )?;
        }
        turn_lines(f, &self.turns)?;
        line(f, "waited", format_args!("{} events", self.waiting_events))?;
        if let Some(canary) = &self.canary {
            let (old, new) = (canary.old, canary.new);
            line(f, "canary", format_args!("{}: new {new}; old {old}", count(canary.slots, "slot")))?;
            line(f, "verdict", &canary.verdict)?;
        }
        time_lines(f, &self.times)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{}: {}", self.as_str(), reason.trim_end()),
            None => f.write_str(self.as_str()),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version, workers, slots } => {
                let (slots, workers) = (count(*slots, "slot"), count(*workers, "worker"));
                write!(f, "{version} for {slots} on {workers}")
            }
            Self::Worker { worker, step, switched, slots } => {
                write!(f, "{worker}: {step}, {switched} of {slots} switched")
            }
            Self::Canary { slots, of } => write!(f, "canary: {slots} of {of} slots switch first"),
            Self::Switching { verdict: Some(verdict) } => write!(f, "all slots switch: {verdict}"),
            Self::Switching { verdict: None } => f.write_str("all slots switch"),
            Self::Failed { worker, failure } => write!(f, "{worker}: {failure}"),
            Self::GoingBack { reason } => write!(f, "going back: {reason}"),
            Self::NotStored { reason } => write!(f, "the register cannot store this: {reason}"),
            Self::Ended(report) => report.outcome.fmt(f),
        }
    }
}

fn client_lines(f: &mut fmt::Formatter<'_>, clients: &ClientCounts) -> fmt::Result {
    let ClientCounts { before, after, opened, closed, events, lost, .. } = *clients;
    line(f, "clients", format_args!("{before} before, {after} after, {opened} opened, {closed} closed"))?;
    line(f, "events", format_args!("{events} came in meanwhile, {lost} given up on"))?;
    match clients.gateways_missing {
        0 => Ok(()),
        missing => line(f, "not counted", format_args!("{} did not count", count(missing, "gateway"))),
    }
}

/// The first few; the others are in the JSON.
fn turn_lines(f: &mut fmt::Formatter<'_>, turns: &[SwitchedAt]) -> fmt::Result {
    for SwitchedAt { worker, slot, from, to, after_turn } in turns.iter().take(TURN_LINES_MAX) {
        let from = fmt::from_fn(|f| from.map_or(Ok(()), |from| write!(f, "version {from}, ")));
        line(
            f,
            "turns",
            format_args!("slot {slot} of {worker}: {from}after turn {after_turn} version {to}"),
        )?;
    }
    match turns.len().saturating_sub(TURN_LINES_MAX) {
        0 => Ok(()),
        more => line(f, "turns", format_args!("{more} more switches: see --json")),
    }
}

fn time_lines(f: &mut fmt::Formatter<'_>, times: &Times) -> fmt::Result {
    let (prepare, switch) = (Time(times.prepare_us), Time(times.switch_us));
    let (canary, back) = (Time(times.canary_us), Time(times.back_us));
    line(f, "times", format_args!("prepare {prepare}, switch {switch}, canary {canary}, back {back}"))?;
    let total = Time(times.total_us);
    match times.first_event_us {
        Some(first) => {
            line(f, "in all", format_args!("{total}, first event on new code after {}", Time(first)))
        }
        None => line(f, "in all", format_args!("{total}, no event on new code yet")),
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<12} {value}")
}

fn count(number: u32, noun: &'static str) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{number} {noun}{}", if number == 1 { "" } else { "s" }))
}

struct Again(Option<u32>);

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |earlier| write!(f, ", again version {earlier}"))
    }
}

/// Microseconds.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us @ 0..1_000 => write!(f, "{us} us"),
            us @ 1_000..1_000_000 => write!(f, "{}.{} ms", us / 1_000, us / 100 % 10),
            us => write!(f, "{}.{:02} s", us / 1_000_000, us / 10_000 % 100),
        }
    }
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1_024 => write!(f, "{bytes} B"),
            bytes @ 1_024..1_048_576 => write!(f, "{}.{} KiB", bytes >> 10, ((bytes % 1_024) * 10) >> 10),
            bytes => write!(f, "{}.{} MiB", bytes >> 20, ((bytes % 1_048_576) * 10) >> 20),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, errors, traps, overruns } = *self;
        write!(f, "{turns} turns, {errors} errors, {traps} traps, {overruns} overruns")
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{AppName, Digest, NodeName};

    use super::*;
    use crate::control::{Canary, VersionRef};
    use crate::report::{Audit, CanaryReport, Pauses};

    fn report() -> SwapReport {
        let version = |number| VersionRef { number, digest: Digest::of(b"") };
        SwapReport {
            app: AppName::new("chat").unwrap(),
            version: version(7),
            again: Some(4),
            previous: Some(version(6)),
            at_ms: 1_700_000_000_000,
            outcome: Outcome::RolledBack { reason: "w2: slot 3, restore in the new version: no\n".into() },
            workers: 2,
            away: ["w3", "w5"].map(|name| NodeName::new(name).unwrap()).to_vec(),
            slots: 8,
            switched: 3,
            switched_back: 3,
            clients: Some(ClientCounts {
                gateways: 1,
                gateways_missing: 1,
                before: 100,
                after: 101,
                opened: 1,
                closed: 0,
                events: 4_000,
                lost: 0,
            }),
            pauses: Some(Pauses {
                longest_us: 1_250,
                longest_worker: NodeName::new("w2").unwrap(),
                longest_slot: 1,
                p99_us: 999,
            }),
            audit: Audit::default(),
            timers_carried: 12,
            timers_dropped: 2,
            state_bytes: 1_536,
            states_lost: 1,
            turns: (0..6)
                .map(|slot| SwitchedAt {
                    worker: NodeName::new("w2").unwrap(),
                    slot,
                    from: (slot > 0).then_some(6),
                    to: 7,
                    after_turn: 1_000,
                })
                .collect(),
            waiting_events: 9,
            times: Times {
                prepare_us: 42_000,
                switch_us: 3_000,
                canary_us: 30_000_000,
                back_us: 2_400,
                total_us: 30_048_000,
                first_event_us: None,
            },
            canary: Some(CanaryReport {
                asked: Canary { percent: 25, for_ms: 30_000, events_min: 100 },
                slots: 2,
                old: Tally { turns: 900, ..Tally::default() },
                new: Tally { turns: 300, errors: 1, traps: 2, overruns: 3 },
                verdict: "worse".into(),
            }),
        }
    }

    #[test]
    fn people_read_a_report_in_short_aligned_lines() {
        let expected = "\
app          default/chat, version 7 (sha256:e3b0c44298fc), again version 4
outcome      rolled back: w2: slot 3, restore in the new version: no
before       version 6 (sha256:e3b0c44298fc)
slots        3 of 8 switched, 3 back, on 2 workers
away         w3, w5: told what to run when they return
clients      100 before, 101 after, 1 opened, 0 closed
events       4000 came in meanwhile, 0 given up on
not counted  1 gateway did not count
numbers      0 lost, 0 repeated, 0 out of order
pauses       longest 1.2 ms (slot 1 of w2), p99 999 us
handed over  1.5 KiB of state, 12 timers; 2 timers dropped
state lost   1 slot went on with what was handed over before, or nothing
turns        slot 0 of w2: after turn 1000 version 7
turns        slot 1 of w2: version 6, after turn 1000 version 7
turns        slot 2 of w2: version 6, after turn 1000 version 7
turns        slot 3 of w2: version 6, after turn 1000 version 7
turns        2 more switches: see --json
waited       9 events
canary       2 slots: new 300 turns, 1 errors, 2 traps, 3 overruns; old 900 turns, 0 errors, 0 traps, 0 overruns
verdict      worse
times        prepare 42.0 ms, switch 3.0 ms, canary 30.00 s, back 2.4 ms
in all       30.04 s, no event on new code yet
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn a_report_survives_binary_and_has_its_outcome_in_words() {
        let report = report();
        let bytes = postcard::to_extend(&report, Vec::new()).unwrap();
        assert_eq!(postcard::from_bytes::<SwapReport>(&bytes), Ok(report));
    }

    #[test]
    fn sizes_and_times_have_the_unit_that_fits() {
        let times = [0, 999, 1_000, 999_999, 1_000_000, 61_234_567].map(|us| Time(us).to_string());
        assert_eq!(times, ["0 us", "999 us", "1.0 ms", "999.9 ms", "1.00 s", "61.23 s"]);
        let sizes = [0, 1_023, 1_024, 1_048_575, 1_048_576].map(|bytes| Size(bytes).to_string());
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1023.9 KiB", "1.0 MiB"]);
    }
}
