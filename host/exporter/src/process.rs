//! CPU time, memory and open files of this process, by the names that everybody uses.

use std::time::Duration;

use crate::{Family, Kind};

/// What this process uses. What the system does not tell is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessUse {
    /// Time of processors.
    pub cpu: Duration,
    /// Bytes of memory that it has in use.
    pub resident_bytes: u64,
}

impl ProcessUse {
    /// As it is now.
    pub fn now() -> Self {
        let resident_bytes = Stat::now().map_or(0, Stat::resident_bytes);
        Self { cpu: cpu_time(), resident_bytes }
    }
}

/// What can be read of it; on systems without `/proc` that is nothing.
pub(crate) fn families() -> Vec<Family> {
    numbers()
        .into_iter()
        .map(|(kind, name, help, value)| Family::new(kind, name, help).with(&[], value))
        .collect()
}

type Number = (Kind, &'static str, &'static str, f64);

#[cfg(not(target_os = "linux"))]
fn numbers() -> Vec<Number> {
    Vec::new()
}

#[cfg(target_os = "linux")]
fn numbers() -> Vec<Number> {
    use Kind::{Counter, Gauge};
    let stat = Stat::now();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // Exact up to 2^53.
    let whole = |number: u64| number as f64;
    let cpu = Some(cpu_time().as_secs_f64());
    [
        (Counter, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", cpu),
        (Gauge, "process_max_fds", "Maximum number of open file descriptors.", limit.map(whole)),
        (Gauge, "process_open_fds", "Number of open file descriptors.", open_files().map(whole)),
        (
            Gauge,
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            stat.map(|stat| whole(stat.resident_bytes())),
        ),
        (
            Gauge,
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            stat.and_then(|stat| start_time(stat.start_ticks)),
        ),
        (
            Gauge,
            "process_threads",
            "Number of OS threads in the process.",
            stat.map(|stat| whole(stat.threads)),
        ),
        (
            Gauge,
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            stat.map(|stat| whole(stat.virtual_bytes)),
        ),
    ]
    .into_iter()
    .filter_map(|(kind, name, help, value)| Some((kind, name, help, value?)))
    .collect()
}

/// From the system's own clock: the ticks of `/proc` are a hundredth of a second.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // Both parts are never negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Linux tells their number as the folder's size since 6.2; before that they are counted, which takes a while for very many.
#[cfg(target_os = "linux")]
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER).ok()?.len() {
        0 => u64::try_from(std::fs::read_dir(FOLDER).ok()?.count()).ok(),
        files => Some(files),
    }
}

/// Seconds since 1970; the same for the life of the process, whatever becomes of the clock.
#[cfg(target_os = "linux")]
fn start_time(start_ticks: u64) -> Option<f64> {
    static START: std::sync::OnceLock<Option<f64>> = std::sync::OnceLock::new();
    *START.get_or_init(|| {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let booted: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(booted as f64 + start_ticks as f64 / per_second as f64)
    })
}

/// What is used of `/proc/self/stat`; see proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    threads: u64,
    /// Since the machine was started.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// None: there is no `/proc`.
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn resident_bytes(self) -> u64 {
        self.resident_pages.saturating_mul(rustix::param::page_size() as u64)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the program stands in parentheses, and may hold anything, parentheses too.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The first of these is the third of all.
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse().ok();
        Some(Self {
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_program_is_called() {
        let rest = "S 1 2 3 0 -1 4194560 100 0 0 0 7 8 0 0 20 0 5 0 4321 987654 250 18446744073709551615 1 1";
        let expected = Stat { threads: 5, start_ticks: 4321, virtual_bytes: 987_654, resident_pages: 250 };
        assert_eq!(Stat::parse(&format!("77 (tidegate) {rest}")), Some(expected));
        assert_eq!(Stat::parse(&format!("77 (a) S 1 (b) {rest}")), Some(expected));
        assert_eq!(Stat::parse("77 (tidegate) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_process_uses_memory_and_time() {
        let begun = ProcessUse::now();
        assert!(begun.resident_bytes > 100_000, "{begun:?}");
        let mut sum = 0_u64;
        while ProcessUse::now().cpu == begun.cpu {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(ProcessUse::now().cpu > begun.cpu);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_number_is_there_and_of_this_process() {
        let get = |name: &str| {
            let all = numbers();
            let found = all.iter().find(|(_, known, ..)| *known == name);
            found.map(|(.., value)| *value).unwrap_or_else(|| panic!("{name} in {all:?}"))
        };
        assert!(get("process_cpu_seconds_total") > 0.0);
        assert!(get("process_max_fds") >= get("process_open_fds"));
        assert!(get("process_resident_memory_bytes") > 1e6);
        assert!(get("process_virtual_memory_bytes") > get("process_resident_memory_bytes"));
        assert!(get("process_threads") >= 1.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - get("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        let open = get("process_open_fds");
        let files: Vec<_> = (0..500).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(get("process_open_fds") >= open + 400.0);
        drop(files);
    }
}
