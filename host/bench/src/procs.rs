//! What server processes use, read from `/proc`.
//!
//! CPU comes from the scheduler's own nanosecond count of every thread. Where that cannot be compared (a thread
//! ended meanwhile and took its count along, or the kernel keeps none) the process's tick count stands in: 10 ms
//! steps, but nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use crate::{Error, Result};

/// CPU and memory of a set of processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    pids: Vec<u32>,
}

/// The CPU time of the processes at one moment; see [`CpuSample::since`].
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuSample {
    processes: BTreeMap<u32, ProcessCpu>,
}

#[derive(Clone, Debug, Default)]
struct ProcessCpu {
    /// Nanoseconds run, by thread id; empty without scheduler statistics.
    threads: BTreeMap<u32, u64>,
    /// User and system time of the process in nanoseconds, whole ticks.
    ticks_ns: u64,
}

/// Memory of the processes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemorySample {
    /// Heap, stacks and other private memory without a file.
    pub(crate) anonymous: u64,
    /// Resident set size: with file pages too, shared ones counted in full for each process.
    pub(crate) rss: u64,
    /// Proportional set size: with file pages too, shared ones split among their users.
    pub(crate) pss: u64,
}

impl Probe {
    /// Remembers the process ids; a repeated one counts once.
    pub(crate) fn new(pids: &[u32]) -> Probe {
        let mut pids = pids.to_vec();
        pids.sort_unstable();
        pids.dedup();
        Probe { pids }
    }

    /// Whether there is a process to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// CPU time used so far, or `None` without processes.
    ///
    /// # Errors
    /// [`Error::Proc`] if a process is gone or hidden.
    pub(crate) fn cpu(&self) -> Result<Option<CpuSample>> {
        if self.is_empty() {
            return Ok(None);
        }
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let mut sample = CpuSample::default();
        for pid in &self.pids {
            let ticks = read(*pid, "stat", parse_stat_ticks)?;
            let process = ProcessCpu { threads: threads(*pid), ticks_ns: ticks * tick_ns };
            sample.processes.insert(*pid, process);
        }
        Ok(Some(sample))
    }

    /// Memory in use now, or `None` without processes.
    ///
    /// # Errors
    /// [`Error::Proc`] if a process is gone or hidden.
    pub(crate) fn memory(&self) -> Result<Option<MemorySample>> {
        let mut sum = MemorySample::default();
        for pid in &self.pids {
            let one = read(*pid, "smaps_rollup", parse_smaps_rollup)
                .or_else(|_| read(*pid, "status", parse_status_memory))?;
            sum.anonymous += one.anonymous;
            sum.rss += one.rss;
            sum.pss += one.pss;
        }
        Ok((!self.is_empty()).then_some(sum))
    }
}

impl CpuSample {
    /// Nanoseconds of CPU used between `before` and this sample.
    pub(crate) fn since(&self, before: &CpuSample) -> u64 {
        let of = |(pid, after): (&u32, &ProcessCpu)| {
            before.processes.get(pid).map_or(0, |before| after.since(before))
        };
        self.processes.iter().map(of).sum()
    }
}

impl ProcessCpu {
    fn since(&self, before: &ProcessCpu) -> u64 {
        let comparable =
            !before.threads.is_empty() && before.threads.keys().all(|tid| self.threads.contains_key(tid));
        if !comparable {
            return self.ticks_ns.saturating_sub(before.ticks_ns);
        }
        let run =
            |(tid, after): (&u32, &u64)| after.saturating_sub(before.threads.get(tid).copied().unwrap_or(0));
        self.threads.iter().map(run).sum()
    }
}

/// CPU time of the calling thread so far, in nanoseconds.
pub(crate) fn own_thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

fn read<T>(pid: u32, name: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let file = format!("/proc/{pid}/{name}");
    let text = fs::read_to_string(&file);
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not in the form the kernel documents");
    text.and_then(|text| parse(&text).ok_or_else(malformed)).map_err(|source| Error::Proc {
        pid,
        file,
        source,
    })
}

