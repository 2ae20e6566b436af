//! What a run of swaps found, as text and as JSON.

use serde::Serialize;

use super::load::SwapLoad;
use super::options::{Pace, SwapOptions};
use super::trend::{MemoryAt, MemoryTrend};
use crate::loads::Load;
use crate::stats::{Latency, Nanos};

/// The result of [`crate::swap`]. Its `Display` is the text report.
#[derive(Clone, Debug, Serialize)]
pub struct SwapReport {
    /// Whether every promise of a swap was kept: [`Audit::is_clean`], and no [`SwapReport::failure`].
    pub held: bool,
    /// Why the run ended early.
    pub failure: Option<String>,
    /// Connections.
    pub connections: u32,
    /// How they sent.
    pub pace: Pace,
    /// Payload in bytes.
    pub payload: u32,
    /// Swaps asked for, without those to warm up.
    pub swaps_wanted: u32,
    /// Every message of the run, the warm-up too.
    pub audit: Audit,
    /// From the first command to the last calm window's end.
    pub seconds: f64,
    /// Answers a second over that time.
    pub rate: f64,
    /// How late the generator itself sent in an open loop; it is part of gaps and latencies.
    pub lateness: Option<Latency>,
    /// Over the measured swaps.
    pub times: SwapTimes,
    /// Memory of the server's processes; none without process ids.
    pub memory: Option<MemoryTrend>,
    /// Every swap in order, those to warm up too, and the one that failed.
    pub swaps: Vec<SwapRecord>,
}

/// What became of every message and connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Messages sent.
    pub sent: u64,
    /// Messages that got an answer.
    pub answered: u64,
    /// Messages that got none: not in time, or their connection ended.
    pub lost: u64,
    /// Answers to what had been answered.
    pub repeated: u64,
    /// Answers that came after that to a later message of the connection.
    pub reordered: u64,
    /// Answers of old code on a connection that the new code of the same swap had answered.
    pub backward: u64,
    /// Answers of code that is neither the old nor the new of the swap.
    pub strange: u64,
    /// The first version word of those.
    pub first_strange: Option<String>,
    /// Answers that were damaged, had no version word, or belong to another connection.
    pub wrong: u64,
    /// Answers to what was never sent.
    pub unknown: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Why the first of them did.
    pub first_close: Option<String>,
    /// Answers that came after their message had been given up. No fault by itself: the gap shows in the times.
    pub late: u64,
    /// Messages of an open loop not sent when due, because too many were under way. No fault, but less load than asked for.
    pub unsent: u64,
    /// Messages that the server sent by itself.
    pub foreign: u64,
}

/// Distributions over the measured swaps, in microseconds. None if nothing of the kind was seen.
#[derive(Clone, Debug, Serialize)]
pub struct SwapTimes {
    /// From the command to the first answer of new code on any connection.
    pub first_new: Option<Latency>,
    /// From the command to the last answer of old code on any connection.
    pub last_old: Option<Latency>,
    /// From the command until the new code had answered on every connection.
    pub everyone: Option<Latency>,
    /// From the command to the deployment's return.
    pub returned: Option<Latency>,
    /// The longest pause of a slot in each swap, as the platform says.
    pub pause: Option<Latency>,
    /// What the machine itself adds to a tenth of a millisecond of computing, all along the run: a pause of a slot can
    /// not be told from it where it is shorter.
    pub jitter: Option<Latency>,
    /// The longest gap of each swap; see [`SwapRecord::longest_gap_us`].
    pub gap: Option<Latency>,
    /// The longest gap of each calm window of the same length.
    pub calm_gap: Option<Latency>,
    /// The latency of every answer in swaps' windows.
    pub latency: Option<Latency>,
    /// The latency of every answer in calm windows.
    pub calm_latency: Option<Latency>,
}

