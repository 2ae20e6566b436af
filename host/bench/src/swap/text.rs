//! The report of a run of swaps for people.

use std::fmt;

use super::options::Pace;
use super::report::{Audit, SwapRecord, SwapReport, SwapTimes};
use super::trend::{MemoryTrend, Slope};
use crate::stats::Latency;

const MIB: f64 = 1024.0 * 1024.0;

impl fmt::Display for SwapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measured = self.swaps.iter().filter(|swap| !swap.warm_up).count();
        let warm_up = self.swaps.len() - measured;
        write!(f, "swap: {measured} of {} swaps", self.swaps_wanted)?;
        if warm_up > 0 {
            write!(f, " after {warm_up} to warm up")?;
        }
        let (connections, payload) = (self.connections, self.payload);
        writeln!(f, " under {} over {connections} connections, {payload} bytes", self.pace)?;
        writeln!(f, "load: {:.0} answers/s for {:.1} s", self.rate, self.seconds)?;
        if let Some(lateness) = &self.lateness {
            let Latency { p50_us, p99_us, max_us, .. } = lateness;
            writeln!(f, "      generator late by p50 {p50_us:.0} p99 {p99_us:.0} max {max_us:.0} us")?;
        }
        write!(f, "{}\n{}", self.audit, self.times)?;
        if let Some(memory) = &self.memory {
            write!(f, "{memory}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "FAILED: {failure}")?;
        }
        let verdict = if self.held { "yes" } else { "NO" };
        write!(f, "held: {verdict}")
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Open { rate } => write!(f, "{rate} messages/s"),
            Pace::Closed { in_flight } => write!(f, "full load ({in_flight} in flight each)"),
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "messages: {} sent, {} answered", self.sent, self.answered)?;
        write!(f, "      {} lost, {} repeated, {} out of order, ", self.lost, self.repeated, self.reordered)?;
        write!(f, "{} by old code after new, {} connections closed", self.backward, self.closed)?;
        for (count, what) in [
            (self.wrong, "wrong"),
            (self.unknown, "never asked for"),
            (self.strange, "by other code"),
            (self.late, "late"),
            (self.unsent, "not sent when due"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if let Some(word) = &self.first_strange {
            write!(f, " (other code: {word:?})")?;
        }
        match &self.first_close {
            Some(reason) => write!(f, " (first closed: {reason})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SwapTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:44}{:>10}{:>10}{:>10}{:>10}", "per swap, in ms", "p50", "p90", "p99", "max")?;
        for (what, latency) in [
            ("command to first answer of new code", &self.first_new),
            ("command to last answer of old code", &self.last_old),
            ("command to new code on every connection", &self.everyone),
            ("command to the deployment's return", &self.returned),
            ("longest pause of a slot", &self.pause),
            ("the machine's own jitter", &self.jitter),
            ("longest gap around the swap", &self.gap),
            ("longest gap in a calm time as long", &self.calm_gap),
            ("latency of each answer around swaps", &self.latency),
            ("latency of each answer in calm times", &self.calm_latency),
        ] {
            if let Some(Latency { p50_us, p90_us, p99_us, max_us, .. }) = latency {
                write!(f, "{what:44}")?;
                for us in [p50_us, p90_us, p99_us, max_us] {
                    write!(f, "{:>10.3}", us / 1e3)?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for MemoryTrend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24}{:>12}{:>12}{:>12}", "memory, in MiB", "private", "resident", "pss")?;
        for sample in self.excerpt() {
            write!(f, "after swap {:<13}", sample.swap)?;
            for bytes in [sample.anonymous, sample.rss, sample.pss] {
                write!(f, "{:>12.2}", bytes as f64 / MIB)?;
            }
            writeln!(f)?;
        }
        for (what, slope) in [("private", self.anonymous), ("resident", self.rss), ("pss", self.pss)] {
            if let Some(Slope { per_swap, error }) = slope {
                let from = self.fitted_from;
                writeln!(
                    f,
                    "{what} grows by {per_swap:.0} bytes per swap (± {error:.0}), from swap {from} on"
                )?;
            }
        }
        Ok(())
    }
}

/// One line, for progress.
impl fmt::Display for SwapRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "?".to_owned());
        write!(f, "swap {} {} -> {}", self.number, word(&self.from), word(&self.to))?;
        for (what, us) in [
            ("first new", self.first_new_us),
            ("last old", self.last_old_us),
            ("returned", self.returned_us),
            ("gap", Some(self.longest_gap_us)),
            ("calm gap", self.calm_gap_us),
        ] {
            match us {
                Some(us) => write!(f, "  {what} {:.1} ms", us / 1e3)?,
                None => write!(f, "  {what} -")?,
            }
        }
        if self.warm_up { f.write_str("  (warm-up)") } else { Ok(()) }
    }
}
