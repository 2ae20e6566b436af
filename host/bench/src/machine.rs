//! The machine a figure was measured on, in one line.

use std::fs;

/// Processor, cores and kernel; what cannot be found out is left out.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    sentence(model(&cpuinfo), cores, kernel.trim())
}

fn model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
}

fn sentence(model: &str, cores: usize, kernel: &str) -> String {
    let cores = if cores == 0 { String::new() } else { format!("{cores} cores") };
    let kernel = if kernel.is_empty() { String::new() } else { format!("Linux {kernel}") };
    let parts: Vec<&str> = [model, &cores, &kernel].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_is_known() {
        assert_eq!(model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(sentence("X", 2, "6.1"), "X, 2 cores, Linux 6.1");
        assert_eq!(sentence("", 0, ""), "");
        assert!(describe().contains("Linux"));
    }
}