/// One swap. Times are in microseconds, from the command unless they say something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SwapRecord {
    /// The number of the swap, from 1, those to warm up included.
    pub number: u32,
    /// Left out of times and memory.
    pub warm_up: bool,
    /// The version word before.
    pub from: Option<String>,
    /// The version word after.
    pub to: Option<String>,
    /// To the first answer of new code.
    pub first_new_us: Option<f64>,
    /// To the last answer of old code; none if old code did not answer any more.
    pub last_old_us: Option<f64>,
    /// Until the new code had answered on every connection.
    pub everyone_us: Option<f64>,
    /// To the deployment's return.
    pub returned_us: Option<f64>,
    /// The longest pause of a slot, as the platform says.
    pub pause_us: Option<f64>,
    /// Bytes of state handed over.
    pub state_bytes: u64,
    /// The length of the swap's window.
    pub window_us: f64,
    /// The longest time in the window that a connection had a message under way and got no answer.
    pub longest_gap_us: f64,
    /// The same in the calm window of the same length right after; none if the run ended before it was over.
    pub calm_gap_us: Option<f64>,
    /// What the platform says of the swap.
    pub report: Option<serde_json::Value>,
}

/// What a run leaves for its report, besides the load's books.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) failure: Option<String>,
    pub(super) seconds: f64,
    pub(super) answered_in_time: u64,
    pub(super) swaps: Vec<SwapRecord>,
    pub(super) memory: Vec<MemoryAt>,
    pub(super) jitter: Option<Latency>,
}

impl Audit {
    /// Whether nothing was lost, repeated, out of order, damaged or answered by code that should not have, and no
    /// connection ended.
    pub fn is_clean(&self) -> bool {
        let Audit { lost, repeated, reordered, backward, strange, wrong, unknown, closed, .. } = self;
        [lost, repeated, reordered, backward, strange, wrong, unknown, closed]
            .into_iter()
            .all(|count| *count == 0)
    }

    fn of(load: &mut SwapLoad) -> Audit {
        let counts = load.ledger.counts();
        let faults = load.tally().faults.clone();
        Audit {
            sent: counts.sent,
            answered: counts.answered,
            lost: counts.lost(),
            repeated: counts.repeated,
            reordered: counts.reordered,
            backward: load.turnover.backward,
            strange: load.turnover.strange,
            first_strange: load.turnover.first_strange.clone(),
            wrong: faults.wrong + faults.unexpected,
            unknown: counts.unknown,
            closed: faults.closed,
            first_close: faults.first_close,
            late: counts.late,
            unsent: faults.unsent,
            foreign: faults.foreign,
        }
    }
}

impl SwapTimes {
    fn of(swaps: &[SwapRecord], jitter: Option<Latency>, load: &SwapLoad) -> SwapTimes {
        let over = |value: fn(&SwapRecord) -> Option<f64>| {
            let mut nanos = Nanos::new();
            let measured = swaps.iter().filter(|swap| !swap.warm_up);
            measured.filter_map(value).for_each(|us| nanos.record((us * 1e3) as u64));
            nanos.summary()
        };
        SwapTimes {
            first_new: over(|swap| swap.first_new_us),
            last_old: over(|swap| swap.last_old_us),
            everyone: over(|swap| swap.everyone_us),
            returned: over(|swap| swap.returned_us),
            pause: over(|swap| swap.pause_us),
            jitter,
            gap: over(|swap| Some(swap.longest_gap_us)),
            calm_gap: over(|swap| swap.calm_gap_us),
            latency: load.gaps.latency_swap.summary(),
            calm_latency: load.gaps.latency_calm.summary(),
        }
    }
}

impl SwapReport {
    pub(super) fn new(options: &SwapOptions, outcome: Outcome, load: &mut SwapLoad) -> SwapReport {
        let Outcome { failure, seconds, answered_in_time, swaps, memory, jitter } = outcome;
        let audit = Audit::of(load);
        SwapReport {
            held: failure.is_none() && audit.is_clean(),
            failure,
            connections: options.connections,
            pace: options.pace,
            payload: options.payload,
            swaps_wanted: options.swaps,
            audit,
            seconds,
            rate: if seconds > 0.0 { answered_in_time as f64 / seconds } else { 0.0 },
            lateness: load.tally().lateness.summary(),
            times: SwapTimes::of(&swaps, jitter, load),
            memory: MemoryTrend::of(memory, options.swaps),
            swaps,
        }
    }

    /// The report as one JSON object with the names of the fields of [`SwapReport`].
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: its only maps are JSON already.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