// A thread may end between the listing and the read: it is left out, and `since` notices.
fn threads(pid: u32) -> BTreeMap<u32, u64> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeMap::new() };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let tid = task.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((tid, parse_schedstat(&text)?))
        })
        .collect()
}

/// Nanoseconds on a CPU: the first of three numbers.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// `utime + stime` in ticks. The command name, in parentheses, may itself contain spaces and parentheses.
fn parse_stat_ticks(text: &str) -> Option<u64> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn parse_smaps_rollup(text: &str) -> Option<MemorySample> {
    Some(MemorySample {
        anonymous: kib(text, "Anonymous:")?,
        rss: kib(text, "Rss:")?,
        pss: kib(text, "Pss:")?,
    })
}

// Without the roll-up there is no proportional size; the resident one, which counts shared pages fully, stands in.
fn parse_status_memory(text: &str) -> Option<MemorySample> {
    let rss = kib(text, "VmRSS:")?;
    Some(MemorySample { anonymous: kib(text, "RssAnon:")?, rss, pss: rss })
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tick_counts_are_found_behind_a_hostile_command_name() {
        let text = "42 (a) b ) (x) S 1 42 42 0 -1 4194560 100 0 0 0 700 31 5 6 20 0 1 0 100 1 1";
        assert_eq!(parse_stat_ticks(text), Some(731));
        assert_eq!(parse_stat_ticks("42 (x) S 1"), None);
    }

    #[test]
    fn scheduler_and_memory_files_are_read_in_their_units() {
        assert_eq!(parse_schedstat("143191872 459449 39\n"), Some(143_191_872));
        let rollup = "55e3-7ffd ---p 00000000 00:00 0 [rollup]\nRss: 13572 kB\nPss:  12118 kB\nPss_Anon: 1 kB\nAnonymous:   6880 kB\n";
        let want = MemorySample { anonymous: 6880 * 1024, rss: 13572 * 1024, pss: 12118 * 1024 };
        assert_eq!(parse_smaps_rollup(rollup), Some(want));
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\n";
        assert_eq!(
            parse_status_memory(status),
            Some(MemorySample { anonymous: 512 * 1024, rss: 2048 * 1024, pss: 2048 * 1024 })
        );
        assert_eq!(parse_status_memory("Name: kthread\n"), None);
    }

    fn process(threads: &[(u32, u64)], ticks_ns: u64) -> ProcessCpu {
        ProcessCpu { threads: threads.iter().copied().collect(), ticks_ns }
    }

    #[test]
    fn a_new_thread_counts_whole_and_an_ended_one_falls_back_to_ticks() {
        let before = process(&[(1, 100), (2, 50)], 10_000_000);
        assert_eq!(process(&[(1, 150), (2, 60), (3, 7)], 90_000_000).since(&before), 67);
        assert_eq!(process(&[(1, 150), (3, 7)], 90_000_000).since(&before), 80_000_000);
        assert_eq!(process(&[], 20_000_000).since(&process(&[], 10_000_000)), 10_000_000);
    }

    #[test]
    fn this_process_has_memory_and_burns_cpu() {
        let probe = Probe::new(&[std::process::id(), std::process::id()]);
        let (before, own) = (probe.cpu().unwrap().unwrap(), own_thread_cpu_ns());
        // Wall time would be a guess: burn until this thread's own clock has moved by 30 ms.
        while own_thread_cpu_ns() - own < 30_000_000 {}
        assert!(probe.cpu().unwrap().unwrap().since(&before) >= 10_000_000);
        let memory = probe.memory().unwrap().unwrap();
        assert!(memory.anonymous > 0 && memory.pss >= memory.anonymous / 2);
    }

    #[test]
    fn a_process_that_does_not_exist_is_named() {
        let error = Probe::new(&[u32::MAX]).cpu().unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
        assert!(Probe::new(&[]).cpu().unwrap().is_none() && Probe::new(&[]).memory().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,200}") {
            let _ = (parse_stat_ticks(&text), parse_schedstat(&text), parse_smaps_rollup(&text), parse_status_memory(&text));
        }
    }
}
